"""Twice the size takes about twice the calls: building, accounting, summarising, following, tracing."""

import gc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import tally
from growth.counting import MOST, count_calls, grows_by
from tally import layers
from tally.tracing.following import follow


class Block(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = layers.LayerNormalization(), layers.MultiHeadAttention(2, 4)
        self.dense = layers.Dense(8)

    def call(self, x: Any) -> Any:
        y = self.norm(x)
        return x + self.dense(self.attention(y, y))


class Shelf(layers.Layer):
    def __init__(self, count: int, name: str = "w") -> None:
        super().__init__()
        self.held = [self.add_weight(name=name, shape=(2,)) for _ in range(count)]


def stack(count: int) -> tally.Model:
    return tally.Sequential([tally.Input((8,)), *(layers.Dense(8) for _ in range(count))])


def added(count: int) -> tally.Model:
    model = tally.Sequential([tally.Input((8,))])
    for _ in range(count):
        model.add(layers.Dense(8))
    return model


def graph(count: int) -> tally.Model:
    inputs = x = tally.Input((8,))
    for _ in range(count):
        x = layers.Dense(8)(x) + 1.0
    return tally.Model(inputs, x)


def forked(count: int) -> tally.Model:
    inputs = x = tally.Input((8,))
    for _ in range(count):
        x = layers.Add()([x, layers.Dense(8)(x)])
    return tally.Model(inputs, x)


def blocks(count: int) -> tally.Model:
    return tally.Sequential([tally.Input((4, 8)), *(Block() for _ in range(count))])


def shelf(count: int) -> layers.Layer:
    return Shelf(count)


MAKERS = [stack, added, graph, forked, blocks]
by_maker = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def quietly(text: str) -> None:
    """Print nothing."""


@by_maker
def test_building_grows_with_the_layers(make: Callable[[int], tally.Model]) -> None:
    assert grows_by(lambda count: lambda: make(count), 12) < MOST


@pytest.mark.parametrize("make", [*MAKERS, shelf], ids=lambda make: make.__name__)
def test_an_account_grows_with_what_is_accounted_for(make: Callable[[int], Any]) -> None:
    def prepare(count: int) -> Callable[[], Any]:
        model = make(count)
        return lambda: tally.account(model)

    assert grows_by(prepare, 12) < MOST


@pytest.mark.parametrize("fold", [False, True])
@by_maker
def test_a_summary_grows_with_the_layers(make: Callable[[int], tally.Model], fold: bool) -> None:
    def prepare(count: int) -> Callable[[], Any]:
        model = make(count)
        return lambda: tally.summary(model, print_fn=quietly, line_length=100, fold=fold)

    assert grows_by(prepare, 12) < MOST


@by_maker
def test_following_a_call_grows_with_the_layers(make: Callable[[int], tally.Model]) -> None:
    def prepare(count: int) -> Callable[[], Any]:
        model = make(count)
        return lambda: follow(model)

    assert grows_by(prepare, 6) < MOST


@by_maker
def test_tracing_a_gradient_grows_with_the_layers(make: Callable[[int], tally.Model]) -> None:
    def prepare(count: int) -> Callable[[], Any]:
        model = make(count)
        weights = [jnp.zeros(variable.shape) for variable in model.trainable_variables]
        x = jnp.zeros((2, *model.input_shape[1:]))
        return lambda: jax.make_jaxpr(jax.grad(lambda w: model.stateless_call(w, [], x)[0].sum()))(weights)

    assert grows_by(prepare, 6) < MOST


@pytest.mark.parametrize("verb", [tally.diagnose, tally.plan], ids=lambda verb: verb.__name__)
def test_a_verb_that_follows_grows_with_the_blocks(verb: Callable[..., Any]) -> None:
    def prepare(count: int) -> Callable[[], Any]:
        model = blocks(count)
        return lambda: verb(model, print_fn=quietly)

    assert grows_by(prepare, 3) < MOST


def test_one_more_layer_takes_as_much_in_a_long_stack_as_in_a_short_one() -> None:
    short, long = added(4), added(40)
    few, many = (sum(count_calls(lambda m=m: m.add(layers.Dense(8))).values()) for m in (short, long))
    assert many <= few * 1.1


def test_the_order_of_a_graph_is_the_same_however_it_came_about() -> None:
    model = added(5)
    made = tally.Model(model.input, model.output)
    assert [one.name for one in model._need_graph().operations] == [one.name for one in made.operations]
    assert model._need_graph().nodes == made._need_graph().nodes
    assert model.output_shape == made.output_shape


def test_a_stack_forgets_the_name_of_a_layer_that_was_taken_away() -> None:
    model = added(2)
    last = model.pop()
    assert last is not None
    model.add(layers.Dense(3, name=last.name))
    assert model.output_shape == (None, 3)
    with pytest.raises(tally.core.errors.ArgumentError, match=last.name):
        model.add(layers.Dense(3, name=last.name))


def test_weights_of_one_name_are_told_apart_in_as_many_steps_as_there_are_weights() -> None:
    layer = Shelf(50)
    assert [entry.name for entry in tally.account(layer).entries][:3] == ["w", "w_1", "w_2"]
    assert count_calls(lambda: tally.account(layer))["ledger:take"] == 50


def test_what_a_layer_holds_is_looked_at_once_for_an_account() -> None:
    model = stack(10)
    calls = count_calls(lambda: tally.account(model))
    assert calls["holding:_attributes"] <= 12  # one for each layer and the model, and the input


@pytest.mark.parametrize("count", [2, 40])
def test_of_equal_layers_one_is_followed(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from tally.core import outlines

    outlines.forget()
    followed: list[Any] = []
    call = layers.Dense.call

    def noting(self: Any, x: Any) -> Any:
        followed.append(self)
        return call(self, x)

    monkeypatch.setattr(layers.Dense, "call", noting)
    model = stack(count)
    assert len(followed) == 1
    assert all(layer._held.output_shapes == [(None, 8)] for layer in model.layers)


@pytest.mark.parametrize("was_on", [True, False])
def test_the_garbage_collector_rests_while_an_account_is_made_and_is_then_as_it_was(
    was_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    class Watching(Shelf):
        def call(self, x: Any) -> Any:
            seen.append(gc.isenabled())
            return x * self.held[0].value

    layer = Watching(1)
    layer(jnp.ones((1, 2)))
    seen.clear()
    (gc.enable if was_on else gc.disable)()
    try:
        tally.account(layer)
        assert gc.isenabled() == was_on
        assert seen == [False]
    finally:
        gc.enable()


def test_the_garbage_collector_is_on_again_after_an_error() -> None:
    class Failing(layers.Layer):
        def call(self, x: Any) -> Any:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Failing()(tally.Input((3,)))
    assert gc.isenabled()
