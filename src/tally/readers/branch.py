"""The names in a file as a tree: what has arrays, what has layers inside, and what is only a list or a wrapping."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tally.formats.tensor import Tensor

_DEEPEST = 90
"""Parts of a path; a name with more keeps the rest as one part, so that nothing that walks the tree goes too deep."""


@dataclass
class Branch:
    """One place in the tree of names.

    Args:
        path: Where it is.
        arrays: The arrays right there, by what they are called.
        children: The places inside, by their names, in the file's order.
        given: What the file itself says of the layer there.
    """

    path: str
    arrays: dict[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())
    children: "dict[str, Branch]" = field(default_factory=lambda: dict[str, "Branch"]())
    given: Any = None
    has_blocks: bool = False

    @property
    def is_list(self) -> bool:
        """Whether it only counts what is inside: `blocks` of `blocks/0`, `blocks/1`."""
        return bool(self.children) and not self.arrays and all(map(is_number, self.children))

    def at(self, parts: Sequence[str]) -> "Branch":
        """The place at some parts below, made where it isn't there yet."""
        here = self
        for part in parts:
            inside = here.children.get(part)
            if inside is None:
                path = f"{here.path}/{part}" if here.path else part
                inside = here.children[part] = Branch(path)
            here = inside
        return here

    def walk(self) -> "Iterator[Branch]":
        """All places below and this one, each before those inside it."""
        waiting: list[Branch] = [self]
        while waiting:
            here = waiting.pop()
            yield here
            waiting.extend(reversed(here.children.values()))


def is_number(name: str) -> bool:
    """Tell whether a name only counts.

    Example:
        >>> is_number("12"), is_number("layer1")
        (True, False)
    """
    return name.isascii() and name.isdigit()


def shown(text: str) -> str:
    """A text of a file as a terminal may see it: nothing in it moves the cursor, hides letters or changes colours.

    Example:
        >>> shown("conv" + chr(7)) == "conv" + chr(92) + "x07"
        True
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def parts_of(name: str) -> tuple[str, ...]:
    """Split a name at its slashes, or else at its dots.

    Example:
        >>> parts_of("features.0.weight"), parts_of("params/Dense_0/kernel"), parts_of("a..b")
        (('features', '0', 'weight'), ('params', 'Dense_0', 'kernel'), ('a..b',))
    """
    inner = shown(name).strip("/")
    parts = tuple(inner.split("/" if "/" in inner else "."))
    if not all(parts):
        return (inner.replace("/", "|") or "(no name)",)
    if len(parts) > _DEEPEST:
        return (*parts[: _DEEPEST - 1], "|".join(parts[_DEEPEST - 1 :]))
    return parts


def places_of(tensors: Iterable[Tensor]) -> dict[str, tuple[str, ...]]:
    """Give each array its place, no two the same: where dots and slashes fall together, a name stays whole."""
    places: dict[str, tuple[str, ...]] = {}
    taken: set[tuple[str, ...]] = set()
    for tensor in tensors:
        parts = parts_of(tensor.name)
        number = 1
        while parts in taken:
            number += 1
            parts = (f"{shown(tensor.name).replace('/', '|')} ({number})",)
        taken.add(parts)
        places[tensor.name] = parts
    return places


_COLLECTIONS = (
    "params",
    "batch_stats",
    "state",
    "cache",
    "constants",
    "variables",
    "buffers",
    "non_trainable",
)


def without_collections(places: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Put together what Flax keeps apart: the `params` of a layer and its `batch_stats`.

    Example:
        >>> places = {"a": ("params", "bn", "scale"), "b": ("batch_stats", "bn", "mean")}
        >>> without_collections(places)
        {'a': ('bn', 'scale'), 'b': ('bn', 'mean')}
    """
    first = {parts[0] for parts in places.values()}
    if "params" not in first or not first <= set(_COLLECTIONS):
        return dict(places)
    inner = {name: parts[1:] for name, parts in places.items()}
    if not all(inner.values()) or len(set(inner.values())) < len(inner):
        return dict(places)
    return without_collections(inner) if {parts[0] for parts in inner.values()} == {"params"} else inner


def arrange(root: Branch, *, shuffled: bool) -> None:
    """Put numbered neighbours in the order of their numbers; where names came by the alphabet, the outermost as usual.

    Args:
        root: The tree.
        shuffled: Whether the order of the file says nothing.
    """
    for branch in root.walk():
        names = counted(list(branch.children))
        branch.children = {name: branch.children[name] for name in names}
    if shuffled:
        outermost = {branch.path for branch in _outermost(root)}
        for branch in root.walk():
            custom = _OUTSIDE if branch.path in outermost else _INSIDE
            ranked = sorted(branch.children, key=lambda name: _rank(name, custom))
            branch.children = {name: branch.children[name] for name in ranked}


def counted(names: list[str]) -> list[str]:
    """Order names that differ by number alone by that number, each in the places that they have together.

    Example:
        >>> counted(["conv_1", "conv_10", "norm", "conv_2"])
        ['conv_1', 'conv_2', 'norm', 'conv_10']
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    ordered = {stem: iter(sorted(found, key=_numbers)) for stem, found in alike.items()}
    return [next(ordered[re.sub(r"\d+", "#", name)]) for name in names]


def _numbers(name: str) -> list[tuple[int, str]]:
    """The numbers in a name; written with the number of their digits, since a number may have thousands."""
    digits = (number.lstrip("0") for number in re.findall(r"\d+", name))
    return [(len(number), number) for number in digits]


def _outermost(root: Branch) -> Iterator[Branch]:
    """The places from the root down to where the model branches."""
    here = root
    while True:
        yield here
        inside = holder_of_blocks(here)
        if inside is None:
            return
        here = inside


def holder_of_blocks(branch: Branch) -> Branch | None:
    """The one place inside that the rest of the model is in: it has the blocks, or it is all there is."""
    children = list(branch.children.values())
    if len(children) == 1 and not branch.arrays:
        holders = children
    else:
        holders = [child for child in children if child.has_blocks]
    if len(holders) != 1 or holders[0].arrays or holders[0].is_list or not holders[0].children:
        return None
    return holders[0]


def mark_blocks(root: Branch) -> None:
    """Note of each place whether a list of blocks, layers with layers inside, is in it."""
    for branch in reversed(list(root.walk())):
        own = branch.is_list and any(child.children for child in branch.children.values())
        branch.has_blocks = own or any(child.has_blocks for child in branch.children.values())


def _rank(name: str, custom: Mapping[str, int]) -> int:
    """Where a part stands by custom, counted from the front."""
    for pattern, rank in custom.items():
        if re.search(pattern, name.lower()):
            return rank
    return _MIDDLE


_MIDDLE = 5
_OUTSIDE = {
    r"head|classif|^fc\d*$|pooler|^output$|logits|score|^cls$|proj_out": 9,
    r"emb|wte|^tok|^shared": 0,
    r"wpe|stem": 1,
    r"^(final.*)?(layer)?_?norm$|ln_f|norm_f|final|output_norm": 8,
}
"""Of a whole model: what reads tokens or pixels first, what answers last."""
_INSIDE = {
    r"^(input_layernorm|ln_?1|norm1|attn_norm|attention_norm|pre_attention_layernorm)$": 0,
    r"^(ln_?2|norm2|ffn_norm|post_attention_layernorm|pre_feedforward_layernorm)$": 6,
    r"^(q|q_proj|query|wq|attn_q|to_q|gate_proj|w1|conv1|c_attn|c_fc|qkv|fc1|linear1)$": 1,
    r"^(k|k_proj|key|wk|attn_k|to_k|up_proj|w3|bn1|conv2|fc2|linear2)$": 2,
    r"^(v|v_proj|value|wv|attn_v|to_v|down_proj|w2|bn2|conv3)$": 3,
    r"^(o|o_proj|out|wo|out_proj|to_out|c_proj|proj)$": 4,
    r"^(self_)?att(n|ention)\d*$": 5,
    r"^(mlp|ffn?|feed_forward|block_sparse_moe)$": 7,
}
"""Of a block: attention before what follows it, and the projections of each in the order they are used."""


def home_of(parts: Sequence[str]) -> tuple[Sequence[str], str]:
    """The place of the layer that an array belongs to, and what it is called there.

    PyTorch keeps what a parametrised weight is computed from two places below the layer.

    Example:
        >>> home_of(("fc", "bias")), home_of(("fc", "parametrizations", "weight", "original"))
        ((('fc',), 'bias'), (('fc',), 'parametrizations/weight/original'))
    """
    at = len(parts) - 1
    if PARAMETRISED in parts[:-2]:
        at = len(parts) - 1 - parts[::-1].index(PARAMETRISED)
    return parts[:at], "/".join(parts[at:])


PARAMETRISED = "parametrizations"
