"""A convolution has no weights before it has seen how many channels there are; then it has two.

Run it with `tally run --summary examples/seeds/empty_until_called.py`.
"""

import numpy as np
import tensorflow as tf

layer = tf.keras.layers.Conv2D(filters=32, kernel_size=3)
print("before:", layer.trainable_variables)

photos = tf.constant(np.random.rand(1, 28, 28, 3), dtype=tf.float32)
layer(photos)
print("after:", [tuple(weight.shape) for weight in layer.trainable_variables])

strided = tf.keras.layers.Conv2D(filters=64, kernel_size=(5, 5), strides=2, padding="same")
maps = strided(tf.constant(np.random.rand(2, 32, 32, 1), dtype=tf.float32))
print("kernel:", strided.kernel.shape, "bias:", strided.bias.shape, "output:", maps.shape)
print("parameters:", sum(weight.numpy().size for weight in strided.trainable_variables))
