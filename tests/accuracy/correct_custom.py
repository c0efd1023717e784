"""Correct models: layers and models of ones own, done as they should be."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


@correct
def linear_with_its_weights_in_build():
    class Linear(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal")
            self.b = self.add_weight(shape=(self.units,), initializer="zeros")

        def call(self, inputs):
            return ops.matmul(inputs, self.w) + self.b

    inputs = keras.Input((10,))
    return keras.Model(inputs, Linear(5)(inputs))


@correct
def linear_with_its_weights_in_the_constructor():
    class Linear(layers.Layer):
        def __init__(self, inputs, units):
            super().__init__()
            self.w = self.add_weight(shape=(inputs, units), initializer="random_normal", trainable=True)
            self.b = self.add_weight(shape=(units,), initializer="zeros", trainable=True)

        def call(self, inputs):
            return inputs @ self.w + self.b

    return keras.Sequential([keras.Input((10,)), Linear(10, 5)])


@correct
def variables_made_without_add_weight():
    class Linear(layers.Layer):
        def __init__(self, inputs, units):
            super().__init__()
            self.w = keras.Variable(np.random.default_rng(0).normal(size=(inputs, units)), dtype="float32")
            self.b = keras.Variable(ops.zeros((units,)))

        def call(self, x):
            return ops.matmul(x, self.w) + self.b

    return keras.Sequential([keras.Input((4,)), Linear(4, 3)])


@correct
def build_that_sets_built_after_building_all():
    class Block(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.dense = layers.Dense(units)
            self.norm = layers.LayerNormalization()

        def build(self, input_shape):
            self.dense.build(input_shape)
            self.norm.build((*input_shape[:-1], self.dense.units))
            self.built = True

        def call(self, x):
            return self.norm(self.dense(x))

    return keras.Sequential([keras.Input((4,)), Block(3), layers.Dense(1)])


@correct
def build_that_ends_in_supers():
    class Scale(layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", name="scale")
            super().build(input_shape)

        def call(self, x):
            return x * self.scale

    return keras.Sequential([keras.Input((4,)), Scale(), layers.Dense(1)])


@correct
def deferred_sequential_with_its_data():
    model = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    model.build((None, 4))
    return model, ones(4, 4), ones(4, 1)


@correct
def subclass_built_by_fitting():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = layers.Dense(4, activation="relu"), layers.Dense(1)

        def call(self, x):
            return self.head(self.hidden(x))

    model = Net()
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model.fit(x, x[:, :1], verbose=0)
    return model, x, x[:, :1]


@correct
def constants_of_the_computation():
    class Standardise(layers.Layer):
        def __init__(self, mean, std):
            super().__init__()
            self.mean, self.std = np.asarray(mean, "float32"), np.asarray(std, "float32")

        def call(self, x):
            return (x - self.mean) / self.std

    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.Dense(1)(Standardise([1.0, 2.0, 3.0], [0.5, 1.0, 2.0])(inputs)))


@correct
def lambdas_with_constants():
    mean, std = np.array([0.485, 0.456, 0.406], "float32"), np.array([0.229, 0.224, 0.225], "float32")
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Lambda(lambda x: (x / 255.0 - mean) / std),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Lambda(lambda x: ops.mean(x, axis=[1, 2])),
            layers.Dense(2),
        ]
    )


@correct
def masks_made_in_the_call():
    class CausalMix(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

        def call(self, x):
            length = x.shape[1]
            mask = jnp.tril(jnp.ones((length, length), x.dtype))
            average = mask / jnp.sum(mask, axis=-1, keepdims=True)
            return jnp.einsum("st,btc->bsc", average, x) @ self.kernel

    inputs = keras.Input((5, 3))
    return keras.Model(inputs, layers.GlobalMaxPooling1D()(CausalMix(4)(inputs)))


@correct
def identity_matrix_in_the_call():
    class Decorrelate(layers.Layer):
        def build(self, input_shape):
            width = input_shape[-1]
            self.w = self.add_weight(shape=(width, width), initializer="zeros", name="w")

        def call(self, x):
            return ops.matmul(x, ops.eye(x.shape[-1]) + self.w)

    return keras.Sequential([keras.Input((4,)), Decorrelate(), layers.Dense(1)])


@correct
def adjacency_of_a_fixed_graph():
    edges = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]], "float32") + np.eye(
        4, dtype="float32"
    )
    degrees = edges.sum(axis=1)
    normalised = edges / np.sqrt(degrees[:, None] * degrees[None, :])

    class GraphConv(layers.Layer):
        def __init__(self, adjacency, units):
            super().__init__()
            self.adjacency = adjacency
            self.dense = layers.Dense(units)

        def call(self, x):
            return ops.relu(ops.matmul(self.adjacency, self.dense(x)))

    inputs = keras.Input((4, 3))
    x = GraphConv(normalised, 5)(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@correct
def constants_declared_as_frozen_weights():
    class Filterbank(layers.Layer):
        def __init__(self, bands):
            super().__init__()
            self.bands = bands

        def build(self, input_shape):
            grid = np.abs(np.linspace(0, 1, input_shape[-1])[:, None] - np.linspace(0, 1, self.bands)[None])
            triangles = np.maximum(0.0, 1.0 - 3.0 * grid).astype("float32")
            self.triangles = self.add_weight(
                shape=triangles.shape,
                initializer=lambda *_, **__: triangles,
                trainable=False,
                name="triangles",
            )

        def call(self, x):
            return ops.log(ops.matmul(x**2, self.triangles) + 1e-6)

    inputs = keras.Input((10, 16))
    x = layers.Conv1D(4, 3, activation="relu")(Filterbank(6)(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


@correct
def activation_that_is_a_layer():
    return keras.Sequential([keras.Input((4,)), layers.Dense(8, activation=layers.PReLU()), layers.Dense(1)])


@correct
def slope_owned_by_a_layer():
    class Swish(layers.Layer):
        def build(self, input_shape):
            self.beta = self.add_weight(shape=(), initializer="ones", name="beta")

        def call(self, x):
            return x * ops.sigmoid(self.beta * x)

    return keras.Sequential([keras.Input((4,)), layers.Dense(6), Swish(), layers.Dense(1)])


@correct
def function_attributes_without_weights():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.head = layers.Dense(4), layers.Dense(1)
            self.activation = functools.partial(jax.nn.leaky_relu, negative_slope=0.1)
            self.post = lambda x: ops.clip(x, -5.0, 5.0)
            self.log = logging.getLogger("net")

        def call(self, x):
            return self.post(self.head(self.activation(self.dense(x))))

    model = Net()
    model(ones(2, 3))
    return model


@correct
def configuration_in_a_plain_object():
    class Config:
        def __init__(self, units, rate):
            self.units, self.rate = units, rate

    class Net(keras.Model):
        def __init__(self, config):
            super().__init__()
            self.config = config
            self.dense, self.drop, self.head = (
                layers.Dense(config.units),
                layers.Dropout(config.rate),
                layers.Dense(1),
            )

        def call(self, x):
            return self.head(self.drop(ops.relu(self.dense(x))))

    model = Net(Config(4, 0.1))
    model(ones(2, 3))
    return model


@correct
def helper_object_around_layers_the_model_holds_too():
    class Runner:
        """Runs layers that belong to somebody else."""

        def __init__(self, stack):
            self.stack = stack

        def __call__(self, x):
            for layer in self.stack:
                x = layer(x)
            return x

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.stack = [layers.Dense(4), layers.Dense(1)]
            self.runner = Runner(self.stack)

        def call(self, x):
            return self.runner(x)

    model = Net()
    model(ones(2, 3))
    return model


@correct
def lambda_around_a_layer_the_model_holds_too():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)
            self.twice = lambda x: self.dense(self.dense(x))

        def call(self, x):
            return self.twice(x)

    model = Net()
    model(ones(2, 3))
    return model


@correct
def counter_of_calls():
    class Counted(layers.Layer):
        def __init__(self):
            super().__init__()
            self.calls = self.add_weight(
                shape=(), initializer="zeros", dtype="int32", trainable=False, name="calls"
            )
            self.dense = layers.Dense(2)

        def call(self, x, training=False):
            if training:
                self.calls.assign_add(1)
            return self.dense(x)

    return keras.Sequential([keras.Input((4,)), Counted()])


@correct
def running_mean_of_ones_own():
    class Center(layers.Layer):
        def build(self, input_shape):
            self.mean = self.add_weight(
                shape=input_shape[-1:], initializer="zeros", trainable=False, name="mean"
            )

        def call(self, x, training=False):
            if training:
                self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(ops.stop_gradient(x), axis=0))
            return x - self.mean

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Center(), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@correct
def metric_tracked_by_the_model():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3, activation="softmax")
            self.confidence = keras.metrics.Mean(name="confidence")

        def call(self, x):
            p = self.dense(x)
            self.confidence.update_state(ops.max(p, axis=-1))
            return p

    model = Net()
    model.compile("adam", "sparse_categorical_crossentropy")
    model(ones(2, 4))
    return model


@correct
def output_kept_for_looking_at_it():
    class Watched(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = layers.Dense(4, activation="relu"), layers.Dense(1)
            self.activations = {}

        def call(self, x):
            x = self.hidden(x)
            self.activations["hidden"] = x
            return self.head(x)

    model = Watched()
    model(ones(2, 3))
    return model


@correct
def branches_by_the_phase():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.drop, self.head = layers.Dense(4), layers.Dropout(0.5), layers.Dense(1)
            self.noise = layers.GaussianNoise(0.1)

        def call(self, x, training=False):
            if training:
                x = self.noise(x, training=training)
            x = self.dense(x)
            if training:
                x = self.drop(x, training=training)
            return self.head(x)

    model = Net()
    model(ones(2, 3))
    return model


@correct
def head_that_only_training_needs():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.trunk, self.head, self.auxiliary = layers.Dense(4), layers.Dense(1), layers.Dense(2)

        def build(self, input_shape):
            self.trunk.build(input_shape)
            self.head.build((None, 4))
            self.auxiliary.build((None, 4))
            self.built = True

        def call(self, x, training=False):
            x = ops.relu(self.trunk(x))
            if training:
                self.add_loss(ops.mean(self.auxiliary(x) ** 2))
            return self.head(x)

    model = Net()
    model.compile("adam", "mse")
    model(ones(2, 3))
    return model


@correct
def tied_autoencoder():
    class Transposed(layers.Layer):
        def __init__(self, dense):
            super().__init__()
            self.dense = dense

        def build(self, input_shape):
            self.bias = self.add_weight(shape=(self.dense.kernel.shape[0],), initializer="zeros", name="bias")

        def call(self, x):
            return ops.matmul(x, ops.transpose(self.dense.kernel)) + self.bias

    inputs = keras.Input((8,))
    encoder = layers.Dense(3, activation="tanh")
    code = encoder(inputs)
    model = keras.Model(inputs, Transposed(encoder)(code))
    model.compile("adam", "mse")
    return model


@correct
def layer_used_several_times():
    inputs = keras.Input((4,))
    again = layers.Dense(4, activation="tanh")
    x = inputs
    for _ in range(3):
        x = again(x)
    return keras.Model(inputs, layers.Dense(1)(x))


@correct
def regularised_and_constrained():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-4)),
            layers.Dense(4, kernel_constraint=keras.constraints.MaxNorm(2.0), bias_regularizer="l2"),
            layers.ActivityRegularization(l1=1e-3),
            layers.Dense(1),
        ]
    )


@correct
def bfloat16_for_the_computation():
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", dtype="float32")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(6, 8)).astype("float32"), np.array([0, 1, 2, 0, 1, 2], "int32")


@correct
def outputs_as_a_dictionary():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.trunk = layers.Dense(4, activation="relu")
            self.heads = {"value": layers.Dense(1), "policy": layers.Dense(3)}

        def call(self, x):
            x = self.trunk(x)
            return {name: head(x) for name, head in self.heads.items()}

    model = Net()
    model.compile(
        "adam", {"value": "mse", "policy": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    )
    model(ones(2, 3))
    return model


@correct
def rematerialised_block():
    class Remat(layers.Layer):
        def build(self, input_shape):
            width = input_shape[-1]
            self.first = self.add_weight(shape=(width, 8), name="first")
            self.second = self.add_weight(shape=(8, width), name="second")

        def call(self, x):
            def block(x, first, second):
                return jax.nn.relu(x @ first) @ second

            return x + jax.checkpoint(block)(x, self.first.value, self.second.value)

    return keras.Sequential([keras.Input((4,)), Remat(), layers.Dense(1)])
