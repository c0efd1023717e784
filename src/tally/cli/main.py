"""The command `tally`: says in a terminal what the library says in Python."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from tally import __version__
from tally.cli import check, diagnose, diff, explain, plan, run, schema, summary, verify, what_if
from tally.cli.codes import COULD_NOT_RUN, DOES_NOT_HOLD, HOLDS
from tally.core.errors import TallyError, raised_at

_VERBS = (summary, explain, plan, diagnose, diff, check, schema, run, what_if, verify)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code.

    Args:
        arguments: What follows `tally`; those of the process unless given.
    """
    options = _parser().parse_args(arguments)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HOLDS
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except (Exception, SystemExit) as error:
        if os.environ.get("TALLY_FULL_TRACE"):
            raise
        print(f"tally: {_tell(error)}", file=sys.stderr)
        return COULD_NOT_RUN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tally",
        description="Accounts for and explains every parameter of a model.",
        epilog="Exit codes: 0 it holds, 1 it does not hold, 2 it could not run.",
    )
    parser.add_argument("--version", action="version", version=f"tally {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="", required=True)
    _add_demo(commands)
    for verb in _VERBS:
        verb.add(commands)
    return parser


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser("demo", help="build, explain, train, test, save and load a small convnet")
    parser.add_argument(
        "--output", default="demo.keras", metavar="FILE", help="where to save it (default: %(default)s)"
    )
    parser.add_argument(
        "--mnist",
        action="store_true",
        help="learn MNIST (11 MB, downloaded once), not scikit-learn's digits",
    )
    parser.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from tally.cli.demo import run

    return HOLDS if run(options.output, mnist=options.mnist) else DOES_NOT_HOLD


def _is_of_account(error: BaseException) -> bool:
    """Whether an error was raised by the rooms that know no engine, whose errors are plain ones."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return module.startswith(("tally.accounting", "tally.report"))


def _tell(error: BaseException) -> str:
    """An error in a few lines: this library's as they are, others with their kind and the user's line."""
    if isinstance(error, TallyError):
        return "\n".join([str(error), *(f"  {note}" for note in getattr(error, "__notes__", ()))])
    if isinstance(error, SystemExit):
        return f"the script ended by itself (exit {error.code}) before the model was there"
    line = raised_at(error)
    if isinstance(error, ValueError) and line is None and _is_of_account(error):
        return str(error)  # a sentence of the library's own
    told = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
    return "\n  ".join([*told, *([f"where: raised at {line}"] if line else [])])
