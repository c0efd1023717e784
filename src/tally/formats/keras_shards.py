"""Keras's weights in several files: an index ending in `weights.json`, and HDF5 files beside it.

The index says of each group of arrays in which files they lie; a layer's may be shared out among two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from tally.formats.errors import BadFileError
from tally.formats.hdf5 import Stored, Tree, read_tree
from tally.formats.limits import LIMITS, Limits
from tally.formats.shards import locate, read_map
from tally.formats.window import opened

ENDING = "weights.json"
"""What an index's name ends in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """What an index and the files that it names hold.

    Args:
        said: What the index says of the whole.
        placed: The names of the files that each group's arrays lie in; a group as the files name it, without `/` at
            the beginning.
        files: The path of each of these files.
        trees: What is in each.
    """

    said: Mapping[str, Any]
    placed: Mapping[str, tuple[str, ...]]
    files: Mapping[str, Path]
    trees: Mapping[str, Tree]

    @property
    def whole(self) -> Tree:
        """What is in all of them, as if it were one file."""
        groups: dict[str, dict[str, Any]] = {}
        arrays: dict[str, Stored] = {}
        for name, tree in self.trees.items():
            for group, attributes in tree.groups.items():
                groups.setdefault(group, {}).update(attributes)
            for path, array in tree.arrays.items():
                arrays[path] = replace(array, file=self.files[name])
        notes = tuple(note for tree in self.trees.values() for note in tree.notes)
        return Tree(groups, arrays, (f"{len(self.files):,} files together.", *notes))


def is_index(path: Path) -> bool:
    """Tell whether a path is an index of Keras's, by its name.

    Example:
        >>> is_index(Path("model.weights.json")), is_index(Path("model.json"))
        (True, False)
    """
    return path.name.endswith(ENDING)


def read_names(path: Path, limits: Limits = LIMITS) -> tuple[Mapping[str, Any], dict[str, tuple[str, ...]]]:
    """Read an index: what it says of the whole, and the names of the files of each group.

    Raises:
        BadFileError: It is broken.
    """
    said, listed = read_map(path, limits)
    placed: dict[str, tuple[str, ...]] = {}
    for group, names in listed.items():
        several = cast("list[Any]", names if isinstance(names, list) else [names])
        texts = tuple(name for name in several if isinstance(name, str))
        place = f"weight_map {group[:80]!r}"
        if len(texts) != len(several) or not texts:
            raise BadFileError(path, "is more than names of files", place=place)
        if len(set(texts)) != len(texts):
            raise BadFileError(path, "names a file twice", place=place)
        if group.strip("/") in placed:
            raise BadFileError(path, "is named twice", place=place)
        placed[group.strip("/")] = texts
    if len(names := {name for several in placed.values() for name in several}) > limits.files:
        raise BadFileError(path, f"names {len(names):,} files, more than {limits.files:,}")
    return said, placed


def read_shards(path: Path, limits: Limits = LIMITS) -> Shards:
    """Read the structure of all files that an index names, and hold them against what it says.

    Args:
        path: The index.
        limits: How many files there may be, and how much of each is believed.

    Raises:
        BadFileError: A file is missing, leads out of the folder, or holds other arrays than the index says.
    """
    said, placed = read_names(path, limits)
    files = locate(path, {name for names in placed.values() for name in names})
    trees: dict[str, Tree] = {}
    waiting = {(group, name) for group, names in placed.items() for name in names}
    seen: dict[str, str] = {}
    for name, file in files.items():
        with opened(file) as window:
            trees[name] = read_tree(window, limits)
        for array in trees[name].arrays:
            group, place = array.rpartition("/")[0], f"array {array[:200]!r}"
            if name not in placed.get(group, ()):
                raise BadFileError(file, f"holds an array, but {path.name!r} doesn't say so", place=place)
            if (other := seen.setdefault(array, name)) != name:
                raise BadFileError(file, f"holds an array that {other!r} has, too", place=place)
            waiting.discard((group, name))
        if len(seen) > limits.tensors:
            raise BadFileError(path, f"holds more than {limits.tensors:,} arrays in its files")
    if waiting:
        group, name = min(waiting)
        reason = f"says that {name[:80]!r} holds arrays of {group[:200]!r}, which it doesn't"
        raise BadFileError(path, f"{reason}; {len(waiting):,} such places in all")
    return Shards(said=said, placed=placed, files=files, trees=trees)
