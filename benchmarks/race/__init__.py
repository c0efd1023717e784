"""tally and its peers on the same models, data and batches, driven in turns."""
