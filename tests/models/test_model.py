"""Functional and subclassed models: what they are made of, how they are called, what they say when it goes wrong."""

import re
from typing import Any

import numpy as np
import pytest

import tally
from models.cases import numbers
from tally import layers
from tally.core.errors import ArgumentError, DataError, ShapeError

X = numbers(2, 4)
HERE = r"[\w/.]*test_model\.py:\d+"


def two_inputs(**options: Any) -> Any:
    a, b = tally.Input((4,), name="a"), tally.Input((3,), name="b")
    return tally.Model([a, b], layers.Concatenate()([a, b]), **options)


def assert_says(caught: Any, *lines: str) -> None:
    """The whole message, with places in this file left open."""
    assert re.fullmatch("\n".join(lines), str(caught.value)), str(caught.value)


def test_two_layers_of_one_name_are_refused_with_both_lines() -> None:
    inputs = tally.Input((4,))
    first = layers.Dense(2, name="same")(inputs)
    second = layers.Dense(2, name="same")(first)
    with pytest.raises(ArgumentError) as caught:
        tally.Model(inputs, second, name="model")
    assert_says(
        caught,
        "Two layers of the model 'model' have the name 'same'.",
        f"  where: same made at {HERE}; same made at {HERE}",
        "  do: give each layer a name of its own",
    )


def test_an_input_that_was_left_out_is_named_with_its_line() -> None:
    a, b = tally.Input((4,), name="a"), tally.Input((4,), name="b")
    with pytest.raises(ArgumentError) as caught:
        tally.Model(a, layers.Add()([a, b]))
    assert_says(
        caught,
        "An output depends on the input 'b', which is not among the model's inputs.",
        f"  where: input made at {HERE}",
        r"  do: add it to Model\(inputs=...\)",
    )


def test_arrays_are_no_inputs_of_a_model() -> None:
    with pytest.raises(ArgumentError, match="A model's inputs are symbolic tensors, but one is a ndarray"):
        tally.Model(X, X)


def test_inputs_without_outputs_are_refused() -> None:
    with pytest.raises(ArgumentError, match="needs both inputs and outputs"):
        tally.Model(inputs=tally.Input((3,)))


def test_a_layer_that_is_not_there_is_answered_with_the_closest() -> None:
    inputs = tally.Input((4,), name="in")
    model = tally.Model(inputs, layers.Dense(2, name="dense_layer")(inputs), name="model")
    with pytest.raises(ArgumentError) as caught:
        model.get_layer("dense_layr")
    assert_says(
        caught,
        r"'model' has no layer 'dense_layr'. Did you mean 'dense_layer'\?",
        "  do: its layers are in, dense_layer",
    )
    assert model.get_layer(index=1) is model.get_layer("dense_layer") is model.layers[1]
    with pytest.raises(ArgumentError, match="has 2 layers, so there is none at position 7"):
        model.get_layer(index=7)


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_number_of_inputs_is_counted(count: int) -> None:
    with pytest.raises(DataError, match=rf"'model' takes 2 inputs \(a, b\), but was given {count}\."):
        two_inputs(name="model")([X] * count)


def test_an_input_of_another_shape_is_named() -> None:
    with pytest.raises(ShapeError) as caught:
        two_inputs(name="model")([X, X])
    assert_says(
        caught,
        r"Model 'model' takes \(None, 3\) at its input 'b', but was given \(2, 4\)\.",
        rf"  where: input made at {HERE}; called with float32\[2,4\]",
        r"  do: bring the data to that shape \(None fits any size\), or make the Input with the data's shape",
    )


def test_inputs_can_be_fed_by_name_and_a_missing_one_is_said() -> None:
    model = two_inputs(name="model")
    expected = model([X, X[:, :3]])
    for inputs in ({"b": X[:, :3], "a": X, "more": X}, (X, X[:, :3]), [X.astype("float64"), X[:, :3]]):
        np.testing.assert_array_equal(model(inputs), expected)
    with pytest.raises(DataError, match="takes the inputs a, b, but 'b' was not given"):
        model({"a": X})


def test_a_dict_of_inputs_goes_by_its_own_keys() -> None:
    a, b = tally.Input((4,), name="first"), tally.Input((3,), name="second")
    model = tally.Model({"x": a, "y": b}, layers.Concatenate()([a, b]))
    assert model({"y": X[:, :3], "x": X}).shape == (2, 7)
    with pytest.raises(DataError, match="takes the inputs x, y, but 'y' was not given"):
        model({"x": X})


def test_a_model_of_inner_outputs_shares_the_layers() -> None:
    base = tally.Sequential([tally.Input((4,)), layers.Dense(5, name="low"), layers.Dense(2)])
    by_name = tally.Model(base.inputs, base.get_layer("low").output)
    by_position = tally.Model(base.input, base.layers[0].output)
    base.layers[0].set_weights([np.zeros((4, 5)), np.ones(5)])
    for model in (by_name, by_position):
        np.testing.assert_array_equal(model(X), np.ones((2, 5)))
        assert model.layers[-1] is base.layers[0]


def test_a_model_goes_on_from_another_models_outputs() -> None:
    base, top = two_inputs(), tally.Sequential([tally.Input((7,)), layers.Dense(3)], name="top")
    model = tally.Model(base.input, top(base.output))
    assert [layer.name for layer in model.layers] == ["a", "b", "concatenate", "top"]
    assert model([X, X[:, :3]]).shape == (2, 3)


def test_a_shared_layer_is_counted_once() -> None:
    inputs = tally.Input((4,))
    shared = layers.Dense(4)
    model = tally.Model(inputs, shared(shared(inputs)))
    assert model.count_params() == model.account().total == 20
    assert len(model.weights) == 2


def test_a_subclass_is_built_by_a_shape_or_a_symbol_or_data() -> None:
    class Net(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x: Any, double: bool = False) -> Any:
            return self.dense(x) * (2 if double else 1)

    by_shape, by_symbol, by_data = Net(), Net(), Net()
    by_shape.build((None, 4))
    symbol = by_symbol(tally.Input((4,)))
    by_data(X, double=True)
    assert symbol.shape == by_shape.compute_output_shape((None, 4)) == (None, 2)
    assert by_shape.count_params() == by_symbol.count_params() == by_data.count_params() == 10


def test_a_subclass_that_passes_inputs_and_outputs_is_a_graph() -> None:
    class Net(tally.Model):
        def __init__(self, units: int, **kwargs: Any) -> None:
            inputs = tally.Input((4,))
            super().__init__(inputs=inputs, outputs=layers.Dense(units)(inputs), **kwargs)
            self.units = units

    net = Net(3, name="net")
    assert net.output_shape == (None, 3)
    assert [layer.name for layer in net.layers] == ["input_layer", "dense"]
    assert Net.from_config(net.get_config()).output_shape == (None, 3)
    assert type(tally.models.clone_model(net)) is Net


def test_a_model_without_a_call_says_so() -> None:
    with pytest.raises(NotImplementedError, match="'model' has no call method"):
        tally.Model()(X)


def test_an_unbuilt_model_has_no_fixed_outputs() -> None:
    with pytest.raises(
        AttributeError, match="'stack' is not built yet, so it has no fixed inputs and outputs"
    ):
        tally.Sequential([layers.Dense(1)], name="stack").output_shape


def test_a_model_comes_back_from_json() -> None:
    model = two_inputs()
    again = tally.models.model_from_json(model.to_json())
    assert again.input_names == ["a", "b"]
    assert again.output_shape == (None, 7)


class Twice(layers.Layer):
    """Known to no registry."""

    def __init__(self, function: Any, inner: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function, self.inner = function, inner

    def call(self, x: Any) -> Any:
        return self.function(self.inner(x))


def test_a_clone_has_the_structure_and_new_weights_also_with_layers_nobody_registered() -> None:
    inputs = tally.Input((4,))
    outputs = layers.Lambda(lambda x: -x)(Twice(lambda x: 2 * x, layers.Dense(3), name="twice")(inputs))
    model = tally.Model(inputs, outputs)
    clone = tally.models.clone_model(model)
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    assert not set(clone.weights) & set(model.weights)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(X), model(X))


def test_a_clone_can_change_layers_and_inputs() -> None:
    model = tally.Sequential([tally.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")])

    def narrow(layer: Any) -> Any:
        return layers.Dense(7, name="a") if layer.name == "a" else layers.Dense(2, name="b")

    assert tally.models.clone_model(model, clone_function=narrow).layers[0].units == 7
    fixed = tally.models.clone_model(model, input_tensors=tally.Input((4,), batch_size=5))
    assert fixed.output_shape == (5, 2)
