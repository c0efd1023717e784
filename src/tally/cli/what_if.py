"""The command `tally what-if`."""

import argparse
import ast
from typing import Any

from tally.cli.codes import HOLDS
from tally.cli.target import FORMS, load
from tally.core.errors import ArgumentError

_ARGUMENTS = (
    "filters",
    "kernel_size",
    "units",
    "strides",
    "padding",
    "groups",
    "dilation_rate",
    "output_dim",
)
_HELP = """Several values of one argument, separated by commas, give a row each; the sides of a kernel are joined by x:
--filters 32,64 --kernel-size 3x5."""


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.epilog = _HELP
    parser.add_argument("target", help=FORMS)
    parser.add_argument("--layer", metavar="PATH", help="the layer; not needed where the target is one")
    parser.add_argument(
        "--as", dest="variants", metavar="NAMES", help="variants to show, such as separable,depthwise"
    )
    for name in _ARGUMENTS:
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUES", help=f"another {name}")
    parser.add_argument("--no-bias", action="store_true", help="the layer without its bias")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUES", help="another value of any argument"
    )
    parser.add_argument("--rank", type=int, help="the inner size of a low-rank variant")
    parser.add_argument("--bottleneck", type=int, help="the inner size of the 1×1 bottleneck")
    parser.add_argument(
        "--input-shape", metavar="SIZES", help="what the layer reads, without the batch: 32x32x3"
    )
    parser.add_argument("--json", action="store_true", help="print the comparison, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    changes = {name: getattr(options, name) for name in _ARGUMENTS if getattr(options, name) is not None}
    changes |= dict(_pair(text) for text in options.set)
    values: dict[str, Any] = {name: _values(text) for name, text in changes.items()}
    if options.no_bias:
        values["use_bias"] = False
    thing = load(options.target)
    from tally.models.verbs.what_if import what_if

    found = what_if(
        thing,
        options.layer,
        variants=None if options.variants is None else options.variants.split(","),
        input_shape=None if options.input_shape is None else (None, *_sizes(options.input_shape)),
        rank=options.rank,
        bottleneck=options.bottleneck,
        print_fn=(lambda _: None) if options.json else None,
        **values,
    )
    if options.json:
        print(found.to_json(indent=2))
    return HOLDS


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentError(
            f"'{text}' says no value.", do="write --set NAME=VALUE, such as --set use_bias=False"
        )
    return name.strip().replace("-", "_"), value


def _values(text: str) -> Any:
    """One value, or a list of several."""
    values = [_value(part) for part in text.split(",")]
    return values if len(values) > 1 else values[0]


def _value(text: str) -> Any:
    """A number, sides such as 3x5, a word of Python such as None, or else the word as it is."""
    if "x" in text and all(part.strip().isdigit() for part in text.split("x")):
        return _sizes(text)
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def _sizes(text: str) -> tuple[int | None, ...]:
    return tuple(int(part) if part.strip().isdigit() else None for part in text.replace(",", "x").split("x"))
