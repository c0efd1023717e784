"""What the contract doesn't say of recurrent layers: masks, states, dropout, users' cells, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from layers.peer import weights_of
from tally.core.errors import ArgumentError, ShapeError
from tally.layers import recurrence, recurrent

X = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
MASK = np.array([[True, True, False, True, True], [False, True, True, False, False], [True] * 5])
KINDS = ("SimpleRNN", "LSTM", "GRU")


def _pair(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    ours, peer = getattr(tally.layers, name)(*args, **options), getattr(keras.layers, name)(*args, **options)
    ours.build(X.shape)
    peer.build(X.shape)
    ours.set_weights(weights_of(peer))
    return ours, peer


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_hidden_steps_leave_the_state_as_in_keras(name: str, zero: bool, backwards: bool) -> None:
    options = {"return_sequences": True, "return_state": True, "go_backwards": backwards}
    ours, peer = _pair(name, 4, zero_output_for_mask=zero, **options)
    assert_close(ours(X, mask=MASK), peer(X, mask=MASK))


def test_the_mask_of_an_embedding_travels_through_lstm_and_time_distributed() -> None:
    ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    outputs = []
    for library in (tally, keras):
        layers = library.layers
        stack = [
            layers.Embedding(4, 3, mask_zero=True),
            layers.LSTM(4, return_sequences=True),
            layers.TimeDistributed(layers.Dense(3)),
            layers.GRU(2),
        ]
        x = ids
        for number, layer in enumerate(stack):
            layer.build(x.shape)
            chance = np.random.default_rng(number)
            layer.set_weights([chance.normal(size=v.shape).astype("float32") for v in layer.weights])
            x = layer(x)
        outputs.append(x)
    assert_close(*outputs)


@pytest.mark.parametrize("name", KINDS)
def test_a_sequence_may_start_from_given_states(name: str) -> None:
    ours, peer = _pair(name, 4, return_state=True)
    states = [X[:, :4, column] for column in range(2 if name == "LSTM" else 1)]
    assert_close(ours(X, initial_state=states), peer(X, initial_state=states))


def test_a_stateful_layer_goes_on_where_it_ended_until_it_is_reset() -> None:
    ours, peer = _pair("LSTM", 4, stateful=True)
    ours.reset_state()
    peer.reset_state()
    first = ours(X)
    assert_close(first, peer(X))
    assert_close(ours(X), peer(X))
    ours.reset_state()
    assert_close(ours(X), first)


def test_two_halves_of_a_stateful_sequence_are_the_whole_one() -> None:
    whole = tally.layers.GRU(4)
    whole(X)
    halves = tally.layers.GRU(4, stateful=True)
    halves(X[:, :2])
    halves.set_weights(whole.get_weights())
    halves.reset_state()
    halves(X[:, :2])
    assert_close(halves(X[:, 2:]), whole(X))


def test_states_are_carried_through_a_compiled_step_and_are_no_weights() -> None:
    layer = tally.layers.LSTM(4, stateful=True)
    layer(X)
    assert len(layer.weights) == 3
    layer.reset_state()
    wanted = [layer(X), layer(X)]
    layer.reset_state()
    step = jax.jit(lambda state: layer.stateless_call(layer.trainable_variables, state, X))
    first, state = step([v.value for v in layer.non_trainable_variables])
    assert_close([first, step(state)[0]], wanted)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"dropout": 0.3, "recurrent_dropout": 0.5}], ids=str)
def test_dropout_is_new_in_each_call_repeatable_by_seed_and_off_outside_training(
    name: str, rates: dict[str, float]
) -> None:
    first, second = (getattr(tally.layers, name)(8, seed=1, **rates) for _ in range(2))
    a = first(X, training=True)
    second.build(X.shape)
    second.set_weights(first.get_weights())
    assert_close(a, second(X, training=True))
    assert np.any(a != first(X, training=True))
    assert_close(first(X), first(X, training=False))


def test_one_draw_of_input_dropout_holds_for_the_whole_sequence() -> None:
    layer = tally.layers.SimpleRNN(
        1, activation=None, use_bias=False, dropout=0.5, return_sequences=True, seed=2
    )
    ones = np.ones((50, 4, 1), "float32")
    layer(ones)
    layer.set_weights([np.ones((1, 1)), np.zeros((1, 1))])
    y = np.asarray(layer(ones, training=True))[..., 0]
    assert set(np.unique(y)) == {0.0, 2.0}
    assert np.all(y == y[:, :1])


@pytest.mark.parametrize("name", KINDS)
def test_a_cell_called_by_hand_is_a_step_of_its_layer(name: str) -> None:
    layer = getattr(tally.layers, name)(4, return_sequences=True)
    outputs = layer(X)
    states = layer.cell.get_initial_state(3)
    for step in range(5):
        y, states = layer.cell(X[:, step], states)
        assert_close(y, outputs[:, step])


def test_an_lstm_remembers_at_first() -> None:
    layer = tally.layers.LSTM(3)
    layer(X)
    np.testing.assert_array_equal(layer.cell.bias.numpy(), [0] * 3 + [1] * 3 + [0] * 6)


def test_a_users_cell_runs_and_may_draw_at_each_step() -> None:
    class Leak(tally.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.state_size = 2
            self.drop = tally.layers.Dropout(0.5, seed=1)

        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
            new = 0.5 * states[0] + self.drop(jnp.ones_like(inputs), training=training)
            return new, [new]

    layer = tally.layers.RNN(Leak(), return_sequences=True)
    np.testing.assert_allclose(layer(X)[0, :, 0], [1, 1.5, 1.75, 1.875, 1.9375])
    y = np.asarray(layer(X, training=True))
    drawn = np.concatenate([y[:, :1], y[:, 1:] - 0.5 * y[:, :-1]], 1)
    assert set(np.round(np.unique(drawn), 5)) == {0.0, 2.0}
    assert np.any(drawn != drawn[:, :1])


def test_a_stack_of_cells_takes_masks_as_keras_does() -> None:
    ours, peer = (
        library.layers.RNN(
            [library.layers.LSTMCell(3), library.layers.LSTMCell(4)], return_sequences=True, return_state=True
        )
        for library in (tally, keras)
    )
    ours.build(X.shape)
    peer.build(X.shape)
    ours.set_weights(weights_of(peer))
    assert_close(ours(X, mask=MASK), peer(X, mask=MASK))


def test_options_of_the_cell_can_be_read_on_the_layer() -> None:
    layer = tally.layers.LSTM(4, dropout=0.2)
    assert (layer.units, layer.dropout, layer.unit_forget_bias) == (4, 0.2, True)


def test_unknown_lengths_stay_unknown() -> None:
    y, h, c = tally.layers.LSTM(4, return_sequences=True, return_state=True)(tally.Input((None, 2)))
    assert (y.shape, h.shape, c.shape) == ((None, None, 4), (None, 4), (None, 4))


def test_another_batch_than_that_of_the_states_is_refused() -> None:
    layer = tally.layers.LSTM(4, stateful=True)
    layer(X)
    with pytest.raises(ShapeError, match="stateful for batches of 3, but was given one of 2"):
        layer(X[:2])


def test_a_stateful_layer_needs_a_known_batch() -> None:
    with pytest.raises(ShapeError, match="the batch must have a known size"):
        tally.layers.LSTM(4, stateful=True)(tally.Input((5, 2)))


def test_something_without_a_state_is_no_cell() -> None:
    with pytest.raises(ArgumentError, match="has no state_size"):
        tally.layers.RNN(tally.layers.Dense(3))


RULES = [
    {"activation": "softmax"},
    {"dropout": 0.5, "seed": 1, "use_bias": False},
    {"go_backwards": True, "return_sequences": True},
]


def _loss_of(name: str, options: dict[str, Any], mask: Any = None) -> tuple[Any, list[Any]]:
    """A function of inputs and weights, and where it is looked at."""
    tally.utils.set_random_seed(7)
    layer = getattr(tally.layers, name)(4, **options)
    layer.build(X.shape)
    rest = [variable.value for variable in layer.non_trainable_variables]

    def loss(x: Any, *values: Any) -> Any:
        outputs, _ = layer.stateless_call(values, rest, x, mask=mask, training=True)
        return (outputs**2).sum()

    return loss, [jnp.asarray(X), *(variable.value + 0.1 for variable in layer.trainable_variables)]


def _by_rule_and_by_jax(monkeypatch: pytest.MonkeyPatch, look: Any, *case: Any) -> None:
    """What `look` finds of a loss is the same whether the loop has its rule or not."""
    found = []
    for known in (recurrence.is_known, lambda cell: False):
        monkeypatch.setattr(recurrent, "is_known", known)
        loss, at = _loss_of(*case)
        found.append(jax.jit(lambda at, loss=loss: look(loss, at))(at))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *found)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("options", RULES, ids=str)
def test_the_rule_for_gradients_gives_what_jax_gives(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient(loss: Any, at: Any) -> Any:
        return jax.value_and_grad(loss, tuple(range(len(at))))(*at)

    _by_rule_and_by_jax(monkeypatch, gradient, name, options, None if "dropout" in str(options) else MASK)


@pytest.mark.parametrize("name", KINDS)
def test_it_gives_it_where_the_inputs_are_multiplied_before_the_loop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient(loss: Any, at: Any) -> Any:
        return jax.value_and_grad(loss, tuple(range(len(at))))(*at)

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _by_rule_and_by_jax(monkeypatch, gradient, name, {})


@pytest.mark.parametrize("name", KINDS)
def test_an_activation_that_reaches_for_a_weight_teaches_it(name: str) -> None:
    class Scaled(tally.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
            self.inner = getattr(tally.layers, name)(4, activation=lambda x: self.scale.value * jnp.tanh(x))

        def call(self, x: Any) -> Any:
            return self.inner(x)

    model = tally.Sequential([tally.Input((5, 2)), Scaled()])
    model.compile("sgd", "mse")
    model.fit(X, np.ones((3, 4)), verbose=0)
    assert float(model.layers[0].scale.numpy()) != 1


@pytest.mark.parametrize("name", KINDS)
def test_the_cells_of_this_library_have_the_rule(name: str) -> None:
    layer = getattr(tally.layers, name)(4)
    assert recurrence.is_known(layer.cell)
    assert recurrence.is_known(type(layer).from_config(layer.get_config()).cell)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_it_gives_tangents_and_second_derivatives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def derivatives(loss: Any, at: Any) -> Any:
        gradient = jax.grad(loss, tuple(range(len(at))))

        def squared(*arrays: Any) -> Any:
            return sum((one**2).sum() for one in gradient(*arrays))

        forward_over_reverse = jax.jvp(gradient, at, at)
        reverse_over_reverse = jax.grad(squared, (0, 1, 2))(*at)
        return jax.jvp(loss, at, at), forward_over_reverse, reverse_over_reverse

    _by_rule_and_by_jax(monkeypatch, derivatives, name, {})


@pytest.mark.parametrize("name", KINDS)
def test_no_loop_adds_up_a_gradient_of_the_size_of_a_kernel(name: str) -> None:
    loss, at = _loss_of(name, {})
    equations = jax.make_jaxpr(jax.grad(loss, (1, 2, 3)))(*at).jaxpr.eqns
    loops = [equation for equation in equations if equation.primitive.name == "scan"]
    carried = {variable.aval.shape for loop in loops for variable in loop.outvars[: loop.params["num_carry"]]}
    assert len(loops) >= 2
    assert carried == {(3, 4)}
