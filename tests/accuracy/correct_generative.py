"""Correct models: autoencoders, adversarial and contrastive networks, and weights that chance or a network makes."""

import jax
import jax.numpy as jnp
import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@correct
def autoencoder():
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(3, activation="relu", activity_regularizer="l1"),
            layers.Dense(8, activation="relu"),
            layers.Dense(16, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    x = (numbers(8, 16) > 0).astype("float32")
    return model, x, x


@correct(by="function")
def encoder_decoder_and_autoencoder_from_one_graph():
    image = keras.Input((16,))
    code = layers.Dense(3, activation="tanh", name="code")(layers.Dense(8, activation="relu")(image))
    encoder = keras.Model(image, code, name="encoder")
    latent = keras.Input((3,))
    decoder = keras.Model(
        latent, layers.Dense(16)(layers.Dense(8, activation="relu")(latent)), name="decoder"
    )
    autoencoder = keras.Model(image, decoder(encoder(image)), name="autoencoder")
    autoencoder.compile("adam", "mse")
    return autoencoder


@correct
def encoder_taken_out_of_an_autoencoder():
    image = keras.Input((16,))
    code = layers.Dense(3, name="code")(layers.Dense(8, activation="relu")(image))
    restored = layers.Dense(16, name="restored")(code)
    autoencoder = keras.Model(image, restored)
    autoencoder.compile("adam", "mse")
    return keras.Model(autoencoder.input, autoencoder.get_layer("code").output)


@correct
def denoising_autoencoder():
    inputs = keras.Input((16, 16, 1))
    x = layers.GaussianNoise(0.3)(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x)
    model = keras.Model(inputs, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x))
    model.compile("adam", "mse")
    return model


class Sampling(layers.Layer):
    """Draws around a mean, so that the gradient reaches mean and variance."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_variance = inputs
        epsilon = keras.random.normal(shape=ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * epsilon


@correct
def variational_autoencoder():
    class Vae(keras.Model):
        def __init__(self):
            super().__init__()
            self.encode = layers.Dense(8, activation="relu")
            self.mean, self.log_variance = layers.Dense(2), layers.Dense(2)
            self.sampling = Sampling()
            self.decode = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(16)])

        def call(self, x):
            h = self.encode(x)
            mean, log_variance = self.mean(h), self.log_variance(h)
            kl = -0.5 * ops.mean(1 + log_variance - mean**2 - ops.exp(log_variance))
            self.add_loss(kl)
            return self.decode(self.sampling([mean, log_variance]))

    model = Vae()
    model.compile("adam", "mse")
    x = numbers(8, 16)
    model(x)
    return model, x, x


@correct
def encoder_with_three_outputs():
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(4, 3, strides=2, activation="relu")(inputs))
    mean, log_variance = layers.Dense(2, name="mean")(x), layers.Dense(2, name="log_variance")(x)
    return keras.Model(inputs, [mean, log_variance, Sampling()([mean, log_variance])], name="encoder")


def make_generator() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4 * 4 * 4, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="tanh"),
        ],
        name="generator",
    )


def make_discriminator() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="discriminator",
    )


@correct
def generator_of_a_gan():
    return make_generator()


@correct
def discriminator_of_a_gan():
    model = make_discriminator()
    model.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), "binary_crossentropy")
    return model


@correct
def generator_against_a_frozen_discriminator():
    generator, discriminator = make_generator(), make_discriminator()
    discriminator.trainable = False
    noise = keras.Input((6,))
    gan = keras.Model(noise, discriminator(generator(noise)), name="gan")
    gan.compile("adam", "binary_crossentropy")
    return gan


@correct
def spectrally_normalised_critic():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.SpectralNormalization(layers.Conv2D(4, 3, padding="same")),
            layers.LeakyReLU(),
            layers.Flatten(),
            layers.SpectralNormalization(layers.Dense(1)),
        ]
    )


@correct
def conditional_generator():
    noise, label = keras.Input((6,)), keras.Input((1,), dtype="int32")
    embedded = layers.Flatten()(layers.Embedding(10, 4)(label))
    x = layers.Concatenate()([noise, embedded])
    return keras.Model(
        [noise, label], layers.Dense(16, activation="tanh")(layers.Dense(8, activation="relu")(x))
    )


@correct
def vector_quantiser():
    class VectorQuantizer(layers.Layer):
        def __init__(self, codes, width, beta=0.25):
            super().__init__()
            self.codes, self.width, self.beta = codes, width, beta

        def build(self, input_shape):
            self.book = self.add_weight(
                shape=(self.codes, self.width), initializer="random_uniform", name="book"
            )

        def call(self, x):
            distances = (
                ops.sum(x**2, axis=-1, keepdims=True)
                - 2 * ops.matmul(x, ops.transpose(self.book))
                + ops.sum(self.book.value**2, axis=-1)
            )
            chosen = ops.take(self.book, ops.argmin(distances, axis=-1), axis=0)
            self.add_loss(self.beta * ops.mean((ops.stop_gradient(chosen) - x) ** 2))
            self.add_loss(ops.mean((chosen - ops.stop_gradient(x)) ** 2))
            return x + ops.stop_gradient(chosen - x)

    inputs = keras.Input((8,))
    x = layers.Dense(4)(inputs)
    x = VectorQuantizer(16, 4)(x)
    model = keras.Model(inputs, layers.Dense(8)(x))
    model.compile("adam", "mse")
    return model


@correct
def straight_through_rounding():
    class Rounded(layers.Layer):
        def call(self, x):
            return x + ops.stop_gradient(ops.round(x) - x)

    inputs = keras.Input((8,))
    x = Rounded()(layers.Dense(4, activation="sigmoid")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("adam", "mse")
    return model


@correct
def binary_weights_with_a_straight_through_estimator():
    class BinaryDense(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

        def call(self, x):
            clipped = ops.clip(self.kernel, -1.0, 1.0)
            binary = clipped + ops.stop_gradient(ops.sign(clipped) - clipped)
            return ops.matmul(x, binary)

    return keras.Sequential([keras.Input((6,)), BinaryDense(4), layers.BatchNormalization(), layers.Dense(1)])


@correct
def gumbel_softmax():
    class Gumbel(layers.Layer):
        def __init__(self, temperature=0.5):
            super().__init__()
            self.temperature = temperature
            self.seed = keras.random.SeedGenerator(0)

        def call(self, logits, training=False):
            if training:
                uniform = keras.random.uniform(ops.shape(logits), 1e-6, 1.0, seed=self.seed)
                logits = logits - ops.log(-ops.log(uniform))
            return ops.softmax(logits / self.temperature)

    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Dense(8)(Gumbel()(layers.Dense(4)(inputs))))


@correct
def denoiser_of_a_diffusion():
    class TimeEmbedding(layers.Layer):
        def __init__(self, width):
            super().__init__()
            self.frequencies = np.exp(np.linspace(0.0, 6.0, width // 2)).astype("float32")
            self.project = layers.Dense(width, activation="swish")

        def call(self, t):
            angles = t * self.frequencies
            return self.project(ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1))

    image, time = keras.Input((8, 8, 1)), keras.Input((1,))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = x + layers.Reshape((1, 1, 4))(layers.Dense(4)(TimeEmbedding(8)(time)))
    x = layers.Activation("swish")(layers.GroupNormalization(2)(x))
    model = keras.Model([image, time], layers.Conv2D(1, 3, padding="same")(x))
    model.compile("adam", "mse")
    return model


@correct
def coupling_flow():
    class Coupling(layers.Layer):
        def __init__(self, mask):
            super().__init__()
            self.mask = np.array(mask, "float32")
            self.scale = keras.Sequential(
                [layers.Dense(8, activation="relu"), layers.Dense(2, activation="tanh")]
            )
            self.shift = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(2)])

        def call(self, x):
            kept = x * self.mask
            s = self.scale(kept) * (1 - self.mask)
            t = self.shift(kept) * (1 - self.mask)
            self.add_loss(-ops.mean(ops.sum(s, axis=-1)))
            return kept + (1 - self.mask) * (x * ops.exp(s) + t)

    model = keras.Sequential([keras.Input((2,)), Coupling([0, 1]), Coupling([1, 0]), Coupling([0, 1])])
    model.compile("adam", "mse")
    return model


@correct
def siamese_with_a_lambda_for_the_distance():
    tower_input = keras.Input((6,))
    tower = keras.Model(tower_input, layers.Dense(3)(layers.Dense(8, activation="relu")(tower_input)))
    left, right = keras.Input((6,)), keras.Input((6,))
    distance = layers.Lambda(lambda t: ops.norm(t[0] - t[1], axis=1, keepdims=True))

    def contrastive(y_true, y_pred, margin=1.0):
        return ops.mean((1 - y_true) * y_pred**2 + y_true * ops.maximum(margin - y_pred, 0.0) ** 2)

    model = keras.Model([left, right], distance([tower(left), tower(right)]))
    model.compile("adam", contrastive)
    return model


@correct
def triplets():
    class Triplets(keras.Model):
        def __init__(self, tower, margin=0.5):
            super().__init__()
            self.tower, self.margin = tower, margin

        def call(self, inputs):
            anchor, positive, negative = (self.tower(x) for x in inputs)
            near = ops.sum((anchor - positive) ** 2, axis=-1)
            far = ops.sum((anchor - negative) ** 2, axis=-1)
            self.add_loss(ops.mean(ops.maximum(near - far + self.margin, 0.0)))
            return ops.stack([near, far], axis=-1)

    tower = keras.Sequential(
        [layers.Dense(8, activation="relu"), layers.Dense(4), layers.UnitNormalization()]
    )
    model = Triplets(tower)
    model.compile("adam")
    model([numbers(2, 5), numbers(2, 5), numbers(2, 5)])
    return model


@correct
def target_network_as_in_byol():
    class Byol(keras.Model):
        def __init__(self):
            super().__init__()
            self.online = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(4)])
            self.predictor = layers.Dense(4)
            self.target = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(4)])
            self.target.trainable = False

        def call(self, inputs):
            first, second = inputs
            predicted = self.predictor(self.online(first))
            target = ops.stop_gradient(self.target(second))
            self.add_loss(ops.mean((ops.normalize(predicted) - ops.normalize(target)) ** 2))
            return predicted

    model = Byol()
    model.compile("adam")
    model([numbers(2, 6), numbers(2, 6)])
    return model


@correct
def teacher_by_moving_average():
    class Teacher(layers.Layer):
        def __init__(self, units, momentum=0.99):
            super().__init__()
            self.units, self.momentum = units, momentum

        def build(self, input_shape):
            shape = (input_shape[-1], self.units)
            self.student = self.add_weight(shape=shape, name="student")
            self.teacher = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="teacher")

        def call(self, x, training=False):
            if training:
                self.teacher.assign(self.momentum * self.teacher + (1 - self.momentum) * self.student)
            gap = ops.matmul(x, self.student) - ops.stop_gradient(ops.matmul(x, self.teacher))
            self.add_loss(ops.mean(gap**2))
            return ops.matmul(x, self.student)

    model = keras.Sequential([keras.Input((6,)), Teacher(4), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@correct
def distillation_from_a_frozen_teacher():
    class Distiller(keras.Model):
        def __init__(self, student, teacher):
            super().__init__()
            self.student, self.teacher = student, teacher
            self.teacher.trainable = False

        def call(self, x):
            logits = self.student(x)
            softened = ops.softmax(self.teacher(x, training=False) / 3.0)
            self.add_loss(ops.mean(keras.losses.kl_divergence(softened, ops.softmax(logits / 3.0))))
            return logits

    teacher = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dropout(0.5), layers.Dense(3)])
    student = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3)])
    model = Distiller(student, teacher)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(numbers(2, 5))
    return model


@correct
def noisy_dense():
    class NoisyDense(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units
            self.seed = keras.random.SeedGenerator(3)

        def build(self, input_shape):
            shape = (input_shape[-1], self.units)
            self.mean = self.add_weight(shape=shape, name="mean")
            self.spread = self.add_weight(shape=shape, initializer="zeros", name="spread")

        def call(self, x, training=False):
            kernel = ops.convert_to_tensor(self.mean)
            if training:
                kernel = kernel + self.spread * keras.random.normal(self.mean.shape, seed=self.seed)
            return ops.matmul(x, kernel)

    return keras.Sequential([keras.Input((4,)), NoisyDense(8), layers.ReLU(), layers.Dense(2)])


@correct
def weights_with_a_distribution():
    class BayesianDense(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units
            self.seed = keras.random.SeedGenerator(3)

        def build(self, input_shape):
            shape = (input_shape[-1], self.units)
            self.mu = self.add_weight(shape=shape, name="mu")
            self.rho = self.add_weight(shape=shape, initializer=keras.initializers.Constant(-3.0), name="rho")

        def call(self, x):
            sigma = ops.softplus(self.rho)
            w = self.mu + sigma * keras.random.normal(self.mu.shape, seed=self.seed)
            self.add_loss(1e-3 * ops.mean(self.mu**2 + sigma**2 - 2 * ops.log(sigma) - 1))
            return ops.matmul(x, w)

    model = keras.Sequential([keras.Input((4,)), BayesianDense(8), layers.ReLU(), BayesianDense(1)])
    model.compile("adam", "mse")
    return model


@correct
def connections_dropped_at_random():
    class DropConnect(layers.Layer):
        def __init__(self, units, rate=0.3):
            super().__init__()
            self.units, self.rate = units, rate
            self.seed = keras.random.SeedGenerator(11)

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

        def call(self, x, training=False):
            kernel = ops.convert_to_tensor(self.kernel)
            if training:
                kept = keras.random.uniform(self.kernel.shape, seed=self.seed) > self.rate
                kernel = ops.where(kept, kernel / (1 - self.rate), 0.0)
            return ops.matmul(x, kernel)

    return keras.Sequential([keras.Input((4,)), DropConnect(8), layers.Dense(1)])


@correct
def network_that_makes_the_weights_of_another():
    class HyperDense(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, shapes):
            self.inputs = shapes[0][-1]
            self.maker = layers.Dense(self.inputs * self.units)
            self.maker.build(shapes[1])

        def call(self, pair):
            x, context = pair
            kernel = ops.reshape(self.maker(context), (-1, self.inputs, self.units))
            return ops.squeeze(ops.matmul(x[:, None, :], kernel), axis=1)

    x, context = keras.Input((4,)), keras.Input((3,))
    return keras.Model([x, context], HyperDense(5)([x, context]))


@correct
def reversed_gradient():
    @jax.custom_vjp
    def reverse(x):
        return x

    reverse.defvjp(lambda x: (x, None), lambda _, g: (-g,))

    class Reverse(layers.Layer):
        def call(self, x):
            return reverse(x)

    inputs = keras.Input((6,))
    features = layers.Dense(8, activation="relu")(inputs)
    label = layers.Dense(3, activation="softmax", name="label")(features)
    domain = layers.Dense(1, activation="sigmoid", name="domain")(Reverse()(features))
    model = keras.Model(inputs, [label, domain])
    model.compile("adam", ["sparse_categorical_crossentropy", "binary_crossentropy"])
    return model


@correct
def noise_from_a_key_of_jax():
    class Jitter(layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(5)

        def call(self, x, training=False):
            if not training:
                return x
            noise = jax.random.normal(self.seed.next(), x.shape[1:])
            return x + 0.1 * jnp.asarray(noise, x.dtype)

    return keras.Sequential([keras.Input((6,)), Jitter(), layers.Dense(1)])
