"""Multiply-adds from sizes alone: as one counts them by hand, and equal to what following a call finds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tally
from layers.cases import Case, collect
from tally import layers
from tally.accounting.ledger import Entry, Ledger, Owner
from tally.accounting.work import multiply_adds, output_values, total_multiply_adds
from tally.tracing.cost import with_costs

BY_HAND = {
    # name: layer, sizes of one example, multiply-adds
    "conv, valid": (lambda: layers.Conv2D(32, 3), (28, 28, 1), 194_688),  # 26·26 places × 9 × 32
    "conv, same": (lambda: layers.Conv2D(8, 3, padding="same"), (5, 5, 2), 3_600),  # 25 places × 9·2 × 8
    "conv, strided": (lambda: layers.Conv2D(8, 3, strides=2), (9, 9, 2), 2_304),  # 4·4 places × 9·2 × 8
    "conv, dilated": (lambda: layers.Conv2D(4, 3, dilation_rate=2), (9, 9, 3), 2_700),  # 5·5 × 9·3 × 4
    "conv, groups": (lambda: layers.Conv2D(8, 3, groups=4), (6, 6, 8), 2_304),  # 4·4 places × 9·2 × 8
    "conv, one side": (lambda: layers.Conv1D(6, 4, padding="causal"), (10, 3), 720),  # 10 places × 4·3 × 6
    "conv, three sides": (lambda: layers.Conv3D(2, 2), (3, 4, 5, 3), 1_152),  # 2·3·4 places × 8·3 × 2
    "conv, channels first": (
        lambda: layers.Conv2D(4, 3, data_format="channels_first"),
        (3, 8, 6),
        2_592,  # 6·4 places × 9·3 × 4
    ),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 5), 1_440),  # 16 × 9·5 × 2
    "separable": (lambda: layers.SeparableConv2D(7, 3), (6, 6, 5), 1_280),  # 16 × 9·5 and 16 × 5·7
    "transposed": (lambda: layers.Conv2DTranspose(4, 3, strides=2), (5, 6, 3), 3_240),  # 30 inputs × 9·4·3
    "transposed, stride 1": (lambda: layers.Conv2DTranspose(4, 3), (5, 6, 3), 3_240),
    "dense": (lambda: layers.Dense(10), (1600,), 16_000),
    "dense on a sequence": (lambda: layers.Dense(10), (7, 16), 1_120),  # 7 × 16 × 10
    "einsum": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 5)), (4, 3), 120),  # 4 × 3·2·5
    "einsum, shared letter": (lambda: layers.EinsumDense("abc,bcd->abd", (4, 5)), (4, 3), 60),  # 4 × 3·5
    "embedding": (lambda: layers.Embedding(100, 8), (5,), 0),
    "batch normalisation": (layers.BatchNormalization, (8, 8, 3), 0),
    "pooling": (lambda: layers.MaxPooling2D(2), (8, 8, 3), 0),
    "interpolation": (lambda: layers.UpSampling2D(2, interpolation="bilinear"), (4, 4, 3), 0),
    "lstm": (lambda: layers.LSTM(5), (7, 4), 1_260),  # 7 steps × (4 + 5) × 4·5
    "gru": (lambda: layers.GRU(5), (7, 4), 945),  # 7 steps × (4 + 5) × 3·5
    "simple rnn": (lambda: layers.SimpleRNN(5), (7, 4), 315),  # 7 steps × (4 + 5) × 5
    "two directions": (lambda: layers.Bidirectional(layers.LSTM(5)), (7, 4), 2_520),
    "at each step": (lambda: layers.TimeDistributed(layers.Dense(3)), (7, 4), 84),  # 7 × 4 × 3
    "adapted": (lambda: layers.Dense(6, lora_rank=2), (4,), 72),  # 4·6, and once a call 4·2·6
}


@pytest.mark.parametrize("name", BY_HAND)
def test_multiply_adds_are_those_of_a_hand_count(name: str) -> None:
    make, shape, expected = BY_HAND[name]
    dtype = "int32" if name == "embedding" else "float32"
    model = tally.Sequential([tally.Input(shape, dtype=dtype), make()])
    assert total_multiply_adds(tally.account(model)) == expected
    assert total_multiply_adds(with_costs(model, tally.account(model))) == expected


def test_attention_has_projections_scores_and_weighted_values() -> None:
    x = tally.Input((7, 8))
    model = tally.Model(x, layers.MultiHeadAttention(2, 4, value_dim=3, name="attention")(x, x))
    ledger = tally.account(model)
    places = ("query_dense", "key_dense", "value_dense", "", "output_dense")
    found = [multiply_adds(ledger, f"attention/{place}".rstrip("/")) for place in places]
    assert found == [
        7 * 8 * 2 * 4,
        7 * 8 * 2 * 4,
        7 * 8 * 2 * 3,
        2 * 7 * 7 * (4 + 3),  # every query with every key, every weight with every value
        7 * 2 * 3 * 8,
    ]


def test_the_seeds_convnet_takes_2_440_960() -> None:
    model = tally.Sequential(
        [
            tally.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", name="head"),
        ]
    )
    ledger = tally.account(model)
    assert [multiply_adds(ledger, path) for path in ("conv", "conv_1", "head")] == [
        194_688,
        2_230_272,
        16_000,
    ]
    assert total_multiply_adds(ledger) == 2_440_960


MORE = [
    Case("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "value_dim": 3}, [(2, 5, 3), (2, 6, 3)]),
    Case(
        "GroupQueryAttention",
        {"head_dim": 4, "num_query_heads": 4, "num_key_value_heads": 2},
        [(2, 5, 3)] * 2,
    ),
    Case("Conv2D", {"filters": 4, "kernel_size": 2, "lora_rank": 2}, (2, 4, 4, 3), "adapted"),
    Case("Embedding", {"input_dim": 6, "output_dim": 4, "lora_rank": 2}, (2, 3), "adapted", integers=6),
]


@pytest.mark.parametrize("case", collect() + MORE, ids=lambda case: f"{case.name} {case.note}".strip())
def test_the_closed_form_is_what_following_a_call_finds(case: Case) -> None:
    layer, symbols = case.make(tally), case.symbols(tally)
    layer(*symbols) if "Head" in case.name or "Query" in case.name else layer(symbols, **case.keywords)
    ledger = tally.account(layer)
    followed = with_costs(layer, ledger)
    for owner in ledger.owners:
        assert multiply_adds(ledger, owner.path) == multiply_adds(followed, owner.path), owner.path


sizes = st.integers(1, 6)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_closed_form_of_any_convolution_is_what_following_a_call_finds(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(sizes, sizes))
    image = tuple(side + data.draw(st.integers(0, 7)) for side in kernel)
    strides = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding, groups = data.draw(st.sampled_from(["valid", "same"])), data.draw(st.integers(1, 3))
    options = {"kernel_size": kernel, "strides": strides, "padding": padding}
    channels = groups * data.draw(st.integers(1, 3))
    filters = groups * data.draw(st.integers(1, 3))
    same_strides = {**options, "strides": strides[0]}
    made = data.draw(
        st.sampled_from(
            [
                lambda: layers.Conv2D(filters, groups=groups, **options),
                lambda: layers.Conv2DTranspose(filters, **options),
                lambda: layers.DepthwiseConv2D(depth_multiplier=groups, **same_strides),
                lambda: layers.SeparableConv2D(filters, depth_multiplier=groups, **same_strides),
            ]
        )
    )
    layer = made()
    layer(tally.Input((*image, channels)))
    ledger = tally.account(layer)
    assert multiply_adds(ledger, "") == multiply_adds(with_costs(layer, ledger), "") > 0


@given(st.lists(sizes, min_size=1, max_size=4), sizes)
@settings(max_examples=25, deadline=None)
def test_the_closed_form_of_any_dense_layer_is_what_following_a_call_finds(
    shape: list[int], units: int
) -> None:
    layer = layers.Dense(units)
    layer(tally.Input(shape))
    ledger = tally.account(layer)
    assert multiply_adds(ledger, "") == multiply_adds(with_costs(layer, ledger), "")


def test_a_layer_used_twice_counts_twice() -> None:
    left, right = tally.Input((8,)), tally.Input((8,))
    shared = layers.Dense(4, name="shared")
    model = tally.Model([left, right], layers.Concatenate()([shared(left), shared(right)]))
    ledger = tally.account(model)
    assert multiply_adds(ledger, "shared") == multiply_adds(with_costs(model, ledger), "shared") == 2 * 8 * 4


def test_what_cannot_be_told_is_unknown_and_so_is_its_sum() -> None:
    class Own(layers.Layer):
        def call(self, x):
            return x @ x.T

    own = Own(name="own")
    own(tally.KerasTensor((3, 3)))
    assert multiply_adds(tally.account(own), "") is None
    open_sides = tally.Sequential([tally.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv")])
    ledger = tally.account(open_sides)
    assert multiply_adds(ledger, "conv") is None
    assert total_multiply_adds(ledger) is None


def test_following_tells_what_the_ledger_alone_cannot() -> None:
    class Scores(layers.Layer):
        def call(self, x):
            return tally.ops.einsum("bij,bkj->bik", x, x)

    model = tally.Sequential([tally.Input((5, 3)), Scores(name="scores"), layers.Lambda(lambda x: x * 2)])
    ledger = tally.account(model)
    assert multiply_adds(ledger, "scores") is None
    assert total_multiply_adds(with_costs(model, ledger)) == 5 * 5 * 3


def test_an_op_of_a_graph_has_its_own_work() -> None:
    x = tally.Input((5, 3))
    model = tally.Model(x, tally.ops.matmul(x, tally.ops.transpose(x, (0, 2, 1))))
    ledger = tally.account(model)
    assert multiply_adds(ledger, "matmul") == 5 * 5 * 3
    assert multiply_adds(with_costs(model, ledger), "matmul") == 5 * 5 * 3
    assert multiply_adds(with_costs(model, ledger), "") == 0


def test_ledgers_of_other_libraries_are_counted_by_their_names_and_shapes() -> None:
    def one(
        kind: str, shape: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...], **options: int
    ) -> Ledger:
        owner = Owner(
            path="a",
            type=kind,
            module="torch.nn",
            input_shapes=((None, *before),),
            output_shapes=((None, *after),),
            options=tuple(options.items()),
        )
        return Ledger(name="m", owners=(owner,), entries=(Entry(path="a/weight", owner="a", shape=shape),))

    assert multiply_adds(one("Linear", (10, 16), (7, 16), (7, 10)), "a") == 7 * 16 * 10
    conv = one("Conv2d", (8, 3, 3, 3), (3, 6, 6), (8, 4, 4), out_channels=8)
    assert multiply_adds(conv, "a") == 16 * 27 * 8
    assert multiply_adds(one("LSTM", (20, 9), (7, 4), (7, 5)), "a") == 7 * 180
    assert multiply_adds(one("Strange", (8, 3), (3,), (8,)), "a") is None


def test_output_values_are_those_of_one_example() -> None:
    owner = Owner(path="a", type="LSTM", output_shapes=((None, 7, 5), (None, 5)))
    assert output_values(owner) == 7 * 5 + 5
    assert output_values(Owner(path="a", type="Conv2D", output_shapes=((None, None, 3),))) is None
    assert output_values(Owner(path="a", type="Conv2D")) is None


def matrices(path: str, *shapes: tuple[int, ...], state: str = "trainable") -> tuple[Entry, ...]:
    return tuple(
        Entry(path=f"{path}/{state}{place}", owner=path, shape=shape, state=state)
        for place, shape in enumerate(shapes)
    )


def test_a_cell_without_the_layer_that_runs_it_has_unknown_steps() -> None:
    cell = Owner(path="lstm/cell", type="LSTMCell")
    weights = matrices("lstm/cell", (3, 24), (6, 24))
    alone = Ledger(name="m", source="Keras weights", owners=(cell,), entries=weights)
    assert multiply_adds(alone, "lstm/cell") is None
    around = Owner(path="lstm", type="LSTM", input_shapes=((None, 8, 3),))
    assert multiply_adds(Ledger(name="m", owners=(around, cell), entries=weights), "lstm/cell") == 8 * 216
    stepping = Owner(path="lstm/cell", type="LSTMCell", input_shapes=((None, 3),))
    assert multiply_adds(Ledger(name="m", owners=(stepping,), entries=weights), "lstm/cell") == 216


@pytest.mark.parametrize(("layout", "shape"), [((), (8, 1, 8)), ((("layout", 1),), (1, 8, 8))])
def test_a_recurrent_node_of_onnx_runs_once_for_each_step(layout: tuple, shape: tuple[int, ...]) -> None:
    node = Owner(path="r", type="LSTM", input_shapes=(shape,), options=layout)
    entries = (*matrices("r", (1, 24, 8), (1, 24, 6)), *matrices("r", (1, 1, 6), state="fixed"))
    assert multiply_adds(Ledger(name="m", source="ONNX", owners=(node,), entries=entries), "r") == 8 * 336
