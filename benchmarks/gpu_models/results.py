"""The rows of the GPU benchmark, what is computed from their figures, and the table they make."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.gpu_models.peaks import peak_flops
from benchmarks.gpu_models.sizes import Task


@dataclass
class Row:
    """One contestant on one task.

    Attributes:
        task: Name of the task.
        name: The contestant's.
        title: What the table calls it.
        seconds: Of each round, which is one pass over the data.
        beside: Of tally's rounds that went with them: in turns with them, or before them where both didn't fit.
        in_turns: Whether the two ran in turns.
        losses: After each round.
        peak_bytes: The most memory in use on the device.
        compile_seconds: How much longer the first pass took than the second.
        versions: Of what took part.
        notes: What a reader should know.
        left_out: Why there are no figures.
    """

    task: str
    name: str
    title: str
    seconds: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    in_turns: bool = False
    losses: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    compile_seconds: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: str | None = None

    def take(self, answer: dict[str, Any]) -> bool:
        """Take a worker's answer; whether it was one and not its end."""
        if "left_out" in answer:
            self.left_out = answer["left_out"]
            return False
        if "ready" in answer:
            self.compile_seconds = answer["compile_seconds"]
            self.versions, self.notes = answer["versions"], answer["notes"]
        else:
            self.seconds.append(answer["seconds"])
            self.losses.append(answer["loss"])
            self.peak_bytes = answer["peak_bytes"]
        return True


@dataclass(frozen=True, slots=True)
class Figures:
    """What a row's rounds come to.

    Attributes:
        step_seconds: The median round's time by step.
        per_second: Images or tokens.
        utilisation: FLOPs of the model, three times those of a forward pass, over what the device could do; None where
            that isn't known.
        ratio: How many times as fast tally was, the median over rounds, with the least and the most.
    """

    step_seconds: float
    per_second: float
    utilisation: float | None
    ratio: tuple[float, float, float] | None


def compute(row: Row, task: Task, device: str) -> Figures | None:
    """The figures of a row; None where it has none."""
    if not row.seconds:
        return None
    step = median(row.seconds) / task.steps
    dtype = "bfloat16" if task.policy == "mixed_bfloat16" else task.policy
    peak = peak_flops(device, dtype)
    utilisation = None if peak is None else task.flops / step / peak
    ratios = sorted(its / ours for its, ours in zip(row.seconds, row.beside, strict=False))
    spread = (median(ratios), ratios[0], ratios[-1]) if ratios else None
    return Figures(step, task.units / step, utilisation, spread)


_HEAD = (
    f"{'model':<15}{'contestant':<30}{'per second':>18}{'ms a step':>11}{'MFU':>7}{'peak GB':>9}{'compile s':>11}"
    f"{'tally is':>10}{'spread':>14}{'loss':>9}"
)


def draw(rows: list[Row], tasks: list[Task], device: str) -> str:
    """The table, and below it who was left out and why."""
    lines, left_out = [_HEAD], []
    for task in tasks:
        for row in (row for row in rows if row.task == task.name):
            figures = compute(row, task, device)
            if figures is not None:
                lines.append(_line(row, task, figures))
            if row.left_out is not None:
                when = f" after {len(row.seconds)} rounds" if row.seconds else ""
                left_out.append(f"  {task.title}, {row.title}: left out{when}: {row.left_out}")
    return "\n".join([*lines, *(["", "Left out:", *left_out] if left_out else [])])


def _line(row: Row, task: Task, figures: Figures) -> str:
    speed = f"{figures.per_second:,.0f} {task.unit}"
    utilisation = "unknown" if figures.utilisation is None else f"{figures.utilisation:.1%}"
    memory = "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f}"
    seconds = "-" if row.compile_seconds is None else f"{row.compile_seconds:.1f}"
    ratio, spread = "", ""
    if figures.ratio is not None:
        middle, least, most = figures.ratio
        ratio = f"{middle:.3f}x{'' if row.in_turns else '*'}"
        spread = f"{least:.3f}-{most:.3f}"
    return (
        f"{task.title:<15}{row.title:<30}{speed:>18}{1e3 * figures.step_seconds:>11.3f}{utilisation:>8}{memory:>8}"
        f"{seconds:>11}{ratio:>10}{spread:>14}{row.losses[-1]:>9.3f}"
    )
