"""Zarr's descriptions of an array, of version 2 and 3: its shape, its type and its chunks."""

import math
import re
from dataclasses import dataclass
from typing import Any, cast

from tally.formats.errors import BadFileError
from tally.formats.json_text import is_whole, parse_json
from tally.formats.limits import LIMITS, Limits

DESCRIPTIONS = (".zarray", "zarr.json")
"""What the file of a description is called in either version."""

_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
_OLD = re.compile(r"[<>|=]([biufc])(\d{1,2})")
_NEW = re.compile(r"(?:bool|(?:u?int|b?float|complex)(\d{1,3})(?:_[a-z0-9]+)?)")


@dataclass(frozen=True, slots=True)
class Described:
    """What a description says of its array.

    Args:
        shape: Its dimensions.
        dtype: The type of an element.
        nbytes: The bytes of all of them, unpacked.
        chunks: Into how many pieces it is cut.
    """

    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    chunks: int


def read_description(text: bytes, file: object, place: str, limits: Limits = LIMITS) -> Described:
    """Read the JSON of an array.

    Raises:
        BadFileError: It is no such description, or describes what can't be.

    Example:
        >>> text = b'{"zarr_format": 2, "shape": [4, 3], "chunks": [2, 3], "dtype": "<f4"}'
        >>> read_description(text, "w/.zarray", "")
        Described(shape=(4, 3), dtype='float32', nbytes=48, chunks=2)
    """
    path = str(file)
    said: Any = parse_json(text, path, place, limits)
    if not isinstance(said, dict):
        raise BadFileError(path, "is no description of an array", place=place)
    held = cast("dict[str, Any]", said)
    version = held.get("zarr_format")
    if version not in (2, 3) or held.get("node_type", "array") != "array":
        raise BadFileError(path, f"is of version {version!r} of Zarr, or no array", place=place)
    shape = _sizes(held.get("shape"), path, place, limits)
    name = held.get("dtype" if version == 2 else "data_type")
    dtype, bits = _type(name)
    if not bits:
        raise BadFileError(path, f"has elements of the unknown type {str(name)[:80]!r}", place=place)
    grid: Any = held.get("chunks")
    if version == 3:
        grid = _inside(_inside(held.get("chunk_grid"), "configuration"), "chunk_shape")
    chunks = _sizes(grid, path, place, limits)
    if len(chunks) != len(shape) or (0 in chunks and 0 not in shape):
        raise BadFileError(path, f"cuts the shape {shape} into chunks of {chunks}", place=place)
    count = math.prod(-(-size // max(chunk, 1)) for size, chunk in zip(shape, chunks, strict=True))
    return Described(shape, dtype, -(-math.prod(shape) * bits // 8), count)


def _inside(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _sizes(value: Any, path: str, place: str, limits: Limits) -> tuple[int, ...]:
    sizes = cast("list[Any]", value) if isinstance(value, list) else [value]
    if len(sizes) > limits.rank or not all(map(is_whole, sizes)):
        raise BadFileError(path, f"has the sizes {str(sizes)[:80]}", place=place)
    return tuple(sizes)


def _type(name: Any) -> tuple[str, int]:
    """Return the name of a type as a ledger has it, and its bits; 0 for one that is unknown."""
    if not isinstance(name, str):
        return "", 0
    old = _OLD.fullmatch(name)
    if old:
        bits = 8 * int(old[2])
        return ("bool", 8) if old[1] == "b" else (f"{_KINDS[old[1]]}{bits}", bits)
    new = _NEW.fullmatch(name)
    return (name, int(new[1] or 8)) if new else ("", 0)
