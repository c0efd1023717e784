"""Runs every benchmark, keeps the results as JSON with facts of the machine, and writes the report.

`python -m benchmarks` is `make bench`; `--quick` runs little of everything and keeps nothing, `--only NAME ...` some.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.sections import SECTIONS, Section

PATIENCE = 120
"""Seconds that the race may spend on taking disturbed turns again."""
RACE = Section(
    name="race",
    title="",
    sentence="",
    full=("--rounds", "5", "--patience", str(PATIENCE)),
    quick=(
        *("mnist", "cifar", "tiny", "--rounds", "3", "--mode", "train"),
        *("--only", "tally", "jax", "keras-jax", "keras-tensorflow", "torch"),
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks.

    Returns:
        1 if one of them failed, else 0.
    """
    known = [
        section for section in (RACE, *SECTIONS) if importlib.util.find_spec(f"benchmarks.{section.name}")
    ]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything; keeps no results")
    parser.add_argument("--only", nargs="+", choices=[section.name for section in known], metavar="NAME")
    options = parser.parse_args(arguments)
    failed = []
    for section in known:
        extra = section.quick if options.quick else section.full
        if extra is None or not section.can_run or (options.only and section.name not in options.only):
            continue
        began = time.perf_counter()
        print(f"== {section.name}", flush=True)
        if not run(section.name, extra, None if options.quick else report.RESULTS):
            failed.append(section.name)
        print(f"== {section.name}: {time.perf_counter() - began:.0f} s\n", flush=True)
    if not options.quick:
        report.main([])
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, arguments: tuple[str, ...], folder: Path | None) -> bool:
    """Run one benchmark in a process of its own.

    Args:
        name: Of its module.
        arguments: For it, without `--json`.
        folder: Where its results are kept, with the machine's facts and the command; nowhere if None.

    Returns:
        Whether it succeeded. What was kept before stays if it gave no results.
    """
    facts = machine.describe()
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "results.json"
        command = ["-m", f"benchmarks.{name}", *arguments]
        keeping = [] if folder is None else ["--json", str(made)]
        try:
            done = subprocess.run([sys.executable, *command, *keeping], cwd=report.ROOT, check=False)
        finally:
            if folder is not None and made.exists():
                kept = keep(json.loads(made.read_text()), facts, " ".join(["python", *command]))
                folder.mkdir(exist_ok=True)
                (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    return done.returncode == 0


def keep(results: Any, facts: dict[str, Any], command: str) -> dict[str, Any]:
    """A script's results with how they came about.

    Args:
        results: A list of flat records, or a mapping that has them as `records`.
        facts: The machine's.
        command: That gave them.
    """
    found = results if isinstance(results, dict) else {"records": results}
    return {"machine": facts, "command": command, **found}


if __name__ == "__main__":
    sys.exit(main())
