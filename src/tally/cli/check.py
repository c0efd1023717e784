"""The command `tally check`."""

import argparse
import json
import tomllib
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from tally.accounting.budget import LIMITS, read_budget, target_tables
from tally.accounting.check import Check, as_document, check
from tally.accounting.finding import SEVERITIES
from tally.accounting.ledger import Ledger
from tally.accounting.lock import read_lock, write_lock
from tally.cli.codes import DOES_NOT_HOLD, HOLDS
from tally.cli.printing import FORMATS, write
from tally.cli.target import FORMS, load
from tally.core.errors import ArgumentError

_ABOUT = """Holds a model against a budget, and tells which layer to look at. Numbers may have a unit: 5M, 500k, 1.5B;
bytes 20MB (20,000,000) or 20MiB (20,971,520). Budgets of several targets, and of single layers, stand in
pyproject.toml: [tool.tally.check."models.py:make"] with max-params = "5M", and in its table layers
"encoder/*" = {trainable = false}."""
_TABLE = (
    """write a table such as [tool.tally.check."models.py:make"] with max-params = "5M" into pyproject.toml"""
)
_NOUNS = {
    "params": "parameters",
    "trainable": "trainable parameters",
    "bytes": "bytes of all parameters",
    "macs": "multiply-adds for one example",
}
_BOUNDS = {"max": "at most so many", "min": "at least so many", "expect": "exactly so many"}


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = _ABOUT
    parser.epilog = "Exit codes: 0 it holds, 1 it does not hold, 2 it could not run."
    parser.add_argument("target", nargs="?", help=f"{FORMS}; all of pyproject.toml's unless given")
    for name in LIMITS:
        bound, _, measure = name.partition("-")
        parser.add_argument(f"--{name}", metavar="N", help=f"{_BOUNDS[bound]} {_NOUNS[measure]}")
    parser.add_argument(
        "--no-findings", choices=SEVERITIES, help="refuse what tally diagnose finds, so severe or more"
    )
    parser.add_argument("--lock", metavar="FILE", help="a ledger that the model must have, layer by layer")
    parser.add_argument("--update", action="store_true", help="write the lock anew from the model")
    parser.add_argument(
        "--tolerance", metavar="N", help="how far the total may be from the lock's: 1000 or 1%%"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="how it is written (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the result, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    names = (*LIMITS, "no-findings", "lock", "tolerance")
    given = {name: vars(options)[name.replace("-", "_")] for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    folder, tables = _read_tables()
    if options.target is not None:
        asked = {options.target: {**tables.get(options.target, {}), **given}}
        checks = [_hold(target, table, options.update) for target, table in asked.items()]
    else:
        if given:
            raise ArgumentError(f"--{next(iter(given))} needs a target.", do=f"give {FORMS}")
        if not tables:
            raise ArgumentError("There is nothing to check.", do=f"give a target and a limit, or {_TABLE}")
        with chdir(folder):
            checks = [_hold(target, table, options.update) for target, table in tables.items()]
    _print(checks, options)
    return HOLDS if all(one.holds for one in checks) else DOES_NOT_HOLD


def _read_tables() -> tuple[Path, dict[str, Mapping[str, Any]]]:
    """The folder of the nearest pyproject.toml, and the budgets in it."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            try:
                return folder, target_tables(tomllib.loads(path.read_text(encoding="utf-8")))
            except tomllib.TOMLDecodeError as error:
                raise ArgumentError(f"{path} is no TOML: {error}.") from None
            except ValueError as error:
                raise ArgumentError(str(error)) from None
    return here, {}


def _hold(target: str, table: Mapping[str, Any], update: bool) -> Check:
    try:
        budget = read_budget(table, f"The budget of {target}")
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    if budget.is_empty:
        raise ArgumentError(
            f"There is nothing to check of {target}.", do="give a limit, such as --max-params 5M"
        )
    if update and budget.lock is None:
        raise ArgumentError(f"{target} has no lock to update.", do="name it with --lock FILE")
    thing = load(target)
    if update and budget.lock is not None:
        write_lock(_ledger(thing), budget.lock, target)
    if isinstance(thing, Ledger) and budget.no_findings is None:  # without waiting for JAX
        lock = None if budget.lock is None else read_lock(budget.lock)
        return check(thing, budget, name=target, lock=lock)
    from tally.models.verbs.check import hold

    return hold(thing, budget, target)


def _ledger(thing: Any) -> Ledger:
    if isinstance(thing, Ledger):
        return thing
    from tally.models.ledger import account

    return account(thing)


def _print(checks: list[Check], options: argparse.Namespace) -> None:
    if options.json:
        documents = [as_document(one) for one in checks]
        head = {"schema_version": 1, "kind": "checks", "holds": all(one.holds for one in checks)}
        print(json.dumps({**head, "checks": documents}, indent=2, ensure_ascii=False, default=str))
        return
    from tally.report.budget import draw

    for place, one in enumerate(checks):
        if place:
            print()
        write(draw(one), options.format)
