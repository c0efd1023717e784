"""The race's results as text: who is ahead by how much, a table for each workload, what each contestant runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.markdown import listed, table
from benchmarks.race.contestants import CONTESTANTS, parse
from benchmarks.race.spread import Spread, ratios, spread
from benchmarks.race.workloads import WORKLOADS

OURS = "tally"
_WORDS = {"train": "training", "predict": "prediction"}

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a peer's wall time compares with tally's on one workload in one mode.

    Args:
        workload: Its name.
        mode: `train` or `predict`.
        peer: Its name.
        ratio: Its time over tally's, round by round: above 1 tally is faster.
    """

    workload: str
    mode: str
    peer: str
    ratio: Spread

    @property
    def verdict(self) -> str:
        """`ahead` or `behind` if at least three quarters of the rounds say so of the peer, else `level`."""
        if self.ratio.high < 1:
            return "ahead"
        return "behind" if self.ratio.low > 1 else "level"


def compare(records: Sequence[Record]) -> list[Standing]:
    """Every peer's standing, in the order of the records; those without figures are left out."""
    ours = {
        (record["workload"], record["mode"]): record
        for record in _present(records)
        if record["contestant"] == OURS
    }
    standings = []
    for record in _present(records):
        base = ours.get((record["workload"], record["mode"]))
        if base is not None and record is not base:
            standings.append(
                Standing(
                    workload=record["workload"],
                    mode=record["mode"],
                    peer=record["contestant"],
                    ratio=ratios(record["wall"], base["wall"]),
                )
            )
    return standings


def tell(results: Mapping[str, Any]) -> list[str]:
    """The lines of the race's sections.

    Args:
        results: As `python -m benchmarks.race --json` keeps them.
    """
    records, rounds = results["records"], results["rounds"]
    standings = compare(records)
    lines = ["## Training and prediction beside the peers", "", *_introduction(rounds)]
    for mode in ("train", "predict"):
        of_mode = [one for one in standings if one.mode == mode]
        if of_mode:
            lines += ["", f"### In short: {_WORDS[mode]}", "", *_matrix(of_mode), "", *_sentences(of_mode)]
    if results["problems"]:
        lines += [
            "",
            "What went wrong in this run:",
            "",
            *(f"- {one.splitlines()[0]}" for one in results["problems"]),
        ]
    for workload in dict.fromkeys(record["workload"] for record in records):
        lines += ["", *_details(workload, [one for one in records if one["workload"] == workload])]
    return [*lines, "", *_runs(records)]


def _introduction(rounds: int) -> list[str]:
    return [
        "Each contestant trains the same model from the same weights on the same batches in the same order, in a"
        " process of its own, and must reach the same loss (dropout draws differ); the outputs for the first batch are"
        " compared too. All are compiled and warm before the first round. Then each runs one epoch at a time, in"
        f" {rounds} rounds of shuffled turns; while one runs the others sleep.",
        "",
        "A ratio is a contestant's time for an epoch over tally's in the same round, the median over rounds: **above 1"
        " tally is faster**. Bold: the peer is ahead, in at least three quarters of the rounds; ≈: neither is.",
    ]


def _matrix(standings: Sequence[Standing]) -> list[str]:
    """One row for each workload, one column for each peer, and the geometric mean below."""
    peers = list(dict.fromkeys(one.peer for one in standings))
    cells = {(one.workload, one.peer): one for one in standings}
    rows: list[list[Any]] = []
    for workload in dict.fromkeys(one.workload for one in standings):
        found = [cells.get((workload, peer)) for peer in peers]
        rows.append([f"`{workload}`", *(_cell(one) if one else "–" for one in found)])
    means = [
        math.exp(sum(math.log(one.ratio.median) for one in mine) / len(mine))
        for mine in ([one for one in standings if one.peer == peer] for peer in peers)
    ]
    rows.append(["geometric mean", *(f"{mean:.2f}" for mean in means)])
    return table(["model", *(_title(peer) for peer in peers)], rows)


def _cell(one: Standing) -> str:
    text = f"{one.ratio.median:.2f}"
    return {"ahead": f"**{text}**", "level": f"≈{text}", "behind": text}[one.verdict]


def _sentences(standings: Sequence[Standing]) -> list[str]:
    """Who is ahead of tally, who is level with it, where nobody is."""
    lines, clear = [], []
    for workload in dict.fromkeys(one.workload for one in standings):
        mine = [one for one in standings if one.workload == workload]
        mine.sort(key=lambda one: one.ratio.median)
        ahead = [_share(one) for one in mine if one.verdict == "ahead"]
        level = [_share(one) for one in mine if one.verdict == "level"]
        told = [f"ahead of tally: {listed(ahead)}"] if ahead else []
        told += [f"level with it: {listed(level)}"] if level else []
        if told:
            lines.append(f"- `{workload}`: {'; '.join(told)}.")
        else:
            clear.append(f"`{workload}` (nearest: {_share(mine[0])})")
    return [*([f"- tally is ahead of every peer on {listed(clear)}."] if clear else []), *lines]


def _share(one: Standing) -> str:
    ratio = one.ratio
    return (
        f"{_title(one.peer)} at {ratio.median:.2f} of its time, quartiles {ratio.low:.2f} to {ratio.high:.2f}"
    )


def _details(workload: str, records: Sequence[Record]) -> list[str]:
    """The tables of one workload."""
    known, some = WORKLOADS.get(workload), next(iter(_present(records)), None)
    lines = [f"### `{workload}`", ""]
    if known is not None and some is not None:
        lines += [
            f"{known.title[0].upper()}{known.title[1:]}. Batch {some['batch']}, {some['steps']} steps an epoch."
        ]
    for mode in dict.fromkeys(record["mode"] for record in records):
        present = _present([record for record in records if record["mode"] == mode])
        if present:
            lines += ["", *_detail(mode, present)]
    absent = {record["contestant"]: record["absent"] for record in records if "absent" in record}
    return lines + [f"\nLeft out: {_title(name)}, {reason}." for name, reason in absent.items()]


_HEADINGS = (
    *("contestant", "ms a step", "least", "ratio", "quartiles", "CPU ms", "CPU ratio"),
    *("page faults", "first, CPU s", "peak MB"),
)


def _detail(mode: str, records: Sequence[Record]) -> list[str]:
    """The table of one workload in one mode, and how undisturbed it was."""
    base = next((record for record in records if record["contestant"] == OURS), None)
    epochs = min(len(record["losses"]) for record in records)
    rows = [_figures(record, base) for record in records]
    if epochs:
        rows = [
            [*row, f"{record['losses'][epochs - 1]:.4f}"] for row, record in zip(rows, records, strict=True)
        ]
    foreign = [share for record in records for share in record["foreign"]]
    resting = max(spread(record["resting"]).median for record in records)
    return [
        *table([*_HEADINGS, *(["loss"] if epochs else [])], rows),
        "",
        f"{_WORDS[mode].capitalize()}, for each batch. Other processes used {spread(foreign).median:.0%} of the machine"
        f" in the median turn, {max(foreign):.0%} in the worst; a waiting contestant at most {resting:.0%} of a core.",
    ]


def _figures(record: Record, base: Record | None) -> list[Any]:
    """One contestant's cells; without tally's record there are no ratios."""
    steps, wall, cpu = record["steps"], spread(record["wall"]), spread(record["cpu"])
    ratio = work = between = None
    if base is not None:
        over = ratios(record["wall"], base["wall"])
        ratio, between = f"{over.median:.2f}", f"{over.low:.2f} to {over.high:.2f}"
        work = f"{ratios(record['cpu'], base['cpu']).median:.2f}"
    return [
        *(_title(record["contestant"]), 1e3 * wall.median / steps, 1e3 * wall.least / steps, ratio, between),
        *(1e3 * cpu.median / steps, work, int(spread(record["faults"]).median / steps)),
        *(record.get("first_cpu"), int(record["peak"] / 1e6)),
    ]


def _runs(records: Sequence[Record]) -> list[str]:
    """What each contestant runs."""
    lines = ["### What each contestant runs", ""]
    names = list(dict.fromkeys(record["contestant"] for record in records))
    for name in sorted(names, key=lambda name: list(CONTESTANTS).index(name.partition("@")[0])):
        contestant = parse(name)
        lines.append(f"- **{contestant.title}** (`--only {name}`): {contestant.runs}.")
    return [
        *lines,
        "",
        "All use fp32, Adam with learning rate 1e-3 and ε 1e-7, and the threads their framework takes by itself. JAX,"
        " Flax, Equinox and PyTorch are handed slices of arrays in memory, which is less work than a data loader's;"
        " `fit` gets the whole arrays. `first` is the processor's time to build the model and to run the first step or"
        " batch, compilation included, with empty caches, without the import.",
    ]


def _present(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if "absent" not in record]


def _title(name: str) -> str:
    return parse(name).title
