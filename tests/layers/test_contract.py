"""What every layer promises, checked against Keras's layer of the same name for each row of `rows_*.py`."""

import json
from typing import Any

import jax
import keras
import numpy as np
import pytest

import tally
from layers.cases import Case, assert_close, collect

CASES = collect()
each_case = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "-".join(filter(None, (case.name, case.note)))
)


def _shapes(structure: Any) -> list[tuple[int | None, ...]]:
    return [tuple(leaf.shape) for leaf in jax.tree.leaves(structure)]


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(config))


@each_case
def test_output_gradients_state_and_loss_equal_keras(case: Case) -> None:
    for training in case.phases:
        ours, theirs = case.run(training)
        for part in ours:
            assert_close(ours[part], theirs[part], case.tolerance)


@each_case
def test_jit_equals_eager(case: Case) -> None:
    layer, _ = case.layers
    assert_close(
        layer(case.nest(case.arrays), **case.keywords), case.run(False)[0]["outputs"], case.tolerance
    )


@each_case
def test_predicted_shape_is_the_real_one_and_that_of_keras(case: Case) -> None:
    layer, peer = case.layers
    predicted = _shapes(layer(case.symbols(tally), **case.keywords))
    real = _shapes(case.run(False)[0]["outputs"])
    theirs = _shapes(peer.compute_output_spec(case.symbols(keras), **case.keywords))
    for mine, true, other in zip(predicted, real, theirs, strict=True):
        assert mine[0] is None
        assert mine[1:] == true[1:]
        assert len(other) == len(mine)
        assert all(size in (None, known) for size, known in zip(other, mine, strict=True))


@each_case
def test_weights_come_with_the_first_call_and_are_those_of_keras(case: Case) -> None:
    layer, peer = case.layers
    fresh = case.make(tally)
    assert fresh.weights == []
    fresh(case.symbols(tally), **case.keywords)
    assert all(variable.is_planned for variable in fresh.weights)
    for mine in (fresh, layer):
        assert [(v.name, v.shape) for v in mine.weights] == [(v.name, tuple(v.shape)) for v in peer.weights]
        assert [v.trainable for v in mine.weights] == [v.trainable for v in peer.weights]


@each_case
def test_total_is_the_number_of_scalars_held_and_that_of_keras(case: Case) -> None:
    layer, peer = case.layers
    total = sum(variable.count for variable in layer.weights)
    assert total == sum(np.size(value) for value in layer.get_weights())
    assert total == layer.count_params() == peer.count_params()


@each_case
def test_config_makes_an_equal_layer(case: Case) -> None:
    layer, _ = case.layers
    config = layer.get_config()
    copy = type(layer).from_config(_plain(config))
    assert _plain(copy.get_config()) == _plain(config)
    copy(case.nest(case.arrays), **case.keywords)
    copy.set_weights(layer.get_weights())
    inputs = case.nest(case.arrays)
    assert_close(copy(inputs, **case.keywords), layer(inputs, **case.keywords), case.tolerance)


@each_case
def test_keras_reads_the_config_and_its_config_is_read(case: Case) -> None:
    layer, peer = case.layers
    wanted = _plain(peer.get_config())
    assert _plain(type(peer).from_config(_plain(layer.get_config())).get_config()) == wanted
    read = type(layer).from_config(wanted)
    assert _plain(type(peer).from_config(_plain(read.get_config())).get_config()) == wanted


@each_case
def test_mixed_precision_computes_as_keras_and_stores_float32(case: Case) -> None:
    dtypes = []
    for library in (tally, keras):
        layer = case.make(library, dtype="mixed_bfloat16")
        outputs = layer(case.symbols(library), **case.keywords)
        dtypes.append([leaf.dtype for leaf in jax.tree.leaves(outputs)])
        assert {str(variable.dtype) for variable in layer.weights} <= {"float32"}
    assert dtypes[0] == dtypes[1]
