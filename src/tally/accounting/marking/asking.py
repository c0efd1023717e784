"""What a statement asks for: the words for quantities, and how `dense.kernel` is taken apart."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from tally.accounting.ledger import Entry, Ledger, Owner
from tally.accounting.marking.statements import StatementError
from tally.accounting.naming import find_exactly, find_owner, nearest, owner_at
from tally.accounting.words import listed

Kind: TypeAlias = Literal[
    "parameters",
    "trainable",
    "non_trainable",
    "frozen",
    "state",
    "seeds",
    "optimizer",
    "untracked",
    "bytes",
    "multiply_adds",
    "weights",
    "without_biases",
    "layers",
    "input",
    "output",
    "weight",
    "option",
]

_WORDS: dict[Kind, str] = {
    "parameters": "parameters params param total total_params total_parameters count count_params",
    "trainable": "trainable trainable_params trainable_parameters",
    "non_trainable": "non_trainable nontrainable non_trainable_params non_trainable_parameters",
    "frozen": "frozen frozen_params frozen_parameters",
    "state": "state",
    "seeds": "seeds seed seed_state",
    "optimizer": "optimizer optimizer_params optimizer_parameters optimizer_state",
    "untracked": "untracked",
    "bytes": "bytes nbytes memory",
    "multiply_adds": "multiply_adds macs mult_adds",
    "weights": "weights arrays variables",
    "without_biases": "without_biases",
    "layers": "layers",
    "input": "input input_shape input_values",
    "output": "output output_shape output_values",
}
_KINDS: dict[str, Kind] = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_PARTS = {"shape": "shape", "bytes": "bytes", "nbytes": "bytes"} | dict.fromkeys(
    ("params", "parameters", "count", "size", "values"), "count"
)


class Quantity(NamedTuple):
    """What is asked of which layer.

    Args:
        path: The layer; `""` is the model itself.
        kind: What is asked.
        name: The path of a weight, or the name of one that the layer hasn't got; an option; the number of an input
            or output.
        part: `"shape"`, `"count"` or `"bytes"` where that was said of a weight, an input or an output.
    """

    path: str
    kind: Kind
    name: str = ""
    part: str = ""


def locate(ledger: Ledger, name: str) -> Quantity:
    """Find what a name stands for.

    Args:
        ledger: The model's ledger.
        name: `layer`, `layer.quantity`, or a quantity of the model itself. Where a layer has the whole name, that
            layer is meant.

    Raises:
        StatementError: There is no such layer or quantity, or there are several.

    Example:
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)])
        >>> locate(tally.account(model), "conv2d.kernel")
        Quantity(path='conv2d', kind='weight', name='conv2d/kernel', part='')
        >>> locate(tally.account(model), "total")
        Quantity(path='', kind='parameters', name='', part='')
    """
    if (path := find_exactly(ledger, name)) is not None:
        return Quantity(path, "parameters")
    if entry := next((entry for entry in ledger.entries if entry.path == name), None):
        return Quantity(entry.owner, "weight", entry.path)
    if quantity := read_quantity(ledger, "", name):
        return quantity
    for head, tail in _splits(name):
        path = find_owner(ledger, head)
        if path is not None and (quantity := read_quantity(ledger, path, tail)):
            return quantity
    if (path := _find_dotted(ledger, name)) is not None:
        return Quantity(path, "parameters")
    raise StatementError(_unknown(ledger, name))


def read_quantity(ledger: Ledger, path: str, text: str) -> Quantity | None:
    """Read what is asked of a layer, such as `kernel`, `output.shape` or `non-trainable`; None if nothing known is.

    Raises:
        StatementError: Several weights inside the layer have this name, or it has several outputs.
    """
    word, _, part = text.removesuffix("()").partition(".")
    word = {"biases": "bias", "kernels": "kernel"}.get(word, word)
    if part and part not in _PARTS:
        return None
    part = _PARTS.get(part, "")
    if entry := _weight(ledger, path, word):
        return Quantity(path, "weight", entry.path, part)
    word = re.sub("[- ]", "_", word.lower())
    if numbered := re.fullmatch(r"(input|output)_(\d+)", word):
        return _end(ledger, path, "input" if numbered[1] == "input" else "output", int(numbered[2]), part)
    kind = _KINDS.get(word)
    if kind in ("input", "output"):
        return _end(ledger, path, kind, None, part)
    if kind is not None:
        return Quantity(path, kind) if part in ("", "count") else None
    owner = owner_at(ledger, path)
    if missing := _missing(ledger, owner, word):
        return Quantity(path, "weight", missing, part)
    return Quantity(path, "option", word) if owner.option(word) is not None and not part else None


def _missing(ledger: Ledger, owner: Owner, word: str) -> str:
    """The usual name of a weight where a layer has none of it; empty where the word is no such name.

    That a pooling layer has no kernel is an answer, not a misspelling.
    """
    bare = owner.builtin and owner.status != "built" and owner.path and not ledger.children(owner.path)
    if word == "bias" and owner.option("use_bias") is not None:
        return word
    return word if word in ("kernel", "bias") and bare else ""


def _weight(ledger: Ledger, path: str, name: str) -> Entry | None:
    """The weight of a name that a layer holds itself, or else the only one inside it."""
    own = [entry for entry in ledger.owned_by(path) if entry.name == name]
    found = own or [entry for entry in ledger.under(path) if entry.name == name and path]
    if len(found) > 1:
        paths = listed([repr(entry.path) for entry in found])
        raise StatementError(f"'{path}' has {len(found)} weights '{name}': write {paths}.")
    return found[0] if found else None


def _end(ledger: Ledger, path: str, kind: Kind, number: int | None, part: str) -> Quantity | None:
    """An input or output, told apart by its number where several differ."""
    owner = owner_at(ledger, path)
    shapes = owner.input_shapes if kind == "input" else owner.output_shapes
    if number is None and len(set(shapes)) > 1:
        several = listed([f"{kind}_{place}" for place in range(len(shapes))])
        raise StatementError(f"{_said(owner)} has {len(shapes)} {kind}s: write {several}.")
    if number is not None and number >= len(shapes):
        raise StatementError(f"{_said(owner)} has no {kind}_{number}: they are counted from 0.")
    return Quantity(path, kind, str(number or 0), part)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """The ways to take a name apart at a dot, the shortest layer first."""
    parts = name.split(".")
    for place in range(1, len(parts)):
        yield ".".join(parts[:place]), ".".join(parts[place:])
        if place > 1:
            yield "/".join(parts[:place]), ".".join(parts[place:])


def _find_dotted(ledger: Ledger, name: str) -> str | None:
    """Find a layer whose path may be written with dots, as attributes are."""
    path = find_owner(ledger, name)
    return path if path is not None or "." not in name else find_owner(ledger, name.replace(".", "/"))


def _unknown(ledger: Ledger, name: str) -> str:
    """Say what there is no such thing of, and what may be meant."""
    for head, tail in _splits(name):
        if (path := find_owner(ledger, head)) is not None:
            return _lacks(ledger, owner_at(ledger, path), tail)
    owners = [owner for owner in ledger.owners if owner.path]
    paths, names = [owner.path for owner in owners], [owner.name for owner in owners]
    head = name.partition(".")[0]
    near = nearest(head, [*paths, *names, *_KINDS])
    there = f" There is {listed([repr(path) for path in paths])}." if paths else ""
    return f"There is no layer '{head}'.{near or there}"


def _lacks(ledger: Ledger, owner: Owner, tail: str) -> str:
    names = list(dict.fromkeys(entry.name for entry in ledger.under(owner.path)))
    held = f"its weights are {listed(names)}" if names else "it has no weights"
    known = [*names, *_KINDS, *(name for name, _ in owner.options)]
    return f"{_said(owner)} has no '{tail}'; {held}.{nearest(tail, known)}"


def _said(owner: Owner) -> str:
    return f"'{owner.path or owner.name}' ({owner.type})"
