"""Every op against keras.ops: values, dtypes, symbolic shapes."""

import inspect
import itertools
from typing import Any

import jax
import keras
import numpy as np
import pytest
from op_cases import CASES, Batched, Case

from tally import ops
from tally.core.symbol import KerasTensor


def _call(library: Any, row: Case, batched: Any) -> list[Any]:
    function = library
    for word in row.name.split("."):
        function = getattr(function, word)
    is_leaf = lambda part: isinstance(part, Batched) or part is None
    args, kwargs = jax.tree.map(
        lambda part: batched(part.array) if isinstance(part, Batched) else part,
        (row.args, row.kwargs),
        is_leaf=is_leaf,
    )
    return jax.tree.leaves(function(*args, **kwargs))


@pytest.mark.parametrize("row", CASES, ids=str)
def test_op_matches_keras_in_values_and_dtypes(row: Case) -> None:
    ours, theirs = (_call(library, row, lambda array: array) for library in (ops, keras.ops))
    assert [np.shape(x) for x in ours] == [np.shape(x) for x in theirs]
    assert [ops.dtype(x) for x in ours] == [ops.dtype(x) for x in theirs]
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            np.asarray(x, "complex64"), np.asarray(y, "complex64"), rtol=2e-4, atol=2e-5
        )


_SYMBOLIC = [
    row for row in CASES if any(isinstance(leaf, Batched) for leaf in jax.tree.leaves((row.args, row.kwargs)))
]
_DECLARED_WRONGLY = (
    "adaptive_average_pool",
    "adaptive_max_pool",
    "lu_factor",
    "multi_hot",
    "polar",
    "slogdet",
)
"""Ops for which Keras's shape rule says another shape or dtype than Keras's own result has."""
_REFUSED = "conv-dilation_rate=2"  # a grouped convolution, which Keras computes but has no shape rule for


@pytest.mark.parametrize(
    "row", [row for row in _SYMBOLIC if row.name not in _DECLARED_WRONGLY and str(row) != _REFUSED], ids=str
)
def test_symbolic_op_has_the_shape_and_dtype_keras_says(row: Case) -> None:
    ours, theirs = (
        _call(library, row, lambda array, tensor=tensor: tensor((None, *array.shape[1:]), array.dtype.name))
        for library, tensor in ((ops, KerasTensor), (keras.ops, keras.KerasTensor))
    )
    assert [(x.shape, x.dtype) for x in ours] == [(tuple(x.shape), x.dtype) for x in theirs]


@pytest.mark.parametrize("row", [row for row in _SYMBOLIC if row.name in _DECLARED_WRONGLY], ids=str)
def test_symbolic_op_has_the_shape_and_dtype_of_the_result(row: Case) -> None:
    symbolic = _call(ops, row, lambda array: KerasTensor((None, *array.shape[1:]), array.dtype.name))
    results = _call(ops, row, lambda array: array)
    assert [(x.shape[1:], x.dtype) for x in symbolic] == [(x.shape[1:], x.dtype.name) for x in results]


_DTYPES = ("bfloat16", "float16", "float32", "int8", "uint8", "int32", "bool")


@pytest.mark.parametrize("name", ["add", "divide", "maximum", "power", "matmul", "logaddexp", "floor_divide"])
def test_two_dtypes_give_the_dtype_keras_gives(name: str) -> None:
    """Shapes alone are computed, so that all pairs take a moment."""
    for first, second in itertools.product(_DTYPES, _DTYPES):
        if {first, second} == {"bool"} or (name == "floor_divide" and "bool" in (first, second)):
            continue
        specs = [jax.ShapeDtypeStruct((2, 2), dtype) for dtype in (first, second)]
        ours, theirs = (jax.eval_shape(getattr(library, name), *specs).dtype for library in (ops, keras.ops))
        assert ours == theirs, (first, second)


@pytest.mark.parametrize(
    "name", ["mean", "sum", "exp", "sqrt", "round", "cumsum", "var", "square", "floor", "argmax", "std"]
)
def test_each_dtype_gives_the_dtype_keras_gives(name: str) -> None:
    for dtype in _DTYPES[: -1 if name == "round" else None]:  # booleans are not rounded
        spec = jax.ShapeDtypeStruct((2, 2), dtype)
        ours, theirs = (jax.eval_shape(getattr(library, name), spec).dtype for library in (ops, keras.ops))
        assert ours == theirs, dtype


_SMOOTH = (
    "softmax conv conv_transpose average_pool max_pool layer_normalization dot_product_attention normalize"
)


@pytest.mark.parametrize("row", [row for row in CASES if row.name in _SMOOTH.split()][::3], ids=str)
def test_gradient_matches_keras(row: Case) -> None:
    def gradient(library: Any) -> Any:
        first = row.args[0].array

        def total(x: Any) -> Any:
            changed = Case(row.name, (x, *row.args[1:]), row.kwargs)
            return sum(
                (jax.numpy.square(y).sum() for y in _call(library, changed, lambda array: array)), start=0.0
            )

        return jax.grad(total)(jax.numpy.asarray(first))

    np.testing.assert_allclose(gradient(ops), gradient(keras.ops), rtol=2e-3, atol=2e-4)


def test_every_op_of_keras_is_here() -> None:
    missing = {name for name in dir(keras.ops) if not name.startswith("_") and not hasattr(ops, name)}
    assert missing == {"rearrange"}
    for room in ("nn", "numpy", "linalg", "image"):
        names = {name for name in dir(getattr(keras.ops, room)) if not name.startswith("_")}
        assert {name for name in names if not hasattr(getattr(ops, room), name)} == set()


def test_arguments_have_the_names_and_defaults_keras_gives_them() -> None:
    differing = {}
    for name in dir(keras.ops):
        theirs = getattr(keras.ops, name)
        if not inspect.isfunction(theirs) or name == "rearrange":
            continue
        ours = inspect.signature(getattr(ops, name))
        if name not in _OWN_ARGUMENTS and _arguments(ours) != _arguments(inspect.signature(theirs)):
            differing[name] = str(ours)
    assert differing == {}


_OWN_ARGUMENTS = (
    "vectorize",
    "layer_normalization",
    "multi_hot",
)  # the last two take the options Keras hides in **kwargs


def _arguments(signature: inspect.Signature) -> list[tuple[str, Any]]:
    return [(p.name, p.default) for p in signature.parameters.values()]
