"""Following a model's values through one trace of its calls."""
