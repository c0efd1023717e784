"""Races tally and its peers on the same models, data and batches, one epoch at a time, in shuffled turns.

`python -m benchmarks.race mnist cifar --only tally keras-tensorflow --rounds 5 --mode train`. A contestant may be given
with settings, `tally@XLA_FLAGS=--some_flag=1`, and then takes part beside itself. Ratios are over the first contestant.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks import machine
from benchmarks.race import contestants, printing
from benchmarks.race.driver import Patience, race
from benchmarks.race.workloads import WORKLOADS

MODES = ("train", "predict")
ROUNDS = 7
QUICK = 3
"""Rounds with `--quick`."""


def main(arguments: list[str] | None = None) -> int:
    """Race, print a table for each workload and mode, and keep the results if asked.

    Returns:
        1 if contestants failed or disagreed, else 0.
    """
    options = _parse(arguments)
    chosen = [contestants.parse(words) for words in options.only or contestants.CONTESTANTS]
    rounds = options.rounds or (QUICK if options.quick else ROUNDS)
    records, problems = [], []
    facts, patience = machine.describe(), Patience(options.patience)
    for name in options.workloads or WORKLOADS:
        workload = WORKLOADS[name]
        found, wrong = race(workload, chosen, modes=options.mode, rounds=rounds, patience=patience, say=_note)
        records += found
        problems += wrong
        for mode in options.mode:
            print(f"\n{name}, {mode}: {workload.steps} steps of {workload.batch}, {rounds} rounds")
            print(*printing.table([one for one in found if one["mode"] == mode]), sep="\n", flush=True)
        if options.json:  # after each workload, so that an interrupted race keeps what it has
            kept = {"machine": facts, "rounds": rounds, "problems": problems, "records": records}
            options.json.write_text(json.dumps(kept, indent=1) + "\n")
    for problem in problems:
        print(f"WRONG: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.race",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        epilog=f"Workloads: {', '.join(WORKLOADS)}.\nContestants: {', '.join(contestants.CONTESTANTS)}.",
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="all unless given")
    parser.add_argument("--only", nargs="+", metavar="CONTESTANT", help="who takes part; all unless given")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--rounds", type=int, help=f"timed epochs of each; {ROUNDS} unless given")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rounds")
    parser.add_argument(
        "--patience",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long disturbed turns may be taken again in all; not at all unless given",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.workloads if name not in WORKLOADS]:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    for words in options.only or ():
        if words.partition("@")[0] not in contestants.CONTESTANTS:
            parser.error(f"no contestant {words!r}; there are {', '.join(contestants.CONTESTANTS)}")
    return options


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")  # a line at a time, since several contestants start at once


if __name__ == "__main__":
    sys.exit(main())
