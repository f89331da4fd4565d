"""What the checkpoints inside the package can do, measured on data that no training has seen."""
