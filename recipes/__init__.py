"""How the checkpoints inside the package are made and proven: from random numbers, on a CPU, in a few hours."""
