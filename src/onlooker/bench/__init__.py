"""`onlooker bench`: this package against transformers, workload by workload, the same weights in turns."""
