"""What every test shares: the peer runs on JAX, compiled functions are kept between runs, and seeds are fixed."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_CACHE = Path(__file__).parent.parent / "build" / "jax-cache"

# Read when JAX and Keras are imported, which the tests do.
os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# No test fails for want of time: a machine may be busy.
settings.register_profile(
    "tally", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tally")


@pytest.fixture(autouse=True)
def _fixed_seed():
    import tally
    from tally.core.naming import reset_names

    tally.utils.set_random_seed(1337)
    reset_names()
    policy = tally.config.dtype_policy()
    yield
    tally.config.set_dtype_policy(policy.name)
