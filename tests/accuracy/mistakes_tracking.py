"""Planted mistakes: arrays that act as weights without being any (T101, T102), and variables nobody owns (T103)."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


# -- T101: weights drawn in the call ---------------------------------------------------------------------------------
@mistake("T101", layer="naive_linear", counted=0)
def weights_assigned_in_call():
    class NaiveLinear(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def call(self, inputs):
            self.w = keras.random.normal(shape=(inputs.shape[-1], self.units))  # <- here
            self.b = ops.zeros((self.units,))
            return ops.matmul(inputs, self.w) + self.b

    inputs = keras.Input((10,))
    return keras.Model(inputs, NaiveLinear(5)(inputs))


@mistake("T101", layer="projection", counted=33)
def jax_random_in_call():
    class Projection(layers.Layer):
        def call(self, x):
            key = jax.random.PRNGKey(0)
            kernel = jax.random.normal(key, (x.shape[-1], 32)) * 0.05  # <- here
            return jax.nn.relu(x @ kernel)

    return keras.Sequential([keras.Input((16,)), Projection(), layers.Dense(1)])


@mistake("T101", layer="lambda", counted=6)
def numpy_random_in_lambda():
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Lambda(lambda x: ops.matmul(x, np.random.randn(8, 5).astype("float32"))),  # <- here
            layers.Dense(1),
        ]
    )


@mistake("T101", layer="glorot_dense", counted=0)
def initializer_called_in_call():
    class GlorotDense(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units
            self.initializer = keras.initializers.GlorotUniform(seed=1)

        def call(self, x):
            w = self.initializer(shape=(x.shape[-1], self.units))  # <- here
            return ops.relu(ops.dot(x, w))

    inputs = keras.Input((6,))
    x = GlorotDense(4)(inputs)
    return keras.Model(inputs, GlorotDense(2)(x))


@mistake("T101", layer="", counted=15)
def drawn_in_the_call_of_a_model():
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(3, activation="relu")

        def call(self, x):
            x = self.hidden(x)
            out = jax.random.uniform(jax.random.key(7), (3, 2), minval=-0.1, maxval=0.1)  # <- here
            return jnp.dot(x, out)

    model = Classifier()
    model(ones(2, 4))
    return model


@mistake("T101", layer="edge_conv", counted=0)
def convolution_with_a_drawn_kernel():
    class EdgeConv(layers.Layer):
        def call(self, images):
            kernel = keras.random.truncated_normal((3, 3, images.shape[-1], 8), stddev=0.1)  # <- here
            return ops.conv(images, kernel, strides=1, padding="same")

    inputs = keras.Input((8, 8, 3))
    x = EdgeConv()(inputs)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


@mistake("T101", layer="lookup", counted=17)
def embedding_table_drawn_in_call():
    class Lookup(layers.Layer):
        def call(self, ids):
            table = keras.random.uniform((100, 16), -0.05, 0.05)  # <- here
            return ops.mean(ops.take(table, ids, axis=0), axis=1)

    return keras.Sequential([keras.Input((12,), dtype="int32"), Lookup(), layers.Dense(1)])


@mistake("T101", layer="encoder/self_attention", counted=9)
def projections_drawn_inside_a_nested_model():
    class SelfAttention(layers.Layer):
        def call(self, x):
            width = x.shape[-1]
            q = x @ jax.random.normal(jax.random.key(0), (width, width))  # <- here
            k = x @ jax.random.normal(jax.random.key(1), (width, width))  # <- here
            scores = jax.nn.softmax(q @ jnp.swapaxes(k, -1, -2))
            return scores @ x

    tokens = keras.Input((5, 8))
    encoder = keras.Model(tokens, SelfAttention()(tokens), name="encoder")
    inputs = keras.Input((5, 8))
    pooled = layers.GlobalAveragePooling1D()(encoder(inputs))
    return keras.Model(inputs, layers.Dense(1)(pooled))


@mistake("T101", layer="blocks/1", counted=21)
def one_of_a_list_of_layers_draws():
    class Drawing(layers.Layer):
        def call(self, x):
            w = keras.random.normal((x.shape[-1], 4))  # <- here
            b = keras.random.normal((4,))
            return ops.tanh(x @ w + b)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(4), Drawing(), layers.Dense(1, use_bias=False)]
            self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x * self.scale

    model = Net()
    model(ones(2, 3))
    return model


# -- T102: a raw array as an attribute -------------------------------------------------------------------------------
@mistake("T102", layer="linear", counted=0)
def jax_array_made_in_build():
    class Linear(layers.Layer):
        def __init__(self, units=4):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            key = jax.random.PRNGKey(0)
            self.w = jax.random.normal(key, (input_shape[-1], self.units))  # <- here
            self.b = jnp.zeros((self.units,))

        def call(self, x):
            return x @ self.w + self.b

    return keras.Sequential([keras.Input((6,)), Linear()])


@mistake("T102", layer="early_linear", counted=9)
def numpy_array_made_in_the_constructor():
    class EarlyLinear(layers.Layer):
        def __init__(self, inputs, units):
            super().__init__()
            self.kernel = np.random.randn(inputs, units).astype("float32") * 0.01  # <- here

        def call(self, x):
            return ops.matmul(x, self.kernel)

    inputs = keras.Input((10,))
    return keras.Model(inputs, layers.Dense(1)(EarlyLinear(10, 8)(inputs)))


@mistake("T102", layer="my_dense", counted=0)
def initializer_called_in_build():
    class MyDense(layers.Layer):
        def build(self, input_shape):
            init = keras.initializers.HeNormal(seed=3)
            self.kernel = init(shape=(input_shape[-1], 4), dtype="float32")  # <- here
            self.bias = ops.zeros((4,))

        def call(self, x):
            return ops.relu(ops.matmul(x, self.kernel) + self.bias)

    layer = MyDense()
    inputs = keras.Input((5,))
    return keras.Model(inputs, layer(inputs))


@mistake("T102", layer="", counted=0)
def list_of_arrays_in_a_model():
    class Mlp(keras.Model):
        def __init__(self, sizes):
            super().__init__()
            rng = np.random.default_rng(0)
            self.ws = [  # <- here
                jnp.asarray(rng.normal(size=pair), "float32")  # <- here
                for pair in itertools.pairwise(sizes)  # <- here
            ]

        def call(self, x):
            for w in self.ws[:-1]:
                x = jnp.tanh(x @ w)
            return x @ self.ws[-1]

    model = Mlp([4, 8, 1])
    model(ones(2, 4))
    return model


@mistake("T102", layer="token_table", counted=9)
def embedding_table_as_an_array():
    class TokenTable(layers.Layer):
        def __init__(self, size, width):
            super().__init__()
            self.table = np.random.uniform(-0.05, 0.05, (size, width)).astype("float32")  # <- here

        def call(self, ids):
            return ops.take(self.table, ids, axis=0)

    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            TokenTable(50, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1),
        ]
    )


@mistake("T102", layer="affine", counted=12)
def bias_alone_as_an_array():
    class Affine(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
            self.bias = jnp.zeros((self.units,))  # <- here

        def call(self, x):
            return x @ self.kernel + self.bias

    return keras.Sequential([keras.Input((4,)), Affine(3)])


def init_params(key, sizes):
    """Initial parameters as a functional JAX program has them."""
    keys = jax.random.split(key, len(sizes))
    return {  # <- here
        f"w{i}": jax.random.normal(k, (m, n)) / jnp.sqrt(m)  # <- here
        for i, (k, m, n) in enumerate(zip(keys, sizes[:-1], sizes[1:], strict=False))
    }


@mistake("T102", layer="jax_mlp", counted=0, source=(init_params,))
def dict_of_parameters_in_jax_style():
    class JaxMlp(layers.Layer):
        def __init__(self, sizes):
            super().__init__()
            self.params = init_params(jax.random.key(0), sizes)  # <- here

        def call(self, x):
            x = jax.nn.relu(x @ self.params["w0"])
            return x @ self.params["w1"]

    return keras.Sequential([keras.Input((4,)), JaxMlp([4, 8, 2])])


@mistake("T102", layer="stem/random_conv", counted=5)
def convolution_kernel_as_an_array():
    class RandomConv(layers.Layer):
        def build(self, input_shape):
            self.filters = keras.random.normal((3, 3, input_shape[-1], 4), stddev=0.1, seed=0)  # <- here

        def call(self, x):
            return jax.lax.conv_general_dilated(
                x, self.filters, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

    stem = keras.Sequential([RandomConv(), layers.ReLU(), layers.GlobalMaxPooling2D()], name="stem")
    return keras.Sequential([keras.Input((6, 6, 1)), stem, layers.Dense(1)])


# -- T103: a variable that no layer owns -----------------------------------------------------------------------------
@mistake("T103", layer="lambda", counted=33)
def lambda_with_a_variable_from_outside():
    scale = keras.Variable(ones(8), name="scale")  # <- here
    inputs = keras.Input((32,))
    x = layers.Dense(1, name="score")(inputs)
    outputs = layers.Lambda(lambda t: t * scale)(x)  # <- here
    return keras.Model(inputs, outputs)


@mistake("T103", layer="dense", counted=44)
def activation_with_a_slope_that_should_be_learned():
    beta = keras.Variable(1.0, name="beta")  # <- here

    def swish(x):
        return x * ops.sigmoid(beta * x)  # <- here

    return keras.Sequential([keras.Input((4,)), layers.Dense(6, activation=swish), layers.Dense(2)])


TEMPERATURE = keras.Variable(np.full((3,), 2.0, "float32"), name="temperature")  # <- here


@mistake("T103", layer="tempered", counted=15, source=("TEMPERATURE",))
def variable_of_the_module():
    class Tempered(layers.Layer):
        def call(self, logits):
            return ops.softmax(logits / TEMPERATURE)  # <- here

    return keras.Sequential([keras.Input((4,)), layers.Dense(3), Tempered()])


@mistake("T103", layer="", counted=8)
def variable_in_a_function_that_an_attribute_holds():
    class Regressor(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)
            offset = keras.Variable(np.zeros(2, "float32"), name="offset")  # <- here
            self.shift = lambda x: x + offset  # <- here

        def call(self, x):
            return self.shift(self.dense(x))

    model = Regressor()
    model(ones(2, 3))
    return model


@mistake("T103", layer="lambda", counted=0)
def variable_as_a_default_argument():
    kernel = keras.Variable(np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))  # <- here
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Lambda(lambda x, w=kernel: ops.matmul(x, w)),  # <- here
        ]
    )


def weighted(x, weights):
    """Multiply by weights that a partial function brings along."""
    return x * ops.softplus(weights)  # <- here


@mistake("T103", layer="gate", counted=5, source=(weighted,))
def variable_in_a_partial_function():
    class Gate(layers.Layer):
        def __init__(self):
            super().__init__()
            gates = keras.Variable(np.zeros(4, "float32"), name="gates")  # <- here
            self.function = functools.partial(weighted, weights=gates)  # <- here

        def call(self, x):
            return self.function(x)

    return keras.Sequential([keras.Input((4,)), Gate(), layers.Dense(1)])
