"""The command `tally plan`."""

import argparse

from tally.accounting.budget import read_number
from tally.accounting.ledger import Ledger
from tally.accounting.plan import Plan, plan_ledger, slots_of
from tally.cli.codes import DOES_NOT_HOLD, HOLDS
from tally.cli.target import FORMS, load
from tally.core.errors import ArgumentError


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Tells the memory, the multiply-adds and the FLOPs of training and of prediction, by layer and in all, "
        "without allocating or running anything."
    )
    parser.epilog = (
        "Exit codes: 0 planned, and it fits the memory if one is given; 1 it doesn't fit, 2 it could not run."
    )
    parser.add_argument("target", help=FORMS)
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="examples in a batch (default: %(default)s)"
    )
    parser.add_argument("--prediction", action="store_true", help="plan prediction alone, and no training")
    parser.add_argument(
        "--policy", metavar="NAME", help="a dtype or policy to plan under, such as mixed_bfloat16"
    )
    parser.add_argument(
        "--optimizer", metavar="NAME", help="such as adamw (default: the compiled one, or adam)"
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="such as 16GB (16,000,000,000 bytes) or 16GiB: whether it fits, and the largest batch",
    )
    parser.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="default: the one at hand")
    parser.add_argument(
        "--compare", action="store_true", help="compile and run a step, too, and show how far the plan is off"
    )
    parser.add_argument("--json", action="store_true", help="print the plan, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    thing = load(options.target)
    if isinstance(thing, Ledger) and not any(map(vars(options).get, _ENGINE)):
        return _print(_plan_account(thing, options), options.json)
    from tally.models.verbs.plan import plan

    found = plan(
        thing,
        batch_size=options.batch_size,
        training=not options.prediction,
        policy=options.policy,
        optimizer=options.optimizer,
        memory=options.memory,
        device=options.device,
        compare=options.compare,
        print_fn=(lambda _: None) if options.json else None,
    )
    if options.json:
        print(found.to_json(indent=2))
    return DOES_NOT_HOLD if found.fits is False else HOLDS


_ENGINE = ("policy", "optimizer", "device", "compare")
"""What only the engine can answer; without them an account is planned without waiting for JAX."""


def _plan_account(ledger: Ledger, options: argparse.Namespace) -> Plan:
    """Plan from an account, training with Adam as `tally.plan` does unless another optimizer is asked for."""
    if options.batch_size < 1:
        raise ArgumentError(
            f"A batch can't have {options.batch_size} examples.", do="give a whole number from 1 up"
        )
    try:
        memory = None if options.memory is None else read_number(options.memory, "bytes")
    except ValueError as error:
        raise ArgumentError(
            f"--memory can't be read: {error}", do="give bytes, or a size such as 16GB"
        ) from None
    training = not options.prediction
    return plan_ledger(
        ledger,
        batch_size=options.batch_size,
        training=training,
        slots=slots_of(ledger, 2) if training else [],
        optimizer="Adam" if training else None,
        memory=memory,
    )


def _print(found: Plan, as_json: bool) -> int:
    if as_json:
        print(found.to_json(indent=2))
    else:
        from tally.report.plan import draw
        from tally.report.terminal import write

        write(draw(found))
    return DOES_NOT_HOLD if found.fits is False else HOLDS
