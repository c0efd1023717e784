"""Stacks of layers: growing, shrinking, and building when the first shape comes."""

import numpy as np
import pytest

import tally
from models.cases import numbers
from tally import layers
from tally.core.errors import ArgumentError, UnbuiltError

X = numbers(2, 4)


def test_layers_can_be_added_and_taken_after_a_call() -> None:
    model = tally.Sequential([layers.Dense(3), layers.Dense(2)])
    kept = model(X)
    model.add(layers.Dense(1))
    assert (model(X).shape, len(model.weights)) == ((2, 1), 6)
    model.pop()
    np.testing.assert_array_equal(model(X), kept)
    model.pop()
    model.pop()
    assert model.layers == []
    assert not model.built


def test_a_model_emptied_to_its_input_can_grow_again() -> None:
    model = tally.Sequential([tally.Input((4,)), layers.Dense(3)])
    model.pop()
    assert not model.built
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize("first", [{"input_shape": (4,)}, {"input_dim": 4}, {"batch_input_shape": (None, 4)}])
def test_the_first_layer_may_say_the_shape_as_older_code_does(first: dict) -> None:
    model = tally.Sequential([layers.Dense(3, **first), layers.Dense(2)])
    assert (model.input_shape, model.count_params()) == ((None, 4), 23)


def test_a_batch_size_is_kept() -> None:
    model = tally.Sequential([tally.Input((4,), batch_size=2), layers.Dense(3)])
    assert (model.input_shape, model.output_shape) == ((2, 4), (2, 3))


def test_weights_are_planned_when_the_shape_comes() -> None:
    by_call, by_shape = (tally.Sequential([layers.Dense(3), layers.Dense(2)]) for _ in range(2))
    assert by_call.weights == []
    by_call(X)
    by_shape.build((None, 4))
    assert (
        [v.shape for v in by_call.weights]
        == [v.shape for v in by_shape.weights]
        == [(4, 3), (3,), (3, 2), (2,)]
    )
    assert by_shape.input_shape == by_call.input_shape == (None, 4)


def test_a_function_becomes_a_layer_and_a_class_is_refused() -> None:
    model = tally.Sequential([tally.Input((4,)), lambda x: 2 * x])
    np.testing.assert_array_equal(model(X), 2 * X)
    with pytest.raises(ArgumentError) as caught:
        tally.Sequential([layers.Dense], name="stack")
    assert (
        str(caught.value).splitlines()[0] == "A Sequential model holds layers, but was given the class Dense."
    )


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'stack' already has a layer named 'same'"):
        tally.Sequential([layers.Dense(1, name="same"), layers.Dense(1, name="same")], name="stack")


def test_an_input_comes_first_and_once() -> None:
    with pytest.raises(ArgumentError, match="has an Input already"):
        tally.Sequential([tally.Input((4,)), tally.Input((4,))])
    with pytest.raises(ArgumentError, match="already has layers, so an Input comes too late"):
        tally.Sequential([layers.Dense(1), tally.Input((4,))])


def test_nothing_is_counted_before_there_is_a_shape() -> None:
    with pytest.raises(UnbuiltError, match="has not seen an input shape"):
        tally.Sequential([layers.Dense(1)]).count_params()
    with pytest.raises(UnbuiltError, match="has no layers to build"):
        tally.Sequential()(X)


def test_a_layer_that_does_not_fit_leaves_the_stack_as_it_was() -> None:
    model = tally.Sequential([tally.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="dimensions"):
        model.add(layers.Conv2D(2, 3))
    assert (model.output_shape, len(model.layers)) == ((None, 3), 1)


def test_a_stack_without_an_input_takes_other_sizes_later():
    model = tally.Sequential([layers.Dense(3)])
    assert model(np.ones((2, 5, 4), "float32")).shape == (2, 5, 3)
    assert model(np.ones((2, 7, 4), "float32")).shape == (2, 7, 3)
    with pytest.raises(ValueError, match="features"):
        model(np.ones((2, 7, 6), "float32"))
