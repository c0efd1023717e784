"""Checkpoints in Orbax's form: written while training goes on, each device its own part, restored onto any mesh."""

import base64
import binascii
import importlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp

from tally.accounting.ledger import Ledger
from tally.core.errors import SavingError
from tally.formats import orbax as form
from tally.formats.tensor import Contents
from tally.saving.arrays import Place, Places, assign, built_optimizer, places_of
from tally.saving.matching import Renaming, compare, left_out, refuse, rename_all, tell
from tally.saving.outcome import Left, Match, Report
from tally.saving.safetensors import LEDGER

_ITEM = "state"
_FACTS = "tally.state"
_RUN = "tally.run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says of itself.

    Args:
        step: Its number.
        epoch: How many epochs were done; what `fit` takes as `initial_epoch` to go on.
        metrics: The values that were given with it.
        report: What `restore` set and what it left out; it prints as tables.
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]
    report: Report


def _library() -> Any:
    """Orbax, loaded when it is needed; nothing else of this library asks for it."""
    try:
        return importlib.import_module("orbax.checkpoint")
    except ModuleNotFoundError as error:
        raise SavingError(
            "Checkpoints in Orbax's form need the package orbax-checkpoint, which isn't installed.",
            do="pip install tally-nn[orbax]; or save to a .keras, .weights.h5 or .safetensors file",
        ) from error


_writing: dict[int, Any] = {}
"""Orbax's managers that may be writing in the background, by their identity: held so that none is lost meanwhile."""
_at_exit: bool | None = None
"""Whether the interpreter waits for them; None before it was asked to."""


def _is_waited_for() -> bool:
    """Let the interpreter finish what is being saved before it ends; tell whether it does.

    Orbax writes with executors, which take no more work as soon as `threading` shuts down; `atexit` comes after that,
    and so does the end of any thread of one's own. Only the hook by which the executors themselves are told, called in
    reverse order, comes before.
    """
    global _at_exit
    if _at_exit is None:
        register = getattr(threading, "_register_atexit", None)
        if register is not None:
            importlib.import_module("concurrent.futures.thread")  # its hook must be there before this one
            register(_finish)
        _at_exit = register is not None
    return _at_exit


def _finish() -> None:
    """Wait for all managers; what goes wrong with one is told and keeps none of the others from ending."""
    while _writing:
        _, manager = _writing.popitem()
        try:
            manager.wait_until_finished()
        except Exception:
            sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]


class CheckpointManager:
    """The checkpoints of a run in one folder: saved in the background, the oldest removed, restored on any mesh.

    A checkpoint has the weights under the paths of the account, the states of random generators, what the optimizer
    keeps, the account itself, and where `fit` stood. An array that is spread over devices is written by each of them.

    Args:
        directory: The folder; it is made.
        max_to_keep: How many checkpoints stay, the newest; None keeps all.
        save_on_background: Whether `save` returns as soon as the values are copied. The next save waits for the last,
            and so do `wait` and the end of the program.

    Raises:
        SavingError: The package orbax-checkpoint isn't installed.

    Example:
        >>> model = tally.Sequential([tally.Input((2,)), tally.layers.Dense(1)])
        >>> with tally.saving.CheckpointManager("checkpoints", max_to_keep=2) as checkpoints:
        ...     for step in (10, 20, 30):
        ...         checkpoints.save(model, step)
        ...     checkpoints.wait()
        ...     checkpoints.steps, checkpoints.restore(model).step
        ([20, 30], 30)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        max_to_keep: int | None = None,
        save_on_background: bool = True,
    ) -> None:
        self._orbax = _library()
        self.directory = Path(directory).resolve()
        self.save_on_background = save_on_background
        self._manager = self._orbax.CheckpointManager(
            self.directory,
            options=self._orbax.CheckpointManagerOptions(
                max_to_keep=max_to_keep, enable_async_checkpointing=save_on_background
            ),
        )

    @property
    def steps(self) -> list[int]:
        """The numbers of the checkpoints that are there, in order."""
        return sorted(int(step) for step in self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """The number of the newest checkpoint; None where there is none."""
        return max(self.steps, default=None)

    def save(
        self,
        model: Any,
        step: int,
        *,
        epoch: int = 0,
        metrics: Mapping[str, float] | None = None,
        save_weights_only: bool = False,
    ) -> None:
        """Save a model as the checkpoint of a step; one that is there is replaced.

        Args:
            model: A built model.
            step: The checkpoint's number.
            epoch: How many epochs are done.
            metrics: Values to remember with it.
            save_weights_only: Whether to leave out the optimizer and the states of random generators.

        Raises:
            SavingError: The model isn't built.
        """
        model.materialize()
        held = places_of(model)
        if not held.weights:
            raise SavingError(f"'{model.name}' has no weights to save: it has not seen an input shape yet.")
        rest = () if save_weights_only else (*held.seeds.values(), *held.optimizer)
        tree = {place.path: _array(place) for place in (*held.weights.values(), *rest)}
        said = {
            LEDGER: model.account().to_json(),
            _FACTS: {
                "step": step,
                "epoch": epoch,
                "metrics": {k: float(v) for k, v in (metrics or {}).items()},
            },
        }
        run = None if save_weights_only else _run_of(model)
        if run is not None:
            said[_RUN] = base64.b64encode(run).decode("ascii")
        self.wait()
        if step in self.steps:
            self._manager.delete(step)
        arguments = self._orbax.args
        self._manager.save(
            step,
            args=arguments.Composite(**{_ITEM: arguments.PyTreeSave(tree)}),
            custom_metadata=said,
            force=True,
        )
        if not self.save_on_background:
            return
        for key in [key for key, one in _writing.items() if not one.is_saving_in_progress()]:
            del _writing[key]
        if _is_waited_for():
            _writing[id(self._manager)] = self._manager
        else:
            self.wait()

    def restore(
        self,
        model: Any,
        step: int | None = None,
        *,
        shardings: Callable[[Any], Any] | None = None,
        skip_mismatch: bool = False,
        name_map: Renaming = None,
    ) -> Checkpoint:
        """Set a model to what a checkpoint has; the next `fit` with its epoch as `initial_epoch` goes on from there.

        Args:
            model: A built model; its optimizer is built if the checkpoint has one's state.
            step: Which checkpoint; the newest unless given.
            shardings: A function `variable -> jax.sharding.Sharding` that says where the values go. Unless given, they
                go where the variable's values are, or onto the default device.
            skip_mismatch: Leave what doesn't fit as it is, with a warning, instead of refusing.
            name_map: Names in the checkpoint -> paths in the model, or None to leave out; with these a state of the
                optimizer that doesn't fit, too.

        Raises:
            SavingError: There is no such checkpoint, or it doesn't fit the model; then nothing is changed.
            BadFileError: The checkpoint is broken.
        """
        self.wait()
        step = self.latest_step if step is None else step
        if step is None or step not in self.steps:
            what = "is no checkpoint" if step is None else f"is no checkpoint of step {step}"
            known = ", ".join(map(str, self.steps)) or "none"
            raise SavingError(f"There {what} in {self.directory}.", do=f"the steps there are {known}")
        folder = self.directory / str(step)
        report, contents = restore_folder(
            model, folder, shardings=shardings, skip_mismatch=skip_mismatch, name_map=name_map
        )
        said = _said(contents)
        _hand_back(model, said, folder)
        found: Any = said.get(_FACTS)
        facts = found if isinstance(found, Mapping) else {}
        epoch, metrics = facts.get("epoch"), facts.get("metrics")
        return Checkpoint(
            step=step,
            epoch=epoch if isinstance(epoch, int) else 0,
            metrics=dict(metrics) if isinstance(metrics, Mapping) else {},
            report=tell(report, level=2),
        )

    def wait(self) -> None:
        """Wait until what is being saved is complete."""
        try:
            self._manager.wait_until_finished()
        finally:
            _writing.pop(id(self._manager), None)

    def close(self) -> None:
        """Wait, and let go of the folder."""
        try:
            self._manager.close()
        finally:
            _writing.pop(id(self._manager), None)

    def __enter__(self) -> "CheckpointManager":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _array(place: Place) -> Any:
    return place.variable.raw[place.index] if place.blocks else place.variable.raw


def _run_of(model: Any) -> bytes | None:
    """Where the `fit` stands that this is saved in; None outside of one."""
    run = getattr(getattr(model, "_trainer", None), "run", None)
    return None if run is None else run.dump(callbacks=False)


def _hand_back(model: Any, said: Mapping[str, Any], folder: Path) -> None:
    trainer = getattr(model, "_trainer", None)
    if trainer is None or not trainer.compiled or not isinstance(said.get(_RUN), str):
        return
    try:
        trainer.left_off = base64.b64decode(said[_RUN], validate=True), folder
    except binascii.Error:
        raise SavingError(f"{folder} doesn't say where the run stood, as it claims to.") from None


def _said(contents: Contents) -> Mapping[str, Any]:
    said = contents.metadata.get("custom_metadata")
    return said if isinstance(said, Mapping) else {}


# -- restoring -----------------------------------------------------------------------------------------------------
def is_checkpoint(path: Path) -> bool:
    """Tell whether a path is a folder that Orbax wrote."""
    return form.matches(path)


def restore_folder(
    model: Any,
    folder: Path,
    *,
    shardings: Callable[[Any], Any] | None = None,
    skip_mismatch: bool = False,
    name_map: Renaming = None,
) -> tuple[Report, Contents]:
    """Set a model to what the checkpoint in a folder has; of a row of steps, the newest.

    Returns:
        What was set and what was left out, and what the checkpoint's headers say.

    Raises:
        SavingError: It doesn't fit; then nothing is changed.
        BadFileError: It is broken.
    """
    contents = form.read(folder)
    tensors = {tensor.name: tensor for tensor in contents.tensors}
    states = _states(contents)
    aside = [name for name, state in states.items() if state == "optimizer" and name in tensors]
    seeds = {name for name, state in states.items() if state == "seed" and name in tensors}
    held = places_of(model)
    rest = {name for name, tensor in tensors.items() if tensor.role in ("optimizer", "seed", "other")}
    skipped = {*aside, *seeds, *(rest if not states else ())}
    shapes = {name: tensor.shape for name, tensor in tensors.items() if name not in skipped}
    stored, dropped = rename_all(shapes, name_map, folder), left_out(shapes, name_map)
    comparison = compare(
        {path: place.shape for path, place in held.weights.items()},
        {path: tensors[name].shape for path, name in stored.items()},
    )
    if not comparison.fits and not skip_mismatch:
        raise refuse(comparison, folder, model.name)
    with built_optimizer(model, bool(aside)) as held:
        wanted = {
            stored[path]: place
            for path, place in held.weights.items()
            if path in stored and tensors[stored[path]].shape == place.shape
        }
        wanted |= {name: held.seeds[name] for name in seeds if name in held.seeds}
        is_lenient = skip_mismatch or bool(dropped)
        wanted |= _optimizer(model, held, [tensors[name] for name in aside], folder, is_lenient)
        values = _read(folder, contents, {n: (p, tensors[n].shape) for n, p in wanted.items()}, shardings)
    assign((place, lambda name=name: values.pop(name)) for name, place in wanted.items())
    matched = tuple(
        Match(path=place.path, shape=place.shape, sources=(name,)) for name, place in wanted.items()
    )
    report = comparison.report(folder, model.name, matched, left_out=dropped)
    states = [
        Left(name=name, shape=tensors[name].shape, why="the model's optimizer has another state")
        for name in aside
        if held.optimizer and name not in wanted
    ]
    return replace(report, left=(*report.left, *states)), contents


def _states(contents: Contents) -> dict[str, str]:
    """What each array is by the account that the checkpoint brings along."""
    try:
        ledger = Ledger.from_json(_said(contents)[LEDGER])
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return {entry.path: entry.state for entry in ledger.entries}


def _optimizer(model: Any, held: Places, kept: list[Any], folder: Path, is_lenient: bool) -> dict[str, Place]:
    """Which arrays go into the optimizer: by order, since their names follow the process."""
    if not kept or not held.optimizer:
        return {}
    if [tensor.shape for tensor in kept] == [place.shape for place in held.optimizer]:
        return {tensor.name: place for tensor, place in zip(kept, held.optimizer, strict=True)}
    if is_lenient:
        return {}
    raise SavingError(
        f"The optimizer's state in {folder} doesn't fit '{model.name}': it has {len(kept):,} arrays, the model's has "
        f"{len(held.optimizer):,}, or they have other shapes.",
        do="compile with the optimizer it was saved with, or pass skip_mismatch=True; nothing was changed",
    )


def _read(
    folder: Path,
    contents: Contents,
    wanted: Mapping[str, tuple[Place, tuple[int, ...]]],
    shardings: Callable[[Any], Any] | None,
) -> dict[str, Any]:
    """The values, straight onto the devices they belong to."""
    orbax = _library()
    types = {tensor.name: tensor.dtype for tensor in contents.tensors}
    target = {
        name: jax.ShapeDtypeStruct(shape, jnp.dtype(types[name]), sharding=_sharding(place, shardings))
        for name, (place, shape) in wanted.items()
    }
    item = _item(folder, contents)
    with orbax.PyTreeCheckpointer() as reader:
        return reader.restore(
            item,
            args=orbax.args.PyTreeRestore(
                item=target,
                restore_args=orbax.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )


def _sharding(place: Place, shardings: Callable[[Any], Any] | None) -> Any:
    default = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if place.blocks:  # one of several that share an array, which are put together first
        return default
    if shardings is not None:
        return shardings(place.variable)
    return default if place.variable.is_planned else place.variable.raw.sharding


def _item(folder: Path, contents: Contents) -> Path:
    """The folder that holds the arrays themselves: the one of the item, of the newest step."""
    step = contents.metadata.get("step")
    here = folder / str(step) if step is not None and (folder / str(step)).is_dir() else folder
    return here / _ITEM if (here / _ITEM).is_dir() else here
