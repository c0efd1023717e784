"""Planted mistakes: not built (T201), marked as built (T202), changed after the build (T203), overwritten (T204)."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


# -- T201: no input shape was seen -----------------------------------------------------------------------------------
@mistake("T201", layer=("", "dense"))
def sequential_without_an_input():
    return keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10)])  # <- here


@mistake("T201", layer="")
def subclassed_model_that_never_ran():
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(32, 3, activation="relu")  # <- here
            self.flatten = layers.Flatten()
            self.dense = layers.Dense(10)  # <- here

        def call(self, x):
            return self.dense(self.flatten(self.conv(x)))

    return Classifier()  # <- here


@mistake("T201", layer="")
def convolution_straight_from_its_constructor():
    return layers.Conv2D(filters=32, kernel_size=3)  # <- here


@mistake("T201", layer=("", "encoder"))
def compiled_but_never_built():
    class Autoencoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(2)])  # <- here
            self.decoder = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(4)])  # <- here

        def call(self, x):
            return self.decoder(self.encoder(x))

    model = Autoencoder()  # <- here
    model.compile("adam", "mse")
    return model


@mistake("T201", layer="")
def custom_layer_before_its_first_call():
    class Linear(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], self.units))

        def call(self, x):
            return ops.matmul(x, self.w)

    return Linear(5)  # <- here


@mistake("T201", "T301", layer="auxiliary", counted=6)
def branch_that_only_training_takes_and_that_never_trained():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.main = layers.Dense(1)
            self.auxiliary = layers.Dense(3)  # <- here

        def call(self, x, return_auxiliary=False):
            if return_auxiliary:
                return self.main(x), self.auxiliary(x)
            return self.main(x)

    model = Net()
    model(ones(2, 5))
    return model


# -- T202: marked as built while layers inside are not ---------------------------------------------------------------
@mistake("T202", layer="", also=("T201",), counted=0)
def build_that_only_sets_built():
    class Mlp(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(8)  # <- here
            self.out = layers.Dense(1)  # <- here

        def build(self, input_shape):
            self.built = True  # <- here

        def call(self, x):
            return self.out(self.hidden(x))

    model = Mlp()
    model.build((None, 4))
    return model


@mistake("T202", layer="", also=("T201",), counted=0)
def built_set_in_the_constructor():
    class Block(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.dense = layers.Dense(units)  # <- here
            self.norm = layers.BatchNormalization()  # <- here
            self.built = True  # <- here

        def call(self, x):
            return self.norm(self.dense(x))

    return Block(4)


@mistake("T202", layer="", also=("T201",), counted=4)
def build_that_forgets_the_layers_inside():
    class Gated(layers.Layer):
        def __init__(self):
            super().__init__()
            self.gate = layers.Dense(4, activation="sigmoid")  # <- here

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")
            self.built = True  # <- here

        def call(self, x):
            return x * self.gate(x) * self.scale

    layer = Gated()
    layer.build((None, 4))
    return layer


@mistake("T202", layer="", also=("T201",), counted=0)
def built_set_from_outside_to_silence_an_error():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(4), layers.Dense(2)]  # <- here

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = Net()
    model.built = True  # <- here
    return model


# -- T203: weights or layers added or exchanged after the build ------------------------------------------------------
def toy() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")


class Net(keras.Model):
    """A hidden layer and a head, as in every tutorial."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(3, activation="tanh")
        self.head = layers.Dense(1)

    def call(self, x):
        return self.head(self.hidden(x))


@mistake("T203", layer=("", "head"), also=("T201",))
def head_exchanged_after_training():
    x, y = toy()
    model = Net()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.head = layers.Dense(5)  # <- here
    return model


@mistake("T203", layer=("", "dense_2"))
def layer_added_to_a_trained_sequential():
    x, y = toy()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.add(layers.Dense(1))  # <- here
    return model


@mistake("T203", layer=("", "dense_1"))
def last_layer_popped_and_replaced_after_training():
    x, y = toy()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    model.pop()  # <- here
    model.add(layers.Dense(2))  # <- here
    return model


@mistake("T203", layer="", also=("T301",))
def weight_added_after_training():
    x, y = toy()
    model = Net()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.temperature = model.add_weight(shape=(1,), initializer="ones", name="temperature")  # <- here
    return model


@mistake("T203", layer=("net", "net/hidden"), also=("T201",))
def layer_inside_a_nested_model_exchanged():
    x, y = toy()

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def call(self, x):
            return self.net(x) * 2.0

    model = Outer()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.net.hidden = layers.Dense(3, activation="relu")  # <- here
    return model


@mistake("T203", "T301", "T201", layer=("", "head"), also=("T201", "T301"), counted=20)
def attribute_on_a_functional_model_that_its_graph_does_not_use():
    inputs = keras.Input((4,))
    outputs = layers.Dense(4, name="out")(inputs)
    model = keras.Model(inputs, outputs)
    model.head = layers.Dense(2)  # <- here
    return model


# -- T204: an attribute assigned again -------------------------------------------------------------------------------
@mistake("T204", layer="", counted=20)
def attribute_overwritten_in_a_loop():
    class Deep(keras.Model):
        def __init__(self, depth):
            super().__init__()
            for _ in range(depth):
                self.dense = layers.Dense(4, activation="relu")  # <- here

        def call(self, x):
            return self.dense(x)

    model = Deep(3)
    model(ones(2, 4))
    return model


@mistake("T204", layer="", counted=88)
def same_name_for_two_layers():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3)
            self.pool = layers.MaxPooling2D()
            self.conv = layers.Conv2D(8, 3)  # <- here
            self.flatten = layers.GlobalAveragePooling2D()
            self.head = layers.Dense(1, use_bias=False)

        def call(self, x):
            x = self.pool(self.conv(x))
            return self.head(self.flatten(x))

    model = Net()
    model(ones(1, 8, 8, 1))
    return model


@mistake("T204", layer="residual", counted=20)
def weight_overwritten_in_build():
    class Residual(layers.Layer):
        def build(self, input_shape):
            width = input_shape[-1]
            self.kernel = self.add_weight(shape=(width, 16), name="expand")
            self.kernel = self.add_weight(shape=(width, width), name="kernel")  # <- here
            self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

        def call(self, x):
            return x + ops.matmul(x, self.kernel) + self.bias

    return keras.Sequential([keras.Input((4,)), Residual()])


@mistake("T204", layer="", counted=8)
def dictionary_of_layers_overwritten():
    class Heads(keras.Model):
        def __init__(self, tasks):
            super().__init__()
            for task in tasks:
                self.heads = {task: layers.Dense(2)}  # <- here

        def call(self, x):
            return {task: head(x) for task, head in self.heads.items()}

    model = Heads(["age", "income", "city"])
    model(ones(2, 3))
    return model
