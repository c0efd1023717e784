"""Embedding beyond the contract: masks, initial tables, tokens of any integer type."""

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from tally.core.masks import get_mask

TOKENS = np.array([[1, 2, 0], [3, 0, 0]])


def test_axes_name_tokens_and_features() -> None:
    layer = tally.layers.Embedding(5, 2)
    layer(TOKENS)
    assert layer.embeddings.axes == ("tokens", "features")


def test_zeros_are_masked_only_when_asked() -> None:
    masked, plain = tally.layers.Embedding(5, 2, mask_zero=True), tally.layers.Embedding(5, 2)
    assert np.array_equal(get_mask(masked(TOKENS)), TOKENS != 0)
    assert get_mask(plain(TOKENS)) is None


def test_the_mask_reaches_an_average_over_the_sequence() -> None:
    models = []
    for library in (tally, keras):
        embedding = library.layers.Embedding(5, 2, mask_zero=True)
        embedding(TOKENS)
        embedding.set_weights([np.arange(10, dtype="float32").reshape(5, 2)])
        models.append(library.layers.GlobalAveragePooling1D()(embedding(TOKENS)))
    assert_close(*models)
    assert_close(models[0], np.array([[3.0, 4.0], [6.0, 7.0]]))


@pytest.mark.parametrize("wrap", [list, tuple, np.asarray])
def test_a_table_can_be_given(wrap: type) -> None:
    table = np.arange(10, dtype="float32").reshape(5, 2)
    weights = table if wrap is np.asarray else wrap([table])
    assert_close(tally.layers.Embedding(5, 2, weights=weights)(TOKENS), table[TOKENS])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_tokens_of_any_type_are_looked_up(dtype: str) -> None:
    layer = tally.layers.Embedding(300, 2, dtype="bfloat16")
    tokens = np.array([[1, 255]]).astype(dtype)
    rows = layer(tokens)
    assert_close(rows, layer.embeddings.numpy()[[[1, 255]]])


def test_the_length_that_older_code_gives_is_accepted() -> None:
    assert tally.layers.Embedding(5, 2, input_length=3)(TOKENS).shape == (2, 3, 2)


def test_adaptation_equals_keras() -> None:
    outputs = []
    for library in (tally, keras):
        layer = library.layers.Embedding(5, 2, lora_rank=1)
        layer(TOKENS)
        table = layer.embeddings if library is tally else layer._embeddings
        for held, start in ((table, 0.0), (layer.lora_embeddings_a, 1.0), (layer.lora_embeddings_b, 2.0)):
            shape = tuple(held.shape)
            held.assign(start + np.arange(np.prod(shape), dtype="float32").reshape(shape))
        outputs.append(layer(TOKENS))
    assert_close(*outputs)
