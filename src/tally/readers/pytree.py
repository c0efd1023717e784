"""The account of a tree of arrays: dictionaries, lists, tuples, dataclasses and whatever JAX was told to be one."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tally.accounting.ledger import Ledger
from tally.formats.tensor import Contents, Role, Tensor
from tally.readers.parts import dtype_of, is_array, is_key, is_of, parts_inside, shape_of, takes_gradients
from tally.readers.tree import account

_DEEPEST, _MOST = 60, 2_000_000
"""Containers inside containers, and values in all, that are looked at."""
_PLAIN = (str, bytes, int, float, complex, type(None), type)
TENSORFLOW_VARIABLE = "tensorflow.python.ops.variables.Variable"
_AREAS = {"opt_state": "optimizer", "optimizer": "optimizer", "optimizer_state_dict": "optimizer"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """An array in a tree: its place, and the array."""

    place: tuple[str, ...]
    array: Any


def matches(thing: Any) -> bool:
    """Tell whether a thing is a container with an array in it.

    Example:
        >>> import numpy as np
        >>> matches([np.zeros(3)]), matches([1, 2]), matches(np.zeros(3))
        (True, False, False)
    """
    if isinstance(thing, _PLAIN) or is_array(thing):
        return False
    return next(leaves_of(thing), None) is not None


def read(tree: Any) -> Ledger:
    """Read the account of a tree of arrays: layers from the names on the way to each, where they are recognised.

    Args:
        tree: A container, such as the parameters of a model, a state dict, or a training state.
    """
    kind = type(tree).__name__
    name = kind if kind not in ("dict", "list", "tuple", "OrderedDict") else "parameters"
    return of_leaves(list(leaves_of(tree)), name=name, source="tree of arrays")


def of_leaves(leaves: list[Leaf], *, name: str, source: str, notes: tuple[str, ...] = ()) -> Ledger:
    """Give account of arrays by their places alone.

    Args:
        leaves: The arrays.
        name: What the model is called.
        source: What they are, such as `"Flax variables"`.
        notes: Sentences on the whole.
    """
    first: dict[Any, str] = {}
    tensors: list[Tensor] = []
    names: set[str] = set()
    for leaf in leaves:
        tensor = _tensor(leaf, names)
        one = _identity(leaf.array)
        if one in first:
            tensor = replace(tensor, alias_of=first[one])
        first.setdefault(one, tensor.name)
        tensors.append(tensor)
    layout = (
        "torch"
        if leaves and all(is_of(leaf.array, "torch.Tensor", "torch._tensor.Tensor") for leaf in leaves)
        else ""
    )
    return account(Contents(format=source, tensors=tuple(tensors), notes=notes), layout=layout, name=name)


def _identity(array: Any) -> Any:
    """What two arrays have in common that are one: the object, or the place in memory and how it is read."""
    if hasattr(array, "untyped_storage"):
        try:
            return array.untyped_storage()._cdata, array.storage_offset(), tuple(array.shape), array.stride()
        except (RuntimeError, NotImplementedError, TypeError):  # sparse, or a class of its own
            return id(array)
    return id(array)


def _tensor(leaf: Leaf, names: set[str]) -> Tensor:
    shape, dtype = shape_of(leaf.array), dtype_of(leaf.array) or "float32"
    parts = [part.replace("/", "|") or "(no name)" for part in leaf.place]
    if is_of(leaf.array, "torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter"):
        parts = [part for name in parts for part in name.split(".")]
    name = first = "/".join(filter(None, parts))
    number = 1
    while name in names:
        name, number = f"{first}_{number}", number + 1
    names.add(name)
    tensor = Tensor(name=name, shape=shape, dtype=dtype, stored=0, role=_role(leaf, dtype))
    return replace(tensor, stored=_bytes(leaf.array, tensor))


def _bytes(array: Any, tensor: Tensor) -> int:
    size = getattr(getattr(array, "dtype", None), "itemsize", 4)
    width = 4 if is_key(array) else size if isinstance(size, int) else 4
    from tally.accounting.ledger import bits

    return -(-tensor.size * bits(tensor.dtype) // 8) if not is_key(array) else tensor.size * width


def _role(leaf: Leaf, dtype: str) -> Role:
    if is_key(leaf.array):
        return "seed"
    area = next((_AREAS[part] for part in leaf.place[:2] if part in _AREAS), None)
    if area == "optimizer":
        return "optimizer"
    if leaf.place[0] in _COLLECTIONS and len(leaf.place) > 1:
        return "state"
    if is_of(leaf.array, TENSORFLOW_VARIABLE) and not leaf.array.trainable and takes_gradients(dtype):
        return "state"
    if leaf.place[-1:] == ("step",) and not shape_of(leaf.array):
        return "optimizer"
    return "weight" if takes_gradients(dtype) or len(shape_of(leaf.array)) > 1 or dtype == "int8" else "other"


_COLLECTIONS = ("batch_stats", "cache")
"""What Flax keeps beside the parameters, which no gradient changes."""


def leaves_of(tree: Any, place: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield every array in a tree, with its place; each container once on a way, nothing run but JAX's own flattening.

    Args:
        tree: The tree.
        place: Where it is itself.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [(place, tree)]
    looked = 0
    while waiting and looked < _MOST:
        here, value = waiting.pop()
        looked += 1
        if isinstance(value, _PLAIN):
            continue
        boxed = _unboxed(value)
        if is_array(boxed):
            yield Leaf(here or ("value",), boxed)
        elif len(here) < _DEEPEST:
            inside = _children(boxed)
            waiting.extend((((*here, name)), one) for name, one in reversed(inside))


def _unboxed(value: Any) -> Any:
    """What is in a box of Flax, which keeps the names of axes for sharding beside an array."""
    if is_of(value, "flax.core.meta.AxisMetadata"):
        return value.unbox()
    if is_of(value, "flax.nnx.variablelib.Variable"):
        return value.get_value() if hasattr(value, "get_value") else value.value
    return value


def _children(value: Any) -> list[tuple[str, Any]]:
    if is_of(value, "optax.*.EmptyState"):
        return []
    inside = parts_inside(value)
    if inside is not None:
        return list(inside)
    return list(_registered(value))


def _registered(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an object that JAX was told to be a tree, where the user has JAX."""
    jax: Any = sys.modules.get("jax")
    if jax is None or (callable(value) and not isinstance(value, Mapping)):
        return

    def is_inside(one: Any) -> bool:
        return one is not value

    try:
        found = jax.tree_util.tree_flatten_with_path(value, is_leaf=is_inside)[0]
    except Exception:  # somebody's own flattening may fail in any way
        return
    for path, one in found:
        if one is not value and path:
            yield "/".join(_said(key) for key in path), one


def _said(key: Any) -> str:
    return str(
        next(
            (found for name in ("name", "key", "idx") if (found := getattr(key, name, None)) is not None), key
        )
    )
