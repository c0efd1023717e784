"""The command `tally diff`."""

import argparse
from pathlib import Path

from tally.accounting.ledger import Ledger
from tally.cli.codes import DOES_NOT_HOLD, HOLDS
from tally.cli.printing import FORMATS, write
from tally.cli.target import FORMS, load


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Tells which layers were added, removed, renamed, resized, frozen, and what each did to the total."
    )
    parser.epilog = "Exit codes: 0 no difference, 1 a difference, 2 it could not run."
    parser.add_argument("before", help=FORMS)
    parser.add_argument("after", help="the same, of the other model")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="how it is written (default: %(default)s)"
    )
    parser.add_argument(
        "--no-values", action="store_true", help="compare structures alone, not the values of weights"
    )
    parser.add_argument("--json", action="store_true", help="print the difference, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    before, after = (
        load(one, account=options.no_values or _is_account(other))
        for one, other in ((options.before, options.after), (options.after, options.before))
    )
    if isinstance(before, Ledger) and isinstance(after, Ledger):
        from tally.accounting.diff import diff  # without waiting for JAX

        difference = diff(before, after)
    else:
        from tally.models.verbs.diff import compare

        difference = compare(before, after, values=False if options.no_values else None)
    if options.json:
        print(difference.to_json(indent=2))
    else:
        from tally.report.difference import draw

        write(draw(difference), options.format)
    return HOLDS if difference.is_empty else DOES_NOT_HOLD


def _is_account(target: str) -> bool:
    """Whether a target is a file that is never made a model, so that there are no values to compare with."""
    return Path(target).exists() and not target.endswith((".keras", ".py"))
