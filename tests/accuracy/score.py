"""Runs `diagnose` on every case, and counts what it finds, misses, and finds where nothing is wrong."""

import re
import sys
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .registry import Case, load

ALARMS = ("error", "warning")
_WHERE = re.compile(r"^(?P<file>.*?):(?P<line>\d+)(?::(?P<column>\d+))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came out for one case.

    Args:
        case: The case.
        findings: All that `diagnose` found.
        failure: The error it raised, as text; empty if none.
    """

    case: Case
    findings: tuple[Any, ...] = ()
    failure: str = ""

    @property
    def hits(self) -> list[Any]:
        """The findings with an expected code; for a mistake, those that are errors or warnings."""
        wanted = ALARMS if self.case.kind == "mistake" else (*ALARMS, "note")
        return [f for f in self.findings if f.code in self.case.codes and f.severity in wanted]

    @property
    def is_found(self) -> bool:
        """Whether what was expected was found; true for a correct model."""
        return not self.case.codes or bool(self.hits)

    @property
    def alarms(self) -> list[Any]:
        """Errors and warnings that nobody planted."""
        allowed = self.case.also | (set(self.case.codes) if self.case.kind == "mistake" else set())
        return [f for f in self.findings if f.severity in ALARMS and f.code not in allowed]

    @property
    def is_at_right_line(self) -> bool:
        """Whether one of the hits names a marked line."""
        return not self.hits or not self.case.lines or any(self._names_line(f) for f in self.hits)

    @property
    def is_at_right_layer(self) -> bool:
        """Whether one of the hits names an expected layer."""
        layers = self.case.layers
        return not self.hits or layers is None or any(f.layer in layers for f in self.hits)

    @property
    def is_right(self) -> bool:
        """Whether nothing at all is to be complained of."""
        return not self.complaint

    def _names_line(self, finding: Any) -> bool:
        match = _WHERE.match(finding.where or "")
        if match is None or Path(match["file"]).name != self.case.file:
            return False
        return int(match["line"]) in self.case.lines

    @property
    def complaint(self) -> str:
        """What is wrong with the answer, in a line or a few; empty if nothing is."""
        if self.failure:
            return f"{self.case.name}: diagnose failed: {self.failure}"
        said = []
        if not self.is_found:
            said.append(f"{' or '.join(self.case.codes)} is not found among {_show(self.findings)}")
        if not self.is_at_right_line:
            expected = " or ".join(f"{self.case.file}:{line}" for line in sorted(self.case.lines))
            said.append(f"the line is {expected}, but found is {_show(self.hits)}")
        if not self.is_at_right_layer:
            said.append(
                f"the layer is {' or '.join(map(repr, self.case.layers or ()))}, not {_show(self.hits)}"
            )
        if self.alarms:
            said.append(f"nobody planted {_show(self.alarms)}")
        return f"{self.case.name}: " + "; ".join(said) if said else ""


def _show(findings: Iterable[Any]) -> str:
    shown = [f"{f.code} {f.severity} at {f.layer!r} {f.where or '(no line)'}" for f in findings]
    return "[" + ", ".join(shown) + "]"


def begin_anew() -> None:
    """Names, seeds and the dtype policy as in a fresh process."""
    import tally
    from tally.core.naming import reset_names

    tally.config.set_dtype_policy("float32")
    tally.utils.set_random_seed(1337)
    reset_names()


def make(case: Case) -> tuple[Any, ...]:
    """What the case's function gives, as the arguments of `diagnose`: a subject, and x and y where it has them."""
    begin_anew()
    if case.by == "function":
        return (case.build,)
    made = case.build()
    return made if isinstance(made, tuple) else (made,)


def examine(case: Case) -> Result:
    """Run `diagnose` on a case."""
    from tally.models.verbs.diagnose import diagnose

    arguments = make(case)
    diagnosis = diagnose(*arguments, print_fn=_nowhere)
    return Result(case=case, findings=tuple(diagnosis.findings))


def examine_safely(case: Case) -> Result:
    """Like `examine`, with what `diagnose` raises as a part of the result."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return examine(case)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        failure = f"{type(error).__name__}: {error}".splitlines()[0]
        return Result(case=case, failure=f"{failure} ({where})")


def _nowhere(*_: Any, **__: Any) -> None:
    """A `print_fn` that shows nothing."""


def score(wanted: str = "", progress: Callable[[Result], None] | None = None) -> list[Result]:
    """Examine all cases whose name or code contains a word, in the order of their names."""
    results = []
    for name, case in sorted(load().items()):
        if wanted in name or wanted in case.codes:
            results.append(examine_safely(case))
            if progress:
                progress(results[-1])
    return results


def table(results: list[Result]) -> str:
    """A row per code: how many were planted, found, missed, at a wrong line, at a wrong layer."""
    by_code: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_code[f"{result.case.code}{' note' if result.case.kind == 'note' else ''}"].append(result)
    lines = [
        f"{'':<12}{'cases':>7}{'found':>7}{'missed':>8}{'line':>7}{'layer':>7}{'alarms':>8}{'failed':>8}"
    ]
    lines += [_row(code, by_code[code]) for code in sorted(by_code)]
    return "\n".join([*lines, _row("all", results)])


def _row(name: str, results: list[Result]) -> str:
    expected = [r for r in results if r.case.codes]
    found = sum(r.is_found and not r.failure for r in expected)
    return (
        f"{name:<12}{len(results):>7}{found:>7}{len(expected) - found:>8}"
        f"{sum(not r.is_at_right_line for r in results):>7}{sum(not r.is_at_right_layer for r in results):>7}"
        f"{sum(bool(r.alarms) for r in results):>8}{sum(bool(r.failure) for r in results):>8}"
    )


def measures(results: list[Result]) -> str:
    """Precision and recall, in a few sentences.

    Recall is what was found of what was planted. Precision is what was found by everything that raised an alarm:
    a correct model with an alarm, or an alarm beside a planted mistake, counts once each.
    """
    planted = [r for r in results if r.case.kind == "mistake"]
    notes = [r for r in results if r.case.kind == "note"]
    right = [r for r in results if r.case.kind == "correct"]
    found = sum(bool(r.hits) for r in planted)
    false = sum(bool(r.alarms) for r in results)
    noted = sum(bool(r.hits) for r in notes)
    precision = found / (found + false) if found + false else 0.0
    return (
        f"planted mistakes found: {found} of {len(planted)} (recall {_share(found, len(planted))})\n"
        f"notes found: {noted} of {len(notes)}\n"
        f"correct models with an alarm: {sum(bool(r.alarms) for r in right)} of {len(right)}\n"
        f"mistakes and notes with an alarm nobody planted: "
        f"{sum(bool(r.alarms) for r in (*planted, *notes))} of {len(planted) + len(notes)}\n"
        f"precision: {precision:.3f}"
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "none planted"


def main(wanted: str = "") -> int:
    """Print the table, what was wrong in each case, and the measures.

    Args:
        wanted: Only cases whose name contains it or whose codes include it.

    Returns:
        0 if every case came out right, 1 otherwise.
    """
    show = (
        (lambda result: print("." if result.is_right else "x", end="", flush=True))
        if sys.stdout.isatty()
        else None
    )
    results = score(wanted, show)
    print()
    print(table(results))
    print()
    for result in results:
        if result.complaint:
            print(result.complaint)
    print(f"\n{measures(results)}")
    return int(any(not result.is_right for result in results))
