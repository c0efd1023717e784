"""What every test shares: the peer runs on JAX, compiled functions are kept between runs, and seeds are fixed."""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import jax
import pytest

_CACHE = Path(__file__).parent.parent / "build" / "jax-cache"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.fixture(autouse=True)
def _fixed_seed():
    import tally
    from tally.core.naming import reset_names

    tally.utils.set_random_seed(1337)
    reset_names()
    policy = tally.config.dtype_policy()
    yield
    tally.config.set_dtype_policy(policy.name)
