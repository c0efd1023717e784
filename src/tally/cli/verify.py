"""The command `tally verify`."""

import argparse
import json
from pathlib import Path
from typing import Any

from tally.accounting.marking.statements import StatementError, Written
from tally.accounting.verify import verify
from tally.cli.codes import DOES_NOT_HOLD, HOLDS
from tally.cli.printing import FORMATS, write
from tally.cli.target import FORMS, read
from tally.core.errors import ArgumentError


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Marks statements such as 'conv2d=320', 'dense.kernel=(1600, 10)', 'total=34,826', "
        "'conv2d=32*(3*3*1+1)' or 'The first convolutional layer has 320 parameters.'"
    )
    parser.epilog = (
        "Exit codes: 0 all hold, 1 one does not hold or can't be told yet, 2 one is not understood."
    )
    parser.add_argument("target", help=FORMS)
    parser.add_argument("statements", nargs="*", metavar="statement", help="what is said of the model")
    parser.add_argument(
        "--file",
        type=Path,
        help="statements as text, one in a line, or as .json, a list or an object of names and values",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="how it is written (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the verdicts, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    statements: list[Written] = list(options.statements)
    if options.file is not None:
        statements.append(_read_file(options.file))
    if not statements:
        raise ArgumentError("There is no statement to verify.", do="write one, such as 'conv2d=320'")
    try:
        verification = verify(read(options.target), *statements)
    except StatementError as error:
        raise ArgumentError(str(error)) from None
    if options.json:
        print(verification.to_json(indent=2))
    else:
        from tally.report.verification import draw

        write(draw(verification), options.format)
    return HOLDS if verification.holds else DOES_NOT_HOLD


def _read_file(path: Path) -> Written:
    """The statements in a file; in a text, empty lines and those that begin with # are left out."""
    if not path.is_file():
        raise ArgumentError(f"There is no file at {path}.", do="check the path, seen from this folder")
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix != ".json":
        return [
            line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
        ]
    try:
        read: Any = json.loads(text)
    except ValueError as error:
        raise ArgumentError(
            f"{path} is no JSON: {error}.", do="write a list of texts, or names and values"
        ) from None
    if not isinstance(read, dict | list):
        raise ArgumentError(f"{path} holds no statements.", do="write a list of texts, or names and values")
    return read
