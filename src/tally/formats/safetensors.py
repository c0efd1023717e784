"""safetensors: a header of JSON that names every array with its type, shape and place, then the data."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tally.formats.errors import BadFileError
from tally.formats.json_text import is_whole, parse_json
from tally.formats.limits import LIMITS, Limits
from tally.formats.mistaken import ENOUGH, mistaken
from tally.formats.naming import checked
from tally.formats.packed import unpacked
from tally.formats.shards import is_index, read_shards
from tally.formats.tensor import Contents, Span, Tensor
from tally.formats.window import Window, opened

_HEADER = 100_000_000
"""Bytes of the longest header; the format's own limit."""
TYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 8),
    "F4": ("float4_e2m1fn", 4),
    "F6_E2M3": ("float6_e2m3fn", 6),
    "F6_E3M2": ("float6_e3m2fn", 6),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "F32": ("float32", 32),
    "C64": ("complex64", 64),
    "F64": ("float64", 64),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
}
"""What the format calls each type of element, what a ledger calls it, and its bits."""


def matches(path: Path) -> bool:
    """Tell whether a path is such a file, or the index of one that was split."""
    if is_index(path, ".safetensors"):
        return True
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        return True
    try:
        with opened(path) as window:
            return 2 <= window.number("<Q") <= min(_HEADER, window.left) and window.take(1) == b"{"
    except BadFileError:
        return False


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which arrays a file holds, or all the files that an index names.

    Args:
        path: The file, or its `.safetensors.index.json`.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken; of an index, a file is missing or holds other arrays than it says.

    Example:
        >>> import tempfile
        >>> header = b'{"w": {"dtype": "F4", "shape": [4, 8], "data_offsets": [0, 16]}}'
        >>> path = Path(tempfile.mkdtemp()) / "tiny.safetensors"
        >>> _ = path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
        >>> tensor, = read(path).tensors
        >>> tensor.dtype, tensor.size, tensor.stored
        ('float4_e2m1fn', 32, 16)
    """
    split = is_index(path, ".safetensors")
    contents = read_shards(path, read_one, limits) if split else read_one(path, limits)
    contents = with_ties(replace(contents, tensors=tuple(unpacked(contents.tensors, limits))))
    return replace(contents, tensors=checked(contents.tensors, path, limits))


def read_one(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read a single file as it names its arrays, whatever these stand for."""
    with opened(path) as window:
        header = _header(window, limits)
        said = header.pop("__metadata__", {})
        if not _is_text(said):
            raise BadFileError(path, "is more than names and texts", place="__metadata__")
        if len(header) > limits.tensors:
            raise BadFileError(path, f"names {len(header):,} arrays, more than {limits.tensors:,}")
        tensors = [_tensor(window, name, described, limits) for name, described in header.items()]
        _no_gaps(window, tensors)
        return Contents(format="safetensors", tensors=tuple(tensors), metadata=said, files=(path,))


def with_ties(contents: Contents) -> Contents:
    """Add the arrays that were left out of a file since they are others of its arrays.

    `safetensors.torch.save_model` writes a tied array once, and among the header's texts the name of each that it
    left out with the name of the one it kept.

    Example:
        >>> table = Tensor(name="emb.weight", shape=(10, 4), dtype="float32", stored=160)
        >>> said = {"format": "pt", "head.weight": "emb.weight"}
        >>> head = with_ties(Contents(format="safetensors", tensors=(table,), metadata=said)).tensors[-1]
        >>> head.name, head.alias_of
        ('head.weight', 'emb.weight')
    """
    known = {tensor.name: tensor for tensor in contents.tensors}
    ties = {
        name: kept
        for name, kept in contents.metadata.items()
        if isinstance(kept, str) and kept in known and name not in known and not name.startswith(_NO_TIES)
    }
    more = (replace(known[kept], name=name, alias_of=kept, notes=(_TIED,)) for name, kept in ties.items())
    return replace(contents, tensors=(*contents.tensors, *more))


_NO_TIES = ("format", "tally.", "modelspec.")
"""Names among a header's texts that are no array's."""
_TIED = "The file has it once, under the name of the array that it is tied to."


def _header(window: Window, limits: Limits) -> dict[str, Any]:
    other = mistaken(window.take(min(ENOUGH, window.left)))
    if other is not None:
        raise BadFileError(window.file, other[0], do=other[1])
    window.go_to(0)
    length = window.number("<Q", "the length of the header")
    if length > min(_HEADER, limits.header):
        raise window.bad(f"claims a header of {length:,} bytes, more than the format allows", at=0)
    text = window.take(length, "the header")
    if not text.startswith(b"{"):
        raise window.bad("is no header of safetensors: it doesn't begin with {", at=8)
    header = parse_json(text, window.file, "the header", limits)
    if not isinstance(header, dict):
        raise window.bad("is no header of safetensors: it is no JSON object", at=8)
    return cast("dict[str, Any]", header)


def _is_text(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all(isinstance(text, str) for text in cast("Mapping[str, Any]", value).values())


def _tensor(window: Window, name: str, described: Any, limits: Limits) -> Tensor:
    """One array; its place is counted from the first byte behind the header."""
    place = f"tensor {name[:80]!r}"
    if not isinstance(described, dict) or set(cast("dict[str, Any]", described)) != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise BadFileError(window.file, "has no dtype, shape and data_offsets, or more", place=place)
    said = cast("dict[str, Any]", described)
    kind, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(kind, str) or kind not in TYPES:
        raise BadFileError(window.file, f"has the type {str(kind)[:40]!r}, which isn't known", place=place)
    if not _are_whole(shape):
        reason = f"has the shape {str(shape)[:80]}, which is no list of lengths from 0 to {2**63 - 1:,}"
        raise BadFileError(window.file, reason, place=place)
    if len(shape) > limits.rank:
        raise BadFileError(
            window.file, f"has {len(shape):,} dimensions, more than {limits.rank}", place=place
        )
    if not _are_whole(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= window.left:
        reason = f"lies at bytes {str(offsets)[:80]} of {window.left:,}"
        raise BadFileError(window.file, reason, place=place, do="if the file was cut off, fetch it again")
    dtype, width = TYPES[kind]
    start, end = offsets
    tensor = Tensor(
        name=name,
        shape=tuple(shape),
        dtype=dtype,
        stored=end - start,
        span=Span(file=Path(window.file), start=window.at + start, nbytes=end - start),
    )
    if tensor.size * width != (end - start) * 8:
        reason = f"has {tensor.size:,} elements of {width} bits, but {end - start:,} bytes"
        raise BadFileError(window.file, reason, place=place)
    return tensor


def _are_whole(values: Any) -> bool:
    return isinstance(values, list) and all(map(is_whole, cast("list[Any]", values)))


def _no_gaps(window: Window, tensors: list[Tensor]) -> None:
    """Each byte behind the header belongs to one array: what hides between them would be another file."""
    at = window.at
    for start, end, name in sorted(_spans(tensors)):
        if start != at:
            what = (
                "overlaps the one before" if start < at else f"leaves {start - at:,} bytes before it unused"
            )
            raise BadFileError(window.file, what, place=f"tensor {name[:80]!r}, byte {start:,}")
        at = end
    if at != window.end:
        raise window.bad(f"has {window.end - at:,} bytes behind the last array", at=at)


def _spans(tensors: list[Tensor]) -> Iterator[tuple[int, int, str]]:
    for tensor in tensors:
        if tensor.span is not None:
            yield tensor.span.start, tensor.span.start + tensor.span.nbytes, tensor.name
