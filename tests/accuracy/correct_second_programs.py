"""A second round of correct models, written after `diagnose` knew the first: ways in which people write programs."""

import abc
import enum
import threading

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@correct
def layers_without_weights_made_in_the_call():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.head = layers.Conv2D(4, 3), layers.Dense(1)

        def call(self, x):
            x = layers.ReLU()(self.conv(x))
            x = layers.MaxPooling2D()(x)
            x = layers.Add()([x, x * 0.5])
            return self.head(layers.Flatten()(x))

    model = Net()
    model(numbers(2, 8, 8, 1))
    return model


@correct
def compiled_and_not_built_with_its_first_batch():
    model = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, numbers(9, 4), (np.arange(9) % 3).astype("int32")


@correct
def abstract_base_and_its_subclass():
    class Base(keras.Model, abc.ABC):
        def __init__(self, units):
            super().__init__()
            self.body = self.make_body(units)
            self.head = layers.Dense(1)

        @abc.abstractmethod
        def make_body(self, units): ...

        def call(self, x):
            return self.head(self.body(x))

    class Deep(Base):
        def make_body(self, units):
            return keras.Sequential([layers.Dense(units, activation="relu") for _ in range(2)])

    model = Deep(4)
    model.compile("adam", "mse")
    model(numbers(2, 3))
    return model


@correct
def mixin_that_adds_a_head():
    class WithHead:
        def add_head(self, units):
            self.head = layers.Dense(units)

    class Net(WithHead, keras.Model):
        def __init__(self):
            super().__init__()
            self.body = layers.Dense(4, activation="relu")
            self.add_head(2)

        def call(self, x):
            return self.head(self.body(x))

    model = Net()
    model(numbers(2, 3))
    return model


@correct
def property_that_picks_a_layer():
    class Mode(enum.Enum):
        SMALL = "small"
        LARGE = "large"

    class Net(keras.Model):
        def __init__(self, mode):
            super().__init__()
            self.mode = mode
            self.choices = {mode: layers.Dense(4 if mode is Mode.SMALL else 8)}

        @property
        def body(self):
            return self.choices[self.mode]

        def call(self, x):
            return self.body(x)

    model = Net(Mode.SMALL)
    model(numbers(2, 3))
    return model


@correct
def layer_handed_to_another_layer():
    class Residual(layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return x + self.inner(x)

    return keras.Sequential(
        [keras.Input((4,)), Residual(layers.Dense(4)), Residual(Residual(layers.Dense(4)))]
    )


@correct
def wrapper_of_ones_own():
    class Scaled(layers.Wrapper):
        def call(self, x):
            return 0.5 * self.layer(x)

    inputs = keras.Input((4,))
    return keras.Model(inputs, Scaled(layers.Dense(3))(inputs))


@correct
def attribute_replaced_by_none_and_lock_and_cache():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)
            self.lock = threading.Lock()
            self.cache, self.mask, self.history = {}, None, []

        def call(self, x):
            if "causal" not in self.cache:
                self.cache["causal"] = np.tril(np.ones((3, 3), "float32"))
            return ops.matmul(self.dense(x), self.cache["causal"])

    model = Net()
    model(numbers(2, 4))
    return model


@correct
def weights_read_from_a_file_as_an_initializer():
    stored = {"kernel": numbers(4, 3), "bias": numbers(3)}
    layer = layers.Dense(
        3,
        kernel_initializer=keras.initializers.Constant(stored["kernel"]),
        bias_initializer=keras.initializers.Constant(stored["bias"]),
    )
    return keras.Sequential([keras.Input((4,)), layer])


@correct
def labels_smoothed_and_classes_weighed():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax")])
    model.compile("adam", keras.losses.CategoricalCrossentropy(label_smoothing=0.1))
    return model, numbers(6, 6), np.eye(3, dtype="float32")[np.arange(6) % 3]


@correct
def loss_by_a_subclass():
    class Weighted(keras.losses.Loss):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, y_true, y_pred):
            return ops.mean(self.factor * (y_true - y_pred) ** 2, axis=-1)

    model = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    model.compile("adam", Weighted(np.array([1.0, 3.0], "float32")))
    return model, numbers(6, 6), numbers(6, 2)


@correct
def output_without_a_loss():
    inputs = keras.Input((6,))
    features = layers.Dense(4, activation="relu", name="features")(inputs)
    outputs = layers.Dense(1, name="value")(features)
    model = keras.Model(inputs, {"value": outputs, "features": features})
    model.compile("adam", {"value": "mse"})
    return model


@correct
def sigmoid_for_a_regression_between_zero_and_one():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "mse")
    return model, numbers(8, 6), np.linspace(0, 1, 8, dtype="float32")


@correct
def cosine_of_embeddings():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.UnitNormalization()])
    model.compile("adam", keras.losses.CosineSimilarity())
    return model, numbers(8, 6), numbers(8, 4)


@correct
def temperature_by_a_lambda():
    inputs = keras.Input((6,))
    logits = layers.Dense(4)(inputs)
    model = keras.Model(inputs, layers.Lambda(lambda z: z / 1.7)(logits))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@correct
def logarithms_of_softmax_with_a_likelihood():
    def likelihood(y_true, y_pred):
        return -ops.sum(y_true * y_pred, axis=-1)

    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="log_softmax")])
    model.compile("adam", likelihood)
    return model, numbers(4, 6), np.eye(4, dtype="float32")


@correct
def straight_through_one_hot():
    class HardSoftmax(layers.Layer):
        def call(self, logits):
            soft = ops.softmax(logits)
            hard = ops.one_hot(ops.argmax(soft, axis=-1), logits.shape[-1])
            return soft + ops.stop_gradient(hard - soft)

    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(HardSoftmax()(layers.Dense(4)(inputs))))


@correct
def mask_by_comparison_with_a_constant():
    inputs = keras.Input((8, 3))
    present = ops.cast(ops.any(inputs != 0.0, axis=-1, keepdims=True), "float32")
    x = layers.Dense(4)(inputs) * present
    pooled = ops.sum(x, axis=1) / ops.maximum(ops.sum(present, axis=1), 1.0)
    return keras.Model(inputs, layers.Dense(1)(pooled))


@correct
def statistics_in_the_forward_pass():
    class Standardised(layers.Layer):
        def build(self, input_shape):
            self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

        def call(self, x):
            mean, variance = ops.moments(x, axes=[0], keepdims=True)
            return self.gain * (x - ops.stop_gradient(mean)) / ops.sqrt(ops.stop_gradient(variance) + 1e-3)

    return keras.Sequential([keras.Input((4,)), layers.Dense(4), Standardised(), layers.Dense(1)])


@correct
def weight_standardisation():
    class StandardConv(layers.Conv2D):
        def call(self, x):
            kernel = self.kernel.value
            mean, variance = jnp.mean(kernel, (0, 1, 2)), jnp.var(kernel, (0, 1, 2))
            return ops.conv(x, (kernel - mean) / jnp.sqrt(variance + 1e-5), padding="same") + self.bias

    return keras.Sequential([keras.Input((6, 6, 2)), StandardConv(4, 3, padding="same"), layers.Flatten()])


@correct
def subclass_of_a_dense():
    class Positive(layers.Dense):
        def call(self, x):
            return ops.matmul(x, ops.softplus(self.kernel)) + self.bias

    model = keras.Sequential([keras.Input((4,)), Positive(3), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@correct
def norm_frozen_in_a_trainable_block():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3, use_bias=False)
            self.norm = layers.BatchNormalization(trainable=False)

        def call(self, x):
            return ops.relu(self.norm(self.conv(x)))

    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(Block()(inputs))))
    model.compile("adam", "mse")
    return model


@correct
def progressive_unfreezing():
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4, name=f"block_{i}") for i in range(3))])
    for layer in model.layers:
        layer.trainable = False
    for layer in reversed(model.layers):
        layer.trainable = True
        model.compile("adam", "mse")
        model.fit(numbers(8, 4), numbers(8, 4), verbose=0)
    return model


@correct
def network_switched_off_and_on_in_turn():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.actor, self.critic = layers.Dense(2), layers.Dense(1)

        def call(self, x):
            return self.actor(x), self.critic(x)

    model = Pair()
    model(numbers(2, 4))
    model.critic.trainable = False
    model.critic.trainable = True
    model.compile("adam", ["mse", "mse"])
    return model


@correct
def saved_and_loaded(tmp=None):
    import tempfile
    from pathlib import Path

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(numbers(8, 4), numbers(8, 1), verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        return keras.saving.load_model(Path(folder) / "model.keras")


@correct
def cloned():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(1)])
    return keras.models.clone_model(model)


@correct
def single_layer_called_on_data():
    layer = layers.Conv2D(4, 3)
    layer(numbers(1, 8, 8, 3))
    return layer


@correct
def layer_built_by_hand():
    layer = layers.LSTM(4)
    layer.build((None, 5, 3))
    return layer


@correct(by="function")
def subclass_built_by_a_function():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = layers.Dense(4, activation="relu"), layers.Dense(1)

        def call(self, x):
            return self.head(self.hidden(x))

    model = Net()
    model.build((None, 3))
    return model


@correct(by="function")
def teacher_and_student_made_together():
    inputs = keras.Input((4,))
    teacher = keras.Model(inputs, layers.Dense(3)(layers.Dense(16, activation="relu")(inputs)))
    student_inputs = keras.Input((4,))
    student = keras.Model(student_inputs, layers.Dense(3)(student_inputs))
    student.set_weights(student.get_weights())
    teacher.trainable = False
    student.compile("adam", "mse")
    return student


@correct(by="function")
def parts_probed_while_the_model_is_made():
    inputs = keras.Input((16, 16, 3))
    base = keras.Sequential([layers.Conv2D(4, 3, strides=2), layers.ReLU(), layers.Flatten()])
    width = base(keras.KerasTensor((None, 16, 16, 3))).shape[-1]
    x = base(inputs)
    return keras.Model(inputs, layers.Dense(min(8, width))(x))


@correct
def sharded_heads_by_vmap_over_keys():
    class Heads(layers.Layer):
        def __init__(self, heads, units):
            super().__init__()
            self.heads, self.units = heads, units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(self.heads, input_shape[-1], self.units), name="kernel")
            self.bias = self.add_weight(shape=(self.heads, 1, self.units), initializer="zeros", name="bias")

        def call(self, x):
            made = jax.vmap(lambda k, b: jax.nn.relu(x @ k + b))(self.kernel.value, self.bias.value)
            return jnp.mean(made, axis=0)

    return keras.Sequential([keras.Input((4,)), Heads(3, 5), layers.Dense(1)])


@correct
def convolution_in_a_loop_over_scales():
    inputs = keras.Input((None, None, 3))
    conv = layers.Conv2D(4, 3, padding="same", activation="relu")
    pooled = [layers.GlobalAveragePooling2D()(conv(inputs))]
    x = inputs
    for _ in range(2):
        x = layers.AveragePooling2D(2)(x)
        pooled.append(layers.GlobalAveragePooling2D()(conv(x)))
    return keras.Model(inputs, layers.Dense(2)(layers.Average()(pooled)))


@correct
def conditional_computation_by_cond():
    class Sometimes(layers.Layer):
        def build(self, input_shape):
            width = input_shape[-1]
            self.a = self.add_weight(shape=(width, width), name="a")
            self.b = self.add_weight(shape=(width, width), name="b")

        def call(self, x):
            a, b = self.a.value, self.b.value
            return jax.lax.cond(jnp.mean(x) > 0, lambda t: t @ a, lambda t: t @ b, x)

    return keras.Sequential([keras.Input((3,)), Sometimes(), layers.Dense(1)])
