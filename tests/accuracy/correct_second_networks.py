"""A second round of correct models, written after `diagnose` knew the first: networks of papers."""

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@correct
def resnext_by_groups():
    inputs = keras.Input((8, 8, 8))
    x = layers.Conv2D(8, 1, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(8, 3, padding="same", groups=4, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.ReLU()(x + inputs)))


@correct
def channel_shuffle():
    def shuffle(x, groups):
        h, w, c = x.shape[1:]
        x = ops.reshape(x, (-1, h, w, groups, c // groups))
        return ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, h, w, c))

    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 1, groups=2, use_bias=False)(inputs)
    x = layers.Lambda(lambda t: shuffle(t, 2))(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@correct
def block_attention_of_channels_and_places():
    inputs = keras.Input((8, 8, 4))
    squeeze, widen = layers.Dense(2, activation="relu"), layers.Dense(4)
    average = widen(squeeze(layers.GlobalAveragePooling2D()(inputs)))
    largest = widen(squeeze(layers.GlobalMaxPooling2D()(inputs)))
    x = inputs * layers.Reshape((1, 1, 4))(ops.sigmoid(average + largest))
    pooled = ops.concatenate([ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)], axis=-1)
    x = x * layers.Conv2D(1, 7, padding="same", activation="sigmoid")(pooled)
    return keras.Model(inputs, layers.Flatten()(x))


@correct
def super_resolution_by_depth_to_space():
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(8, 5, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(4, 3, padding="same")(x)
    model = keras.Model(inputs, layers.Lambda(lambda t: ops.depth_to_space(t, 2))(x))
    model.compile("adam", "mse")
    return model, numbers(2, 6, 6, 1), numbers(2, 12, 12, 1)


@correct
def points_without_order():
    class TransformNet(layers.Layer):
        def __init__(self, width):
            super().__init__()
            self.width = width
            self.each = layers.Conv1D(8, 1, activation="relu")
            self.matrix = layers.Dense(
                width * width,
                kernel_initializer="zeros",
                bias_initializer=keras.initializers.Constant(np.eye(width).flatten()),
            )

        def call(self, x):
            features = ops.max(self.each(x), axis=1)
            return ops.matmul(x, ops.reshape(self.matrix(features), (-1, self.width, self.width)))

    inputs = keras.Input((32, 3))
    x = layers.Conv1D(8, 1, activation="relu")(TransformNet(3)(inputs))
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@correct
def messages_on_a_graph():
    class Messages(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.message, self.update = layers.Dense(units, activation="relu"), layers.Dense(units)

        def call(self, inputs):
            nodes, edges = inputs
            sent = self.message(jnp.take_along_axis(nodes, edges[:, :, :1], axis=1))
            gathered = jax.vmap(lambda m, to: jax.ops.segment_sum(m, to, num_segments=nodes.shape[1]))(
                sent, edges[:, :, 1]
            )
            return self.update(jnp.concatenate([nodes, gathered], axis=-1))

    nodes, edges = keras.Input((5, 3)), keras.Input((8, 2), dtype="int32")
    x = Messages(4)([nodes, edges])
    return keras.Model([nodes, edges], layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


@correct
def capsules_with_routing():
    class Routing(layers.Layer):
        def __init__(self, count, width, turns=3):
            super().__init__()
            self.count, self.width, self.turns = count, width, turns

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[1], self.count, input_shape[2], self.width), name="w")

        def call(self, u):
            votes = jnp.einsum("bni,ncid->bncd", u, self.w.value)
            agreement = jnp.zeros(votes.shape[:3])
            for _ in range(self.turns):
                share = jax.nn.softmax(agreement, axis=2)[..., None]
                s = jnp.sum(share * votes, axis=1)
                square = jnp.sum(s**2, axis=-1, keepdims=True)
                v = s * square / (1 + square) / jnp.sqrt(square + 1e-7)
                agreement = agreement + jax.lax.stop_gradient(jnp.sum(votes * v[:, None], axis=-1))
            return v

    inputs = keras.Input((6, 4))
    lengths = layers.Lambda(lambda v: ops.sqrt(ops.sum(v**2, axis=-1) + 1e-7))
    return keras.Model(inputs, lengths(Routing(3, 5)(inputs)))


@correct
def attention_of_low_rank():
    class Linformer(layers.Layer):
        def __init__(self, width, rank):
            super().__init__()
            self.width, self.rank = width, rank
            self.q, self.k, self.v = (layers.Dense(width, use_bias=False) for _ in range(3))

        def build(self, input_shape):
            for layer in (self.q, self.k, self.v):
                layer.build(input_shape)
            self.shrink = self.add_weight(shape=(input_shape[1], self.rank), name="shrink")

        def call(self, x):
            k = ops.einsum("bsw,sr->brw", self.k(x), self.shrink)
            v = ops.einsum("bsw,sr->brw", self.v(x), self.shrink)
            scores = ops.softmax(ops.einsum("bsw,brw->bsr", self.q(x), k) / np.sqrt(self.width))
            return ops.einsum("bsr,brw->bsw", scores, v)

    inputs = keras.Input((8, 6))
    return keras.Model(inputs, Linformer(6, 3)(inputs))


@correct
def gated_recurrence_of_convolutions():
    class ConvGru(layers.Layer):
        def __init__(self, filters):
            super().__init__()
            self.filters = filters
            self.gates = layers.Conv2D(2 * filters, 3, padding="same", activation="sigmoid")
            self.candidate = layers.Conv2D(filters, 3, padding="same", activation="tanh")

        def call(self, x):
            h = ops.zeros((ops.shape(x)[0], *x.shape[2:4], self.filters))
            for t in range(x.shape[1]):
                z, r = ops.split(self.gates(ops.concatenate([x[:, t], h], axis=-1)), 2, axis=-1)
                h = (1 - z) * h + z * self.candidate(ops.concatenate([x[:, t], r * h], axis=-1))
            return h

    inputs = keras.Input((3, 6, 6, 2))
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(ConvGru(4)(inputs))))


@correct
def sines_all_the_way():
    class Sine(layers.Layer):
        def __init__(self, units, omega=30.0, first=False):
            super().__init__()
            self.units, self.omega, self.first = units, omega, first

        def build(self, input_shape):
            fan = input_shape[-1]
            bound = 1 / fan if self.first else np.sqrt(6 / fan) / self.omega
            initializer = keras.initializers.RandomUniform(-bound, bound)
            self.w = self.add_weight(shape=(fan, self.units), initializer=initializer, name="w")
            self.b = self.add_weight(shape=(self.units,), initializer=initializer, name="b")

        def call(self, x):
            return ops.sin(self.omega * (ops.matmul(x, self.w) + self.b))

    model = keras.Sequential([keras.Input((2,)), Sine(16, first=True), Sine(16), layers.Dense(3)])
    model.compile("adam", "mse")
    return model, np.random.default_rng(0).uniform(-1, 1, (16, 2)).astype("float32"), numbers(16, 3)


@correct
def features_modulated_by_a_condition():
    image, text = keras.Input((8, 8, 3)), keras.Input((5,))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.BatchNormalization(center=False, scale=False)(x)
    gamma, beta = layers.Dense(4)(text), layers.Dense(4)(text)
    x = x * (1 + layers.Reshape((1, 1, 4))(gamma)) + layers.Reshape((1, 1, 4))(beta)
    return keras.Model([image, text], layers.GlobalMaxPooling2D()(layers.ReLU()(x)))


@correct
def images_and_texts_with_a_learned_temperature():
    class Clip(keras.Model):
        def __init__(self):
            super().__init__()
            self.image = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(4)])
            self.text = keras.Sequential([layers.Embedding(20, 4), layers.GlobalAveragePooling1D()])
            self.scale = self.add_weight(
                shape=(), initializer=keras.initializers.Constant(np.log(1 / 0.07)), name="scale"
            )

        def call(self, inputs):
            image, text = self.image(inputs["image"]), self.text(inputs["text"])
            logits = ops.matmul(ops.normalize(image), ops.transpose(ops.normalize(text)))
            logits = logits * ops.exp(self.scale)
            right = ops.arange(ops.shape(logits)[0])
            rows = keras.losses.sparse_categorical_crossentropy(right, logits, from_logits=True)
            self.add_loss(ops.mean(rows))
            return logits

    model = Clip()
    model.compile("adam")
    model({"image": numbers(3, 6), "text": np.arange(12).reshape(3, 4).astype("int32")})
    return model


@correct
def similarity_learned_with_one_side_stopped():
    class SimSiam(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(4)])
            self.predictor = layers.Dense(4)

        def call(self, views):
            first, second = (self.encoder(view) for view in views)
            one = ops.normalize(self.predictor(first)) * ops.stop_gradient(ops.normalize(second))
            two = ops.normalize(self.predictor(second)) * ops.stop_gradient(ops.normalize(first))
            self.add_loss(-0.5 * ops.mean(ops.sum(one + two, axis=-1)))
            return first

    model = SimSiam()
    model.compile("sgd")
    model([numbers(2, 6), numbers(2, 6)])
    return model


@correct
def queue_of_keys_as_in_moco():
    class Moco(keras.Model):
        def __init__(self, size=8, width=4):
            super().__init__()
            self.query = layers.Dense(width)
            self.key = layers.Dense(width, trainable=False)
            self.queue = self.add_weight(
                shape=(size, width), initializer="random_normal", trainable=False, name="queue"
            )

        def call(self, x, training=False):
            q, k = ops.normalize(self.query(x)), ops.stop_gradient(ops.normalize(self.key(x)))
            near = ops.sum(q * k, axis=-1, keepdims=True)
            far = ops.matmul(q, ops.transpose(self.queue))
            if training:
                self.queue.assign(ops.concatenate([k, self.queue[: -k.shape[0]]], axis=0))
            logits = ops.concatenate([near, far], axis=-1) / 0.07
            self.add_loss(-ops.mean(ops.log_softmax(logits)[:, 0]))
            return q

    model = Moco()
    model.compile("adam")
    model(numbers(2, 5))
    return model


@correct
def mixture_of_densities():
    inputs = keras.Input((3,))
    x = layers.Dense(8, activation="tanh")(inputs)
    share = layers.Dense(2, activation="softmax")(x)
    mean = layers.Dense(2)(x)
    spread = layers.Dense(2, activation=lambda t: ops.softplus(t) + 1e-3)(x)
    model = keras.Model(inputs, layers.Concatenate()([share, mean, spread]))

    def likelihood(y_true, y_pred):
        p, m, s = ops.split(y_pred, 3, axis=-1)
        density = ops.exp(-0.5 * ((y_true - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))
        return -ops.log(ops.sum(p * density, axis=-1) + 1e-7)

    model.compile("adam", likelihood)
    return model, numbers(8, 3), numbers(8, 1)


@correct
def tasks_weighed_by_their_uncertainty():
    class Weighed(keras.Model):
        def __init__(self):
            super().__init__()
            self.trunk, self.a, self.b = layers.Dense(4, activation="relu"), layers.Dense(1), layers.Dense(1)
            self.log_variance = self.add_weight(shape=(2,), initializer="zeros", name="log_variance")

        def call(self, x):
            x = self.trunk(x)
            return self.a(x), self.b(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            errors = ops.stack([ops.mean((t - p) ** 2) for t, p in zip(y, y_pred, strict=True)])
            return ops.sum(ops.exp(-self.log_variance) * errors + self.log_variance)

    model = Weighed()
    model.compile("adam")
    model(numbers(2, 3))
    return model, numbers(8, 3), (numbers(8, 1), numbers(8, 1))


@correct
def angular_margins():
    class ArcFace(layers.Layer):
        def __init__(self, classes, scale=16.0, margin=0.3):
            super().__init__()
            self.classes, self.scale, self.margin = classes, scale, margin

        def build(self, shapes):
            self.kernel = self.add_weight(shape=(shapes[0][-1], self.classes), name="kernel")

        def call(self, inputs):
            features, labels = inputs
            cosine = ops.matmul(ops.normalize(features, axis=-1), ops.normalize(self.kernel, axis=0))
            angle = ops.arccos(ops.clip(cosine, -1 + 1e-6, 1 - 1e-6))
            hot = ops.one_hot(labels[:, 0], self.classes)
            return self.scale * ops.cos(angle + self.margin * hot)

    image, label = keras.Input((6,)), keras.Input((1,), dtype="int32")
    logits = ArcFace(4)([layers.Dense(5)(image), label])
    model = keras.Model([image, label], logits)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@correct
def policy_with_its_own_spread():
    class Policy(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.mean = layers.Dense(8, activation="tanh"), layers.Dense(2, activation="tanh")
            self.log_std = self.add_weight(shape=(2,), initializer="zeros", name="log_std")
            self.seed = keras.random.SeedGenerator(1)

        def call(self, x):
            mean = self.mean(self.hidden(x))
            return mean + ops.exp(self.log_std) * keras.random.normal(ops.shape(mean), seed=self.seed)

    model = Policy()
    model(numbers(3, 4))
    return model


@correct
def fixed_transform_then_convolutions():
    class Dct(layers.Layer):
        def __init__(self, size):
            super().__init__()
            k, n = np.arange(size)[:, None], np.arange(size)[None, :]
            self.matrix = np.cos(np.pi * k * (2 * n + 1) / (2 * size)).astype("float32")

        def call(self, x):
            return ops.einsum("kn,bnc->bkc", self.matrix, x)

    inputs = keras.Input((16, 2))
    x = layers.Conv1D(4, 3, activation="relu")(Dct(16)(inputs))
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalMaxPooling1D()(x)))


@correct
def spectrogram_inside_the_model():
    class Spectrogram(layers.Layer):
        def call(self, x):
            real, imaginary = ops.stft(x, sequence_length=32, sequence_stride=16, fft_length=32)
            return ops.log(real**2 + imaginary**2 + 1e-6)[..., None]

    inputs = keras.Input((128,))
    x = layers.Conv2D(4, 3, activation="relu")(Spectrogram()(inputs))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct
def band_filters_with_learned_edges():
    class Sinc(layers.Layer):
        def __init__(self, filters, size):
            super().__init__()
            self.filters, self.size = filters, size
            self.times = (np.arange(size) - size // 2).astype("float32")
            self.window = np.hamming(size).astype("float32")

        def build(self, input_shape):
            start = np.linspace(0.02, 0.4, self.filters).astype("float32")
            self.low = self.add_weight(shape=(self.filters,), initializer=lambda *_, **__: start, name="low")
            self.width = self.add_weight(
                shape=(self.filters,), initializer=keras.initializers.Constant(0.05), name="width"
            )

        def call(self, x):
            low, high = ops.abs(self.low), ops.abs(self.low) + ops.abs(self.width)
            angles = 2 * np.pi * self.times[:, None]
            at = angles + 1e-3
            band = (ops.sin(at * high) - ops.sin(at * low)) / at
            return ops.conv(x, (band * self.window[:, None])[:, None, :], padding="same")

    inputs = keras.Input((64, 1))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(Sinc(4, 9)(inputs))))


@correct
def one_more_token_learned_as_a_prompt():
    class Prompted(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = layers.MultiHeadAttention(2, 4)
            self.body.trainable = False
            self.prompt = self.add_weight(shape=(1, 3, 6), name="prompt")
            self.head = layers.Dense(2)

        def call(self, x):
            prompt = ops.broadcast_to(self.prompt, (ops.shape(x)[0], 3, 6))
            x = ops.concatenate([prompt, x], axis=1)
            return self.head(self.body(x, x)[:, 0])

    model = Prompted()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(numbers(2, 4, 6))
    return model


@correct
def adapters_beside_a_frozen_body():
    class Adapted(layers.Layer):
        def __init__(self, units, rank):
            super().__init__()
            self.body = layers.Dense(units, trainable=False)
            self.down = layers.Dense(rank, use_bias=False)
            self.up = layers.Dense(units, use_bias=False, kernel_initializer="zeros")

        def call(self, x):
            return self.body(x) + self.up(self.down(x))

    model = keras.Sequential([keras.Input((6,)), Adapted(8, 2), layers.ReLU(), layers.Dense(1)])
    model.compile("adam", "mse")
    return model, numbers(8, 6), numbers(8, 1)


@correct
def critic_with_a_penalty_on_its_gradient():
    class Critic(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = layers.Dense(8, activation="tanh"), layers.Dense(1)

        def score(self, x):
            return self.out(self.hidden(x))

        def call(self, x):
            slope = jax.grad(lambda t: jnp.sum(self.score(t)))(x)
            self.add_loss(10.0 * jnp.mean((jnp.linalg.norm(slope, axis=-1) - 1.0) ** 2))
            return self.score(x)

    model = Critic()
    model.build((None, 4))
    model.compile("adam", "mse")
    model(numbers(2, 4))
    return model


@correct
def solution_of_a_differential_equation():
    class Pinn(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = layers.Dense(8, activation="tanh"), layers.Dense(1)

        def call(self, t):
            def u(one):
                return self.out(self.hidden(one[None, :]))[0, 0]

            slope = jax.vmap(jax.grad(u))(t)[:, :1]
            value = self.out(self.hidden(t))
            self.add_loss(jnp.mean((slope + value) ** 2))
            return value

    model = Pinn()
    model.compile("adam", "mse")
    model(numbers(4, 1))
    return model


@correct
def convolution_over_words_by_characters():
    characters = keras.Input((6, 5), dtype="int32")
    word = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(30, 4),
            layers.Conv1D(6, 3, activation="relu"),
            layers.GlobalMaxPooling1D(),
        ]
    )
    x = layers.TimeDistributed(word)(characters)
    model = keras.Model(
        characters, layers.Dense(4, activation="softmax")(layers.GRU(6, return_sequences=True)(x))
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    ids = np.random.default_rng(0).integers(0, 30, (3, 6, 5)).astype("int32")
    return model, ids, np.random.default_rng(1).integers(0, 4, (3, 6)).astype("int32")


@correct
def state_space_by_an_associative_scan():
    class Ssm(layers.Layer):
        def __init__(self, states):
            super().__init__()
            self.states = states

        def build(self, input_shape):
            self.decay = self.add_weight(shape=(self.states,), initializer="random_uniform", name="decay")
            self.inward = self.add_weight(shape=(input_shape[-1], self.states), name="inward")
            self.outward = self.add_weight(shape=(self.states, input_shape[-1]), name="outward")

        def call(self, x):
            u = x @ self.inward.value
            a = jnp.broadcast_to(jax.nn.sigmoid(self.decay.value), u.shape)

            def combine(left, right):
                return left[0] * right[0], left[1] * right[0] + right[1]

            _, h = jax.lax.associative_scan(combine, (a, u), axis=1)
            return x + h @ self.outward.value

    inputs = keras.Input((8, 3))
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(Ssm(4)(inputs))))
