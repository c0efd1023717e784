"""However layers, models and weights are shared, everything is counted once and the rows add up."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tally
from tally import layers
from tally.models.ledger import account
from tally.report import summarise
from tally.report.document import Table

WIDTH = 3


def inner_model() -> tally.Model:
    inputs = tally.Input((WIDTH,))
    hidden = layers.Dense(WIDTH)
    return tally.Model(inputs, hidden(hidden(inputs)))


def parts() -> list[Any]:
    """Layers and models that take and give vectors of one width, one of them nested twice deep."""
    nested = inner_model()
    outer = tally.Sequential([tally.Input((WIDTH,)), nested, layers.BatchNormalization()])
    return [layers.Dense(WIDTH), layers.Dense(WIDTH, use_bias=False), nested, outer, layers.Dropout(0.5)]


@st.composite
def models(draw: st.DrawFn) -> tally.Model:
    """A graph in which each part may be used never, once or often, and weights may be tied."""
    pool = parts()
    tensors = [tally.Input((WIDTH,))]
    for _ in range(draw(st.integers(1, 6))):
        one = draw(st.sampled_from(pool))
        fed = draw(st.sampled_from(tensors))
        tensors.append(one(fed))
        if draw(st.booleans()):
            tensors.append(layers.Add()([tensors[-1], draw(st.sampled_from(tensors))]))
    model = tally.Model(tensors[0], tensors[-1])
    if draw(st.booleans()) and pool[0].built and pool[1].built:
        pool[1].kernel = pool[0].kernel
    if draw(st.booleans()):
        model.temperature = tally.Variable(1.0, name="temperature")
    for one in pool[:4]:
        if draw(st.booleans()):
            one.trainable = False
    return model


def rows_sum(ledger: Any, **options: Any) -> int:
    table = next(part for part in summarise(ledger, **options).parts if isinstance(part, Table))
    place = [column.title for column in table.columns].index("Param #")
    attached = place + 1 < len(table.columns) and table.columns[place + 1].attached
    counted = [row for row in table.rows if not (attached and row[place + 1].startswith(", counted at"))]
    return sum(int(row[place].replace(",", "")) for row in counted)


@settings(max_examples=40, deadline=None)
@given(models())
def test_the_total_and_the_rows_count_each_weight_once(model: tally.Model) -> None:
    ledger = account(model)
    assert ledger.total == sum(weight.count for weight in model.weights)
    assert ledger.trainable == sum(weight.count for weight in model.trainable_weights)
    assert ledger.seeds == sum(v.count for v in model.variables if v.is_seed)
    for expand in (False, True):
        assert rows_sum(ledger, expand_nested=expand) == ledger.total
    assert tally.accounting.Ledger.from_json(ledger.to_json()) == ledger


@pytest.mark.parametrize("expand", [False, True])
def test_a_model_used_twice_counts_once(expand: bool) -> None:
    tower = inner_model()
    left, right = tally.Input((WIDTH,)), tally.Input((WIDTH,))
    model = tally.Model([left, right], layers.Concatenate()([tower(left), tower(right)]))
    ledger = account(model)
    assert ledger.total == rows_sum(ledger, expand_nested=expand) == WIDTH * (WIDTH + 1)


def test_a_weight_of_the_model_itself_has_a_row() -> None:
    inputs = tally.Input((WIDTH,))
    model = tally.Model(inputs, layers.Dense(2)(inputs), name="own")
    model.temperature = tally.Variable(1.0, name="temperature")
    ledger = account(model)
    assert [entry.path for entry in ledger.owned_by("")] == ["temperature"]
    assert rows_sum(ledger) == ledger.total == model.count_params() == 2 * (WIDTH + 1) + 1
