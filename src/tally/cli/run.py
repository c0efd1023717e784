"""The command `tally run`: a script written for Keras or TensorFlow, run as it stands and accounted for."""

import argparse
import json
import sys
import traceback
from contextlib import ExitStack, redirect_stdout
from typing import Any

from tally.cli.codes import COULD_NOT_RUN, DOES_NOT_HOLD

_ACCOUNTS = (
    ("summary", "show the summary of each model and layer the script makes"),
    ("explain", "show where each of their numbers comes from"),
    ("diagnose", "show what is wrong with them"),
    ("json", "print what was made, and nothing else, as JSON; the script's own prints go to standard error"),
)


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Runs a script written for Keras or TensorFlow, unchanged, and accounts for what it makes."
    )
    for word, told in _ACCOUNTS:
        parser.add_argument(f"--{word}", action="store_true", help=told)
    parser.add_argument("script", help="the script; options for tally come before it")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script itself is given")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from tally.compat.made import noting, outermost
    from tally.compat.script import run_script

    wanted = any(getattr(options, word) for word, _ in _ACCOUNTS)
    made: list[Any] = []
    with ExitStack() as stack:
        if options.json:
            stack.enter_context(redirect_stdout(sys.stderr))
        if wanted:
            made = stack.enter_context(noting())
        ended = run_script(options.script, options.arguments)
    sys.stdout.flush()
    _tell_end(ended)
    accounts = [_account(one, options) for one in outermost(made, ended.names)]
    if options.json:
        print(_as_json(options.script, ended, accounts))
    if ended.error is not None:
        return COULD_NOT_RUN
    if ended.code == 0 and any(_is_error(finding) for one in accounts for finding in one["findings"] or ()):
        return DOES_NOT_HOLD
    return ended.code


def _tell_end(ended: Any) -> None:
    if ended.said is not None:
        print(ended.said, file=sys.stderr)
    if ended.error is not None:
        print("".join(traceback.format_exception(ended.error)), end="", file=sys.stderr)


def _account(made: Any, options: argparse.Namespace) -> dict[str, Any]:
    """One model or layer: shown as asked, and what JSON says of it."""
    print_fn = (lambda text: None) if options.json else None
    findings = None
    if not options.json:
        print(f"\n{_introduced(made)}")
    if options.summary and not options.json:
        from tally.models.verbs.summary import summary

        summary(made.layer)
    if options.explain and not options.json:
        from tally.models.verbs.explain import explain

        explain(made.layer)
    if options.diagnose:
        from tally.models.verbs.diagnose import diagnose

        findings = list(diagnose(made.layer, print_fn=print_fn).findings)
    return {"made": made, "findings": findings}


def _introduced(made: Any) -> str:
    """`model, a Sequential made at train.py:12`."""
    kind = type(made.layer).__name__
    article = "an" if kind[0] in "AEIOU" else "a"
    named = f"{made.variable}, " if made.variable else ""
    return f"{named}{article} {kind} made at {made.layer.made_at}:"


def _as_json(script: str, ended: Any, accounts: list[dict[str, Any]]) -> str:
    return json.dumps(
        {
            "schema_version": 1,
            "kind": "run",
            "script": script,
            "exit": ended.code,
            "accounts": [_json_account(**one) for one in accounts],
        },
        indent=2,
    )


def _json_account(made: Any, findings: list[Any] | None) -> dict[str, Any]:
    from dataclasses import asdict

    from tally.models.ledger import account

    ledger = account(made.layer)
    return {
        "name": made.layer.name,
        "variable": made.variable,
        "ledger": json.loads(ledger.to_json()),
        "findings": None
        if findings is None
        else [{"name": finding.name, **asdict(finding)} for finding in findings],
    }


def _is_error(finding: Any) -> bool:
    return finding.severity == "error"
