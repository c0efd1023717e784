"""Keras 3's weights in several files: `model.weights.json` says in which of the files beside it each layer's are."""

import json
from collections.abc import Container, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tally.core.errors import SavingError
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.formats import keras_shards as form
from tally.formats.hdf5 import read_tree
from tally.formats.keras_shards import read_names, read_shards
from tally.formats.window import opened
from tally.saving.files import numbers_in, replace_file, written_hdf5
from tally.saving.matching import Renaming
from tally.saving.opening import telling_damage
from tally.saving.outcome import Report
from tally.saving.several import WRITE, FileSet, bytes_in, share_out
from tally.saving.weights import group_of, make_group, own_values, places, read_weights, write_array

if TYPE_CHECKING:
    import h5py

_USUAL = 5
"""GiB of one file, unless it is said; as in Keras."""


class KerasFiles(FileSet):
    """The files of a model's weights, named as Keras does it; with a tag before the number where those names are taken.

    Keras opens the file with the number 0 before it asks the index, so there always is one: an empty one where the
    weights lie in files with a tag.
    """

    named_so = "{stem}_{tag}{number:05}.weights.h5"
    known_by = r"{stem}_(?:(?P<tag>[0-9a-f]{{8}})_)?\d{{5}}\.weights\.h5"
    between, first = "_", 0

    def __init__(self, index: Path) -> None:
        super().__init__(index)
        self._zero = self.named_so.format(stem=self.stem, tag="", number=0)
        self.kept = frozenset({self._zero})

    @property
    def stem(self) -> str:
        """What all names begin with."""
        return self.index.stem.replace(".weights", "")

    def listed(self) -> set[str]:
        """The names that the index has."""
        return {name for names in read_names(self.index)[1].values() for name in names}

    def token_of(self, path: Path) -> str | None:
        """The word that the outermost group says."""
        with opened(path) as window:
            token = read_tree(window).groups.get("", {}).get(WRITE)
        return token if isinstance(token, str) else None

    def before(self) -> None:
        """See to it that there is a file with the number 0."""
        if not (self.folder / self._zero).exists():
            self._write_zero()

    def after(self, names: Sequence[str], old: Container[str]) -> None:
        """Empty the file with the number 0, if it was the old set's; if that fails, nothing is amiss but the room."""
        if self._zero not in names and (self._zero in old or self.is_left(self._zero)):
            with suppress(SavingError):
                self._write_zero()

    def _write_zero(self) -> None:
        with replace_file(self.folder / self._zero, overwrite=True) as part, written_hdf5(part):
            pass


class _Piece(NamedTuple):
    """One array to write: the place of what it belongs to, that, its name there, and it."""

    path: str
    thing: Any
    key: str
    value: Any


def save_sharded(
    model: Layer, path: Path, *, overwrite: bool = True, max_shard_size: float | str | None = None
) -> None:
    """Write a model's weights to several files that Keras 3 reads, too.

    Args:
        model: A built layer or model.
        path: The index; ends in `.weights.json`.
        overwrite: Whether one that is there may be replaced. Its files stay until all new ones are complete.
        max_shard_size: The most that one file holds: a number of GiB, as in Keras, or a text such as `"500MB"`; an
            array that is larger has a file of its own.

    Raises:
        SavingError: The size is none, or the files can't be written.
    """
    model.materialize()
    pieces = [
        _Piece(place, thing, key, value)
        for place, thing in places(model)
        for key, value in own_values(thing).items()
    ]
    if not pieces:
        raise SavingError(f"'{model.name}' has no weights to save: it has not seen an input shape yet.")
    parts = share_out(pieces, _size, bytes_in(_USUAL if max_shard_size is None else max_shard_size, "GiB"))

    def write_file(number: int, file: Path, token: str) -> None:
        with written_hdf5(file) as hdf5:
            hdf5.attrs[WRITE] = token
            groups: dict[str, h5py.Group] = {}
            for piece in parts[number]:
                if piece.path not in groups:
                    groups[piece.path] = make_group(hdf5, piece.path, piece.thing)
                write_array(groups[piece.path], piece.key, piece.value)

    def write_index(file: Path, names: Sequence[str], token: str) -> None:
        placed: dict[str, list[str]] = {}
        for name, part in zip(names, parts, strict=True):
            for group in dict.fromkeys(f"/{group_of(piece.path)}" for piece in part):
                placed.setdefault(group, []).append(name)
        index = {
            "metadata": {"total_size": sum(map(_size, pieces)), WRITE: token},
            "weight_map": {group: found if len(found) > 1 else found[0] for group, found in placed.items()},
        }
        file.write_text(json.dumps(index, indent=4), encoding="utf-8")

    KerasFiles(path).write(len(parts), write_file, write_index, overwrite=overwrite)


def _size(piece: _Piece) -> int:
    if isinstance(piece.value, Variable):
        return int(np.prod(piece.value.shape, dtype=np.int64)) * np.dtype(piece.value.dtype).itemsize
    return np.asarray(piece.value).nbytes


class _Several:
    """The files of a model as one, for reading."""

    def __init__(self, shards: form.Shards, open_files: "dict[str, h5py.File]") -> None:
        self.shards, self.open_files = shards, open_files

    def numbers(self, path: str) -> "dict[str, h5py.Dataset]":
        """The arrays of a place, looked at but not read; none where it has none."""
        group = group_of(path)
        found: dict[str, h5py.Dataset] = {}
        for name in self.shards.placed.get(group, ()):
            found |= numbers_in(self.open_files[name], group, self.shards.files[name])
        return found

    def groups(self) -> list[str]:
        """The places that have arrays."""
        return [group.removesuffix("vars").rstrip("/") for group in self.shards.placed]


def load_sharded(
    model: Layer, path: Path, *, skip_mismatch: bool = False, name_map: Renaming = None
) -> Report:
    """Read weights from several files that Keras 3 or this library wrote.

    Args:
        model: A built layer or model.
        path: The index.
        skip_mismatch: Leave layers that don't fit as they are.
        name_map: Places in the files -> places or paths in the model.

    Returns:
        What was loaded and what was left out.

    Raises:
        SavingError: They don't fit the model, or weren't written together; then nothing is changed.
        BadFileError: The index or a file is broken or hostile.
    """
    import h5py

    with telling_damage(), ExitStack() as stack:
        shards = read_shards(path)  # before the HDF5 library sees any of them
        _check_together(shards, path)
        files = {name: stack.enter_context(h5py.File(file, "r")) for name, file in shards.files.items()}
        several = _Several(shards, files)
        return read_weights(several, model, source=path, skip_mismatch=skip_mismatch, name_map=name_map)


def _check_together(shards: form.Shards, path: Path) -> None:
    """Refuse files of two saves, as copying one of them would leave."""
    said = shards.said.get(WRITE)
    for name, tree in shards.trees.items():
        if said is not None and tree.groups.get("", {}).get(WRITE) != said:
            raise SavingError(f"{name} was not written together with {path.name}.", do="save the model again")
