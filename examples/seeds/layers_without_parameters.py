"""Which image layers have parameters: a convolution always, a convolution with given weights too, a mean never.

Run it with `tally run examples/seeds/layers_without_parameters.py`.
"""

import numpy as np
from tensorflow import keras


def classifier(first_layer):
    """Put the same ending behind a first layer."""
    return keras.Sequential(
        [
            first_layer,
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


learned = classifier(keras.layers.Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)))
learned.summary()

edges = np.random.rand(3, 3, 1, 32)
fixed = classifier(keras.layers.Conv2D(32, (3, 3), input_shape=(28, 28, 1), weights=[edges, np.zeros((32,))]))
fixed.layers[0].trainable = False
fixed.summary()

averaged = classifier(
    keras.layers.AveragePooling2D((3, 3), strides=(1, 1), padding="same", input_shape=(28, 28, 1))
)
averaged.summary()

for name, model in (("learned", learned), ("fixed", fixed), ("averaged", averaged)):
    first = model.layers[0]
    trained = sum(int(np.prod(weight.shape)) for weight in first.trainable_weights)
    print(f"{name}: {first.count_params()} parameters in the first layer, {trained} of them trained")
