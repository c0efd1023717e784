"""Three ways to write a linear layer of 10 inputs and 5 outputs; only two of them have 55 parameters.

Run it with `tally run --diagnose examples/seeds/weights_that_count.py`: the first layer is found to be wrong.
"""

import tensorflow as tf


class DrawnInCall(tf.keras.layers.Layer):
    """Draws new numbers each time it is called: nothing counts, trains or saves them."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, inputs):
        """A matrix product and a bias."""
        self.w = tf.random.normal(shape=(inputs.shape[-1], self.units))
        self.b = tf.zeros(shape=(self.units,))
        return tf.matmul(inputs, self.w) + self.b


class MadeInBuild(tf.keras.layers.Layer):
    """Makes its weights when it first sees an input, whatever its size."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        """Make the weights."""
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True
        )
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True)

    def call(self, inputs):
        """A matrix product and a bias."""
        return tf.matmul(inputs, self.w) + self.b


class MadeEarly(tf.keras.layers.Layer):
    """Makes its weights when it is made, so its input's size has to be known by then."""

    def __init__(self, units, input_dim, **kwargs):
        super().__init__(**kwargs)
        self.w = tf.Variable(tf.random.normal([input_dim, units]), name="w")
        self.b = tf.Variable(tf.zeros([units]), name="b")

    def call(self, inputs):
        """A matrix product and a bias."""
        return tf.matmul(inputs, self.w) + self.b


inputs = tf.keras.layers.Input(shape=(10,))
drawn = tf.keras.Model(inputs=inputs, outputs=DrawnInCall(units=5)(inputs))
built = tf.keras.Model(inputs=inputs, outputs=MadeInBuild(units=5)(inputs))
early = tf.keras.Model(inputs=inputs, outputs=MadeEarly(units=5, input_dim=10)(inputs))
for model in (drawn, built, early):
    model.summary()
print("drawn in call:", drawn.count_params())
print("made in build:", built.count_params())
print("made early:", early.count_params())
