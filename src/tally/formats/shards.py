"""A model in several files, and the index that says which of its arrays is in which."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, cast

from tally.formats.beside import beside
from tally.formats.errors import BadFileError
from tally.formats.json_text import is_whole, parse_json
from tally.formats.limits import LIMITS, Limits
from tally.formats.tensor import Contents, Tensor
from tally.formats.window import opened

INDEX = ".index.json"
"""What an index's name ends in, behind the name that the whole file would have."""

Read: TypeAlias = Callable[[Path, Limits], Contents]
"""Reads one file of a model."""


def is_index(path: Path, ending: str) -> bool:
    """Tell whether a file is an index of files with an ending, by its name.

    Example:
        >>> is_index(Path("model.safetensors.index.json"), ".safetensors")
        False
    """
    return path.name.endswith(ending + INDEX) and path.is_file()


def located(folder: Path, name: str, file: Path) -> Path | None:
    """Return the path of a file in a folder that another file names; None where there is none.

    A link is refused, but for those of the Hub's own cache, whose snapshots are links into its `blobs`.

    Args:
        folder: Where it has to be.
        name: What it is called there.
        file: The file that names it, for the error.

    Raises:
        BadFileError: The name leads out of the folder.
    """
    if os.sep not in name and "/" not in name and name not in ("", ".", ".."):
        path = folder / name
        blobs = folder.parent.parent / "blobs"
        with suppress(OSError, ValueError):  # no name of a file; `beside` says so
            if path.is_symlink() and folder.parent.name == "snapshots":
                blob = Path(os.path.normpath(folder / os.readlink(path)))
                if blob.parent == Path(os.path.normpath(blobs)) and blob.is_file() and not blob.is_symlink():
                    return path
    found = beside(folder, name, f"the file that {file.name} names")
    return None if found is None else found[0]


def read_shards(path: Path, read: Read, limits: Limits = LIMITS) -> Contents:
    """Read all files that an index names, and hold them against what it says.

    Args:
        path: The index.
        read: Reads one of the files.
        limits: How many files there may be, and how long the index.

    Raises:
        BadFileError: A file is missing, leads out of the folder, or holds other arrays than the index says.
    """
    said, placed = read_index(path, limits)
    files = locate(path, placed.values())
    parts = {name: read(file, limits) for name, file in files.items()}
    tensors = [tensor for name, part in parts.items() for tensor in _belonging(part, name, placed, path)]
    missing = placed.keys() - {tensor.name for tensor in tensors}
    if missing:
        first = min(missing)
        reason = f"says that {placed[first][:80]!r} holds {first[:80]!r}, which it doesn't"
        raise BadFileError(path, f"{reason}; {len(missing):,} such arrays in all")
    some = next(iter(parts.values()), None)
    return Contents(
        format=some.format if some is not None else "nothing",
        tensors=tuple(tensors),
        metadata={**(some.metadata if some is not None else {}), **said},
        files=(path, *files.values()),
        notes=(f"{len(files):,} files together.", *_size_note(said, tensors)),
    )


def locate(path: Path, names: Iterable[str]) -> dict[str, Path]:
    """Find the files that an index names, each once and in the order of their names.

    Args:
        path: The index.
        names: What it names.

    Raises:
        BadFileError: One is missing, or leads out of the folder.
    """
    files: dict[str, Path] = {}
    absent: list[str] = []
    for name in sorted(set(names)):
        if (found := located(path.parent, name, path)) is None:
            absent.append(name)
        else:
            files[name] = found
    if absent:
        more = f" and {len(absent) - 3:,} more" if len(absent) > 3 else ""
        shown = ", ".join(repr(name[:80]) for name in absent[:3])
        reason = f"names {shown}{more}, of {len(absent) + len(files):,} files, which aren't there"
        raise BadFileError(path, reason, do="fetch all files of the model into one folder")
    return files


def read_index(path: Path, limits: Limits = LIMITS) -> tuple[dict[str, Any], dict[str, str]]:
    """Read an index: what it says of the whole, and the file of each array.

    Raises:
        BadFileError: It is broken.
    """
    said, placed = read_map(path, limits)
    if not all(isinstance(name, str) for name in placed.values()):
        raise BadFileError(path, "has a weight_map with more than names of files")
    if len(set(placed.values())) > limits.files:
        raise BadFileError(path, f"names {len(placed):,} arrays in {len(set(placed.values())):,} files")
    return said, cast("dict[str, str]", placed)


def read_map(path: Path, limits: Limits = LIMITS) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read an index: what it says of the whole, and its `weight_map`, whatever that holds.

    Raises:
        BadFileError: It is broken.
    """
    with opened(path) as window:
        if window.size > limits.header:
            raise window.bad(f"has {window.size:,} bytes, more than {limits.header:,}")
        document: Any = parse_json(window.take(window.size, "the index"), path, limits=limits)
    if not isinstance(document, dict):
        raise BadFileError(path, "is no index: it is no JSON object")
    index = cast("dict[str, Any]", document)
    placed = index.get("weight_map")
    if not isinstance(placed, dict):
        raise BadFileError(path, "is no index: it has no weight_map")
    placed = cast("dict[str, Any]", placed)
    if len(placed) > limits.tensors:
        raise BadFileError(path, f"names {len(placed):,} arrays, more than {limits.tensors:,}")
    said = index.get("metadata")
    return (cast("dict[str, Any]", said) if isinstance(said, dict) else {}), placed


def _belonging(part: Contents, name: str, placed: Mapping[str, str], path: Path) -> tuple[Tensor, ...]:
    for tensor in part.tensors:
        if placed.get(tensor.name) != name:
            where = placed.get(tensor.name)
            told = f"puts it into {where!r}" if where else "doesn't name it"
            reason = f"holds an array, but the index {path.name!r} {told}"
            raise BadFileError(path.parent / name, reason, place=f"tensor {tensor.name[:80]!r}")
    return part.tensors


def _size_note(said: Mapping[str, Any], tensors: list[Tensor]) -> list[str]:
    """What the index says all arrays take together, where that isn't so; it is often left as it was before a change."""
    claimed, stored = said.get("total_size"), sum(tensor.stored for tensor in tensors)
    if not is_whole(claimed) or claimed == stored:
        return []
    return [f"The index says {claimed:,} bytes in all, but the files hold {stored:,}."]
