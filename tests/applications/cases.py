"""The applications, the smallest images they take, and the totals their papers' readers know."""

import keras
import numpy as np
import pytest

import tally
from tally.core.naming import reset_names

CASES = [
    pytest.param("VGG16", 32, 138_357_544, id="VGG16"),
    pytest.param("ResNet50", 32, 25_636_712, id="ResNet50"),
    pytest.param("MobileNetV2", 32, 3_538_984, id="MobileNetV2"),
    pytest.param("Xception", 71, 22_910_480, id="Xception"),
]


def make_both(name: str, **options: object) -> tuple[tally.Model, keras.Model]:
    """The same application here and in Keras, with default names counted from the start."""
    reset_names()
    keras.utils.clear_session(free_memory=False)
    options = {"weights": None, **options}
    return getattr(tally.applications, name)(**options), getattr(keras.applications, name)(**options)


def weights_for(model: keras.Model) -> list[np.ndarray]:
    """A model's weights, with the ones and zeros of normalizations and biases made tellable from one another."""
    generator = np.random.default_rng(0)
    weights = model.get_weights()
    return [w + generator.uniform(0, 0.1, w.shape).astype("float32") if w.ndim == 1 else w for w in weights]
