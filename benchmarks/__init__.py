"""What tally costs beside its peers, measured: the race, the other benchmarks, and the report made of their results."""
