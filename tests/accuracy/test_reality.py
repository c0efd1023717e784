"""The planted mistakes are real: weights are missing, gradients are zero, inputs change nothing, fitting fails."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tally.core.errors import ArgumentError, ShapeError

from .registry import Case, load
from .score import make


def each(*codes: str, **wanted: Any) -> Any:
    """One test for each mistake that counts for one of the codes."""
    cases = [
        pytest.param(case, id=name)
        for name, case in sorted(load().items())
        if case.kind == "mistake"
        and case.code in codes
        and all(getattr(case, k) == v for k, v in wanted.items())
    ]
    return pytest.mark.parametrize("case", cases)


COUNTED = [pytest.param(c, id=n) for n, c in sorted(load().items()) if c.counted is not None]


@pytest.mark.parametrize("case", COUNTED)
def test_the_count_is_that_of_the_mistake(case: Case) -> None:
    model = make(case)[0]
    assert sum(variable.count for variable in model.trainable_variables) == case.counted


def batch(model: Any) -> Any:
    """Numbers in the shapes that the model was last called with, or that its graph takes."""
    chance = np.random.default_rng(0)

    def draw(spec: Any) -> Any:
        shape = tuple(4 if size is None else size for size in spec.shape)
        is_whole = "int" in str(spec.dtype)
        return (
            chance.integers(0, 2, shape).astype("int32")
            if is_whole
            else chance.normal(size=shape).astype("float32")
        )

    wanted = model.input if model._graph is not None else model._held.last_call[0][0]
    return jax.tree.map(draw, wanted, is_leaf=lambda leaf: hasattr(leaf, "dtype"))


def outputs(model: Any, trainable: list[Any], x: Any) -> jax.Array:
    """All outputs, weighed and added up."""
    state = [variable.value for variable in model.non_trainable_variables]
    made, _ = model.stateless_call(trainable, state, x)
    parts = [jnp.asarray(leaf, "float32").ravel() for leaf in jax.tree.leaves(made)]
    return sum(jnp.sum(part * jnp.cos(jnp.arange(part.size))) for part in parts)


@each("T301", "T303")
def test_a_weight_has_no_gradient(case: Case) -> None:
    model = make(case)[0]
    x = batch(model)
    values = [variable.value for variable in model.trainable_variables]
    gradients = jax.grad(lambda values: outputs(model, values, x))(values)
    assert any(not jnp.any(gradient) for gradient in gradients)


@each("T302", by="model")
def test_an_input_changes_nothing(case: Case) -> None:
    model = make(case)[0]
    leaves, structure = jax.tree.flatten(batch(model))
    values = [variable.value for variable in model.trainable_variables]

    def run(arrays: list[Any]) -> float:
        return float(outputs(model, values, jax.tree.unflatten(structure, arrays)))

    exchanged = [[*leaves[:i], leaf + 1.0, *leaves[i + 1 :]] for i, leaf in enumerate(leaves)]
    assert any(run(arrays) == run(leaves) for arrays in exchanged)


@each("T402")
def test_training_goes_on_no_more(case: Case) -> None:
    model = make(case)[0]
    x, y = np.ones((2, 4), "float32"), np.ones((2, 1), "float32")
    with pytest.raises(ArgumentError, match="compile the model again"):
        model.fit(x, y, verbose=0)


@each("T203")
def test_what_was_added_is_not_trained(case: Case) -> None:
    model = make(case)[0]
    optimizer = model.optimizer
    x = np.ones((2, 4), "float32")
    model(x)
    trained = len(optimizer.variables) if optimizer is not None else 0
    if optimizer is None:  # a graph that was never compiled: the attribute is no part of it
        assert not model.head.built
    else:
        with pytest.raises(ArgumentError, match="compile the model again"):
            model.fit(x, np.asarray(model(x)), verbose=0)
        assert len(optimizer.variables) == trained


@each("T202")
def test_layers_inside_have_no_weights_though_the_outer_is_built(case: Case) -> None:
    layer = make(case)[0]
    assert layer.built
    assert any(not inner.built for inner in layer._flatten_layers(include_self=False))


@each("T603")
def test_building_fails(case: Case) -> None:
    make(case)
    with pytest.raises(ShapeError):
        case.build()
