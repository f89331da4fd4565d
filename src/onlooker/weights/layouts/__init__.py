"""The layouts of other code bases: a table of names for each, and the few steps that are more than a rename."""
