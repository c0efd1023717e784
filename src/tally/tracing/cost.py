"""What a traced call computes: multiply-adds as by hand, and floating-point operations as the compiler counts them.

Two counts, since people mean two things. *Multiply-adds* are those of matrix products and convolutions, as one counts
them by hand: every place of a convolution's output meets the whole kernel, zeros of the padding included; of a
transposed convolution, every place of the input. *FLOPs* are what XLA's own analysis counts: two for every product
that exists (none with a zero of the padding), one for every value that an addition, a comparison or the like makes.
Exponentials, roots and the like are in neither; they are counted by themselves.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from tally.accounting.ledger import Ledger
from tally.accounting.work import INTERPOLATING
from tally.core.layer import Layer
from tally.layers.repeat import Repeat
from tally.tracing.following import Run, follow, given_inputs
from tally.tracing.program import Node, Program, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What some equations compute.

    Args:
        multiply_adds: Of matrix products and convolutions, as by hand.
        flops: As the compiler counts them.
        transcendentals: Values of exponentials, logarithms, roots, powers and trigonometric functions.

    Example:
        >>> Cost(multiply_adds=5, flops=12) + Cost(flops=3)
        Cost(multiply_adds=5, flops=15, transcendentals=0)
    """

    multiply_adds: int = 0
    flops: int = 0
    transcendentals: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            multiply_adds=self.multiply_adds + other.multiply_adds,
            flops=self.flops + other.flops,
            transcendentals=self.transcendentals + other.transcendentals,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        """What is left; nothing where the other is more."""
        return Cost(
            multiply_adds=max(self.multiply_adds - other.multiply_adds, 0),
            flops=max(self.flops - other.flops, 0),
            transcendentals=max(self.transcendentals - other.transcendentals, 0),
        )

    def __mul__(self, times: int) -> "Cost":
        return Cost(
            multiply_adds=self.multiply_adds * times,
            flops=self.flops * times,
            transcendentals=self.transcendentals * times,
        )


def cost_by_maker(program: Program) -> dict[Any, Cost]:
    """What each layer and each op of a graph computes itself, without the layers inside it.

    A loop counts its body as often as it runs, where that is known; of a condition all branches count.
    """
    costs: dict[Any, Cost] = defaultdict(Cost)
    for node, times in program.every():
        cost = cost_of(node)
        if type(node.maker).__name__ in INTERPOLATING:
            cost = replace(cost, multiply_adds=0)
        costs[node.maker] = costs[node.maker] + cost * times
    return dict(costs)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    return sum(costs, Cost())


def cost_of(node: Node) -> Cost:
    """What one equation computes each time it runs."""
    equation = node.equation
    made = sum(math.prod(getattr(var.aval, "shape", ())) for var in equation.outvars)
    if node.name == "dot_general":
        products = dot_products(equation)
        return Cost(multiply_adds=products, flops=2 * products)
    if node.name == "conv_general_dilated":
        return Cost(multiply_adds=convolution_products(equation), flops=2 * real_products(equation))
    if node.name in _PER_VALUE:
        flops, transcendentals = _PER_VALUE[node.name]
        return Cost(flops=flops * made, transcendentals=transcendentals * made)
    if node.name in _GATHERING:
        return Cost(flops=_GATHERING[node.name](equation, made))
    return Cost(flops=0 if node.name in _FREE else made)


def dot_products(equation: Any) -> int:
    """The multiply-adds of a matrix product: every value of the result sums over the contracted axes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    summed = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return summed * math.prod(equation.outvars[0].aval.shape)


def convolution_products(equation: Any) -> int:
    """The multiply-adds of a convolution as by hand.

    On each side no place of the output meets an element of the kernel twice, and no place of the input does: so there
    are as many products as the smaller of the two has places, times the kernel's. In a convolution the output is the
    smaller, in a transposed one the input.
    """
    inside, kernel, outside = _sides(equation)
    places = math.prod(min(before, after) for before, after in zip(inside, outside, strict=True))
    return places * math.prod(kernel) * _channels(equation)


def real_products(equation: Any) -> int:
    """The products of a convolution that exist: none with the padding, nor with the gaps between spread values."""
    inside, kernel, outside = _sides(equation)
    params = equation.params
    padding, strides = params["padding"], params["window_strides"]
    spread, holes = params["lhs_dilation"], params["rhs_dilation"]
    count = _channels(equation)
    for side in range(len(inside)):
        starts = np.arange(outside[side]) * strides[side] - padding[side][0]
        places = starts[:, None] + np.arange(kernel[side]) * holes[side]
        size = (inside[side] - 1) * spread[side] + 1
        count *= int(np.count_nonzero((places >= 0) & (places < size) & (places % spread[side] == 0)))
    return count


def _sides(equation: Any) -> tuple[list[int], list[int], list[int]]:
    """The lengths of the sides of input, kernel and output, in one order."""
    numbers = equation.params["dimension_numbers"]
    shapes = [var.aval.shape for var in (*equation.invars[:2], equation.outvars[0])]
    specs = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
    inside, kernel, outside = (
        [shape[axis] for axis in spec[2:]] for shape, spec in zip(shapes, specs, strict=True)
    )
    return inside, kernel, outside


def _channels(equation: Any) -> int:
    """The products at one place: examples, output channels, and the input channels that each of those sees."""
    numbers = equation.params["dimension_numbers"]
    outputs, kernel = equation.outvars[0].aval.shape, equation.invars[1].aval.shape
    examples, made = outputs[numbers.out_spec[0]], outputs[numbers.out_spec[1]]
    # In groups the kernel has no more than one output sees.
    return examples * made * kernel[numbers.rhs_spec[1]]


def with_costs(root: Layer, ledger: Ledger) -> Ledger:
    """Fill in the multiply-adds of every layer in a ledger, found by following a call with one example.

    Args:
        root: The layer or model the ledger was made from.
        ledger: Its ledger.

    Returns:
        The ledger with `multiply_adds` in its owners; as it was where there is no call to follow.

    Example:
        >>> model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5)])
        >>> with_costs(model, tally.account(model)).owner("dense").multiply_adds
        50
    """
    run = follow_batch(root, training=False, batch=1)
    if run is None:
        return ledger
    costs = cost_by_maker(read(run.jaxpr, run.labels, root))
    places = paths_of(root, ledger)
    found = {
        path: cost.multiply_adds // len(places[maker])
        for maker, cost in costs.items()
        for path in places.get(maker, ())
    }
    owners = tuple(replace(owner, multiply_adds=found.get(owner.path, 0)) for owner in ledger.owners)
    return replace(ledger, owners=owners)


def follow_batch(root: Layer, *, training: bool, batch: int) -> Run | None:
    """Follow a call as `follow` does, with a batch of a size even where the layer was only called on arrays.

    Args:
        root: The layer or model.
        training: The phase.
        batch: How many examples the inputs have, unless the model was made for a number of its own.
    """
    given = given_inputs(root)
    if given is None:
        return None
    flat, structure = jax.tree.flatten(given, is_leaf=lambda leaf: leaf is None)
    arrays = [leaf for leaf in flat if isinstance(leaf, jax.ShapeDtypeStruct) and leaf.shape]
    size = arrays[0].shape[0] if arrays else None
    resized = [
        jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype)
        if any(leaf is array for array in arrays) and leaf.shape[0] == size
        else leaf
        for leaf in flat
    ]
    return follow(root, training=training, batch=batch, inputs=jax.tree.unflatten(structure, resized))


def paths_of(root: Layer, ledger: Ledger) -> dict[Any, list[str]]:
    """The paths of each layer and op: one, or one for each time that the block it stands in is repeated."""
    found: dict[Any, list[str]] = {}
    ops: dict[str, list[str]] = defaultdict(list)
    for owner in ledger.owners:
        if owner.module == "tally.ops":
            ops[owner.name].append(owner.path)

    def visit(layer: Layer, paths: list[str]) -> None:
        if layer in found:
            return
        found[layer] = paths
        graph = getattr(layer, "_graph", None)
        for operation in graph.operations if graph is not None else ():
            if operation.name in ops:
                found.setdefault(operation, ops[operation.name][-len(paths) :])
        is_ours = type(layer).__module__.split(".")[0] == "tally"
        for place, child in layer._children():
            name = place.lstrip("_") if is_ours else place
            names = [name]
            if isinstance(layer, Repeat) and child is layer.block:
                names = [f"{name}_{number}" for number in range(layer.count)]
            visit(child, [f"{path}/{name}" if path else name for path in paths for name in names])

    visit(root, [""])
    return found


def _of_windows(equation: Any, made: int) -> int:
    return (math.prod(equation.params["window_dimensions"]) - 1) * made


def _of_power(equation: Any, made: int) -> int:
    """Squarings, and a product for every further binary digit of the exponent."""
    power = abs(equation.params["y"])
    return made * max(power.bit_length() + power.bit_count() - 2, 1)


_PER_VALUE = {
    **dict.fromkeys(
        [
            "atan",
            "atan2",
            "cbrt",
            "cos",
            "erf",
            "exp",
            "expm1",
            "log",
            "log1p",
            "pow",
            "rsqrt",
            "sin",
            "sqrt",
            "tan",
            "tanh",
        ],
        (0, 1),
    ),
    "acos": (3, 2),
    "acosh": (7, 4),
    "asin": (5, 2),
    "asinh": (11, 3),
    "atanh": (6, 2),
    "cosh": (3, 2),
    "digamma": (73, 3),
    "erf_inv": (37, 2),
    "erfc": (62, 1),
    "exp2": (1, 1),
    "lgamma": (53, 4),
    "logistic": (3, 1),
    "random_bits": (32, 0),
    "sinh": (10, 3),
}
"""FLOPs and transcendentals for each value made, as XLA (JAX 0.10) counts what it writes these functions out to."""

_GATHERING: dict[str, Callable[[Any, int], int]] = {
    **dict.fromkeys(
        [
            "argmax",
            "argmin",
            "reduce_and",
            "reduce_max",
            "reduce_min",
            "reduce_or",
            "reduce_prod",
            "reduce_sum",
            "reduce_xor",
        ],
        lambda equation, made: max(math.prod(equation.invars[0].aval.shape) - made, 0),
    ),
    **dict.fromkeys(
        ["reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"], _of_windows
    ),
    "select_and_scatter_add": lambda equation, _: (
        math.prod(equation.params["window_dimensions"]) * math.prod(equation.invars[0].aval.shape)
    ),
    **dict.fromkeys(
        ["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"],
        lambda equation, made: (
            made * (equation.invars[0].aval.shape[equation.params["axis"]] - 1).bit_length()
        ),
    ),
    **dict.fromkeys(
        ["scatter-add", "scatter-mul", "scatter_add", "scatter_mul"],
        lambda equation, _: math.prod(equation.invars[2].aval.shape),
    ),
    "integer_pow": _of_power,
}
"""FLOPs of what makes one value of several."""

_NAMES = """bitcast_convert_type broadcast_in_dim concatenate copy copy_p device_put dynamic_slice dynamic_update_slice
expand_dims gather iota name optimization_barrier pad random_fold_in random_seed random_split random_unwrap random_wrap
reshape rev scatter sharding_constraint slice sort split squeeze stack stop_gradient transpose"""
_FREE = frozenset(_NAMES.split())
"""What moves or makes values without computing with them."""
