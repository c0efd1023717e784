"""The command `tally`: says in a terminal what the library says in Python."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from tally import __version__
from tally.cli.codes import COULD_NOT_RUN, DOES_NOT_HOLD, HOLDS
from tally.core.errors import TallyError, leave_out, raised_at

_COMMANDS = {
    "demo": "build, explain, train, test, save and load a small convnet",
    "summary": "the table of layers, shapes and parameters",
    "explain": "where every number comes from",
    "plan": "what training and prediction will cost, before a byte is allocated",
    "diagnose": "mistakes that make the numbers wrong, each with its line",
    "diff": "what makes two models differ, layer by layer",
    "check": "whether a model keeps to its budget, for CI",
    "schema": "the JSON Schema of a ledger",
    "run": "run a script written for Keras or TensorFlow, unchanged",
    "what-if": "a layer made otherwise, side by side with what it is",
    "verify": "whether statements about the numbers are so, and what a wrong number is",
}
"""Every command, and what `tally --help` says of it; its module is imported when it is the one to run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code.

    Args:
        arguments: What follows `tally`; those of the process unless given.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        # The script that an installer made: no model is made there.
        leave_out(sys._getframe(1).f_code.co_filename)
    options = _parser(next((word for word in arguments if not word.startswith("-")), None)).parse_args(
        arguments
    )
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


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of all commands, in which only the chosen one knows its arguments."""
    parser = argparse.ArgumentParser(
        prog="tally",
        description="Accounts for and explains every parameter of a model.",
        epilog="Exit codes: 0 it holds, 1 it does not hold, 2 it could not run.",
    )
    parser.add_argument("--version", action="version", version=f"tally {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="", required=True)
    for name, told in _COMMANDS.items():
        command = commands.add_parser(name, help=told)
        if name != chosen:
            continue
        if name == "demo":
            _fill_demo(command)
        else:
            importlib.import_module(f"tally.cli.{name.replace('-', '_')}").fill(command)
    return parser


def _fill_demo(parser: argparse.ArgumentParser) -> None:
    """Say what the demo takes; here, because its own module imports JAX."""
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
    return module.startswith(("tally.accounting", "tally.formats", "tally.readers", "tally.report"))


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
