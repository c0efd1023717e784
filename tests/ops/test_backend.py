"""`backend` and `tree` against what Keras gives."""

import keras
import numpy as np
import pytest

from tally import backend as K
from tally import tree
from tally.core.symbol import KerasTensor


def test_old_names_compute_what_their_ops_do() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    assert K.backend() == "jax"
    assert K.mean(K.square(x)) == 7.5
    assert K.int_shape(KerasTensor((None, 3))) == (None, 3)
    assert K.concatenate([x, x]).shape == (2, 4)
    assert K.batch_flatten(np.ones((2, 3, 4))).shape == (2, 12)
    assert K.batch_flatten(KerasTensor((None, 3, 4))).shape == (None, 12)
    assert K.gather(x, [1]).tolist() == [[3, 4]]
    assert K.permute_dimensions(np.ones((2, 3, 4)), (0, 2, 1)).shape == (2, 4, 3)
    assert K.reverse(x, 1).tolist() == [[2, 1], [4, 3]]
    assert K.switch([True, False], x, -x).tolist() == [[1, 2], [-3, -4]]
    assert K.bias_add(x, [1.0, 2.0]).tolist() == [[2, 4], [4, 6]]
    np.testing.assert_allclose(K.l2_normalize(x, axis=1)[0], x[0] / np.sqrt(5), rtol=1e-6)
    assert K.flatten(x).shape == (4,)
    assert K.count_params(x) == 4
    assert K.ndim(x) == 2
    assert K.cast_to_floatx([1, 2]).dtype == "float32"
    assert K.constant(2, shape=(2,)).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("first", "second", "axes"),
    [((2, 3), (2, 3), None), ((2, 3, 4), (2, 4, 5), None), ((2, 3, 4), (2, 5, 4), (2, 2))],
)
def test_batch_dot_is_a_product_per_example(first: tuple, second: tuple, axes: tuple | None) -> None:
    x, y = (np.random.default_rng(0).normal(size=shape).astype("float32") for shape in (first, second))
    along = [a - 1 for a in (axes or (len(first) - 1, max(len(second) - 2, 1)))]
    expected = np.stack([np.tensordot(a, b, axes=along) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(np.squeeze(K.batch_dot(x, y, axes)), expected, rtol=1e-4, atol=1e-5)


def test_variables_are_made_and_updated() -> None:
    v = K.variable([1.0, 2.0])
    K.update_add(v, [1.0, 1.0])
    K.update_sub(v, [0.5, 0.5])
    assert K.get_value(v).tolist() == [1.5, 2.5]
    K.moving_average_update(v, [0.0, 0.0], 0.5)
    assert K.batch_get_value([v])[0].tolist() == [0.75, 1.25]
    K.batch_set_value([(v, [3.0, 4.0])])
    assert K.eval(K.update(v, v * 2)).tolist() == [6, 8]
    assert K.zeros((2,)).numpy().tolist() == [0, 0]
    assert K.ones((2,)).numpy().tolist() == [1, 1]


def test_clearing_the_session_counts_names_anew() -> None:
    K.clear_session()
    assert [K.get_uid("a"), K.get_uid("a"), K.get_uid("b")] == [1, 2, 1]
    K.clear_session()
    assert K.get_uid("a") == 1


def test_kinds_of_dtype_are_told_apart() -> None:
    assert K.is_float_dtype("bfloat16")
    assert K.is_int_dtype("uint8")
    assert not K.is_int_dtype("bool")
    assert K.result_type("int32", "float16") == keras.backend.result_type("int32", "float16")


NESTED = {"b": [1, (2, None)], "a": 3}


def test_flattening_is_keras_s() -> None:
    assert tree.flatten(NESTED) == keras.tree.flatten(NESTED)
    assert tree.flatten_with_path(NESTED) == keras.tree.flatten_with_path(NESTED)
    assert [tree.is_nested(x) for x in (1, None, [], (1,), {}, "a")] == [
        keras.tree.is_nested(x) for x in (1, None, [], (1,), {}, "a")
    ]


def test_mapping_is_keras_s() -> None:
    double = lambda x: None if x is None else 2 * x
    assert tree.map_structure(double, NESTED) == keras.tree.map_structure(double, NESTED)
    add = lambda x, y: x + y
    assert tree.map_structure(add, [1, {"a": 2}], [3, {"a": 4}]) == [4, {"a": 6}]
    assert tree.map_structure_up_to([0, 0], len, [[1, 2], [3]]) == [2, 1]
    assert tree.map_shape_structure(len, {"a": (None, 3), "b": [(2,)]}) == {"a": 2, "b": [1]}


def test_packing_undoes_flattening() -> None:
    assert tree.pack_sequence_as(NESTED, tree.flatten(NESTED)) == NESTED
    with pytest.raises(ValueError, match="4 leaves"):
        tree.pack_sequence_as(NESTED, [1])


def test_structures_are_compared() -> None:
    tree.assert_same_structure([1, (2,)], [3, (4,)])
    with pytest.raises(ValueError):
        tree.assert_same_structure([1, (2,)], [3, [4]])
    tree.assert_same_paths([1, (2,)], (3, [4]))
    with pytest.raises(ValueError):
        tree.assert_same_paths([1, 2], [1])


@pytest.mark.parametrize("top_down", [True, False])
def test_traversing_is_keras_s(top_down: bool) -> None:
    def visit(library: object, part: object) -> object:
        if isinstance(part, tuple):
            return list(part)
        return library.MAP_TO_NONE if part == 3 else None

    ours, theirs = (
        library.traverse(lambda p, library=library: visit(library, p), NESTED, top_down)
        for library in (tree, keras.tree)
    )
    assert ours == theirs
    assert tree.lists_to_tuples(NESTED) == keras.tree.lists_to_tuples(NESTED)
