"""The layers of a source, made of the names of its arrays: what was fused is split, what belongs together is joined."""

import re
from collections.abc import Iterator

from tally.accounting.ledger import Ledger
from tally.saving.layouts import Unit
from tally.saving.matching import Renaming, rename
from tally.saving.parts import Part
from tally.saving.sources import Source

_COLLECTIONS = ("params", "batch_stats")
_WORDS = {
    "query": ("query", "q", "q_proj", "wq", "q_lin", "to_q", "query_dense", "query_proj"),
    "key": ("key", "k", "k_proj", "wk", "k_lin", "to_k", "key_dense", "key_proj"),
    "value": ("value", "v", "v_proj", "wv", "v_lin", "to_v", "value_dense", "value_proj"),
    "attention_output": (
        *("attention_output", "output_dense", "out_proj", "o_proj", "wo", "out_lin", "to_out", "out", "proj"),
        *("c_proj", "output.dense", "dense"),
    ),
}
_THIRDS = ("query", "key", "value")
_RECURRENT = re.compile(r"(weight|bias)_(ih|hh)(?:_l(\d+)(_reverse)?)?")


def word_of(path: str) -> str:
    """Which part of an attention a name means; nothing where it means none."""
    parts = [part for part in re.split(r"[./]", path) if not part.isdigit()]
    ends = (parts[-1:], parts[-2:])
    return next((word for word, names in _WORDS.items() if any(".".join(end) in names for end in ends)), "")


def units_of(source: Source, ledger: Ledger, name_map: Renaming) -> list[Unit]:
    """The layers of a source, each with its arrays, in the source's order or, where it has none, in that of numbers."""
    attends = any(owner.builtin and owner.type.endswith("Attention") for owner in ledger.owners)
    found: dict[str, Unit] = {}
    for name, part in source.parts.items():
        renamed = rename(name, name_map)
        for path, word, last, piece in _split(renamed, part, attends):
            path, reverse = _without_collection(path), re.search(r"(^|[./])backward", path)
            unit = found.setdefault(
                path, Unit(path=path, word=word or ("reverse" if reverse else word_of(path)))
            )
            unit.is_mapped |= renamed != name
            unit.parts[last] = piece
    for path, unit in found.items():
        if path.endswith("/pointwise") and (above := found.get(path.removesuffix("/pointwise"))):
            unit.parts.update(above.parts)  # the bias is added behind both
            above.parts.clear()
    units = list(found.values())
    if not source.is_ordered:
        units.sort(key=lambda unit: _natural(unit.path))
    for place, unit in enumerate(units):
        unit.place = place
    return units


def _split(name: str, part: Part, attends: bool) -> Iterator[tuple[str, str, str, Part]]:
    """The unit that an array belongs to, that unit's word, and what the array is called in it."""
    path, last = _cut_last(name)
    if last in ("in_proj_weight", "in_proj_bias"):
        for number, word in enumerate(_THIRDS):
            yield f"{path}.{word}".lstrip("."), word, last.removeprefix("in_proj_"), part.third(number)
    elif match := re.fullmatch(r"([qkv])_proj_weight", last):
        word = _THIRDS["qkv".index(match[1])]
        yield f"{path}.{word}".lstrip("."), word, "weight", part
    elif (
        attends
        and re.search(r"(^|[./])(qkv|c_attn|in_proj|Wqkv|qkv_proj)$", path)
        and last in ("weight", "bias")
    ):
        axis = len(part.shape) - 1 if path.endswith("c_attn") else 0
        above = _cut_last(path)[0]
        for number, word in enumerate(_THIRDS):
            yield f"{above}.{word}".lstrip("."), word, last, part.third(number, axis)
    elif match := _RECURRENT.fullmatch(last):
        layer = f"l{match[3]}{match[4] or ''}" if match[3] else ""
        word = "reverse" if match[4] else ""
        yield ".".join(filter(None, (path, layer))), word, f"{match[1]}_{match[2]}", part
    elif last == "depthwise_kernel":
        yield f"{path}/depthwise", "", last, part
    elif last == "pointwise_kernel":
        yield f"{path}/pointwise", "", last, part
    else:
        yield path, "", last, part


def _cut_last(name: str) -> tuple[str, str]:
    """The name of a layer and of an array in it."""
    at = max(name.rfind("."), name.rfind("/"))
    return (name[:at], name[at + 1 :]) if at >= 0 else ("", name)


def _without_collection(path: str) -> str:
    first, _, rest = path.replace("/", ".").partition(".")
    return path[len(first) + 1 :] if first in _COLLECTIONS and rest else path


def _natural(path: str) -> list[tuple[int, int, str]]:
    """A key that sorts `layer.10` behind `layer.9`."""
    return [
        (0, int(part), "") if part.isdigit() and len(part) < 18 else (1, 0, part)
        for part in re.split(r"(\d+)", path)
    ]
