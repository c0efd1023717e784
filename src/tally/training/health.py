"""What keeps a run safe: steps that an interrupt can't tear, and losses that stop being numbers."""

import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.errors import NonFiniteError
from tally.core.layer import Layer, training_phase
from tally.core.symbol import leaves
from tally.core.variable import Values, substitute


@contextmanager
def whole_steps() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done, so that the values of the last finished step are never lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[Any] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: asked.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if asked and callable(previous):
            previous(*asked[0])


class Watch:
    """Says when it is time to look at the health record; looking waits for the device, so it is done a few times a second."""

    def __init__(self, seconds: float = 0.25, most: int = 64) -> None:
        self.seconds, self.most = seconds, most
        self.last = time.monotonic()

    def is_due(self, waiting: int) -> bool:
        """Whether enough time or steps have passed."""
        now = time.monotonic()
        if waiting < self.most and now - self.last < self.seconds:
            return False
        self.last = now
        return True


def warn_nothing_to_train(model: Any) -> None:
    """Tell that no weight can learn."""
    count = sum(v.count for v in model.weights)
    why = f"all {count:,} parameters are frozen" if count else "it has no parameters"
    warnings.warn(f"'{model.name}' has nothing to train: {why}. fit will only measure.", stacklevel=4)


def _bad(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact) and not bool(jnp.isfinite(array).all())


def explain_bad_step(trainer: Any, batch: Any, *, step: int, epoch: int) -> None:
    """Run the batch again, layer by layer, and name the first place where a number is not finite.

    Raises:
        NonFiniteError: Always.
    """
    x, y, weight = batch
    when = f"step {step + 1} (epoch {epoch + 1})"
    kept = "the weights are those of the last good step; nothing was lost"
    for word, part in (("inputs", x), ("targets", y), ("sample weights", weight)):
        for leaf in leaves(part):
            if leaf is not None and _bad(jnp.asarray(leaf)):
                rows = np.unique(np.argwhere(~np.isfinite(np.asarray(leaf)))[:, 0])
                shown = ", ".join(map(str, rows[:5]))
                raise NonFiniteError(
                    f"The loss became NaN or infinite at {when}, because the {word} of that batch hold NaN or infinite "
                    f"values (examples {shown} of the batch).",
                    where=f"model '{trainer.model.name}' made at {trainer.model.made_at}",
                    do=f"clean the data, for instance with np.nan_to_num or by dropping those rows; {kept}",
                )
    found: list[tuple[Layer, Any]] = []

    def watch(layer: Layer, outputs: Any) -> None:
        if not found and any(_bad(leaf) for leaf in leaves(outputs) if isinstance(leaf, jax.Array)):
            found.append((layer, next(leaf for leaf in leaves(outputs) if _bad(leaf))))

    held = Values((v, v.raw) for v in trainer.model.variables)
    with substitute(held), training_phase(True) as call:
        call.watch = watch
        trainer.model(jax.tree.map(jnp.asarray, x))
    trainer.model._clear_losses()
    if found:
        layer, output = found[0]
        short = output.dtype.name == "float16"
        advice = (
            "float16 holds nothing above 65,504: use dtype='mixed_bfloat16' or 'mixed_float16', or scale the layer's input down"
            if short
            else "look at this layer's input and weights; a lower learning rate or clipnorm=1.0 often helps"
        )
        word = "overflowed float16" if short else "gave NaN or infinite values"
        raise NonFiniteError(
            f"The loss became NaN or infinite at {when}: {type(layer).__name__} '{layer.name}' {word}.",
            where=f"layer made at {layer.made_at}",
            do=f"{advice}; {kept}",
        )
    raise NonFiniteError(
        f"The loss became NaN or infinite at {when}: every layer's output is finite, so it is the loss itself.",
        where=f"model '{trainer.model.name}' made at {trainer.model.made_at}",
        do=f"check that the loss fits the outputs (a logarithm of 0 or of a negative number?), or lower the learning rate; {kept}",
    )
