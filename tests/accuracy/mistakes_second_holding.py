"""A second round of planted mistakes, written after `diagnose` knew the first: what is held, built and exchanged."""

import itertools
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


def toy() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")


# -- T101 ------------------------------------------------------------------------------------------------------------
@mistake("T101", layer="half_dense", counted=12)
def bias_alone_drawn_in_the_call():
    class HalfDense(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 3), name="kernel")

        def call(self, x):
            bias = jax.random.normal(jax.random.key(1), (3,))  # <- here
            return x @ self.kernel + bias

    return keras.Sequential([keras.Input((4,)), HalfDense()])


@mistake("T101", layer="mixer", counted=5)
def drawn_in_a_method_that_the_call_uses():
    class Mixer(layers.Layer):
        def _project(self, x, units):
            rng = np.random.default_rng(3)
            w = rng.standard_normal((x.shape[-1], units)).astype("float32")  # <- here
            return jnp.einsum("bi,io->bo", x, w)  # <- here

        def call(self, x):
            return jax.nn.gelu(self._project(x, 4))

    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(1)(Mixer()(inputs)))


@mistake("T101", layer=("time_distributed/layer", "time_distributed"), counted=3)
def drawing_layer_under_time_distributed():
    class Draws(layers.Layer):
        def call(self, x):
            return ops.matmul(x, keras.random.normal((x.shape[-1], 2), seed=1))  # <- here

    return keras.Sequential(
        [keras.Input((5, 3)), layers.TimeDistributed(Draws()), layers.GlobalMaxPooling1D(), layers.Dense(1)]
    )


@mistake("T101", layer="orthogonal", counted=0)
def orthogonal_matrix_made_in_the_call():
    class Orthogonal(layers.Layer):
        def call(self, x):
            drawn = jax.random.normal(jax.random.key(0), (x.shape[-1], x.shape[-1]))  # <- here
            q, _ = jnp.linalg.qr(drawn)  # <- here
            return x @ q

    return keras.Sequential([keras.Input((4,)), Orthogonal()])


# -- T102 ------------------------------------------------------------------------------------------------------------
@mistake("T102", layer="my_norm", counted=5)
def gain_and_shift_as_plain_arrays():
    class MyNorm(layers.Layer):
        def build(self, input_shape):
            self.gamma = ops.ones((input_shape[-1],))  # <- here
            self.beta = ops.zeros((input_shape[-1],))  # <- here

        def call(self, x):
            mean = ops.mean(x, axis=-1, keepdims=True)
            spread = ops.sqrt(ops.var(x, axis=-1, keepdims=True) + 1e-5)
            return self.gamma * (x - mean) / spread + self.beta

    return keras.Sequential([keras.Input((4,)), MyNorm(), layers.Dense(1)])


class Params(NamedTuple):
    """Weights as a functional program passes them."""

    w: Any
    b: Any


@mistake("T102", layer="functional_style", counted=0)
def named_tuple_of_arrays():
    class FunctionalStyle(layers.Layer):
        def __init__(self, inputs, units):
            super().__init__()
            w = jax.random.uniform(jax.random.key(0), (inputs, units), minval=-0.1, maxval=0.1)  # <- here
            self.params = Params(w=w, b=jnp.zeros(units))  # <- here

        def call(self, x):
            return jnp.tanh(x @ self.params.w + self.params.b)

    return keras.Sequential([keras.Input((4,)), FunctionalStyle(4, 3)])


@mistake("T102", layer="learned_positions", counted=41)
def table_of_positions_as_zeros():
    class LearnedPositions(layers.Layer):
        def build(self, input_shape):
            self.table = jnp.zeros((1, input_shape[1], input_shape[2]))  # <- here

        def call(self, x):
            return x + self.table

    inputs = keras.Input((6, 8))
    x = LearnedPositions()(inputs)
    x = layers.Conv1D(1, 5)(x)
    return keras.Model(inputs, x)


@mistake("T102", layer="", counted=0)
def arrays_in_nested_dictionaries():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(0)
            self.tree = {  # <- here
                "layer1": {"w": rng.normal(size=(4, 8)).astype("float32")},  # <- here
                "layer2": {"w": rng.normal(size=(8, 1)).astype("float32")},  # <- here
            }

        def call(self, x):
            h = ops.relu(ops.matmul(x, self.tree["layer1"]["w"]))
            return ops.matmul(h, self.tree["layer2"]["w"])

    model = Net()
    model(ones(2, 4))
    return model


# -- T103 ------------------------------------------------------------------------------------------------------------
@mistake("T103", counted=5)
def variable_multiplied_on_the_graph():
    gain = keras.Variable(ones(4), name="gain")  # <- here
    inputs = keras.Input((4,))
    x = ops.multiply(inputs, gain)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))


WEIGHTS = {"mix": keras.Variable(np.eye(4, dtype="float32"), name="mix")}  # <- here


@mistake("T103", layer="blend", counted=5, source=("WEIGHTS",))
def variable_in_a_dictionary_of_the_module():
    class Blend(layers.Layer):
        def call(self, x):
            return ops.matmul(x, WEIGHTS["mix"])  # <- here

    return keras.Sequential([keras.Input((4,)), Blend(), layers.Dense(1)])


@mistake("T103", "T106", layer="scaled", counted=5)
def variable_on_the_class():
    class Scaled(layers.Layer):
        scale = keras.Variable(np.ones(4, "float32"), name="scale")  # <- here

        def call(self, x):
            return x * self.scale  # <- here

    return keras.Sequential([keras.Input((4,)), Scaled(), layers.Dense(1)])


# -- T104 ------------------------------------------------------------------------------------------------------------
SHARED = layers.Dense(4, name="shared_by_all")  # <- here


@mistake("T104", layer="", counted=5, source=("SHARED",))
def layer_of_the_module_used_in_a_call():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(ops.relu(SHARED(x)))  # <- here

    model = Net()
    model(ones(2, 3))
    return model


@mistake("T104", layer=("lambda", "lambda_1"), counted=4)
def helper_that_returns_a_lambda_around_a_layer():
    def block(units):
        dense = layers.Dense(units)  # <- here
        return layers.Lambda(lambda x: ops.relu(dense(x)))  # <- here

    return keras.Sequential([keras.Input((5,)), block(6), block(3), layers.Dense(1)])


@mistake("T104", layer="normalise", counted=4)
def normalisation_as_a_default_argument():
    norm = layers.BatchNormalization()  # <- here
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Lambda(lambda x, norm=norm: norm(x), name="normalise"),  # <- here
            layers.Dense(1),
        ]
    )


@mistake("T104", "T106", layer="", counted=3)
def bound_method_of_a_layer():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            embed = layers.Dense(2)  # <- here
            self.encode = embed.__call__  # <- here
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.encode(x))

    model = Net()
    model(ones(2, 4))
    return model


# -- T105 ------------------------------------------------------------------------------------------------------------
@mistake("T105", layer="", counted=0)
def layers_behind_a_read_only_view():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = types.MappingProxyType({"a": layers.Dense(4), "b": layers.Dense(1)})  # <- here

        def call(self, x):
            return self.parts["b"](self.parts["a"](x))

    model = Net()
    model(ones(2, 3))
    return model


@mistake("T105", layer="", also=("T201",), counted=0)
def pairs_from_zip():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            denses = [layers.Dense(4) for _ in range(2)]  # <- here
            norms = [layers.LayerNormalization() for _ in range(2)]  # <- here
            self.blocks = zip(denses, norms, strict=True)  # <- here

        def call(self, x):
            for dense, norm in self.blocks:
                x = norm(dense(x))
            return x

    model = Net()
    model(ones(2, 3))
    return model


@mistake("T105", "T106", layer="", counted=0)
def sequence_class_of_ones_own():
    class LayerStack(Sequence):
        def __init__(self, *items):
            self._items = items  # <- here

        def __getitem__(self, index):
            return self._items[index]

        def __len__(self):
            return len(self._items)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.stack = LayerStack(layers.Dense(4), layers.Dense(1))  # <- here

        def call(self, x):
            for layer in self.stack:
                x = layer(x)
            return x

    model = Net()
    model(ones(2, 3))
    return model


@mistake("T105", layer="", also=("T201", "T302", "T303"), counted=1)
def layers_from_a_chain_of_iterators():
    class Branches(layers.Layer):
        def __init__(self):
            super().__init__()
            first = [layers.Dense(2)]  # <- here
            second = [layers.Dense(2)]  # <- here
            self.parts = itertools.chain(first, second)  # <- here
            self.gate = self.add_weight(shape=(1,), initializer="ones", name="gate")

        def call(self, x):
            return self.gate * sum(part(x) for part in self.parts)

    layer = Branches()
    layer(ones(2, 3))
    return layer


# -- T106 ------------------------------------------------------------------------------------------------------------
@mistake("T106", layer="", counted=3)
def object_with_slots():
    class Pair:
        __slots__ = ("left", "right")

        def __init__(self):
            self.left, self.right = layers.Dense(2), layers.Dense(2)  # <- here

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.pair = Pair()  # <- here
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.pair.left(x) * self.pair.right(x))

    model = Net()
    model(ones(2, 4))
    return model


@mistake("T106", layer="", counted=0)
def object_in_an_object():
    class Inner:
        def __init__(self):
            self.dense = layers.Dense(3)  # <- here

    class Outer:
        def __init__(self):
            self.inner = Inner()  # <- here

        def run(self, x):
            return self.inner.dense(x)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.outer = Outer()  # <- here

        def call(self, x):
            return ops.relu(self.outer.run(x))

    model = Net()
    model(ones(2, 4))
    return model


@mistake("T106", layer="policy", counted=5)
def strategy_object_given_to_a_layer():
    class Attend:
        def __init__(self, width):
            self.attention = layers.MultiHeadAttention(2, width)  # <- here

        def __call__(self, x):
            return self.attention(x, x)

    class Policy(layers.Layer):
        def __init__(self, strategy):
            super().__init__()
            self.strategy = strategy

        def call(self, x):
            return x + self.strategy(x)

    inputs = keras.Input((3, 4))
    x = Policy(Attend(2))(inputs)
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


# -- T107 ------------------------------------------------------------------------------------------------------------
@mistake("T107", layer="", counted=0)
def sequential_made_in_the_call():
    class Net(keras.Model):
        def call(self, x):
            mlp = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1)])  # <- here
            return mlp(x)

    model = Net()
    model(ones(2, 3))
    return model


@mistake("T107", layer="cleaned", counted=5)
def normalisation_made_in_the_call_of_a_layer():
    class Cleaned(layers.Layer):
        def call(self, x, training=False):
            return layers.BatchNormalization()(x, training=training)  # <- here

    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(1)(Cleaned()(inputs)))


@mistake("T107", layer="blocks/0", counted=5)
def recurrent_layer_made_in_the_call():
    class Reads(layers.Layer):
        def call(self, x):
            return layers.GRU(4)(x)  # <- here

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [Reads()]
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.blocks[0](x))

    model = Net()
    model(ones(2, 5, 3))
    return model


# -- T201 ------------------------------------------------------------------------------------------------------------
@mistake("T201", layer=("", "forward_layer", "backward_layer"))
def bidirectional_on_its_own():
    return layers.Bidirectional(layers.LSTM(4, return_sequences=True))  # <- here


@mistake("T201", layer=("", "encoder", "head"))
def stack_of_stacks_without_a_shape():
    encoder = keras.Sequential([layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()], name="encoder")  # <- here
    head = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)], name="head")  # <- here
    return keras.Sequential([encoder, head])  # <- here


# -- T202 ------------------------------------------------------------------------------------------------------------
@mistake("T202", layer="", also=("T201",), counted=15)
def build_that_builds_only_the_first_layer():
    class Two(layers.Layer):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(3)
            self.second = layers.Dense(2)  # <- here

        def build(self, input_shape):
            self.first.build(input_shape)
            self.built = True  # <- here

        def call(self, x):
            return self.second(self.first(x))

    layer = Two()
    layer.build((None, 4))
    return layer


@mistake("T202", layer=("", "block"), also=("T201",), counted=0)
def nested_block_marked_as_built():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(2, 3)  # <- here
            self.built = True  # <- here

        def call(self, x):
            return ops.relu(self.conv(x))

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def build(self, input_shape):
            self.built = True  # <- here

        def call(self, x):
            return self.block(x)

    model = Net()
    model.build((None, 8, 8, 1))
    return model


# -- T203 ------------------------------------------------------------------------------------------------------------
class Stack(keras.Model):
    """Layers in a list, one after the other."""

    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4, activation="tanh"), layers.Dense(1)]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@mistake("T203", layer=("", "blocks/2"), also=("T201",))
def layer_appended_to_a_list_after_training():
    x, y = toy()
    model = Stack()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.blocks.append(layers.Dense(1))  # <- here
    return model


@mistake("T203", layer=("", "adapted"))
def adaptation_switched_on_after_training():
    x, y = toy()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="adapted"), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.get_layer("adapted").enable_lora(1)  # <- here
    return model


@mistake("T203", layer=("", "blocks/0"), also=("T201",))
def layer_in_a_list_exchanged_after_training():
    x, y = toy()
    model = Stack()
    model.compile("sgd", "mse")
    model.train_on_batch(x, y)
    model.blocks[0] = layers.Dense(4, activation="relu")  # <- here
    return model


# -- T204 ------------------------------------------------------------------------------------------------------------
@mistake("T204", layer="block", counted=10)
def one_normalisation_over_the_other():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()
            self.norm = layers.LayerNormalization()  # <- here

        def call(self, x):
            return self.norm(x)

    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.Dense(1)(Block()(inputs)))


@mistake("T204", layer="", counted=20)
def list_begun_again_in_each_turn():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            for _ in range(3):
                self.blocks = []  # <- here
                self.blocks.append(layers.Dense(4))

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = Net()
    model(ones(2, 4))
    return model
