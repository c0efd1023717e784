"""Layers that users write keep their arguments in a configuration, in whichever style they are written."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tally
from models.cases import numbers
from tally import layers
from tally.core.errors import SavingError

X = numbers(2, 4)


class CallsSuper(layers.Layer):
    def __init__(self, units: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.dense = units, layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update({"units": self.units})
        return config


class TakesNoKeywords(layers.Layer):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.dense = layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class TakesNoKeywordsAndCallsSuper(TakesNoKeywords):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": 3}


class NamesItsOwn(layers.Layer):
    def __init__(self, units: int, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units))

    def call(self, x: Any) -> Any:
        return x @ self.kernel


class TakesParts(layers.Layer):
    def __init__(self, inner: Any, function: Any, more: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner, self.function, self.more = inner, function, more

    def call(self, x: Any) -> Any:
        for layer in self.more:
            x = layer(x)
        return self.function(self.inner(x))


class WritesItself(layers.Layer):
    def __init__(self, inner: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x: Any) -> Any:
        return self.inner(x)

    def get_config(self) -> dict[str, Any]:
        inner = tally.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config["inner"] = tally.saving.deserialize_keras_object(config["inner"])
        return cls(**config)


class FixesAnArgument(CallsSuper):
    def __init__(self, extra: int = 1, **kwargs: Any) -> None:
        super().__init__(units=5, **kwargs)
        self.extra = extra

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["units"]
        return {**config, "extra": self.extra}


class ScaledDense(layers.Dense):
    def __init__(self, units: int, scale: float = 2.0, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.scale = scale

    def call(self, x: Any) -> Any:
        return super().call(x) * self.scale


def twice(x: Any) -> Any:
    return 2 * x


KNOWN = {
    cls.__name__: cls for cls in (CallsSuper, TakesNoKeywords, TakesNoKeywordsAndCallsSuper, NamesItsOwn)
}
KNOWN |= {cls.__name__: cls for cls in (TakesParts, WritesItself, FixesAnArgument, ScaledDense)}
MAKERS: list[Callable[[], Any]] = [
    lambda: CallsSuper(5, name="mine"),
    lambda: TakesNoKeywords(3),
    lambda: TakesNoKeywordsAndCallsSuper(3),
    lambda: NamesItsOwn(3, "mine"),
    lambda: TakesParts(layers.Dense(3, kernel_regularizer="l2"), twice),
    lambda: TakesParts(layers.Dense(3), tally.activations.relu, more=[layers.Dense(2), layers.Dropout(0.5)]),
    lambda: WritesItself(layers.Dense(2)),
    lambda: FixesAnArgument(2),
    lambda: ScaledDense(2, scale=3.0, activation="relu"),
    lambda: ScaledDense(2, activation=tally.activations.tanh),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_users_layer_comes_back_from_its_configuration(make: Callable[[], Any]) -> None:
    model = tally.Sequential([tally.Input((4,)), make()])
    config = json.loads(model.to_json())
    again = tally.saving.deserialize_keras_object(config, {**KNOWN, "twice": twice})
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(X), model(X))
    if "Keywords" not in type(model.layers[0]).__name__:
        assert again.layers[0].name == model.layers[0].name


def test_an_argument_that_has_no_stored_form_is_refused_with_advice() -> None:
    model = tally.Sequential([TakesParts(layers.Dense(1), twice, more=object())])
    with pytest.raises(SavingError) as caught:
        model.to_json()
    assert str(caught.value) == (
        "A object can't be written into a configuration.\n"
        "  do: give its class a get_config method, or override the layer's get_config and from_config"
    )


def test_a_dict_without_a_class_names_nothing() -> None:
    with pytest.raises(ValueError, match="has a class_name; this one has none"):
        layers.Dense(1, activation={"value": 1})


def test_the_model_class_reads_a_graphs_configuration():
    inputs = tally.Input((4,))
    model = tally.Model(inputs, layers.Dense(2)(layers.Dense(3, "relu")(inputs)))
    again = tally.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    x = np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)
    np.testing.assert_array_equal(again(x), model(x))
