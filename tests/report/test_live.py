"""What a live model's summary and explanation look like: one golden file for each kind of model."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally import layers
from tally.accounting import Ledger, explain
from tally.models.ledger import account
from tally.models.verbs.summary import summary_of
from tally.report import draw, render, summarise

IMAGE = (28, 28, 1)


def steady(ledger: Ledger) -> Ledger:
    """Put one line in place of this file's, which move when it is edited."""
    owners = tuple(replace(owner, origin=owner.origin and "train.py:12") for owner in ledger.owners)
    entries = tuple(
        replace(
            entry,
            origin=entry.origin and "train.py:12",
            frozen_at=entry.frozen_at and "train.py:34",
            note=entry.note and entry.note.replace(str(entry.origin), "train.py:12"),
        )
        for entry in ledger.entries
    )
    return replace(ledger, owners=owners, entries=entries)


def convnet() -> tally.Model:
    first = [tally.Input(IMAGE), layers.Conv2D(32, 3), layers.MaxPooling2D(2), layers.Conv2D(64, 3)]
    last = [layers.MaxPooling2D(2), layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, "softmax")]
    return tally.Sequential(first + last, name="convnet")


def trained() -> tally.Model:
    model = convnet()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.zeros((2, *IMAGE), "float32"), np.zeros(2, "int32"), verbose=0)
    return model


def branching() -> tally.Model:
    image = tally.Input((8, 8, 3), name="image")
    start = layers.Conv2D(4, 3, padding="same", name="start")(image)
    left = layers.Conv2D(4, 1, name="left")(start)
    right = layers.DepthwiseConv2D(3, padding="same", name="right")(start)
    merged = tally.ops.relu(layers.Concatenate(name="merge")([left, right]))
    pooled = layers.GlobalAveragePooling2D(name="pool")(merged)
    return tally.Model(
        image, [layers.Dense(2, name="kind")(pooled), layers.Dense(4, name="box")(pooled)], name="branching"
    )


def frozen_base() -> tally.Model:
    base = tally.Sequential(
        [tally.Input((16, 16, 3)), layers.Conv2D(8, 3), layers.BatchNormalization(), layers.Flatten()],
        name="base",
    )
    base.trainable = False
    return tally.Sequential([tally.Input((16, 16, 3)), base, layers.Dense(3, name="head")], name="transfer")


def unbuilt() -> tally.Model:
    return tally.Sequential([layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(3)], name="unbuilt")


def sequence() -> tally.Model:
    tokens = [
        tally.Input((12,), dtype="int32"),
        layers.Embedding(100, 8),
        layers.Bidirectional(layers.LSTM(4)),
    ]
    return tally.Sequential([*tokens, layers.LayerNormalization(), layers.Dense(2)], name="sequence")


def attention() -> tally.Model:
    inputs = tally.Input((5, 8))
    mixed = layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    return tally.Model(inputs, layers.Add(name="add")([inputs, mixed]), name="attention")


def mixed() -> tally.Model:
    stack = [
        tally.Input((4,)),
        layers.Dense(3, name="single"),
        layers.Dense(2, dtype="bfloat16", name="half"),
    ]
    return tally.Sequential(stack, name="mixed")


class Naive(layers.Layer):
    def call(self, inputs):
        self.w = tally.random.normal((inputs.shape[-1], 5))
        self.b = jnp.zeros((5,))
        return inputs @ self.w + self.b


class Careless(tally.Model):
    """Makes a layer in each call, and hides another from tracking."""

    def __init__(self) -> None:
        super().__init__(name="careless")
        hidden = layers.Dense(2, name="hidden")
        self.hidden = lambda: hidden

    def call(self, inputs):
        return layers.Dense(3, name="fresh")(self.hidden()(inputs))


def naive() -> tally.Model:
    inputs = tally.Input((10,))
    return tally.Model(inputs, Naive(name="naive")(inputs), name="naive")


def careless() -> tally.Model:
    model = Careless()
    model(np.ones((2, 10), "float32"))
    return model


class Block(layers.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.up = layers.Dense(4 * width, activation="gelu")
        self.down = layers.Dense(width)

    def call(self, x):
        normal = self.norm(x)
        x = x + self.attention(normal, normal, use_causal_mask=True)
        return x + self.down(self.up(x))


class Deep(tally.Model):
    """Twelve blocks, positions of its own, and logits from the embedding's own table."""

    def __init__(self) -> None:
        super().__init__(name="gpt")
        self.tokens = layers.Embedding(100, 8, name="tokens")
        self.blocks = [Block(8) for _ in range(12)]
        self.norm = layers.LayerNormalization(name="norm")

    def build(self, shape):
        self.position = self.add_weight(shape=(shape[-1], 8), name="position", axes=("positions", "features"))

    def call(self, ids):
        x = self.tokens(ids) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ tally.ops.transpose(self.tokens.embeddings)


def gpt() -> tally.Model:
    model = Deep()
    model(np.zeros((1, 6), "int32"))
    return model


def tickets() -> tally.Model:
    title, body = tally.Input((40,), name="title"), tally.Input((200,), name="body_of_the_ticket")
    words = layers.Embedding(1000, 16, name="words")
    short = layers.GlobalAveragePooling1D(name="title_mean")(words(title))
    joined = layers.Concatenate(name="together")([short, layers.LSTM(8, name="body_lstm")(words(body))])
    return tally.Model([title, body], layers.Dense(4, name="department")(joined), name="tickets")


class Twice(tally.Model):
    """One layer, held in two stacks."""

    def __init__(self) -> None:
        super().__init__(name="twice")
        self.shared = layers.Dense(8, name="shared")
        self.up = tally.Sequential([self.shared, layers.Dense(8)], name="up")
        self.down = tally.Sequential([self.shared], name="down")

    def call(self, x):
        return self.down(self.up(x))


def twice() -> tally.Model:
    model = Twice()
    model(np.zeros((1, 8), "float32"))
    return model


def trillions() -> tally.Model:
    stack = [layers.Dense(10**6, use_bias=False, name=f"a_dense_layer_of_trillions_{i}") for i in range(3)]
    return tally.Sequential([tally.Input((10**6,)), *stack], name="trillions")


MODELS = [convnet, trained, branching, frozen_base, unbuilt, sequence, attention, mixed, naive, careless]


def book(make) -> Ledger:
    return steady(account(make()))


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_live_summary_looks_as_it_did(make, golden) -> None:
    golden(f"live_summary_{make.__name__}", render(summarise(book(make), line_length=88)))


@pytest.mark.parametrize("width", [60, 88, 140])
@pytest.mark.parametrize("make", [gpt, tickets, twice], ids=lambda make: make.__name__)
def test_a_summary_is_set_for_each_width(make, width: int, golden) -> None:
    shown = render(summarise(book(make), line_length=width))
    assert max(map(len, shown.split("\n"))) <= width
    golden(f"live_{make.__name__}_{width}", shown)


def test_twelve_blocks_open_to_one(golden) -> None:
    made = summary_of(gpt(), depth=1, columns="shape,params,macs,activations", line_length=110)
    golden("live_gpt_opened", render(made.document))
    assert all(row.multiply_adds is not None for row in made.rows)


def test_the_total_means_the_same_before_and_after_training() -> None:
    untrained, learned = (render(summarise(account(make()))).split("\n") for make in (convnet, trained))
    kept = [line for line in learned if not line.lstrip().startswith(("Optimizer", "for the", "of its"))]
    assert [line.split() for line in kept] == [line.split() for line in untrained]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_live_explanation_looks_as_it_did(make, golden) -> None:
    golden(f"live_explanation_{make.__name__}", render(draw(explain(book(make))), 88))


@pytest.mark.parametrize("make", [frozen_base, sequence, attention], ids=lambda make: make.__name__)
def test_a_nested_model_is_opened_on_request(make, golden) -> None:
    shown = summarise(book(make), line_length=100, expand_nested=True, show_trainable=True)
    golden(f"live_expanded_{make.__name__}", render(shown))


@pytest.mark.parametrize("width", [50, 60, 100, 140])
def test_no_digit_is_lost_at_any_width(width: int, golden) -> None:
    shown = render(summarise(book(trillions), line_length=width))
    assert shown.count("1,000,000,000,000") == 3
    assert "3,000,000,000,000 (10.91 TB)" in shown
    golden(f"live_trillions_{width}", shown)


def test_a_narrow_summary_of_a_branching_model_stays_in_its_lines(golden) -> None:
    shown = render(summarise(book(branching), line_length=50))
    assert max(map(len, shown.split("\n"))) <= 50
    golden("live_narrow_branching", shown)


def test_a_layer_range_and_positions_are_kept(golden) -> None:
    options = {"layer_range": ("conv2d_1", "flatten"), "positions": (0.5, 0.8, 1.0), "show_trainable": False}
    golden("live_range", render(summarise(book(convnet), line_length=80, **options)))
