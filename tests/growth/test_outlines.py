"""A layer that is taken to give what an equal one gave is noted as if it had been followed, for every kind of layer."""

import copy
from typing import Any

import jax
import pytest

import tally
from layers.cases import Case, collect
from tally import layers
from tally.core import outlines

by_case = pytest.mark.parametrize(
    "case", collect(), ids=lambda case: "-".join(filter(None, (case.name, case.note)))
)


def notes(layer: Any) -> list[Any]:
    """What a call leaves on a layer and on those inside it."""
    return [
        (
            *(type(one), one.built, one._held.input_shapes, one._held.output_shapes, one._held.build_shapes),
            *(sorted(vars(one)), [(v.name, v.shape, v.dtype, v.trainable, v.path) for v in one.variables]),
        )
        for one in layer._flatten_layers()
    ]


def shapes(outputs: Any) -> list[Any]:
    return [(leaf.symbolic_shape, leaf.dtype, leaf.keras_mask is None) for leaf in jax.tree.leaves(outputs)]


def followed(make: Any) -> Any:
    outlines.forget()
    return make()


@by_case
def test_a_layer_like_one_that_was_followed_is_noted_as_if_it_had_been(case: Case) -> None:
    def call() -> tuple[Any, Any]:
        layer = case.make(tally)
        return layer, layer(case.symbols(tally), **case.keywords)

    first, expected = followed(call)
    second, outputs = call()
    assert shapes(outputs) == shapes(expected)
    assert notes(second) == notes(first)
    assert tally.account(second).entries == tally.account(first).entries


@by_case
def test_within_a_users_layer_it_is_the_same(case: Case) -> None:
    class Around(layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="around")
            self.inner = case.make(tally)

        def call(self, x: Any) -> Any:
            return self.inner(x, **case.keywords)

    def call() -> tuple[Any, Any]:
        layer = Around()
        return layer, layer(case.symbols(tally))

    first, expected = followed(call)
    second, outputs = call()
    assert shapes(outputs) == shapes(expected)
    assert notes(second) == notes(first)


def count_of(layer: type[layers.Layer], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of a class's layers from now on."""
    seen: list[Any] = []
    call = layer.call

    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(layer, "call", noting)
    outlines.forget()
    return seen


@pytest.mark.parametrize(
    "change",
    [
        {"units": 6},
        {"activation": "relu"},
        {"use_bias": False},
        {"dtype": "bfloat16"},
        {"activity_regularizer": "l2"},
        {"activation": lambda x: x[:, :2]},
    ],
    ids=["units", "activation", "bias", "dtype", "regularizer", "function"],
)
def test_another_option_is_followed_anew(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_of(layers.Dense, monkeypatch)
    x = tally.Input((4,))
    layers.Dense(**{"units": 5})(x)
    layers.Dense(**{"units": 5})(x)
    assert len(seen) == 1
    layers.Dense(**{"units": 5, **change})(x)
    assert len(seen) == 2


@pytest.mark.parametrize("shape", [(5,), (3, 4)])
def test_another_input_is_followed_anew(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_of(layers.Dense, monkeypatch)
    layers.Dense(5)(tally.Input((4,)))
    assert layers.Dense(5)(tally.Input(shape)).shape == (None, *shape[:-1], 5)
    assert len(seen) == 2


def test_an_attribute_that_was_changed_by_hand_counts() -> None:
    x = tally.Input((4,))
    layers.Dense(5)(x)
    changed = layers.Dense(5)
    changed.units = 7
    assert changed(x).shape == (None, 7)


def test_what_a_users_layer_gives_is_always_followed() -> None:
    class Cut(layers.Layer):
        def call(self, x: Any) -> Any:
            return x[:, : next(sizes)]

    sizes = iter((1, 2))
    x = tally.Input((4,))
    assert [Cut()(x).shape for _ in range(2)] == [(None, 1), (None, 2)]


def test_an_array_among_the_attributes_is_followed() -> None:
    layer = layers.Dense(5)
    x = tally.Input((4,))
    layer(x)
    held: Any = copy.copy(layer)
    vars(held)["table"] = jax.numpy.ones(3)
    assert outlines.form_of(layer, (x,), {}) is not None
    assert outlines.form_of(held, (x,), {}) is None


def test_no_more_are_remembered_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "_MOST", 3)
    outlines.forget()
    for units in range(1, 9):
        layers.Dense(units)(tally.Input((4,)))
        assert len(outlines._known) <= 3


def test_in_a_build_layers_are_followed_for_there_an_array_that_depends_on_no_input_is_a_real_one() -> None:
    class Around(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(5)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    class Builds(layers.Layer):
        def build(self, shape: Any) -> None:
            self.around = Around()
            self.size = self.around.compute_output_spec(tally.KerasTensor(shape)).shape[-1]

        def call(self, x: Any) -> Any:
            return self.around(x)

    outlines.forget()
    for _ in range(2):
        layer = Builds()
        assert layer(tally.Input((6,))).shape == (None, 5)
        assert layer.around._held.output_shapes == [(None, 5)]
