"""Every op against keras.ops: values, dtypes, symbolic shapes."""

from typing import Any

import jax
import keras
import numpy as np
import pytest
from cases import CASES, Batched, Case

from tally import ops
from tally.core.symbol import KerasTensor


def _call(library: Any, row: Case, batched: Any) -> list[Any]:
    function = library
    for word in row.name.split("."):
        function = getattr(function, word)
    is_leaf = lambda part: isinstance(part, Batched) or part is None
    args, kwargs = jax.tree.map(
        lambda part: batched(part.array) if isinstance(part, Batched) else part, (row.args, row.kwargs), is_leaf=is_leaf
    )
    return jax.tree.leaves(function(*args, **kwargs))


@pytest.mark.parametrize("row", CASES, ids=str)
def test_op_matches_keras_in_values_and_dtypes(row: Case) -> None:
    ours, theirs = (_call(library, row, lambda array: array) for library in (ops, keras.ops))
    assert [np.shape(x) for x in ours] == [np.shape(x) for x in theirs]
    assert [ops.dtype(x) for x in ours] == [ops.dtype(x) for x in theirs]
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(x, "complex64"), np.asarray(y, "complex64"), rtol=2e-4, atol=2e-5)


_SYMBOLIC = [row for row in CASES if any(isinstance(leaf, Batched) for leaf in jax.tree.leaves((row.args, row.kwargs)))]


@pytest.mark.parametrize("row", _SYMBOLIC, ids=str)
def test_symbolic_op_has_the_shape_and_dtype_keras_says(row: Case) -> None:
    ours, theirs = (
        _call(library, row, lambda array, tensor=tensor: tensor((None, *array.shape[1:]), array.dtype.name))
        for library, tensor in ((ops, KerasTensor), (keras.ops, keras.KerasTensor))
    )
    assert [(x.shape, x.dtype) for x in ours] == [(tuple(x.shape), x.dtype) for x in theirs]
