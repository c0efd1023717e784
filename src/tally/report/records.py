"""The rows of a summary as plain data: exact numbers under names that stay, for CSV, JSON and data frames."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tally.accounting.ledger import Shape
from tally.report.columns import Source, homes
from tally.report.costs import activation_bytes, work_of
from tally.report.figures import shape
from tally.report.rows import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row of a summary; `params` of all rows add up to the total.

    Args:
        path: The layer's path; `""` is the model itself.
        last_path: For a row that stands for several layers, the path of the last.
        name: Its name as Keras knows it.
        type: The name of its class.
        depth: How many layers it stands in.
        times: How many layers the row stands for; the numbers are those of all of them.
        status: `"built"`, `"unbuilt"` or `"no weights"`.
        output_shapes: The shape of each output, batch first, None where a size is open.
        params: What the row adds to the total: `trainable`, `frozen` and `state` together.
        trainable: Parameters that training changes.
        frozen: Parameters that were switched off.
        state: Statistics and other numbers that no gradient changes.
        nbytes: Bytes of `params`.
        dtypes: The types of the elements counted.
        inside: Parameters that rows of its inside count, where it is opened.
        counted_elsewhere: Parameters it uses and another row counts.
        counted_at: The paths of the layers that count them.
        untracked: Arrays that act as weights without being any.
        multiply_adds: For one example, without biases; None where not all of it can be told.
        activation_bytes: Bytes of the outputs for one example; None where a size is open.
        inputs: What feeds it.
        origin: The line that made it, such as `"train.py:12"`.
    """

    path: str
    last_path: str
    name: str
    type: str
    depth: int
    times: int
    status: str
    output_shapes: tuple[Shape, ...]
    params: int
    trainable: int
    frozen: int
    state: int
    nbytes: int
    dtypes: tuple[str, ...]
    inside: int
    counted_elsewhere: int
    counted_at: tuple[str, ...]
    untracked: int
    multiply_adds: int | None
    activation_bytes: int | None
    inputs: tuple[str, ...]
    origin: str | None

    def plain(self) -> dict[str, Any]:
        """Write it as JSON can hold it, its keys always in the same order."""
        return asdict(self)

    def flat(self) -> dict[str, str | int | None]:
        """Write it with a number or a text in each cell; several shapes or names are set apart by `; `."""
        values = self.plain()
        values["output_shapes"] = "; ".join(shape(sizes) for sizes in self.output_shapes)
        for name in ("dtypes", "counted_at", "inputs"):
            values[name] = "; ".join(values[name])
        return values


HEADER = tuple(field.name for field in fields(Record))
"""The names of the columns, always in this order."""


def record(line: Line, source: Source) -> Record:
    """Read the data of a row."""
    node, owner, amount, times = line.node, line.owner, line.amount, line.times
    work, elsewhere = work_of(source.ledger, line), homes(line)
    return Record(
        path=owner.path,
        last_path=owner.path.removesuffix(node.place) + node.last if node.times > 1 else "",
        name=owner.name or source.ledger.name,
        type=owner.type,
        depth=line.depth,
        times=times,
        status=owner.status,
        output_shapes=owner.output_shapes,
        params=line.params,
        trainable=times * amount.trainable,
        frozen=times * amount.frozen,
        state=times * amount.state,
        nbytes=times * amount.nbytes,
        dtypes=amount.dtypes,
        inside=times * (node.whole.params - amount.params),
        counted_elsewhere=sum(elsewhere.values()),
        counted_at=tuple(elsewhere),
        untracked=times * amount.untracked,
        multiply_adds=work.known if work.complete else None,
        activation_bytes=activation_bytes(line, source.activation_dtype),
        inputs=owner.inputs,
        origin=owner.origin,
    )


def to_csv(records: Iterable[Record]) -> str:
    """Write records as CSV: a heading, then a line each, numbers without separators."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.flat() for one in records)
    return text.getvalue()


def to_pandas(records: Sequence[Record]) -> Any:
    """Make a `pandas.DataFrame` of records; what is not known is `<NA>`, so that whole numbers stay whole."""
    import pandas  # pyright: ignore[reportMissingTypeStubs] - its types are no part of the answer

    rows = [one.flat() for one in records]
    frame: Any = pandas.DataFrame(rows, columns=list(HEADER))
    return frame.astype({"multiply_adds": "Int64", "activation_bytes": "Int64"})
