"""What keeps a run safe: steps that an interrupt can't tear, and losses that stop being numbers."""

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.errors import NonFiniteError
from tally.core.layer import Layer, training_phase
from tally.core.symbol import leaves
from tally.core.variable import Values, substitute
from tally.layers import Embedding


class Interrupts:
    """Holds Ctrl-C back where values would be lost, and sees to it that it reaches the user.

    A step gives the old values away, and the new ones have no owner until it is done: there it waits, and also in what
    the garbage collector calls, where an exception would be lost. Outside the main thread this changes nothing.
    """

    def __init__(self) -> None:
        self.is_holding = False
        self._asked: tuple[int, Any] | None = None
        self._previous: Any = None

    def __enter__(self) -> "Interrupts":
        previous = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(previous):
            self._previous = previous
            signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._previous is not None and signal.getsignal(signal.SIGINT) == self._take:
            signal.signal(signal.SIGINT, self._previous)
        if kind is None:
            self.release()

    def _take(self, number: int, frame: Any) -> None:
        if self.is_holding or _is_collecting(frame):
            self._asked = (number, frame)
        else:
            self._previous(number, frame)

    def release(self) -> None:
        """Hold nothing back any more, and let come what was."""
        self.is_holding = False
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._previous(*asked)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold Ctrl-C back while the block runs; it comes after the next step, or in the end."""
        self.is_holding = True
        try:
            yield
        finally:
            self.is_holding = False


def _is_collecting(frame: FrameType | None) -> bool:
    """Whether a finalizer, or the callback that JAX hooks into the garbage collector, is running."""
    while frame is not None:
        if frame.f_code.co_name in ("_xla_gc_callback", "__del__"):
            return True
        frame = frame.f_back
    return False


class Watch:
    """Looks at the health record now and then, and late: reading a new one would wait for the device.

    Args:
        seconds: Look after this time,
        most: or after so many steps,
        most_bytes: or when so much data is kept, for the batch that turns out to be bad.
    """

    def __init__(self, seconds: float = 0.25, most: int = 64, most_bytes: int = 2**28) -> None:
        self.seconds, self.most, self.most_bytes = seconds, most, most_bytes
        self.batch_of: Callable[[Any], Any] = lambda piece: piece
        """What makes a batch of that which stands for it."""
        self._is_new = True
        self._batches: list[Any] = []
        self._first = 0  # number of the step that took the first of them
        self._waiting = 0
        self._earlier: Any = None
        self._looked = time.monotonic()

    def go_on(self, made: int) -> None:
        """Begin after so many steps that another process has made."""
        self._first = made

    def note(self, batches: list[Any], record: Any) -> tuple[int, Any] | None:
        """Take note of steps and the record after them; gives what `look` gives when it is time to look.

        Args:
            batches: The batches of those steps, or what stands for them.
            record: How many steps were made in all, and which was the first bad one, or -1.
        """
        if self._is_new:
            self._is_new = False
            size = sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(batches[0]))
            self.most = max(1, min(self.most, self.most_bytes // max(size, 1)))
        self._batches += batches
        self._waiting += len(batches)
        if self._waiting < self.most and time.monotonic() - self._looked < self.seconds:
            return None
        self._waiting, self._looked = 0, time.monotonic()
        earlier, self._earlier = self._earlier, record
        return None if earlier is None else self.look(earlier)

    def look(self, record: Any) -> tuple[int, Any] | None:
        """Number and batch of the first bad step in a record; None if all were good."""
        made, bad = np.asarray(record).tolist()
        if bad >= 0:
            batch = self._batches[bad - self._first]
            return bad, self.batch_of(batch)
        if made > self._first:
            del self._batches[: made - self._first]
            self._first = made
        return None


def warn_nothing_to_train(model: Any) -> None:
    """Tell that no weight can learn."""
    count = sum(v.count for v in model.weights)
    why = f"all {count:,} parameters are frozen" if count else "it has no parameters"
    warnings.warn(f"'{model.name}' has nothing to train: {why}. fit will only measure.", stacklevel=4)


def _is_bad(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact) and not bool(jnp.isfinite(array).all())


_KEPT = "the weights are those of the last good step; nothing was lost"


def explain_bad_step(trainer: Any, batch: Any, *, step: int, epoch: int | None) -> NoReturn:
    """Run the batch again, layer by layer, and name the first place where a number is not finite.

    Args:
        trainer: Whose variables hold the values of the last good step.
        batch: Inputs, targets and weights of the step.
        step: Its number, from 0.
        epoch: The epoch's, from 0; None outside of `fit`.

    Raises:
        NonFiniteError: Always.
    """
    when = f"step {step + 1}" + ("" if epoch is None else f" (epoch {epoch + 1})")
    model = trainer.model
    of_model = f"model '{model.name}' made at {model.made_at}"
    _blame_data(batch, when, of_model)
    found: list[tuple[Layer, Any]] = []

    def watch(layer: Layer, outputs: Any) -> None:
        if not found:
            found.extend(
                (layer, leaf) for leaf in leaves(outputs) if isinstance(leaf, jax.Array) and _is_bad(leaf)
            )

    with substitute(Values((v, v.raw) for v in model.variables)), training_phase(True) as call:
        call.watch = watch
        y_pred = model(jax.tree.map(jnp.asarray, batch[0]))
        loss = None if found else model.compute_loss(batch[0], batch[1], y_pred, batch[2])
    model._clear_losses()
    if found:
        _blame_layer(*found[0], when)
    if loss is not None and not _is_bad(jnp.asarray(loss)):
        raise NonFiniteError(
            f"The gradients became NaN or infinite at {when}, though the loss is finite ({float(loss):.4g}).",
            where=of_model,
            do=f"look for a square root or a division near 0 in a loss or a layer, lower the learning rate, or pass "
            f"clipnorm=1.0 to the optimizer; {_KEPT}",
        )
    raise NonFiniteError(
        f"The loss became NaN or infinite at {when}: every layer's output is finite, so it is the loss itself.",
        where=of_model,
        do="check that the loss fits the outputs (a logarithm of 0 or of a negative number?), or lower the learning "
        f"rate; {_KEPT}",
    )


def _blame_data(batch: Any, when: str, of_model: str) -> None:
    for word, part in zip(("inputs", "targets", "sample weights"), batch, strict=True):
        for leaf in leaves(part):
            if leaf is not None and _is_bad(jnp.asarray(leaf)):
                rows = np.unique(np.argwhere(~np.isfinite(np.asarray(leaf)))[:, 0])
                raise NonFiniteError(
                    f"The loss became NaN or infinite at {when}, because the {word} of that batch hold NaN or infinite "
                    f"values (examples {', '.join(map(str, rows[:5]))} of the batch).",
                    where=of_model,
                    do=f"clean the data, for instance with np.nan_to_num or by dropping those rows; {_KEPT}",
                )


def _blame_layer(layer: Layer, output: Any, when: str) -> NoReturn:
    if output.dtype.name == "float16":
        what = "overflowed float16"
        advice = (
            "float16 holds nothing above 65,504: use dtype='mixed_bfloat16', or scale the layer's input down"
        )
    elif isinstance(layer, Embedding) and not any(_is_bad(v.raw) for v in layer.weights):
        what = f"was given a number outside its {layer.input_dim:,} tokens"
        advice = (
            f"feed numbers from 0 to {layer.input_dim - 1:,}, or make input_dim the largest number plus one"
        )
    else:
        what = "gave NaN or infinite values"
        advice = "look at this layer's input and weights; a lower learning rate or clipnorm=1.0 often helps"
    raise NonFiniteError(
        f"The loss became NaN or infinite at {when}: {type(layer).__name__} '{layer.name}' {what}.",
        where=f"layer made at {layer.made_at}",
        do=f"{advice}; {_KEPT}",
    )
