"""What came of checking statements about a model: a verdict for each."""

import json
from dataclasses import asdict, dataclass

from tally.accounting.ledger import Shape

VERIFICATION_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one statement.

    Args:
        statement: As it was written.
        layer: The path of the layer it is about; `""` is the model itself.
        quantity: What it is about: `"parameters"`, `"weight"`, `"output"` and so on.
        right: Whether it is so; None where that can't be told, because a layer is not built or a size is open.
        given: The number or the shape it gives; None where it gives none.
        expected: The true one; None where it can't be told.
        says: What is true, in a sentence with its formula.
        formula: How the true number comes about, in numbers: `"32 × (1·3·3 + 1) = 320"`; empty where it has no formula.
        symbols: The same in symbols.
        explanations: What a wrong number is instead, or what else is to be said; the first is the most plausible.
    """

    statement: str
    layer: str
    quantity: str
    right: bool | None
    given: int | Shape | None
    expected: int | Shape | None
    says: str
    formula: str = ""
    symbols: str = ""
    explanations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of all statements; true if each of them holds.

    Args:
        name: The model's name.
        verdicts: One for each statement, in their order.

    Example:
        >>> bool(Verification(name="m", verdicts=()))
        True
    """

    name: str
    verdicts: tuple[Verdict, ...]

    @property
    def holds(self) -> bool:
        """Whether every statement is right; one that can't be told is not."""
        return all(verdict.right for verdict in self.verdicts)

    @property
    def right(self) -> int:
        """How many are right."""
        return sum(verdict.right is True for verdict in self.verdicts)

    @property
    def summary(self) -> str:
        """How many of them hold, in words: `"2 of 4 hold"`."""
        many, right = len(self.verdicts), self.right
        if many == 1:
            words: dict[bool | None, str] = {
                True: "It holds",
                False: "It does not hold",
                None: "It can't be told",
            }
            return words[self.verdicts[0].right]
        if right == many:
            return "Both hold" if many == 2 else f"All {many:,} hold"
        return f"{right if right else 'None'} of {many:,} {'holds' if right == 1 else 'hold'}"

    def to_json(self, *, indent: int | None = None) -> str:
        """Write all verdicts as JSON under a versioned schema, their keys always in the same order."""
        head = {"schema_version": VERIFICATION_VERSION, "kind": "verify", "name": self.name}
        counts = {"holds": self.holds, "right": self.right, "statements": len(self.verdicts)}
        verdicts = [asdict(verdict) for verdict in self.verdicts]
        return json.dumps(head | counts | {"verdicts": verdicts}, indent=indent, ensure_ascii=False)

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        return f"<Verification of {self.name!r}: {self.summary}>"
