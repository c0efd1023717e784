"""The command `tally summary`."""

import argparse
from typing import Any

from tally.cli.codes import HOLDS
from tally.cli.target import FORMS, read


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser("summary", help="the table of layers, shapes and parameters")
    parser.add_argument("target", help=FORMS)
    parser.add_argument("--expand-nested", action="store_true", help="show the layers of nested models")
    parser.add_argument("--show-trainable", action="store_true", help="show which layers learn")
    parser.add_argument("--json", action="store_true", help="print the ledger, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    ledger = read(options.target)
    if options.json:
        print(ledger.to_json(indent=2))
        return HOLDS
    from tally.models.verbs.summary import show_summary

    show_summary(ledger, expand_nested=options.expand_nested, show_trainable=options.show_trainable)
    return HOLDS
