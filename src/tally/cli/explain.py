"""The command `tally explain`."""

import argparse

from tally.accounting.explain import explain
from tally.cli.codes import HOLDS
from tally.cli.target import FORMS, read


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("target", help=FORMS)
    parser.add_argument("--layer", metavar="PATH", help="explain this layer alone, with the layers inside it")
    parser.add_argument(
        "--all", action="store_true", help="explain layers that are the same but for their names, too"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the explanation, and nothing else, as JSON"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    explanation = explain(read(options.target), options.layer)
    if options.json:
        print(explanation.to_json(indent=2))
        return HOLDS
    from tally.report.explanation import draw
    from tally.report.terminal import write

    write(draw(explanation, fold=not options.all))
    return HOLDS
