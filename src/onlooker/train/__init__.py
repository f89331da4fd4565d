"""Training: losses, stages, the loop, adapters, the data that they learn from."""
