"""How time and memory grow with the size of a model: curves with their exponents, printed and drawn.

`python -m benchmarks.growth [CURVE ...] [--quick] [--json FILE] [--plots FOLDER]`. Seconds are the processor's. The
exponent is the slope of a line through the upper half of a curve's points, both axes logarithmic: 1 is linear, 2 would
be quadratic, and a fixed cost makes it less than 1. Plots are written as SVG to `docs/plots`.
"""

import argparse
import gc
import json
import math
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tally
from benchmarks import repeat
from tally import layers

PLOTS = Path(__file__).parent.parent / "docs" / "plots"
COLOURS, GREY = ("#1f4e79", "#b3541e", "#4d7c3a"), "#888888"
LINEAR = 1.1
"""An exponent up to this is called linear."""
HELD = 100
"""Weights of one layer, where weights are counted."""
FEATURES, BATCH, STEPS, TURNS = 4, 32, 200, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One quantity over sizes.

    Args:
        name: What is measured.
        plot: The picture it stands in.
        along: What the sizes count.
        sizes: From the smallest to the largest.
        measure: Gives the quantity for a size.
        unit: `"s"` or `"bytes"`.
        turns: Each size is measured this often; the least counts.
    """

    name: str
    plot: str
    along: str
    sizes: tuple[int, ...]
    measure: Callable[[int], float]
    unit: str = "s"
    turns: int = 2

    def record(self, points: Sequence[tuple[int, float]]) -> dict[str, Any]:
        """What the points come to, as a flat record."""
        (first, least), (last, most) = points[0], points[-1]
        return {
            **{"benchmark": "growth", "curve": self.name, "along": self.along, "unit": self.unit},
            **{"smallest": first, "at_smallest": least, "largest": last, "at_largest": most},
            "exponent": round(exponent(points), 2),
        }


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """The slope of the upper half of some points, both axes logarithmic.

    Args:
        points: Sizes and what was measured, in order.

    Example:
        >>> round(exponent([(1, 5.0), (10, 7.0), (100, 49.0), (1000, 490.0)]), 2)
        1.0
    """
    upper = points[len(points) // 2 :] if len(points) > 3 else points[-2:]
    sizes, values = zip(*((math.log(size), math.log(max(value, 1e-9))) for size, value in upper), strict=True)
    return float(np.polyfit(sizes, values, 1)[0])


# -- what is measured --------------------------------------------------------------------------------------------------
class Shelf(layers.Layer):
    """A layer that holds weights and computes nothing with them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.held = [self.add_weight(name=f"w{i}", shape=(2,)) for i in range(count)]


class Shelves(tally.Model):
    """A model that holds as many weights as are asked for."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.shelves = [Shelf(min(count, HELD)) for _ in range(max(count // HELD, 1))]


class Sum(layers.Layer):
    """Its input times the sum of many weights."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.terms = [self.add_weight(name=f"w{i}", shape=(FEATURES,)) for i in range(count)]

    def call(self, x: Any) -> Any:
        """Multiply."""
        total = self.terms[0].value
        for term in self.terms[1:]:
            total = total + term.value
        return x * total


class Block(layers.Layer):
    """A small block of a transformer, as a user writes it."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.second = layers.LayerNormalization(), layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(4, width // 4)
        self.wide, self.narrow = layers.Dense(4 * width, activation="gelu"), layers.Dense(width)

    def call(self, x: Any) -> Any:
        """Attend, then think, each added to what came in."""
        y = self.first(x)
        x = x + self.attention(y, y)
        return x + self.narrow(self.wide(self.second(x)))


def seconds(function: Callable[[], Any]) -> float:
    """The processor's seconds that a call takes, while the garbage collector rests, as `timeit` has it."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        function()
        return time.process_time() - began
    finally:
        gc.enable()


def ledger_seconds(count: int) -> float:
    """To account for weights."""
    model = Shelves(count)
    return seconds(lambda: tally.account(model))


def ledger_bytes(count: int) -> float:
    """What an account of weights takes, beside the model."""
    model = Shelves(count)
    gc.collect()
    tracemalloc.start()
    ledger = tally.account(model)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(ledger.entries) == count
    return taken


def stack(count: int) -> tally.Model:
    """Layers one after another."""
    return tally.Sequential([tally.Input((8,)), *(layers.Dense(8) for _ in range(count))])


def added(count: int) -> tally.Model:
    """The same, one `add` after another."""
    model = tally.Sequential([tally.Input((8,))])
    for _ in range(count):
        model.add(layers.Dense(8))
    return model


def graph(count: int) -> tally.Model:
    """The same as a graph, where each other layer is an op."""
    inputs = x = tally.Input((8,))
    for _ in range(count // 2):
        x = layers.Dense(8)(x) + 1.0
    return tally.Model(inputs, x)


def transformer(depth: int) -> tally.Model:
    """Blocks of the user's own, one after another."""
    return tally.Sequential([tally.Input((16, 32)), *(Block() for _ in range(depth)), layers.Dense(10)])


def summary_seconds(count: int) -> float:
    """To write a summary, every row of it."""
    model = stack(count)
    return seconds(lambda: tally.summary(model, print_fn=_forget, line_length=100, fold=False))


def diagnose_seconds(depth: int) -> float:
    """To look for mistakes."""
    model = transformer(depth)
    return seconds(lambda: tally.diagnose(model, print_fn=_forget))


def plan_seconds(depth: int) -> float:
    """To plan a training step."""
    model = transformer(depth)
    return seconds(lambda: tally.plan(model, print_fn=_forget))


def _forget(text: str) -> None:
    """Print nothing."""


def trace_seconds(name: str) -> Callable[[int], float]:
    """To trace the train step of so many blocks, written as a contestant of `benchmarks.repeat` writes them."""

    def measure(depth: int) -> float:
        contest = repeat.CONTESTANTS[name](depth)
        words = jnp.zeros((repeat.BATCH, repeat.STEPS), "int32")
        return seconds(lambda: jax.make_jaxpr(contest.step)(contest.values, words))

    return measure


def fit_seconds(count: int) -> float:
    """What `fit` itself takes for a step: its thread's time without that in the compiled step; so many variables.

    The values before a step are let go within its time: any loop over the step lets them go.
    """
    model = tally.Sequential([tally.Input((FEATURES,)), Sum(count)])
    model.compile(tally.optimizers.SGD(1e-6), "mse")
    x = np.ones((STEPS * BATCH, FEATURES), "float32")
    model.fit(x, x, batch_size=BATCH, verbose=0)
    steps, apart, own = model._trainer.plan("train", None).steps, [0.0], list[float]()
    given = steps.given

    def timed(size: int = 1) -> Callable[..., Any]:
        function = given(size)

        def run(*args: Any) -> Any:
            began = time.thread_time()
            made = function(*args)
            args[0].clear()
            apart[0] += time.thread_time() - began
            return made

        return run

    def begin(epoch: int, logs: Any = None) -> None:
        apart[0] = time.thread_time()

    def end(epoch: int, logs: Any = None) -> None:
        own.append(time.thread_time() - apart[0])

    vars(steps)["given"] = timed
    note = tally.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)
    model.fit(x, x, batch_size=BATCH, epochs=TURNS, verbose=0, callbacks=[note])
    return min(own) / STEPS


LAYERS = (10, 30, 100, 300, 1_000, 3_000, 10_000)
DEPTHS = (1, 2, 4, 8, 16, 32)
CURVES = (
    Curve(
        name="ledger",
        plot="ledger-time",
        along="weights",
        sizes=(100, 1_000, 10_000, 100_000, 1_000_000),
        measure=ledger_seconds,
        turns=1,
    ),
    Curve(
        name="ledger memory",
        plot="ledger-memory",
        along="weights",
        sizes=(100, 1_000, 10_000, 100_000),
        measure=ledger_bytes,
        unit="bytes",
        turns=1,
    ),
    Curve(
        name="build a stack",
        plot="build",
        along="layers",
        sizes=LAYERS,
        measure=lambda n: seconds(lambda: stack(n)),
    ),
    Curve(
        name="build by add",
        plot="build",
        along="layers",
        sizes=LAYERS[:-1],
        measure=lambda n: seconds(lambda: added(n)),
    ),
    Curve(
        name="build a graph",
        plot="build",
        along="layers",
        sizes=LAYERS[:-1],
        measure=lambda n: seconds(lambda: graph(n)),
    ),
    Curve(name="summary", plot="summary", along="layers", sizes=LAYERS, measure=summary_seconds),
    Curve(
        name="trace a train step",
        plot="trace",
        along="blocks",
        sizes=(1, 2, 4, 8, 16, 32, 64, 128),
        measure=trace_seconds("written out"),
        turns=1,
    ),
    Curve(
        name="trace with Repeat",
        plot="trace",
        along="blocks",
        sizes=(1, 2, 4, 8, 16, 32, 64, 128),
        measure=trace_seconds("Repeat"),
        turns=1,
    ),
    Curve(name="diagnose", plot="verbs", along="blocks", sizes=DEPTHS, measure=diagnose_seconds),
    Curve(name="plan", plot="verbs", along="blocks", sizes=DEPTHS, measure=plan_seconds),
    Curve(
        name="fit itself, a step",
        plot="fit",
        along="variables",
        sizes=(10, 30, 100, 300, 1_000),
        measure=fit_seconds,
        turns=1,
    ),
)


# -- measuring and drawing ---------------------------------------------------------------------------------------------
def measure(curve: Curve, sizes: Sequence[int]) -> Iterator[tuple[int, float]]:
    """The points of a curve, after one turn that is not counted."""
    curve.measure(sizes[0])
    for size in sizes:
        turns = curve.turns if size > sizes[0] * 10 else 3
        yield size, min(curve.measure(size) for _ in range(turns))


def draw(plot: str, curves: Sequence[tuple[Curve, Sequence[tuple[int, float]]]], folder: Path) -> Path:
    """Write a picture of curves, each with its name at its end, and a line of slope 1 beside them.

    Args:
        plot: Name of the picture.
        curves: Curves of one kind of size and one unit, with their points.
        folder: Where to write it.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
    first = curves[0][0]
    for (_, points), colour in zip(curves, COLOURS, strict=False):
        axes.loglog(*zip(*points, strict=True), "o-", color=colour, linewidth=1.4, markersize=3.5)
    largest, most = max((points[-1] for _, points in curves), key=lambda point: point[1])
    line = [(largest / factor, 4 * most / factor) for factor in (min(100, largest / first.sizes[1]), 1)]
    axes.loglog(*zip(*line, strict=True), "--", color=GREY, linewidth=1)
    axes.annotate(
        "slope 1", line[0], (-4, 0), textcoords="offset points", ha="right", va="center", color=GREY
    )
    axes.margins(y=0.1)
    for (curve, points), colour, height in zip(curves, COLOURS, _heights(axes, curves), strict=False):
        label = f"{curve.name}\nexponent {exponent(points):.2f}"
        axes.annotate(label, (1.02, height), xycoords="axes fraction", va="center", color=colour)
    axes.set_xlabel(first.along)
    axes.set_ylabel("seconds" if first.unit == "s" else first.unit)
    axes.spines[["top", "right"]].set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plot}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _heights(axes: Any, curves: Sequence[tuple[Curve, Sequence[tuple[int, float]]]]) -> list[float]:
    """Where the names stand beside the axes: at the ends of their curves, moved up where two would overlap."""
    low, high = map(math.log, axes.get_ylim())
    wanted = [(math.log(points[-1][1]) - low) / (high - low) for _, points in curves]
    heights: dict[int, float] = {}
    for place in sorted(range(len(curves)), key=lambda place: wanted[place]):
        heights[place] = max(wanted[place], max(heights.values(), default=-1.0) + 0.17)
    return [heights[place] for place in range(len(curves))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the curves, print their exponents, draw them, and keep the records if asked.

    Returns:
        1 if a curve grows worse than linearly, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("curves", nargs="*", metavar="CURVE", help="names of curves; all unless given")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the two largest sizes, and the pictures"
    )
    parser.add_argument("--plots", type=Path, default=PLOTS, metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the records")
    options = parser.parse_args(arguments)
    print(f"{'':<24}{'':<11}{'from':>9}{'':>11}{'to':>10}{'':>11}{'exponent':>10}")
    records, drawn = [], dict[str, list[Any]]()
    for curve in CURVES:
        if options.curves and curve.name not in options.curves:
            continue
        points = list(measure(curve, curve.sizes[:-2] if options.quick else curve.sizes))
        records.append(record := curve.record(points))
        drawn.setdefault(curve.plot, []).append((curve, points))
        first, last = (_shown(record[key], curve.unit) for key in ("at_smallest", "at_largest"))
        print(
            f"{curve.name:<24}{curve.along:<11}{record['smallest']:>9,}{first:>11}{record['largest']:>10,}{last:>11}"
            f"{record['exponent']:>10.2f}",
            flush=True,
        )
    if not options.quick:
        for plot, curves in drawn.items():
            draw(plot, curves, options.plots)
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return int(any(record["exponent"] > LINEAR for record in records))


def _shown(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:,.2f} MB"
    return (
        f"{value:,.2f} s"
        if value >= 1
        else f"{value * 1e3:,.2f} ms"
        if value >= 1e-3
        else f"{value * 1e6:,.1f} us"
    )


if __name__ == "__main__":
    sys.exit(main())
