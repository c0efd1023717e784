"""What makes two ledgers differ: each change once, with what it does to the total."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Any, TypeAlias, cast, get_args

from tally.accounting.dialect import dialect
from tally.accounting.difference import Amount, Change, Difference, Kind, Step, amount, total
from tally.accounting.ledger import Entry, Ledger, Owner, State
from tally.accounting.pairing import (
    Pairs,
    is_called_otherwise,
    pair,
    pair_weights,
    place_in,
    tell_order,
    weights_of,
)
from tally.accounting.weight_changes import (
    WeightPair,
    merged,
    presence,
    reclass,
    reshare,
    resize,
    retype,
    size_steps,
)

_Switch: TypeAlias = tuple[Kind, str, str | None]
"""What happened, the path of the layer that did it, and the line."""
_ORDER = {kind: place for place, kind in enumerate(get_args(Kind))}
_SWITCHES: dict[tuple[State, State], Kind] = {
    ("trainable", "frozen"): "frozen",
    ("frozen", "trainable"): "unfrozen",
}


def diff(before: Ledger, after: Ledger) -> Difference:
    """Compare two ledgers: which layers were added, removed, renamed, resized, frozen, and what each did to the total.

    Names of models, lines of code, and what an optimizer keeps are no differences. Where one of the two doesn't tell
    which weights learn, as a file of weights doesn't, all that could learn are trainable in both.

    Args:
        before: The ledger that is started from.
        after: The ledger that it became.

    Example:
        >>> def model(units):
        ...     kernel = Entry(path="d/kernel", owner="d", shape=(4, units), axes=("features", "units"))
        ...     return Ledger(name="m", owners=(Owner(path="d", type="Dense"),), entries=(kernel,))
        >>> change, = diff(model(10), model(12)).changes
        >>> change.kind, change.path, change.amount.total
        ('resized', 'd', 8)
        >>> change.steps[0].name, change.steps[0].before, change.steps[0].after
        ('units', 10, 12)
    """
    if not all(dialect(ledger.source).tells_learning for ledger in (before, after)):
        before, after = _unfrozen(before), _unfrozen(after)
    comparison = _Comparison(before, after, pair(before, after))
    return Difference(
        names=(before.name, after.name),
        before=total(map(amount, before.entries)),
        after=total(map(amount, after.entries)),
        optimizer=(before.optimizer, after.optimizer),
        changes=tuple(comparison.sort(comparison.changes())),
        layers=sum(1 for owner in after.owners if owner.path),
        pairs=tuple(comparison.same_weights()),
    )


def _unfrozen(ledger: Ledger) -> Ledger:
    entries = (replace(e, state="trainable") if e.state == "frozen" else e for e in ledger.entries)
    return replace(ledger, entries=tuple(entries))


class _Comparison:
    """Two ledgers and which layer, and which weight, is which."""

    def __init__(self, before: Ledger, after: Ledger, pairs: Pairs) -> None:
        self.before, self.after, self.pairs = before, after, pairs
        self.origins = {new: old for old, new in pairs.items()}
        self.ordered = tell_order(before, after)
        self.parents = _parents(before), _parents(after)
        # Where a ledger says what feeds the layers inside a layer.
        self.wired = tuple(
            {parents[owner.path] for owner in ledger.owners if owner.inputs and owner.path}
            for ledger, parents in zip((before, after), self.parents, strict=True)
        )
        self.weights = {
            new: pair_weights(weights_of(before, old), weights_of(after, new)) for old, new in pairs.items()
        }
        self.homes = {
            old.path: new.path for found in self.weights.values() for old, new in found if old and new
        }

    def changes(self) -> Iterator[Change]:
        """Yield all changes, in no order."""
        yield from self._without_partner(self.before, self.parents[0], self.pairs, "removed")
        yield from self._without_partner(self.after, self.parents[1], self.origins, "added")
        for path, origin in self.origins.items():
            old, new = self.before.owner(origin), self.after.owner(path)
            yield from self._place(old, new)
            yield from self._structure(old, new)
            yield from self._types(new)
            yield from self._options(old, new)
            yield from self._surroundings(old, new)
            yield from self._order(origin, path)
        if "" not in self.origins:  # a ledger may have no row for the model itself
            yield from self._order("", "")
        yield from self._switches()

    # -- layers that are on one side only ----------------------------------------------------------------------------
    def _without_partner(
        self, ledger: Ledger, parents: dict[str, str], paired: Pairs, kind: Kind
    ) -> Iterator[Change]:
        """Yield each layer without a partner, together with those inside it that have none either."""
        alone = {owner.path: [owner] for owner in ledger.owners if owner.path not in paired}
        for path in sorted(alone, key=lambda path: -path.count("/")):  # from the inside out
            outside = parents.get(path)
            if outside and outside in alone:
                alone[outside].extend(alone[path])
        for path, inside in alone.items():
            if path and parents[path] and parents[path] in alone:
                continue
            weights = [entry for owner in inside for entry in weights_of(ledger, owner.path)]
            # The model itself may be left out of a ledger, and what stands for data often is.
            if weights or (path and inside[0].type != "InputLayer"):
                yield self._added_or_removed(kind, inside, weights)

    def _added_or_removed(self, kind: Kind, inside: list[Owner], weights: list[Entry]) -> Change:
        owner = inside[0]
        figures = total(map(amount, weights))
        return Change(
            kind=kind,
            path=owner.path,
            type=owner.type,
            layers=len(inside),
            weights=tuple(entry.path for entry in weights),
            steps=tuple(presence(e, kind == "added") for e in weights) if len(inside) == 1 else (),
            where=owner.origin,
            amount=figures if kind == "added" else Amount() - figures,
        )

    # -- where a layer stands ----------------------------------------------------------------------------------------
    def _place(self, old: Owner, new: Owner) -> Iterator[Change]:
        """Tell another name, or another layer around it; but not what follows from such a change further out."""
        if not old.path or old.path == new.path or not new.path:
            return  # where only the holder around it is told or not, it stands where it stood
        above, below = self.parents[0][old.path], self.parents[1][new.path]
        step = Step(name="place", before=old.path, after=new.path)
        if (above or below) and self.pairs.get(above) != below:
            yield self._change("moved", new, (step,))
        elif place_in(above, old.path) != place_in(below, new.path):
            yield self._change("renamed", new, (step,))

    def _order(self, origin: str, path: str) -> Iterator[Change]:
        """Tell layers that stand behind others than before, unless their wiring says what comes after what."""
        inside = self.after.children(path)
        old = {child.path: place for place, child in enumerate(self.before.children(origin))}
        if path in self.wired[1] or not self.ordered:
            return
        stayed = [child for child in inside if self.origins.get(child.path) in old]
        in_order = _longest_rise([old[self.origins[child.path]] for child in stayed])
        ahead = _neighbours(self.before.children(origin)), _neighbours(inside)
        for place, child in enumerate(stayed):
            if place not in in_order:
                before, after = ahead[0][self.origins[child.path]], ahead[1][child.path]
                step = Step(name="after", before=before, after=after)
                yield self._change("moved", child, (step,))

    # -- what a layer is made of -------------------------------------------------------------------------------------
    def _structure(self, old: Owner, new: Owner) -> Iterator[Change]:
        """Tell other sizes, and weights that came, went or have another name; of another class all at once."""
        pairs = self.weights[new.path]
        sizes = merged(step for pair in pairs for step in size_steps(*pair))
        single = [pair for pair in pairs if None in pair]
        resized = total(resize(*pair) for pair in pairs)
        changed = old.type != new.type and _tells_class(old) and _tells_class(new)
        if changed or (old.status != new.status and "unbuilt" in (old.status, new.status)):
            kind = "replaced" if changed else "built"
            steps = [Step(name="class", before=old.type, after=new.type)] if kind == "replaced" else []
            told = [presence(one, new is not None) for one, new in ((a or b, b) for a, b in single) if one]
            figures = resized + total(amount(b) - amount(a) for a, b in single)
            yield self._change(kind, new, (*steps, *sizes, *told), figures, pairs)
        else:
            if sizes:
                yield self._change("resized", new, sizes, resized, (p for p in pairs if size_steps(*p)))
            yield from map(_single_weight, single)
        for one, other in pairs:
            if one and other and one.name != other.name and not self._is_a_word(one, other):
                step = Step(name="place", before=one.path, after=other.path)
                yield Change(
                    kind="renamed", path=other.path, was=one.path, steps=(step,), weights=(other.path,)
                )

    def _is_told(self, step: Step) -> bool:
        """Whether both sides say what an option is: what one library has no word for isn't another choice."""
        return self.before.source == self.after.source or None not in (step.before, step.after)

    def _is_a_word(self, old: Entry, new: Entry) -> bool:
        """Whether another name is only the other library's word for the same weight."""
        return self.before.source != self.after.source and is_called_otherwise(old, new)

    def _types(self, new: Owner) -> Iterator[Change]:
        changed = [(a, b) for a, b in self.weights[new.path] if a and b and a.dtype != b.dtype]
        if changed:
            steps = (Step(name="dtype", before=a.dtype, after=b.dtype, weights=(b.name,)) for a, b in changed)
            figures = total(retype(a, b) for a, b in changed)
            yield self._change("retyped", new, merged(steps), figures, changed)

    def _options(self, old: Owner, new: Owner) -> Iterator[Change]:
        """Tell other options, but not those that a change of sizes or of weights already says."""
        if old.type != new.type:
            return
        pairs = self.weights[new.path]
        sizes = {(step.before, step.after) for pair in pairs for step in size_steps(*pair)}
        others = any(None in pair for pair in pairs)
        steps = tuple(
            step
            for step in (*_option_steps(old, new), *_constant_steps(old, new))
            if not _follows(step.before, step.after, sizes, others) and self._is_told(step)
        )
        if steps:
            yield self._change("reconfigured", new, steps)

    # -- what feeds a layer, and what the model takes and gives ------------------------------------------------------
    def _surroundings(self, old: Owner, new: Owner) -> Iterator[Change]:
        if not new.path:
            told = (
                ("input", old.input_shapes, new.input_shapes),
                ("output", old.output_shapes, new.output_shapes),
            )
            known = ((name, one, other) for name, one, other in told if one and other and one != other)
            if steps := tuple(Step(name=name, before=one, after=other) for name, one, other in known):
                yield self._change("reshaped", new, steps)
            return
        parents = self.parents[0][old.path], self.parents[1][new.path]
        if not all(parent in wired for parent, wired in zip(parents, self.wired, strict=True)):
            return
        fed = tuple(self.pairs.get(path) for path in old.inputs)
        # Where a feeder was added or removed, that has been said.
        is_known = None not in fed and all(path in self.origins for path in new.inputs)
        if is_known and fed != new.inputs:
            yield self._change("rewired", new, (Step(name="fed by", before=old.inputs, after=new.inputs),))

    # -- what training does with a weight, and where it is counted ---------------------------------------------------
    def _switches(self) -> Iterator[Change]:
        """Tell sharing, freezing and other states; what one switch did is one change."""
        groups: dict[_Switch, list[tuple[Step, Entry, Entry]]] = {}
        for path, pairs in self.weights.items():
            for old, new in pairs:
                if old and new:
                    for switch, step in (*self._sharing(path, old, new), *self._state(path, old, new)):
                        groups.setdefault(switch, []).append((step, old, new))
        for (kind, path, where), found in groups.items():
            weigh = reshare if kind in ("shared", "unshared") else reclass
            figures = total(weigh(old, new) for _, old, new in found)
            pairs = [(old, new) for _, old, new in found]
            steps = merged(step for step, _, _ in found)
            change = self._change(kind, self.after.owner(path), steps, figures, pairs)
            yield replace(change, layers=len({new.owner for _, _, new in found}), where=where)

    def _sharing(self, path: str, old: Entry, new: Entry) -> Iterator[tuple[_Switch, Step]]:
        before = old.shared_with and self.homes.get(old.shared_with, old.shared_with)
        if before != new.shared_with:
            step = Step(
                name="shared with", before=old.shared_with, after=new.shared_with, weights=(new.name,)
            )
            yield ("unshared" if new.shared_with is None else "shared", path, new.origin), step

    def _state(self, path: str, old: Entry, new: Entry) -> Iterator[tuple[_Switch, Step]]:
        if old.state == new.state:
            return
        kind = _SWITCHES.get((old.state, new.state), "reclassed")
        by, where = path, new.origin
        if kind == "frozen":
            by, where = new.frozen_by, new.frozen_at
        elif kind == "unfrozen":
            by, where = self.pairs.get(old.frozen_by or ""), old.frozen_at
        step = Step(name="state", before=old.state, after=new.state)
        yield (kind, path if by is None or by not in self.origins else by, where), step

    # -- results -----------------------------------------------------------------------------------------------------
    def _change(
        self,
        kind: Kind,
        owner: Owner,
        steps: tuple[Step, ...],
        figures: Amount | None = None,
        weights: Iterable[WeightPair] = (),
    ) -> Change:
        was = self.origins.get(owner.path)
        return Change(
            kind=kind,
            path=owner.path,
            was=None if was == owner.path else was,
            type=owner.type,
            weights=tuple(new.path for _, new in weights if new is not None),
            steps=steps,
            where=owner.origin,
            amount=figures or Amount(),
        )

    def sort(self, changes: Iterable[Change]) -> list[Change]:
        """Put changes in the order of the layers after; what was removed follows what it stood behind."""
        after = {owner.path: (place, 0) for place, owner in enumerate(self.after.owners)}
        before: dict[str, tuple[int, int]] = {}
        last = -1
        for place, owner in enumerate(self.before.owners, 1):
            if owner.path in self.pairs:
                last, _ = after[self.pairs[owner.path]]
            before[owner.path] = (last, place)
        after.update(
            (entry.path, after[entry.owner]) for entry in self.after.entries if entry.path not in after
        )
        homes = {entry.path: before[entry.owner] for entry in self.before.entries}

        def place_of(change: Change) -> tuple[tuple[int, int], int]:
            found = after.get(change.path)
            if change.kind == "removed":
                found = before[change.path] if change.type else homes[change.path]
            assert found is not None
            return found, _ORDER[change.kind]

        return sorted(changes, key=place_of)

    def same_weights(self) -> Iterator[tuple[str, str]]:
        """Yield the weights whose values can be compared: their paths before and after."""
        for pairs in self.weights.values():
            for old, new in pairs:
                if old and new and old.shape == new.shape and old.dtype == new.dtype:
                    yield old.path, new.path


def _parents(ledger: Ledger) -> dict[str, str]:
    found = {child.path: "" for child in ledger.children()}
    found.update((child.path, owner.path) for owner in ledger.owners for child in ledger.children(owner.path))
    return found


def _neighbours(siblings: tuple[Owner, ...]) -> dict[str, str | None]:
    """Return for each layer the path of the one in front of it; None for the first."""
    paths = [owner.path for owner in siblings]
    return dict(zip(paths, [None, *paths], strict=False))


def _single_weight(pair: WeightPair) -> Change:
    old, new = pair
    entry = new or old
    assert entry is not None
    return Change(
        kind="removed" if new is None else "added",
        path=entry.path,
        weights=(entry.path,),
        steps=(presence(entry, new is not None),),
        where=entry.origin,
        amount=amount(new) - amount(old),
    )


def _option_steps(old: Owner, new: Owner) -> Iterator[Step]:
    before, after = dict(old.options), dict(new.options)
    for name in {**before, **after}:
        one, other = before.get(name), after.get(name)
        if repr(one) != repr(other):  # 1, 1.0 and True are equal, and a NaN equals nothing
            yield Step(name=name, before=one, after=other)


def _constant_steps(old: Owner, new: Owner) -> Iterator[Step]:
    for one, other in zip_longest(old.constants, new.constants):
        if one != other:
            yield Step(name=(other or one)[0], before=one and one[1], after=other and other[1])


def _follows(one: Any, other: Any, sizes: set[tuple[Any, Any]], others: bool) -> bool:
    """Whether a change of an option is one of a size, or goes with weights that came or went."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        parts = zip_longest(cast("tuple[Any, ...]", one), cast("tuple[Any, ...]", other))
        return bool(sizes) and all(a == b or (a, b) in sizes for a, b in parts)
    if others and (isinstance(one, bool) or None in (one, other)):
        return True
    return isinstance(one, int) and (one, other) in sizes


def _tells_class(owner: Owner) -> bool:
    """Whether the class is known: a file of weights alone has no word for the model, and so it is a `Model`."""
    return owner.path != "" or owner.builtin or owner.type != "Model"


def _longest_rise(numbers: list[int]) -> set[int]:
    """Return the places of a longest run of rising numbers, others between them left out.

    Example:
        >>> sorted(_longest_rise([2, 0, 1, 3]))
        [1, 2, 3]
    """
    ends: list[int] = []  # the place where the best run of each length ends
    before: list[int | None] = []
    for place, number in enumerate(numbers):
        length = bisect_left(ends, number, key=numbers.__getitem__)
        before.append(ends[length - 1] if length else None)
        ends[length : length + 1] = [place]
    kept: set[int] = set()
    place = ends[-1] if ends else None
    while place is not None:
        kept.add(place)
        place = before[place]
    return kept
