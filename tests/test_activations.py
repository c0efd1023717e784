"""Activations: Keras's values, gradients and names."""

import inspect

import jax
import jax.numpy as jnp
import jax.test_util
import keras
import numpy as np
import pytest

import tally.activations as activations
from tally.core.errors import ArgumentError
from tally.core.symbol import KerasTensor
from tally.core.variable import Variable

NAMES = [
    *(
        "relu",
        "leaky_relu",
        "relu6",
        "softmax",
        "celu",
        "elu",
        "selu",
        "softplus",
        "softsign",
        "squareplus",
        "soft_shrink",
    ),
    *(
        "sparse_plus",
        "silu",
        "gelu",
        "glu",
        "tanh",
        "tanh_shrink",
        "sigmoid",
        "sparse_sigmoid",
        "exponential",
        "hard_sigmoid",
    ),
    *("hard_silu", "hard_tanh", "hard_shrink", "linear", "mish", "log_softmax", "log_sigmoid", "sparsemax"),
]
CASES = [
    *[(name, {}) for name in NAMES if name != "sparsemax"],
    ("relu", {"negative_slope": 0.1}),
    ("relu", {"max_value": 1.5}),
    ("relu", {"max_value": 6}),
    ("relu", {"threshold": 0.7}),
    ("relu", {"threshold": -0.7, "max_value": 2.0}),
    ("relu", {"negative_slope": 0.3, "max_value": 1.0, "threshold": 0.5}),
    ("leaky_relu", {"negative_slope": 0.4}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}),
    ("squareplus", {"b": 2.0}),
    ("soft_shrink", {"threshold": 1.0}),
    ("hard_shrink", {"threshold": 1.0}),
    ("gelu", {"approximate": True}),
    ("threshold", {"threshold": 0.3, "default_value": -2.0}),
    ("glu", {"axis": 0}),
    ("softmax", {"axis": 0}),
    ("softmax", {"axis": (0, 1)}),
    ("log_softmax", {"axis": 1}),
]
# No value lies on a kink, where libraries choose a side; large ones show overflow.
INPUT = np.concatenate(
    [np.random.default_rng(0).normal(scale=2, size=(3, 6)), [[-30.0, 30.0, 0.0, 8.0, -8.0, 1e-3]]]
).astype("float32")


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_values_and_gradients_are_those_of_keras(name: str, arguments: dict) -> None:
    ours, theirs = getattr(activations, name), getattr(keras.activations, name)
    np.testing.assert_allclose(ours(INPUT, **arguments), theirs(INPUT, **arguments), rtol=1e-5, atol=1e-6)
    weights = np.linspace(-1, 1, np.asarray(ours(INPUT, **arguments)).size)

    def gradient(function):
        return jax.grad(lambda x: jnp.sum(jnp.ravel(function(x, **arguments)) * weights))(INPUT)

    np.testing.assert_allclose(gradient(ours), gradient(theirs), rtol=1e-4, atol=1e-5)


def test_every_activation_of_keras_exists_with_its_arguments() -> None:
    functions = {name: f for name, f in vars(keras.activations).items() if inspect.isfunction(f)}
    for name in functions.keys() - {"get", "serialize", "deserialize"}:
        theirs = inspect.signature(functions[name]).parameters
        ours = inspect.signature(getattr(activations, name)).parameters
        assert [(p.name, p.default) for p in list(ours.values())[: len(theirs)]] == [
            (p.name, p.default) for p in theirs.values()
        ], name


@pytest.mark.parametrize("name", [*NAMES, "threshold"])
def test_the_serialized_form_is_the_name_and_keras_reads_it(name: str) -> None:
    function = getattr(activations, name)
    assert activations.serialize(function) == name == keras.activations.serialize(keras.activations.get(name))
    assert activations.deserialize(name) is activations.get(name) is function


@pytest.mark.parametrize(("alias", "name"), [("swish", "silu"), ("hard_swish", "hard_silu")])
def test_an_alias_is_the_same_function(alias: str, name: str) -> None:
    assert activations.get(alias) is getattr(activations, alias) is getattr(activations, name)


@pytest.mark.parametrize("name", NAMES)
def test_symbolic_tensors_get_the_shape_and_dtype_that_arrays_get(name: str) -> None:
    output = getattr(activations, name)(KerasTensor((None, 6), "bfloat16"))
    assert output.shape == (None, 3 if name == "glu" else 6)
    assert output.dtype == "bfloat16"


def test_none_is_linear_and_a_function_is_itself() -> None:
    assert activations.get(None) is activations.linear
    assert activations.get(jnp.sin) is jnp.sin


def test_a_users_function_is_found_again_by_custom_objects() -> None:
    def double(x):
        return 2 * x

    written = activations.serialize(double)
    assert activations.deserialize(written, custom_objects={"double": double}) is double


def test_lists_and_variables_are_taken() -> None:
    assert activations.relu([-1.0, 2.0]).tolist() == [0.0, 2.0]
    assert activations.relu(Variable(np.array([-1.0, 2.0]))).tolist() == [0.0, 2.0]


def test_relu_lets_nan_through() -> None:
    assert np.isnan(activations.relu(jnp.array([np.nan]))).all()


@pytest.mark.parametrize("axis", [-1, 0])
def test_sparsemax_is_the_projection_onto_the_simplex(axis: int) -> None:
    # Keras 3.15 is no peer here: with more than one value left, its result doesn't sum to 1.
    probabilities = np.asarray(activations.sparsemax(INPUT, axis=axis))
    np.testing.assert_allclose(probabilities.sum(axis), 1, rtol=1e-5)
    # Optimality: what was subtracted is one number where something is left, and at least as much elsewhere.
    subtracted = np.where(probabilities > 0, INPUT - probabilities, -np.inf).max(axis, keepdims=True)
    np.testing.assert_allclose(probabilities, np.maximum(INPUT - subtracted, 0), atol=1e-5)
    assert (probabilities == 0).any()


def test_the_gradient_of_sparsemax_is_its_slope() -> None:
    jax.test_util.check_grads(
        activations.sparsemax, (INPUT[:3],), order=1, modes=["rev"], atol=1e-2, rtol=1e-2
    )


def test_a_misspelt_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'softmax'"):
        activations.get("sotfmax")


@pytest.mark.parametrize("name", [*NAMES, "threshold"])
def test_every_activation_says_what_it_computes(name: str) -> None:
    function = getattr(activations, name)
    assert function.__doc__.rstrip().endswith((".", "`."))
    assert (function.__name__, function.__module__) == (name, "tally.activations")
