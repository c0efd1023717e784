"""How a layer's input came about from the layers before it, and what the axes of its output are."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

from tally.accounting.ledger import Ledger, Owner, Shape
from tally.accounting.window import output_arithmetic
from tally.accounting.words import listed, plural

Sources: TypeAlias = Mapping[str, tuple[Owner, ...]]
"""The path of each layer -> the layers its inputs come from, as far as that is known."""

_FARTHEST = 8
"""How many layers that leave a shape as it is are looked through: enough for a norm, a function and a dropout."""


def sources(ledger: Ledger) -> Sources:
    """Find where each layer's inputs come from: from the graph, or in a `Sequential` from the layer before.

    The first layer of a `Sequential` is fed by what holds it. In a model of the user's own only its `call` knows,
    so nothing is said.

    Example:
        >>> model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3), tally.layers.Dense(2)])
        >>> {path: [owner.path for owner in found] for path, found in sources(tally.account(model)).items()}
        {'dense': [''], 'dense_1': ['dense']}
    """
    named = {owner.name: owner for owner in reversed(ledger.owners)}
    named |= {owner.path: owner for owner in ledger.owners}
    found = {
        owner.path: tuple(named[feeder] for feeder in owner.inputs)
        for owner in ledger.owners
        if owner.inputs and all(feeder in named for feeder in owner.inputs)
    }
    for holder in ledger.owners:
        if holder.type != "Sequential":
            continue
        before = holder
        for layer in ledger.children(holder.path):
            found.setdefault(layer.path, (before,))
            before = layer
    return found


def input_lines(owner: Owner, came: Sources) -> Iterator[tuple[str, str]]:
    """Say for each input its shape and the layer it comes from, and beside it how that layer arrived at the shape.

    Example:
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.MaxPooling2D(), tally.layers.Flatten()])
        >>> ledger = tally.account(model)
        >>> list(input_lines(ledger.owner("flatten"), sources(ledger)))
        [("14, 14, 1 from 'max_pooling2d'", 'height and width: (28 − 2)/2 + 1 = 14')]
    """
    if _is_cell(owner) or not owner.input_shapes:
        return  # what a cell is handed is a matter of how its layer is written
    feeders = came.get(owner.path, ())
    if len(feeders) == len(owner.input_shapes):
        for shape, feeder in zip(owner.input_shapes, feeders, strict=True):
            where, lines = _from(feeder, shape, owner, came)
            yield sizes(shape) + where, "; ".join(lines)
        return
    shapes = listed([sizes(shape) for shape in dict.fromkeys(owner.input_shapes)])
    several = len(owner.input_shapes) > 1 and len(set(owner.input_shapes)) == 1
    each = f" for each of {len(owner.input_shapes)} inputs" if several else ""
    names = listed([f"'{feeder.path}'" for feeder in feeders if feeder.path])
    yield f"{shapes}{each}{f' from {names}' if names else ''}", ""


def output_lines(owner: Owner) -> Iterator[str]:
    """Say an output's shape, and in words or in arithmetic where its sizes come from.

    Example:
        >>> dense = Owner(path="d", type="Dense", options=(("units", 5),), output_shapes=((None, 5),))
        >>> list(output_lines(dense))
        ['5; one value for each unit']
    """
    if _is_cell(owner) or not owner.output_shapes:
        return
    shapes = listed([sizes(shape) for shape in owner.output_shapes])
    reasons = [*output_arithmetic(owner), *_axis_words(owner)]
    if reasons:
        yield f"{shapes}; {'; '.join(reasons)}"
    else:
        kept = owner.output_shapes == owner.input_shapes
        passes = owner.status == "no weights" or owner.type.endswith("Normalization")
        yield f"{shapes}, as the input" if kept and passes else shapes


def sizes(shape: Shape) -> str:
    """Write the sizes of one example.

    Example:
        >>> sizes((None, 26, 26, 32)), sizes((None, None, 8)), sizes((None,))
        ('26, 26, 32', 'any, 8', 'a single number')
    """
    known = ["any" if size is None else f"{size:,}" for size in shape[1:]]
    return ", ".join(known) or "a single number"


def _is_cell(owner: Owner) -> bool:
    return owner.type.endswith(("Cell", "Cells"))


def _from(feeder: Owner, shape: Shape, owner: Owner, came: Sources) -> tuple[str, tuple[str, ...]]:
    if not feeder.path:
        return ", as the model is given it", ()
    if owner.path.startswith(f"{feeder.path}/"):
        return f", as '{feeder.path}' is given it", ()
    if feeder.type == "InputLayer":
        return f", the input '{feeder.path}'", ()
    origin, lines = _origin(feeder, shape, came)
    unchanged = "" if origin is feeder else f", unchanged since '{origin.path}'"
    return f" from '{feeder.path}'{unchanged}", lines


def _origin(feeder: Owner, shape: Shape, came: Sources) -> tuple[Owner, tuple[str, ...]]:
    """Go back to the layer that made a shape, through layers which leave it as it is; else stay at the feeder."""
    layer = feeder
    for _ in range(_FARTHEST):
        lines = output_arithmetic(layer)
        before = came.get(layer.path, ())
        if lines:
            return layer, lines
        passes = layer.input_shapes == layer.output_shapes == (shape,) and len(before) == 1
        if not passes or layer.path.startswith(before[0].path) or before[0].type == "InputLayer":
            break
        layer = before[0]
    return feeder, ()


def _axis_words(owner: Owner) -> Iterator[str]:
    """Say what the last axis of an output counts, or what became of the axes of the input."""
    for start, say in _AXES.items():
        if owner.type.startswith(start):
            yield from say(owner)
            return


def _channels(owner: Owner) -> Iterator[str]:
    if owner.option("filters") is not None:
        yield "one channel for each filter"


def _depthwise(owner: Owner) -> Iterator[str]:
    several, after = owner.option("depth_multiplier", 1), owner.output_shapes[0]
    first = owner.option("data_format") == "channels_first"
    channels = after[1 if first else -1]
    if channels is not None and channels % several == 0:
        yield f"channels: {channels // several:,}·{several:,} = {channels:,}"


def _units(owner: Owner) -> Iterator[str]:
    if owner.option("units") is not None:
        yield "one value for each unit"


def _row(_: Owner) -> Iterator[str]:
    yield "a row of the table for each token"


def _steps(owner: Owner) -> Iterator[str]:
    if owner.option("return_sequences") is not None and len(owner.output_shapes) == 1:
        steps = (
            "the output of every step" if owner.option("return_sequences") else "the output of the last step"
        )
        yield steps


def _pooled(owner: Owner) -> Iterator[str]:
    yield "one value for each channel"


def _arranged(owner: Owner) -> Iterator[str]:
    after = owner.output_shapes[0][1:]
    known = [size for size in after if size is not None]
    if len(known) == len(after) > 1:
        product = 1
        for size in known:
            product *= size
        yield f"{'·'.join(f'{size:,}' for size in known)} = {product:,} values, as in the input"


def _exchanged(owner: Owner) -> Iterator[str]:
    dims = cast("tuple[Any, ...]", owner.option("dims", ()))
    if dims:
        yield f"axes {listed([str(axis) for axis in dims])} of the input"


def _repeated(owner: Owner) -> Iterator[str]:
    if owner.option("n") is not None:
        yield f"the same values {plural(owner.option('n'), 'time')}"


_AXES: dict[str, Callable[[Owner], Iterator[str]]] = {
    "Depthwise": _depthwise,
    "Conv": _channels,
    "Separable": _channels,
    "Dense": _units,
    "Embedding": _row,
    "LSTM": _steps,
    "GRU": _steps,
    "SimpleRNN": _steps,
    "Global": _pooled,
    "Reshape": _arranged,
    "Permute": _exchanged,
    "RepeatVector": _repeated,
}
