"""Every layer of the library is accounted for and explained: each row of the layer table, and what has no row."""

import functools
import math
import re

import numpy as np
import pytest

import tally
from accounting.sums import equations, evaluate
from layers.cases import Case, collect
from tally.accounting import Explanation, Ledger, explain
from tally.models.ledger import account
from tally.report import draw, render

SEQUENCE = (2, 5, 3)
MORE = [
    Case("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "value_dim": 3}, [SEQUENCE, SEQUENCE]),
    Case(
        "GroupQueryAttention",
        {"head_dim": 4, "num_query_heads": 4, "num_key_value_heads": 2},
        [SEQUENCE, SEQUENCE],
    ),
    Case("Dense", {"units": 4, "lora_rank": 2}, (2, 3), "adapted"),
    Case("Embedding", {"input_dim": 6, "output_dim": 4, "lora_rank": 2}, (2, 3), "adapted", integers=6),
    Case("Conv2D", {"filters": 4, "kernel_size": 2, "lora_rank": 2}, (2, 4, 4, 3), "adapted"),
    Case("Conv1D", {"filters": 1, "kernel_size": 1}, (2, 4, 1), "one of each"),
    Case("Normalization", {}, (2, 3), "from data"),
    Case("Lambda", {"function": tally.ops.relu}, (2, 3)),
]
each_case = pytest.mark.parametrize(
    "case", collect() + MORE, ids=lambda case: "-".join(filter(None, (case.name, case.note)))
)


@functools.cache
def explained(case: Case) -> tuple[tally.layers.Layer, Ledger, Explanation]:
    layer = case.make(tally)
    inputs = case.symbols(tally)
    if case.name.endswith("QueryAttention") or case.name == "MultiHeadAttention":
        layer(*inputs)
    else:
        layer(inputs, **case.keywords)
    ledger = account(layer)
    return layer, ledger, explain(ledger)


@each_case
def test_the_total_is_the_number_of_scalars_the_weights_hold(case: Case) -> None:
    layer, ledger, explanation = explained(case)
    held = sum(np.size(weight) for weight in layer.get_weights())
    assert ledger.total == explanation.total == held
    assert ledger.trainable == sum(variable.count for variable in layer.trainable_variables)


@each_case
def test_every_formula_and_every_product_comes_to_its_count(case: Case) -> None:
    _, ledger, explanation = explained(case)
    for owner in explanation.owners:
        if owner.formula is not None:
            assert evaluate(owner.formula.numbers.partition(" = ")[0]) == owner.formula.value == owner.count
        else:
            assert owner.count == 0
        for weight, entry in zip(owner.weights, _weights(ledger, owner.path), strict=True):
            factors, _, size = weight.product.rpartition(" = ")
            numbers = re.findall(r"(?:^|× )([\d,]+)", factors)
            assert math.prod(int(number.replace(",", "")) for number in numbers) == entry.size
            assert int(size.replace(",", "")) == entry.size


@each_case
def test_every_axis_of_every_weight_has_a_name(case: Case) -> None:
    _, ledger, _ = explained(case)
    for entry in ledger.entries:
        if entry.state != "seed":
            assert all(entry.axes), f"{entry.path} has axes {entry.axes}"


@each_case
def test_a_layer_without_weights_says_what_it_does_instead(case: Case) -> None:
    _, ledger, explanation = explained(case)
    for owner in explanation.owners:
        if ledger.owner(owner.path).status == "no weights":
            (reason,) = [remark.text for remark in owner.remarks if remark.kind == "none"]
            assert "add_weight" not in reason, "that sentence is for layers nobody described"


@each_case
def test_a_layer_with_weights_says_why_they_are_as_many(case: Case) -> None:
    _, ledger, explanation = explained(case)
    for owner in explanation.owners:
        if _weights(ledger, owner.path):
            assert any(remark.kind in ("weights", "absent", "inside") for remark in owner.remarks), owner.type


@each_case
def test_the_arithmetic_of_an_output_gives_its_real_size(case: Case) -> None:
    _, ledger, explanation = explained(case)
    for owner in explanation.owners:
        shapes = [shape[1:] for shape in ledger.owner(owner.path).output_shapes]
        real = {size for shape in shapes for size in shape} | {
            math.prod(filter(None, shape)) for shape in shapes
        }
        for remark in owner.remarks:
            for value, written in equations(remark.text) if remark.kind == "output" else ():
                assert value == written
                assert written in real


@each_case
def test_a_layer_without_weights_says_what_is_fixed_instead(case: Case) -> None:
    _, ledger, explanation = explained(case)
    for owner in explanation.owners:
        if ledger.owner(owner.path).status == "no weights":
            assert any(remark.kind == "constant" for remark in owner.remarks), owner.type


@each_case
def test_an_explanation_reads_as_english(case: Case) -> None:
    _, _, explanation = explained(case)
    text = " ".join(render(draw(explanation), 120).split())
    for slip in (r"(?<![×·] )(?<![×·])\b1 (?!bias\b)\w+s\b", r"\ba [aeio]", r"\bNone\b", r"\.\.", r" ,"):
        assert re.search(slip, text) is None, f"{slip} in {text}"


def _weights(ledger: Ledger, path: str) -> list:
    return [entry for entry in ledger.owned_by(path) if entry.state not in ("seed", "optimizer")]
