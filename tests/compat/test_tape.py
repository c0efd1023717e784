"""A gradient tape tells what TensorFlow's tells; each program runs in both."""

import jax
import numpy as np
import pytest
import tensorflow as real

import tally
from tally.compat import install
from tally.compat.tensorflow import tensorflow
from tally.core.errors import ArgumentError

OURS = tensorflow()


@pytest.fixture(autouse=True)
def _installed():
    with install():
        yield


def of_a_constant(tf):
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x**2 + tf.sin(x)
    return tape.gradient(y, x)


def of_variables_in_a_dict(tf):
    w, b = tf.Variable([[1.0, 2.0], [3.0, 4.0]]), tf.Variable([0.5, -0.5])
    with tf.GradientTape() as tape:
        y = tf.reduce_mean(tf.nn.softplus(tf.matmul([[1.0, -2.0]], w) + b))
    return tape.gradient(y, {"w": w, "b": b})


def of_several_targets(tf):
    x = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        targets = [x * 2, tf.reduce_sum(x**3)]
    return tape.gradient(targets, x)


def weighted(tf):
    x = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        y = x**2
    return tape.gradient(y, x, output_gradients=tf.constant([10.0, 100.0]))


def of_an_intermediate(tf):
    x = tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        middle = x * 3
        y = middle**2
    return tape.gradient(y, middle), tape.gradient(y, x), tape.gradient(middle, x)


def unconnected(tf):
    x, other = tf.Variable(2.0), tf.Variable([1.0, 2.0])
    constant, frozen = tf.constant(4.0), tf.Variable(5.0, trainable=False)
    with tf.GradientTape(persistent=True) as tape:
        y = x * constant * frozen
    found = tape.gradient(y, [x, other, constant, frozen])
    zeros = tape.gradient(y, other, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [one is None for one in found], found[0], zeros


def only_what_is_watched(tf):
    x, z = tf.Variable(2.0), tf.Variable(3.0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = x * z
    found = tape.gradient(y, [x, z])
    return found[0], found[1] is None


def stopped(tf):
    x = tf.Variable([1.5, -0.5])
    with tf.GradientTape(persistent=True) as tape:
        y = x * tf.stop_gradient(x)
        none = tf.stop_gradient(x) * 2
        rounded, floored = tf.round(x) * 2, tf.floor(x)
        signs = tf.sign(x)
        with tape.stop_recording():
            unseen = x * 7
    ends = [tape.gradient(one, x) is None for one in (none, rounded, floored, unseen)]
    return tape.gradient(y, x), ends, tape.gradient(signs, x)


def second_derivative(tf):
    x = tf.Variable(2.0)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            y = x**3
        first = inner.gradient(y, x)
    return first, outer.gradient(first, x)


def penalty(tf):
    w = tf.Variable([[1.0, -1.0], [0.5, 2.0]])
    x = tf.constant([[1.0, 2.0]])
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(tf.nn.tanh(tf.matmul(x, w)))
        slope = inner.gradient(y, x)
        loss = (tf.norm(slope) - 1) ** 2
    return loss, outer.gradient(loss, w)


def at_once(tf):
    x, z = tf.Variable(2.0), tf.Variable(3.0)
    with tf.GradientTape() as first, tf.GradientTape() as second:
        y = x * z
        q = x + z**2
    return first.gradient(y, x), second.gradient(q, z)


def assigned_in_between(tf):
    v, w = tf.Variable(2.0), tf.Variable(5.0)
    with tf.GradientTape(persistent=True) as tape:
        product = w * 3
        v.assign(product)
        y = v * v + product
    return tape.gradient(y, v), tape.gradient(y, w), y


def changed_afterwards(tf):
    v = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        y = v**3
    v.assign(100.0)
    return tape.gradient(y, v)


def jacobians(tf):
    x = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    with tf.GradientTape(persistent=True) as tape:
        y = tf.stack([x[:, 0] * x[:, 1], x[:, 0] ** 2, x[:, 1]], axis=1)
    return tape.jacobian(y, x), tape.batch_jacobian(y, x)


def with_control(tf):
    x = tf.Variable([1.0, -2.0, 3.0])
    with tf.GradientTape() as tape:
        y = tf.constant(0.0)
        for i in range(3):
            if x[i] > 0:
                y += tf.reduce_sum(tf.where(x > 0, x * float(i), -x))
        y += tf.reduce_max(x) + tf.gather(x, [1, 1])[0] + tf.math.top_k(x, 2).values[1]
    return tape.gradient(y, x)


def of_indices(tf):
    table = tf.Variable(np.arange(6, dtype="float32").reshape(3, 2))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(tf.nn.embedding_lookup(table, [0, 2, 2]) * tf.constant([[1.0], [10.0], [100.0]]))
    return tf.convert_to_tensor(tape.gradient(y, table))


def by_a_rule_of_its_own(tf):
    @tf.custom_gradient
    def clipped(x):
        return x * 2, lambda upstream: tf.clip_by_value(upstream, -1.0, 1.0)

    x = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(clipped(x) * tf.constant([0.5, 30.0]))
    return tape.gradient(y, x)


def at_the_edges(tf):
    x = tf.Variable([0.0, 1.0, 6.0, -3.0])
    with tf.GradientTape(persistent=True) as tape:
        made = [
            tf.nn.relu(x),
            tf.nn.relu6(x),
            tf.nn.leaky_relu(x),
            tf.nn.elu(x),
            tf.nn.softmax(x)[0],
        ]
        made += [tf.reduce_logsumexp(x), tf.nn.sigmoid(x), tf.clip_by_value(x, 0.5, 2.0)]
    return [tape.gradient(y, x) for y in made]


PROGRAMS = [
    *(of_a_constant, of_variables_in_a_dict, of_several_targets, weighted, of_an_intermediate, unconnected),
    *(
        only_what_is_watched,
        stopped,
        second_derivative,
        penalty,
        at_once,
        assigned_in_between,
        changed_afterwards,
    ),
    *(jacobians, with_control, of_indices, by_a_rule_of_its_own, at_the_edges),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_tape_tells_what_tensorflows_tells(program):
    wanted, given = program(real), program(OURS)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6),
        given,
        _plain(wanted),
    )


def _plain(structure):
    return jax.tree.map(lambda x: x.numpy() if hasattr(x, "numpy") else x, structure)


def test_a_tape_that_is_not_persistent_answers_once():
    x = OURS.Variable(1.0)
    with OURS.GradientTape() as tape:
        y = x * 2
    assert tape.gradient(y, x).numpy() == 2
    with pytest.raises(ArgumentError, match="was used before"):
        tape.gradient(y, x)


def test_a_tape_watches_tensors_only():
    with OURS.GradientTape() as tape, pytest.raises(ArgumentError, match="can't watch a str"):
        tape.watch("x")


def test_a_tape_tells_which_variables_it_watches():
    x, z = OURS.Variable(1.0), OURS.Variable(1.0, trainable=False)
    with OURS.GradientTape() as tape:
        x * z
    assert tape.watched_variables() == (x,)


def test_reading_a_variable_is_ordinary_again_after_an_error():
    before = vars(tally.Variable)["raw"]
    with pytest.raises(ZeroDivisionError), OURS.GradientTape(), OURS.GradientTape():
        1 / 0
    assert vars(tally.Variable)["raw"] is before
    assert OURS.Variable(1.0).numpy() == 1


def test_a_loop_of_the_scripts_own_learns_what_fit_learns():
    keras, tf = OURS.keras, OURS
    x = np.random.default_rng(0).normal(size=(12, 8, 8, 1)).astype("float32")
    y = np.arange(12) % 3

    def model():
        tf.random.set_seed(4)
        made = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(2, 3, activation="relu"),
                keras.layers.BatchNormalization(),
                keras.layers.MaxPooling2D(),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        made.build()
        return made

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fitted, looped = model(), model()
    fitted.compile(keras.optimizers.Adam(0.01), loss)
    fitted.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    optimizer = keras.optimizers.Adam(0.01)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, looped(images, training=True))
        gradients = tape.gradient(value, looped.trainable_variables)
        optimizer.apply_gradients(zip(gradients, looped.trainable_variables, strict=True))
        return value

    losses = [step(images, labels).numpy() for _ in range(2) for images, labels in dataset]
    assert losses[-1] < losses[0]
    for ours, theirs in zip(looped.get_weights(), fitted.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
