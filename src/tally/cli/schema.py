"""The command `tally schema`."""

import argparse

from tally.cli.codes import HOLDS


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from tally.accounting.schema import schema_text

    print(schema_text(), end="")
    return HOLDS
