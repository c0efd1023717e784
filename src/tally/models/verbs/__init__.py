"""What a person asks of a model, one file each: the account analysed, then drawn."""
