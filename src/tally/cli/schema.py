"""The command `tally schema`."""

import argparse
from typing import Any

from tally.cli.codes import HOLDS


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser("schema", help="the JSON Schema of a ledger")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from tally.accounting.schema import schema_text

    print(schema_text(), end="")
    return HOLDS
