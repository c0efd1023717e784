"""Statements in English, such as `The first convolutional layer has 320 parameters`, read without guessing."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tally.accounting.ledger import Ledger, Owner
from tally.accounting.marking.asking import Kind, Quantity, read_quantity
from tally.accounting.marking.statements import Given, StatementError, read_value
from tally.accounting.naming import find_owner
from tally.accounting.words import listed


class Question(NamedTuple):
    """A statement whose subject is found.

    Args:
        text: As it was written.
        quantity: What it is about.
        given: What it says, every step of a calculation.
        otherwise: What else it may be about, where a word is used in two senses: `weights` with biases and without.
    """

    text: str
    quantity: Quantity
    given: tuple[Given, ...]
    otherwise: Quantity | None = None


class Claim(NamedTuple):
    """A statement about the sharing of a convolution's weights.

    Args:
        text: As it was written.
        path: The convolution.
        shared: Whether they are said to be shared.
        between: `"channels"` or `"positions"`.
    """

    text: str
    path: str
    shared: bool
    between: str


_VERBS = "has|have|contains|uses|needs|learns|trains|train|learn|holds|owns"
_WHATS = (
    r"(?:(?P<state>trainable|learnable|non-?trainable|frozen) )?"
    r"(?P<what>parameters|params|weights and biases|weights|biases|layers|multiply-adds|bytes|outputs?|filters|units)"
    r"(?: \(weights and biases\))?"
)
_TOTAL = r"(?: a total of| exactly| in total| only| altogether)?"
_NUMBER = r"(?P<value>no|zero|[\d(~].*?)"
_FORMS = tuple(
    re.compile(form, re.I)
    for form in (
        rf"(?P<who>.+?) (?:{_VERBS}){_TOTAL} {_NUMBER} {_WHATS}{_TOTAL}",
        rf"(?P<who>.+?) (?:does not|doesn't|do not|don't) have (?P<value>any )?{_WHATS}",
        rf"(?:the )?(?:total )?number of {_WHATS}(?: (?:of|in) (?P<who>.+?))? is {_NUMBER}",
        rf"there are {_NUMBER} {_WHATS}(?: (?:of|in) (?P<who>.+?))?{_TOTAL}",
        r"(?:the )?(?P<end>output|input|kernel|bias)(?: shape| size)? of (?P<who>.+?) "
        r"(?:is|has(?: the)? shape) (?P<value>.+)",
        r"(?P<who>.+?)(?:'s|s')? (?P<end>output|input|kernel|bias)(?: shape| size)? "
        r"(?:is|has(?: the)? shape) (?P<value>.+)",
        r"(?P<who>.+?) (?P<end>output)s (?:a shape of |shape |values of shape )?(?P<value>[\d(\[].*)",
    )
)
_SHARING = re.compile(
    r"(?:the )?(?:weights|filters|kernels|parameters)(?: of (?P<who>.+?))? are (?P<no>not )?"
    r"(?P<how>shared|separate|different|the same)(?: \w+)?? (?:between|across|over|among|for|in|at)"
    r"(?: each| the| all| every| of)*(?: different| input)? ?(?P<what>channels?|positions?|places?|pixels?)",
    re.I,
)
_ORDINALS = {
    word: place
    for place, word in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]
    )
}
_LAST = ("last", "final", "output")
_MODELS = (
    "model",
    "network",
    "net",
    "whole model",
    "whole network",
    "it",
    "i",
    "we",
    "you",
    "neural network",
)
_KINDS = {
    "conv": r"(?!.*LSTM).*Conv.*",
    "convolution": r"(?!.*LSTM).*Conv.*",
    "convolutional": r"(?!.*LSTM).*Conv.*",
    "fullyconnected": r"Dense",
    "fc": r"Dense",
    "linear": r"Dense|Linear",
    "pool": r".*Pooling.*",
    "pooling": r".*Pooling.*",
    "maxpool": r"MaxPooling.*",
    "avgpool": r"AveragePooling.*",
    "averagepool": r"AveragePooling.*",
    "batchnorm": r"BatchNormalization",
    "batchnormalisation": r"BatchNormalization",
    "layernorm": r"LayerNormalization",
    "recurrent": r"SimpleRNN|LSTM|GRU|RNN",
    "attention": r".*Attention",
}
_STATES: dict[str, Kind] = {
    "trainable": "trainable",
    "learnable": "trainable",
    "nontrainable": "non_trainable",
    "non-trainable": "non_trainable",
    "frozen": "frozen",
}
_COUNTS: dict[str, Kind] = {"layers": "layers", "multiply-adds": "multiply_adds", "bytes": "bytes"}


def is_sentence(text: str) -> bool:
    """Whether a statement is written in words rather than as `name=value`.

    Example:
        >>> is_sentence("The model has 10 parameters."), is_sentence("total params = 10")
        (True, False)
    """
    return bool(
        re.search(
            rf"\s(?:{_VERBS}|is|are|does|do|doesn't|don't|outputs)\s", f" {text.partition('=')[0]} ", re.I
        )
    )


def read_sentence(ledger: Ledger, text: str) -> Question | Claim:
    """Read a sentence about a model.

    Args:
        ledger: The model's ledger, in which `the second convolutional layer` is looked up.
        text: The sentence; a number before it, as in a list, is left out.

    Raises:
        StatementError: It is not understood, or no one layer is meant. Nothing is guessed.

    Example:
        >>> model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3), tally.layers.Dense(2)])
        >>> question = read_sentence(tally.account(model), "The second dense layer has 8 parameters.")
        >>> question.quantity.path, question.given[0].number
        ('dense_1', 8)
    """
    plain = re.sub(r"\s+", " ", re.sub(r"^\s*(?:\d+[.)]|[-*•])\s+", "", text)).strip().rstrip(".!").strip()
    if match := _SHARING.fullmatch(plain):
        shared = (match["how"].lower() in ("shared", "the same")) != bool(match["no"])
        between = "channels" if match["what"].lower().startswith("channel") else "positions"
        return Claim(
            text.strip(), _subject(ledger, match["who"] or "the convolutional layer"), shared, between
        )
    for form in _FORMS:
        if match := form.fullmatch(plain):
            return _question(ledger, text.strip(), match)
    raise StatementError(
        f"'{text.strip()}' is not understood: write 'layer=number', such as 'conv2d=320', or a sentence such as "
        "'The first convolutional layer has 320 parameters.'"
    )


def _question(ledger: Ledger, text: str, match: re.Match[str]) -> Question:
    found = match.groupdict()
    path = _subject(ledger, found["who"] or "the model")
    value = (found["value"] or "no").strip().lower()
    given = (Given(text="0", number=0),) if value in ("no", "zero", "any") else read_value(found["value"])
    if end := found.get("end"):
        return Question(text, _end(ledger, path, end.lower()), given)
    what = (found["what"] or "").lower()
    if state := found.get("state"):
        return Question(text, Quantity(path, _STATES[state.lower()]), given)
    if what == "biases":
        return Question(text, _end(ledger, path, "bias"), given)
    if what in ("filters", "units"):
        return Question(text, _end(ledger, path, what), given)
    if what.startswith("output"):
        return Question(text, Quantity(path, "output", "0", "count"), given)
    quantity = Quantity(path, _COUNTS.get(what, "parameters"))
    return Question(text, quantity, given, Quantity(path, "without_biases") if what == "weights" else None)


def _end(ledger: Ledger, path: str, word: str) -> Quantity:
    quantity = read_quantity(ledger, path, word)
    if quantity is None:
        raise StatementError(f"'{path}' has no {word}.")
    return quantity


def _subject(ledger: Ledger, words: str) -> str:
    """Find the one layer that is meant."""
    name = re.sub(r"^(?:the|this|a|an) ", "", words.strip(), flags=re.I)
    if name.lower() in _MODELS:
        return ""
    bare = re.sub(r"^layer | layer$|['\"`‘’“”]", "", name, flags=re.I).strip()
    if bare and " " not in bare and (path := find_owner(ledger, bare)) is not None:
        return path
    place, kind = _ordinal(re.sub(r"\s*layers?$", "", name, flags=re.I))
    owners = _of_kind(ledger, kind)
    if not owners:
        raise StatementError(f"No layer is meant by '{words}' that this model has.")
    if name.lower().startswith("output") and (ends := _ends(ledger, owners)):
        owners, place = ends, None
    paths = [owner.path for owner in owners]
    if place is None and len(owners) > 1:
        raise StatementError(f"'{words}' may be {listed([repr(path) for path in paths])}: say which.")
    try:
        return paths[place or 0]
    except IndexError:
        raise StatementError(
            f"There is no '{words}': there is {listed([repr(path) for path in paths])}."
        ) from None


def _ends(ledger: Ledger, owners: Sequence[Owner]) -> list[Owner]:
    """The layers of a graph that feed no other; none where the ledger knows no graph."""
    feeders = {feeder for owner in ledger.owners for feeder in owner.inputs}
    return [owner for owner in owners if feeders and not {owner.path, owner.name} & feeders]


def _ordinal(words: str) -> tuple[int | None, str]:
    """Take the ordinal from the kind of a layer: `second max pooling` is 1 and `max pooling`."""
    head, _, rest = words.partition(" ")
    word = head.lower()
    if word in _ORDINALS:
        return _ORDINALS[word], rest
    if match := re.fullmatch(r"(\d+)(?:st|nd|rd|th)", word):
        return int(match[1]) - 1, rest
    if word in _LAST:
        return -1, rest
    return None, rest if word == "only" else words


def _of_kind(ledger: Ledger, kind: str) -> Sequence[Owner]:
    """The layers of a kind in their order; of no kind, the outermost layers but those that stand for data."""
    plain = re.sub(r"[\s_-]", "", kind).lower()
    if not plain:
        return [owner for owner in ledger.children("") if owner.type != "InputLayer"]
    pattern = _KINDS.get(plain) or rf"{re.escape(plain)}(?:[123]d)?"
    layers = [owner for owner in ledger.owners if owner.path and owner.module != "tally.ops"]
    return [owner for owner in layers if re.fullmatch(pattern, owner.type, re.I)]
