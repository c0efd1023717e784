"""The models in Keras's words, for tally and for Keras alike: what is imported as `library` is the only difference."""

from typing import Any

from benchmarks.gpu_models.sizes import DECAY, MOMENTUM, RATES, Gpt, Mnist, ResNet, Task, Vit


def build(library: Any, task: Task, **compiling: Any) -> Any:
    """A compiled model of a task.

    Args:
        library: `tally` or `keras`.
        task: What is trained.
        **compiling: More arguments of `compile`.
    """
    library.config.set_dtype_policy(task.policy)
    library.utils.set_random_seed(0)
    model = {Mnist: mnist, ResNet: resnet, Vit: vit, Gpt: gpt}[type(task.model)](library, task.model)
    rate, optimizers = RATES[task.optimizer], library.optimizers
    optimizer = {
        "sgd": lambda: optimizers.SGD(rate, momentum=MOMENTUM),
        "adam": lambda: optimizers.Adam(rate),
        "adamw": lambda: optimizers.AdamW(rate, weight_decay=DECAY),
    }[task.optimizer]()
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, **compiling)
    return model


def mnist(library: Any, sizes: Mnist) -> Any:
    """The convolutional network of Keras's first example."""
    layers = library.layers
    parts = []
    for filters in sizes.filters:
        parts += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)]
    return library.Sequential(
        [
            library.Input((sizes.side, sizes.side, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            *parts,
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(sizes.classes),
        ]
    )


def resnet(library: Any, sizes: ResNet) -> Any:
    """ResNet of bottleneck blocks."""
    layers = library.layers

    def convolve(x: Any, filters: int, size: int, strides: int = 1) -> Any:
        if strides > 1:  # the same places on every side, as PyTorch pads
            x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
        padding = "same" if strides == 1 else "valid"
        x = layers.Conv2D(filters, size, strides, padding, use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    image = library.Input((sizes.side, sizes.side, 3), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.ReLU()(convolve(x, sizes.filters, 7, 2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, blocks in enumerate(sizes.stages):
        inner = sizes.filters * 2**stage
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            shortcut = x if block else convolve(x, 4 * inner, 1, strides)
            y = layers.ReLU()(convolve(x, inner, 1))
            y = layers.ReLU()(convolve(y, inner, 3, strides))
            x = layers.ReLU()(layers.Add()([convolve(y, 4 * inner, 1), shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return library.Model(image, layers.Dense(sizes.classes)(x))


def _block(library: Any, x: Any, sizes: Vit | Gpt, epsilon: float) -> Any:
    """A transformer's block on a symbolic tensor."""
    layers, causal = library.layers, isinstance(sizes, Gpt)
    y = layers.LayerNormalization(epsilon=epsilon)(x)
    attention = layers.MultiHeadAttention(sizes.heads, sizes.width // sizes.heads)
    x = layers.Add()([x, attention(y, y, use_causal_mask=causal)])
    y = layers.LayerNormalization(epsilon=epsilon)(x)
    y = layers.Dense(4 * sizes.width)(y)
    y = layers.Activation(lambda z: library.ops.gelu(z, approximate=causal))(y)
    return layers.Add()([x, layers.Dense(sizes.width)(y)])


def vit(library: Any, sizes: Vit) -> Any:
    """A vision transformer."""
    layers = library.layers

    class Places(layers.Layer):
        """Puts the class token in front and adds what each place has learned."""

        def build(self, input_shape: Any) -> None:
            count, width = input_shape[1] + 1, input_shape[2]
            normal = library.initializers.RandomNormal(stddev=0.02)
            self.token = self.add_weight(shape=(1, 1, width), initializer="zeros", name="token")
            self.places = self.add_weight(shape=(1, count, width), initializer=normal, name="places")

        def call(self, x: Any) -> Any:
            token = library.ops.broadcast_to(self.token, (library.ops.shape(x)[0], 1, x.shape[2]))
            return library.ops.concatenate([token, x], axis=1) + self.places

    image = library.Input((sizes.side, sizes.side, 3), dtype="uint8")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(sizes.width, sizes.patch, sizes.patch)(x)
    x = Places()(layers.Reshape((sizes.places - 1, sizes.width))(x))
    for _ in range(sizes.depth):
        x = _block(library, x, sizes, 1e-6)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return library.Model(image, layers.Dense(sizes.classes)(x[:, 0]))


def gpt(library: Any, sizes: Gpt) -> Any:
    """GPT-2."""
    layers = library.layers
    normal = library.initializers.RandomNormal(stddev=0.02)

    class Words(layers.Layer):
        """Vectors of words and places; or, of vectors, the scores of all words."""

        def build(self, input_shape: Any) -> None:
            shape = (sizes.words, sizes.width)
            self.words = self.add_weight(shape=shape, initializer=normal, name="words")
            shape = (sizes.length, sizes.width)
            self.places = self.add_weight(shape=shape, initializer=normal, name="places")

        def call(self, x: Any, backwards: bool = False) -> Any:
            if backwards:
                return library.ops.matmul(x, library.ops.transpose(self.words))
            return library.ops.take(self.words, x, axis=0) + self.places

    tokens, words = library.Input((sizes.length,), dtype="int32"), Words()
    x = words(tokens)
    for _ in range(sizes.depth):
        x = _block(library, x, sizes, 1e-5)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    return library.Model(tokens, words(x, backwards=True))
