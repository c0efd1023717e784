"""A layer under test: what it is made with and fed, and the pair of it and its peer in Keras."""

import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

import tally

Shapes = tuple[int, ...] | list[tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Case:
    """One layer with one set of arguments.

    Args:
        name: Name of the class in `keras.layers` and `tally.layers`.
        arguments: Of the constructor; where layers or other objects are among them, a function of the library
            (`keras` or `tally`) that makes them.
        inputs: Shape of the input, batch included; a list of shapes for a list of inputs.
        note: Tells rows of one class apart in the test's name.
        integers: If not 0, the inputs are integers below it.
        phases: Values of `training` in which the output is compared; those without chance in them.
        keywords: Further arguments of the call.
        tolerance: Largest difference allowed, relative to the largest number.
    """

    name: str
    arguments: dict[str, Any] | Callable[[Any], dict[str, Any]] = field(default_factory=dict)
    inputs: Shapes = (2, 3)
    note: str = ""
    integers: int = 0
    phases: tuple[bool, ...] = (False,)
    keywords: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5

    def make(self, library: Any, **more: Any) -> Any:
        """The layer of one library, not built."""
        arguments = self.arguments(library) if callable(self.arguments) else self.arguments
        return getattr(library.layers, self.name)(**{"name": "layer", **arguments, **more})

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each input."""
        return self.inputs if isinstance(self.inputs, list) else [self.inputs]

    def nest(self, values: list[Any]) -> Any:
        """What is passed to the layer: the list, or its only value."""
        return values if isinstance(self.inputs, list) else values[0]

    def symbols(self, library: Any) -> Any:
        """Symbolic inputs of a library, with the batch unknown."""
        dtype = "int32" if self.integers else "float32"
        return self.nest([library.KerasTensor((None, *shape[1:]), dtype) for shape in self.shapes])

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """The inputs: the same numbers in every run."""
        chance = np.random.default_rng(1)
        if self.integers:
            return [chance.integers(0, self.integers, shape).astype("int32") for shape in self.shapes]
        return [chance.normal(size=shape).astype("float32") for shape in self.shapes]

    @functools.cached_property
    def layers(self) -> tuple[Any, Any]:
        """The layer and its peer, built on the inputs and given equal weights."""
        ours, peer = self.make(tally), self.make(keras)
        ours(self.nest(self.arrays), **self.keywords)
        symbols = [keras.KerasTensor(array.shape, array.dtype.name) for array in self.arrays]
        peer(self.nest(symbols), **self.keywords)  # builds it, and compiles nothing
        chance = np.random.default_rng(2)
        weights = [
            chance.uniform(0.1, 1.0, v.shape).astype(v.dtype) for v in peer.weights if "seed" not in v.path
        ]
        ours.set_weights(weights)
        peer.set_weights(weights)
        return ours, peer

    def run(self, training: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the layer and its peer compute under `jit`: outputs, gradients, new state and loss."""
        return tuple(self._run(layer, training) for layer in self.layers)

    @functools.cache  # noqa: B019 - cases live as long as the tests
    def _run(self, layer: Any, training: bool) -> dict[str, Any]:
        apply = _apply if isinstance(layer, tally.layers.Layer) else _apply_peer
        keywords = {**self.keywords, **({"training": training} if _takes_training(layer) else {})}
        weights = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]

        def weigh(weights: list[Any], arrays: list[Any]) -> Any:
            outputs, new_state, losses = apply(layer, weights, state, self.nest(arrays), keywords)
            parts = [jnp.asarray(leaf, "float32") for leaf in jax.tree.leaves(outputs)]
            total = sum(jnp.sum(part * jnp.cos(jnp.arange(part.size).reshape(part.shape))) for part in parts)
            loss = sum(losses, jnp.zeros(()))
            return total + loss, (outputs, new_state, loss)

        function = jax.jit(jax.value_and_grad(weigh, 0 if self.integers else (0, 1), has_aux=True))
        (_, (outputs, new_state, loss)), gradients = function(weights, list(map(jnp.asarray, self.arrays)))
        kept = [
            x for v, x in zip(layer.non_trainable_variables, new_state, strict=True) if "seed" not in v.path
        ]
        return {"outputs": outputs, "gradients": gradients, "state": kept, "loss": loss}


def _apply(
    layer: Any, weights: Any, state: Any, inputs: Any, keywords: dict[str, Any]
) -> tuple[Any, Any, Any]:
    return layer.stateless_call(weights, state, inputs, return_losses=True, **keywords)


def _apply_peer(
    layer: Any, weights: Any, state: Any, inputs: Any, keywords: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """The peer called as its models call it; its own `stateless_call` leaves the activity regularizer out."""
    held = layer.non_trainable_variables
    values = [*zip(layer.trainable_variables, weights, strict=True), *zip(held, state, strict=True)]
    with keras.StatelessScope(values, collect_losses=True) as scope:
        outputs = layer(inputs, **keywords)
        losses = layer.losses
    return outputs, [scope.get_current_value(v) for v in held], losses


def _takes_training(layer: Any) -> bool:
    return "training" in type(layer).call.__code__.co_varnames


def collect() -> list[Case]:
    """The rows of all `rows_*.py` beside this file."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("rows_*.py"))
    return [case for name in names for case in importlib.import_module(f"layers.{name}").ROWS]


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    """Compare nested arrays: shapes, and values up to a difference relative to the largest."""
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert [np.shape(x) for x in ours] == [np.shape(x) for x in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        mine, other = np.asarray(mine, "float64"), np.asarray(other, "float64")
        scale = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance * scale)
