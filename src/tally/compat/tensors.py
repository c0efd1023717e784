"""What scripts expect of tensors, shapes and dtypes: `.numpy()`, `shape.as_list()`, `tf.float32`."""

import functools
import math
import operator
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.export import is_symbolic_dim

from tally.compat.names import named, put
from tally.core.dtype import standardize_dtype
from tally.core.errors import ArgumentError, ShapeError, is_users
from tally.core.symbol import KerasTensor
from tally.core.variable import Variable

# -- dtypes ------------------------------------------------------------------------------------------------------------
_NAMES = (
    *("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool", "string", "complex64", "complex128"),
)
_KINDS = {
    "is_floating": ("float16", "bfloat16", "float32", "float64"),
    "is_integer": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    "is_complex": ("complex64", "complex128"),
    "is_bool": ("bool",),
    "is_unsigned": ("uint8", "uint16", "uint32", "uint64"),
}


class DType:
    """A dtype under TensorFlow's name; equal to the string, to NumPy's dtype and to what arrays say of themselves.

    Args:
        name: Such as `"float32"`.

    Example:
        >>> DType("int32") == jnp.zeros(3, "int32").dtype
        True
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> bool:
        if name in _KINDS:
            return self.name in _KINDS[name]
        raise AttributeError(f"'{self!r}' has no attribute '{name}'")

    @property
    def as_numpy_dtype(self) -> type:
        """NumPy's type of the same numbers."""
        return object if self.name == "string" else jnp.dtype(self.name).type

    @property
    def base_dtype(self) -> "DType":
        """Itself: there are no references to dtypes here."""
        return self

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return jnp.dtype(self.name).itemsize

    @property
    def min(self) -> Any:
        """The smallest number."""
        return self._limits().min

    @property
    def max(self) -> Any:
        """The largest number."""
        return self._limits().max

    def _limits(self) -> Any:
        return jnp.finfo(self.name) if self.is_floating else jnp.iinfo(self.name)

    def __eq__(self, other: object) -> bool:
        try:
            return self.name == name_of(other)
        except TypeError:
            return False

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<dtype: '{self.name}'>"


def name_of(dtype: object) -> str:
    """The name of a dtype in any form; unlike `standardize_dtype`, asking for 64 bits does not turn them on."""
    if dtype is float or dtype is int:  # not `in`: NumPy's float64 says that it equals float
        return "float32" if dtype is float else "int32"
    named = getattr(dtype, "name", dtype)
    return named if named in _NAMES else jnp.dtype(dtype).name  # type: ignore[arg-type]


_ALIASES = {"float16": "half", "float64": "double"}
for _name in _NAMES:
    _words = (_name, _ALIASES.get(_name, _name))
    put(" ".join(f"{word} dtypes.{word}" for word in _words), DType(_name))
put("DType dtypes.DType", DType)


@named("as_dtype dtypes.as_dtype")
def as_dtype(type_value: Any) -> DType:
    """The dtype of a name, a NumPy type or a dtype."""
    return DType(name_of(type_value))


def settle(dtype: Any, values: Any = None) -> str:
    """The dtype that numbers are held in: 64-bit integers in 32 bits, as long as JAX keeps to 32 and the values fit.

    Args:
        dtype: What was asked for.
        values: The numbers, if they are known.
    """
    name = standardize_dtype(dtype)
    narrow = {"int64": "int32", "uint64": "uint32"}.get(name)
    if name == "string":
        raise ArgumentError("A tensor can't hold text.", do="keep text in Python lists, and feed numbers")
    if narrow is None or jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        return name
    if values is not None and not isinstance(values, Tracer | KerasTensor):
        array = np.asarray(values)
        if array.size and array.dtype != bool:
            limits = np.iinfo(narrow)
            if array.max() > limits.max or array.min() < limits.min:
                jax.config.update("jax_enable_x64", True)
                return name
    return narrow


# -- shapes ------------------------------------------------------------------------------------------------------------
class TensorShape(tuple[int | None, ...]):
    """The sizes of a tensor; a tuple that also answers what TensorFlow's shapes do.

    Args:
        dims: Sizes; None for one that is not known.

    Raises:
        ArgumentError: The rank itself is not known.

    Example:
        >>> TensorShape([None, 3]).as_list()
        [None, 3]
    """

    def __new__(cls, dims: Iterable[Any] | int | None) -> "TensorShape":
        """Read sizes of any kind."""
        if dims is None:
            raise ArgumentError("A shape of unknown rank is not kept here.", do="give as many None as axes")
        return super().__new__(cls, sizes(dims))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self)

    ndims = rank

    @property
    def dims(self) -> list[int | None]:
        """The sizes."""
        return self.as_list()

    def as_list(self) -> list[int | None]:
        """The sizes as a list."""
        return list(self)

    def is_fully_defined(self) -> bool:
        """Whether all sizes are known."""
        return None not in self

    def num_elements(self) -> int | None:
        """Number of scalars; None while a size is unknown."""
        return math.prod(size for size in self if size is not None) if self.is_fully_defined() else None

    def is_compatible_with(self, other: Any) -> bool:
        """Whether the sizes that both know are the same."""
        sizes = TensorShape(other)
        return len(sizes) == len(self) and all(
            mine is None or yours is None or mine == yours for mine, yours in zip(self, sizes, strict=True)
        )

    def assert_is_compatible_with(self, other: Any) -> None:
        """Refuse a shape that differs."""
        if not self.is_compatible_with(other):
            raise ShapeError(f"The shapes {self} and {TensorShape(other)} differ.")

    def concatenate(self, other: Any) -> "TensorShape":
        """These sizes and then others."""
        return TensorShape([*self, *TensorShape(other)])

    def __add__(self, other: Any) -> "TensorShape":
        return self.concatenate(other)

    def __radd__(self, other: Any) -> "TensorShape":
        return TensorShape([*other, *self])

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return TensorShape(found) if isinstance(key, slice) else found

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(other)) if isinstance(other, list) else tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __str__(self) -> str:
        return tuple.__repr__(self)

    def __repr__(self) -> str:
        return f"TensorShape({self.as_list()})"


put("TensorShape", TensorShape)


class TensorSpec:
    """A shape, a dtype and a name, as signatures and datasets state them.

    Args:
        shape: Sizes; None for one that is not known.
        dtype: Dtype.
        name: For reading.
    """

    def __init__(self, shape: Any, dtype: Any = "float32", name: str | None = None) -> None:
        self.shape, self.dtype, self.name = TensorShape(shape), as_dtype(dtype), name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorSpec) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype!r}, name={self.name!r})"


put("TensorSpec", TensorSpec)


class Sizes(np.ndarray):
    """What `tf.shape` gives: sizes to compute with, known while a function is traced."""

    def numpy(self) -> np.ndarray:
        """The sizes as a plain array."""
        return np.asarray(self)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return np.asarray(found).view(Sizes) if isinstance(found, np.generic) else found


def sizes_of(shape: Iterable[Any]) -> Sizes:
    """Sizes as an array; of objects where one is symbolic or unknown."""
    values = list(shape)
    whole = all(isinstance(size, int | np.integer) for size in values)
    return np.array(values, dtype="int32" if whole else object).view(Sizes)


def listed(shape: Any) -> list[Any]:
    """A shape given in any form, as a list of sizes."""
    if isinstance(shape, Tracer):
        raise ArgumentError(
            "A shape depends on numbers that are only known when the program runs.",
            do="take sizes from x.shape or tf.shape(x)",
        )
    if isinstance(shape, Variable | jax.Array):
        shape = np.asarray(shape)
    if np.ndim(shape) == 0 and not isinstance(shape, Iterable):
        return [shape]
    return [shape.item()] if isinstance(shape, np.ndarray) and shape.ndim == 0 else list(shape)


def known(size: Any) -> Any:
    """One size as an integer; None and symbolic sizes stay."""
    if size is None or is_symbolic_dim(size):
        return size
    if isinstance(size, Tracer):
        listed(size)
    return operator.index(size.item() if isinstance(size, np.ndarray | jax.Array) else size)


def sizes(shape: Any) -> tuple[Any, ...]:
    """A shape given in any form, as the tuple that JAX takes."""
    return tuple(known(size) for size in listed(shape))


# -- what JAX's arrays gain --------------------------------------------------------------------------------------------
@contextmanager
def tensor_methods() -> Iterator[None]:
    """Let JAX's arrays, symbolic tensors and variables answer what scripts ask of tensors, while the block runs.

    They gain `numpy`, `get_shape` and `set_shape`. Two things differ in the user's own files alone: `shape` is a
    `TensorShape`, also a tuple and equal to the one everybody else sees; and `==` compares a variable's values.
    """
    array: Any = type(jnp.zeros(()))
    with ExitStack() as undo:
        for cls in (array, Tracer, KerasTensor, Variable):
            _set(undo, cls, "get_shape", _get_shape)
            _set(undo, cls, "set_shape", _set_shape)
            _set(undo, cls, "shape", _seen_by_users(cls))
        _set(undo, array, "numpy", lambda self: np.asarray(self))
        _set(undo, Tracer, "numpy", _refuse_numpy)
        _set(undo, Variable, "__eq__", _equal)
        _set(undo, Variable, "__ne__", _not_equal)
        yield


def _set(undo: ExitStack, cls: Any, name: str, value: Any) -> None:
    if name in vars(cls):
        undo.callback(setattr, cls, name, vars(cls)[name])
    else:
        undo.callback(delattr, cls, name)
    setattr(cls, name, value)


_asks_user = functools.cache(is_users)


def _seen_by_users(cls: Any) -> property:
    original = vars(cls).get("shape")

    def read(self: Any) -> Any:
        plain = vars(self)["shape"] if original is None else original.__get__(self)
        return TensorShape(plain) if _asks_user(sys._getframe(1).f_code.co_filename) else plain

    def write(self: Any, value: Any) -> None:
        vars(self)["shape"] = value

    return property(read, write if original is None else None)


def _equal(self: Variable, other: object) -> Any:
    by_value = other is not None and _asks_user(sys._getframe(1).f_code.co_filename)
    return (
        self.value == (other.value if isinstance(other, Variable) else other) if by_value else self is other
    )


def _not_equal(self: Variable, other: object) -> Any:
    by_value = other is not None and _asks_user(sys._getframe(1).f_code.co_filename)
    return (
        self.value != (other.value if isinstance(other, Variable) else other)
        if by_value
        else self is not other
    )


def _get_shape(self: Any) -> TensorShape:
    return TensorShape(self.shape)


def _set_shape(self: Any, shape: Any) -> None:
    _get_shape(self).assert_is_compatible_with(shape)


def _refuse_numpy(self: Any) -> Any:
    raise AttributeError(
        f"A tensor of shape {tuple(self.shape)} has no numpy() while its function is traced: it has no values yet."
    )
