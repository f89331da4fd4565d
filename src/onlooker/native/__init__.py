"""Products of a few rows with a large matrix in C++, compiled on first use; nothing changes where that cannot be."""
