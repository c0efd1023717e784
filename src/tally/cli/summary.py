"""The command `tally summary`."""

import argparse
from typing import Any

from tally.cli.codes import HOLDS
from tally.cli.target import FORMS, load

_FORMATS = {"markdown": "to_markdown", "csv": "to_csv", "latex": "to_latex", "html": "to_html"}


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("target", help=FORMS)
    parser.add_argument(
        "--columns",
        metavar="NAMES",
        help="what to show, with commas between: shape,params,bytes,dtype,trainable,frozen,state,macs,activations,"
        "inputs,origin (default: what there is to say)",
    )
    parser.add_argument(
        "--depth", type=int, metavar="N", help="how deep to list the layers inside layers (default: 0)"
    )
    parser.add_argument("--expand-nested", action="store_true", help="list all layers inside layers")
    parser.add_argument(
        "--fold",
        action=argparse.BooleanOptionalAction,
        help="one row for neighbours that are alike (default: for three or more blocks with layers inside)",
    )
    parser.add_argument("--show-trainable", action="store_true", help="show which layers learn")
    parser.add_argument(
        "--format",
        choices=["text", *_FORMATS, "ledger"],
        default="text",
        help="ledger is the whole account as JSON, which every command reads (default: %(default)s)",
    )
    parser.add_argument("--width", type=int, metavar="N", help="characters in a line of text")
    parser.add_argument(
        "--json", action="store_true", help="print the rows and figures, and nothing else, as JSON"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    made = _make(options)
    if options.json:
        print(made.to_json(indent=2))
    elif options.format == "text":
        from tally.report.terminal import write

        write(made.document)
    elif options.format == "ledger":
        print(made.ledger.to_json(indent=2))
    else:
        print(getattr(made, _FORMATS[options.format])().removesuffix("\n"))
    return HOLDS


def _make(options: argparse.Namespace) -> Any:
    """The summary of the target; what a file says of itself needs no JAX."""
    from tally.accounting.ledger import Ledger
    from tally.report.summary import tabulate

    chosen = {
        "columns": options.columns,
        "depth": options.depth,
        "fold": options.fold,
        "expand_nested": options.expand_nested,
        "show_trainable": options.show_trainable,
        "line_length": options.width,
    }
    counts_work = "macs" in (options.columns or "") or options.format == "ledger"
    thing = load(options.target, account=not counts_work)
    if isinstance(thing, Ledger):
        return tabulate(thing, **chosen)
    from tally.models.verbs.summary import summary_of

    return summary_of(thing, **chosen)
