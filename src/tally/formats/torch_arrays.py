"""PyTorch's tensors as a pickle describes them: a storage, and which of its elements a tensor shows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.pickle import Call, Dict, Name, items_of, told

_BITS = {
    "float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "complex32": 32, "complex64": 64, "complex128": 128,
    "float8_e4m3fn": 8, "float8_e5m2": 8, "float8_e4m3fnuz": 8, "float8_e5m2fnuz": 8, "float8_e8m0fnu": 8,
    "float4_e2m1fn": 4, "int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint8": 8, "uint16": 16, "uint32": 32,
    "uint64": 64, "bool": 8, "qint8": 8, "quint8": 8, "qint32": 32, "quint4": 4, "quint2": 2,
    **{f"{kind}{size}": 8 for kind in ("int", "uint") for size in range(1, 8)}, "bits8": 8, "bits16": 16,
}  # fmt: skip
"""Bits that an element takes in a storage."""
_OTHER_NAMES = {
    "double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16",
    "cfloat": "complex64", "cdouble": "complex128", "chalf": "complex32", "quint4x2": "quint4", "quint2x4": "quint2",
    "bits1x8": "bits8", "bits2x4": "bits8", "bits4x2": "bits8", "float4_e2m1fn_x2": "float4_e2m1fn",
}  # fmt: skip
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4",
    "QUInt2x4": "quint2", "Untyped": "uint8",
}  # fmt: skip
_PAIRED = "float4_e2m1fn"
"""The one type whose shape counts bytes with two elements each."""
_LONGEST_CHAIN = 8
"""Calls around one tensor: a parameter of a subclass of a view; no real one has more than three."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes that tensors are views of.

    Args:
        key: What the file calls it.
        dtype: The type of its elements.
        count: How many it has.
        start: Where it begins in the stored bytes, in elements: very old files have storages within storages.
        whole: How many elements are stored under its key; `count`, where it isn't a part.
    """

    key: str
    dtype: str
    count: int
    start: int = 0
    whole: int = -1

    def __post_init__(self) -> None:
        """Take it for the whole where nothing else is said."""
        if self.whole < 0:
            object.__setattr__(self, "whole", self.count)

    @property
    def bits(self) -> int:
        """The bits of what it counts: bytes, where elements are smaller."""
        return max(bits_of(self.dtype), 8)

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        return self.count * self.bits // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """One tensor, before it has a name.

    Args:
        dtype: The type of an element.
        shape: Its dimensions.
        storage: What it is a view of; None where its bytes lie elsewhere or nowhere.
        start: Its first element in the storage.
        strides: Elements between neighbours along each axis.
        nbytes: The bytes it takes where there is no storage.
        learns: Whether a gradient was to be computed; None where the file doesn't say.
        kind: `"parameter"` or `"buffer"`, or `""` where the file doesn't say.
        parts: What else it is made of, with a name for each, such as the scales of a quantised one.
        notes: Sentences for the reader of the account.
    """

    dtype: str
    shape: tuple[int, ...]
    storage: Storage | None = None
    start: int = 0
    strides: tuple[int, ...] = ()
    nbytes: int = 0
    learns: bool | None = None
    kind: str = ""
    parts: tuple[tuple[str, "Array"], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reach(self) -> int:
        """How many elements of the storage lie from its first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def distinct(self) -> int:
        """How many elements of the storage it shows, each once."""
        steps = zip(self.shape, self.strides, strict=True)
        return min(math.prod(size for size, stride in steps if stride), self.reach)

    @property
    def stored(self) -> int:
        """The bytes it takes in the file."""
        if self.storage is None:
            return self.nbytes
        return -(-self.distinct * bits_of(self.dtype) // 8)


def bits_of(dtype: str) -> int:
    """Return how many bits an element takes in a storage.

    Example:
        >>> bits_of("bfloat16"), bits_of("int3"), bits_of("quint4")
        (16, 8, 4)
    """
    return _BITS[dtype]


def as_dtype(value: Any) -> str | None:
    """Return the type that a name means, None where it means none.

    Example:
        >>> as_dtype(Name("torch", "half")), as_dtype(Name("os", "system"))
        ('float16', None)
    """
    if not (isinstance(value, Name) and value.module == "torch"):
        return None
    found = _OTHER_NAMES.get(value.attribute, value.attribute)
    return found if found in _BITS else None


def storage_dtype(value: Any) -> str | None:
    """Return the type of the elements of a kind of storage, None where it is no storage.

    Example:
        >>> storage_dtype(Name("torch", "BFloat16Storage")), storage_dtype(Name("os", "system"))
        ('bfloat16', None)
    """
    if not (isinstance(value, Name) and value.module in ("torch", "torch.cuda", "torch.storage")):
        return None
    kind, ending, rest = value.attribute.rpartition("Storage")
    return _STORAGES.get(kind) if ending and not rest else None


class Arrays:
    """Makes tensors of the calls that would have made them, each once.

    Args:
        file: The file, for errors.
        limits: What a tensor may claim.
    """

    def __init__(self, file: Any, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._made: dict[int, tuple[Call, Array | None]] = {}
        self.storages: dict[tuple[str, str, int], Storage] = {}
        """Each storage that the pickle names, by key, type and length."""

    def storage(self, identity: Any) -> Any:
        """Return the storage that a pickle refers to, or the class, where it brings the source of one along.

        Raises:
            BadFileError: It refers to something else.
        """
        match identity:
            case ("storage", kind, str() | int() as key, _, int() as count, *view):
                dtype = storage_dtype(kind)
                if dtype is None:
                    raise self._bad(f"has a storage of type {told(kind)!r}, which isn't known")
                if not 0 <= count <= self._limits.elements:
                    raise self._bad(f"has a storage of {count:,} elements")
                whole = Storage(str(key), dtype, count)
                self.storages.setdefault((whole.key, dtype, count), whole)
                return self._part(whole, view)
            case ("module", Name() as cls, *_):
                return cls
            case _:
                raise self._bad("refers to something outside of it that is no storage")

    def _part(self, whole: Storage, view: Sequence[Any]) -> Storage:
        match view:
            case [] | [None]:
                return whole
            case [(str() | int(), int() as start, int() as count)] if (
                0 <= start <= start + count <= whole.count
            ):
                return Storage(whole.key, whole.dtype, count, start, whole.whole)
            case _:
                raise self._bad("has a part of a storage that isn't inside it")

    def of(self, value: Any) -> Array | None:
        """Return the tensor that a value is; None where it is none.

        Raises:
            BadFileError: It reaches out of its storage, or its shape is none.
        """
        if isinstance(value, Storage):
            return Array(dtype=value.dtype, shape=(value.count,), storage=value, strides=(1,))
        if not isinstance(value, Call):
            return None
        if id(value) not in self._made:
            self._made[id(value)] = (value, self._one(value, 0))
        return self._made[id(value)][1]

    def _one(self, call: Call, depth: int) -> Array | None:
        if isinstance(call.function, Name):
            maker = _MAKERS.get((call.function.module, call.function.attribute))
            if maker is not None:
                if depth > _LONGEST_CHAIN:
                    raise self._bad("has a tensor made of a tensor made of a tensor, and so on")
                try:
                    return maker(self, call, call.arguments, depth)
                except BadFileError:
                    raise
                except (TypeError, ValueError, OverflowError):  # other arguments than PyTorch ever wrote
                    raise self._bad(f"calls {call.name} with arguments that it doesn't take") from None
        return None

    def inner(self, value: Any, depth: int) -> Array:
        """The tensor that another is made of."""
        found = self._one(value, depth + 1) if isinstance(value, Call) else self.of(value)
        if found is None:
            raise self._bad("has a tensor made of something that is none")
        return found

    def view(self, storage: Any, start: Any, size: Any, strides: Any, dtype: str | None = None) -> Array:
        """Return a view of a storage, after it is found to lie inside."""
        if not isinstance(storage, Storage):
            raise self._bad("has a tensor without a storage")
        shape, steps = numbers(size), numbers(strides)
        dtype = dtype or storage.dtype
        if shape is None or steps is None or len(shape) != len(steps) or len(shape) > self._limits.rank:
            raise self._bad("has a tensor whose shape and strides don't fit together")
        if not isinstance(start, int) or min((start, *shape, *steps)) < 0:
            raise self._bad(f"has a tensor of shape {shape}, strides {steps}, at element {told(start)}")
        found = self._paired(Array(dtype=dtype, shape=shape, storage=storage, start=start, strides=steps))
        if -(-(found.start + found.reach) * bits_of(dtype) // 8) > storage.nbytes and found.reach:
            raise self._bad(
                f"has a tensor of shape {shape}, strides {steps}, at element {start:,}: it reaches out of its "
                f"storage {storage.key!r} of {storage.nbytes:,} bytes"
            )
        if found.distinct < math.prod(found.shape):
            count = math.prod(found.shape)
            found = replace(
                found, notes=(f"It is expanded: {found.distinct:,} stored elements stand for {count:,}.",)
            )
        return found

    def _paired(self, array: Array) -> Array:
        """The same with the shape of its elements where two of them share a byte and the shape counts bytes."""
        if array.dtype != _PAIRED:
            return array
        if array.strides[-1:] != (1,):
            raise self._bad("has a tensor of two elements in a byte whose last axis isn't the closest")
        shape, strides = (
            (*array.shape[:-1], array.shape[-1] * 2),
            (*(2 * step for step in array.strides[:-1]), 1),
        )
        return replace(array, shape=shape, strides=strides, start=array.start * 2)

    def shaped(self, dtype: Any, size: Any, note: str) -> Array:
        """A tensor that has no storage in this file."""
        found, shape = as_dtype(dtype), numbers(size)
        if found is None or shape is None:
            raise self._bad(f"has a tensor without a shape, or of type {told(dtype)}")
        return Array(dtype=found, shape=shape, strides=(0,) * len(shape), notes=(note,))

    def _bad(self, reason: str) -> BadFileError:
        return BadFileError(self._file, reason)


def numbers(value: Any) -> tuple[int, ...] | None:
    """Return whole numbers in a tuple, however a pickle wraps them; None where there is something else.

    Example:
        >>> numbers(Call(Name("torch", "Size"), ((2, 3),)))
        (2, 3)
    """
    if isinstance(value, Call) and value.name in ("torch.Size", "torch.jit._pickle.build_intlist"):
        value = value.first
    items = items_of(value)
    return items if items is not None and all(type(item) is int for item in items) else None


_Arguments = tuple[Any, ...]
_Maker = Callable[[Arrays, Call, _Arguments, int], Array]


def _plain(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    storage, start, size, strides, *more = given
    found = arrays.view(storage, start, size, strides)
    return replace(found, learns=more[0] if more and isinstance(more[0], bool) else None)


def _typed(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    storage, start, size, strides, learns, _, dtype, *_ = given
    found = as_dtype(dtype)
    if found is None:
        raise ValueError
    return replace(arrays.view(storage, start, size, strides, found), learns=learns is True)


def _parameter(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    data, learns, *_ = given
    return replace(arrays.inner(data, depth), learns=learns is True, kind="parameter")


def _subclass(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    function, cls, arguments, *_ = given
    found = arrays.inner(Call(function, items_of(arguments) or ()), depth)
    name = str(cls) if isinstance(cls, Name) else ""
    if name == "torch.nn.parameter.Buffer":
        return replace(found, kind="buffer")
    if name == "torch.nn.parameter.Parameter":
        return replace(found, kind="parameter")
    if name == "torch.Tensor":
        return found
    return replace(found, notes=(*found.notes, f"It is of the class {name[:80]}."))


def _quantised(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    storage, start, size, strides, scheme, *_ = given
    found = arrays.view(storage, start, size, strides)
    if len(scheme) == 3:
        _, scale, zero = scheme
        note = (
            f"Quantised: one scale, {float(scale):.6g}, and one zero point, {int(zero)}, for the whole array."
        )
        return replace(found, notes=(*found.notes, note))
    _, scales, zeros, axis = scheme
    parts = (("scales", arrays.inner(scales, depth)), ("zero_points", arrays.inner(zeros, depth)))
    note = f"Quantised: a scale and a zero point for each index of axis {int(axis)}."
    return replace(found, parts=parts, notes=(*found.notes, note))


def _sparse(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    layout, data = given
    *indices, values, size = data[:3] if len(data) < 4 or isinstance(data[3], bool) else data[:4]
    shape = numbers(size)
    held, places = arrays.inner(values, depth), [arrays.inner(one, depth) for one in indices]
    if shape is None:
        raise ValueError
    kind = told(layout.first if isinstance(layout, Call) else layout)
    note = f"Sparse ({kind}): {math.prod(held.shape):,} of its elements are stored."
    nbytes = held.stored + sum(one.stored for one in places)
    return Array(dtype=held.dtype, shape=shape, nbytes=nbytes, notes=(note,), learns=held.learns)


def _nested(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    found = arrays.inner(given[0], depth)
    return replace(
        found, notes=(*found.notes, "Nested: several arrays of different lengths, one after the other.")
    )


def _meta(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    dtype, size, _, learns = given
    found = arrays.shaped(dtype, size, "It was on the meta device: it has a shape, and no data in the file.")
    return replace(found, learns=learns is True)


def _wrapped(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    cls, dtype, size, *_ = given
    return arrays.shaped(dtype, size, f"It is of the class {told(cls)}, which keeps no data in the file.")


def _from_device(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    data, dtype, _, learns = given
    found = arrays.inner(data, depth)
    if found.storage is None:  # NumPy has no bfloat16; so it is written as float32, and turned back
        found = replace(found, dtype=as_dtype(dtype) or found.dtype)
    return replace(found, learns=learns is True)


# -- NumPy's arrays, whose data lies in the pickle itself ----------------------------------------------------------
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}


def _numpy_dtype(value: Any) -> tuple[str, int] | None:
    """The type of a NumPy array and the bytes of an element."""
    if not (isinstance(value, Call) and value.name == "numpy.dtype"):
        return None
    code = value.first
    if not (isinstance(code, str) and 2 <= len(code) <= 4 and code[0] in _KINDS and code[1:].isdecimal()):
        return None
    size = int(code[1:])
    name = "bool" if code[0] == "b" else f"{_KINDS[code[0]]}{size * 8}"
    return (name, size) if name in _BITS else None


def _numpy_array(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    _, shape, dtype, _, data = call.state
    return _in_pickle(arrays, dtype, shape, data)


def _numpy_scalar(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    dtype, data, *_ = given
    return _in_pickle(arrays, dtype, (), data)


def _numpy_buffer(arrays: Arrays, call: Call, given: _Arguments, depth: int) -> Array:
    data, dtype, shape, *_ = given
    return _in_pickle(arrays, dtype, shape, data)


def _in_pickle(arrays: Arrays, dtype: Any, size: Any, data: Any) -> Array:
    shape, known = numbers(size), _numpy_dtype(dtype)
    if shape is None or len(shape) > 64 or min(shape, default=0) < 0:
        raise ValueError
    if known is None:
        return Array(
            dtype="uint8", shape=(0,), notes=("A NumPy array of objects or texts, which aren't numbers.",)
        )
    name, bytes_each = known
    if isinstance(data, Call) and data.name == "_codecs.encode":  # how protocol 2 writes bytes
        data = data.first
    found = len(data) if isinstance(data, str | bytes) else -1
    if found != math.prod(shape) * bytes_each:
        raise ValueError
    return Array(dtype=name, shape=shape, nbytes=found, notes=("A NumPy array.",) if shape else ())


_UTILS = "torch._utils"
_MAKERS: dict[tuple[str, str], _Maker] = {
    (_UTILS, "_rebuild_tensor"): _plain,
    (_UTILS, "_rebuild_tensor_v2"): _plain,
    (_UTILS, "_rebuild_tensor_v3"): _typed,
    (_UTILS, "_rebuild_parameter"): _parameter,
    (_UTILS, "_rebuild_parameter_with_state"): _parameter,
    (_UTILS, "_rebuild_qtensor"): _quantised,
    (_UTILS, "_rebuild_sparse_tensor"): _sparse,
    (_UTILS, "_rebuild_sparse_csr_tensor"): _sparse,
    (_UTILS, "_rebuild_nested_tensor"): _nested,
    (_UTILS, "_rebuild_meta_tensor_no_storage"): _meta,
    (_UTILS, "_rebuild_wrapper_subclass"): _wrapped,
    (_UTILS, "_rebuild_device_tensor_from_numpy"): _from_device,
    (_UTILS, "_rebuild_device_tensor_from_cpu_tensor"): _from_device,
    (_UTILS, "_rebuild_xla_tensor"): _from_device,
    **{
        (module, function): _subclass
        for module in ("torch._tensor", "torch.tensor")
        for function in ("_rebuild_from_type", "_rebuild_from_type_v2")
    },
    **{
        (f"numpy.{core}.{module}", function): maker
        for core in ("core", "_core")
        for module, function, maker in (
            ("multiarray", "_reconstruct", _numpy_array),
            ("multiarray", "scalar", _numpy_scalar),
            ("numeric", "_frombuffer", _numpy_buffer),
        )
    },
}
"""What makes each tensor that a pickle can hold."""

_HARMLESS = {
    *(f"{module}.{function}" for module, function in _MAKERS),
    *("collections.OrderedDict", "collections.defaultdict", "collections.deque", "collections.Counter"),
    *(
        "builtins.set",
        "builtins.frozenset",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.dict",
        "builtins.list",
    ),
    *(
        "builtins.slice",
        "builtins.range",
        "builtins.object",
        "builtins.int",
        "builtins.float",
        "builtins.bool",
    ),
    *("builtins.str", "builtins.bytes", "__builtin__.set", "__builtin__.object", "__builtin__.long"),
    *("copyreg._reconstructor", "copy_reg._reconstructor", "_codecs.encode"),
    *(
        "numpy.ndarray",
        "numpy.dtype",
        "torch.Size",
        "torch.device",
        "torch.Tensor",
        "torch.serialization._get_layout",
    ),
    *("torch.per_tensor_affine", "torch.per_channel_affine", "torch.per_channel_affine_float_qparams"),
    *(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
    *(
        "torch.nn.parameter.Parameter",
        "torch.nn.parameter.Buffer",
        "torch.nn.parameter.UninitializedParameter",
    ),
    *("torch.nn.parameter.UninitializedBuffer",),
}


def is_harmless(name: Name) -> bool:
    """Tell whether what would be imported only makes tensors and containers, or is a layer that PyTorch has.

    Example:
        >>> is_harmless(Name("torch.nn.modules.conv", "Conv2d")), is_harmless(Name("os", "system"))
        (True, False)
    """
    if name.module.startswith(("torch.nn.modules.", "torch.optim.", "__torch__")):
        return "." not in name.attribute  # a dotted one could reach whatever that module imported
    return str(name) in _HARMLESS or as_dtype(name) is not None or storage_dtype(name) is not None


def entries_of(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the pairs of a dictionary of whatever class; None where it is none.

    Example:
        >>> entries_of(Dict([("a", 1)]))
        [('a', 1)]
    """
    if isinstance(value, Dict):
        return value.pairs
    if not isinstance(value, Call) or value.name not in (
        "collections.OrderedDict",
        "collections.defaultdict",
    ):
        return None
    written = items_of(value.first)  # as Python 2 wrote it
    if value.entries.pairs or written is None:
        return value.entries.pairs
    pairs = [items_of(pair) or () for pair in written]
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
