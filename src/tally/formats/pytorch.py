"""PyTorch's files: `.pt`, `.pth`, `.bin`, `.ckpt`, as a zip, as TorchScript, in the older form, and in shards.

The pickle inside is read as data: no class is imported, no function called. So `weights_only` has no meaning here, and
a file that would take over who loads it is only a file that names strange things, which the account says.
"""

import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.pickle import Dict, Name, Pickled, items_of, read_pickle
from tally.formats.shards import is_index, read_shards
from tally.formats.tensor import Contents, Node, Span, Tensor
from tally.formats.torch_arrays import Array, Arrays, Storage, bits_of, is_harmless
from tally.formats.torch_tree import Found, Holding, walk
from tally.formats.torch_views import share
from tally.formats.window import Window, opened
from tally.formats.zip import DEFLATED, MAGIC, Archive, directory

_ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_MAGIC_BYTES = _OLD_MAGIC.to_bytes(10, "little")
_SHARD = ".bin"
_MOST_CODE = 2**24
"""Bytes of one TorchScript source that are looked at for what its classes list."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where the bytes of a storage lie; where they are packed, `packed` says how many."""

    start: int
    order: Literal["<", ">"] = "<"
    packed: int | None = None


_Places = dict[str, _Stored]


def matches(path: Path) -> bool:
    """Tell whether a file is one of PyTorch's, by how it begins."""
    if is_index(path, _SHARD):
        return True
    if not path.is_file():
        return False
    try:
        with opened(path) as window:
            head = window.take(min(window.size, 512))
            if head.startswith(MAGIC):
                return _is_archive(window, path)
    except BadFileError:
        return False
    return (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")) or _is_tar(head)


def _is_archive(window: Window, path: Path) -> bool:
    try:
        return _pickle_in(directory(window)) is not None
    except BadFileError:
        return path.suffix in _ENDINGS  # what is wrong with it, `read` says


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar" and head.split(b"\0")[0] in (
        b"sys_info",
        b"pickle",
        b"storages",
        b"tensors",
    )


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which tensors a file of PyTorch holds, and what its pickle says of them.

    Args:
        path: The file, or the index of several, `pytorch_model.bin.index.json`.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or a tensor reaches out of its storage, or it is of the oldest form, a tar.
    """
    if is_index(path, _SHARD):
        return _read_index(path, limits)
    with opened(path) as window:
        head = window.take(min(window.size, 512))
        window.at = 0
        if head.startswith(MAGIC):
            return _read_archive(window, path, limits)
        if _is_tar(head):
            raise BadFileError(
                path,
                "is a tar, the form PyTorch wrote before version 0.1.10, which isn't read here",
                do="load it with PyTorch and save it again",
            )
        return _read_stream(window, path, limits)


# -- a zip ---------------------------------------------------------------------------------------------------------
def _pickle_in(archive: Archive) -> str | None:
    """The name of the pickle that a zip is about: `data.pkl`, mostly in a folder."""
    return next((name for name in archive.names if re.fullmatch(r"([^/]*/)?data\.pkl", name)), None)


def _read_archive(window: Window, path: Path, limits: Limits) -> Contents:
    archive = directory(window, limits)
    name = _pickle_in(archive)
    if name is None:
        raise BadFileError(path, "is a zip without a data.pkl, so PyTorch didn't write it")
    folder = name.removesuffix("data.pkl")
    order: Literal["<", ">"] = "<"
    if f"{folder}byteorder" in archive and archive.beginning(f"{folder}byteorder", 16).strip() == b"big":
        order = ">"
    arrays = Arrays(path, limits)
    pickled = _unpickled(archive, name, arrays, path, limits)
    scripted = f"{folder}constants.pkl" in archive
    code = _Code(archive, folder)
    holding = walk(pickled.value, arrays, path, limits, code.members)
    places = _members(archive, f"{folder}data/", arrays, order, path)
    tensors = _tensors(holding, places, path)
    names = list(pickled.names)
    if scripted:
        fixed = Arrays(path, limits)
        constants = _unpickled(archive, f"{folder}constants.pkl", fixed, path, limits)
        held = walk(constants.value, fixed, path, limits, code.members)
        there = _members(archive, f"{folder}constants/", fixed, order, path)
        held.found[:] = [Found(f"constants.{one.name}", one.array, "fixed") for one in held.found]
        tensors += _tensors(held, there, path)
        names += constants.names
    form = "TorchScript" if scripted else "PyTorch, zip"
    return _contents(form, holding, tensors, names, path, limits)


def _unpickled(archive: Archive, name: str, arrays: Arrays, path: Path, limits: Limits) -> Pickled:
    data = archive.read(name)
    inside = Window(io.BytesIO(data), path, 0, len(data), f"member {name!r}")
    return read_pickle(inside, limits, arrays.storage)


def _members(archive: Archive, folder: str, arrays: Arrays, order: Literal["<", ">"], path: Path) -> _Places:
    """Where each storage lies, after it is found to be as long as the pickle says."""
    places: _Places = {}
    for storage in arrays.storages.values():
        name = f"{folder}{storage.key}"
        if name not in archive:
            raise BadFileError(path, f"names a storage that isn't there: {name[:200]!r}")
        member = archive[name]
        # A storage of bytes seen as wider elements may have a few bytes more than these take.
        if not 0 <= member.size - storage.nbytes < storage.bits // 8:
            raise BadFileError(
                path,
                f"has {member.size:,} bytes, but the pickle says {storage.count:,} of {storage.dtype}",
                place=f"member {name[:200]!r}",
            )
        if not member.packed or member.method == DEFLATED:
            places[storage.key] = _Stored(member.start, order, member.stored if member.packed else None)
    return places


class _Code:
    """What the sources in a TorchScript file list for each class; they are searched, never run."""

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive, self._folder = archive, folder
        self._read: dict[str, dict[str, tuple[Collection[str], Collection[str]]]] = {}

    def members(self, name: Name) -> tuple[Collection[str], Collection[str]]:
        """The names of the parameters and of the buffers of a class."""
        file = f"{self._folder}code/{name.module.replace('.', '/')}.py"
        if file not in self._read:
            known = file in self._archive and self._archive[file].size <= _MOST_CODE
            self._read[file] = dict(_classes(self._archive.read(file) if known else b""))
        return self._read[file].get(name.attribute, ((), ()))


def _classes(source: bytes) -> Iterator[tuple[str, tuple[Collection[str], Collection[str]]]]:
    text = source.decode("utf-8", "replace")
    for part in re.split(r"^class ", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"\w+", part)
        lists = [re.search(rf"^  __{kind}__ = \[(.*)\]", part[:100_000], re.MULTILINE) for kind in _LISTED]
        if name:
            parameters, buffers = (re.findall(r'"([^"]*)"', one[1]) if one else () for one in lists)
            yield name[0], (parameters, buffers)


_LISTED = ("parameters", "buffers")


# -- the older form, and a pickle alone ----------------------------------------------------------------------------
def _read_stream(window: Window, path: Path, limits: Limits) -> Contents:
    arrays = Arrays(path, limits)
    first = read_pickle(window, limits, arrays.storage)
    names = list(first.names)
    value, places, form = first.value, _Places(), "pickle"
    notes: list[str] = []
    if type(value) is int and value == _OLD_MAGIC:
        form = "PyTorch, before 1.6"
        version = read_pickle(window, limits, arrays.storage)
        system = read_pickle(window, limits, arrays.storage)
        main = read_pickle(window, limits, arrays.storage)
        keys = read_pickle(window, limits, arrays.storage)
        if version.value != 1001 or not isinstance(system.value, Dict):
            raise BadFileError(path, "is of a version of PyTorch's older form that isn't known")
        value = main.value
        names += [*system.names, *main.names, *keys.names]
        places = _storages(window, keys.value, arrays)
    if window.left:
        notes.append(f"{window.left:,} bytes follow, which were not read.")
    holding = walk(value, arrays, path, limits, lambda name: ((), ()))
    holding.notes += notes
    return _contents(form, holding, _tensors(holding, places, path), names, path, limits)


def _storages(window: Window, keys: Any, arrays: Arrays) -> _Places:
    """Where each storage lies behind the pickles: in the order of its keys, after its length; all are skipped."""
    known: dict[str, Storage] = {}
    for storage in arrays.storages.values():
        if known.setdefault(storage.key, storage) != storage:
            raise window.bad(f"storage {storage.key[:80]!r} is said to have two lengths or types")
    places: _Places = {}
    for key in items_of(keys) or ():
        name = str(key) if isinstance(key, str | int) else ""
        if name not in known or name in places:
            raise window.bad(f"storage {name[:80]!r} is listed twice, or nothing is in it")
        storage = known[name]
        count = window.number("<q", "the length of a storage")
        if count != storage.whole:
            raise window.bad(
                f"storage {name[:80]!r} has {count:,} elements here, {storage.whole:,} in the pickle"
            )
        places[name] = _Stored(window.at)
        window.skip(storage.nbytes, f"storage {name[:80]!r}")
    if missing := known.keys() - places.keys():
        raise window.bad(f"storage {min(missing)[:80]!r} isn't there")
    return places


# -- several files -------------------------------------------------------------------------------------------------
def _read_index(path: Path, limits: Limits) -> Contents:
    """Read the shards that an index names, and keep what each of them says."""
    said: dict[str, None] = {}

    def one(file: Path, within: Limits) -> Contents:
        if is_index(file, _SHARD):
            raise BadFileError(path, f"names {file.name!r}, another index")
        found = read(file, within)
        said.update(dict.fromkeys(found.notes))
        return found

    whole = read_shards(path, one, limits)
    notes = (*whole.notes, *said)
    return replace(
        whole, format="PyTorch, in shards", tensors=checked(whole.tensors, path, limits), notes=notes
    )


# -- what was found ------------------------------------------------------------------------------------------------
def _tensors(holding: Holding, places: _Places, path: Path) -> list[Tensor]:
    """The tensors by name, each with where its bytes lie and which others have the same."""
    sharing = share(holding.found)
    if sharing.unused:
        holding.notes.append(
            f"Its storages hold {sharing.unused:,} byte{'s' if sharing.unused > 1 else ''} that no array shows: parts "
            "of larger ones were saved."
        )
    made: list[Tensor] = []
    for one in holding.found:
        array = one.array
        more = sharing.notes.get(one.name)
        made.append(
            Tensor(
                name=one.name,
                shape=array.shape,
                dtype=array.dtype,
                stored=array.stored,
                role=one.role,
                span=_span(array, places, path),
                alias_of=sharing.alias_of.get(one.name),
                notes=(*array.notes, more) if more else array.notes,
            )
        )
    return made


def _span(array: Array, places: _Places, path: Path) -> Span | None:
    """Where the bytes of a tensor lie, unless it begins inside a byte."""
    storage = array.storage
    place = None if storage is None else places.get(storage.key)
    if storage is None or place is None:
        return None
    bits = bits_of(array.dtype)
    begin = storage.start * storage.bits + array.start * bits
    if begin % 8:
        return None
    strides = None if _is_contiguous(array) else array.strides
    if place.packed is not None:
        deflated = ("deflate",)
        where = Span(file=path, start=place.start, nbytes=place.packed, order=place.order, filters=deflated)
        return replace(where, strides=strides, inside=begin // 8)
    nbytes = -(-array.reach * bits // 8)
    return Span(file=path, start=place.start + begin // 8, nbytes=nbytes, order=place.order, strides=strides)


def _is_contiguous(array: Array) -> bool:
    step = 1
    for size, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _contents(
    form: str, holding: Holding, tensors: Sequence[Tensor], names: Sequence[Name], path: Path, limits: Limits
) -> Contents:
    notes = list(holding.notes)
    strange = [str(name) for name in dict.fromkeys(names) if not is_harmless(name)]
    if strange:
        shown = ", ".join(name[:80] for name in strange[:_SHOWN])
        more = ", ..." if len(strange) > _SHOWN else ""
        notes.append(
            f"Names {len(strange):,} thing{'s' if len(strange) > 1 else ''} that would be imported if it were "
            f"unpickled: {shown}{more}. Here nothing was."
        )
    if not tensors:
        notes.append("It holds no arrays.")
    return Contents(
        format=form,
        tensors=checked(tensors, path, limits),
        metadata=holding.facts,
        nodes=_distinct(holding.nodes),
        files=(path,),
        notes=tuple(notes),
    )


def _distinct(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The modules, each name once: a hostile pickle may give two modules one name."""
    return tuple({node.name: node for node in nodes}.values())
