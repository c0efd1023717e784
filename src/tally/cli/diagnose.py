"""The command `tally diagnose`."""

import argparse
import functools
import json
from dataclasses import asdict

from tally.cli.codes import DOES_NOT_HOLD, HOLDS
from tally.cli.target import FORMS, load


def fill(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("target", help=FORMS)
    parser.add_argument("--no-notes", action="store_true", help="leave out what only explains a number")
    parser.add_argument("--json", action="store_true", help="print the findings, and nothing else, as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from tally.models.verbs.diagnose import find
    from tally.models.verbs.show import show
    from tally.report.diagnosis import draw

    diagnosis = find(functools.partial(load, options.target))  # what fails in building may be a finding
    if options.json:
        findings = [{"name": one.name, **asdict(one)} for one in diagnosis.findings]
        head = {"schema_version": 1, "kind": "diagnosis", "name": diagnosis.name, "holds": diagnosis.holds}
        print(json.dumps({**head, "findings": findings}, indent=2, ensure_ascii=False))
    else:
        show(draw(diagnosis, notes=not options.no_notes))
    return HOLDS if diagnosis.holds else DOES_NOT_HOLD
