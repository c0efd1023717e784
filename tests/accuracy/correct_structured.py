"""Correct models: tables, ratings, several inputs and outputs, and the pairs of activation and loss that fit."""

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def classes(count: int, below: int) -> np.ndarray:
    return (np.arange(count) % below).astype("int32")


@correct
def wide_and_deep():
    wide, deep = keras.Input((5,), name="wide"), keras.Input((6,), name="deep")
    x = layers.Dense(8, activation="relu")(deep)
    x = layers.Dense(8, activation="relu")(x)
    outputs = layers.Dense(1, activation="sigmoid")(layers.concatenate([wide, x]))
    model = keras.Model([wide, deep], outputs)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


@correct
def dlrm():
    dense = keras.Input((4,), name="numbers")
    sparse = [keras.Input((1,), dtype="int32", name=f"category_{i}") for i in range(3)]
    bottom = layers.Dense(4, activation="relu")(layers.Dense(8, activation="relu")(dense))
    vectors = [bottom, *(layers.Flatten()(layers.Embedding(20, 4)(one)) for one in sparse)]
    stacked = layers.Lambda(lambda t: ops.stack(t, axis=1))(vectors)
    crossed = layers.Flatten()(layers.Dot(axes=2)([stacked, stacked]))
    top = layers.Dense(8, activation="relu")(layers.Concatenate()([bottom, crossed]))
    model = keras.Model([dense, *sparse], layers.Dense(1, activation="sigmoid")(top))
    model.compile("adagrad", "binary_crossentropy")
    return model


@correct
def matrix_factorisation_with_biases():
    class Ratings(keras.Model):
        def __init__(self, users, items, width):
            super().__init__()
            self.user = layers.Embedding(users, width, embeddings_regularizer="l2")
            self.user_bias = layers.Embedding(users, 1)
            self.item = layers.Embedding(items, width, embeddings_regularizer="l2")
            self.item_bias = layers.Embedding(items, 1)

        def call(self, pairs):
            user, item = pairs[:, 0], pairs[:, 1]
            likeness = ops.sum(self.user(user) * self.item(item), axis=-1, keepdims=True)
            return ops.sigmoid(likeness + self.user_bias(user) + self.item_bias(item))

    model = Ratings(10, 20, 4)
    model.compile("adam", "binary_crossentropy")
    pairs = np.stack([np.arange(8) % 10, np.arange(8) % 20], axis=1).astype("int32")
    model(pairs)
    return model, pairs, np.linspace(0, 1, 8, dtype="float32")[:, None]


@correct
def two_towers():
    query, item = keras.Input((6,)), keras.Input((9,))
    q = layers.UnitNormalization()(layers.Dense(4)(layers.Dense(8, activation="relu")(query)))
    i = layers.UnitNormalization()(layers.Dense(4)(layers.Dense(8, activation="relu")(item)))
    model = keras.Model([query, item], layers.Dot(axes=1)([q, i]))
    model.compile("adam", "mse")
    return model


@correct
def many_inputs_and_outputs_of_several_kinds():
    title = keras.Input((None,), dtype="int32", name="title")
    tags = keras.Input((5,), name="tags")
    x = layers.LSTM(6)(layers.Embedding(30, 4)(title))
    x = layers.concatenate([x, tags])
    priority = layers.Dense(1, activation="sigmoid", name="priority")(x)
    department = layers.Dense(4, activation="softmax", name="department")(x)
    model = keras.Model([title, tags], {"priority": priority, "department": department})
    model.compile(
        "rmsprop",
        {"priority": "binary_crossentropy", "department": keras.losses.CategoricalCrossentropy()},
        loss_weights={"priority": 1.0, "department": 0.2},
    )
    return model


@correct
def table_of_numbers_and_categories():
    age, city = keras.Input((1,), name="age"), keras.Input((1,), dtype="int32", name="city")
    x = layers.Concatenate()(
        [
            layers.Normalization(mean=40.0, variance=100.0)(age),
            layers.CategoryEncoding(num_tokens=6, output_mode="one_hot")(city),
        ]
    )
    model = keras.Model([age, city], layers.Dense(1)(layers.Dense(8, activation="relu")(x)))
    model.compile("adam", "mae")
    return model


@correct
def normalisation_that_has_seen_its_data():
    x = np.random.default_rng(0).uniform(1e4, 1e6, size=(32, 3)).astype("float32")
    normalize = layers.Normalization()
    normalize.adapt(x)
    model = keras.Sequential(
        [keras.Input((3,)), normalize, layers.Dense(8, activation="tanh"), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model, x, numbers(32, 1)


@correct
def deep_and_cross():
    class Cross(layers.Layer):
        def build(self, input_shape):
            width = input_shape[-1]
            self.w = self.add_weight(shape=(width, 1), name="w")
            self.b = self.add_weight(shape=(width,), initializer="zeros", name="b")

        def call(self, x0, x):
            return x0 * ops.matmul(x, self.w) + self.b + x

    inputs = keras.Input((6,))
    x = inputs
    for _ in range(3):
        x = Cross()(inputs, x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@correct
def factorisation_machine():
    class Interactions(layers.Layer):
        def __init__(self, width):
            super().__init__()
            self.width = width

        def build(self, input_shape):
            self.v = self.add_weight(shape=(input_shape[-1], self.width), name="v")

        def call(self, x):
            together = ops.square(ops.matmul(x, self.v))
            apart = ops.matmul(ops.square(x), ops.square(self.v))
            return 0.5 * ops.sum(together - apart, axis=-1, keepdims=True)

    inputs = keras.Input((8,))
    outputs = layers.add([layers.Dense(1)(inputs), Interactions(3)(inputs)])
    return keras.Model(inputs, layers.Activation("sigmoid")(outputs))


@correct
def neural_arithmetic_unit():
    class Nalu(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            shape = (input_shape[-1], self.units)
            self.w_hat = self.add_weight(shape=shape, name="w_hat")
            self.m_hat = self.add_weight(shape=shape, name="m_hat")
            self.g = self.add_weight(shape=shape, name="g")

        def call(self, x):
            w = ops.tanh(self.w_hat) * ops.sigmoid(self.m_hat)
            added = ops.matmul(x, w)
            multiplied = ops.exp(ops.matmul(ops.log(ops.abs(x) + 1e-7), w))
            gate = ops.sigmoid(ops.matmul(x, self.g))
            return gate * added + (1 - gate) * multiplied

    return keras.Sequential([keras.Input((4,)), Nalu(3), Nalu(1)])


@correct
def experts_weighed_by_a_gate():
    class Experts(layers.Layer):
        def __init__(self, count, units):
            super().__init__()
            self.gate = layers.Dense(count, activation="softmax")
            self.experts = {f"expert_{i}": layers.Dense(units, activation="relu") for i in range(count)}

        def call(self, x):
            gates = self.gate(x)
            made = ops.stack([expert(x) for expert in self.experts.values()], axis=1)
            return ops.sum(made * gates[:, :, None], axis=1)

    return keras.Sequential([keras.Input((6,)), Experts(3, 4), layers.Dense(1)])


@correct
def experts_chosen_by_the_two_best_gates():
    class TopExperts(layers.Layer):
        def __init__(self, count, units):
            super().__init__()
            self.gate = layers.Dense(count)
            self.experts = [layers.Dense(units) for _ in range(count)]

        def call(self, x):
            values, places = jax.lax.top_k(self.gate(x), 2)
            weights = jax.nn.softmax(values)
            made = jnp.stack([expert(x) for expert in self.experts], axis=1)
            chosen = jnp.take_along_axis(made, places[:, :, None], axis=1)
            return jnp.sum(chosen * weights[:, :, None], axis=1)

    return keras.Sequential([keras.Input((6,)), TopExperts(4, 3), layers.Dense(1)])


@correct
def radial_basis_functions():
    class Rbf(layers.Layer):
        def __init__(self, units, gamma=0.5):
            super().__init__()
            self.units, self.gamma = units, gamma

        def build(self, input_shape):
            self.centres = self.add_weight(
                shape=(self.units, input_shape[-1]), initializer="random_uniform", name="centres"
            )

        def call(self, x):
            gap = ops.expand_dims(x, 1) - self.centres
            return ops.exp(-self.gamma * ops.sum(gap**2, axis=-1))

    return keras.Sequential([keras.Input((3,)), Rbf(8), layers.Dense(1)])


@correct
def maxout():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12),
            layers.Reshape((4, 3)),
            layers.Lambda(lambda x: ops.max(x, axis=-1)),
            layers.Dense(1),
        ]
    )


@correct
def frequencies_of_a_radiance_field():
    bands = 2.0 ** np.arange(4, dtype="float32") * np.pi

    def encode(x):
        angles = x[..., None] * bands
        flat = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        return ops.reshape(flat, (-1, 3 * 8))

    inputs = keras.Input((3,))
    x = layers.Lambda(encode)(inputs)
    x = layers.Dense(16, activation="relu")(x)
    x = layers.Dense(16, activation="relu")(layers.Concatenate()([x, inputs]))
    return keras.Model(inputs, layers.Dense(4)(x))


@correct
def random_fourier_features_declared_fixed():
    class FourierFeatures(layers.Layer):
        def __init__(self, units, scale=10.0):
            super().__init__()
            self.units, self.scale = units, scale

        def build(self, input_shape):
            self.b = self.add_weight(
                shape=(input_shape[-1], self.units),
                initializer=keras.initializers.RandomNormal(stddev=self.scale),
                trainable=False,
                name="b",
            )

        def call(self, x):
            angles = 2 * np.pi * ops.matmul(x, self.b)
            return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    return keras.Sequential([keras.Input((2,)), FourierFeatures(8), layers.Dense(1)])


@correct
def ensemble_by_vmap():
    class Ensemble(layers.Layer):
        def __init__(self, members, units):
            super().__init__()
            self.members, self.units = members, units

        def build(self, input_shape):
            self.kernels = self.add_weight(shape=(self.members, input_shape[-1], self.units), name="kernels")

        def call(self, x):
            return jax.vmap(lambda kernel: x @ kernel, out_axes=1)(self.kernels.value)

    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(Ensemble(3, 2)(inputs)))


@correct
def recurrence_by_scan():
    class ScanRnn(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], self.units), name="w")
            self.u = self.add_weight(shape=(self.units, self.units), name="u")

        def call(self, x):
            w, u = self.w.value, self.u.value

            def step(h, xt):
                h = jnp.tanh(xt @ w + h @ u)
                return h, None

            start = jnp.zeros((x.shape[0], self.units), x.dtype)
            last, _ = jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))
            return last

    inputs = keras.Input((6, 3))
    return keras.Model(inputs, layers.Dense(1)(ScanRnn(4)(inputs)))


@correct
def equilibrium_by_a_loop():
    class Equilibrium(layers.Layer):
        def build(self, input_shape):
            width = input_shape[-1]
            self.w = self.add_weight(shape=(width, width), name="w")
            self.b = self.add_weight(shape=(width,), initializer="zeros", name="b")

        def call(self, x):
            w, b = self.w.value, self.b.value
            return jax.lax.fori_loop(0, 5, lambda _, z: jnp.tanh(z @ w + x + b), jnp.zeros_like(x))

    return keras.Sequential([keras.Input((4,)), Equilibrium(), layers.Dense(1)])


# -- activations and losses that fit ---------------------------------------------------------------------------------
@correct
def logits_with_a_loss_from_logits():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="relu"), layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model, numbers(20, 8), classes(20, 10)


@correct
def logits_written_as_a_linear_activation():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3), layers.Activation("linear")])
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    return model, numbers(6, 8), np.eye(3, dtype="float32")[classes(6, 3)]


@correct
def two_units_with_softmax():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, numbers(8, 8), classes(8, 2)


@correct
def labels_in_a_column():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, numbers(8, 8), classes(8, 4)[:, None]


@correct
def fewer_classes_in_the_batch_than_units():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(100, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, numbers(8, 8), classes(8, 5)


@correct
def several_labels_at_once_with_sigmoid():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(5, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["binary_accuracy"])
    return model, numbers(8, 8), (numbers(8, 5) > 0).astype("float32")


@correct
def binary_labels_in_a_row():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy")
    return model, numbers(8, 8), classes(8, 2).astype("float32")


@correct
def one_linear_unit_from_logits():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return model, numbers(8, 8), classes(8, 2).astype("float32")[:, None]


@correct
def focal_loss_over_probabilities():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1), layers.Activation("sigmoid")])
    model.compile("adam", keras.losses.BinaryFocalCrossentropy(gamma=2.0))
    return model


@correct
def regression_with_a_linear_unit():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model, numbers(8, 8), 1e3 * numbers(8)


@correct
def counts_with_a_poisson_loss():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1, activation="exponential")])
    model.compile("adam", "poisson")
    return model, 0.1 * numbers(8, 8), classes(8, 4).astype("float32")[:, None]


@correct
def probabilities_against_probabilities():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="softmax")])
    model.compile("adam", "kl_divergence")
    return model, numbers(4, 8), np.full((4, 4), 0.25, "float32")


@correct
def softmax_with_squared_errors():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="softmax")])
    model.compile("adam", "mse")
    return model, numbers(4, 8), np.eye(4, dtype="float32")


@correct
def margins_with_a_hinge_loss():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1, kernel_regularizer="l2")])
    model.compile("sgd", "hinge")
    return model, numbers(8, 8), np.where(classes(8, 2), 1.0, -1.0).astype("float32")[:, None]


@correct
def softmax_computed_in_the_call():
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = layers.Dense(4)

        def call(self, x):
            return ops.softmax(self.scores(x))

    model = Classifier()
    model.compile("adam", "sparse_categorical_crossentropy")
    model(numbers(2, 8))
    return model, numbers(8, 8), classes(8, 4)


@correct
def quantiles_with_a_loss_of_ones_own():
    levels = np.array([0.1, 0.5, 0.9], "float32")

    def pinball(y_true, y_pred):
        error = y_true - y_pred
        return ops.mean(ops.maximum(levels * error, (levels - 1.0) * error), axis=-1)

    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    model.compile("adam", pinball)
    return model, numbers(8, 8), numbers(8, 1)


@correct
def gaussian_likelihood_of_two_outputs():
    def likelihood(y_true, y_pred):
        mean, spread = y_pred[:, :1], ops.softplus(y_pred[:, 1:]) + 1e-3
        return ops.mean(ops.log(spread) + 0.5 * ((y_true - mean) / spread) ** 2)

    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="relu"), layers.Dense(2)])
    model.compile("adam", likelihood)
    return model, numbers(8, 8), numbers(8, 1)
