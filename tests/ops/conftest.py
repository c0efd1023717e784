"""Keras, the oracle, runs on JAX too; that must be said before it is imported."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
