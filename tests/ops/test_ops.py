"""What ops do beyond Keras's table: kinds of input, control flow, operators, storing."""

import inspect
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras.src import ops as keras_rooms

from tally import ops
from tally.core.errors import ArgumentError, SavingError
from tally.core.symbol import KerasTensor
from tally.core.variable import Variable
from tally.ops import catalogue


def test_an_op_takes_lists_numbers_variables_and_arrays_alike() -> None:
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    for given in (values, values.tolist(), jnp.asarray(values), Variable(values), tuple(map(tuple, values))):
        made = ops.sum(given, axis=-1)
        assert made.dtype == "float32"
        assert made.tolist() == [3.0, 7.0]
    assert ops.sqrt(4) == 2


def test_a_list_of_arrays_is_one_tensor_where_one_is_wanted() -> None:
    assert ops.sum([jnp.ones(2), Variable([1.0, 2.0])]) == 5


def test_double_precision_numbers_become_floatx() -> None:
    assert ops.convert_to_tensor(np.ones(2)).dtype == "float32"


def test_a_python_number_leaves_the_dtype_of_what_it_is_added_to() -> None:
    assert ops.add(jnp.ones(2, "bfloat16"), 1.5).dtype == "bfloat16"


def test_shape_of_a_symbolic_tensor_has_none_where_unknown() -> None:
    assert ops.shape(KerasTensor((None, 3))) == (None, 3)
    assert ops.shape([[1, 2]]) == (1, 2)


def test_reshape_takes_none_for_the_size_left_open() -> None:
    x = KerasTensor((None, 4, 3))
    assert ops.reshape(x, (None, 12)).shape == (None, 12)
    assert ops.reshape(x, (None, -1)).shape == (None, 12)
    assert ops.reshape(np.ones((2, 4, 3)), (None, -1)).shape == (2, 12)


@pytest.mark.parametrize(
    "expression",
    [
        "x + 1", "1 - x", "x * x", "2 / x", "x // 2", "x % 2", "x ** 2", "2 ** x", "-x", "abs(x)", "x < 0", "x >= 1",
        "x != 0", "~(x > 0)", "(x > 0) & (x < 1)", "(x > 0) | (x < 1)", "(x > 0) ^ (x < 1)",
        "x[:, 0]", "x[..., None]", "x[:, ::2, 1:]",
        "x @ w", "round(x, 1)", "x.reshape((-1, 12))", "x[:, :1].squeeze(1)",
    ],
)  # fmt: skip
def test_operators_on_symbolic_tensors_give_what_keras_gives(expression: str) -> None:
    w = np.ones((3, 5), "float32")
    ours, theirs = (
        eval(expression, {"x": tensor((None, 4, 3)), "w": w}) for tensor in (KerasTensor, keras.KerasTensor)
    )
    assert (ours.shape, ours.dtype) == (tuple(theirs.shape), theirs.dtype)


def test_a_symbolic_tensor_stays_a_key() -> None:
    x, y = KerasTensor((None, 2)), KerasTensor((None, 2))
    assert {x: 1, y: 2}[y] == 2
    assert (x == y) is False


def test_control_flow_runs_inside_compiled_code() -> None:
    @jax.jit
    def run(x: jax.Array) -> jax.Array:
        x = ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (0, x))[1]
        x = ops.fori_loop(0, 2, lambda i, y: y + i, x)
        x = ops.cond(x[0] > 0, lambda: x, lambda: -x)
        x = ops.switch(1, [lambda y: y, lambda y: y + 1], x)
        carry, all_ = ops.scan(lambda c, y: (c + y, c), 0.0, x)
        return ops.map(lambda y: y * 2, all_) + ops.vectorized_map(lambda y: y - 1, x) + carry

    assert run(jnp.array([1.0, 2.0])).tolist() == [8 * 3 + 4 + 9, 20 + 8 * 3 + 4 + 17]


def test_a_loop_stops_after_the_iterations_allowed() -> None:
    assert ops.while_loop(lambda i: i < 100, lambda i: i + 1, 0, maximum_iterations=4) == 4


def test_sparsemax_gives_the_nearest_point_of_the_simplex() -> None:
    assert ops.sparsemax([[0.5, -1.0, 1.0], [3.0, 1.0, 0.2]]).tolist() == [[0.25, 0.0, 0.75], [1.0, 0.0, 0.0]]


def test_gaussian_blur_of_a_point_is_the_bell() -> None:
    point = np.zeros((1, 7, 7, 1), "float32")
    point[0, 3, 3, 0] = 1
    across, down = (np.exp(-np.square(np.arange(n) - n // 2) / s**2 / 2) for n, s in ((5, 0.7), (3, 1.0)))
    bell = np.outer(down / down.sum(), across / across.sum())
    np.testing.assert_allclose(
        ops.image.gaussian_blur(point, (3, 5), (1.0, 0.7))[0, 2:5, 1:6, 0], bell, rtol=1e-5
    )


def test_elastic_transform_repeats_with_its_seed() -> None:
    image = np.random.default_rng(0).uniform(size=(5, 5, 1)).astype("float32")
    first, second, other = (ops.image.elastic_transform(image, 2.0, 1.0, seed=seed) for seed in (1, 1, 2))
    assert first.shape == image.shape
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_cast_saturates_at_the_ends_of_the_range() -> None:
    assert ops.saturate_cast([-5.0, 3.0, 300.0], "uint8").tolist() == [0, 3, 255]


def test_custom_gradient_replaces_the_derivative() -> None:
    @ops.custom_gradient
    def triple(x: jax.Array) -> tuple:
        return x * 3, lambda upstream: (upstream * 100,)

    assert jax.grad(triple)(1.0) == 100


def test_targets_of_another_shape_say_what_to_do() -> None:
    with pytest.raises(ArgumentError, match="sparse_categorical_crossentropy"):
        ops.categorical_crossentropy(np.ones((2, 1)), np.ones((2, 3)))


# -- storing -----------------------------------------------------------------------------------------------------------
def _keras_classes() -> dict[str, type]:
    rooms = (
        keras_rooms.core,
        keras_rooms.numpy,
        keras_rooms.nn,
        keras_rooms.linalg,
        keras_rooms.math,
        keras_rooms.image,
    )
    return {
        f"{room.__name__}.{name}": thing
        for room in rooms
        for name, thing in vars(room).items()
        if inspect.isclass(thing) and issubclass(thing, keras.Operation) and thing.__module__ == room.__name__
    }


def test_every_op_class_of_keras_names_an_op() -> None:
    unknown = []
    for path in _keras_classes():
        module, _, name = path.rpartition(".")
        try:
            found = catalogue.find_op(module, name)
        except SavingError:
            unknown.append(name)
        else:
            assert catalogue.describe(found)[:2] == (module, name)
    assert unknown == ["SegmentReduction"]  # the base of four others


def test_what_goes_into_a_configuration_is_what_keras_takes() -> None:
    differing = {}
    for path, cls in _keras_classes().items():
        if path.endswith("SegmentReduction"):
            continue
        wanted = [
            name
            for name in inspect.signature(cls.__init__).parameters
            if name not in ("self", "name", "kwargs")
        ]
        options = catalogue.describe(catalogue.find_op(*path.rsplit(".", 1)))[2]
        if sorted(options) != sorted(wanted):
            differing[cls.__name__] = (options, wanted)
    assert differing == {}


def test_keras_loads_a_graph_written_from_the_catalogue() -> None:
    x = KerasTensor((None, 4, 3))
    nodes = [
        ops.expand_dims(x, 1),
        ops.mean(x, axis=-1),
        ops.softmax(x, axis=1),
        x + 1.0,
        ops.concatenate([x, x], axis=-1),
    ]
    source = {"shape": [None, 4, 3], "dtype": "float32", "keras_history": ["input", 0, 0]}
    tensor = {"class_name": "__keras_tensor__", "config": source}
    layers = [
        {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": {"batch_shape": [None, 4, 3], "dtype": "float32", "name": "input"},
            "registered_name": None,
            "name": "input",
            "inbound_nodes": [],
        }
    ]
    for made in nodes:
        operation = made.node.operation
        module, name, _ = catalogue.describe(operation.function)
        given, config = catalogue.split(operation.function, made.node.args, made.node.kwargs)
        args = jax.tree.map(lambda leaf: tensor if isinstance(leaf, KerasTensor) else leaf, given)
        layers.append(
            {
                "module": module,
                "class_name": name,
                "config": {"name": operation.name, **config},
                "registered_name": name,
                "name": operation.name,
                "inbound_nodes": [{"args": args, "kwargs": {}}],
            }
        )
    outputs = [[made.node.operation.name, 0, 0] for made in nodes]
    written = json.loads(
        json.dumps(
            {"name": "m", "layers": layers, "input_layers": [["input", 0, 0]], "output_layers": outputs}
        )
    )
    loaded = keras.Model.from_config(written)
    assert [tuple(y.shape) for y in loaded.outputs] == [made.shape for made in nodes]
