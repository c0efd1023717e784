"""Checkpoints in Orbax's form: written while training goes on, each device its own part, restored onto any mesh."""

import base64
import binascii
import importlib
import os
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
from tally.saving.arrays import Place, Places, assign, places_of
from tally.saving.matching import Renaming, compare, refuse, rename_all
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
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]


def _library() -> Any:
    """Orbax, loaded when it is needed; nothing else of this library asks for it."""
    try:
        return importlib.import_module("orbax.checkpoint")
    except ModuleNotFoundError as error:
        raise SavingError(
            "Checkpoints in Orbax's form need the package orbax-checkpoint, which isn't installed.",
            do="pip install tally-nn[orbax]; or save to a .keras, .weights.h5 or .safetensors file",
        ) from error


class CheckpointManager:
    """The checkpoints of a run in one folder: saved in the background, the oldest removed, restored on any mesh.

    A checkpoint has the weights under the paths of the account, the states of random generators, what the optimizer
    keeps, the account itself, and where `fit` stood. An array that is spread over devices is written by each of them.

    Args:
        directory: The folder; it is made.
        max_to_keep: How many checkpoints stay, the newest; None keeps all.
        save_on_background: Whether `save` returns as soon as the values are copied. The next save waits for the last,
            and so does `wait`.

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
            skip_mismatch: Leave what doesn't fit as it is instead of refusing.
            name_map: Names in the checkpoint -> paths in the model.

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
        _, contents = restore_folder(
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
        )

    def wait(self) -> None:
        """Wait until what is being saved is complete."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let go of the folder."""
        self._manager.close()

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
    stored = rename_all((name for name in tensors if name not in skipped), name_map, folder)
    comparison = compare(
        {path: place.shape for path, place in held.weights.items()},
        {path: tensors[name].shape for path, name in stored.items()},
    )
    if not comparison.fits and not skip_mismatch:
        raise refuse(comparison, folder, model.name)
    optimizer = getattr(model, "optimizer", None)
    if aside and optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
        held = places_of(model)
    wanted = {
        stored[path]: place
        for path, place in held.weights.items()
        if path in stored and tensors[stored[path]].shape == place.shape
    }
    wanted |= {name: held.seeds[name] for name in seeds if name in held.seeds}
    wanted |= _optimizer(model, held, [tensors[name] for name in aside], folder, skip_mismatch)
    values = _read(folder, contents, {n: (p, tensors[n].shape) for n, p in wanted.items()}, shardings)
    assign((place, lambda name=name: values.pop(name)) for name, place in wanted.items())
    matched = tuple(
        Match(path=place.path, shape=place.shape, sources=(name,)) for name, place in wanted.items()
    )
    report = comparison.report(folder, model.name, matched)
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


def _optimizer(
    model: Any, held: Places, kept: list[Any], folder: Path, skip_mismatch: bool
) -> dict[str, Place]:
    """Which arrays go into the optimizer: by order, since their names follow the process."""
    if not kept or not held.optimizer:
        return {}
    if [tensor.shape for tensor in kept] == [place.shape for place in held.optimizer]:
        return {tensor.name: place for tensor, place in zip(kept, held.optimizer, strict=True)}
    if skip_mismatch:
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
