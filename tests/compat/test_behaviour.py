"""What of TensorFlow is more than a function of numbers: randomness, control, layers, the system."""

import io
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally.compat import install
from tally.compat.tensorflow import tensorflow
from tally.core.errors import ArgumentError

tf = tensorflow()
keras = tf.keras


@pytest.fixture(autouse=True)
def _installed():
    with install():
        yield


# -- randomness --------------------------------------------------------------------------------------------------------
DRAWS = {
    "normal": lambda **k: tf.random.normal([2000], 3.0, 2.0, **k),
    "truncated_normal": lambda **k: tf.random.truncated_normal([2000], **k),
    "uniform": lambda **k: tf.random.uniform([2000], -1, 3, **k),
    "whole": lambda **k: tf.random.uniform([2000], 0, 5, dtype=tf.int32, **k),
    "gamma": lambda **k: tf.random.gamma([1000], [2.0, 5.0], beta=2.0, **k),
    "poisson": lambda **k: tf.random.poisson([1000], [2.0, 5.0], **k),
    "categorical": lambda **k: tf.random.categorical([[0.0, 0.0], [9.0, -9.0]], 1000, **k),
    "shuffle": lambda **k: tf.random.shuffle(tf.range(2000), **k),
}
MEANS = {
    "normal": 3,
    "truncated_normal": 0,
    "uniform": 1,
    "whole": 2,
    "gamma": 1.75,
    "poisson": 3.5,
    "categorical": 0.25,
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_are_repeatable_and_move_on(name):
    draw = DRAWS[name]
    tf.random.set_seed(5)
    first, second = draw().numpy(), draw().numpy()
    tf.random.set_seed(5)
    again = draw().numpy()
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    if name in MEANS:
        assert first.mean() == pytest.approx(MEANS[name], abs=0.15)
    else:
        assert sorted(first.tolist()) == list(range(2000))


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_of_an_operations_own_moves_on_with_each_call_and_comes_again_in_the_next_run(name):
    draw = DRAWS[name]
    tf.random.set_seed(0)
    runs = []
    for between in (0, 3):
        for _ in range(between):
            tf.random.normal([1])  # draws of others don't matter
        runs.append([draw(seed=1).numpy(), draw(seed=1).numpy()])
        tf.random.set_seed(0)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any()


def test_setting_tensorflows_seed_leaves_numpys_numbers_alone():
    np.random.seed(3)
    wanted = np.random.rand(2)
    np.random.seed(3)
    tf.random.set_seed(9)
    np.testing.assert_array_equal(np.random.rand(2), wanted)


def test_truncated_numbers_are_never_far_out():
    assert abs(tf.random.truncated_normal([3000], stddev=0.5).numpy()).max() <= 1.0


def test_stateless_numbers_depend_on_the_seed_alone():
    first, again, other = (tf.random.stateless_normal([4], seed=[1, n]).numpy() for n in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    drawn = tf.random.stateless_uniform([100], [0, 1], 0, 7, tf.int32).numpy()
    assert set(drawn) == set(range(7))


def test_a_generator_is_held_by_its_layer_and_moves_on():
    class Noise(tally.Layer):
        def __init__(self):
            super().__init__()
            self.source = tf.random.Generator.from_seed(3)

        def call(self, inputs):
            return inputs + self.source.normal(tf.shape(inputs))

    layer = Noise()
    first, second = (layer(tf.zeros((2,))).numpy() for _ in range(2))
    assert (first != second).any()
    assert tally.account(layer).by_state["seed"] == 2
    np.testing.assert_array_equal(tf.random.Generator.from_seed(3).normal([2]).numpy(), first)
    whole = tf.random.Generator.from_non_deterministic_state().uniform([50], 0, 3, tf.int32)
    assert set(whole.numpy()) == {0, 1, 2}


def test_random_numbers_in_a_compiled_step_are_new_each_time():
    class Jitter(tally.Layer):
        def call(self, inputs):
            return inputs + tf.random.normal(tf.shape(inputs)) * 0 + tf.random.uniform([], seed=1)

    model = tally.Sequential([tally.Input((1,)), Jitter()])
    model.compile("sgd", "mse")
    made = model.predict(np.zeros((6, 1)), batch_size=2, verbose=0)
    assert len(set(made[::2, 0].tolist())) == 3


def test_dropout_keeps_the_mean_and_image_turns_keep_the_pixels():
    dropped = tf.nn.dropout(tf.ones((4000,)), rate=0.25, seed=1).numpy()
    assert {round(float(value), 4) for value in dropped} == {0.0, 1.3333}
    assert dropped.mean() == pytest.approx(1, abs=0.05)
    images = tf.range(2 * 2 * 3 * 1)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    images = tf.reshape(images, (2, 2, 3, 1))
    for name in ("random_flip_left_right", "random_flip_up_down"):
        turned = [getattr(tf.image, name)(images, seed=n).numpy() for n in range(8)]
        assert all(sorted(image.ravel()) == list(range(12)) for image in turned)
        assert len({image.tobytes() for image in turned}) > 1
    assert tf.image.random_crop(images, (2, 1, -1, 1)).shape == (2, 1, 3, 1)
    bright = tf.image.random_brightness(tf.zeros((2, 2, 3)), 0.5).numpy()
    assert abs(bright).max() <= 0.5
    flat = tf.ones((2, 2, 3)) * 0.5
    np.testing.assert_allclose(tf.image.random_contrast(flat, 0.5, 2.0).numpy(), flat, rtol=1e-6)


# -- control -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "decorate", [tf.function, tf.function(jit_compile=True), tf.function(input_signature=None)]
)
def test_a_decorated_function_is_the_function(decorate):
    assert decorate(lambda x: x + 1)(tf.constant(1)).numpy() == 2


def test_a_condition_calls_one_branch_and_traces_both():
    called = []
    tf.cond(tf.constant(True), lambda: called.append("yes"), lambda: called.append("no"))
    assert called == ["yes"]
    choose = jax.jit(lambda x: tf.cond(x > 0, lambda: x, lambda: -x))
    assert (float(choose(2.0)), float(choose(-2.0))) == (2.0, 2.0)
    with pytest.raises(ArgumentError, match="needs both"):
        tf.cond(True, lambda: 1)


def test_loops_and_maps_run_inside_a_traced_function_too():
    double = jax.jit(lambda x: tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (0, x))[1])
    assert float(double(1.5)) == 12.0
    mapped = jax.jit(lambda x: tf.map_fn(lambda row: tf.reduce_sum(row), x))
    assert mapped(jnp.ones((3, 2))).tolist() == [2.0, 2.0, 2.0]


def test_print_goes_to_standard_error_or_where_it_is_told(capfd):
    tf.print("loss", tf.constant([1, 2]), 0.5, sep="|")
    assert capfd.readouterr().err == "loss|[1 2]|0.5\n"
    stream = io.StringIO()
    jax.jit(lambda x: (tf.print("x is", x, output_stream=stream), x)[1])(jnp.float32(2)).block_until_ready()
    jax.effects_barrier()
    assert stream.getvalue() == "x is 2.0\n"


def test_what_only_orders_or_places_is_accepted():
    with (
        tf.control_dependencies([tf.constant(1)]),
        tf.init_scope(),
        tf.name_scope("here"),
        tf.device("/CPU:0"),
    ):
        assert tf.Variable(1.0, name="v").path == "here/v"
    with tf.device("/GPU:7"):
        assert tf.constant(1).numpy() == 1
    assert tf.executing_eagerly()


def test_a_custom_gradient_is_used():
    @tf.custom_gradient
    def double(x):
        return x * 2, lambda upstream: upstream * 100

    assert float(jax.grad(double)(1.0)) == 100.0


# -- factors -----------------------------------------------------------------------------------------------------------
def test_factors_of_a_matrix_multiply_to_it_in_tensorflows_order():
    matrix = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    values, left, right = tf.linalg.svd(matrix)
    assert (values.shape, left.shape, right.shape) == ((2, 3), (2, 4, 3), (2, 3, 3))
    made = tf.matmul(left * values[:, None, :], right, adjoint_b=True)
    np.testing.assert_allclose(made, matrix, atol=1e-5)
    assert tf.linalg.svd(matrix, full_matrices=True)[1].shape == (2, 4, 4)
    for whole, columns in ((False, 3), (True, 4)):
        orthogonal, triangular = tf.linalg.qr(matrix, full_matrices=whole)
        assert orthogonal.shape == (2, 4, columns)
        np.testing.assert_allclose(tf.matmul(orthogonal, triangular), matrix, atol=1e-5)
    square = matrix[:, :3] + matrix[:, :3].transpose(0, 2, 1)
    numbers, vectors = tf.linalg.eigh(square)
    np.testing.assert_allclose(tf.matmul(square, vectors), vectors * numbers[:, None], atol=1e-5)


# -- layers ------------------------------------------------------------------------------------------------------------
class Sampling(keras.layers.Layer):
    """Draws from a distribution by its mean and log-variance, for a batch of any size."""

    def call(self, inputs):
        mean, log_variance = inputs
        noise = keras.backend.random_normal(shape=(tf.shape(mean)[0], tf.shape(mean)[1]))
        return mean + tf.exp(0.5 * log_variance) * noise


class Heads(keras.layers.Layer):
    """Splits features into heads and joins them again, by sizes known when it runs."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads
        self.dense = keras.layers.Dense(8)

    def call(self, inputs):
        batch, length = tf.shape(inputs)[0], tf.shape(inputs)[1]
        heads = tf.reshape(self.dense(inputs), (batch, -1, self.heads, 8 // self.heads))
        scores = tf.einsum("bqhd,bkhd->bhqk", heads, heads) / tf.math.sqrt(tf.cast(length, tf.float32))
        scores += (1 - tf.linalg.band_part(tf.ones((length, length)), -1, 0)) * -1e9
        mixed = tf.einsum("bhqk,bkhd->bqhd", tf.nn.softmax(scores), heads)
        return tf.reshape(mixed, tf.stack([batch, length, 8]))


def test_layers_that_compute_with_sizes_build_run_and_train_on_batches_of_any_size():
    inputs = keras.Input((None, 4))
    joined = Heads(2)(inputs)
    pooled = keras.layers.GlobalAveragePooling1D()(joined)
    drawn = Sampling()([keras.layers.Dense(3)(pooled), keras.layers.Dense(3)(pooled)])
    model = keras.Model(inputs, drawn)
    assert joined.shape == (None, None, 8)
    assert drawn.shape == (None, 3)
    assert model(tf.ones((2, 5, 4))).shape == (2, 3)
    model.compile("sgd", "mse")
    history = model.fit(np.ones((6, 5, 4)), np.ones((6, 3)), batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert model.count_params() == 4 * 8 + 8 + 2 * (8 * 3 + 3)


def test_functions_on_symbolic_tensors_make_a_graph():
    inputs = keras.Input((4, 2))
    x = tf.reshape(inputs, [tf.shape(inputs)[0], 8])
    model = keras.Model(inputs, tf.nn.relu(tf.reduce_mean(x, axis=1) - 0.5))
    assert model.output_shape == (None,)
    assert model(tf.ones((3, 4, 2))).numpy().tolist() == [0.5, 0.5, 0.5]


def test_weights_drawn_in_call_are_reported_with_the_line_that_draws_them():
    class Drawn(keras.layers.Layer):
        def call(self, inputs):
            self.w = tf.random.normal(shape=(inputs.shape[-1], 5))
            self.b = tf.zeros(shape=(5,))
            return tf.matmul(inputs, self.w) + self.b

    inputs = keras.layers.Input(shape=(10,))
    ledger = tally.account(keras.Model(inputs=inputs, outputs=Drawn()(inputs)))
    lost = [entry for entry in ledger.entries if entry.state == "untracked"]
    assert [(entry.name, entry.shape) for entry in lost] == [("w", (10, 5)), ("b", (5,))]


# -- the system --------------------------------------------------------------------------------------------------------
def test_the_machine_is_told_truly():
    assert [device.device_type for device in tf.config.list_physical_devices("CPU")] == ["CPU"]
    assert tf.config.list_logical_devices()[0].name == "/device:CPU:0"
    assert len(tf.config.list_physical_devices("GPU")) == len(
        [d for d in jax.devices() if d.platform == "gpu"]
    )
    assert tf.test.is_gpu_available() == bool(tf.test.gpu_device_name())


def test_switches_that_mean_nothing_here_are_accepted():
    for device in tf.config.experimental.list_physical_devices():
        tf.config.experimental.set_memory_growth(device, True)
    tf.config.run_functions_eagerly(True)
    tf.config.set_soft_device_placement(True)
    tf.autograph.set_verbosity(0)
    assert tf.config.functions_run_eagerly()
    assert tf.test.is_built_with_cuda() == tf.test.is_gpu_available()


def test_an_error_can_be_caught_under_tensorflows_name():
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.gather([1], [4])
    assert tf.image.ResizeMethod.NEAREST_NEIGHBOR == "nearest"
    assert tf.nest.is_nested((1,))
    with pytest.raises(ValueError, match="nested differently"):
        tf.nest.assert_same_structure((1,), {"a": 1})


def test_the_logger_is_python_logging():
    before = tf.get_logger().level
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    assert tf.get_logger().level == logging.ERROR
    tf.get_logger().setLevel(before)


def test_versions_say_what_is_imitated_and_by_whom():
    assert tf.__version__ == tf.version.VERSION == "2.21.0+tally"
    assert keras.__version__.startswith("3.")
    assert keras.backend.backend() == "jax"
