"""What a model may cost: limits on its figures, as a whole and layer by layer, read from words and from tables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias, cast, get_args

from tally.accounting.finding import SEVERITIES, Severity
from tally.accounting.schema import closest

Bound: TypeAlias = Literal["max", "min", "expect"]
Measure: TypeAlias = Literal["params", "trainable", "bytes", "macs"]

BOUNDS: tuple[Bound, ...] = get_args(Bound)
MEASURES: tuple[Measure, ...] = get_args(Measure)
LIMITS: tuple[str, ...] = tuple(f"{bound}-{measure}" for measure in MEASURES for bound in BOUNDS)
"""Every limit there is, such as `max-params`, as options and tables spell it; Python has an underscore."""

_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_BYTES = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A number that a figure of a model may not exceed, must reach, or must be.

    Args:
        bound: Which of the three.
        measure: The figure: parameters, trainable ones, their bytes, or multiply-adds for one example.
        value: The number.
    """

    bound: Bound
    measure: Measure
    value: int

    @property
    def name(self) -> str:
        """How an option or a table spells it, such as `max-params`."""
        return f"{self.bound}-{self.measure}"

    def holds(self, figure: int) -> bool:
        """Whether a figure is within the limit."""
        if self.bound == "expect":
            return figure == self.value
        return figure <= self.value if self.bound == "max" else figure >= self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule:
    """What is asked of each layer whose path matches a pattern.

    Args:
        pattern: A path, in which `*` stands for anything but a slash, `**` for anything, `?` for one character.
        limits: On the layer with all that is inside it.
        trainable: Whether all of it must be trainable, or nothing; None asks for neither.
    """

    pattern: str
    limits: tuple[Limit, ...] = ()
    trainable: bool | None = None

    def matches(self, path: str) -> bool:
        """Whether a layer is meant.

        Example:
            >>> rule = LayerRule(pattern="encoder/*")
            >>> rule.matches("encoder/0"), rule.matches("encoder/0/dense"), rule.matches("encoder")
            (True, False, False)
        """
        signs = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
        parts = re.split(r"(\*\*|\*|\?)", self.pattern)
        return re.fullmatch("".join(signs.get(part, re.escape(part)) for part in parts), path) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """All that is asked of one model.

    Args:
        limits: On the model as a whole.
        layers: Rules for layers.
        no_findings: The mildest severity of a finding that is refused; None asks for no diagnosis.
        lock: A file with the ledger that the model must have.
        tolerance: How far the total may be from the lock's: a number of parameters, or a share of the lock's as a
            fraction. Zero asks for the same ledger, layer by layer.
    """

    limits: tuple[Limit, ...] = ()
    layers: tuple[LayerRule, ...] = ()
    no_findings: Severity | None = None
    lock: str | None = None
    tolerance: int | Fraction = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked."""
        return not (self.limits or self.layers or self.no_findings or self.lock)


def read_budget(table: Mapping[str, Any], place: str = "The budget") -> Budget:
    """Read a budget from a table, as it stands in `pyproject.toml` or in the arguments of `tally.check`.

    Args:
        table: Limits by name (`"max-params"` or `max_params`), `layers` with a table for each pattern, `no-findings`,
            `lock` and `tolerance`. What is None is left out.
        place: What an error begins with.

    Raises:
        ValueError: A name is unknown, or a value can't be read.

    Example:
        >>> budget = read_budget({"max-params": "5M", "layers": {"encoder/*": {"trainable": False}}})
        >>> budget.limits[0].value, budget.layers[0].pattern
        (5000000, 'encoder/*')
    """
    known = [*LIMITS, "layers", "no-findings", "lock", "tolerance"]
    given = _named(table, known, place)
    layers = given.get("layers", {})
    if not isinstance(layers, Mapping):
        raise ValueError(f"{place}: layers is a table with a pattern for each rule, not {layers!r}.")
    rules = cast("Mapping[str, Any]", layers)
    return Budget(
        limits=_limits(given, place),
        layers=tuple(_rule(pattern, rule, f"{place}, layers {pattern!r}") for pattern, rule in rules.items()),
        no_findings=_severity(given.get("no-findings"), place),
        lock=_text(given.get("lock"), "lock", place),
        tolerance=_tolerance(given.get("tolerance", 0), place),
    )


def target_tables(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what stands in the table `[tool.tally.check]` of a `pyproject.toml`: a table for each target.

    Args:
        document: The whole file.

    Raises:
        ValueError: One of these is no table, or has a name that nothing is known of.

    Example:
        >>> target_tables({"tool": {"tally": {"check": {"models.py:make": {"max-params": 100}}}}})
        {'models.py:make': {'max-params': 100}}
    """
    tables = _table(_table(document, "tool", "pyproject.toml"), "tally", "[tool]")
    for name in tables:
        if name != "check" and closest(name, ["check"]):
            raise ValueError(f"pyproject.toml: [tool.tally.{name}] is unknown. Did you mean 'check'?")
    targets = _table(tables, "check", "[tool.tally]")
    return {target: _table(targets, target, "[tool.tally.check]") for target in targets}


def _table(outside: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any]:
    inside = outside.get(name, {})
    if not isinstance(inside, Mapping):
        raise ValueError(f"pyproject.toml: in {place}, {name!r} must be a table, and is {inside!r}.")
    return cast("Mapping[str, Any]", inside)


def read_number(value: Any, measure: Measure = "params") -> int:
    """Read a whole number with or without a unit.

    Counts take `k`, `M`, `G` or `B`, and `T`: thousands, millions, and so on. Bytes take `kB`, `MB`, `GB`, `TB`, which
    are powers of 1,000, and `KiB`, `MiB`, `GiB`, `TiB`, which are powers of 1,024. Commas, spaces and underscores
    between digits are passed over.

    Args:
        value: A number or a text.
        measure: What is counted.

    Raises:
        ValueError: It is neither, or doesn't come to a whole number.

    Example:
        >>> read_number("1.5M"), read_number("20MB", "bytes"), read_number("20 MiB", "bytes")
        (1500000, 20000000, 20971520)
    """
    units, examples = (_BYTES, "20MB or 20MiB") if measure == "bytes" else (_COUNTS, "5000000, 5M or 500k")
    if type(value) in (int, float) and value == value // 1 >= 0:
        return int(value)
    found = re.fullmatch(r"([\d,_ ]*\.?\d+(?:e\d{1,2})?) *([a-z]*)", str(value).strip().lower())
    if type(value) is not str or found is None or found[2] not in units:
        raise ValueError(f"{value!r} is no number of {_NOUNS[measure]}; write {examples}.")
    number = Fraction(re.sub(r"[,_ ]", "", found[1])) * units[found[2]]
    if number.denominator != 1:
        raise ValueError(f"{value!r} is no whole number of {_NOUNS[measure]}.")
    return int(number)


_NOUNS: dict[Measure, str] = {
    "params": "parameters",
    "trainable": "parameters",
    "bytes": "bytes",
    "macs": "multiply-adds",
}


def _named(table: Mapping[str, Any], known: list[str], place: str) -> dict[str, Any]:
    """Take names with a hyphen or an underscore, and refuse those that nothing is known of."""
    given = {name.replace("_", "-"): value for name, value in table.items() if value is not None}
    for name in given:
        if name not in known:
            raise ValueError(f"{place}: {name!r} is unknown.{closest(name, known)}")
    return given


def _limits(given: Mapping[str, Any], place: str) -> tuple[Limit, ...]:
    limits: list[Limit] = []
    for measure in MEASURES:
        for bound in BOUNDS:
            name = f"{bound}-{measure}"
            if name in given:
                try:
                    value = read_number(given[name], measure)
                except ValueError as error:
                    raise ValueError(f"{place}: {name}: {error}") from None
                limits.append(Limit(bound=bound, measure=measure, value=value))
    return tuple(limits)


def _rule(pattern: str, table: Any, place: str) -> LayerRule:
    if not isinstance(table, Mapping):
        raise ValueError(f"{place}: a rule is a table such as {{max-params = '1M'}}, not {table!r}.")
    given = _named(cast("Mapping[str, Any]", table), [*LIMITS, "trainable"], place)
    trainable = given.get("trainable")
    if trainable not in (None, True, False):
        raise ValueError(f"{place}: trainable is true or false, not {trainable!r}.")
    rule = LayerRule(pattern=pattern, limits=_limits(given, place), trainable=trainable)
    if not rule.limits and rule.trainable is None:
        raise ValueError(f"{place}: nothing is asked; give a limit such as max-params, or trainable.")
    return rule


def _severity(value: Any, place: str) -> Severity | None:
    if value is None or value in SEVERITIES:
        return value
    wanted = ", ".join(map(repr, SEVERITIES))
    raise ValueError(
        f"{place}: no-findings is one of {wanted}, not {value!r}.{closest(str(value), list(SEVERITIES))}"
    )


def _text(value: Any, name: str, place: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{place}: {name} is the name of a file, not {value!r}.")


def _tolerance(value: Any, place: str) -> int | Fraction:
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            return Fraction(value.strip()[:-1].strip()) / 100
        return read_number(value)
    except ValueError:
        raise ValueError(
            f"{place}: tolerance is a number of parameters or a share such as '1%', not {value!r}."
        ) from None
