"""Writes `docs/performance.md` from the kept results: every figure in it is read from `benchmarks/results/*.json`.

`python -m benchmarks.report` writes the page; `--results FOLDER --to FILE` reads and writes elsewhere.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.race import telling
from benchmarks.sections import SECTIONS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"

Results = dict[str, dict[str, Any]]

_UNTOLD = ("## Training and prediction beside the peers", "", "Not measured yet: `make bench` does it.")


def main(arguments: list[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--to", type=Path, default=PAGE, metavar="FILE")
    options = parser.parse_args(arguments)
    options.to.write_text(write(read(options.results)))


def read(folder: Path) -> Results:
    """The results in a folder, by name.

    Args:
        folder: Holds one JSON file for each script.
    """
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def write(results: Results) -> str:
    """The page.

    Args:
        results: By the name of the script that made them; each with its `machine`.
    """
    race = results.get("race")
    parts = [_opening(results), telling.tell(race) if race is not None else list(_UNTOLD)]
    parts += [lines for section in SECTIONS if (lines := section.tell(results.get(section.name)))]
    parts.append(_repeating())
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _opening(results: Results) -> list[str]:
    lines = [
        "# How fast tally is",
        "",
        "This page is written by `make bench` from the files in `benchmarks/results`. No figure in it is written by"
        " hand; where a peer is ahead it says so.",
    ]
    machines: list[tuple[Mapping[str, Any], list[str]]] = []
    for name, result in results.items():
        for known, names in machines:
            if _same(known, result["machine"]):
                names.append(name)
                break
        else:
            machines.append((result["machine"], [name]))
    for facts, names in machines:
        heading = "## The machine" if len(machines) == 1 else f"## The machine of {', '.join(names)}"
        lines += ["", heading, "", *_machine(facts)]
    return lines


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two results are of one machine with the same versions, however busy it was."""
    return all(one[key] == other[key] for key in one if key != "load")


def _machine(facts: Mapping[str, Any]) -> list[str]:
    memory = "unknown" if facts["memory"] is None else f"{facts['memory'] / 2**30:.0f} GiB"
    return [
        f"- {facts['processor']}, {facts['cores']} cores, memory {memory}",
        f"- {facts['system']}, Python {facts['python']}",
        f"- {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}",
    ]


def _repeating() -> list[str]:
    return [
        "## How to repeat it",
        "",
        "```sh",
        "make bench         # everything; writes the results and this page",
        "make bench-quick   # a little of each; writes nothing",
        ".venv/bin/python -m benchmarks.race mnist --only tally keras-tensorflow --rounds 5 --mode train",
        ".venv/bin/python -m benchmarks.race mnist --only tally tally@NAME=VALUE   # itself, with a setting",
        ".venv/bin/python -m benchmarks.report   # this page again from the kept results",
        "```",
        "",
        "The machine should have nothing else to do. How much others used during the turns of the race stands below"
        " each table; the other figures say how many processes wanted a processor, on average, in the minute before."
        " Where that is much, times by the clock say less than those of the processor, and ratios of turns more than"
        " both.",
    ]


if __name__ == "__main__":
    main()
