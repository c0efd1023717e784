"""Correct models: every kind of layer on its own, with the arguments and shapes of the layers' contract."""

from typing import Any

import tally as keras
from layers.cases import Case as Row
from layers.cases import collect
from tally import layers

from .registry import correct, enter_correct


def _around(row: Row) -> Any:
    """A model of one layer, on open batches of the row's shapes."""

    def build() -> Any:
        dtype = "int32" if row.integers else "float32"
        inputs = row.nest([keras.Input(shape[1:], dtype=dtype) for shape in row.shapes])
        return keras.Model(inputs, row.make(keras)(inputs, **row.keywords))

    return build


_seen: set[str] = set()
for _row in collect():
    # One row for each kind of layer, and all in which the channels stand first on purpose.
    if _row.name not in _seen or "channels first" in _row.note:
        _seen.add(_row.name)
        enter_correct(" ".join(filter(None, (f"layers/{_row.name}", _row.note))), _around(_row))


@correct
def multi_head_attention():
    query, value = keras.Input((4, 8)), keras.Input((6, 8))
    return keras.Model([query, value], layers.MultiHeadAttention(2, 4)(query, value))


@correct
def group_query_attention():
    x = keras.Input((5, 8))
    return keras.Model(
        x, layers.GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)(x, x)
    )


@correct
def rnn_of_stacked_cells():
    cells = [layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(2)]
    return keras.Sequential([keras.Input((5, 3)), layers.RNN(layers.StackedRNNCells(cells))])


@correct
def functional_forms_of_merging():
    a, b = keras.Input((4,)), keras.Input((4,))
    merged = [
        layers.add([a, b]),
        layers.subtract([a, b]),
        layers.multiply([a, b]),
        layers.average([a, b]),
        layers.maximum([a, b]),
        layers.minimum([a, b]),
        layers.dot([a, b], axes=1),
    ]
    return keras.Model([a, b], layers.concatenate(merged))


@correct
def every_activation_layer_in_a_row():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6)])
    for layer in (layers.ReLU(), layers.LeakyReLU(), layers.ELU(), layers.PReLU(), layers.Softmax()):
        model.add(layer)
    return model


@correct
def repeated_blocks_some_of_them_frozen():
    def block():
        parts = [
            layers.Dense(6, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.1),
        ]
        return keras.Sequential(parts)

    return keras.Sequential([keras.Input((6,)), layers.Repeat(block, 5, frozen=[0, 1]), layers.Dense(1)])
