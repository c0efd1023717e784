"""For any small model, what is true verifies and a number that is off never does."""

from hypothesis import given, settings
from hypothesis import strategies as st

import tally as keras
from tally import layers
from tally.accounting import Ledger
from tally.accounting.marking.asking import Quantity, locate
from tally.accounting.marking.quantities import Quantities
from tally.accounting.verify import verify

SIZES = st.integers(1, 5)


@st.composite
def images(draw) -> list[keras.Layer]:
    made: list[keras.Layer] = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["conv", "depthwise", "separable", "pool", "norm", "dropout"]))
        if kind == "conv":
            bias, same = draw(st.booleans()), draw(st.sampled_from(["same", "valid"]))
            made.append(layers.Conv2D(draw(SIZES), draw(st.integers(1, 2)), padding=same, use_bias=bias))
        elif kind == "depthwise":
            made.append(layers.DepthwiseConv2D(2, depth_multiplier=draw(SIZES), padding="same"))
        elif kind == "separable":
            made.append(layers.SeparableConv2D(draw(SIZES), 2, padding="same"))
        elif kind == "pool":
            made.append(layers.MaxPooling2D(2, padding="same"))
        else:
            made.append(layers.BatchNormalization() if kind == "norm" else layers.Dropout(0.5))
    return made


@st.composite
def ledgers(draw) -> Ledger:
    """The account of a random stack: images through some layers, then a vector through some more."""
    sides = st.integers(5, 9)  # three layers leave one place at least
    stack: list[keras.Layer] = [keras.Input((draw(sides), draw(sides), draw(SIZES)))]
    stack += [*draw(images()), layers.Flatten()]
    stack += [layers.Dense(draw(SIZES), use_bias=draw(st.booleans())) for _ in range(draw(st.integers(0, 2)))]
    model = keras.Sequential(stack)
    for layer in model.layers:
        layer.trainable = draw(st.booleans())
    return keras.account(model)


def names(ledger: Ledger) -> list[str]:
    """Everything that can be asked of a ledger."""
    kinds = ("trainable", "non_trainable", "bytes", "weights", "without_biases", "macs", "input", "output")
    asked = ["total", "trainable", "frozen", "state", "bytes", "layers", "macs"]
    for owner in ledger.children():
        asked += [owner.path, *(f"{owner.path}.{kind}" for kind in kinds)]
        asked += [f"{owner.path}.{entry.name}" for entry in ledger.owned_by(owner.path)]
    return asked


@settings(max_examples=10, deadline=None)
@given(ledgers(), st.data())
def test_the_true_number_verifies_and_no_other_does(ledger: Ledger, data) -> None:
    known = Quantities(ledger)
    for name in names(ledger):
        fact = known.fact(locate(ledger, name))
        assert fact.number is not None
        off = data.draw(st.sampled_from([1, -1, 7, fact.number, 3 * fact.number, 1000]))
        wrong = fact.number + off if fact.number + off != fact.number else fact.number + 1
        right, not_right = verify(ledger, {name: fact.number}, {name: wrong}).verdicts
        assert right.right
        assert not_right.right is False
        assert all(f"{wrong:,}" in one or "All is right" in one for one in not_right.explanations)


@settings(max_examples=10, deadline=None)
@given(ledgers(), st.data())
def test_the_true_shape_verifies_and_no_other_does(ledger: Ledger, data) -> None:
    known = Quantities(ledger)
    for name in names(ledger):
        fact = known.fact(locate(ledger, name))
        if not fact.sizes:
            continue
        place = data.draw(st.integers(0, len(fact.sizes) - 1))
        size = fact.sizes[place]
        wrong = (*fact.sizes[:place], (size or 1) + data.draw(SIZES), *fact.sizes[place + 1 :])
        verdicts = verify(ledger, {name: fact.sizes}, {name: wrong}, {name: (*fact.sizes, 1)}).verdicts
        assert [verdict.right for verdict in verdicts] == [True, False, False]


@settings(max_examples=10, deadline=None)
@given(ledgers())
def test_the_formula_of_a_count_is_a_right_statement(ledger: Ledger) -> None:
    known = Quantities(ledger)
    for owner in ledger.children():
        formula = known.fact(Quantity(owner.path, "parameters")).numbers
        if formula:
            assert verify(ledger, f"{owner.path}={formula}")


@settings(max_examples=8, deadline=None)
@given(ledgers())
def test_what_is_said_of_a_stored_ledger_is_what_is_said_of_the_model(ledger: Ledger) -> None:
    statements = [f"{name}=12345" for name in names(ledger)]
    assert verify(ledger, statements) == verify(Ledger.from_json(ledger.to_json()), statements)
