"""Settings of the whole process: default float type, epsilon, image layout, dtype policy."""

from tally.core.dtype import (
    DTypePolicy,
    dtype_policy,
    epsilon,
    floatx,
    image_data_format,
    set_dtype_policy,
    set_epsilon,
    set_floatx,
    set_image_data_format,
    standardize_dtype,
)


def backend() -> str:
    """The engine: always `jax`."""
    return "jax"


__all__ = [
    "DTypePolicy",
    "backend",
    "dtype_policy",
    "epsilon",
    "floatx",
    "image_data_format",
    "set_dtype_policy",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]
