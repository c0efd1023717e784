"""What every test shares: the peer runs on JAX, compiling is cheap, and seeds are fixed."""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

# Programs as small as these compile longer than they run: not optimised, they compile in a third of the time.
# The flag is for the release that has it, since one that XLA does not know ends the process.
_FLAGS = "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""
_CACHE = Path(__file__).parent.parent / "build" / "jax-cache"

# Read when JAX and Keras are imported, which the tests do.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = f"{_FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(autouse=True)
def _fixed_seed():
    import tally
    from tally.core.naming import reset_names

    tally.utils.set_random_seed(1337)
    reset_names()
    policy = tally.config.dtype_policy()
    yield
    tally.config.set_dtype_policy(policy.name)
