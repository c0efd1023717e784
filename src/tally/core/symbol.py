"""Symbolic tensors: shapes and dtypes that ops and layers compute with before there is data."""

import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.export import SymbolicScope, is_symbolic_dim, symbolic_shape

from tally.core import masks
from tally.core.dtype import standardize_dtype
from tally.core.errors import users_line
from tally.core.holding import current_call, numbers
from tally.core.registry import snake_case
from tally.core.variable import Values, Variable, substitute

_scope = SymbolicScope()
_counters: dict[str, "itertools.count[int]"] = {}
_SIDES = {2: ("features",), 3: ("length", "channels"), 4: ("height", "width", "channels")}


def fresh_dimension(word: str) -> Any:
    """A new unknown size. Batches are one and the same unknown, since a model's inputs share it."""
    if word != "batch":
        counter = _counters.setdefault(word, itertools.count())
        word = f"{word}{next(counter) or ''}"
    return symbolic_shape(word, scope=_scope)[0]


class KerasTensor:
    """A tensor of which only the shape and dtype are known, and how it comes about.

    Args:
        shape: Sizes; None where one is unknown, or a symbolic size.
        dtype: Name of the dtype.
        name: For reading.
        node: The graph node that makes it, and `index` which of its outputs it is.
    """

    __array_ufunc__ = None
    __array_priority__ = 200

    def __init__(
        self,
        shape: Sequence[Any],
        dtype: Any = "float32",
        name: str | None = None,
        node: Any = None,
        index: int = 0,
    ) -> None:
        words = ("batch", *_SIDES.get(len(shape), tuple(f"axis{i}_" for i in range(1, len(shape)))))
        self.symbolic_shape: tuple[Any, ...] = tuple(
            fresh_dimension(words[i]) if size is None else size for i, size in enumerate(shape)
        )
        self.dtype = standardize_dtype(dtype)
        self.name = name or "keras_tensor"
        self.node, self.index = node, index
        self.keras_mask: KerasTensor | None = None
        self.sparse = self.ragged = False

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Sizes, with None where one is unknown."""
        return tuple(None if is_symbolic_dim(size) else int(size) for size in self.symbolic_shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.symbolic_shape)

    @property
    def _keras_history(self) -> tuple[Any, int, int]:
        return (self.node.operation, self.node.number, self.index)

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"

    def _refuse(self, what: str) -> TypeError:
        return TypeError(
            f"A symbolic tensor {self.shape} has no values, so it can't be {what}.\n"
            "  do: use functions of tally.ops on it, or put the code into a Layer's call or a Lambda"
        )

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise self._refuse("made into a NumPy array")

    def __bool__(self) -> bool:
        raise self._refuse("used as true or false")

    def __float__(self) -> float:
        raise self._refuse("read as a number")

    def __int__(self) -> int:
        raise self._refuse("read as a number")

    def __iter__(self) -> Any:
        raise self._refuse("iterated over")

    def __len__(self) -> int:
        raise self._refuse("measured with len; see its shape")

    def __hash__(self) -> int:
        return id(self)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"A symbolic tensor has no '{name}': it has a shape and a dtype, but no values. "
            "Use a function of tally.ops instead."
        )


class Mark:
    """Whether a use of an operation is part of any model's graph; it outlives the use."""

    is_used = False


class Node:
    """One use of an operation in a graph: what it was given and what came out."""

    _numbers = itertools.count()

    def __init__(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        self.operation, self.args, self.kwargs = operation, args, kwargs
        self.number = next(Node._numbers)
        self.outputs = outputs
        self.made_at = users_line()
        self.mark = Mark()

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic tensors among the arguments."""
        return [leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, KerasTensor)]


class Consumer(NamedTuple):
    """What was applied to a symbolic tensor, remembered without keeping it alive.

    Args:
        kind: The operation's class.
        name: Its name.
        number: The layer's number; None for an op.
        line: The user's line that applied it.
        only_merges: Whether it has no weights and brings several tensors together.
        mark: Whether that use is part of any model's graph.
    """

    kind: str
    name: str
    number: int | None
    line: str | None
    only_merges: bool
    mark: Mark


_consumers: "weakref.WeakKeyDictionary[KerasTensor, list[Consumer]]" = weakref.WeakKeyDictionary()


def consumers(tensor: KerasTensor) -> list[Consumer]:
    """What was applied to a symbolic tensor so far."""
    return _consumers.get(tensor, [])


def leaves(structure: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dicts; symbolic tensors and variables are leaves, and so is None."""
    return jax.tree.leaves(structure, is_leaf=lambda value: value is None)


def map_tree(function: Callable[..., Any], structure: Any, *others: Any) -> Any:
    """Apply a function to the leaves of nested tuples, lists and dicts (None counts as a leaf)."""
    return jax.tree.map(function, structure, *others, is_leaf=lambda value: value is None)


def has_symbol(*structures: Any) -> bool:
    """Whether a symbolic tensor is among the leaves."""
    return any(isinstance(leaf, KerasTensor) for leaf in leaves(structures))


def infer(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Symbolic outputs of a function for symbolic inputs: what `jax.eval_shape` says, masks included.

    Unknown sizes are JAX's symbolic dimensions. Where JAX can't decide a comparison between them, every unknown size
    but the batch is taken to be one and the same; where even that is undecidable, the function is evaluated for two
    sets of made-up sizes, and the sizes that differ in the results are the unknown ones.
    """
    structure = jax.tree.structure((args, kwargs), is_leaf=lambda value: value is None)
    everything = leaves((args, kwargs))
    symbols = [leaf for leaf in everything if isinstance(leaf, KerasTensor)]
    with_masks = symbols + [s.keras_mask for s in symbols if s.keras_mask is not None]

    def evaluate(sizes: Callable[[Any], Any]) -> Any:
        specs = [jax.ShapeDtypeStruct(tuple(map(sizes, s.symbolic_shape)), s.dtype) for s in with_masks]

        def run(arrays: list[Any]) -> Any:
            filled = iter(arrays)
            found = [next(filled) if isinstance(leaf, KerasTensor) else leaf for leaf in everything]
            rest = iter(arrays[len(symbols) :])
            for symbol, array in zip(symbols, arrays, strict=False):
                if symbol.keras_mask is not None:
                    masks.set_mask(array, next(rest))
            inner_args, inner_kwargs = jax.tree.unflatten(structure, found)
            with substitute(Values(abstract=True)):
                outputs = function(*inner_args, **inner_kwargs)
            return outputs, map_tree(lambda leaf: None if leaf is None else masks.get_mask(leaf), outputs)

        return jax.eval_shape(run, specs)

    unknown = [size for s in with_masks for size in s.symbolic_shape if is_symbolic_dim(size)]
    outputs, made_masks = _evaluate_with_fallbacks(evaluate, unknown)
    return _as_symbols(outputs, made_masks)


def _evaluate_with_fallbacks(evaluate: Callable[..., Any], unknown: list[Any]) -> Any:
    try:
        return evaluate(lambda size: size)
    except Exception as error:
        if not unknown:
            raise
        first = error
    batch = fresh_dimension("batch")
    others = {str(size) for size in unknown} - {"batch"}
    if len(others) > 1:
        shared = fresh_dimension("size")
        try:
            return evaluate(lambda size: shared if is_symbolic_dim(size) and str(size) in others else size)
        except Exception:
            pass
    try:
        probes = [
            evaluate(
                lambda size, n=n, m=m: size if not is_symbolic_dim(size) else n if str(size) == "batch" else m
            )
            for n, m in ((6, 64), (10, 96))
        ]
    except Exception:
        raise first from None

    def merge(a: Any, b: Any) -> Any:
        sizes = []
        for position, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)):
            batched = position == 0 and (x, y) == (6, 10)
            sizes.append(x if x == y else batch if batched else fresh_dimension("size"))
        return jax.ShapeDtypeStruct(tuple(sizes), a.dtype)

    return jax.tree.map(merge, *probes)


def _as_symbols(outputs: Any, made_masks: Any) -> Any:
    def symbol(spec: Any, mask: Any) -> Any:
        if spec is None:
            return None
        made = KerasTensor(spec.shape, spec.dtype.name)
        if mask is not None:
            made.keras_mask = KerasTensor(mask.shape, mask.dtype.name)
        return made

    flat, structure = jax.tree.flatten(outputs, is_leaf=lambda value: value is None)
    flat_masks = leaves(made_masks) if flat else []
    return jax.tree.unflatten(structure, [symbol(s, m) for s, m in zip(flat, flat_masks, strict=True)])


def record(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> Any:
    """Make the graph node that says these outputs come from that operation; returns the outputs."""
    node = Node(operation, args, kwargs, outputs)
    for index, leaf in enumerate(leaves(outputs)):
        if isinstance(leaf, KerasTensor):
            leaf.node, leaf.index = node, index
            leaf.name = f"{operation.name}_output"
    operation.inbound_nodes.append(node)
    number = None if isinstance(operation, Operation) else operation.number
    only_merges = len(node.inputs) > 1 and not getattr(operation, "variables", None)
    use = Consumer(type(operation).__name__, operation.name, number, node.made_at, only_merges, node.mark)
    for tensor in node.inputs:
        _consumers.setdefault(tensor, []).append(use)
    return outputs


class Operation:
    """One application of an op in a graph, with a name of its own, as Keras lists it among a model's operations."""

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        from tally.core.naming import auto_name

        self.function = function
        self.name = name or auto_name(snake_case(function.__name__))
        self.made_at = users_line()
        self.number = next(numbers)
        self.inbound_nodes: list[Node] = []
        self.built = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the op."""
        call = current_call.get()
        if call is None:
            return self.function(*args, **kwargs)
        with jax.named_scope(call.label(self)):
            return self.function(*args, **kwargs)


def op(function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
    """Let a function of JAX arrays also take variables, NumPy arrays and symbolic tensors.

    Args:
        function: Any traceable function; its output shapes come from `jax.eval_shape`.
        name: The op's name where the function's own differs.

    Example:
        >>> double = op(lambda x: 2 * x, name="double")
        >>> double(tally.Input((3,))).shape
        (None, 3)
    """

    @functools.wraps(function)
    def apply(*args: Any, **kwargs: Any) -> Any:
        if has_symbol(args, kwargs):
            outputs = infer(apply, args, kwargs)
            return record(Operation(apply), args, kwargs, outputs)
        args, kwargs = map_tree(_plain, (args, kwargs))
        return function(*args, **kwargs)

    if name is not None:
        apply.__name__ = apply.__qualname__ = name
    apply.is_op = True  # type: ignore[attr-defined]
    return apply


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, Variable):
        return leaf.value
    if hasattr(leaf, "detach") and hasattr(leaf, "cpu"):  # PyTorch
        return leaf.detach().cpu().numpy()
    if type(leaf).__module__.startswith("tensorflow"):
        return leaf.numpy() if hasattr(leaf, "numpy") else leaf
    return leaf
