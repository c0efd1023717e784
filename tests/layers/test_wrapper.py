"""What the contract doesn't say of wrappers: masks, states, initial weights, paths, and what is refused."""

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from layers.peer import weights_of
from tally.core.errors import ArgumentError, ShapeError

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(3, 5, 2)).astype("float32")
MASK = np.array([[True, True, False, True, True], [False, True, True, False, False], [True] * 5])


def test_weights_of_bidirectional_stand_in_the_order_of_keras_under_the_wrappers_name() -> None:
    ours, peer = (
        lib.layers.Bidirectional(lib.layers.GRU(4, name="gru"), name="both") for lib in (tally, keras)
    )
    ours(X)
    peer(X)
    assert [v.path for v in ours.weights] == [v.path for v in peer.weights]
    assert ours.weights[0].path == "both/forward_gru/gru_cell/kernel"


@pytest.mark.parametrize("mode", ["concat", "sum", None])
@pytest.mark.parametrize("whole", [False, True])
def test_bidirectional_masks_as_keras_does(mode: str | None, whole: bool) -> None:
    ours, peer = (
        library.layers.Bidirectional(library.layers.LSTM(4, return_sequences=whole), merge_mode=mode)
        for library in (tally, keras)
    )
    ours(X)
    peer(X)
    ours.set_weights(weights_of(peer))
    assert_close(ours(X, mask=MASK), peer(X, mask=MASK))


def test_bidirectional_shares_initial_states_out() -> None:
    ours, peer = (library.layers.Bidirectional(library.layers.LSTM(4)) for library in (tally, keras))
    ours(X)
    peer(X)
    ours.set_weights(weights_of(peer))
    states = [CHANCE.normal(size=(3, 4)).astype("float32") for _ in range(4)]
    assert_close(ours(X, initial_state=states), peer(X, initial_state=states))


def test_initial_weights_are_shared_out_between_the_directions() -> None:
    first = tally.layers.Bidirectional(tally.layers.GRU(4))
    first(X)
    second = tally.layers.Bidirectional(tally.layers.GRU(4), weights=first.get_weights())
    assert_close(second(X), first(X))


def test_a_layer_in_both_directions_is_copied_and_stays_free() -> None:
    layer = tally.layers.LSTM(4)
    tally.layers.Bidirectional(layer)(X)
    assert not layer.built


def test_two_layers_of_one_direction_are_refused() -> None:
    with pytest.raises(ArgumentError, match="two layers that run in one direction"):
        tally.layers.Bidirectional(tally.layers.LSTM(4), backward_layer=tally.layers.LSTM(4))


def test_a_rebuilt_wrapper_names_its_weights_as_before() -> None:
    layer = tally.layers.TimeDistributed(tally.layers.Dense(3, name="inner"), name="outer")
    layer(X)
    copy = tally.layers.TimeDistributed.from_config(layer.get_config())
    copy(X)
    assert (
        [v.path for v in copy.weights]
        == [v.path for v in layer.weights]
        == ["outer/inner/kernel", "outer/inner/bias"]
    )


def test_noise_differs_between_time_steps() -> None:
    y = tally.layers.TimeDistributed(tally.layers.Dropout(0.5, seed=1))(np.ones((2, 6, 8)), training=True)
    assert np.any(y[:, 0] != y[:, 1])


def test_time_distributed_convolves_each_image_of_unknown_number() -> None:
    layer = tally.layers.TimeDistributed(tally.layers.Conv2D(4, 3))
    assert layer(tally.Input((None, 8, 8, 3))).shape == (None, None, 6, 6, 4)


def test_time_distributed_needs_a_time_axis() -> None:
    with pytest.raises(ShapeError, match="of at least 3 dimensions"):
        tally.layers.TimeDistributed(tally.layers.Dense(3))(X[:, 0])


def test_a_class_instead_of_a_layer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="pass an instance"):
        tally.layers.TimeDistributed(tally.layers.Dense)
