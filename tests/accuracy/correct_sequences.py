"""Correct models: text, series and sound; recurrent, convolutional and attending."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def tokens(*shape: int, below: int = 20) -> np.ndarray:
    drawn = np.random.default_rng(1).integers(1, below, size=shape).astype("int32")
    drawn.flat[: below - 1] = np.arange(1, below)[: drawn.size]
    return drawn


@correct
def text_convnet():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(50, 8)(inputs)
    pooled = [
        layers.GlobalMaxPooling1D()(layers.Conv1D(4, k, activation="relu", padding="same")(x))
        for k in (3, 4, 5)
    ]
    x = layers.Dropout(0.5)(layers.Concatenate()(pooled))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


@correct
def lstm_classifier_with_masks():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(50, 8, mask_zero=True),
            layers.LSTM(8, dropout=0.2, recurrent_dropout=0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    return model, tokens(4, 7), np.array([0, 1, 1, 0], "float32")


@correct
def stacked_gru():
    return keras.Sequential(
        [
            keras.Input((10, 3)),
            layers.GRU(8, return_sequences=True),
            layers.GRU(4),
            layers.Dense(1),
        ]
    )


@correct
def bidirectional_lstm():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(30, 6)(inputs)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(4))(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct
def series_of_one_value_a_step():
    model = keras.Sequential([keras.Input((60, 1)), layers.LSTM(8), layers.Dense(1)])
    model.compile("adam", "mse")
    return model, numbers(8, 60, 1), numbers(8, 1)


@correct
def few_steps_of_many_features():
    return keras.Sequential([keras.Input((3, 300)), layers.GRU(8), layers.Dense(2, activation="softmax")])


@correct
def encoder_and_decoder_with_states():
    source = keras.Input((None, 5), name="source")
    target = keras.Input((None, 6), name="target")
    _, h, c = layers.LSTM(8, return_state=True)(source)
    x = layers.LSTM(8, return_sequences=True)(target, initial_state=[h, c])
    outputs = layers.Dense(6, activation="softmax")(x)
    model = keras.Model([source, target], outputs)
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    return model


@correct
def one_step_of_a_decoder():
    step = keras.Input((1, 6))
    state = [keras.Input((8,)), keras.Input((8,))]
    x, h, c = layers.LSTM(8, return_sequences=True, return_state=True)(step, initial_state=state)
    return keras.Model([step, *state], [layers.Dense(6, activation="softmax")(x), h, c])


@correct
def attention_over_the_encoder():
    source = keras.Input((7,), dtype="int32")
    target = keras.Input((5,), dtype="int32")
    memory = layers.GRU(8, return_sequences=True)(layers.Embedding(30, 6)(source))
    x = layers.GRU(8, return_sequences=True)(layers.Embedding(40, 6)(target))
    context = layers.AdditiveAttention()([x, memory])
    x = layers.Dense(40)(layers.Concatenate()([x, context]))
    model = keras.Model([source, target], x)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, [tokens(2, 7), tokens(2, 5)], tokens(2, 5)


class EncoderBlock(layers.Layer):
    """Attention and a small network, each around a shortcut, normalised after."""

    def __init__(self, width, heads, hidden, rate=0.1):
        super().__init__()
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.network = keras.Sequential([layers.Dense(hidden, activation="relu"), layers.Dense(width)])
        self.first, self.second = (
            layers.LayerNormalization(epsilon=1e-6),
            layers.LayerNormalization(epsilon=1e-6),
        )
        self.drop, self.drop_again = layers.Dropout(rate), layers.Dropout(rate)

    def call(self, x, training=False):
        x = self.first(x + self.drop(self.attention(x, x), training=training))
        return self.second(x + self.drop_again(self.network(x), training=training))


class TokensAndPositions(layers.Layer):
    """An embedding of the words plus one of the places."""

    def __init__(self, length, vocabulary, width):
        super().__init__()
        self.tokens = layers.Embedding(vocabulary, width)
        self.positions = layers.Embedding(length, width)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(x.shape[-1]))


@correct
def transformer_classifier():
    inputs = keras.Input((12,), dtype="int32")
    x = TokensAndPositions(12, 50, 8)(inputs)
    x = EncoderBlock(8, 2, 16)(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, tokens(4, 12), np.array([0, 1, 1, 0], "int32")


@correct
def transformer_with_encoder_and_decoder():
    class DecoderBlock(layers.Layer):
        def __init__(self, width, heads, hidden):
            super().__init__()
            self.itself = layers.MultiHeadAttention(heads, width // heads)
            self.across = layers.MultiHeadAttention(heads, width // heads)
            self.network = [layers.Dense(hidden, activation="relu"), layers.Dense(width)]
            self.norms = [layers.LayerNormalization() for _ in range(3)]

        def call(self, x, memory):
            x = self.norms[0](x + self.itself(x, x, use_causal_mask=True))
            x = self.norms[1](x + self.across(query=x, value=memory, key=memory))
            return self.norms[2](x + self.network[1](self.network[0](x)))

    source = keras.Input((7,), dtype="int32")
    target = keras.Input((5,), dtype="int32")
    memory = EncoderBlock(8, 2, 16)(TokensAndPositions(7, 30, 8)(source))
    x = DecoderBlock(8, 2, 16)(TokensAndPositions(5, 30, 8)(target), memory)
    model = keras.Model([source, target], layers.Dense(30, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct
def gpt_with_a_tied_output():
    class Block(layers.Layer):
        def __init__(self, width, heads):
            super().__init__()
            self.attention = layers.MultiHeadAttention(heads, width // heads)
            self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
            self.widen, self.narrow = layers.Dense(4 * width, activation="gelu"), layers.Dense(width)

        def call(self, x):
            y = self.norms[0](x)
            x = x + self.attention(y, y, use_causal_mask=True)
            return x + self.narrow(self.widen(self.norms[1](x)))

    class Gpt(keras.Model):
        def __init__(self, vocabulary, length, width, heads, depth):
            super().__init__()
            self.embed = layers.Embedding(vocabulary, width)
            self.positions = layers.Embedding(length, width)
            self.blocks = [Block(width, heads) for _ in range(depth)]
            self.norm = layers.LayerNormalization()

        def call(self, ids):
            x = self.embed(ids) + self.positions(ops.arange(ids.shape[-1]))
            for block in self.blocks:
                x = block(x)
            return ops.matmul(self.norm(x), ops.transpose(self.embed.embeddings))

    model = Gpt(30, 6, 8, 2, 2)
    model.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(tokens(2, 6))
    return model, tokens(2, 6), tokens(2, 6)


@correct
def masked_language_model_with_two_heads():
    inputs = keras.Input((8,), dtype="int32", name="ids")
    x = EncoderBlock(8, 2, 16)(TokensAndPositions(8, 40, 8)(inputs))
    words = layers.Dense(40, activation="softmax", name="words")(x)
    following = layers.Dense(1, activation="sigmoid", name="following")(x[:, 0])
    model = keras.Model(inputs, [words, following])
    model.compile("adam", ["sparse_categorical_crossentropy", "binary_crossentropy"], loss_weights=[1.0, 0.5])
    return model


@correct
def word2vec_with_negative_samples():
    target, context = keras.Input((1,), dtype="int32"), keras.Input((5,), dtype="int32")
    word = layers.Embedding(50, 8, name="word")(target)
    near = layers.Embedding(50, 8, name="near")(context)
    scores = layers.Reshape((5,))(layers.Dot(axes=2)([near, word]))
    model = keras.Model([target, context], scores)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


@correct
def sinusoids_for_positions():
    class Sinusoids(layers.Layer):
        def __init__(self, length, width):
            super().__init__()
            places = np.arange(length)[:, None]
            rates = 1 / 10_000 ** (np.arange(0, width, 2) / width)
            table = np.concatenate([np.sin(places * rates), np.cos(places * rates)], axis=-1)
            self.table = table.astype("float32")

        def call(self, x):
            return x + self.table[None, : x.shape[1]]

    inputs = keras.Input((6,), dtype="int32")
    x = Sinusoids(10, 8)(layers.Embedding(30, 8)(inputs))
    x = EncoderBlock(8, 2, 16)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling1D()(x)))


@correct
def rotary_positions():
    class RotaryAttention(layers.Layer):
        def __init__(self, width):
            super().__init__()
            self.width = width
            self.queries, self.keys = layers.Dense(width, use_bias=False), layers.Dense(width, use_bias=False)
            self.values = layers.Dense(width)

        def rotate(self, x):
            half = self.width // 2
            angles = ops.arange(x.shape[1], dtype="float32")[:, None] * (
                1.0 / 10_000 ** (ops.arange(half, dtype="float32") / half)
            )
            sin, cos = ops.sin(angles), ops.cos(angles)
            first, second = x[..., :half], x[..., half:]
            return ops.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)

        def call(self, x):
            q, k = self.rotate(self.queries(x)), self.rotate(self.keys(x))
            scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / self.width**0.5)
            return ops.matmul(scores, self.values(x))

    inputs = keras.Input((5, 6))
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(RotaryAttention(8)(inputs)))


@correct
def tagger_with_a_label_for_each_word():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(50, 8, mask_zero=True),
            layers.Bidirectional(layers.LSTM(6, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(8, activation="relu")),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, tokens(3, 8, below=50), tokens(3, 8, below=5)


@correct
def language_model_that_predicts_each_next_word():
    class Lm(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(20, 8)
            self.lstm = layers.LSTM(8, return_sequences=True)
            self.words = layers.Dense(20)

        def call(self, ids):
            return self.words(self.lstm(self.embed(ids)))

    model = Lm()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model(tokens(2, 5))
    return model, tokens(2, 5), tokens(2, 5)


@correct
def wavenet():
    inputs = keras.Input((32, 1))
    x, skips = layers.Conv1D(4, 1)(inputs), []
    for rate in (1, 2, 4, 8):
        filtered = layers.Conv1D(4, 2, dilation_rate=rate, padding="causal", activation="tanh")(x)
        gate = layers.Conv1D(4, 2, dilation_rate=rate, padding="causal", activation="sigmoid")(x)
        made = layers.Conv1D(4, 1)(layers.Multiply()([filtered, gate]))
        skips.append(made)
        x = layers.Add()([x, made])
    # What the last block adds to `x` is not needed: the output comes from the skips alone.
    y = layers.ReLU()(layers.Add()(skips))
    outputs = layers.Conv1D(16, 1, activation="softmax")(y)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct
def temporal_convolutions_that_forecast():
    inputs = keras.Input((24, 3))
    x = inputs
    for rate in (1, 2, 4):
        y = layers.Conv1D(6, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
        y = layers.SpatialDropout1D(0.1)(y)
        x = layers.Add()([y, layers.Conv1D(6, 1)(x)])
    outputs = layers.Dense(2)(layers.Lambda(lambda t: t[:, -1])(x))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mae")
    return model


@correct
def forecast_of_every_step():
    model = keras.Sequential([keras.Input((12, 2)), layers.LSTM(6, return_sequences=True), layers.Dense(1)])
    model.compile("adam", "mse")
    return model, numbers(4, 12, 2), numbers(4, 12, 1)


@correct
def masking_of_padded_series():
    model = keras.Sequential(
        [keras.Input((9, 2)), layers.Masking(mask_value=-1.0), layers.LSTM(4), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    x = numbers(4, 9, 2)
    x[:, 6:] = -1.0
    return model, x, numbers(4, 1)


@correct
def cell_of_ones_own():
    class MinimalCell(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = self.state_size = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
            self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")

        def call(self, x, states):
            h = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(states[0], self.recurrent))
            return h, [h]

    inputs = keras.Input((5, 3))
    return keras.Model(inputs, layers.Dense(1)(layers.RNN(MinimalCell(4))(inputs)))


@correct
def stateful_recurrence():
    return keras.Sequential(
        [keras.Input((4, 2), batch_size=3), layers.GRU(5, stateful=True), layers.Dense(1)]
    )


@correct
def autoencoder_of_sequences():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.LSTM(4),
            layers.RepeatVector(6),
            layers.LSTM(4, return_sequences=True),
            layers.TimeDistributed(layers.Dense(3)),
        ]
    )
    model.compile("adam", "mse")
    x = numbers(4, 6, 3)
    return model, x, x


@correct
def reservoir_with_fixed_random_weights():
    inputs = keras.Input((10, 2))
    reservoir = layers.SimpleRNN(20, trainable=False, name="reservoir")
    model = keras.Model(inputs, layers.Dense(1, name="readout")(reservoir(inputs)))
    model.compile("adam", "mse")
    return model


@correct
def pooling_by_attention():
    class AttentionPool(layers.Layer):
        def __init__(self, hidden):
            super().__init__()
            self.score = keras.Sequential(
                [layers.Dense(hidden, activation="tanh"), layers.Dense(1, use_bias=False)]
            )
            self.last_weights = None

        def call(self, x):
            weights = ops.softmax(self.score(x), axis=1)
            self.last_weights = weights  # looked at when the model is shown
            return ops.sum(weights * x, axis=1)

    inputs = keras.Input((7, 5))
    return keras.Model(
        inputs, layers.Dense(2)(AttentionPool(4)(layers.GRU(6, return_sequences=True)(inputs)))
    )


@correct
def highway_layers():
    class Highway(layers.Layer):
        def build(self, input_shape):
            self.transform = layers.Dense(input_shape[-1], activation="relu")
            self.gate = layers.Dense(
                input_shape[-1], activation="sigmoid", bias_initializer=keras.initializers.Constant(-2.0)
            )
            self.transform.build(input_shape)
            self.gate.build(input_shape)

        def call(self, x):
            gate = self.gate(x)
            return gate * self.transform(x) + (1.0 - gate) * x

    return keras.Sequential([keras.Input((6,)), Highway(), Highway(), layers.Dense(1)])


@correct
def speech_with_a_loss_of_ones_own():
    def ctc(y_true, y_pred):
        frames = ops.zeros_like(y_pred[:, 0, 0], dtype="int32") + y_pred.shape[1]
        labels = ops.zeros_like(y_true[:, 0], dtype="int32") + y_true.shape[1]
        return ops.ctc_loss(y_true, y_pred, labels, frames)

    inputs = keras.Input((20, 8))
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True))(inputs)
    model = keras.Model(inputs, layers.Dense(7)(x))
    model.compile("adam", ctc)
    return model


@correct
def question_and_answer_through_one_encoder():
    encoder = keras.Sequential(
        [keras.Input((None,), dtype="int32"), layers.Embedding(30, 6), layers.LSTM(5)], name="encoder"
    )
    question, answer = keras.Input((8,), dtype="int32"), keras.Input((6,), dtype="int32")
    cosine = layers.Dot(axes=-1, normalize=True)([encoder(question), encoder(answer)])
    return keras.Model([question, answer], cosine)
