"""The models that `benchmarks/build.py` builds: one module a contestant, each with the same functions."""
