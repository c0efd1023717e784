"""The layers of a source, made of the names of its arrays: what was fused is split, what belongs together is joined."""

import re
from collections.abc import Iterator, Mapping

from tally.accounting.ledger import Ledger
from tally.saving.cells import with_cells
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
    fused = _Fused(source, ledger)
    found: dict[str, Unit] = {}
    for name, part in source.parts.items():
        renamed = rename(name, name_map)
        if renamed is None:
            continue
        for path, word, last, piece in _split(renamed, part, fused):
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
    units = with_cells(list(found.values()))
    if not source.is_ordered:
        units.sort(key=lambda unit: _natural(unit.path))
    for place, unit in enumerate(units):
        unit.place = place
    return units


class _Fused:
    """How the attentions of a source hold what belongs to query, key and value in one array.

    Args:
        source: Where the weights are.
        ledger: The account of the model.
    """

    def __init__(self, source: Source, ledger: Ledger) -> None:
        attentions = [owner for owner in ledger.owners if owner.builtin and owner.type.endswith("Attention")]
        self.attends = bool(attentions)
        heads = {owner.option("num_heads") for owner in attentions}
        self.heads: int | None = heads.pop() if len(heads) == 1 else None
        self.turned = _is_turned(source.parts)

    def thirds(self, path: str, part: Part) -> list[Part]:
        """The parts for query, key and value; none where they can't be told apart."""
        last = _cut_last(path)[1]
        if not self.attends or last not in _FUSED:
            return []
        axis = len(part.shape) - 1 if self.turned and last == "c_attn" else 0
        if part.shape[axis] % 3:
            return []
        if last not in _BY_HEAD:
            return [part.third(number, axis) for number in range(3)]
        if self.heads is None or part.shape[0] % (3 * self.heads):
            return []
        return [part.third_of_heads(number, self.heads) for number in range(3)]

    def word(self, layer: str, last: str, part: Part) -> str:
        """What an array is called: a matrix that lies as here is a kernel."""
        return (
            "kernel" if self.turned and layer in _GPT2 and last == "weight" and len(part.shape) == 2 else last
        )


_BY_HEAD = ("query_key_value",)
"""GPT-NeoX and Bloom keep the three side by side for each head."""
_FUSED = ("qkv", "c_attn", "in_proj", "Wqkv", "qkv_proj", *_BY_HEAD)
_GPT2 = ("c_attn", "c_fc", "c_proj", "q_attn")


def _is_turned(parts: Mapping[str, Part]) -> bool:
    """Whether linear layers of GPT-2's names keep matrices as GPT-2 does, inputs first; a copy of it needn't."""
    ways: set[bool] = set()
    for name, part in parts.items():
        path, last = _cut_last(name)
        bias = parts.get(f"{name.removesuffix(last)}bias")
        if last == "weight" and _cut_last(path)[1] in _GPT2 and len(part.shape) == 2 and bias is not None:
            rows, columns = part.shape
            if rows != columns and bias.shape in ((rows,), (columns,)):
                ways.add(bias.shape == (columns,))
    return ways == {True}


def _split(name: str, part: Part, fused: _Fused) -> Iterator[tuple[str, str, str, Part]]:
    """The unit that an array belongs to, that unit's word, and what the array is called in it."""
    path, last = _cut_last(name)
    if last in ("in_proj_weight", "in_proj_bias"):
        for number, word in enumerate(_THIRDS):
            yield f"{path}.{word}".lstrip("."), word, last.removeprefix("in_proj_"), part.third(number)
    elif match := re.fullmatch(r"([qkv])_proj_weight", last):
        word = _THIRDS["qkv".index(match[1])]
        yield f"{path}.{word}".lstrip("."), word, "weight", part
    elif last in ("weight", "bias") and (thirds := fused.thirds(path, part)):
        above, name = _cut_last(path)
        for word, third in zip(_THIRDS, thirds, strict=True):
            yield f"{above}.{word}".lstrip("."), word, fused.word(name, last, third), third
    elif match := _RECURRENT.fullmatch(last):
        layer = f"l{match[3]}{match[4] or ''}" if match[3] else ""
        word = "reverse" if match[4] else ""
        yield ".".join(filter(None, (path, layer))), word, f"{match[1]}_{match[2]}", part
    elif last == "depthwise_kernel":
        yield f"{path}/depthwise", "", last, part
    elif last == "pointwise_kernel":
        yield f"{path}/pointwise", "", last, part
    else:
        yield path, "", fused.word(_cut_last(path)[1], last, part), part


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
