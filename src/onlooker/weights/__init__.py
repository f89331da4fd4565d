"""Weight files in and out: reading, names, dtypes, placement and saving, for any nn.Module."""
