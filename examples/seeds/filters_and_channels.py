"""Does a convolution have filters of its own for each channel? Yes; and how to share them or to split them.

Run it with `tally run --explain examples/seeds/filters_and_channels.py`.
"""

from keras import backend as K
from keras import layers, models

own_filters = models.Sequential()
own_filters.add(layers.Conv2D(10, (4, 4), input_shape=(32, 32, 3)))
own_filters.summary()

shared_filters = models.Sequential()
shared_filters.add(layers.Lambda(lambda image: K.expand_dims(K.sum(image, axis=-1)), input_shape=(32, 32, 3)))
shared_filters.add(layers.Conv2D(10, (4, 4)))
shared_filters.summary()

separable = models.Sequential()
separable.add(layers.SeparableConv2D(10, (4, 4), input_shape=(32, 32, 3)))
separable.summary()
