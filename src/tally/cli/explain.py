"""The command `tally explain`."""

import argparse
from typing import Any

from tally.cli.codes import HOLDS
from tally.cli.target import FORMS, read


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser("explain", help="where every number comes from")
    parser.add_argument("target", help=FORMS)
    parser.add_argument("--json", action="store_true", help="print the ledger, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    ledger = read(options.target)
    if options.json:
        print(ledger.to_json(indent=2))
        return HOLDS
    from tally.models.verbs.explain import explain

    explain(ledger)
    return HOLDS
