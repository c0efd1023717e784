"""Where a run of `fit` stands, beside its weights: enough for another process to go on to the same bits."""

import json
import random
import warnings
from typing import Any

import jax
import numpy as np

from tally.callbacks import CallbackList, History
from tally.callbacks.base import as_numbers
from tally.core.errors import SavingError
from tally.core.random import global_state, set_global_state
from tally.core.variable import Variable
from tally.training.data import DataSource

_FORM = 1
"""The version of what is written."""
_LONGEST = 2**30
"""Bytes of the head that are believed."""


class Run:
    """Where a run of `fit` stands: what a callback asks to write it down, or hands back to go on.

    Args:
        training: The steps.
        source: The data.
        validation: What is measured on, or None.
        callbacks: Those of the run.

    Attributes:
        epoch: The epoch that is trained, or, between two, the next one.
        done: How many of its steps were made.
        logs: What the last of them told.
        goes_on: Whether it goes on from another.
        is_over: Whether the run that goes on here had been stopped, and only its end is missing.
    """

    def __init__(
        self, training: Any, source: DataSource, validation: DataSource | None, callbacks: CallbackList
    ) -> None:
        self.training, self.source, self.validation, self.callbacks = training, source, validation, callbacks
        self.model = training.trainer.model
        self.epoch = self.done = 0
        self.logs: Any = {}
        self.is_over = False
        self.goes_on = False
        self._measured: list[np.ndarray] = []

    # -- the loop tells ------------------------------------------------------------------------------------------------
    def start(self, epoch: int) -> None:
        """Begin with an epoch; if another was handed back, only what isn't tied to that one stays."""
        if self.goes_on and epoch != self.epoch:
            self.source.close()
            self.done, self.logs, self._measured, self.is_over = 0, {}, [], False
        self.epoch = epoch

    def begin(self, epoch: int) -> None:
        """Begin an epoch, or go on in the middle of one."""
        self.epoch = epoch
        if not self.done:
            self.logs = {}
            self.training.reset_metrics()
            self.callbacks.on_epoch_begin(epoch)
            return
        for variable, value in zip(self._measures(), self._measured, strict=False):
            variable.assign(value)
        rates = [v for v in self.training.trainer.optimizer.variables if v.name == "learning_rate"]
        before = [rate.numpy() for rate in rates]
        self.callbacks.on_epoch_begin(epoch)
        for rate, value in zip(rates, before, strict=True):  # a schedule has set it once for this epoch
            rate.assign(value)

    def end(self, epoch: int) -> None:
        """Say that an epoch is over."""
        self.epoch, self.done = epoch + 1, 0

    def _measures(self) -> list[Variable]:
        return list(dict.fromkeys(v for metric in self.model.metrics for v in metric.variables))

    # -- callbacks ask -------------------------------------------------------------------------------------------------
    def dump(self, *, callbacks: bool = True) -> bytes | None:
        """Where the run stands; None when it has gone bad, so that there is nothing to go on from.

        Args:
            callbacks: Whether to keep what callbacks name in `kept`, the history included.
        """
        made, bad = np.asarray(self.training.record).tolist()
        if bad >= 0:
            return None
        arrays: list[np.ndarray] = []
        facts = {
            "form": _FORM,
            "epoch": self.epoch,
            "done": self.done,
            "seed": int(self.training.seed),
            "steps": made,
            "stopped": bool(self.model.stop_training),
            "random": {"global": global_state(), "python": random.getstate(), "numpy": _numpy_state()},
            "data": self.source.whereabouts(self.done),
            "validation": None if self.validation is None else self.validation.whereabouts(0),
            "logs": _packed(as_numbers(jax.device_get(self.logs)) if self.done else {}, arrays),
            "metrics": [_packed(v.numpy(), arrays) for v in self._measures()] if self.done else [],
            "callbacks": self._kept(arrays) if callbacks else [],
        }
        return _to_bytes(facts, arrays)

    def _kept(self, arrays: list[np.ndarray]) -> list[Any]:
        found = []
        for callback in self.callbacks:
            values = {}
            for name in getattr(callback, "kept", ()):
                try:
                    values[name] = _packed(getattr(callback, name), arrays)
                except (TypeError, RecursionError) as error:
                    warnings.warn(
                        f"{type(callback).__name__}.{name} can't be kept in a backup: {error}.", stacklevel=6
                    )
            found.append([type(callback).__name__, values])
        return found

    # -- going on ------------------------------------------------------------------------------------------------------
    def load(self, data: bytes, source: Any, *, first: int | None = None) -> bool:
        """Go on from where another run stood.

        Args:
            data: What `dump` gave.
            source: The file it is from, for messages.
            first: The epoch that is asked for; another one is not gone on from. None for whichever it is.

        Returns:
            Whether the run goes on from there.

        Raises:
            SavingError: It is damaged.
        """
        try:
            facts, arrays = _from_bytes(data)
            if first is not None and facts["epoch"] != first:
                return False
            self._take(facts, arrays)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise SavingError(
                f"What {source} says of the run that it is from can't be read: {error!r}.",
                do="delete it, and begin the run anew",
            ) from error
        return True

    def _take(self, facts: dict[str, Any], arrays: list[np.ndarray]) -> None:
        measured = [np.asarray(_unpacked(one, arrays)) for one in facts["metrics"]]
        logs = dict(_unpacked(facts["logs"], arrays))
        done = int(facts["done"])
        shapes = [variable.shape for variable in self._measures()]
        fits = self.source.cut == facts["data"]["cut"] and (
            not done or [one.shape for one in measured] == shapes
        )
        if done and not fits:
            warnings.warn(
                f"The data or metrics are not those of the run that is gone on with, so epoch "
                f"{facts['epoch'] + 1} begins anew instead of at its step {done + 1:,}.",
                stacklevel=7,
            )
        self.epoch, self.goes_on = int(facts["epoch"]), True
        self.training.go_on(int(facts["seed"]), int(facts["steps"]))
        if fits:
            self.done, self.logs, self._measured = done, logs, measured
            self.source.go_on(facts["data"])
            if self.validation is not None and facts["validation"]:
                self.validation.go_on(facts["validation"])
        self.is_over = bool(facts["stopped"]) and not done
        self._hand_back(facts["callbacks"], arrays)
        states = facts["random"]
        set_global_state(*map(int, states["global"]))
        version, numbers, normal = states["python"]
        random.setstate((version, tuple(numbers), normal))
        kind, words, *rest = states["numpy"]
        np.random.set_state((kind, np.array(words, "uint32"), *rest))

    def _hand_back(self, kept: list[Any], arrays: list[np.ndarray]) -> None:
        """Give callbacks what was kept for those of their class, the first of a class to the first."""
        waiting = list(self.callbacks)
        for name, values in kept:
            callback = next((one for one in waiting if type(one).__name__ == name), None)
            if callback is None:
                continue
            waiting.remove(callback)
            for attribute in getattr(callback, "kept", ()):
                if attribute in values:
                    setattr(callback, attribute, _unpacked(values[attribute], arrays))
            if isinstance(callback, History):
                self.model.history = callback


def _numpy_state() -> list[Any]:
    kind, words, *rest = np.random.get_state(legacy=True)
    return [kind, np.asarray(words).tolist(), *rest]


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """A value as JSON, and its arrays beside that."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_packed(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_packed(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_packed(k, arrays), _packed(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (np.ndarray, np.generic, jax.Array, Variable)):
        array = np.asarray(value.numpy() if isinstance(value, Variable) else value)
        if array.dtype.kind not in "biufcV" or array.dtype.names:
            raise TypeError(f"it holds {array.dtype}")
        arrays.append(array)
        return {"array": len(arrays) - 1}
    raise TypeError(f"it is a {type(value).__name__}")


def _unpacked(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, arrays) for item in value]
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        if "tuple" in value:
            return tuple(_unpacked(item, arrays) for item in value["tuple"])
        return {_unpacked(key, arrays): _unpacked(item, arrays) for key, item in value["dict"]}
    return value


def _to_bytes(facts: dict[str, Any], arrays: list[np.ndarray]) -> bytes:
    """The facts as JSON after its length, then the bytes of the arrays one after the other."""
    listed = [[array.dtype.name, list(array.shape)] for array in arrays]
    head = json.dumps({"facts": facts, "arrays": listed}).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays)])


def _from_bytes(data: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(len(data) - 8, _LONGEST):
        raise ValueError("it is cut off")
    head = json.loads(data[8 : 8 + size])
    if head["facts"]["form"] != _FORM:
        raise ValueError(f"it has the form {head['facts']['form']!r}, not {_FORM}")
    arrays, start = [], 8 + size
    for name, shape in head["arrays"]:
        dtype = jax.numpy.dtype(name)
        if dtype.kind not in "biufcV" or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"it holds an array of {name!r}")
        count = 1
        for side in shape:
            count *= side
        if start + count * dtype.itemsize > len(data):
            raise ValueError("it is cut off")
        arrays.append(np.frombuffer(data, dtype, count, start).reshape(shape).copy())
        start += count * dtype.itemsize
    return head["facts"], arrays
