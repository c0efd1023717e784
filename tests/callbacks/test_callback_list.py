"""The list that calls every callback's hooks."""

from typing import Any

import jax.numpy as jnp
import pytest

from tally import callbacks

HOOKS = [
    *(f"on_{phase}_{edge}" for phase in ("train", "test", "predict") for edge in ("begin", "end")),
    *(f"on_{phase}_batch_{edge}" for phase in ("train", "test", "predict") for edge in ("begin", "end")),
    *("on_epoch_begin", "on_epoch_end"),
]


class Model:
    history: Any = None


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_reaches_every_callback_in_order(hook: str) -> None:
    calls: list[tuple[Any, ...]] = []
    each = [callbacks.LambdaCallback(**{hook: lambda *args, n=n: calls.append((n, *args))}) for n in range(2)]
    position = (7,) if "batch" in hook or "epoch" in hook else ()
    getattr(callbacks.CallbackList([each[:1], each[1]]), hook)(*position, {"loss": 1.0})
    assert calls == [(0, *position, {"loss": 1.0}), (1, *position, {"loss": 1.0})]


def test_the_old_names_of_the_batch_hooks_are_called_by_the_new_ones() -> None:
    class Old(callbacks.Callback):
        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen = (batch, logs)

    old = Old()
    callbacks.CallbackList([old]).on_train_batch_end(3, {"loss": 1})
    assert old.seen == (3, {"loss": 1.0})


def test_logs_become_floats_in_alphabetical_order() -> None:
    seen: list[Any] = []
    told = callbacks.CallbackList(
        [callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))]
    )
    told.on_epoch_end(0, {"loss": jnp.float32(0.5), "accuracy": jnp.int32(1), "matrix": [1, 2]})
    assert list(seen[0].items()) == [("accuracy", 1.0), ("loss", 0.5), ("matrix", [1, 2])]
    assert type(seen[0]["loss"]) is float


def test_callbacks_that_take_arrays_get_the_arrays_themselves() -> None:
    class Later(callbacks.Callback):
        takes_arrays = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.loss = logs["loss"]

    later, loss = Later(), jnp.float32(0.5)
    callbacks.CallbackList([later]).on_train_batch_end(0, {"loss": loss})
    assert later.loss is loss


@pytest.mark.parametrize(
    ("callback", "needed"),
    [
        (callbacks.EarlyStopping(), False),
        (callbacks.ModelCheckpoint("a.keras"), False),
        (callbacks.ProgbarLogger(), False),
        (callbacks.TerminateOnNaN(), True),
        (callbacks.LambdaCallback(on_train_batch_end=print), True),
        (callbacks.LambdaCallback(on_train_batch_begin=print), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_batch_logs_are_needed_only_where_someone_reads_numbers(
    callback: callbacks.Callback, needed: bool
) -> None:
    assert callbacks.CallbackList([callback]).needs_batch_logs is needed


def test_what_a_callback_writes_into_the_logs_is_in_the_history() -> None:
    def write(epoch: int, logs: dict[str, Any]) -> None:
        logs["temperature"] = 20.0 + epoch

    model = Model()
    told = callbacks.CallbackList(
        [callbacks.LambdaCallback(on_epoch_end=write)], add_history=True, model=model
    )
    told.on_train_begin()
    for epoch in range(2):
        told.on_epoch_end(epoch, {"loss": 1.0})
    assert model.history is told.history
    assert told.history is not None
    assert told.history.history == {"loss": [1.0, 1.0], "temperature": [20.0, 21.0]}
    assert told.history.epoch == [0, 1]


def test_a_history_and_a_progress_bar_are_added_only_once() -> None:
    own = [callbacks.History(), callbacks.ProgbarLogger()]
    assert callbacks.CallbackList(own, add_history=True, add_progbar=True).callbacks == own


def test_every_callback_learns_model_and_parameters() -> None:
    model, callback = Model(), callbacks.Callback()
    callbacks.CallbackList([callback], model=model, epochs=3, steps=5, verbose=0)
    assert callback.model is model
    assert callback.params == {"epochs": 3, "steps": 5, "verbose": 0}


def test_an_interrupted_run_closes_the_csv_file(tmp_path: Any) -> None:
    logger = callbacks.CSVLogger(tmp_path / "log.csv")
    told = callbacks.CallbackList([logger])
    told.on_train_begin()
    told.on_epoch_begin(0)
    file = logger._file
    told.on_interrupt()
    assert file is not None
    assert file.closed
