"""The command `tally`: says in a terminal what the library says in Python."""

import argparse
import os
import sys
from collections.abc import Sequence

from tally import __version__
from tally.accounting.ledger import Ledger
from tally.cli.target import FORMS, read
from tally.core.errors import TallyError, raised_at

DONE, FAILED, COULD_NOT_RUN = 0, 1, 2
"""Exit codes: it ran and all is well; it ran and something is wrong; it could not run."""


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
        return DONE
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
        prog="tally", description="Accounts for and explains every parameter of a model."
    )
    parser.add_argument("--version", action="version", version=f"tally {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="", required=True)

    demo = commands.add_parser("demo", help="build, explain, train, test, save and load a small convnet")
    demo.add_argument(
        "--output", default="demo.keras", metavar="FILE", help="where to save it (default: %(default)s)"
    )
    demo.add_argument(
        "--mnist",
        action="store_true",
        help="learn MNIST (11 MB, downloaded once), not scikit-learn's digits",
    )
    demo.set_defaults(run=_run_demo)

    summary = commands.add_parser("summary", help="the table of layers, shapes and parameters")
    summary.add_argument("--expand-nested", action="store_true", help="show the layers of nested models")
    summary.add_argument("--show-trainable", action="store_true", help="show which layers learn")
    summary.set_defaults(run=_run_summary)

    explain = commands.add_parser("explain", help="where every number comes from")
    explain.set_defaults(run=_run_explain)

    for command in (summary, explain):
        command.add_argument("target", help=FORMS)
        command.add_argument(
            "--json", action="store_true", help="print the ledger, and nothing else, as JSON"
        )
    return parser


def _run_demo(options: argparse.Namespace) -> int:
    from tally.cli.demo import run

    return DONE if run(options.output, mnist=options.mnist) else FAILED


def _run_summary(options: argparse.Namespace) -> int:
    ledger = read(options.target)
    if options.json:
        return _print_json(ledger)
    from tally.models.views import show
    from tally.report.summary import summarise

    show(summarise(ledger, expand_nested=options.expand_nested, show_trainable=options.show_trainable))
    return DONE


def _run_explain(options: argparse.Namespace) -> int:
    ledger = read(options.target)
    if options.json:
        return _print_json(ledger)
    from tally.models.views import explain

    explain(ledger)
    return DONE


def _print_json(ledger: Ledger) -> int:
    print(ledger.to_json(indent=2))
    return DONE


def _tell(error: BaseException) -> str:
    """An error in a few lines: this library's as they are, others with their kind and the user's line."""
    if isinstance(error, TallyError):
        return "\n".join([str(error), *(f"  {note}" for note in getattr(error, "__notes__", ()))])
    if isinstance(error, SystemExit):
        return f"the script ended by itself (exit {error.code}) before the model was there"
    line = raised_at(error)
    told = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
    return "\n  ".join([*told, *([f"where: raised at {line}"] if line else [])])
