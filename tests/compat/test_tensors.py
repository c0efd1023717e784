import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally.compat import install
from tally.compat.tensorflow import tensorflow
from tally.core.errors import ArgumentError, ShapeError

tf = tensorflow()


@pytest.fixture(autouse=True)
def _installed():
    with install():
        yield


# -- shapes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "made",
    [
        lambda: tf.zeros((2, 3)),
        lambda: tf.Variable(tf.zeros((2, 3))),
        lambda: tally.Variable(tally.initializers.Ones(), (2, 3)),
        lambda: tally.Input(batch_shape=(2, 3)),
    ],
)
def test_the_shape_of_a_tensor_is_a_tuple_that_also_answers_as_tensorflows_do(made):
    x = made()
    assert x.shape == (2, 3)
    assert isinstance(x.shape, tuple)
    assert x.shape.as_list() == [2, 3] == x.get_shape().as_list()
    assert (x.shape.rank, x.shape.ndims, x.shape.num_elements()) == (2, 2, 6)
    x.set_shape([2, None])
    with pytest.raises(ShapeError, match=r"The shapes \(2, 3\) and \(3, 3\) differ"):
        x.set_shape([3, 3])


def test_an_unknown_size_stays_none():
    shape = tally.Input((4,)).shape
    assert shape.as_list() == [None, 4]
    assert shape[-1] == 4
    assert not shape.is_fully_defined()
    assert shape.num_elements() is None
    assert f"{shape}" == "(None, 4)"
    assert repr(shape) == "TensorShape([None, 4])"


def test_a_shape_adds_slices_and_compares_like_tensorflows():
    shape = tf.TensorShape([1, None, 3])
    assert shape[1:].as_list() == [None, 3]
    assert shape.concatenate([4]).as_list() == [1, None, 3, 4]
    assert ((5,) + shape[:]).as_list() == [5, 1, None, 3]  # noqa: RUF005 - what scripts write
    assert shape == [1, None, 3]
    assert shape != (1, None)
    assert shape.is_compatible_with([1, 7, 3])
    assert hash(shape) == hash((1, None, 3))
    with pytest.raises(ArgumentError, match="unknown rank"):
        tf.TensorShape(None)


def test_a_shape_of_a_traced_tensor_answers_too():
    seen = []
    jax.jit(lambda x: seen.append(x.shape.as_list()))(jnp.ones((2, 5)))
    assert seen == [[2, 5]]


def test_a_traced_tensor_says_why_it_has_no_values():
    with pytest.raises(AttributeError, match="while its function is traced"):
        jax.jit(lambda x: x.numpy())(jnp.ones(2))


def test_sizes_can_be_computed_with():
    sizes = tf.shape(tf.zeros((2, 6)))
    assert (sizes[1] // 2).numpy() == 3
    assert tf.reshape(tf.range(12), (sizes[0], -1, 2)).shape == (2, 3, 2)
    assert tf.zeros(tf.concat([sizes[:1], [4]], 0)).shape == (2, 4)
    assert [int(size) for size in tf.unstack(sizes)] == [2, 6]
    assert tf.cast(sizes, tf.float32).numpy().tolist() == [2.0, 6.0]


def test_a_shape_that_depends_on_values_is_refused_while_traced():
    with pytest.raises(ArgumentError, match="only known when the program runs"):
        jax.jit(lambda n: tf.zeros(n))(jnp.array([2, 3]))


# -- dtypes ------------------------------------------------------------------------------------------------------------
def test_a_dtype_equals_every_form_of_it():
    assert jnp.zeros(1).dtype == tf.float32
    assert tf.float32 == "float32" == tf.float32
    assert tf.float32 == np.float32
    assert tf.float32 != tf.int32
    assert tf.float32 != "no dtype"
    assert tf.int32 in {tf.int32: 1}
    assert tf.as_dtype("float64") == tf.double == np.dtype("float64")
    assert not jax.config.jax_enable_x64  # asking is not switching
    assert tf.half == tf.float16


def test_a_dtype_says_what_it_is():
    assert (tf.float32.name, tf.float32.is_floating, tf.int8.is_floating) == ("float32", True, False)
    assert (tf.uint8.max, tf.int8.min, tf.float32.size) == (255, -128, 4)
    assert tf.int32.as_numpy_dtype is np.int32
    assert (tf.bool.is_bool, tf.complex64.is_complex, tf.int32.is_integer) == (True, True, True)
    assert str(tf.bfloat16) == "<dtype: 'bfloat16'>"
    with pytest.raises(AttributeError, match="has no attribute 'is_big'"):
        tf.float32.is_big


def test_numbers_have_32_bits_unless_asked_for_more():
    assert tf.constant(np.zeros(2)).dtype == tf.float32
    assert tf.constant(np.arange(2)).dtype == tf.int32
    assert tf.constant([1, 2], dtype=tf.int64).dtype == tf.int32
    assert tf.constant(np.zeros(2, "float16")).dtype == tf.float16


@pytest.fixture
def _sixty_four_bits():
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.usefixtures("_sixty_four_bits")
def test_whole_numbers_that_need_64_bits_get_them():
    assert int(tf.constant(2**40)) == 2**40
    assert int(tf.cast(np.array([3 * 2**40]), tf.int64)[0]) == 3 * 2**40


@pytest.mark.usefixtures("_sixty_four_bits")
def test_floats_of_64_bits_are_there_when_asked_for():
    assert float(tf.constant(1 / 3, tf.float64)) == 1 / 3


@pytest.mark.parametrize(
    ("value", "told"), [("text", "can't hold text"), ([[1], [2, 3]], "can't become a tensor")]
)
def test_what_is_no_tensor_is_refused(value, told):
    with pytest.raises(ArgumentError, match=told):
        tf.constant(value)


# -- values ------------------------------------------------------------------------------------------------------------
def test_tensors_give_their_values():
    x = tf.constant([[1.0, 2.0]])
    assert x.numpy().tolist() == [[1.0, 2.0]]
    assert isinstance(x.numpy(), np.ndarray)
    assert isinstance(x, tf.Tensor)
    assert tf.is_tensor(x)
    assert tf.is_tensor(tally.Input((2,)))
    assert not tf.is_tensor(np.zeros(2))


def test_tensors_can_be_made_of_tensors():
    x = tf.constant([tf.constant(1.0), tf.Variable(2.0), 3.0])
    assert x.numpy().tolist() == [1.0, 2.0, 3.0]
    symbol = tally.Input(batch_shape=(2,))
    assert tf.convert_to_tensor([symbol, symbol]).shape == (2, 2)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: tf.gather([1, 2, 3], [0, 3]), r"index 3, which is not in \[0, 3\)"),
        (lambda: tf.gather([1, 2, 3], [-1]), r"index -1, which is not in \[0, 3\)"),
        (lambda: tf.gather_nd([[1, 2]], [[0, 2]]), r"index 2, which is not in \[0, 2\)"),
        (lambda: tf.scatter_nd([[4]], [1], [4]), r"index 4, which is not in \[0, 4\)"),
        (
            lambda: tf.tensor_scatter_nd_add([1, 2], [[5]], [1]),
            "tf.tensor_scatter_nd_add was given the index 5",
        ),
        (lambda: tf.matmul([1.0], [2.0]), "takes matrices"),
        (lambda: tf.split([1, 2, 3], 2), "no 2 equal parts"),
        (lambda: tf.split([1, 2, 3], [1, 1]), "don't add up"),
        (lambda: tf.pad([1], [[0, 1]], mode="WRAP"), "no mode 'WRAP'"),
        (lambda: tf.where([True], 1), "only one of x and y"),
        (lambda: tf.sort([1], direction="UP"), "'UP' is no direction"),
        (
            lambda: tf.nn.conv2d(tf.ones((1, 4, 4, 1)), tf.ones((2, 2, 1, 1)), [2, 1, 1, 1], "SAME"),
            "over examples",
        ),
        (
            lambda: tf.nn.conv2d(tf.ones((1, 4, 4, 1)), tf.ones((2, 2, 1, 1)), 1, "FULL"),
            "'FULL' is no padding",
        ),
        (
            lambda: tf.nn.conv2d_transpose(tf.ones((1, 4, 4, 1)), tf.ones((2, 2, 1, 1)), (1, 5, 5, 1), 2),
            "doesn't lead from",
        ),
        (lambda: tf.image.resize(tf.ones((4, 4, 1)), (2, 2), "area"), "no method 'area'"),
        (lambda: tf.norm([1.0], ord=3), "no ord=3"),
        (lambda: tf.nn.sparse_softmax_cross_entropy_with_logits([[1]], [[1.0, 2.0]]), "one class number"),
        (lambda: tf.ensure_shape(tf.ones((2,)), (3,)), "differ"),
        (lambda: tf.random.uniform([2], dtype=tf.int32), "need an upper bound"),
    ],
)
def test_what_tensorflow_refuses_is_refused_here(call, told):
    with pytest.raises((ArgumentError, ShapeError), match=told):
        call()


# -- variables ---------------------------------------------------------------------------------------------------------
def test_a_variable_is_tracked_by_the_layer_that_has_it():
    class Scale(tally.Layer):
        def __init__(self):
            super().__init__()
            self.factor = tf.Variable(tf.ones((3,)), name="factor")
            self.seen = tf.Variable(0, trainable=False, dtype=tf.int32)

        def call(self, inputs):
            self.seen.assign_add(tf.shape(inputs)[0])
            return inputs * self.factor

    layer = Scale()
    layer(tf.ones((2, 3)))
    assert [v.name for v in layer.trainable_variables] == ["factor"]
    assert layer.seen.numpy() == 2
    assert tally.account(layer).total == 4
    assert layer.factor.origin.split(":")[0].endswith("test_tensors.py")


def test_a_variable_has_tensorflows_arguments():
    x = tf.Variable(lambda: [[1, 2]], trainable=False, name="x", dtype=tf.float32, shape=[1, None])
    assert (x.numpy().tolist(), x.trainable, x.name, x.dtype) == ([[1.0, 2.0]], False, "x", tf.float32)
    assert x.assign([[3.0, 4.0]]) is x
    assert x.read_value().tolist() == [[3.0, 4.0]]
    assert (x + 1).numpy().tolist() == [[4.0, 5.0]]
    with pytest.raises(ShapeError, match="was given a value of"):
        tf.Variable([1.0], shape=(2,))


def test_variables_are_compared_by_their_values_where_scripts_ask():
    x, y = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 3.0])
    assert (x == y).numpy().tolist() == [True, False]
    assert (x != 2).numpy().tolist() == [True, False]
    assert bool(tf.Variable(3) == 3)
    assert (x == None, x != None) == (False, True)  # noqa: E711 - what scripts write
    layer = tally.layers.Dense(2)
    layer.build((None, 3))
    layer.kernel = tf.Variable(tf.ones((3, 2)))  # the engine still tells variables apart
    assert len(layer.weights) == 2
    assert x in {x: 1}


def test_a_layers_weight_is_a_variable_of_tensorflow():
    layer = tally.layers.Dense(2)
    layer.build((None, 3))
    assert isinstance(layer.kernel, tf.Variable)
    assert not isinstance(tf.zeros(2), tf.Variable)


def test_a_module_finds_its_variables():
    class Inner(tf.Module):
        def __init__(self):
            super().__init__(name="inner")
            self.w = tf.Variable(tf.ones((2, 2)))

        def __call__(self, x):
            return tf.matmul(x, self.w)

    class Outer(tf.Module):
        def __init__(self):
            super().__init__()
            self.parts = [Inner(), Inner()]

        def __call__(self, x):
            return self.parts[1](self.parts[0](x))

    outer = Outer()
    assert outer(tf.ones((1, 2))).numpy().tolist() == [[4.0, 4.0]]
    assert len(outer.trainable_variables) == 2
    assert len(outer.submodules) == 2
    assert tally.account(outer).total == 8


@pytest.mark.parametrize(
    ("name", "arguments", "low", "high"),
    [
        ("zeros_initializer", (), 0, 0),
        ("ones_initializer", (), 1, 1),
        ("constant_initializer", (7,), 7, 7),
        ("random_uniform_initializer", (), -0.05, 0.05),
        ("random_normal_initializer", (0.0, 0.01), -0.1, 0.1),
    ],
)
def test_the_initializers_at_the_top_give_values(name, arguments, low, high):
    values = getattr(tf, name)(*arguments)(shape=(20, 3), dtype="float32").numpy()
    assert values.shape == (20, 3)
    assert (values >= low).all()
    assert (values <= high).all()
