"""Planted mistakes: weights never used (T301), parts that lead nowhere (T302), gradients that are cut off (T303)."""

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


# -- T301: counted, but never used -----------------------------------------------------------------------------------
@mistake("T301", layer="auxiliary", counted=43)
def layer_built_but_never_called():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(4)
            self.auxiliary = layers.Dense(3)  # <- here
            self.auxiliary.build((None, 4))  # <- here
            self.head = layers.Dense(1, use_bias=False)
            self.skip = layers.Dense(1, use_bias=False)

        def call(self, x):
            return self.head(self.hidden(x)) + self.skip(x)

    model = Net()
    model(ones(2, 4))
    return model


@mistake("T301", layer="linear", counted=15)
def bias_made_but_never_added():
    class Linear(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], self.units), name="w")
            self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")  # <- here

        def call(self, x):
            return ops.matmul(x, self.w)

    return keras.Sequential([keras.Input((4,)), Linear(3)])


@mistake("T301", layer="tokens", counted=137)
def positions_made_but_never_added():
    class Tokens(layers.Layer):
        def __init__(self, vocabulary, length, width):
            super().__init__()
            self.embed = layers.Embedding(vocabulary, width)
            self.length, self.width = length, width

        def build(self, input_shape):
            self.embed.build(input_shape)
            self.positions = self.add_weight(  # <- here
                shape=(self.length, self.width), name="positions"
            )

        def call(self, ids):
            return self.embed(ids)

    inputs = keras.Input((6,), dtype="int32")
    x = Tokens(10, 6, 8)(inputs)
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


@mistake("T301", layer="base/classes", counted=22)
def second_output_of_a_base_left_unused():
    image = keras.Input((4,))
    features = layers.Dense(3, activation="relu", name="features")(image)
    classes = layers.Dense(1, name="classes")(features)  # <- here
    base = keras.Model(image, [features, classes], name="base")

    inputs = keras.Input((4,))
    features, _ = base(inputs)
    return keras.Model(inputs, layers.Dense(1, use_bias=False)(features))


@mistake("T301", layer="stack/blocks/2", counted=60)
def loop_that_leaves_out_the_last_block():
    class Stack(layers.Layer):
        def __init__(self, depth):
            super().__init__()
            self.blocks = [layers.Dense(4, activation="relu") for _ in range(depth)]  # <- here

        def build(self, input_shape):
            for block in self.blocks:
                block.build(input_shape)

        def call(self, x):
            for i in range(len(self.blocks) - 1):
                x = self.blocks[i](x)
            return x

    return keras.Sequential([keras.Input((4,)), Stack(3)])


@mistake("T301", "T302", "T303", layer="normalise", counted=24)
def result_of_a_layer_dropped_in_the_call():
    class Block(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)
            self.normalise = layers.LayerNormalization()  # <- here
            self.head = layers.Dense(1, use_bias=False)

        def call(self, x):
            x = self.dense(x)
            self.normalise(x)  # <- here
            return self.head(ops.relu(x))

    model = Block()
    model(ones(2, 4))
    return model


@mistake("T301", layer="attention_pool", counted=24)
def one_of_three_projections_unused():
    class AttentionPool(layers.Layer):
        def build(self, input_shape):
            width = input_shape[-1]
            self.query = self.add_weight(shape=(width, 1), name="query")
            self.key = self.add_weight(shape=(width, width), name="key")  # <- here
            self.out = self.add_weight(shape=(width, 1), name="out")

        def call(self, x):
            scores = ops.softmax(ops.matmul(x, self.query), axis=1)
            return ops.matmul(ops.sum(scores * x, axis=1), self.out)

    inputs = keras.Input((5, 4))
    return keras.Model(inputs, AttentionPool()(inputs))


# -- T302: a part of the graph, or an input, that leads nowhere ------------------------------------------------------
@mistake("T302", layer=("sex", ""))
def input_that_reaches_no_output():
    age = keras.Input((1,), name="age")
    sex = keras.Input((1,), name="sex")  # <- here
    x = layers.Dense(4, activation="relu")(age)
    return keras.Model([age, sex], layers.Dense(1)(x))  # <- here


@mistake("T302", layer=("meta", ""))
def input_of_a_dictionary_forgotten_in_the_concatenation():
    inputs = {
        "image": keras.Input((8, 8, 1), name="image"),
        "text": keras.Input((12,), name="text"),
        "meta": keras.Input((3,), name="meta"),  # <- here
    }
    image = layers.Flatten()(layers.Conv2D(2, 3)(inputs["image"]))
    joined = layers.Concatenate()([image, inputs["text"]])
    return keras.Model(inputs, layers.Dense(1)(joined))  # <- here


@mistake("T302", by="function")
def dropout_applied_but_not_taken_up():
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu")(inputs)
    layers.Dropout(0.5)(x)  # <- here
    outputs = layers.Dense(1)(x)
    return keras.Model(inputs, outputs)


@mistake("T302", by="function")
def dense_applied_but_not_taken_up():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    _hidden = layers.Dense(32, activation="relu")(x)  # <- here
    return keras.Model(inputs, layers.Dense(2)(x))


@mistake("T302", by="function")
def branch_left_out_of_the_merge():
    inputs = keras.Input((10, 4))
    short = layers.GlobalMaxPooling1D()(layers.Conv1D(3, 2)(inputs))
    medium = layers.GlobalMaxPooling1D()(layers.Conv1D(3, 3)(inputs))
    long = layers.Conv1D(3, 5)(inputs)  # <- here
    long = layers.GlobalMaxPooling1D()(long)  # <- here
    merged = layers.Concatenate()([short, medium])
    return keras.Model(inputs, layers.Dense(1)(merged))


@mistake("T302", layer="")
def second_input_ignored_by_the_call():
    class Matcher(keras.Model):
        def __init__(self):
            super().__init__()
            self.tower = layers.Dense(4)

        def call(self, inputs):
            q = self.tower(inputs[0])
            d = self.tower(inputs[0])  # the second was meant
            return ops.sum(q * d, axis=-1, keepdims=True)

    model = Matcher()
    model([ones(2, 3), ones(2, 3)])
    return model


# -- T303: no gradient comes back ------------------------------------------------------------------------------------
@mistake("T303", layer="dense")
def stop_gradient_before_the_head():
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu")(inputs)
    x = ops.stop_gradient(x)  # <- here
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("adam", "mse")
    return model


@mistake("T303", layer="features")
def stop_gradient_left_in_a_subclass():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.features = layers.Dense(8, activation="relu")
            self.head = layers.Dense(1)

        def call(self, x):
            features = self.features(x)
            return self.head(jax.lax.stop_gradient(features))  # <- here

    model = Net()
    model(ones(2, 4))
    return model


@mistake("T303", layer=("dense", "dense_1"))
def labels_by_argmax_as_the_trained_output():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(3, activation="softmax"),
            layers.Lambda(lambda p: ops.cast(ops.argmax(p, axis=-1), "float32")[:, None]),  # <- here
        ]
    )
    model.compile("adam", "mse")
    return model


@mistake("T303", layer=("dense", "dense_1"))
def rounding_before_the_loss():
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(inputs)
    x = layers.Dense(1, activation="sigmoid")(x)
    outputs = ops.round(x)  # <- here
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy")
    return model


@mistake("T303", layer=("hidden", "score"))
def threshold_before_the_loss():
    class Detector(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(4, activation="relu")
            self.score = layers.Dense(1, activation="sigmoid")

        def call(self, x):
            p = self.score(self.hidden(x))
            return (p > 0.5).astype("float32")  # <- here

    model = Detector()
    model.compile("adam", "mse")
    model(ones(2, 4))
    return model


@mistake("T303", layer="position")
def integer_cast_before_a_lookup():
    inputs = keras.Input((3,))
    position = layers.Dense(1, activation="sigmoid", name="position")(inputs)
    index = ops.cast(position * 9.0, "int32")  # <- here
    x = layers.Flatten()(layers.Embedding(10, 4)(index))
    return keras.Model(inputs, layers.Dense(1)(x))


@mistake("T303", layer="binary_dense")
def sign_of_the_weights_without_a_straight_through_estimator():
    class BinaryDense(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

        def call(self, x):
            return ops.matmul(x, ops.sign(self.kernel))  # <- here

    return keras.Sequential([keras.Input((6,)), BinaryDense(4), layers.Dense(1)])


@mistake("T303", layer="gate")
def hard_gate_by_comparison():
    inputs = keras.Input((4,))
    gate = layers.Dense(4, name="gate")(inputs)
    value = layers.Dense(4, name="value")(inputs)
    kept = ops.where(gate > 0, value, ops.zeros_like(value))  # <- here
    return keras.Model(inputs, layers.Dense(1, name="out")(kept))


@mistake("T303", layer="codes")
def one_hot_of_the_argmax():
    class Router(keras.Model):
        def __init__(self, experts):
            super().__init__()
            self.codes = layers.Dense(experts)
            self.experts = [layers.Dense(2) for _ in range(experts)]

        def call(self, x):
            choice = jax.nn.one_hot(jnp.argmax(self.codes(x), axis=-1), len(self.experts))  # <- here
            made = jnp.stack([expert(x) for expert in self.experts], axis=1)
            return jnp.sum(made * choice[:, :, None], axis=1)

    model = Router(3)
    model(ones(2, 4))
    return model
