"""The shape that a layer of Keras's gives, where that takes no more than arithmetic on what its configuration says."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

Shape: TypeAlias = tuple[int | None, ...]
Options: TypeAlias = Mapping[str, Any]
_Size: TypeAlias = int | None

_KEEPS = re.compile(
    r"Activation|\w*ReLU|ELU|Softmax|\w*Dropout\w*|\w*Normalization|Gaussian\w+|Identity|Rescaling|Masking|"
    r"Random(Flip|Rotation|Zoom|Translation|Contrast|Brightness|Hue|Saturation|Sharpness|Shear)"
)


def keeps_shape(kind: str) -> bool:
    """Tell whether a layer's output has the shape of its input.

    Example:
        >>> keeps_shape("BatchNormalization"), keeps_shape("Dense")
        (True, False)
    """
    return _KEEPS.fullmatch(kind) is not None


def output_of(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    """Return the shape of a layer's output; None where it doesn't follow from the options and the inputs.

    Args:
        kind: The class.
        options: What it was made with.
        given: The shape of each input, the batch first.

    Example:
        >>> output_of("Dense", {"units": 5}, [(None, 3, 10)])
        (None, 3, 5)
        >>> output_of("Conv2D", {"filters": 8, "kernel_size": (3, 3), "strides": (2, 2)}, [(None, 28, 28, 1)])
        (None, 13, 13, 8)
    """
    rule = next((rule for pattern, rule in _RULES if re.fullmatch(pattern, kind)), None)
    if rule is None or not given:
        return None
    try:
        made = rule(kind, options, given)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError, ZeroDivisionError):
        return None  # options of no layer of this class
    fits = all(size is None or (type(size) is int and 0 <= size < 2**62) for size in made or ())
    return made if fits else None


def _same(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    return given[0] if len(given) == 1 else None


def _dense(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    return (*given[0][:-1], options["units"])


def _einsum(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    """What the letters of the equation say, where it names them all."""
    inputs, outputs = re.split(",.*->", options["equation"])
    said = options["output_shape"]
    after: tuple[int, ...] = (said,) if isinstance(said, int) else said
    if "." in inputs or len(inputs) != len(given[0]) or len(outputs) != len(after) + 1:
        return None
    return (given[0][0], *after)


def _embedding(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    return (*given[0], options["output_dim"])


def _flatten(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    sizes = [size for size in given[0][1:] if size is not None]
    return (given[0][0], math.prod(sizes)) if len(sizes) == len(given[0]) - 1 else None


def _reshape(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    """To the target, in which one size of -1 takes what is left."""
    target: tuple[int, ...] = options["target_shape"]
    held = _flatten(kind, options, given)
    if -1 not in target:
        return (given[0][0], *target)
    if held is None or held[1] is None:
        return None
    rest = held[1] // math.prod(size for size in target if size != -1)
    return (given[0][0], *(rest if size == -1 else size for size in target))


def _permute(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    order: tuple[int, ...] = options["dims"]
    return (given[0][0], *(given[0][place] for place in order))


def _repeat(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    return (given[0][0], options["n"], *given[0][1:])


def _recurrent(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    if options.get("return_state"):
        return None
    steps = given[0][1:2] if options.get("return_sequences") else ()
    return (given[0][0], *steps, options["units"])


def _attention(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    return None if options.get("output_shape") else given[0]


def _merge(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    return given[0] if len(set(given)) == 1 else None


def _concatenate(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    axis: int = options.get("axis", -1) % len(given[0])
    sizes = [shape[axis] for shape in given]
    known = [size for size in sizes if size is not None]
    whole = sum(known) if len(known) == len(sizes) else None
    return (*given[0][:axis], whole, *given[0][axis + 1 :])


def _resized(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    return _around(options, given[0], [options["height"], options["width"]], None)


# -- what has a height and a width -----------------------------------------------------------------------------------
def _sides(options: Options, given: Shape) -> list[_Size]:
    """The sizes between the batch and the channels."""
    return list(given[2:] if _is_first(options) else given[1:-1])


def _is_first(options: Options) -> bool:
    return options.get("data_format") == "channels_first"


def _around(options: Options, given: Shape, sides: Sequence[_Size], channels: _Size) -> Shape:
    """A shape of other sides, and of as many channels unless others are given."""
    many = channels if channels is not None else given[1 if _is_first(options) else -1]
    return (given[0], many, *sides) if _is_first(options) else (given[0], *sides, many)


def _each(options: Options, name: str, rank: int, default: Any = 1) -> list[Any]:
    """An option for each side; one number is for all."""
    value = options.get(name)
    value = default if value is None else value
    return [value] * rank if isinstance(value, int) else list(cast("Sequence[Any]", value))


def _slid(options: Options, sides: Sequence[_Size], window: Sequence[int]) -> Iterator[_Size]:
    """How many places a window has along each side."""
    rank, padding = len(sides), options.get("padding", "valid")
    steps, gaps = _each(options, "strides", rank), _each(options, "dilation_rate", rank)
    for side, size, step, gap in zip(sides, window, steps, gaps, strict=True):
        if side is None:
            yield None
        elif padding == "valid":
            yield (side - (gap * (size - 1) + 1)) // step + 1
        else:
            yield -(-side // step)


def _convolution(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    sides = _sides(options, given[0])
    made = list(_slid(options, sides, _each(options, "kernel_size", len(sides))))
    channels = options.get("filters")
    if kind.startswith("Depthwise"):
        channels = (given[0][1 if _is_first(options) else -1] or 0) * options.get("depth_multiplier", 1)
    return _around(options, given[0], made, channels)


def _transposed(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    sides = _sides(options, given[0])
    if options.get("output_padding") is not None or max(_each(options, "dilation_rate", len(sides))) > 1:
        return None
    window, steps = _each(options, "kernel_size", len(sides)), _each(options, "strides", len(sides))
    more = 1 if options.get("padding", "valid") == "valid" else 0
    made = [
        None if side is None else side * step + more * max(size - step, 0)
        for side, size, step in zip(sides, window, steps, strict=True)
    ]
    return _around(options, given[0], made, options["filters"])


def _pooling(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    sides = _sides(options, given[0])
    window = _each(options, "pool_size", len(sides), 2)
    slid = {**options, "strides": options.get("strides") or tuple(window), "dilation_rate": 1}
    return _around(options, given[0], list(_slid(slid, sides, window)), None)


def _global(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    flat = _around(options, given[0], [1] * len(_sides(options, given[0])), None)
    return flat if options.get("keepdims") else tuple(flat[:2] if _is_first(options) else (flat[0], flat[-1]))


def _grown(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    sides = _sides(options, given[0])
    times = _each(options, "size", len(sides), 2)
    made = [None if side is None else side * by for side, by in zip(sides, times, strict=True)]
    return _around(options, given[0], made, None)


def _edged(kind: str, options: Options, given: Sequence[Shape]) -> Shape | None:
    """With rows added or taken away before and after, as many as a pair says for each side."""
    sides, sign = _sides(options, given[0]), -1 if kind.startswith("Cropping") else 1
    edges = _each(options, "cropping" if sign < 0 else "padding", len(sides))
    if len(sides) == 1 and len(edges) == 2:
        edges = [tuple(edges)]
    both = [2 * edge if isinstance(edge, int) else sum(edge) for edge in edges]
    made = [None if side is None else side + sign * edge for side, edge in zip(sides, both, strict=True)]
    return _around(options, given[0], made, None)


_Rule: TypeAlias = Callable[[str, Options, Sequence[Shape]], Shape | None]
_RULES: tuple[tuple[str, _Rule], ...] = (
    (_KEEPS.pattern, _same),
    ("Dense", _dense),
    ("EinsumDense", _einsum),
    ("(Reversible)?Embedding", _embedding),
    ("Flatten", _flatten),
    ("Reshape", _reshape),
    ("Permute", _permute),
    ("RepeatVector", _repeat),
    ("LSTM|GRU|SimpleRNN", _recurrent),
    ("MultiHeadAttention|Group(ed)?QueryAttention", _attention),
    ("Add|Subtract|Multiply|Average|Maximum|Minimum", _merge),
    ("Concatenate", _concatenate),
    ("Resizing|CenterCrop|RandomCrop", _resized),
    ("(Depthwise|Separable)?Conv[123]D", _convolution),
    ("Conv[123]DTranspose", _transposed),
    ("(Max|Average)Pooling[123]D", _pooling),
    ("Global(Max|Average)Pooling[123]D", _global),
    ("UpSampling[123]D", _grown),
    ("(Cropping|ZeroPadding)[123]D", _edged),
)
"""How each class makes its output, the first that fits."""
