"""Planted mistakes: layers hidden in closures, containers and objects (T104, T105, T106), or made anew (T107)."""

import collections
import functools

import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


# -- T104: a layer captured by a function ----------------------------------------------------------------------------
@mistake("T104", layer="lambda", counted=9)
def layer_captured_by_a_lambda():
    hidden = layers.Dense(8, activation="relu")  # <- here
    inputs = keras.Input((4,))
    x = layers.Lambda(lambda t: hidden(t))(inputs)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))


@mistake("T104", layer="skip", counted=5)
def residual_block_captured_by_a_lambda():
    block = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(4)])  # <- here
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Lambda(lambda x: x + block(x), name="skip"),  # <- here
            layers.Dense(1),
        ]
    )


@mistake("T104", layer="", counted=9)
def lambda_as_an_attribute():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            dense = layers.Dense(8)  # <- here
            self.embed = lambda x: ops.relu(dense(x))  # <- here
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.embed(x))

    model = Net()
    model(ones(2, 4))
    return model


def apply_twice(x, layer):
    """Apply a layer to its own output."""
    return layer(layer(x))


@mistake("T104", layer="twice", counted=5)
def layer_in_a_partial_function():
    class Twice(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.run = functools.partial(apply_twice, layer=layers.Dense(units))  # <- here

        def call(self, x):
            return self.run(x)

    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(1)(Twice(4)(inputs)))


@mistake("T104", layer="dense", counted=19)
def activation_function_around_a_prelu():
    prelu = layers.PReLU()  # <- here
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, activation=lambda x: prelu(x)),  # <- here
            layers.Dense(1),
        ]
    )


@mistake("T104", layer="tagger", counted=0)
def nested_function_closes_over_a_layer():
    def make_projection(units):
        projection = layers.Dense(units)  # <- here

        def project(x):
            return ops.tanh(projection(x))  # <- here

        return project

    class Tagger(layers.Layer):
        def __init__(self):
            super().__init__()
            self.project = make_projection(3)  # <- here

        def call(self, x):
            return self.project(x)

    return keras.Sequential([keras.Input((5, 4)), Tagger()])


# -- T105: layers in a container that tracking can't see into --------------------------------------------------------
@mistake("T105", layer="", counted=5)
def layers_in_an_object_array():
    class Towers(keras.Model):
        def __init__(self):
            super().__init__()
            self.towers = np.array([layers.Dense(4), layers.Dense(4)], dtype=object)  # <- here
            self.out = layers.Dense(1)

        def call(self, x):
            return self.out(sum(tower(x) for tower in self.towers))

    model = Towers()
    model(ones(2, 3))
    return model


@mistake("T105", layer="stack", counted=0)
def grid_of_layers_in_an_object_array():
    class Stack(layers.Layer):
        def __init__(self, rows, columns):
            super().__init__()
            self.cells = np.empty((rows, columns), dtype=object)  # <- here
            for row in range(rows):
                for column in range(columns):
                    self.cells[row, column] = layers.Dense(2)  # <- here

        def call(self, x):
            for row in self.cells:
                x = ops.add(row[0](x), row[1](x))
            return x

    inputs = keras.Input((3,))
    return keras.Model(inputs, Stack(2, 2)(inputs))


@mistake("T105", layer="", also=("T201",), counted=0)
def layers_from_a_generator():
    class Deep(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = (layers.Dense(8, activation="relu") for _ in range(3))  # <- here

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = Deep()
    model(ones(2, 4))
    return model


@mistake("T105", layer="", also=("T201",), counted=0)
def layers_from_map():
    class Mlp(keras.Model):
        def __init__(self, sizes):
            super().__init__()
            self.hidden = map(layers.Dense, sizes)  # <- here

        def call(self, x):
            for layer in self.hidden:
                x = ops.relu(layer(x))
            return x

    model = Mlp([8, 4])
    model(ones(2, 4))
    return model


@mistake("T105", layer="", counted=0)
def layers_in_a_user_list():
    class Chain(keras.Model):
        def __init__(self):
            super().__init__()
            self.steps = collections.UserList([layers.Dense(4), layers.Dense(2)])  # <- here

        def call(self, x):
            for step in self.steps:
                x = step(x)
            return x

    model = Chain()
    model(ones(2, 3))
    return model


@mistake("T105", layer="heads", counted=9)
def layers_in_a_user_dict():
    class Heads(layers.Layer):
        def __init__(self, **sizes):
            super().__init__()
            self.heads = collections.UserDict(  # <- here
                {name: layers.Dense(size) for name, size in sizes.items()}  # <- here
            )

        def call(self, x):
            return ops.concatenate([head(x) for head in self.heads.values()], axis=-1)

    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(1)(Heads(age=3, income=5)(inputs)))


@mistake("T105", "T106", layer="", counted=5)
def layers_in_a_container_class_of_ones_own():
    class ModuleList:
        def __init__(self, modules):
            self._modules = list(modules)  # <- here

        def __iter__(self):
            return iter(self._modules)

        def __len__(self):
            return len(self._modules)

        def __getitem__(self, index):
            return self._modules[index]

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.convs = ModuleList([layers.Conv2D(4, 3) for _ in range(2)])  # <- here
            self.pool = layers.GlobalAveragePooling2D()
            self.head = layers.Dense(1)

        def call(self, x):
            for conv in self.convs:
                x = conv(x)
            return self.head(self.pool(x))

    model = Net()
    model(ones(1, 8, 8, 1))
    return model


# -- T106: a layer that an ordinary object owns ----------------------------------------------------------------------
@mistake("T106", layer="", counted=9)
def block_that_forgot_to_be_a_layer():
    class Block:
        def __init__(self, units):
            self.dense = layers.Dense(units)  # <- here
            self.norm = layers.LayerNormalization()

        def __call__(self, x):
            return self.norm(ops.relu(self.dense(x)))

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = Block(8)  # <- here
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.block(x))

    model = Net()
    model(ones(2, 4))
    return model


@mistake("T106", layer="feature_extractor", counted=5)
def helper_object_inside_a_layer():
    class Convolutions:
        def __init__(self):
            self.first = layers.Conv1D(4, 3, padding="same")  # <- here
            self.second = layers.Conv1D(4, 3, padding="same")

        def apply(self, x):
            return self.second(ops.relu(self.first(x)))

    class FeatureExtractor(layers.Layer):
        def __init__(self):
            super().__init__()
            self.convolutions = Convolutions()  # <- here

        def call(self, x):
            return ops.mean(self.convolutions.apply(x), axis=1)

    return keras.Sequential([keras.Input((10, 2)), FeatureExtractor(), layers.Dense(1)])


@mistake("T106", layer="", counted=3)
def layer_in_a_configuration_object():
    class Config:
        def __init__(self):
            self.units = 2
            self.projection = layers.Dense(self.units)  # <- here

    class Ranker(keras.Model):
        def __init__(self, config):
            super().__init__()
            self.config = config
            self.score = layers.Dense(1)

        def call(self, x):
            return self.score(self.config.projection(x))

    model = Ranker(Config())
    model(ones(2, 6))
    return model


@mistake("T106", layer="", counted=0)
def list_of_ordinary_blocks():
    class Residual:
        def __init__(self, units):
            self.layers = [layers.Dense(units, activation="relu"), layers.Dense(units)]  # <- here

        def __call__(self, x):
            out = x
            for layer in self.layers:
                out = layer(out)
            return x + out

    class ResidualNet(keras.Model):
        def __init__(self, depth):
            super().__init__()
            self.blocks = [Residual(4) for _ in range(depth)]  # <- here

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = ResidualNet(2)
    model(ones(2, 4))
    return model


@mistake("T106", layer="", counted=12)
def wrapped_model_of_another_class():
    class Encoder:
        """Holds a whole model, as scikit-learn-style wrappers do."""

        def __init__(self):
            self.model = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(3)])  # <- here

        def transform(self, x):
            return self.model(x)

    class Pipeline(keras.Model):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder
            self.classifier = layers.Dense(3)

        def call(self, x):
            return self.classifier(self.encoder.transform(x))

    model = Pipeline(Encoder())
    model(ones(2, 5))
    return model


@mistake("T106", "T104", layer="embedder", counted=9)
def layer_on_the_class_instead_of_the_instance():
    class Embedder(layers.Layer):
        table = layers.Embedding(20, 8)  # <- here

        def call(self, ids):
            return ops.mean(self.table(ids), axis=1)

    return keras.Sequential([keras.Input((4,), dtype="int32"), Embedder(), layers.Dense(1)])


# -- T107: a layer or a variable made in each call -------------------------------------------------------------------
@mistake("T107", layer="", counted=0)
def dense_made_in_the_call():
    class Net(keras.Model):
        def call(self, x):
            x = layers.Dense(8, activation="relu")(x)  # <- here
            return layers.Dense(1)(x)  # <- here

    model = Net()
    model(ones(2, 4))
    return model


@mistake("T107", layer="", counted=5)
def convolution_block_as_a_helper_function():
    def conv_block(x, filters):
        x = layers.Conv2D(filters, 3, padding="same")(x)  # <- here
        x = layers.BatchNormalization()(x)  # <- here
        return layers.ReLU()(x)

    class ConvNet(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(1)

        def call(self, x):
            x = conv_block(x, 4)
            return self.head(ops.mean(x, axis=(1, 2)))

    model = ConvNet()
    model(ones(2, 6, 6, 3))
    return model


@mistake("T107", layer="lambda", counted=4)
def layer_made_inside_a_lambda():
    inputs = keras.Input((5,))
    x = layers.Lambda(lambda t: layers.Dense(3)(t))(inputs)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))


@mistake("T107", layer="scaler", counted=7)
def variable_made_in_the_call():
    class Scaler(layers.Layer):
        def call(self, x):
            gain = keras.Variable(np.ones(x.shape[-1], "float32"), name="gain")  # <- here
            return x * gain

    return keras.Sequential([keras.Input((6,)), Scaler(), layers.Dense(1)])


@mistake("T107", layer="encoder/attend", counted=9)
def attention_made_in_the_call_of_a_nested_layer():
    class Attend(layers.Layer):
        def call(self, x):
            attention = layers.MultiHeadAttention(num_heads=2, key_dim=4)  # <- here
            return x + attention(x, x)

    class Encoder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.attend = Attend()

        def call(self, x):
            return self.attend(x)

    inputs = keras.Input((5, 8))
    x = layers.GlobalAveragePooling1D()(Encoder()(inputs))
    return keras.Model(inputs, layers.Dense(1)(x))


@mistake("T107", layer="", counted=9)
def layers_made_in_a_loop_of_the_call():
    class Net(keras.Model):
        def __init__(self, depth=2):
            super().__init__()
            self.depth = depth
            self.head = layers.Dense(1)

        def call(self, x):
            for _ in range(self.depth):
                hidden = layers.Dense(8, activation="tanh")  # <- here
                x = hidden(x)
            return self.head(jnp.asarray(x))

    model = Net()
    model(ones(2, 4))
    return model


@mistake("T107", "T203", layer="grows")
def add_weight_in_the_call():
    class Grows(layers.Layer):
        def call(self, x):
            w = self.add_weight(shape=(x.shape[-1], 2), name="w")  # <- here
            return ops.matmul(x, w)

    model = keras.Sequential([keras.Input((4,)), Grows()])
    model(ones(2, 4))
    return model
