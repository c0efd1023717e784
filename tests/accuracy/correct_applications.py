"""Correct models: the published networks, as they come and as they are usually taken up."""

import numpy as np

import tally as keras
from tally import applications, layers

from .registry import correct


@correct
def vgg16():
    return applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=10)


@correct
def resnet50():
    return applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10)


@correct
def mobilenet_v2():
    return applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10)


@correct
def xception():
    return applications.Xception(weights=None, input_shape=(71, 71, 3), classes=10)


@correct
def vgg16_without_its_top_on_images_of_any_size():
    return applications.VGG16(weights=None, include_top=False, pooling="avg")


@correct
def feature_extractor_from_the_middle():
    base = applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), include_top=False)
    return keras.Model(base.input, base.get_layer("block_6_expand").output)


def pretrained() -> keras.Model:
    """A base whose moving statistics are not those of an untrained one, as after loading weights."""
    base = applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), include_top=False, alpha=0.35)
    rng = np.random.default_rng(0)
    for variable in base.non_trainable_variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape).astype("float32"))
    return base


@correct
def transfer_learning_with_a_frozen_base():
    base = pretrained()
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


@correct
def fine_tuning_all_of_a_base():
    base = pretrained()
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(base(inputs, training=False))
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    base.trainable = True
    model.compile(keras.optimizers.Adam(1e-5), keras.losses.BinaryCrossentropy(from_logits=True))
    return model


@correct
def fine_tuning_the_last_layers_of_a_base():
    base = pretrained()
    base.trainable = True
    for layer in base.layers[:-10]:
        layer.trainable = False
    model = keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct
def fine_tuning_with_the_normalisations_left_frozen():
    base = pretrained()
    base.trainable = True
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    model = keras.Sequential([base, layers.GlobalMaxPooling2D(), layers.Dense(5)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@correct
def base_frozen_layer_by_layer():
    base = pretrained()
    for layer in base.layers:
        layer.trainable = False
    x = layers.Flatten()(base.output)
    model = keras.Model(base.input, layers.Dense(4, activation="softmax")(x))
    model.compile("sgd", "categorical_crossentropy")
    return model
