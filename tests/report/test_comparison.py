"""What a comparison of variants, one layer's explanation and a folded model look like."""

import tally
from tally import layers
from tally.accounting import explain
from tally.report import draw, render
from tally.report.what_if import draw as draw_what_if


def convnet() -> tally.Model:
    first = [layers.Conv2D(32, 3), layers.MaxPooling2D(2), layers.Conv2D(64, 3), layers.MaxPooling2D(2)]
    last = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(10)]
    return tally.Sequential([tally.Input((28, 28, 1)), *first, *last], name="convnet")


def test_variants_of_a_layer_look_as_they_did(golden) -> None:
    found = tally.what_if(convnet(), "conv2d_1", print_fn=lambda _: None)
    golden("what_if_convnet", render(draw_what_if(found), 88))


def test_a_convolution_alone_looks_as_it_did(golden) -> None:
    layer = layers.Conv2D(10, 4, name="conv")
    found = tally.what_if(layer, input_shape=(None, 32, 32, 3), groups=[2, 3], print_fn=lambda _: None)
    golden("what_if_refused", render(draw_what_if(found), 88))


def test_what_the_model_cannot_take_looks_as_it_did(golden) -> None:
    inputs = tally.Input((8,))
    outputs = layers.Add(name="add")([inputs, layers.Dense(8, name="up")(inputs)])
    found = tally.what_if(
        tally.Model(inputs, outputs, name="residual"), "up", units=4, print_fn=lambda _: None
    )
    golden("what_if_residual", render(draw_what_if(found), 88))


def test_one_layer_explained_looks_as_it_did(golden) -> None:
    golden("explanation_one_layer", render(draw(explain(tally.account(convnet()), "dense")), 88))


def test_windows_and_groups_explained_look_as_they_did(golden) -> None:
    stack = [
        layers.Conv2D(8, 3, strides=2, padding="same", groups=2, name="grouped"),
        layers.SeparableConv2D(6, 3, dilation_rate=2, name="separable"),
        layers.AveragePooling2D(3, strides=1, padding="same", name="mean"),
        layers.Conv2DTranspose(4, 3, strides=2, name="back"),
        layers.Lambda(lambda x: x / 255.0, name="scaled"),
    ]
    model = tally.Sequential([tally.Input((28, 28, 4)), *stack], name="windows")
    golden("explanation_windows", render(draw(explain(tally.account(model))), 88))


class Block(layers.Layer):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.norm, self.attention = layers.LayerNormalization(), layers.MultiHeadAttention(2, 4)

    def call(self, x):
        h = self.norm(x)
        return x + self.attention(h, h)


def test_a_folded_decoder_looks_as_it_did(golden) -> None:
    stack = [layers.Embedding(50, 8), *(Block(name=f"block_{i}") for i in range(12)), layers.Dense(50)]
    model = tally.Sequential([tally.Input((6,), dtype="int32"), *stack], name="decoder")
    golden("explanation_folded", render(draw(explain(tally.account(model))), 88))
