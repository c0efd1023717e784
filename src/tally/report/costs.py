"""What a row's layers take to compute: multiply-adds, and the bytes of what they give out, for one example."""

from dataclasses import dataclass

from tally.accounting.ledger import Ledger, bits
from tally.accounting.work import multiply_adds, output_values
from tally.report.rows import Line, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A number of multiply-adds.

    Args:
        known: What could be counted.
        complete: Whether that is all.
    """

    known: int
    complete: bool = True

    def times(self, number: int) -> "Work":
        """The same several times over."""
        return Work(known=number * self.known, complete=self.complete)

    def __add__(self, other: "Work") -> "Work":
        return Work(known=self.known + other.known, complete=self.complete and other.complete)


NOTHING = Work(known=0)


def work_of(ledger: Ledger, line: Line) -> Work:
    """The multiply-adds of a row for one example: of the layer alone where its inside has rows of its own."""
    node = line.node
    one = _own(ledger, node) if line.opened or node.owner.path == "" else _whole(ledger, node)
    return one.times(line.times)


def _own(ledger: Ledger, node: Node) -> Work:
    if node.gathers:
        return NOTHING
    count = multiply_adds(ledger, node.owner.path)
    return Work(known=count or 0, complete=count is not None)


def _whole(ledger: Ledger, node: Node) -> Work:
    work = _own(ledger, node)
    for child in node.inside:
        work += _whole(ledger, child).times(child.times)
    return work


def works_itself(ledger: Ledger) -> bool:
    """Whether the model multiplies, or may multiply, outside the layers inside it."""
    return any(owner.path == "" for owner in ledger.owners) and multiply_adds(ledger, "") != 0


def total_work(ledger: Ledger) -> Work:
    """The multiply-adds of the whole model for one example."""
    counts = [multiply_adds(ledger, owner.path) for owner in ledger.owners]
    return Work(known=sum(count or 0 for count in counts), complete=None not in counts)


def activation_bytes(line: Line, dtype: str) -> int | None:
    """The bytes of a row's outputs for one example, at the size of an element of `dtype`; None where unknown."""
    values = output_values(line.owner)
    return None if values is None else line.times * -(-values * bits(dtype) // 8)
