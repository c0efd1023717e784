"""The arrays of a model under the paths of its account, and those of a file by the place of their bytes."""

import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.errors import SavingError
from tally.formats.tensor import Span, Tensor
from tally.optimizers.base import Optimizer


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model holds one array of its account.

    Args:
        path: The path of its entry.
        variable: What holds it.
        blocks: Which block of it, where one variable holds the arrays of several blocks.
    """

    path: str
    variable: Any
    blocks: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(self.variable.shape[len(self.blocks) :])

    @property
    def dtype(self) -> str:
        """The name of its type."""
        return str(self.variable.dtype)

    @property
    def index(self) -> tuple[int, ...]:
        """Where the array stands in the variable: a place for each of its first axes."""
        found: list[int] = []
        inside = self.variable
        for block in self.blocks:
            found.append(block - inside.blocks.start)
            inside = inside.pattern
        return tuple(found)

    def numpy(self) -> np.ndarray:
        """The values."""
        return np.asarray(self.variable.raw[self.index] if self.blocks else self.variable.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """All arrays of a model, each once.

    Args:
        weights: By path: what the account counts.
        seeds: By path: the states of random generators.
        optimizer: What the optimizer keeps, in its own order; its names follow the process, not the model.
    """

    weights: dict[str, Place] = field(default_factory=dict)
    seeds: dict[str, Place] = field(default_factory=dict)
    optimizer: tuple[Place, ...] = ()


def places_of(model: Any) -> Places:
    """Find the arrays of a model, under the paths of its account.

    Args:
        model: A model.

    Raises:
        SavingError: It is a layer that is no model, so that nobody says which paths it has, or has no weights yet.
    """
    if not hasattr(model, "held_arrays"):
        raise SavingError(
            f"Weights are kept under the paths of a model's account, but {type(model).__name__} "
            f"'{getattr(model, 'name', '')}' is no model.",
            do="wrap it: tally.Sequential([layer])",
        )
    optimizer = getattr(model, "optimizer", None)
    kept = {
        id(variable)
        for variable in (optimizer.variables if optimizer is not None and optimizer.built else ())
    }
    found = [Place(path, variable, blocks) for path, (variable, blocks) in model.held_arrays().items()]
    aside = [place for place in found if id(place.variable) in kept]
    rest = [place for place in found if id(place.variable) not in kept]
    return Places(
        weights={place.path: place for place in rest if not place.variable.is_seed},
        seeds={place.path: place for place in rest if place.variable.is_seed},
        optimizer=tuple(aside),
    )


@contextmanager
def built_optimizer(model: Any, is_stored: bool) -> Iterator[Places]:
    """A model's arrays, those of its optimizer included where a state for it is stored; it is planned if need be.

    If what is done with them is refused, an optimizer that had no state has none afterwards.

    Args:
        model: A model.
        is_stored: Whether there is a state for its optimizer.
    """
    optimizer = getattr(model, "optimizer", None)
    if not is_stored or optimizer is None or optimizer.built:
        yield places_of(model)
        return
    before = [
        (one, {name: _shallow(value) for name, value in vars(one).items()}) for one in _optimizers(optimizer)
    ]
    try:
        optimizer.build(model.trainable_variables)
        yield places_of(model)
    except BaseException:
        for one, values in before:
            vars(one).clear()
            vars(one).update(values)
        raise


def _optimizers(optimizer: Any) -> Iterator[Any]:
    """An optimizer and those inside of it."""
    yield optimizer
    for value in vars(optimizer).values():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, Optimizer):
                yield from _optimizers(one)


def _shallow(value: Any) -> Any:
    return copy(value) if type(value) in (list, dict, set) else value


def assign(pairs: Iterable[tuple[Place, Any]]) -> None:
    """Set arrays one after the other, so that no more than one is in memory beside the model's own.

    Args:
        pairs: A place, and a function without arguments that gives its values; shapes fit already. The blocks that
            share one variable are put together and set at once.
    """
    blocks: dict[int, list[tuple[Place, Any]]] = {}
    for place, read in pairs:
        if place.blocks:
            blocks.setdefault(id(place.variable), []).append((place, read))
        else:
            put(place.variable, read())
    for together in blocks.values():
        variable = together[0][0].variable
        whole = math.prod(variable.shape) == sum(math.prod(place.shape) for place, _ in together)
        values = np.empty(variable.shape, jnp.dtype(variable.dtype)) if whole else np.array(variable.raw)
        for place, read in together:
            values[place.index] = read()
        put(variable, values)


def put(variable: Any, value: Any) -> None:
    """Set a variable; one whose values are spread over devices keeps them spread."""
    if isinstance(value, jax.Array):  # it is where it belongs
        variable.assign(value)
        return
    sharding = None if variable.is_planned else variable.raw.sharding
    value = np.asarray(value)
    if sharding is not None and len(sharding.device_set) > 1:
        value = jax.device_put(value.astype(jnp.dtype(variable.dtype)), sharding)
    variable.assign(value)


def numpy_type(dtype: str) -> np.dtype:
    """Return NumPy's type of a name as a ledger has it, those for half precision and less included.

    Raises:
        TypeError: There is none, such as of `q4_k`.

    Example:
        >>> numpy_type("bfloat16").itemsize, numpy_type("float8_e4m3fn").itemsize
        (2, 1)
    """
    import ml_dtypes  # JAX's own, which NumPy asks for such types

    return np.dtype(getattr(ml_dtypes, dtype, dtype))


def check_arrays(tensors: Iterable[Tensor]) -> None:
    """See to it that the values of arrays can be read, before the first is set; none is kept in memory.

    What is stored plainly is only mapped. What is compressed is unpacked, and so once more when it is read.

    Args:
        tensors: What the file's header says of them.

    Raises:
        SavingError: The values of one can't be read.
    """
    for tensor in tensors:
        _mapped(tensor)


def read_array(tensor: Tensor) -> np.ndarray:
    """Read the values of one array of a file, mapped into memory, so that only they are read.

    Args:
        tensor: What the file's header says of it.

    Raises:
        SavingError: It is packed or quantised, or the file got shorter since its header was read.
    """
    return np.array(_mapped(tensor))  # copied, since JAX may keep the memory it is given


def _mapped(tensor: Tensor) -> np.ndarray:
    """The values where they are in the file."""
    span = tensor.span
    try:
        dtype = numpy_type(tensor.dtype)
    except TypeError:
        dtype = None
    is_known = span is not None and span.filters in ((), ("deflate",))
    if span is None or not is_known or dtype is None or dtype.itemsize * tensor.size < tensor.stored:
        raise SavingError(
            f"The values of '{tensor.name}' can't be read: they are stored as {tensor.dtype}, packed or compressed.",
            do="let the library that wrote the file write it again, unpacked",
        )
    if tensor.size == 0:
        return np.zeros(tensor.shape, dtype)
    if span.strides is None:
        elements = _elements(span, dtype, tensor.size, tensor.name)
        if elements.size != tensor.size:
            raise SavingError(
                f"'{tensor.name}' in {span.file} has {elements.size:,} values, not {tensor.size:,}."
            )
        return elements.reshape(tensor.shape)
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, span.strides, strict=True))
    elements = _elements(span, dtype, max(reach, 0) + 1, tensor.name)
    if min(span.strides) < 0 or reach >= elements.size:
        raise SavingError(f"'{tensor.name}' in {span.file} reaches out of its bytes.")
    steps = [step * dtype.itemsize for step in span.strides]
    return np.lib.stride_tricks.as_strided(elements, tensor.shape, steps, writeable=False)


def _elements(span: Span, dtype: np.dtype, count: int, name: str) -> np.ndarray:
    """The bytes as elements in this machine's order."""
    try:
        raw = np.memmap(span.file, np.uint8, "r", offset=span.start, shape=(span.nbytes,))
        plain = _unpacked(raw, span.inside, count * dtype.itemsize) if span.filters else raw
        elements = np.asarray(plain).view(dtype)
    except (OSError, ValueError, zlib.error) as error:
        raise SavingError(
            f"'{name}' can't be read from {span.file}: {error}", do="copy or download it again"
        ) from error
    if span.order == ">" and dtype.itemsize > 1:
        return (
            elements.byteswap()
            if dtype.isbuiltin
            else elements.view(f"u{dtype.itemsize}").byteswap().view(dtype)
        )
    return elements


def _unpacked(packed: np.ndarray, inside: int, count: int) -> np.ndarray:
    """So many bytes of what was deflated, from one on; no more than these and a piece are ever in memory.

    Raises:
        zlib.error: It is broken.
        ValueError: There are fewer.
    """
    found, place = np.empty(count, np.uint8), -inside
    unpack = zlib.decompressobj(-15)
    for start in range(0, packed.size, _PIECE):
        waiting, is_more = packed[start : start + _PIECE].tobytes(), True
        while is_more and place < count:
            piece = np.frombuffer(unpack.decompress(waiting, _PIECE), np.uint8)
            waiting, is_more = unpack.unconsumed_tail, piece.size == _PIECE
            first = max(-place, 0)
            kept = piece[first : first + count - max(place, 0)]
            found[max(place, 0) : max(place, 0) + kept.size] = kept
            place += piece.size
    if place < count:
        raise ValueError(f"it unpacks to {max(place, 0):,} of {count:,} bytes")
    return found


_PIECE = 2**20
