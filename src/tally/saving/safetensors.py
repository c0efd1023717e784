"""Weights in safetensors, in one file or several: each under its path, with the account in the header."""

import json
import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tally.accounting.ledger import Ledger
from tally.core.errors import SavingError
from tally.formats import safetensors as form
from tally.formats.shards import INDEX, read_index
from tally.formats.tensor import Contents, Tensor
from tally.saving.arrays import Place, Places, assign, built_optimizer, check_arrays, places_of, read_array
from tally.saving.files import replace_file
from tally.saving.matching import Renaming, compare, left_out, refuse, rename_all
from tally.saving.outcome import Left, Match, Report
from tally.saving.several import WRITE, FileSet, bytes_in, share_out
from tally.writing import keep_names

ENDING = ".safetensors"
LEDGER = "tally.ledger"
"""Under which the header's metadata hold the account, as JSON."""
_CODES = {dtype: (code, width) for code, (dtype, width) in form.TYPES.items() if width >= 8}
_CODES |= {"int4": ("I8", 8), "uint4": ("U8", 8)}
"""What the format calls each type. It has none for 4 bits: such a number takes a byte, and the account says so."""


def save_safetensors(
    model: Any,
    path: Path,
    *,
    overwrite: bool = True,
    max_shard_size: int | str | None = None,
    include_optimizer: bool = False,
) -> None:
    """Write a model's weights to a safetensors file, or to several and an index, as the Hugging Face Hub has them.

    Weights that are tied are stored once. One array at a time is fetched from its device.

    Args:
        model: A built model.
        path: Where; ends in `.safetensors`.
        overwrite: Whether files that are there may be replaced. They stay until all new ones are complete.
        max_shard_size: The most bytes of one file, as a number or as `"5GB"`; an array that is larger has a file of
            its own. None writes one file, whatever its size.
        include_optimizer: Whether to store what the optimizer keeps, too.

    Raises:
        SavingError: The model isn't built, the size is none, or the format has no form for a type of weight.
    """
    if path.name.endswith(INDEX):
        path = path.with_name(path.name.removesuffix(INDEX))
    model.materialize()
    held = places_of(model)
    if not held.weights:
        raise SavingError(f"'{model.name}' has no weights to save: it has not seen an input shape yet.")
    places = [*held.weights.values(), *(held.optimizer if include_optimizer else ())]
    ledger = model.account().to_json()
    parts = share_out(places, _size, bytes_in(max_shard_size))
    shards = Shards(path)
    if len(parts) == 1:
        _refuse_other(shards.index, overwrite)
        with replace_file(path, overwrite=overwrite) as part:
            _write(part, parts[0], {"format": "tally", LEDGER: ledger})
        shards.remove()  # the file by the name that is asked for has stood for the model since it is there
    else:
        _refuse_other(path, overwrite)
        _write_shards(shards, parts, ledger, overwrite)


def _refuse_other(path: Path, overwrite: bool) -> None:
    """Keep what was saved under this name in the other form, one file or several, if that is wanted."""
    if path.exists() and not overwrite:
        raise SavingError(
            f"There is a file at {path} already.", do="choose another name, or pass overwrite=True"
        )


class Shards(FileSet):
    """The files of a model, named as on the Hugging Face Hub; with a tag before the number where those names are taken.

    What reads such a model goes by the index, and asks for the file without a number first: where both are there,
    that one is the model. So a save from several files to one is done when the one has its name, and a save from one
    to several when the one is deleted.

    Args:
        path: The name that the one file would have.
    """

    named_so = "{stem}-{tag}{number:05}-of-{count:05}" + ENDING
    known_by = r"{stem}-(?:(?P<tag>[0-9a-f]{{8}})-)?\d{{5}}-of-\d{{5}}" + re.escape(ENDING)
    between, first = "-", 1

    def __init__(self, path: Path) -> None:
        self.whole = path
        super().__init__(path.with_name(path.name + INDEX))

    @property
    def stem(self) -> str:
        """What all names begin with."""
        return self.whole.name.removesuffix(ENDING)

    def listed(self) -> set[str]:
        """The names that the index has."""
        return set(read_index(self.index)[1].values())

    def token_of(self, path: Path) -> str | None:
        """The word that the header says."""
        return form.read_one(path).metadata.get(WRITE)

    def before(self) -> None:
        """Nothing has to be there besides."""

    def after(self, names: Sequence[str], old: Container[str]) -> None:
        """Delete the one file, which would stand for the model."""
        self.whole.unlink(missing_ok=True)
        keep_names(self.folder)


def _write_shards(shards: Shards, parts: Sequence[Sequence[Place]], ledger: str, overwrite: bool) -> None:
    total = sum(_size(place) for part in parts for place in part)

    def write_file(number: int, file: Path, token: str) -> None:
        _write(file, parts[number], {"format": "tally", WRITE: token})

    def write_index(file: Path, names: Sequence[str], token: str) -> None:
        placed = {place.path: name for name, part in zip(names, parts, strict=True) for place in part}
        index = {"metadata": {"total_size": total, WRITE: token, LEDGER: ledger}, "weight_map": placed}
        file.write_text(json.dumps(index, ensure_ascii=True), encoding="utf-8")

    shards.write(len(parts), write_file, write_index, overwrite=overwrite)


def _size(place: Place) -> int:
    if place.dtype not in _CODES:
        raise SavingError(
            f"The weight '{place.path}' is of type {place.dtype}, for which safetensors has no form.",
            do="save to a name that ends in .weights.h5",
        )
    return math.prod(place.shape) * _CODES[place.dtype][1] // 8


def _write(path: Path, places: Sequence[Place], metadata: Mapping[str, str]) -> None:
    """Write one file: arrays of wide elements first, so that each begins at a multiple of its element's size."""
    ordered = sorted(places, key=lambda place: -_CODES[place.dtype][1])
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for place in ordered:
        end = at + _size(place)
        header[place.path] = {
            "dtype": _CODES[place.dtype][0],
            "shape": list(place.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for place in ordered:
            _write_values(file, place)


def _write_values(file: BinaryIO, place: Place) -> None:
    values = np.ascontiguousarray(place.numpy())
    if place.dtype in ("int4", "uint4"):
        values = values.astype(np.int8 if place.dtype == "int4" else np.uint8)
    file.write(values.reshape(-1).view(np.uint8).data)


# -- reading -------------------------------------------------------------------------------------------------------
def located(path: Path) -> Path:
    """The file or the index that a name means: of a model in several files the index lies under that name."""
    index = path.with_name(path.name + INDEX)
    return index if not path.exists() and index.is_file() else path


def is_own(contents: Contents) -> bool:
    """Tell whether a file names its arrays by the paths of an account."""
    return isinstance(contents.metadata.get(LEDGER), str)


def load_safetensors(
    model: Any, contents: Contents, path: Path, *, skip_mismatch: bool = False, name_map: Renaming = None
) -> Report:
    """Read weights that `save_safetensors` wrote, one array at a time.

    Args:
        model: A built model.
        contents: What the headers say.
        path: The file or index, for messages.
        skip_mismatch: Leave what doesn't fit as it is instead of refusing.
        name_map: Names in the file -> paths in the model, or None to leave out; with these a state of the optimizer
            that doesn't fit, too.

    Returns:
        What was set and what was left out.

    Raises:
        SavingError: They don't fit the model; then nothing is changed. Or the files weren't written together.
    """
    _check_together(contents, path)
    ledger = _ledger(contents)
    aside = [entry.path for entry in ledger.entries if entry.state == "optimizer"] if ledger else []
    tensors = {tensor.name: tensor for tensor in contents.tensors}
    skipped = set(aside)
    shapes = {name: tensor.shape for name, tensor in tensors.items() if name not in skipped}
    renamed, dropped = rename_all(shapes, name_map, path), left_out(shapes, name_map)
    stored = {new: tensors[name] for new, name in renamed.items()}
    held = places_of(model)
    wanted = {path: place.shape for path, place in held.weights.items()}
    comparison = compare(wanted, {name: tensor.shape for name, tensor in stored.items()})
    if not comparison.fits and not skip_mismatch:
        raise refuse(comparison, path, model.name)
    kept = [tensors[name] for name in aside if name in tensors]
    with built_optimizer(model, bool(kept)) as held:
        wrong = _optimizer_problem(held, kept)
        if wrong is not None and not skip_mismatch and not dropped:
            raise SavingError(
                f"The optimizer's state in {path} doesn't fit '{model.name}': {wrong}.",
                do="compile with the optimizer it was saved with, or pass skip_mismatch=True; nothing was changed",
            )
        pairs = [
            (place, stored[name])
            for name, place in held.weights.items()
            if name in stored and stored[name].shape == place.shape
        ]
        if wrong is None and held.optimizer:
            pairs += zip(held.optimizer, kept, strict=False)
        check_arrays(tensor for _, tensor in pairs)
    assign((place, _Reading(tensor)) for place, tensor in pairs)
    aside_ids = {id(place) for place in held.optimizer}
    matched = [
        Match(
            path=place.path,
            shape=place.shape,
            sources=(tensor.name,),
            by="order" if id(place) in aside_ids else "name",
        )
        for place, tensor in pairs
    ]
    report = comparison.report(path, model.name, matched, left_out=dropped)
    states = [Left(name=one.name, shape=one.shape, why=f"the optimizer: {wrong}") for one in kept if wrong]
    return replace(report, left=(*report.left, *states))


class _Reading:
    """Reads an array when its turn comes."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __call__(self) -> np.ndarray:
        return read_array(self.tensor)


def _ledger(contents: Contents) -> Ledger | None:
    try:
        return Ledger.from_json(contents.metadata[LEDGER])
    except ValueError:
        return None


def _check_together(contents: Contents, path: Path) -> None:
    """Refuse shards of two saves, which a crash between two renames would leave."""
    if len(contents.files) < 2:
        return
    said = contents.metadata.get(WRITE)
    for file in contents.files[1:]:
        if form.read_one(file).metadata.get(WRITE) != said:
            raise SavingError(
                f"{file.name} was not written together with {path.name}: the last save was cut off.",
                do="save the model again",
            )


def _optimizer_problem(held: Places, kept: Sequence[Tensor]) -> str | None:
    """What keeps an optimizer's state from going into the model's optimizer; it goes by order, since names differ."""
    if not kept or not held.optimizer:
        return None
    if len(kept) != len(held.optimizer):
        return f"it has {len(kept):,} arrays, the model's has {len(held.optimizer):,}"
    return next(_misfits(held.optimizer, kept), None)


def _misfits(places: Sequence[Place], tensors: Sequence[Tensor]) -> Iterator[str]:
    for place, tensor in zip(places, tensors, strict=True):
        if place.shape != tensor.shape:
            yield f"'{tensor.name}' is {tensor.shape}, the model's '{place.path}' {place.shape}"
