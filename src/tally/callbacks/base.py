"""The hooks a training run calls, and the list that calls them on every callback."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

Logs = Mapping[str, Any] | None

_BATCH_HOOKS = tuple(
    f"on_{phase}_batch_{edge}" for phase in ("train", "test", "predict") for edge in ("begin", "end")
)
_RUN_HOOKS = tuple(
    f"on_{phase}_{edge}" for phase in ("train", "epoch", "test", "predict") for edge in ("begin", "end")
)
_ALIASES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


class Callback:
    """What `fit`, `evaluate` and `predict` call along the way; override the hooks you need.

    Attributes:
        model: The model that is trained.
        params: `epochs`, `steps` and `verbose` of the run.
        takes_arrays: Whether the hooks for batches can do with values still on the device. When every
            callback that listens to batches says so, the device is not waited for after each of them.
        takes_some: Whether `evaluate` and `predict` may tell it of several batches at once, by the number of the last
            and without outputs. When every callback that listens to batches says so, small batches share a call.
        comes_last: Whether it is called behind all others, wherever it stands in the list.
        kept: Names of attributes that `BackupAndRestore` keeps, so that a run which was cut off goes on with
            them: numbers, texts, arrays, and lists and dicts of these.

    Example:
        >>> class Shout(Callback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         print(epoch, logs["loss"])

    Source: `keras.callbacks.Callback`.
    """

    takes_arrays: ClassVar[bool] = False
    takes_some: ClassVar[bool] = False
    comes_last: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()
    model: Any = None
    params: Any = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Learn `epochs`, `steps` and `verbose` of the run."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Learn which model is trained."""
        self.model = model

    def on_train_begin(self, logs: Logs = None) -> None:
        """Called when `fit` begins."""

    def on_train_end(self, logs: Logs = None) -> None:
        """Called when `fit` ends; `logs` are those of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Called before an epoch, the first of which is 0."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Called after an epoch; `logs` are its loss and metrics, those of validation under `val_...`.

        What is put into `logs` here is recorded and shown, too.
        """

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a training step, the first of which in an epoch is 0."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called after a training step; `logs` are loss and metrics over the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Another name for `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Another name for `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs = None) -> None:
        """Called when `evaluate`, or validation in `fit`, begins."""

    def on_test_end(self, logs: Logs = None) -> None:
        """Called when `evaluate`, or validation in `fit`, ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of `evaluate`."""

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called after a batch of `evaluate`."""

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Called when `predict` begins."""

    def on_predict_end(self, logs: Logs = None) -> None:
        """Called when `predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called after a batch of `predict`; `logs["outputs"]` holds what the model gave."""

    def on_interrupt(self) -> None:
        """Called if an error or Ctrl-C ends the run and no `..._end` comes: let go of files and screens."""


class CallbackList(Callback):
    """Calls each hook on all callbacks that have something to do there.

    Args:
        callbacks: Callbacks, also in nested lists, in the order they are called.
        add_history: Whether to add a `History` if there is none.
        add_progbar: Whether to add a `ProgbarLogger` if there is none.
        model: The model that is trained.
        params: `epochs`, `steps` and `verbose`, told to every callback.

    Example:
        >>> class Shout(tally.callbacks.Callback):
        ...     def on_train_begin(self, logs=None):
        ...         print(f"{self.params['epochs']} epochs begin")
        >>> callbacks = tally.callbacks.CallbackList([Shout()], epochs=3, steps=10, verbose=0)
        >>> callbacks.on_train_begin()
        3 epochs begin

    Source: `keras.callbacks.CallbackList`.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ) -> None:
        from tally.callbacks.recording import History

        self.callbacks: list[Any] = list(_flat(callbacks))
        self._listeners: dict[str, list[Any]] = {}
        if add_history and not any(isinstance(callback, History) for callback in self.callbacks):
            self.callbacks.append(History())
        if add_progbar:
            from tally.callbacks.progress import ProgbarLogger

            if not any(isinstance(callback, ProgbarLogger) for callback in self.callbacks):
                self.callbacks.append(ProgbarLogger())
        self.callbacks.sort(key=lambda callback: getattr(callback, "comes_last", False))
        self.history = next((callback for callback in self.callbacks if isinstance(callback, History)), None)
        self.set_params(params)
        if model is not None:
            self.set_model(model)

    def append(self, callback: Callback) -> None:
        """Add a callback at the end."""
        self.callbacks.append(callback)
        self._listeners.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.callbacks)

    def set_params(self, params: dict[str, Any]) -> None:
        """Tell every callback the run's parameters."""
        self.params = params
        for callback in self.callbacks if params else []:
            callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """Tell every callback which model is trained."""
        self.model = model
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    @property
    def needs_batch_logs(self) -> bool:
        """Whether a callback wants each batch's logs as numbers, for which the device is waited for."""
        ends = ("on_train_batch_end", "on_test_batch_end")
        return any(not _takes_arrays(callback) for hook in ends for callback in self._listening(hook))

    def wants_each(self, phase: str) -> bool:
        """Whether someone wants to hear of each batch by itself.

        Args:
            phase: `"test"` or `"predict"`.
        """
        hooks = f"on_{phase}_batch_begin", f"on_{phase}_batch_end"
        is_own = any(getattr(type(self), hook) is not getattr(CallbackList, hook) for hook in hooks)
        listeners = [callback for hook in hooks for callback in self._listening(hook)]
        return is_own or not all(getattr(callback, "takes_some", False) for callback in listeners)

    def teller(self, hook: str) -> Callable[..., None] | None:
        """What calls a hook for batches, or None where nobody listens to it, so that a loop need not call at all.

        It knows the callbacks there are now: a loop asks for it anew each epoch.

        Args:
            hook: For instance `"on_train_batch_end"`.

        Example:
            >>> tally.callbacks.CallbackList([]).teller("on_train_batch_end") is None
            True
        """
        listeners = self._listening(hook)
        is_own = getattr(type(self), hook) is not getattr(CallbackList, hook)
        if is_own or not all(map(_takes_arrays, listeners)):
            return getattr(self, hook)
        methods = [getattr(callback, hook) for callback in listeners]

        def tell(position: int, logs: Logs = None) -> None:
            for method in methods:
                method(position, logs if logs is not None else {})

        return tell if methods else None

    def _listening(self, hook: str) -> list[Any]:
        if hook not in self._listeners:
            self._listeners[hook] = [callback for callback in self.callbacks if _overrides(callback, hook)]
        return self._listeners[hook]

    def _tell(self, hook: str, *position: int, logs: Logs = None) -> None:
        listeners = self._listening(hook)
        if not listeners:
            return
        if hook not in _BATCH_HOOKS or not all(map(_takes_arrays, listeners)):
            logs = as_numbers(logs)
        for callback in listeners:
            getattr(callback, hook)(*position, logs if logs is not None else {})

    def on_interrupt(self) -> None:
        """Let every callback clear up after a run that an error or Ctrl-C has ended."""
        for callback in self._listening("on_interrupt"):
            callback.on_interrupt()


def _broadcast(hook: str) -> Callable[..., None]:
    def tell_at(self: CallbackList, position: int, logs: Logs = None) -> None:
        self._tell(hook, position, logs=logs)

    def tell(self: CallbackList, logs: Logs = None) -> None:
        self._tell(hook, logs=logs)

    told = tell_at if "batch" in hook or "epoch" in hook else tell
    told.__name__, told.__doc__ = hook, getattr(Callback, hook).__doc__
    return told


for _hook in (*_RUN_HOOKS, *_BATCH_HOOKS, *_ALIASES.values()):
    setattr(CallbackList, _hook, _broadcast(_hook))


def as_numbers(logs: Logs) -> dict[str, Any]:
    """Logs as a new dict of floats in alphabetical order; what is no single number stays what it is."""
    numbers: dict[str, Any] = {}
    for name, value in sorted((logs or {}).items()):
        if isinstance(value, Mapping):
            numbers.update(as_numbers(value))
            continue
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError):
            numbers[name] = value
    return numbers


def _flat(callbacks: Any) -> Iterator[Any]:
    if isinstance(callbacks, (list, tuple)):
        for callback in callbacks:
            yield from _flat(callback)
    elif callbacks is not None:
        yield callbacks


def _takes_arrays(callback: Any) -> bool:
    return getattr(callback, "takes_arrays", False)


def _overrides(callback: Any, hook: str) -> bool:
    """Whether a hook of a callback is more than the empty one, on its class or set on itself."""
    method = getattr(callback, hook, None)
    own = method is not None and getattr(method, "__func__", method) is not getattr(Callback, hook)
    return own or (hook in _ALIASES and _overrides(callback, _ALIASES[hook]))
