"""How many multiply-adds a layer takes, from the sizes in a ledger alone: nothing runs and nothing is traced.

A multiply-add is one product that enters a sum: of a matrix product or a convolution. Counted is what one does by
hand, for one example: every place of a convolution's output meets the whole kernel, zeros of the padding included;
every place of a transposed convolution's input does. Left out are biases, and whatever goes value by value:
activations, the scales of a normalisation, pooling, interpolation. A FLOP count has those, and two for each
multiply-add.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from tally.accounting.ledger import Entry, Ledger, Owner, Shape

Count = int | None


def multiply_adds(ledger: Ledger, path: str) -> int | None:
    """Count the multiply-adds of one layer for one example, without biases and without the layers inside.

    A layer that is called several times, for each step of a sequence or at several places of a graph, counts as often
    as it is called.

    Args:
        ledger: The model's ledger.
        path: The layer's path.

    Returns:
        What was found by following a call, else the closed form of its type, options and shapes; 0 for what
        multiplies nothing, None where it can't be told: a layer of the user's own, an unknown size.

    Raises:
        KeyError: The ledger has no such layer.

    Example:
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)])
        >>> multiply_adds(tally.account(model), "conv2d")  # 26·26 places × 3·3·1 kernel × 32 filters
        194688
    """
    owner = ledger.owner(path)
    if owner.multiply_adds is not None:
        return owner.multiply_adds
    once, times = _once(ledger, owner), _times(ledger, owner)
    if _FORMS.get(_kind(owner)) is _step and not owner.input_shapes and not _is_held(ledger, path):
        times = None  # a file of weights alone may leave out the layer that runs the cell, and its steps
    if once == 0:
        return 0
    return None if once is None or times is None else once * times


def total_multiply_adds(ledger: Ledger) -> int | None:
    """Add up the multiply-adds of all layers for one example; None if those of one can't be told.

    Example:
        >>> model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5), tally.layers.Dense(2)])
        >>> total_multiply_adds(tally.account(model))
        60
    """
    counts = [multiply_adds(ledger, owner.path) for owner in ledger.owners]
    return None if None in counts else sum(count for count in counts if count is not None)


def output_values(owner: Owner) -> int | None:
    """Count the numbers in a layer's outputs for one example; None where the ledger has no sizes for them.

    Example:
        >>> output_values(Owner(path="c", type="Conv2D", output_shapes=((None, 26, 26, 32),)))
        21632
    """
    sizes = [_values(shape) for shape in owner.output_shapes]
    return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None


def _times(ledger: Ledger, owner: Owner) -> Count:
    """How often a layer runs for one example: once for each step where it stands inside a loop over steps."""
    seen = [re.match(r"Used (\d+) times in the graph", note) for note in owner.notes]
    times: Count = math.prod(int(match[1]) for match in seen if match)
    for holder in _around(ledger, owner.path):
        if times is not None and _kind(holder) in (*_RECURRENT, "timedistributed"):
            steps = _steps(ledger, holder)
            times = None if steps is None else times * steps
    return times


def _around(ledger: Ledger, path: str) -> Iterator[Owner]:
    """The layers that hold the one at a path; a container such as the `blocks` of `blocks/0` is none."""
    while path:
        path = path.rpartition("/")[0]
        with suppress(KeyError):
            yield ledger.owner(path)


def _is_held(ledger: Ledger, path: str) -> bool:
    """Whether a layer that runs once for each step is around the one at a path."""
    return any(_kind(holder) in (*_RECURRENT, "timedistributed") for holder in _around(ledger, path))


def _steps(ledger: Ledger, owner: Owner) -> Count:
    """How long a sequence is: ONNX puts the steps before the examples, unless the layer says otherwise."""
    shape = owner.input_shapes[0] if owner.input_shapes else ()
    first = ledger.source.startswith("ONNX") and not owner.option("layout", 0)
    return shape[0 if first else 1] if len(shape) > 2 else None


def _once(ledger: Ledger, owner: Owner) -> Count:
    """One call's multiply-adds for one example."""
    if not owner.builtin:
        return None
    kind = _kind(owner)
    if owner.module == "tally.ops":
        return _of_op(kind, owner)
    matrices = [entry for entry in ledger.owned_by(owner.path) if _is_matrix(entry)]
    if kind == "attention" and any(e.name == "concat_score_weight" for e in ledger.owned_by(owner.path)):
        kind = "additiveattention"  # its scores are sums, too
    if kind in _FORMS:
        count = _FORMS[kind](owner, [entry for entry in matrices if "lora_" not in entry.name])
        return None if count is None else count + _adapting(matrices)
    if kind in _RECURRENT:
        return _recurrent(_steps(ledger, owner), matrices)
    if kind == "lambda" or (matrices and not _is_free(kind)):
        return None
    return _adapting(matrices)


def _kind(owner: Owner) -> str:
    """The name of a class without its rank, in one spelling: `conv` for Conv2D and Conv1d alike."""
    return re.sub(r"[123]d", "", owner.type.lower())


def _is_matrix(entry: Entry) -> bool:
    states = ("trainable", "frozen", "fixed", "untracked")
    return len(entry.shape) > 1 and entry.state in states and entry.name != "bias"


def _is_free(kind: str) -> bool:
    """Whether a layer with matrices multiplies none of them: it looks rows up or scales value by value."""
    return kind in ("embedding", "prelu") or kind.endswith(("normalization", "norm"))


def _values(shape: Shape) -> Count:
    """The numbers in an array for one example."""
    sizes = shape[1:]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _of_each(shapes: tuple[Shape, ...]) -> Count:
    return _values(shapes[0]) if shapes else None


def _axis(entry: Entry, name: str, otherwise: int) -> int:
    """The size of the axis with a name, or of the one where it stands by custom."""
    return entry.shape[entry.axes.index(name) if name in entry.axes else otherwise]


def _adapting(matrices: list[Entry]) -> int:
    """What the product of two low-rank matrices takes, which is formed once a call."""
    pairs = [entry for entry in matrices if "lora_" in entry.name]
    return math.prod(pairs[0].shape) * pairs[1].shape[-1] if len(pairs) == 2 else 0


def _dense(owner: Owner, kernels: list[Entry]) -> Count:
    """Read off input, output and kernel: each axis of the product is in two of the three."""
    before, after = _of_each(owner.input_shapes), _of_each(owner.output_shapes)
    if before is None or after is None or len(kernels) != 1:
        return None
    kernel = kernels[0]
    if all(axis.startswith(("features ", "units ")) for axis in kernel.axes):
        summed = zip(kernel.axes, kernel.shape, strict=True)
        return after * math.prod(size for axis, size in summed if axis.startswith("features"))
    square = before * after * kernel.size
    root = math.isqrt(square)
    return root if root * root == square else None


def _slid(owner: Owner, kernels: list[Entry]) -> Count:
    """Every place of the output meets every kernel."""
    after = _of_each(owner.output_shapes)
    if after is None or not kernels:
        return None
    last = kernels[-1]
    if _kind(owner).startswith("depthwise"):
        made = last.shape[-1] * last.shape[-2]
    else:
        made = owner.option("filters") or owner.option("out_channels") or _axis(last, "filters", -1)
    return after // made * sum(kernel.size for kernel in kernels)


def _transposed(owner: Owner, kernels: list[Entry]) -> Count:
    """Every place of the input meets the whole kernel."""
    before = _of_each(owner.input_shapes)
    if before is None or len(kernels) != 1:
        return None
    read = owner.option("in_channels") or _axis(kernels[0], "input channels", -1)
    return before // read * kernels[0].size


def _step(owner: Owner, kernels: list[Entry]) -> Count:
    """A cell's matrices for the inputs and for the state, once in a step."""
    del owner
    return sum(kernel.size for kernel in kernels)


def _recurrent(steps: Count, matrices: list[Entry]) -> Count:
    """What a layer that is its own cell multiplies in every step; another's matrices are its cell's.

    What is fixed is the state that the first step starts from.
    """
    return None if steps is None else steps * sum(entry.size for entry in matrices if entry.state != "fixed")


def _heads(owner: Owner, kernels: list[Entry]) -> Count:
    """Every query with every key, and every weight with every value; the projections are layers inside."""
    del kernels
    query, value = _two(owner)
    count = owner.option("num_heads") or owner.option("num_query_heads")
    key_size = owner.option("key_dim") or owner.option("head_dim")
    value_size = owner.option("value_dim") or key_size
    if query is None or value is None or None in (count, key_size):
        return None
    axes: Any = owner.option("attention_axes") or tuple(range(1, len(query) - 1))
    asked = math.prod(value[axis] or 0 for axis in ([axes] if isinstance(axes, int) else axes))
    return math.prod(query[1:-1]) * asked * count * (key_size + value_size)


def _two(owner: Owner) -> tuple[Any, Any]:
    """The sizes of query and value, or of the first two inputs; None where one is open."""
    shapes = (*owner.input_shapes[:2], *owner.input_shapes[:1])[:2]  # one input attends to itself
    known = [shape if None not in shape[1:] else None for shape in shapes]
    return (known[0], known[1]) if len(known) == 2 else (None, None)


def _plain_attention(owner: Owner, kernels: list[Entry]) -> Count:
    """Scores that are products, and the values weighed by them."""
    weighed = _weighed(owner, kernels)
    query, value = _two(owner)
    if weighed is None or query is None or value is None:
        return None
    return weighed + math.prod(query[1:]) * value[-2]


def _weighed(owner: Owner, kernels: list[Entry]) -> Count:
    """The values weighed by scores that are sums."""
    del kernels
    query, value = _two(owner)
    return None if query is None or value is None else math.prod(query[1:-1]) * value[-2] * value[-1]


def _dot(owner: Owner, kernels: list[Entry]) -> Count:
    """The product of two inputs along one axis of each, which the product no longer has."""
    del kernels
    one, other = _two(owner)
    axes: Any = owner.option("axes")
    if one is None or other is None or axes is None:
        return None
    along = axes if isinstance(axes, int) else axes[1]
    return math.prod(one[1:]) * math.prod(other[1:]) // other[along]


def _of_op(kind: str, owner: Owner) -> Count:
    """An op of a graph: most go value by value; a plain product of two matrices is known by its sizes."""
    if kind == "matmul":
        one, after = _two(owner)[0], _of_each(owner.output_shapes)
        return None if one is None or after is None else after * one[-1]
    return None if kind in _MULTIPLYING or (kind.endswith(("conv", "transpose")) and "conv" in kind) else 0


_OPS = """dot einsum tensordot inner outer vdot correlate convolve dotproductattention solve solvetriangular
inv det cholesky qr svd eig eigh lstsq lufactor matrixpower fft fft2 ifft2 rfft irfft stft istft map scan whileloop
forloop cond vectorizedmap associativescan logdet norm pinv"""
_MULTIPLYING = frozenset(_OPS.split())
"""Ops that multiply, or run functions of the user's, in a way their sizes don't tell."""

_FORMS: dict[str, Callable[[Owner, list[Entry]], Count]] = {
    **dict.fromkeys(("dense", "linear", "einsumdense"), _dense),
    **dict.fromkeys(
        ("conv", "convolution", "depthwiseconv", "separableconv", "separableconvolution", "quantconv"), _slid
    ),
    **dict.fromkeys(("convtranspose", "convolutiontranspose", "deconv"), _transposed),
    **dict.fromkeys(("lstmcell", "grucell", "simplernncell", "rnncell"), _step),
    **dict.fromkeys(
        ("multiheadattention", "groupedqueryattention", "groupqueryattention", "multiheadselfattention"),
        _heads,
    ),
    "attention": _plain_attention,
    "additiveattention": _weighed,
    "dot": _dot,
}

_RECURRENT = ("rnn", "lstm", "gru", "simplernn")
INTERPOLATING = ("Resizing", "UpSampling1D", "UpSampling2D", "UpSampling3D", "CenterCrop")
"""Layers whose products with fixed numbers are a way to write an interpolation, and no multiply-adds."""
