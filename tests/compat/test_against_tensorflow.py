"""Every function that scripts find under TensorFlow's name gives what TensorFlow gives."""

import functools
import inspect

import jax
import numpy as np
import pytest
import tensorflow as real

from compat.cases import CASES
from tally.compat.names import NAMES
from tally.compat.tensorflow import tensorflow
from tally.core.symbol import KerasTensor

OURS = tensorflow()
NARROW = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


def find(root, name):
    return functools.reduce(getattr, name.split("."), root)


def arrays(structure):
    is_leaf = lambda part: hasattr(part, "numpy") or isinstance(part, (np.ndarray, jax.Array))
    leaves = jax.tree.leaves(structure, is_leaf=is_leaf)
    return [np.asarray(leaf.numpy() if hasattr(leaf, "numpy") else leaf) for leaf in leaves]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_function_gives_what_tensorflow_gives(case):
    args = case.args
    if case.name.startswith("image."):  # some of TensorFlow's image functions take no NumPy arrays
        args = [real.constant(x) if isinstance(x, np.ndarray) else x for x in args]
    wanted = arrays(find(real, case.name)(*args, **case.kwargs))
    given = arrays(find(OURS, case.name)(*case.args, **case.kwargs))
    assert [x.shape for x in given] == [x.shape for x in wanted]
    assert [x.dtype.name for x in given] == [NARROW.get(x.dtype.name, x.dtype.name) for x in wanted]
    for ours, theirs in zip(given, wanted, strict=True):
        tolerance = 1 if theirs.dtype == "uint8" else 2e-5
        np.testing.assert_allclose(_wide(ours), _wide(theirs), rtol=2e-4, atol=tolerance)


def _wide(x):
    return x.astype("complex128" if x.dtype.kind == "c" else "float64")


def test_every_name_is_one_of_tensorflow():
    without_keras = [name for name in NAMES if name.split(".")[0] != "keras"]
    unknown = [name for name in without_keras if not _is_there(name)]
    assert unknown == []


def _is_there(name):
    try:
        find(real, name)
    except AttributeError:
        return False
    return True


FREE = {"function", "print", "meshgrid", "nest.assert_same_structure", "nest.is_nested", "nest.map_structure"}
"""Functions whose TensorFlow signature is `*args, **kwargs`, or whose arguments nobody names."""


def test_every_function_takes_its_arguments_in_tensorflows_order_and_with_its_defaults():
    different = [line for name in sorted(NAMES) if name not in FREE for line in _differences(name)]
    assert different == [
        "custom_gradient: f = None",
        "nn.log_softmax: axis = None",
        "nn.softmax: axis = None",
        "random.categorical: dtype = None",
        "shape: out_type = None",
        "size: out_type = None",
    ]  # None stands for what ours say


def _differences(name):
    ours, theirs = NAMES[name], find(real, name)
    if not inspect.isroutine(ours) or inspect.isclass(theirs):
        return
    own, other = (
        {n: p for n, p in inspect.signature(f).parameters.items() if n != "name"} for f in (ours, theirs)
    )
    if list(own) != list(other)[: len(own)]:
        yield f"{name}: {list(other)}, not {list(own)}"
        return
    for argument, parameter in own.items():
        default = other[argument].default
        if getattr(default, "name", default) != parameter.default:
            yield f"{name}: {argument} = {default}"


VALUES_NEEDED = {
    *(
        "unique",
        "where",
        "boolean_mask",
        "sequence_mask",
        "sort",
        "linalg.matrix_rank",
        "shape",
        "size",
        "rank",
    ),
    *("while_loop", "math.segment_sum", "constant", "range", "map_fn"),
}
"""Functions whose result has a shape that depends on numbers, or that give no tensor."""


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.args and isinstance(c.args[0], np.ndarray) and c.name not in VALUES_NEEDED],
    ids=str,
)
def test_a_function_can_be_followed_in_a_layer_and_in_a_graph(case):
    function = find(OURS, case.name)
    first, *rest = case.args
    called = lambda x: function(x, *rest, **case.kwargs)
    wanted = [(x.shape, x.dtype.name) for x in arrays(called(first))]
    traced = jax.tree.leaves(jax.eval_shape(called, jax.ShapeDtypeStruct(first.shape, first.dtype)))
    assert [(x.shape, x.dtype.name) for x in traced] == wanted
    symbolic = jax.tree.leaves(called(KerasTensor(first.shape, first.dtype.name)))
    assert [(x.shape, x.dtype) for x in symbolic] == wanted
