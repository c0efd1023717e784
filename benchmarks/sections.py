"""The report's sections: which script's results each shows, under what title, with what sentence and columns."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.markdown import table


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        key: What it shows of each record.
        heading: What stands above it; the key, with spaces, unless given.
        unit: The value is divided by this before it is shown, for example 1e6 for megabytes.
    """

    key: str
    heading: str = ""
    unit: float = 1.0

    def show(self, record: Mapping[str, Any]) -> Any:
        """The cell of a record."""
        value = record.get(self.key)
        return value / self.unit if self.unit != 1.0 and value is not None else value


def _records(results: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return results["records"]


def columns(text: str) -> tuple[Column, ...]:
    """Columns in short: `key`, `key: heading` or `key: heading / unit`, with commas between.

    Example:
        >>> columns("model, peak_bytes: peak MB / 1e6")[1]
        Column(key='peak_bytes', heading='peak MB', unit=1000000.0)
    """
    found = []
    for part in text.split(","):
        key, _, rest = part.partition(":")
        heading, _, unit = rest.rpartition("/") if "/" in rest else (rest, "", "1")
        found.append(Column(key.strip(), heading.strip(), float(unit)))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One script's part of the report.

    Args:
        name: The script is `python -m benchmarks.<name>`, its results are `benchmarks/results/<name>.json`.
        title: The heading.
        sentence: What was measured and how to read it.
        columns: Of the table; all keys of the records unless given.
        plots: Pictures beside the report, below the table.
        missing: What is said where there are no results; the section is left out without it.
        full: Arguments in a full run.
        quick: Arguments in a quick run; None leaves the script out of it.
        needs: A program without which the script is not run.
        flatten: From the results to the records of the table.
    """

    name: str
    title: str
    sentence: str
    columns: tuple[Column, ...] = ()
    plots: tuple[str, ...] = ()
    missing: str = ""
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None
    needs: str = ""
    flatten: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] = _records

    @property
    def can_run(self) -> bool:
        """Whether the machine has what the script needs."""
        return not self.needs or shutil.which(self.needs) is not None

    def tell(self, results: Mapping[str, Any] | None) -> list[str]:
        """The section's lines.

        Args:
            results: Its file's contents: `records` and how they came about; None where there is no file.
        """
        if results is None:
            return [f"## {self.title}", "", self.missing] if self.missing else []
        records = self.flatten(results)
        keys = dict.fromkeys(key for record in records for key in record)
        shown = self.columns or tuple(Column(key) for key in keys)
        headings = [column.heading or column.key.replace("_", " ") for column in shown]
        rows = [[column.show(record) for column in shown] for record in records]
        pictures = [f"![{plot}]({plot})" for plot in self.plots]
        lines = [f"## {self.title}", "", self.sentence, "", *table(headings, rows)]
        return [*lines, *(["", *pictures] if pictures else []), "", _measured(results)]


def _flatten_gpu(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record for each row of the GPU benchmark, its figures beside what it is of."""
    titles = {task["name"]: task["title"] for task in results["tasks"]}
    records = []
    for row in results["rows"]:
        figures = row["figures"] or {}
        middle, least, most = figures.get("ratio") or (None, None, None)
        records.append(
            {
                **{
                    "model": titles[row["task"]],
                    "contestant": row["title"],
                    "device": results["gpu"]["name"],
                },
                **{key: figures.get(key) for key in ("per_second", "step_seconds", "utilisation")},
                **{"ratio": middle, "least": least, "most": most},
                **{"peak_bytes": row["peak_bytes"], "left_out": row["left_out"]},
            }
        )
    return records


def _measured(results: Mapping[str, Any]) -> str:
    """How it was measured, and how busy the machine was with other things."""
    load = results.get("machine", {}).get("load")
    busy = "" if load is None else f", begun at a load average of {load:.1f}"
    return f"`{results['command']}`{busy}"


SECTIONS: tuple[Section, ...] = (
    Section(
        name="kernels",
        title="Operations one by one",
        sentence="Each operation with its gradient as tally computes it on a CPU, beside the plain operation of JAX,"
        " both compiled as a training step is; medians of rounds taken in turns.",
        quick=("--rounds", "3"),
    ),
    Section(
        name="cutting",
        title="What `predict` makes of a convnet",
        sentence="A batch as `predict` computes it; whole, without the parts that stay in the processor's cache; and by"
        " layers, also without one operation for a convolution and what follows it. In turns, medians; `times_faster`"
        " is by layers over `predict`.",
        columns=columns(
            "model, batch, part, predict_ms: predict ms, whole_ms: whole ms, by layers_ms: by layers ms, times_faster,"
            " predict_cpu_ms: predict CPU ms, whole_cpu_ms: whole CPU ms, by layers_cpu_ms: by layers CPU ms"
        ),
        quick=("--rounds", "3"),
    ),
    Section(
        name="loop",
        title="What `fit` and `predict` cost",
        sentence="Microseconds a step or a batch for models so small that little else is left to measure, the least of"
        " all rounds; `over` is what one takes more than tally's compiled step alone. Where many small batches share a"
        " call, that is less than nothing.",
        columns=columns(
            "group, contestant, variables, steps_per_execution, wall_us: wall µs, over_wall_us: over, cpu_us: CPU µs,"
            " over_cpu_us: over"
        ),
        quick=("--rounds", "2"),
    ),
    Section(
        name="start",
        title="Starting",
        sentence="Imports, commands, and the time to the first step, in seconds of processor time.",
        columns=columns("group, contestant, cpu_s: CPU s, own_cpu_s: beyond it s, after"),
        quick=("--rounds", "1", "--only", "import", "command"),
    ),
    Section(
        name="repeat",
        title="Compiling blocks that repeat",
        sentence="CPU seconds to trace and compile a train step of identical blocks, written out and as one loop; a"
        " step's milliseconds are the least of a few.",
        columns=columns(
            "blocks, how, trace_seconds: trace s, compile_seconds: compile s, step_milliseconds: step ms,"
            " temporary_bytes: temporary MB / 1e6, peak_bytes: peak MB / 1e6"
        ),
        quick=("--depths", "1", "4"),
    ),
    Section(
        name="build",
        title="Building and accounting for large models",
        sentence="CPU seconds and peak memory to build each model, until every weight's shape is known, and to write"
        " its summary; each in a process of its own, the least of the rounds.",
        columns=columns(
            "model, contestant, parameters, build_s: build s, account_s: summary s, total_s: both s,"
            " peak_bytes: peak MB / 1e6, failed"
        ),
        quick=("resnet50", "--rounds", "1"),
    ),
    Section(
        name="growth",
        title="Growth",
        sentence="How CPU seconds and bytes grow with the size of a model. The exponent is the slope of the upper half"
        " of a curve, both axes logarithmic: 1 is linear, and a fixed cost makes it less.",
        columns=columns(
            "curve, along, smallest, at_smallest: at the smallest, largest, at_largest: at the largest, unit, exponent"
        ),
        plots=tuple(
            f"plots/{name}.svg"
            for name in ("ledger-time", "ledger-memory", "build", "summary", "trace", "verbs", "fit")
        ),
        quick=("ledger", "summary", "--quick"),
    ),
    Section(
        name="gpu",
        title="On a GPU",
        sentence="Images or tokens a second, model FLOP utilisation and peak memory. Ratio: how many times as fast"
        " tally was in the same rounds, with the least and the most.",
        columns=columns(
            "model, contestant, device, per_second, step_seconds: step ms / 1e-3, utilisation, ratio, least, most,"
            " peak_bytes: peak GB / 1e9, left_out"
        ),
        quick=("--quick",),
        needs="nvidia-smi",
        flatten=_flatten_gpu,
        missing="Not measured, for want of one: `python -m benchmarks.gpu` prints the table on a machine that has one.",
    ),
    Section(
        name="account",
        title="What an account costs",
        sentence="Seconds for one model, after import and building, the least of five repeats.",
        columns=columns(
            "model, parameters, build_seconds: build s, account_seconds: account s, summary_seconds: summary s,"
            " peak_bytes: peak MB / 1e6"
        ),
        quick=(),
    ),
    Section(
        name="plan_error",
        title="How far a plan is from the compiler and from a run",
        sentence="Planned peak memory and FLOPs of a training step beside the compiler's figures, and beside a"
        " run's. `off` is the plan's share above or below. A loop's FLOPs the compiler counts once, so the recurrent"
        " models are off there by design.",
        columns=columns(
            "model, batch_size: batch, planned_bytes: planned MB / 1e6, compiler_bytes: compiler MB / 1e6,"
            " off_compiler: off (%) / 0.01, run_bytes: a run (MB) / 1e6, off_run: off (%) / 0.01,"
            " flops_off: FLOPs off (%) / 0.01"
        ),
        quick=("mlp", "convnet", "--batch-size", "16"),
    ),
)
