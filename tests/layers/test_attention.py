"""Attention with heads against Keras, masks, and the names of its weights."""

from typing import Any

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from layers.peer import weights_of
from tally.core.errors import ArgumentError, ShapeError
from tally.core.masks import get_mask

CHANCE = np.random.default_rng(0)
QUERY, VALUE, KEY = (CHANCE.normal(size=(2, n, d)).astype("float32") for n, d in ((4, 6), (5, 3), (5, 2)))
MASK = np.array([[True, True, False, True], [True, False, True, True]])


def _pair(name: str, *inputs: Any, **options: Any) -> tuple[Any, Any]:
    ours, peer = getattr(tally.layers, name)(**options), getattr(keras.layers, name)(**options)
    ours(*inputs)
    peer(*inputs)
    assert [(v.path.split("/", 1)[1], v.shape) for v in ours.weights] == [
        (v.path.split("/", 1)[1], v.shape) for v in peer.weights
    ]
    assert len(ours.variables) == len(peer.variables)
    weights = [CHANCE.normal(size=v.shape).astype("float32") for v in peer.weights]
    ours.set_weights(weights)
    peer.set_weights(weights)
    return ours, peer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_bias": False, "use_gate": True},
        {"output_shape": (2, 3)},
        {"sliding_window": 2},
        {"dropout": 0.5, "seed": 1},
    ],
    ids=str,
)
def test_multi_head_attention_equals_keras(options: dict[str, Any]) -> None:
    ours, peer = _pair("MultiHeadAttention", QUERY, VALUE, KEY, num_heads=2, key_dim=3, **options)
    for call in ({}, {"return_attention_scores": True}):
        assert_close(ours(QUERY, VALUE, KEY, **call), peer(QUERY, VALUE, KEY, **call))


def test_values_may_have_another_size_than_keys() -> None:
    ours, peer = _pair_with_scores(value_dim=4)
    assert_close(
        ours(QUERY, VALUE, return_attention_scores=True), peer(QUERY, VALUE, return_attention_scores=True)
    )
    assert_close(ours(QUERY, VALUE), ours(QUERY, VALUE, return_attention_scores=True)[0])


def _pair_with_scores(**options: Any) -> tuple[Any, Any]:
    """The same for what the peer can only compute by scores."""
    arguments = {"num_heads": 2, "key_dim": 3, **options}
    ours, peer = tally.layers.MultiHeadAttention(**arguments), keras.layers.MultiHeadAttention(**arguments)
    ours(QUERY, VALUE)
    peer(QUERY, VALUE, return_attention_scores=True)
    ours.set_weights(weights_of(peer))
    return ours, peer


@pytest.mark.parametrize("axes", [None, 2, (1, 2)])
def test_attention_runs_over_the_axes_asked_for(axes: Any) -> None:
    x = CHANCE.normal(size=(2, 3, 4, 5)).astype("float32")
    ours, peer = _pair("MultiHeadAttention", x, x, num_heads=2, key_dim=3, attention_axes=axes)
    assert_close(ours(x, x, return_attention_scores=True), peer(x, x, return_attention_scores=True))


@pytest.mark.parametrize(
    "masks", [{"use_causal_mask": True}, {"value_mask": MASK}, {"attention_mask": MASK[:, :, None]}], ids=str
)
@pytest.mark.parametrize("scores", [False, True])
def test_masks_hide_what_they_hide_in_keras(masks: dict[str, Any], scores: bool) -> None:
    ours, peer = _pair("MultiHeadAttention", QUERY, QUERY, num_heads=2, key_dim=3)
    call = {**masks, "return_attention_scores": scores}
    assert_close(ours(QUERY, QUERY, **call), peer(QUERY, QUERY, **call))


def test_with_a_causal_mask_no_output_depends_on_later_steps() -> None:
    layer = tally.layers.MultiHeadAttention(2, 3)
    later = QUERY.copy()
    later[:, 2:] = 9
    a, b = (layer(x, x, use_causal_mask=True) for x in (QUERY, later))
    assert_close(a[:, :2], b[:, :2])
    assert np.all(np.abs(a[:, 2:] - b[:, 2:]) > 0)


def test_the_mask_of_an_embedding_reaches_the_scores_and_the_output() -> None:
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    x = tally.layers.Embedding(4, 6, mask_zero=True)(ids)
    y, scores = tally.layers.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)
    assert not np.any(np.asarray(scores)[0, :, :2, 2:])
    np.testing.assert_array_equal(get_mask(y), ids != 0)


def test_grouped_query_attention_equals_keras() -> None:
    options = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
    ours, peer = _pair("GroupQueryAttention", QUERY, QUERY, **options)
    for call in ({}, {"use_causal_mask": True, "return_attention_scores": True}):
        assert_close(ours(QUERY, QUERY, **call), peer(QUERY, QUERY, **call))


@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_attention_on_lists_takes_masks_as_keras_does(name: str) -> None:
    ours, peer = getattr(tally.layers, name)(use_scale=True), getattr(keras.layers, name)(use_scale=True)
    peer([QUERY, QUERY])
    ours([QUERY, QUERY])
    ours.set_weights(weights_of(peer))
    call = {"mask": [MASK, MASK], "use_causal_mask": True, "return_attention_scores": True}
    assert_close(ours([QUERY, QUERY], **call), peer([QUERY, QUERY], **call))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}),
        ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}),
    ],
)
def test_each_library_reads_the_others_configuration(name: str, options: dict[str, Any]) -> None:
    ours, peer = (
        getattr(tally.layers, name)(**options, name="a"),
        getattr(keras.layers, name)(**options, name="a"),
    )
    wanted = peer.get_config()
    assert type(peer).from_config(ours.get_config()).get_config() == wanted
    assert type(peer).from_config(type(ours).from_config(wanted).get_config()).get_config() == wanted


def test_axes_say_what_each_dimension_counts() -> None:
    layer = tally.layers.MultiHeadAttention(2, 3, value_dim=4)
    layer(tally.Input((5, 6)), tally.Input((7, 6)))
    axes = {v.path.split("/", 1)[1]: v.axes for v in layer.weights}
    assert axes["query/kernel"] == ("features", "heads", "key size")
    assert axes["value/bias"] == ("heads", "value size")
    assert axes["attention_output/kernel"] == ("heads", "value size", "features")


def test_keys_and_values_of_different_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match="as many keys as values"):
        tally.layers.MultiHeadAttention(2, 3)(QUERY, VALUE, KEY[:, :3])


def test_heads_that_can_not_be_shared_out_are_refused() -> None:
    with pytest.raises(ArgumentError, match="can't share 3 heads of keys among 4"):
        tally.layers.GroupQueryAttention(3, 4, 3)
