"""Which layer of one ledger is which of another: by name, by what it is made of, and by what stands around it."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, TypeAlias

from tally.accounting.dialect import dialect
from tally.accounting.ledger import Entry, Ledger, Owner, State

WEIGHTS: tuple[State, ...] = ("trainable", "frozen", "state", "fixed", "untracked")
"""The states of what belongs to a layer's structure; seeds and the optimizer's numbers don't."""

Pairs: TypeAlias = dict[str, str]
_Score: TypeAlias = Callable[[str, str], int]
_Named: TypeAlias = tuple[str, int]

_EQUAL = 1000
"""What two layers are worth to each other that are alike to the last weight inside; others are worth less."""
_CHOSEN = 1000
"""What one and the same name adds that somebody chose. One that was counted, such as `dense_1`, only breaks ties."""
_RENAMED = 300
"""What two names take away that were chosen, and differ."""
_ALIKE = 0.5
"""The share of properties that two layers must have in common to be taken for one, where no name says so."""
_VERY_ALIKE = 0.75
"""The same where two names were chosen, and differ."""
_LARGEST = 500_000
"""The most comparisons of layers with layers, each with each, in one search."""


def pair(before: Ledger, after: Ledger) -> Pairs:
    """Find for each layer of one ledger the one in another that it has become.

    The layers inside a pair are aligned as the lines of two texts are: order is kept, and the likeness of what is
    paired is as large as it can be. So a block that is put between others doesn't make new ones of those that follow,
    although their numbers change. What is left over is looked for in other places, by structure, and only paired where
    it is the only one of its kind.

    Args:
        before: The one ledger.
        after: The other.

    Returns:
        Paths before, each with the path after. Who is missing was removed or added.

    Example:
        >>> def stack(*layers):
        ...     owners = tuple(Owner(path=p, type="Dense", options=(("units", n),)) for p, n in layers)
        ...     return Ledger(name="stack", owners=owners)
        >>> pair(stack(("dense", 32), ("dense_1", 10)), stack(("dense", 32), ("dense_1", 64), ("dense_2", 10)))
        {'dense': 'dense', 'dense_1': 'dense_2'}
    """
    numbers: dict[Any, int] = {}
    sides = _Side.of(before, numbers), _Side.of(after, numbers)
    pairing = _Pairing(*sides, ordered=tell_order(before, after))
    if "" in pairing.before.owners and "" in pairing.after.owners:
        pairing.join("", "")
    pairing.descend("", "")
    pairing.find_moved()
    return pairing.pairs


def tell_order(before: Ledger, after: Ledger) -> bool:
    """Whether the layers of both ledgers are in the order in which they were made, and not in that of their names."""
    return dialect(before.source).ordered and dialect(after.source).ordered


def weights_of(ledger: Ledger, path: str) -> list[Entry]:
    """Return what the layer at `path` is made of itself, without seeds and the optimizer's numbers."""
    return [entry for entry in ledger.owned_by(path) if entry.state in WEIGHTS]


def pair_weights(before: Sequence[Entry], after: Sequence[Entry]) -> list[tuple[Entry | None, Entry | None]]:
    """Pair the weights of two layers: by name; by what libraries call the same weight, however its axes lie; by shape.

    By its shape a weight is paired only where it is the only one left of that on both sides.

    Example:
        >>> old = [Entry(path="d/w", owner="d", shape=(3, 2)), Entry(path="d/b", owner="d", shape=(2,))]
        >>> new = [Entry(path="d/kernel", owner="d", shape=(3, 2))]
        >>> [(one and one.name, other and other.name) for one, other in pair_weights(old, new)]
        [('w', 'kernel'), ('b', None)]
    """
    old, new = _named(before), _named(after)
    pairs = {name: name for name in old if name in new}
    called = _gathered(new, pairs.values(), _meaning)
    for name in [name for name in old if name not in pairs]:
        others = called.get(_meaning(old[name]), [])
        if len(others) == 1:
            pairs[name] = others.pop()
    left = _gathered(old, pairs, _form)
    alike = _gathered(new, pairs.values(), _form)
    pairs.update(
        (names[0], alike[form][0])
        for form, names in left.items()
        if len(names) == len(alike.get(form, ())) == 1
    )
    taken = set(pairs.values())
    found = [(entry, new[pairs[name]] if name in pairs else None) for name, entry in old.items()]
    return [*found, *((None, entry) for name, entry in new.items() if name not in taken)]


def _gathered(
    named: dict[_Named, Entry], taken: Iterable[_Named], key: Callable[[Entry], Any]
) -> dict[Any, list[_Named]]:
    """Gather what is left of the weights of a layer by a property; what has none of it is left out."""
    known = set(taken)
    found: dict[Any, list[_Named]] = defaultdict(list)
    for name, entry in named.items():
        if name not in known and (one := key(entry)) is not None:
            found[one].append(name)
    return found


_WORDS = {
    **dict.fromkeys(("kernel", "embeddings", "embedding", "gamma", "scale"), "weight"),
    "beta": "bias",
    **dict.fromkeys(("moving_mean", "mean"), "running_mean"),
    **dict.fromkeys(("moving_variance", "var", "variance"), "running_var"),
}
"""What libraries call the same weight, and PyTorch's word for it."""


def is_called_otherwise(old: Entry, new: Entry) -> bool:
    """Tell whether two weights are the same in the words of two libraries, their axes in whatever order.

    Example:
        >>> torch = Entry(path="d/weight", owner="d", shape=(5, 10), axes=("units", "features"))
        >>> keras = Entry(path="d/kernel", owner="d", shape=(10, 5), axes=("features", "units"))
        >>> is_called_otherwise(torch, keras)
        True
    """
    return _meaning(old) is not None and _meaning(old) == _meaning(new)


def has_turned(old: Entry, new: Entry) -> bool:
    """Tell whether two weights have the same axes of the same sizes, in whatever order; each axis has a name."""
    sized = [sorted(zip(entry.axes, entry.shape, strict=True)) for entry in (old, new)]
    return sized[0] == sized[1] and all(old.axes)


def _meaning(entry: Entry) -> Any:
    """A weight's word and its sized axes in no order; None where an axis has no name."""
    if not all(entry.axes):
        return None
    return _word(entry), tuple(sorted(zip(entry.axes, entry.shape, strict=True)))


def _word(entry: Entry) -> str:
    return _WORDS.get(entry.name, entry.name)


def _named(entries: Sequence[Entry]) -> dict[_Named, Entry]:
    """Give each weight its name and, should several of a layer have one, its place among those."""
    named: dict[_Named, Entry] = {}
    counts: Counter[str] = Counter()
    for entry in entries:
        named[entry.name, counts[entry.name]] = entry
        counts[entry.name] += 1
    return named


def place_in(parent: str, path: str) -> str:
    """Return where a layer stands inside another, such as `blocks/3`."""
    return path.removeprefix(f"{parent}/") if parent else path


def is_counted(owner: Owner, place: str) -> bool:
    """Whether a layer's name was counted, as in `dense_1` or `blocks/3`, and not chosen by somebody.

    Example:
        >>> is_counted(Owner(path="dense_1", type="Dense"), "dense_1")
        True
        >>> is_counted(Owner(path="head", type="Dense"), "head")
        False
    """
    stem = re.sub(r"(^|_)\d+$", "", place.rpartition("/")[2])
    return stem.replace("_", "") in ("", re.sub(r"\W", "", owner.type).lower())


def _form(entry: Entry) -> tuple[tuple[int, ...], str]:
    return entry.shape, entry.dtype


@dataclass(slots=True)
class _Side:
    """One ledger, with what its layers are compared by: numbers that stand for equal things on both sides.

    Args:
        ledger: The ledger.
        owners: Its layers by path, each after the one that it is inside.
        parents: The path that each is inside of.
        places: Where each stands in there.
        counted: Whether that name was counted.
        kinds: A number for all that a layer is made of, the layers inside included.
        traits: How often each property occurs in a layer and inside it.
    """

    ledger: Ledger
    owners: dict[str, Owner] = field(default_factory=dict[str, Owner])
    parents: dict[str, str] = field(default_factory=dict[str, str])
    places: dict[str, str] = field(default_factory=dict[str, str])
    counted: dict[str, bool] = field(default_factory=dict[str, bool])
    kinds: dict[str, int] = field(default_factory=dict[str, int])
    traits: dict[str, Counter[int]] = field(default_factory=dict[str, Counter[int]])

    @classmethod
    def of(cls, ledger: Ledger, numbers: dict[Any, int]) -> "_Side":
        side = cls(ledger)
        for owner in ledger.owners:
            if owner.path == "":
                side.owners[""] = owner
                side._examine(owner, numbers)
                return side
        for owner in ledger.children():
            side.parents[owner.path] = ""
            side._examine(owner, numbers)
        return side

    def _examine(self, owner: Owner, numbers: dict[Any, int]) -> None:
        def number(*thing: Any) -> int:
            return numbers.setdefault(thing, len(numbers))

        self.owners[owner.path] = owner
        place = place_in(self.parents.get(owner.path, ""), owner.path)
        self.places[owner.path], self.counted[owner.path] = place, is_counted(owner, place)
        kind = owner.type
        weights = weights_of(self.ledger, owner.path)
        traits = Counter([number(kind)])
        # By how they are written, since 1, 1.0 and True are equal, and a NaN equals nothing.
        options = tuple((name, repr(value)) for name, value in owner.options)
        traits.update(number(kind, *option) for option in options)
        traits.update(number(kind, _word(entry), tuple(sorted(entry.shape))) for entry in weights)
        inside: list[int] = []
        for child in self.ledger.children(owner.path):
            self.parents[child.path] = owner.path
            self._examine(child, numbers)
            inside.append(self.kinds[child.path])
            traits.update(self.traits[child.path])
        # In no order: a file may hold a layer's arrays by their names.
        made_of = tuple(sorted((entry.name, entry.shape, entry.dtype) for entry in weights))
        self.kinds[owner.path] = number(kind, options, made_of, tuple(inside))
        self.traits[owner.path] = traits

    def inside(self, path: str) -> list[str]:
        return [child.path for child in self.ledger.children(path)]

    def labels(self, paths: list[str]) -> tuple[list[Any], list[Any]]:
        """Return what two layers have in common that are the same at the same place, and at any place."""
        kinds = [self.kinds[path] for path in paths]
        return list(zip(kinds, map(self.places.__getitem__, paths), strict=True)), kinds


@dataclass(slots=True)
class _Pairing:
    before: _Side
    after: _Side
    ordered: bool
    pairs: Pairs = field(default_factory=dict[str, str])
    taken: set[str] = field(default_factory=set[str])
    likeness: dict[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])

    def join(self, old: str, new: str) -> None:
        self.pairs[old] = new
        self.taken.add(new)

    def _insides(self, before: str, after: str) -> tuple[list[str], list[str]]:
        """What is inside two layers; where the order says nothing, equal names are put side by side."""
        old, new = self.before.inside(before), self.after.inside(after)
        if self.ordered:
            return old, new
        places = {self.before.places[path]: number for number, path in enumerate(old)}
        beside: dict[str, int] = {}
        last = -1
        for path in new:
            beside[path] = last = places.get(self.after.places[path], last)
        return old, sorted(new, key=beside.__getitem__)

    def descend(self, before: str, after: str) -> None:
        """Pair what is inside a pair."""
        old, new = self._insides(before, after)
        labels = zip(self.before.labels(old), self.after.labels(new), strict=True)
        for one, other in _align(old, new, list(labels), self._score):
            self.join(one, other)
            self.descend(one, other)

    def find_moved(self) -> None:
        """Pair what has changed places: the larger before what is inside it, and only where it is clear."""
        for key in (self._by_kind_and_place, self._by_kind, self._by_name):
            self._pair_by(key)
        parents = {
            (self.before.parents[old], self.after.parents[new]): None
            for old, new in self.pairs.items()
            if old and new
        }
        for before, after in parents:
            if self.pairs.get(before) != after and (before or after):
                self._fill(before, after)

    def _pair_by(self, key: Callable[[_Side, str], Any]) -> None:
        old, new = self._left(self.before, self.pairs, key), self._left(self.after, self.taken, key)
        shared = [one for one in old if len(old[one]) == len(new.get(one, ()))]
        shared.sort(key=lambda one: -self.before.traits[old[one][0]].total())
        for one in shared:
            for before, after in zip(old[one], new[one], strict=True):
                is_free = before not in self.pairs and after not in self.taken
                if is_free and self._compare(before, after) >= _ALIKE:
                    self.join(before, after)
                    self.descend(before, after)

    def _left(self, side: _Side, taken: Any, key: Callable[[_Side, str], Any]) -> dict[Any, list[str]]:
        found: dict[Any, list[str]] = defaultdict(list)
        for path in side.owners:
            # What has no weights is alike in too many places to be told apart by what it is.
            if path and path not in taken and any(e.state in WEIGHTS for e in side.ledger.under(path)):
                found[key(side, path)].append(path)
        found.pop(None, None)
        return found

    def _by_kind_and_place(self, side: _Side, path: str) -> Any:
        return side.kinds[path], side.places[path]

    def _by_kind(self, side: _Side, path: str) -> Any:
        return side.kinds[path]

    def _by_name(self, side: _Side, path: str) -> Any:
        return None if side.counted[path] else (side.owners[path].type, side.places[path])

    def _fill(self, before: str, after: str) -> None:
        """Pair what is left between layers that moved together, such as the activations between convolutions."""

        def score(old: str, new: str) -> int:
            if self.pairs.get(old) == new:
                return 2 * _EQUAL
            is_free = old not in self.pairs and new not in self.taken
            return _EQUAL if is_free and self.before.kinds[old] == self.after.kinds[new] else 0

        old, new = self._insides(before, after)
        labels: tuple[list[Any], list[Any]] = [self.pairs.get(one) for one in old], list(new)
        for one, other in _align(old, new, [labels], score):
            if one not in self.pairs:
                self.join(one, other)
                self.descend(one, other)

    def _score(self, old: str, new: str) -> int:
        """How good a pair two layers are that stand in a pair; 0 for none."""
        one, other = self.before.owners[old], self.after.owners[new]
        is_named = self.before.places[old] == self.after.places[new]
        counted = self.before.counted[old], self.after.counted[new]
        bonus = _CHOSEN * (is_named and not all(counted)) + is_named
        if self.before.kinds[old] == self.after.kinds[new]:
            return _EQUAL + bonus - _RENAMED * (not is_named and not any(counted))
        likeness = self._compare(old, new)
        if one.type != other.type:
            return int(300 * likeness) + bonus if is_named else 0
        needed = _ALIKE if any(counted) else _VERY_ALIKE
        if is_named:
            needed = _ALIKE / 2 if all(counted) else 0
        return int(800 * likeness) + 1 + bonus if likeness >= needed else 0

    def _compare(self, old: str, new: str) -> float:
        """The share of properties that two layers have in common, what is inside them included."""
        key = self.before.kinds[old], self.after.kinds[new]
        if key not in self.likeness:
            one, other = self.before.traits[old], self.after.traits[new]
            small, large = sorted((one, other), key=len)
            common = sum(min(count, large[trait]) for trait, count in small.items() if trait in large)
            self.likeness[key] = 2 * common / (one.total() + other.total())
        return self.likeness[key]


_Labels: TypeAlias = tuple[list[Any], list[Any]]


def _align(old: list[str], new: list[str], labels: list[_Labels], score: _Score) -> Iterator[tuple[str, str]]:
    """Pair two sequences in order, so that the sum of scores is as large as it can be.

    Equal labels are worth as much as anything can be, so equal beginnings and ends need no search. Where the rest is
    too long to compare each with each, runs of equal labels are pairs, then runs of the next labels between those.
    """
    if not labels:
        if len(old) * len(new) <= _LARGEST:
            yield from _search(old, new, score)
        return
    ones, others = labels[0]
    start = _count_equal(zip(ones, others, strict=False))
    stop = _count_equal(zip(reversed(ones[start:]), reversed(others[start:]), strict=False))
    runs = [(0, 0, start), (len(old) - stop, len(new) - stop, stop)]
    rest = labels[:0]
    if (len(old) - start - stop) * (len(new) - start - stop) > _LARGEST:
        runs = difflib.SequenceMatcher(None, ones, others, autojunk=False).get_matching_blocks()
        rest = labels[1:]
    i = j = 0
    for first, second, size in runs:
        between = [(one[i:first], other[j:second]) for one, other in rest]
        yield from _align(old[i:first], new[j:second], between, score)
        i, j = first + size, second + size
        yield from zip(old[first:i], new[second:j], strict=True)


def _count_equal(pairs: Iterable[tuple[Any, Any]]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _search(old: list[str], new: list[str], score: _Score) -> Iterator[tuple[str, str]]:
    scores = [[score(one, other) for other in new] for one in old]
    best = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i in range(len(old) - 1, -1, -1):
        row, following = best[i], best[i + 1]
        for j in range(len(new) - 1, -1, -1):
            together = scores[i][j] + following[j + 1] if scores[i][j] else 0
            row[j] = max(together, following[j], row[j + 1])
    i = j = 0
    while i < len(old) and j < len(new):
        if scores[i][j] and best[i][j] == scores[i][j] + best[i + 1][j + 1]:
            yield old[i], new[j]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
