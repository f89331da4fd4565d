"""One file for each workload: `contests(settings)` makes the models and says what is compared."""
