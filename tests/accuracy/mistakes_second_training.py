"""A second round of planted mistakes, written after `diagnose` knew the first: reach, phases, losses, shapes."""

import jax
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def toy() -> tuple[np.ndarray, np.ndarray]:
    return numbers(8, 4), numbers(8, 1)


# -- T301 ------------------------------------------------------------------------------------------------------------
@mistake("T301", layer="heads/age", counted=18)
def head_of_another_task_never_used():
    class Tasks(keras.Model):
        def __init__(self):
            super().__init__()
            self.trunk = layers.Dense(2)
            self.heads = {"age": layers.Dense(1), "sex": layers.Dense(1)}  # <- here

        def build(self, input_shape):
            self.trunk.build(input_shape)
            for head in self.heads.values():
                head.build((None, 2))
            self.built = True

        def call(self, x):
            return self.heads["sex"](self.trunk(x))

    model = Tasks()
    model(numbers(2, 5))
    return model


@mistake("T301", layer="gated")
def gate_switched_off_by_a_flag():
    class Gated(layers.Layer):
        def __init__(self, use_gate=False):
            super().__init__()
            self.use_gate = use_gate

        def build(self, input_shape):
            width = input_shape[-1]
            self.kernel = self.add_weight(shape=(width, width), name="kernel")
            self.gate = self.add_weight(shape=(width, width), name="gate")  # <- here

        def call(self, x):
            out = ops.matmul(x, self.kernel)
            if self.use_gate:
                out = out * ops.sigmoid(ops.matmul(x, self.gate))
            return out

    return keras.Sequential([keras.Input((4,)), Gated(), layers.Dense(1)])


@mistake("T301", "T303", layer="prompt")
def prompt_tokens_cut_off_again():
    class Prompt(layers.Layer):
        def build(self, input_shape):
            self.tokens = self.add_weight(shape=(1, 2, input_shape[-1]), name="tokens")  # <- here

        def call(self, x):
            tokens = ops.broadcast_to(self.tokens, (ops.shape(x)[0], 2, x.shape[-1]))
            return ops.concatenate([tokens, x], axis=1)[:, 2:]

    inputs = keras.Input((5, 4))
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(Prompt(name="prompt")(inputs))))


# -- T302 ------------------------------------------------------------------------------------------------------------
@mistake("T302", by="function")
def normalisation_and_activation_not_taken_up():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3)(inputs)
    y = layers.BatchNormalization()(x)  # <- here
    y = layers.ReLU()(y)  # <- here
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(1)(x))


@mistake("T302", layer=("weight", ""))
def third_input_left_over():
    inputs = [keras.Input((2,), name=name) for name in ("height", "width", "weight")]  # <- here
    x = layers.Concatenate()(inputs[:2])
    return keras.Model(inputs, layers.Dense(1)(x))  # <- here


# -- T303 ------------------------------------------------------------------------------------------------------------
@mistake("T303", layer="scores")
def ranking_by_argsort():
    class Ranker(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = layers.Dense(5)

        def call(self, x):
            order = ops.argsort(self.scores(x), axis=-1)  # <- here
            return ops.cast(order, "float32")

    model = Ranker()
    model.compile("adam", "mse")
    model(numbers(2, 3))
    return model


@mistake("T303", layer=("encoder/dense", "encoder/dense_1"))
def floor_between_encoder_and_decoder():
    encoder = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2)], name="encoder")
    inputs = keras.Input((6,))
    codes = layers.Lambda(lambda z: ops.floor(z * 8.0) / 8.0)(encoder(inputs))  # <- here
    model = keras.Model(inputs, layers.Dense(6)(codes))
    model.compile("adam", "mse")
    return model


@mistake("T303", layer="detached")
def own_weight_behind_stop_gradient():
    class Detached(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 3), name="kernel")

        def call(self, x):
            return x @ jax.lax.stop_gradient(self.kernel.value)  # <- here

    return keras.Sequential([keras.Input((4,)), Detached(), layers.Dense(1)])


@mistake("T303", layer="gate")
def experts_by_the_index_of_the_best():
    class Choose(keras.Model):
        def __init__(self):
            super().__init__()
            self.gate = layers.Dense(3)
            self.table = layers.Embedding(3, 4)
            self.head = layers.Dense(1)

        def call(self, x):
            _, best = jax.lax.top_k(self.gate(x), 1)  # <- here
            return self.head(self.table(best[:, 0]))

    model = Choose()
    model(numbers(4, 3))
    return model


# -- T402 ------------------------------------------------------------------------------------------------------------
@mistake("T402", layer=("first", ""))
def whole_model_switched_on_after_training():
    x, y = toy()
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, trainable=False, name="first"), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.trainable = True  # <- here
    return model


@mistake("T402", layer="first")
def one_weight_switched_on_after_training():
    x, y = toy()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="first"), layers.Dense(1)])
    model.get_layer("first").kernel.trainable = False
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.get_layer("first").kernel.trainable = True  # <- here
    return model


# -- T403 ------------------------------------------------------------------------------------------------------------
@mistake("T403", layer=("backbone", "backbone/blocks/1"))
def last_block_of_a_frozen_backbone():
    class Backbone(layers.Layer):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(4, activation="relu") for _ in range(2)]

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    backbone = Backbone()
    model = keras.Sequential([keras.Input((3,)), backbone, layers.Dense(1)])
    backbone.trainable = False  # <- here
    backbone.blocks[-1].trainable = True  # <- here
    model.compile("adam", "mse")
    return model


@mistake("T403", layer=("", "norm"))
def frozen_normalisations_thawed_by_the_model():
    inputs = keras.Input((6,))
    x = layers.Dense(4)(inputs)
    norm = layers.BatchNormalization(name="norm")
    norm.trainable = False  # <- here
    model = keras.Model(inputs, layers.Dense(1)(norm(x)))
    model.trainable = True  # <- here
    model.compile("adam", "mse")
    return model


# -- T405 ------------------------------------------------------------------------------------------------------------
@mistake("T405", layer="steps/1")
def phase_fixed_for_every_layer_in_a_loop():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.steps = [layers.Dense(8), layers.Dropout(0.4), layers.Dense(1)]

        def call(self, x):
            for step in self.steps:
                x = step(x, training=False)  # <- here
            return x

    model = Net()
    model(numbers(2, 4))
    return model


@mistake("T405", layer="multi_head_attention")
def dropout_of_attention_switched_off():
    inputs = keras.Input((5, 8))
    x = layers.MultiHeadAttention(2, 4, dropout=0.3)(inputs, inputs, training=False)  # <- here
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


@mistake("T405", layer="spatial_dropout1d")
def spatial_dropout_always_on():
    inputs = keras.Input((10, 4))
    x = layers.SpatialDropout1D(0.3)(inputs, training=True)  # <- here
    return keras.Model(inputs, layers.Dense(1)(layers.LSTM(3)(x)))


# -- T501 ------------------------------------------------------------------------------------------------------------
@mistake("T501", layer=("dense", ""))
def loss_object_without_from_logits():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(10)])  # <- here
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])  # <- here
    return model


@mistake("T501", layer=("dense", ""))
def divergence_of_logits():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])  # <- here
    model.compile("adam", "kl_divergence")  # <- here
    return model


@mistake("T501", layer=("second", ""))
def list_of_losses_in_the_wrong_order():
    inputs = keras.Input((8,))
    first = layers.Dense(3, activation="softmax", name="first")(inputs)
    second = layers.Dense(1, name="second")(inputs)  # <- here
    model = keras.Model(inputs, [first, second])
    model.compile("adam", ["mse", "categorical_crossentropy"])  # <- here
    return model


@mistake("T501", layer=("dense", ""))
def class_numbers_against_two_softmax_units_and_a_binary_loss():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2, activation="softmax")])  # <- here
    model.compile("adam", "binary_crossentropy")  # <- here
    return model, numbers(8, 8), (np.arange(8) % 2).astype("int32")


@mistake("T501", layer=("dense", ""))
def three_targets_for_five_units():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(5)(inputs))  # <- here
    model.compile("adam", "mae")  # <- here
    return model, numbers(8, 8), numbers(8, 3)


@mistake("T501", layer=("words", ""))
def logits_of_a_language_model():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.GRU(8, return_sequences=True)(layers.Embedding(20, 8)(inputs))
    model = keras.Model(inputs, layers.Dense(20, name="words")(x))  # <- here
    model.compile("adam", "sparse_categorical_crossentropy")  # <- here
    ids = np.random.default_rng(0).integers(0, 20, (4, 6)).astype("int32")
    return model, ids, ids


# -- T502 ------------------------------------------------------------------------------------------------------------
@mistake("T502")
def infinite_value_in_the_data():
    x = numbers(16, 8)
    x[0, 0] = np.inf
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="tanh"), layers.Dense(1)])
    model.compile("adam", "mse")
    return model, x, numbers(16, 1)


@mistake("T502", layer=("exponential", ""))
def exponential_that_overflows():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Lambda(lambda x: ops.exp(x), name="exponential"),  # <- here
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model, 100.0 + 10.0 * np.abs(numbers(16, 4)), numbers(16, 1)


@mistake("T502", layer=("ratio", ""))
def division_by_a_norm_of_zero():
    class Ratio(layers.Layer):
        def call(self, x):
            return x / ops.sum(x, axis=-1, keepdims=True)  # <- here

    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(1)(Ratio()(inputs)))  # <- here
    model.compile("adam", "mse")
    x = np.abs(numbers(16, 5))
    x[4] = 0.0
    return model, x, numbers(16, 1)


@mistake("T502")
def weights_drawn_far_too_small():
    tiny = keras.initializers.RandomNormal(stddev=1e-6)
    model = keras.Sequential([keras.Input((16,))])
    for _ in range(6):
        model.add(layers.Dense(16, activation="tanh", kernel_initializer=tiny))  # <- here
    model.add(layers.Dense(1))
    model.compile("adam", "mse")
    return model, numbers(16, 16), numbers(16, 1)


# -- T601 ------------------------------------------------------------------------------------------------------------
@mistake("T601", layer="dense", also=("T501",))
def depthwise_features_into_one_sigmoid():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.Conv2D(4, 1, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dense(1, activation="sigmoid"),  # <- here
        ]
    )
    model.compile("adam", "binary_crossentropy")
    return model, numbers(4, 16, 16, 3), np.array([0, 1, 1, 0], "float32")


@mistake("T601", layer="classes")
def features_of_a_base_into_a_dense():
    image = keras.Input((16, 16, 3))
    base = keras.Model(image, layers.Conv2D(8, 3, strides=2, activation="relu")(image), name="base")
    inputs = keras.Input((16, 16, 3))
    x = base(inputs)
    outputs = layers.Dense(5, activation="softmax", name="classes")(x)  # <- here
    return keras.Model(inputs, outputs)


# -- T602 ------------------------------------------------------------------------------------------------------------
@mistake("T602", layer=("separable_conv2d", ""))
def channels_first_into_a_separable_convolution():
    return keras.Sequential(
        [
            keras.Input((3, 64, 64)),  # <- here
            layers.SeparableConv2D(8, 3, padding="same", activation="relu"),  # <- here
            layers.GlobalMaxPooling2D(),
            layers.Dense(2),
        ]
    )


@mistake("T602", layer=("block/norm", "block"))
def normalisation_over_the_rows_in_a_block():
    class Block(layers.Layer):
        def __init__(self, filters):
            super().__init__()
            self.conv = layers.Conv2D(filters, 3, padding="same", use_bias=False)
            self.norm = layers.BatchNormalization(axis=1)  # <- here

        def call(self, x):
            return ops.relu(self.norm(self.conv(x)))

    inputs = keras.Input((24, 24, 3))
    x = Block(4)(inputs)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


@mistake("T602", layer=("simple_rnn", ""))
def all_of_a_series_in_one_step():
    model = keras.Sequential(
        [
            keras.Input((1, 100)),  # <- here
            layers.SimpleRNN(8),  # <- here
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model, numbers(8, 1, 100), numbers(8, 1)


# -- T603 ------------------------------------------------------------------------------------------------------------
@mistake("T603", by="function")
def recurrence_over_an_open_number_of_features():
    inputs = keras.Input((10, None))
    return keras.Model(inputs, layers.LSTM(4)(inputs))  # <- here


@mistake("T603", by="function")
def transposed_before_a_dense():
    inputs = keras.Input((None, 8))
    x = layers.Permute((2, 1))(inputs)
    return keras.Model(inputs, layers.Dense(4)(x))  # <- here


@mistake("T603", by="function")
def flatten_inside_a_subclass():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.flatten = layers.Conv2D(4, 3), layers.Flatten()
            self.head = layers.Dense(2)  # <- here

        def call(self, x):
            return self.head(self.flatten(self.conv(x)))  # <- here

    model = Net()
    model.build((None, None, None, 3))
    return model
