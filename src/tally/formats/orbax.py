"""Orbax checkpoints: the tree of arrays, each array's shape, type and chunks, in one store or a folder each."""

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tally.formats.errors import BadFileError
from tally.formats.json_text import parse_json
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.ocdbt import MANIFEST, Store
from tally.formats.tensor import Contents, Role, Tensor
from tally.formats.window import opened
from tally.formats.zarr import DESCRIPTIONS, Described, read_description

_TREE = "_METADATA"
_CHECKPOINT = "_CHECKPOINT_METADATA"
_SHARDING = "_sharding"
_ARRAYS = "array_metadatas"
_UNFINISHED = ".orbax-checkpoint-tmp"
_STEP = re.compile(r"(?:[A-Za-z_.-]*_)?(\d{1,18})")
_CHUNK = re.compile(r"/(c(/\d{1,18})*|\d{1,18}([./]\d{1,18})*)$")
"""What is added to an array's name for one of its chunks, in either version of Zarr."""
_NO_CHUNKS = (*DESCRIPTIONS, ".zattrs", ".zgroup")
_NO_ARRAYS = ("string", "None", "Dict", "List", "Tuple", "NamedTuple")

_OPTIMIZER = ("opt_state", "optimizer", "optimizer_state", "opt_states", "opt", "ema_state")
_STATE = ("batch_stats", "batch_statistics", "mean_var", "cache", "mutable", "non_trainable_variables")
_SEED = ("rng", "rngs", "prng", "key", "keys", "random_key", "seed_generator_state")
_STATISTICS = ("mean", "var", "moving_mean", "moving_variance", "running_mean", "running_var")
_COUNTER = ("step", "steps", "count", "counter", "epoch", "iteration")


@dataclass(slots=True)
class _Leaf:
    """One array of the tree, with all that is said of it."""

    path: tuple[str, ...]
    described: Described | None = None
    packed: int = 0
    is_key: bool = False
    sharding: str = ""
    notes: list[str] = field(default_factory=list[str])


def matches(path: Path) -> bool:
    """Tell whether a folder is an Orbax checkpoint, a step of several parts, or a row of steps."""
    if not path.is_dir():
        return False
    is_step = _is_item(path) or (path / _CHECKPOINT).is_file()
    return is_step or _newest(path)[0] is not None or _unfinished(path) is not None


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read the arrays of a checkpoint without their data; of a row of steps the last one.

    Args:
        path: The folder of a checkpoint, of a step, or of all steps.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is no checkpoint, or one of its parts is broken or names a file outside of it.
    """
    if not path.is_dir():
        raise BadFileError(path, "is no folder, as a checkpoint of Orbax is")
    notes: list[str] = []
    step, others = (None, 0) if _is_item(path) or (path / _CHECKPOINT).is_file() else _newest(path)
    if step is not None:
        notes.append(
            f"The checkpoint of step {_step(step)}"
            + (f"; {others:,} others are beside it." if others else ".")
        )
    folder = step or path
    if _UNFINISHED in folder.name:
        notes.append("The checkpoint was not finished when it was written.")
    begun = _unfinished(folder)
    items = [folder] if _is_item(folder) else [part for part in _folders(folder, limits) if _is_item(part)]
    if not items and begun is not None:
        raise BadFileError(
            folder,
            f"holds only '{begun}', a checkpoint that was not finished",
            do="wait for it, if it is still being written; what writes it should wait before it ends",
        )
    if not items:
        raise BadFileError(folder, "holds no arrays that a checkpoint of Orbax has")
    files: dict[Path, None] = {}
    metadata: dict[str, Any] = {}
    if (folder / _CHECKPOINT).is_file():
        said = _read_json(folder / _CHECKPOINT, limits, files)
        metadata.update(
            (name, said[name]) for name in ("item_handlers", "metrics", "custom_metadata") if name in said
        )
    if step is not None:
        metadata["step"] = _step(step)
    tensors: list[Tensor] = []
    for item in items:
        prefix = (item.name,) if len(items) > 1 else ()
        found = _Item(item, limits, files)
        tensors.extend(found.tensors(prefix))
        notes.extend(found.notes)
    return Contents(
        format="Orbax",
        tensors=checked(tensors, folder, limits),
        metadata=metadata,
        files=tuple(files),
        notes=tuple(notes),
    )


def _unfinished(folder: Path) -> str | None:
    """The name of a checkpoint in a folder that was begun and not finished."""
    try:
        with os.scandir(folder) as found:
            return next((entry.name for entry in found if _UNFINISHED in entry.name), None)
    except OSError:
        return None


def _is_item(folder: Path) -> bool:
    """Tell whether a folder holds arrays itself."""
    return any((folder / name).is_file() for name in (_TREE, MANIFEST)) or (
        (folder / _SHARDING).is_file() and (folder / _ARRAYS).is_dir()
    )


def _folders(folder: Path, limits: Limits) -> list[Path]:
    """Return the folders in a folder, by name, none of them a link."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise BadFileError(folder, f"can't be read: {error.strerror or error}") from None
    if len(names) > limits.tensors:
        raise BadFileError(folder, f"holds more than {limits.tensors:,} folders")
    return [folder / name for name in sorted(names)]


def _size_of_chunks(folder: Path, limits: Limits) -> int:
    """The bytes of the files with an array's data, by what the folder says of them; no link is followed."""
    total, count, waiting = 0, 0, [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        with os.scandir(here) as found:
            for entry in found:
                count += 1
                if count > limits.tensors or depth > limits.rank:
                    raise BadFileError(folder, f"holds more than {limits.tensors:,} chunks, or too deep")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((here / entry.name, depth + 1))
                elif entry.is_file(follow_symlinks=False) and entry.name not in _NO_CHUNKS:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _step(folder: Path) -> int:
    found = _STEP.fullmatch(folder.name)
    return int(found[1]) if found else -1


def _newest(folder: Path) -> tuple[Path | None, int]:
    """Return the last finished step in a folder of steps, and how many others there are."""
    try:
        steps = [part for part in _folders(folder, LIMITS) if _step(part) >= 0]
    except BadFileError:
        return None, 0
    for step in sorted(steps, key=_step, reverse=True):
        inside = (part for part in _folders(step, LIMITS))
        if _is_item(step) or (step / _CHECKPOINT).is_file() or any(map(_is_item, inside)):
            return step, len(steps) - 1
    return None, 0


def _read_bytes(path: Path, limits: Limits, files: dict[Path, None]) -> bytes:
    if path.is_symlink():
        raise BadFileError(path, "is a link, maybe to something that is no part of the checkpoint")
    with opened(path) as window:
        if window.size > limits.header:
            raise BadFileError(path, f"has {window.size:,} bytes, more than {limits.header:,}")
        files.setdefault(path)
        return window.take(window.size)


def _read_json(path: Path, limits: Limits, files: dict[Path, None]) -> dict[str, Any]:
    """Read a file that holds an object of JSON."""
    return _object(parse_json(_read_bytes(path, limits, files), path, limits=limits), path, "")


def _object(value: Any, file: Path, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadFileError(file, f"has {str(value)[:40]!r} where an object belongs", place=place)
    return cast("dict[str, Any]", value)


def _list(value: Any, file: Path, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadFileError(file, f"has {str(value)[:40]!r} where a list belongs", place=place)
    return cast("list[Any]", value)


class _Item:
    """One tree of arrays while it is read."""

    def __init__(self, folder: Path, limits: Limits, files: dict[Path, None]) -> None:
        self.folder, self.limits, self.files = folder, limits, files
        self.notes: list[str] = []
        self.leaves: dict[str, _Leaf] = {}
        self.has_params = False

    def tensors(self, prefix: tuple[str, ...]) -> Iterator[Tensor]:
        """Put together what the tree, the store and the shardings say, and yield the arrays."""
        has_tree = (self.folder / _TREE).is_file()
        if has_tree:
            self._read_tree()
        packed: dict[str, int] = {}
        for name, described in self._described(packed):
            leaf = self.leaves.get(name)
            if leaf is None:
                leaf = self.leaves[name] = _Leaf(tuple(name.split(".")))
                if has_tree:
                    leaf.notes.append("The tree of the checkpoint doesn't name it.")
            leaf.described = described
        for name, size in packed.items():
            if name in self.leaves:
                self.leaves[name].packed = size
        total = sum(leaf.packed for leaf in self.leaves.values())
        if total:
            self.notes.append(f"Its arrays take {total:,} bytes on disk, packed.")
        self._read_arrays()
        self._read_shardings()
        values = list(self.leaves.values())
        wrapped = bool(values) and all(len(leaf.path) > 1 and leaf.path[-1] == "value" for leaf in values)
        self.has_params = any(leaf.path[0] == "params" for leaf in values)
        for name, leaf in self.leaves.items():
            if leaf.described is None:
                raise BadFileError(
                    self.folder, "is in the tree, and not stored", place=f"array {name[:80]!r}"
                )
            path = leaf.path[:-1] if wrapped else leaf.path
            yield self._tensor(leaf, leaf.described, (*prefix, *path))

    def _read_tree(self) -> None:
        """Read which leaves the tree has; those that hold no array are passed over."""
        file = self.folder / _TREE
        tree = _object(_read_json(file, self.limits, self.files).get("tree_metadata"), file, "tree_metadata")
        if len(tree) > self.limits.tensors:
            raise BadFileError(file, f"names more than {self.limits.tensors:,} arrays")
        for place, leaf in tree.items():
            held = _object(leaf, file, place[:80])
            value = _object(held.get("value_metadata"), file, place[:80])
            if value.get("skip_deserialize") is True or value.get("value_type") in _NO_ARRAYS:
                continue
            keys = [
                _object(key, file, place[:80]) for key in _list(held.get("key_metadata"), file, place[:80])
            ]
            path = tuple(str(key.get("key")) for key in keys)
            if not path or len(path) > self.limits.depth:
                raise BadFileError(file, f"names an array by {len(path):,} parts", place=place[:80])
            name = ".".join(path)
            if name in self.leaves:
                raise BadFileError(file, "is named twice", place=f"array {name[:80]!r}")
            self.leaves[name] = _Leaf(path)

    def _described(self, packed: dict[str, int]) -> Iterator[tuple[str, Described]]:
        """Yield each array's name in the store, and its description; add up what its chunks take."""
        if (self.folder / MANIFEST).is_file():
            store = Store(self.folder, self.limits)
            for value in store.values():
                name, _, last = value.key.rpartition("/")
                if last in DESCRIPTIONS:
                    place = f"key {value.key[:80]!r}"
                    yield name, read_description(store.read(value), self.folder, place, self.limits)
                else:
                    name = _CHUNK.sub("", value.key)
                    packed[name] = packed.get(name, 0) + value.size
            self.files.update(store.files)
            return
        for folder in _folders(self.folder, self.limits):
            for name in DESCRIPTIONS:
                file = folder / name
                if file.is_file() and not file.is_symlink():
                    text = _read_bytes(file, self.limits, self.files)
                    packed[folder.name] = _size_of_chunks(folder, self.limits)
                    yield folder.name, read_description(text, file, "", self.limits)
                    break

    def _read_arrays(self) -> None:
        """Read which arrays are keys of random numbers."""
        folder = self.folder / _ARRAYS
        if not folder.is_dir():
            return
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found if entry.is_file(follow_symlinks=False))
        for name in names[: self.limits.files]:
            file = folder / name
            for one in _list(_read_json(file, self.limits, self.files).get("array_metadatas"), file, ""):
                held = _object(_object(one, file, "").get("array_metadata"), file, "")
                said, leaf = held.get("ext_metadata"), self.leaves.get(str(held.get("param_name")))
                if leaf is not None and isinstance(said, dict):
                    leaf.is_key = "random_key_impl" in said

    def _read_shardings(self) -> None:
        """Read over which devices each array was spread."""
        file = self.folder / _SHARDING
        if not file.is_file():
            return
        for coded, text in _read_json(file, self.limits, self.files).items():
            try:
                name = base64.b64decode(coded, validate=True).decode()
            except ValueError:
                raise BadFileError(file, f"has the name {coded[:40]!r}, which isn't one in base 64") from None
            leaf = self.leaves.get(name)
            if leaf is not None and isinstance(text, str):
                said = _object(parse_json(text, file, name[:80], self.limits), file, name[:80])
                leaf.sharding = _sharding(said)

    def _tensor(self, leaf: _Leaf, described: Described, path: tuple[str, ...]) -> Tensor:
        notes = list(leaf.notes)
        if described.chunks > 1:
            notes.append(f"It is stored in {described.chunks:,} chunks.")
        if leaf.sharding:
            notes.append(leaf.sharding)
        return Tensor(
            name="/".join(path),
            shape=described.shape,
            dtype=described.dtype,
            stored=described.nbytes,
            packed=leaf.packed or None,
            role=_role(leaf, described, path, self.has_params),
            notes=tuple(notes),
        )


def _sharding(said: dict[str, Any]) -> str:
    """Say how an array was spread over a mesh; nothing of one that was on a single device."""
    spec, shape, names = said.get("partition_spec"), said.get("shape"), said.get("axis_names")
    if not all(isinstance(part, list) for part in (spec, shape, names)) or len(str(said)) > 1_000_000:
        return ""
    sides = (
        f"{name} {size}"
        for name, size in zip(cast("list[Any]", names), cast("list[Any]", shape), strict=False)
    )
    axes = ", ".join(str(axis) if axis else "whole" for axis in cast("list[Any]", spec))
    return f"It was sharded by ({axes}) over a mesh of {' × '.join(sides)}."[:400] if axes else ""


def _role(leaf: _Leaf, described: Described, path: tuple[str, ...], beside_params: bool) -> Role:
    """Tell what an array is to the model, by the names on its way, and by whether the tree keeps weights apart."""
    parts = [part.lower() for part in path]
    if any(part in _OPTIMIZER for part in parts):
        return "optimizer"
    if leaf.is_key or (described.dtype.startswith("uint") and any(part in _SEED for part in parts)):
        return "seed"
    if any(part in _STATE for part in parts) or (len(parts) > 1 and parts[-1] in _STATISTICS):
        return "state"
    if "params" in parts:
        return "weight"
    if beside_params and not described.shape:
        # How far the training is, which is no layer's, as the other format of Flax has it.
        return "optimizer" if len(parts) == 1 and parts[0] in _COUNTER else "other"
    whole = described.dtype.startswith(("int", "uint", "bool"))
    if whole or (parts[-1] in _COUNTER and not described.shape):
        return "other"
    return "weight"
