"""For any configuration of any layer with weights, every way to its number of parameters leads to the same number."""

import itertools
import math
from typing import Any

import keras
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tally
from accounting.sums import equations, evaluate, substitute
from tally.accounting import Entry, Ledger, Owner, explain
from tally.core.symbol import KerasTensor

Config = tuple[str, dict[str, Any], list[tuple[int, ...]]]
"""The class, its arguments, and the shape of each input without the batch."""

SIZES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def few(examples: int) -> settings:
    """The same few examples in every run; building a layer takes milliseconds, Keras's own some more."""
    slow = [HealthCheck.too_slow]
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=slow
    )


@st.composite
def convolutions(draw: Any, kinds: tuple[str, ...]) -> Config:
    kind = draw(st.sampled_from(kinds))
    rank = int(kind.removesuffix("Transpose")[-2])
    side = st.integers(1, 4)
    transposed, apart = kind.endswith("Transpose"), kind.startswith(("Depthwise", "Separable"))
    # Neither Keras nor this library has both strides and dilation; a separable kernel moves equally on both sides.
    strided = draw(st.booleans())
    uneven = not apart
    step = draw(st.tuples(*(st.integers(1, 3),) * rank)) if uneven else (draw(st.integers(1, 3)),) * rank
    hole = draw(st.tuples(*(st.integers(1, 2),) * rank)) if uneven else (draw(st.integers(1, 2)),) * rank
    options: dict[str, Any] = {
        "kernel_size": draw(st.tuples(*(side,) * rank)),
        "strides": step if strided else 1,
        "dilation_rate": 1 if strided or transposed else hole,
        "padding": draw(st.sampled_from(("valid", "same") + (("causal",) if kind == "Conv1D" else ()))),
        "use_bias": draw(st.booleans()),
    }
    channels = draw(st.integers(1, 6))
    if not transposed and not apart:
        options["groups"] = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    if apart:
        options["depth_multiplier"] = draw(st.integers(1, 3))
    if not kind.startswith("Depthwise"):
        options["filters"] = options.get("groups", 1) * draw(st.integers(1, 4))
    smallest = 1 if transposed else 8
    sizes = tuple(draw(st.integers(smallest, 11)) for _ in range(rank))
    return kind, options, [(*sizes, channels)]


@st.composite
def matrices(draw: Any) -> Config:
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    return "Dense", {"units": draw(st.integers(1, 9)), "use_bias": draw(st.booleans())}, [shape]


@st.composite
def projections(draw: Any) -> Config:
    equation, rank, made, bias = draw(
        st.sampled_from(
            [
                ("ab,bc->ac", 1, 1, "c"),
                ("abc,cd->abd", 2, 1, "d"),
                ("abc,cde->abde", 2, 2, "de"),
                ("abcd,cde->abe", 3, 1, "e"),
                ("...x,xy->...y", 2, 1, "y"),
            ]
        )
    )
    shape = tuple(draw(st.integers(1, 5)) for _ in range(rank))
    sizes = [draw(st.integers(1, 5)) for _ in range(made)]
    kept = {"abcd,cde->abe": rank - 2, "...x,xy->...y": 0}.get(equation, rank - 1)
    output: list[Any] = [None] * kept + sizes
    options = {"equation": equation, "output_shape": tuple(output)}
    return "EinsumDense", {**options, "bias_axes": draw(st.sampled_from((None, bias)))}, [shape]


@st.composite
def tables(draw: Any) -> Config:
    sizes = {"input_dim": draw(st.integers(1, 30)), "output_dim": draw(st.integers(1, 9))}
    return "Embedding", sizes, [(draw(st.integers(1, 5)),)]


@st.composite
def normalisations(draw: Any) -> Config:
    kind = draw(st.sampled_from(("BatchNormalization", "LayerNormalization", "GroupNormalization")))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=4)))
    options: dict[str, Any] = {"scale": draw(st.booleans()), "center": draw(st.booleans())}
    if kind == "GroupNormalization":
        options["groups"] = draw(st.sampled_from([g for g in range(1, shape[-1] + 1) if shape[-1] % g == 0]))
    else:
        options["axis"] = draw(st.integers(1, len(shape)))
    if kind == "LayerNormalization":
        options["axis"] = draw(st.sampled_from(([-1], [options["axis"]], list(range(1, len(shape) + 1)))))
    return kind, options, [shape]


@st.composite
def slopes(draw: Any) -> Config:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    axes = draw(st.sets(st.integers(1, len(shape))))
    return "PReLU", {"shared_axes": sorted(axes) or None}, [shape]


def recurrence(draw: Any) -> tuple[str, dict[str, Any]]:
    kind = draw(st.sampled_from(("SimpleRNN", "LSTM", "GRU")))
    options: dict[str, Any] = {"units": draw(st.integers(1, 6)), "use_bias": draw(st.booleans())}
    options["return_sequences"] = draw(st.booleans())
    if kind == "GRU":
        options["reset_after"] = draw(st.booleans())
    return kind, options


def steps_and_features(draw: Any) -> tuple[int, int]:
    return draw(st.integers(1, 4)), draw(st.integers(1, 6))


@st.composite
def loops(draw: Any) -> Config:
    kind, options = recurrence(draw)
    return kind, options, [steps_and_features(draw)]


@st.composite
def wrapped(draw: Any) -> Config:
    if draw(st.booleans()):
        modes = {"merge_mode": draw(st.sampled_from(("concat", "sum")))}
        return "Bidirectional", {"layer": recurrence(draw), **modes}, [steps_and_features(draw)]
    kind, options, (shape,) = draw(st.one_of(matrices(), convolutions(("Conv1D", "Conv2D"))))
    return "TimeDistributed", {"layer": (kind, options)}, [(3, *shape)]


@st.composite
def attentions(draw: Any) -> Config:
    query, value = steps_and_features(draw), steps_and_features(draw)
    options: dict[str, Any] = {"use_bias": draw(st.booleans())}
    if draw(st.booleans()):
        several = draw(st.integers(1, 3))
        shared = draw(st.integers(1, 2))
        heads = {"num_query_heads": several * shared, "num_key_value_heads": shared}
        return (
            "GroupQueryAttention",
            {**options, **heads, "head_dim": draw(st.integers(1, 5))},
            [query, value],
        )
    sizes = {"num_heads": draw(st.integers(1, 3)), "key_dim": draw(st.integers(1, 5))}
    return (
        "MultiHeadAttention",
        {**options, **sizes, "value_dim": draw(st.sampled_from((None, 2, 5)))},
        [query, value],
    )


PLAIN = ("Conv1D", "Conv2D", "Conv3D")
APART = ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")
BACK = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")


def make(library: Any, kind: str, options: dict[str, Any]) -> Any:
    """The layer in a library; a layer inside it is written as its class and arguments."""
    inner = {name: make(library, *value) for name, value in options.items() if name == "layer"}
    return getattr(library.layers, kind)(**{**options, **inner})


def check(config: Config) -> None:
    """Compare every way to the number of parameters, and the real layer of Keras."""
    kind, options, shapes = config
    layer, whole = make(tally, kind, options), [(None, *shape) for shape in shapes]
    dtype = "int32" if kind == "Embedding" else "float32"
    outputs = layer(*(KerasTensor(shape, dtype) for shape in whole))
    with keras.StatelessScope(initialize_variables=False):  # its weights are counted, not drawn
        peer = make(keras, kind, options)
        peer.build(*whole)
    keras.utils.clear_session(free_memory=False)
    if len(whole) == 1:
        theirs = peer.compute_output_shape(whole[0])
        assert all(size in (None, ours) for ours, size in zip(outputs.shape, theirs, strict=True))
    ledger = tally.account(layer)
    explanation = explain(ledger)
    products = sum(math.prod(entry.shape) for entry in ledger.counted)
    counts = {explanation.total, ledger.total, layer.count_params(), peer.count_params(), products}
    assert len(counts) == 1, counts
    for owner in explanation.owners:
        check_owner(ledger, ledger.owner(owner.path), owner)


def check_arrays(config: Config) -> None:
    """Compare the account with the arrays that are there once the weights are drawn."""
    kind, options, shapes = config
    layer = make(tally, kind, options)
    layer(*(KerasTensor((None, *shape), "int32" if kind == "Embedding" else "float32") for shape in shapes))
    shapes_told = [entry.shape for entry in tally.account(layer).counted]
    assert sorted(shapes_told) == sorted(array.shape for array in layer.get_weights())


def check_owner(ledger: Ledger, owner: Owner, explained: Any) -> None:
    """A layer's formula in numbers, the same in symbols, its products, and the arithmetic of its shapes."""
    if explained.formula is not None:
        numbers = explained.formula.numbers.partition(" = ")[0]
        assert evaluate(numbers) == explained.formula.value == explained.count
        written = substitute(explained.formula.symbols, meanings(ledger, owner))
        assert evaluate(written) == explained.count, explained.formula.symbols
    else:
        assert explained.count == 0
    for weight in explained.weights:
        factors, _, size = weight.product.rpartition(" = ")
        assert product_of(factors) == product_of(size) == ledger_size(ledger, weight.path)
    real = {size for shape in owner.output_shapes for size in shape[1:]}
    known = {math.prod(filter(None, shape[1:])) for shape in owner.output_shapes} | real
    for remark in explained.remarks:
        if remark.kind == "output":
            for value, size in equations(remark.text):
                assert value == size
                assert size in known


def meanings(ledger: Ledger, owner: Owner) -> dict[str, int]:
    """What each name in a formula stands for, read from the weights and options, not from the formula."""
    found: dict[str, int] = {"groups": owner.option("groups", 1)}
    for child in ledger.children(owner.path):
        found[child.path.removeprefix(f"{owner.path}/")] = total(ledger, child.path)
        found[child.type] = total(ledger, child.path)
    for entry in ledger.under(owner.path):
        if entry.state == "seed":
            continue
        for axis, size in zip(entry.axes, entry.shape, strict=True):
            found.update(axis_sizes(entry, axis, size, owner.option("groups", 1)))
    return found


def axis_sizes(entry: Entry, axis: str, size: int, groups: int) -> dict[str, int]:
    if axis.startswith("kernel ") and "depthwise channels" in entry.axes:
        return {}  # the point that mixes channels is no side of the kernel
    if axis.endswith(" per group"):
        return {axis.removesuffix(" per group"): size * groups}
    times, _, rest = axis.partition(" gates·")
    return {rest: size // int(times)} if rest else {axis: size, f"{axis} of {entry.name}": size}


def total(ledger: Ledger, path: str) -> int:
    return sum(entry.count for entry in ledger.under(path) if entry.state in ("trainable", "frozen", "state"))


def product_of(text: str) -> int:
    return math.prod(int(part.split()[0].replace(",", "")) for part in text.split(" × "))


def ledger_size(ledger: Ledger, path: str) -> int:
    return next(entry.size for entry in ledger.entries if entry.path == path)


FAMILIES = {
    "Dense": matrices(),
    "EinsumDense": projections(),
    **{kind: convolutions((kind,)) for kind in (*PLAIN, *APART, *BACK)},
    "Embedding": tables(),
    "normalisation": normalisations(),
    "PReLU": slopes(),
    "recurrence": loops(),
    "wrapper": wrapped(),
    "attention": attentions(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_ways_to_a_number_of_parameters_agree(family: str) -> None:
    few(30)(given(FAMILIES[family])(check))()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_arrays_that_are_drawn_have_the_sizes_that_are_told(family: str) -> None:
    few(2)(given(FAMILIES[family])(check_arrays))()


def test_a_formula_that_prints_wrong_is_found() -> None:
    """The checks above fail on a formula with a wrong name, a wrong number or a wrong total."""
    layer = tally.layers.Conv2D(4, 3, groups=2)
    layer(tally.Input((8, 8, 6)))
    ledger = tally.account(layer)
    names = meanings(ledger, ledger.owner(""))
    right = explain(ledger)[""].formula
    assert evaluate(substitute(right.symbols, names)) == 4 * (9 * 3 + 1)
    assert evaluate(substitute(right.symbols.replace(" / groups", ""), names)) != right.value
    with pytest.raises((KeyError, SyntaxError, ValueError)):
        evaluate(substitute(right.symbols.replace("filters", "units"), names))


@pytest.mark.parametrize("kind", [*PLAIN, *BACK, "MaxPooling1D", "MaxPooling2D", "AveragePooling3D"])
def test_the_size_of_an_output_is_written_as_an_equation(kind: str) -> None:
    rank = int(kind.removesuffix("Transpose")[-2])
    options = {"pool_size": 3} if "Pooling" in kind else {"filters": 2, "kernel_size": 3}
    for padding, strides in itertools.product(("valid", "same"), (1, 2, 3)):
        layer = getattr(tally.layers, kind)(**options, strides=strides, padding=padding)
        layer(tally.Input((*(9, 8, 7)[:rank], 2)))
        owner = tally.account(layer).owners[0]
        (text,) = [
            remark.text for remark in explain(tally.account(layer))[""].remarks if remark.kind == "output"
        ]
        found = list(equations(text))
        assert all(value == size for value, size in found)
        if not (kind.endswith("Transpose") and padding == "same" and strides == 1):
            assert {size for _, size in found} == set(owner.output_shapes[0][1:-1])
