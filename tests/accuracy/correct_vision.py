"""Correct models: the image networks of the usual courses and papers, small."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def classes(shape: tuple[int, ...] | int, below: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, below, size=shape).astype("int32")


@correct
def lenet():
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, activation="tanh", padding="same"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="tanh"),
            layers.Dense(84, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, images(10, 28, 28, 1), classes(10, 10)


@correct
def quiz_convnet():
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return model


@correct
def alexnet():
    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(12, 11, strides=4, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = layers.Conv2D(16, 5, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(0.5)(layers.Dense(32, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct
def vgg_blocks():
    def vgg_block(x, filters, convolutions):
        for _ in range(convolutions):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return layers.MaxPooling2D()(x)

    inputs = keras.Input((16, 16, 3))
    x = vgg_block(vgg_block(inputs, 4, 1), 8, 2)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


@correct
def network_in_network():
    def nin_block(filters, kernel):
        return [
            layers.Conv2D(filters, kernel, padding="same", activation="relu"),
            layers.Conv2D(filters, 1, activation="relu"),
            layers.Conv2D(filters, 1, activation="relu"),
        ]

    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            *nin_block(8, 5),
            layers.MaxPooling2D(),
            *nin_block(10, 3),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct
def inception_block():
    inputs = keras.Input((8, 8, 6))
    one = layers.Conv2D(4, 1, activation="relu")(inputs)
    three = layers.Conv2D(2, 1, activation="relu")(inputs)
    three = layers.Conv2D(4, 3, padding="same", activation="relu")(three)
    five = layers.Conv2D(2, 1, activation="relu")(inputs)
    five = layers.Conv2D(4, 5, padding="same", activation="relu")(five)
    pool = layers.MaxPooling2D(3, strides=1, padding="same")(inputs)
    pool = layers.Conv2D(4, 1, activation="relu")(pool)
    x = layers.Concatenate()([one, three, five, pool])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@correct
def resnet():
    def block(x, filters, stride=1):
        shortcut = x
        if stride != 1 or x.shape[-1] != filters:
            shortcut = layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
            shortcut = layers.BatchNormalization()(shortcut)
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(layers.Add()([x, shortcut]))

    inputs = keras.Input((16, 16, 3))
    x = block(block(block(inputs, 4), 4), 8, stride=2)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model, images(10, 16, 16, 3), classes(10, 10)


@correct
def densenet():
    inputs = x = keras.Input((8, 8, 3))
    for _ in range(2):
        for _ in range(3):
            new = layers.ReLU()(layers.BatchNormalization()(x))
            new = layers.Conv2D(4, 3, padding="same", use_bias=False)(new)
            x = layers.Concatenate()([x, new])
        x = layers.Conv2D(6, 1)(layers.ReLU()(layers.BatchNormalization()(x)))
        x = layers.AveragePooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@correct
def mobilenet():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(inputs)
    for filters in (8, 8):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(5, 1, name="preds")(layers.Dropout(1e-3)(x))
    return keras.Model(inputs, layers.Activation("softmax")(layers.Reshape((5,))(x)))


@correct
def xception_flow():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, use_bias=False)(inputs)
    residual = layers.Conv2D(8, 1, strides=2, padding="same", use_bias=False)(x)
    x = layers.SeparableConv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.add([x, residual])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@correct
def squeeze_and_excitation():
    inputs = keras.Input((8, 8, 8))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    weight = layers.GlobalAveragePooling2D()(x)
    weight = layers.Reshape((1, 1, 8))(weight)
    weight = layers.Dense(2, activation="relu")(weight)
    weight = layers.Dense(8, activation="sigmoid")(weight)
    x = layers.Multiply()([x, weight])
    return keras.Model(inputs, layers.GlobalMaxPooling2D()(x))


@correct
def unet():
    def double(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    inputs = keras.Input((16, 16, 1))
    first = double(inputs, 4)
    second = double(layers.MaxPooling2D()(first), 8)
    x = double(layers.MaxPooling2D()(second), 16)
    x = layers.Conv2DTranspose(8, 2, strides=2)(x)
    x = double(layers.Concatenate()([x, second]), 8)
    x = layers.UpSampling2D()(x)
    x = double(layers.Concatenate()([x, first]), 4)
    model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy")
    mask = (images(2, 16, 16, 1) > 0).astype("float32")
    return model, images(2, 16, 16, 1), mask


@correct
def fully_convolutional_segmentation():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(4, 1)(x)
    x = layers.Conv2DTranspose(4, 4, strides=2, padding="same")(x)
    model = keras.Model(inputs, layers.Softmax()(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, images(2, 16, 16, 3), classes((2, 16, 16), 4)


@correct
def one_dense_for_each_pixel():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(5, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, images(2, 8, 8, 4), classes((2, 8, 8), 5)


@correct
def dense_on_a_feature_map_in_front_of_flatten():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Dense(4, activation="relu"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@correct
def convnext():
    class LayerScale(layers.Layer):
        def __init__(self, width):
            super().__init__()
            self.gamma = self.add_weight(
                shape=(width,), initializer=keras.initializers.Constant(1e-2), name="gamma"
            )

        def call(self, x):
            return x * self.gamma

    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 4, strides=4)(inputs)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    for _ in range(2):
        shortcut = x
        x = layers.DepthwiseConv2D(7, padding="same")(x)
        x = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Dense(32)(x)
        x = layers.Activation("gelu")(x)
        x = layers.Dense(8)(x)
        x = layers.Add()([shortcut, LayerScale(8)(x)])
    x = layers.LayerNormalization(epsilon=1e-6)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile("adamw", "sparse_categorical_crossentropy")
    return model


@correct
def vision_transformer():
    class Patches(layers.Layer):
        def __init__(self, size, width):
            super().__init__()
            self.size = size
            self.project = layers.Dense(width)

        def build(self, input_shape):
            count = (input_shape[1] // self.size) * (input_shape[2] // self.size)
            width = self.project.units
            self.project.build((None, count, self.size**2 * input_shape[3]))
            self.token = self.add_weight(shape=(1, 1, width), initializer="zeros", name="class_token")
            self.positions = self.add_weight(shape=(1, count + 1, width), name="positions")

        def call(self, x):
            h, w, c = x.shape[1:]
            p = self.size
            x = ops.reshape(x, (-1, h // p, p, w // p, p, c))
            x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, (h // p) * (w // p), p * p * c))
            x = self.project(x)
            token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
            return ops.concatenate([token, x], axis=1) + self.positions

    inputs = keras.Input((16, 16, 3))
    x = Patches(4, 8)(inputs)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, dropout=0.1)(y, y)])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(8)(layers.Dropout(0.1)(layers.Dense(16, activation="gelu")(y)))
        x = layers.Add()([x, y])
    token = layers.LayerNormalization()(x)[:, 0]
    model = keras.Model(inputs, layers.Dense(10)(token))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@correct
def mlp_mixer():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 4, strides=4)(inputs)
    x = layers.Reshape((16, 8))(x)
    for _ in range(2):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        y = layers.Dense(16)(layers.Dense(32, activation="gelu")(y))
        x = layers.Add()([x, layers.Permute((2, 1))(y)])
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.Dense(8)(layers.Dense(32, activation="gelu")(y))])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


@correct
def convnet_with_the_channels_first():
    inputs = keras.Input((3, 16, 16))
    x = layers.Conv2D(8, 3, padding="same", data_format="channels_first")(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.MaxPooling2D(data_format="channels_first")(layers.ReLU()(x))
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    return keras.Model(inputs, layers.Dense(10)(x))


@correct
def channels_brought_to_the_back_by_permute():
    return keras.Sequential(
        [
            keras.Input((3, 32, 32)),
            layers.Permute((2, 3, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


@correct
def coordinates_as_channels():
    class AddCoordinates(layers.Layer):
        def call(self, x):
            n, h, w = ops.shape(x)[0], x.shape[1], x.shape[2]
            rows = ops.broadcast_to(ops.linspace(-1.0, 1.0, h)[None, :, None, None], (n, h, w, 1))
            columns = ops.broadcast_to(ops.linspace(-1.0, 1.0, w)[None, None, :, None], (n, h, w, 1))
            return ops.concatenate([x, rows, columns], axis=-1)

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu")(AddCoordinates()(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


@correct
def detector_with_two_heads():
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (4, 8, 16):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    boxes = layers.Conv2D(4, 1, name="boxes")(x)
    labels = layers.Conv2D(6, 1, activation="softmax", name="labels")(x)
    model = keras.Model(inputs, {"boxes": boxes, "labels": labels})
    model.compile("adam", {"boxes": "huber", "labels": "sparse_categorical_crossentropy"})
    return model, images(2, 32, 32, 3), {"boxes": images(2, 4, 4, 4), "labels": classes((2, 4, 4), 6)}


@correct
def stochastic_depth():
    class DropPath(layers.Layer):
        def __init__(self, rate):
            super().__init__()
            self.rate = rate
            self.seed = keras.random.SeedGenerator(1337)

        def call(self, x, training=False):
            if not training:
                return x
            keep = 1.0 - self.rate
            mask = keras.random.uniform((ops.shape(x)[0], 1, 1, 1), seed=self.seed) < keep
            return x * ops.cast(mask, x.dtype) / keep

    inputs = keras.Input((8, 8, 4))
    x = inputs
    for rate in (0.1, 0.2):
        y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = layers.Add()([x, DropPath(rate)(y)])
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@correct
def video_by_convolutions_in_time():
    inputs = keras.Input((6, 8, 8, 3))
    x = layers.Conv3D(4, (1, 3, 3), padding="same")(inputs)
    x = layers.Conv3D(4, (3, 1, 1), padding="same", activation="relu")(x)
    x = layers.MaxPooling3D((1, 2, 2))(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling3D()(x)))


@correct
def video_by_a_convnet_for_each_frame():
    frame = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.GlobalMaxPooling2D()]
    )
    inputs = keras.Input((5, 8, 8, 3))
    x = layers.LSTM(6)(layers.TimeDistributed(frame)(inputs))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@correct
def grey_values_scaled_inside_the_model():
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(32, activation="sigmoid"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    pixels = np.random.default_rng(0).integers(0, 256, size=(20, 28, 28)).astype("float32")
    return model, pixels, classes(20, 10)


@correct
def noise_for_augmentation():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Resizing(6, 6),
            layers.CenterCrop(4, 4),
            layers.GaussianNoise(0.1),
            layers.Conv2D(4, 3, activation="relu"),
            layers.SpatialDropout2D(0.2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@correct
def inverted_bottleneck_with_excitation():
    def mbconv(x, filters, expand):
        shortcut, width = x, x.shape[-1] * expand
        x = layers.Conv2D(width, 1, use_bias=False)(x)
        x = layers.Activation("swish")(layers.BatchNormalization()(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.Activation("swish")(layers.BatchNormalization()(x))
        squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
        squeezed = layers.Conv2D(2, 1, activation="swish")(squeezed)
        x = layers.Multiply()([x, layers.Conv2D(width, 1, activation="sigmoid")(squeezed)])
        x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
        return layers.Add()([x, shortcut]) if shortcut.shape[-1] == filters else x

    inputs = keras.Input((8, 8, 4))
    x = mbconv(mbconv(inputs, 4, 2), 6, 2)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@correct
def group_and_instance_normalisation():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3)(inputs)
    x = layers.GroupNormalization(groups=2)(x)
    x = layers.Conv2D(8, 3)(layers.ReLU()(x))
    x = layers.GroupNormalization(groups=-1)(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.ReLU()(x)))


@correct
def fixed_edge_filter_declared_as_a_frozen_weight():
    class Sobel(layers.Layer):
        def build(self, input_shape):
            kernel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], "float32")[:, :, None, None]
            self.kernel = self.add_weight(
                shape=kernel.shape, initializer=lambda *_, **__: kernel, trainable=False, name="kernel"
            )

        def call(self, x):
            return ops.conv(x, self.kernel, padding="same")

    inputs = keras.Input((8, 8, 1))
    x = layers.Concatenate()([inputs, Sobel()(inputs)])
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(layers.Conv2D(2, 3)(x))))


@correct
def convolution_with_fixed_weights_set_by_hand():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="fixed"), layers.Flatten(), layers.Dense(1)]
    )
    fixed = model.get_layer("fixed")
    fixed.set_weights([np.full((3, 3, 1, 2), 1 / 9, "float32"), np.zeros(2, "float32")])
    fixed.trainable = False
    model.compile("adam", "mse")
    return model


@correct
def two_images_of_one_pair_through_one_convnet():
    tower = keras.Sequential(
        [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(4)], name="tower"
    )
    a, b = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    distance = layers.Lambda(lambda pair: ops.sqrt(ops.sum((pair[0] - pair[1]) ** 2, axis=1, keepdims=True)))
    outputs = layers.Dense(1, activation="sigmoid")(distance([tower(a), tower(b)]))
    model = keras.Model([a, b], outputs)
    model.compile("rmsprop", "binary_crossentropy")
    return model
