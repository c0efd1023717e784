"""What values do on one batch of real data: NaN, overflow, dead units, saturation, growth and decay."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tally.accounting.finding import Finding
from tally.core.calling import Call, in_call
from tally.core.layer import Layer
from tally.core.symbol import leaves, map_tree
from tally.core.variable import Values, Variable, substitute
from tally.tracing.study import Study
from tally.tracing.undisturbed import undisturbed

_MOST = 64
"""As many examples are looked at."""
_DEAD, _SATURATED = 0.95, 0.9
"""Shares of units that are always zero, and of values at the ends of an activation, that are worth a word."""
_GROWTH, _DECAY = 1e4, 1e-6
"""How far the size of a signal may move between the input and a layer."""


def find(study: Study) -> Iterator[Finding]:
    """Run one batch, if there is one, and find where the signal is lost (T502); only the first layer is named."""
    if study.x is None or not study.root.built:
        return
    x = map_tree(lambda leaf: None if leaf is None else leaf[:_MOST], study.x)
    wrong = [leaf for leaf in leaves(x) if _is_real(leaf) and not np.isfinite(np.asarray(leaf, float)).all()]
    if wrong:
        yield Finding(
            code="T502",
            layer="",
            what="The data holds NaN or infinite values.",
            why="Every value that depends on them becomes NaN, the loss and all weights with it.",
            fix="clean the data: np.nan_to_num(x), or leave those examples out",
        )
        return
    seen = _outputs(study.root, x)
    size = max((_size(leaf) for leaf in leaves(x) if _is_real(leaf)), default=1.0) or 1.0
    for layer, array in seen:
        found = _judge(study, layer, array, size)
        if found is not None:
            what, why, fix = found
            yield Finding(
                code="T502",
                layer=study.path(layer),
                what=f"{study.told(layer)}: {what}.",
                why=why,
                fix=fix,
                where=layer.made_at,
                names=(study.path(layer),),
            )
            return
    yield from _gradients(study, x)


def _is_real(leaf: Any) -> bool:
    return leaf is not None and np.asarray(leaf).dtype.kind == "f"


def _size(array: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(array, np.float64)))))


def _outputs(root: Layer, x: Any) -> list[tuple[Layer, np.ndarray]]:
    """What each layer gives for a batch, in the order they finish; the model is left as it was."""
    seen: list[tuple[Layer, Any]] = []
    call = Call(False)

    def note(layer: Layer, outputs: Any) -> None:
        for leaf in leaves(outputs):
            is_value = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)
            if is_value and jnp.issubdtype(leaf.dtype, jnp.floating):
                seen.append((layer, leaf))

    call.watch = note
    root.materialize()
    with undisturbed(root), substitute(Values((v, v.raw) for v in root.variables)), in_call(call):
        root._call_with_values((x,), {})
    return [(layer, np.asarray(array, np.float64)) for layer, array in seen if layer is not root]


def _judge(study: Study, layer: Layer, array: np.ndarray, size: float) -> tuple[str, str, str] | None:
    if not array.size or array.ndim < 2:
        return None
    if not np.isfinite(array).all():
        half = layer.compute_dtype == "float16"
        return (
            f"its output holds NaN or infinite values{' (float16 ends at 65,504)' if half else ''}",
            "The loss becomes NaN, and with it every weight.",
            "scale the inputs, or use mixed_bfloat16"
            if half
            else "scale the inputs, and look at this layer's weights",
        )
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    if activation == "relu" and array.shape[0] > 1:
        dead = float(np.mean(~(array > 0).any(axis=tuple(range(array.ndim - 1)))))
        if dead >= _DEAD:
            return (
                f"{dead:.0%} of its units are zero for every example of the batch",
                "A unit that is always zero gets no gradient: it stays dead.",
                "scale the inputs, check the bias, lower the learning rate, or use leaky_relu",
            )
    if activation in ("sigmoid", "tanh", "hard_sigmoid", "softsign"):
        low = 0.0 if "sigmoid" in activation else -1.0
        ends = float(np.mean((array < low + 1e-3) | (array > 1 - 1e-3)))
        if ends >= _SATURATED and np.ptp(array) >= 0:
            return (
                f"{ends:.0%} of what its {activation} gives lies at the ends of its range",
                "There the slope is nearly zero, and so is the gradient.",
                f"scale the inputs ({_scale_hint(study)}), or use smaller weights",
            )
    here = _size(array)
    if here > _GROWTH * max(size, 1.0):
        return (
            f"its values are {here / size:,.0f} times as large as the inputs",
            "Gradients grow the same way: training may leave the range of numbers.",
            "use an initializer that fits the layer's width, or normalise",
        )
    if 0 < here < _DECAY * min(size, 1.0):
        return (
            f"its values are {size / here:,.0f} times smaller than the inputs",
            "Gradients shrink the same way: the layers before hardly learn.",
            "use an initializer that fits the layer's width, or normalise",
        )
    return None


def _scale_hint(study: Study) -> str:
    values = [np.asarray(leaf) for leaf in leaves(study.x) if leaf is not None]
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return f"they go from {low:g} to {high:g}"


# -- gradients ---------------------------------------------------------------------------------------------------------
_SPREAD = 1e5
"""How many times larger the gradient of one layer may be than that of another."""


def _gradients(study: Study, x: Any) -> Iterator[Finding]:
    """Compare what comes back to the layers that multiply, in the order they are called."""
    if study.trainer is None or study.trainer.loss is None or study.y is None:
        return
    y = map_tree(lambda leaf: None if leaf is None else leaf[:_MOST], study.y)
    # A gradient of exactly zero is another matter: a last layer that begins with zeros lets none pass at first.
    sizes = [(layer, size) for layer, size in _kernel_gradients(study, x, y) if size != 0]
    if len(sizes) < 3:
        return
    (first, low), (_, high) = sizes[0], sizes[-1]
    if not np.isfinite([size for _, size in sizes]).all():
        what, why = "gradients on this batch are NaN or infinite", "One step makes every weight NaN."
    elif low < high / _SPREAD:
        what = f"its gradient is {high / max(low, 1e-45):,.0f} times smaller than that of the last layer"
        why = "Gradients vanish on the way back: the first layers hardly learn."
    elif low > high * _SPREAD:
        what = f"its gradient is {low / max(high, 1e-45):,.0f} times larger than that of the last layer"
        why = "Gradients explode on the way back: the first layers leap."
    else:
        return
    yield Finding(
        code="T502",
        layer=study.path(first),
        what=f"{study.told(first)}: {what}.",
        why=why,
        fix="use relu and an initializer that fits it, normalise, or add residual connections",
        where=first.made_at,
        names=(study.path(first),),
    )


def _kernel_gradients(study: Study, x: Any, y: Any) -> list[tuple[Layer, float]]:
    """The size of the loss's gradient for each layer's kernel, in the order layers are called."""
    root, trainer = study.root, study.trainer
    trainable = root.trainable_variables
    order = list(dict.fromkeys(use.layer for use in study.flows[0].run.uses)) if study.flows else []
    found = ((getattr(layer, "kernel", None), layer) for layer in order)
    kernels = {kernel: layer for kernel, layer in found if isinstance(kernel, Variable)}
    wanted = [variable for variable in kernels if variable in set(trainable)]
    held = Values((v, v.raw) for v in root.variables)

    def loss(weights: list[Any]) -> Any:
        values = Values((*held.items(), *zip(wanted, weights, strict=True)))
        with substitute(values), in_call(Call(False)):
            y_pred = root._call_with_values((x,), {})
            return root.compute_loss(x=x, y=y, y_pred=y_pred)  # type: ignore[attr-defined]

    losses = dict(vars(trainer._losses))
    try:
        with undisturbed(root):
            gradients = jax.grad(loss)([held[v] for v in wanted])
    except Exception:  # a loss that can't be taken tells by its own error in fit
        return []
    finally:
        vars(trainer._losses).update(losses)
        trainer.take_parts()
    return [(kernels[v], _size(gradient)) for v, gradient in zip(wanted, gradients, strict=True)]
