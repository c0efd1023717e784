"""Dtypes and dtype policies: what weights are stored in and what layers compute in."""

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.errors import ArgumentError, nearest
from tally.core.registry import publish

_DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "uint8", "uint16", "uint32", "uint64"),
    *("int8", "int16", "int32", "int64", "bool", "string", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "int4", "uint4"),
)
_state: dict[str, object] = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "data_format": "channels_last",
    "policy": None,
}


def standardize_dtype(dtype: object) -> str:
    """The name of a dtype given as a string, a NumPy, JAX or Python type; None is `floatx()`."""
    if dtype is None:
        return floatx()
    if isinstance(dtype, DTypePolicy):
        return dtype.compute_dtype
    # np.dtype('bool') equals bool, but hashes differently.
    if isinstance(dtype, type) and dtype in (float, int, bool):
        return {float: floatx(), int: "int32", bool: "bool"}[dtype]  # type: ignore[index]
    named = getattr(dtype, "name", None)  # NumPy and TensorFlow dtypes
    name = named if isinstance(named, str) else str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        try:
            name = jnp.dtype(dtype).name  # type: ignore[arg-type]
        except TypeError:
            raise ArgumentError(
                f"'{name}' is not a dtype.{nearest(name, _DTYPES)}", do=f"use one of {', '.join(_DTYPES)}"
            ) from None
    if name in ("float64", "complex128"):
        enable_float64()
    return name


def enable_float64() -> None:
    """Let JAX hold 64-bit numbers; without it a float64 layer would silently compute in float32."""
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_enable_x64", True)


def is_floating(dtype: object) -> bool:
    """Whether a dtype is a real floating one, bfloat16 and float8 included."""
    return jnp.issubdtype(dtype, jnp.floating)  # type: ignore[arg-type]


def floatx() -> str:
    """The dtype that weights have unless told otherwise: `float32` at first."""
    return str(_state["floatx"])


def set_floatx(value: str) -> None:
    """Set the default float dtype: `bfloat16`, `float16`, `float32` or `float64`."""
    if value not in ("bfloat16", "float16", "float32", "float64"):
        raise ArgumentError(f"floatx can't be '{value}'.", do="use bfloat16, float16, float32 or float64")
    _state["floatx"] = standardize_dtype(value)


def epsilon() -> float:
    """The small number that keeps divisions and logarithms finite: 1e-7 at first."""
    return float(_state["epsilon"])  # type: ignore[arg-type]


def set_epsilon(value: float) -> None:
    """Set the number that `epsilon()` returns."""
    _state["epsilon"] = value


def image_data_format() -> str:
    """`channels_last` or `channels_first`: where images keep their channels unless a layer says."""
    return str(_state["data_format"])


def set_image_data_format(data_format: str) -> None:
    """Set the default place of the channel axis."""
    _state["data_format"] = standardize_data_format(data_format)


def standardize_data_format(value: str | None) -> str:
    """`channels_last` or `channels_first`; None is the default one."""
    value = value or image_data_format()
    if value not in ("channels_last", "channels_first"):
        raise ArgumentError(f"data_format can't be '{value}'.", do="use 'channels_last' or 'channels_first'")
    return value


class DTypePolicy:
    """What a layer stores its weights in and what it computes in.

    Args:
        name: A dtype such as `"float32"` or `"bfloat16"` for both, or `"mixed_bfloat16"` / `"mixed_float16"`:
            weights in float32, computation in the shorter type.
    """

    keras_module = "keras"

    def __init__(self, name: str | None = None) -> None:
        name = name or floatx()
        self.name = name
        if name.startswith("mixed_"):
            if name not in ("mixed_float16", "mixed_bfloat16"):
                raise ArgumentError(
                    f"There is no dtype policy '{name}'.", do="use mixed_bfloat16 or mixed_float16"
                )
            self.variable_dtype, self.compute_dtype = "float32", name.removeprefix("mixed_")
        else:
            self.variable_dtype = self.compute_dtype = standardize_dtype(name)

    def get_config(self) -> dict[str, str]:
        """The policy's name."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, str]) -> "DTypePolicy":
        """Make a policy from its name."""
        return cls(config["name"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


publish(DTypePolicy, "DTypePolicy", "FloatDTypePolicy", family="dtype_policies")


def dtype_policy() -> DTypePolicy:
    """The policy layers take unless they are given one."""
    policy = _state["policy"]
    return policy if isinstance(policy, DTypePolicy) else DTypePolicy(floatx())


def set_dtype_policy(policy: "str | DTypePolicy | None") -> None:
    """Set the policy of layers made from now on; None goes back to `floatx()`."""
    _state["policy"] = get_policy(policy) if policy is not None else None


def get_policy(identifier: object) -> DTypePolicy:
    """A policy from a name, a dtype, a config, a policy, or None for the default one."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return DTypePolicy(identifier["config"]["name"])
    if isinstance(identifier, str):
        return DTypePolicy(identifier)
    return DTypePolicy(standardize_dtype(identifier))


def result_dtype(*dtypes: object) -> str:
    """The dtype JAX promotes these to, as a name."""
    return jnp.result_type(
        *(np.dtype(d) if isinstance(d, str) and d != "bfloat16" else d for d in dtypes)
    ).name  # type: ignore[arg-type]
