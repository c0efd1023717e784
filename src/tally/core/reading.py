"""Where in a configuration its reading stands, and the one error for what describes nothing that can be made."""

import re
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from tally.core.errors import SavingError, TallyError, raised_at

_DEEPEST = 100
"""Objects inside each other; the largest known models take a tenth of that."""
_LONGEST = 600
"""Letters of a message that may come from a file."""
_ABSENT = object()
_KINDS = {
    **{dict: "an object", list: "a list", tuple: "a list", str: "a text", bool: "true or false"},
    **{int: "a whole number", float: "a number", type(None): "null"},
}
_current: ContextVar["Reading | None"] = ContextVar("what is being read", default=None)


class Reading:
    """A configuration while it is read: whatever goes wrong in the block becomes a `SavingError` that says where.

    Args:
        config: A part of the configuration; the outermost block has the whole.
        file: What it comes from.
        way: The names and numbers that lead here from the part around it, for what may be no list or object.

    Raises:
        SavingError: Any other error came out of the block, which is its cause.

    Example:
        >>> config = {"units": "three"}
        >>> with Reading(config, "model.keras"):
        ...     need(config, "units", int)
        Traceback (most recent call last):
        ...
        tally.core.errors.SavingError: The configuration has a text as 'units', where a whole number belongs.
          where: units in model.keras
          do: correct it there, or save the model again
    """

    __slots__ = ("_token", "above", "config", "depth", "file", "root", "way")

    def __init__(self, config: Any, file: Any = None, way: tuple[Any, ...] = ()) -> None:
        self.config, self.file, self.way = config, file, way
        self.above: Reading | None = None
        self.root: Any = config
        self.depth = 0
        self._token: Token[Reading | None] | None = None

    def __enter__(self) -> "Reading":
        above = _current.get()
        if above is not None:
            if above.depth >= _DEEPEST:
                raise SavingError(
                    f"The configuration has more than {_DEEPEST} objects inside each other.",
                    do="don't trust this file",
                )
            self.above, self.root, self.depth = above, above.root, above.depth + 1
            self.file = self.file or above.file
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        _current.reset(self._token)
        if not isinstance(error, Exception) or getattr(error, "place", ""):
            return
        if isinstance(error, SavingError):
            _complete(error, self)
            return
        made = _refusal(error, self)
        is_ours = isinstance(error, TallyError) and raised_at(error) is None
        raise made from None if is_ours else error


def need(config: Any, key: str, *kinds: type) -> Any:
    """What stands in a configuration under a name.

    Args:
        config: A part of it.
        key: The name.
        *kinds: What it may be; anything unless given.

    Raises:
        SavingError: It isn't there, or is something else.
    """
    value = config.get(key, _ABSENT) if isinstance(config, dict) else _ABSENT
    if not isinstance(config, dict):
        raise SavingError(f"The configuration has {_kind(config)} where an object with '{key}' belongs.")
    if value is _ABSENT:
        raise SavingError(f"The configuration has no '{key}' here.")
    if kinds and not isinstance(value, kinds):
        wanted = " or ".join(dict.fromkeys(_KINDS.get(kind, kind.__name__) for kind in kinds))
        raise SavingError(f"The configuration has {_kind(value)} as '{key}', where {wanted} belongs.")
    return value


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def shown(text: Any, longest: int = _LONGEST) -> str:
    """A text of a file as a terminal may see it: no control characters, and not without end."""
    whole = str(text)
    kept = "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in whole[:longest])
    return kept if len(whole) <= longest else f"{kept}..."


def _refusal(error: Exception, reading: Reading) -> SavingError:
    """The error for what isn't one of a configuration."""
    line = raised_at(error)
    reason, do = _reason(error, line), getattr(error, "do", "") if isinstance(error, TallyError) else ""
    if line is not None:
        reason += f", raised at {line}"
        do = (
            do
            or "look at that line: it is of a class of yours, and did not expect what the configuration says"
        )
    made = SavingError(f"The configuration describes nothing that can be made: {reason}.", do=do)
    for note in getattr(error, "__notes__", ()):
        made.add_note(shown(note))
    _complete(made, reading)
    return made


def _reason(error: Exception, line: str | None) -> str:
    if isinstance(error, TallyError):
        return error.what.rstrip(".")
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, KeyError) and line is None and error.args:
        return f"it has no {error.args[0]!r}"
    first = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first}".rstrip(".:? ")


def _complete(error: SavingError, reading: Reading) -> None:
    """Let an error say where in the configuration, and in which file, it arose."""
    found, steps = _find(reading)
    argument = _argument(found, error.what)
    place = _written([*steps, *argument]) or "the top"
    file = f" in {reading.file}" if reading.file else ""
    where = "; ".join(filter(None, (f"{shown(place, 120)}{file}", error.where)))
    do = error.do or "correct it there, or save the model again"
    SavingError.__init__(error, shown(error.what), where=where, do=shown(do))
    error.place = place


def _find(reading: Reading) -> tuple[Any, list[Any]]:
    """The innermost part being read that is in the whole, or a copy of which is; and the way there."""
    ways: dict[int, Any] = {id(reading.root): None}
    parts = [reading.root]
    while parts:
        part = parts.pop()
        pairs = (
            part.items()
            if isinstance(part, dict)
            else enumerate(part)
            if isinstance(part, (list, tuple))
            else ()
        )
        for key, value in pairs:
            if isinstance(value, (dict, list, tuple)) and id(value) not in ways:
                ways[id(value)] = (ways[id(part)], key)
                parts.append(value)
    here: Reading | None = reading
    rest: list[Any] = []
    while here is not None:
        for part in (here.config, here.config.get("config") if isinstance(here.config, dict) else None):
            if id(part) in ways:
                return (part if not rest else None), [*_unrolled(ways[id(part)]), *rest]
        rest = [*here.way, *rest] if here.way else []
        here = here.above
    return reading.root, []


def _unrolled(way: Any) -> list[Any]:
    steps: list[Any] = []
    while way is not None:
        way, key = way
        steps.append(key)
    return steps[::-1]


def _argument(part: Any, reason: str) -> list[str]:
    """The argument that a message is about, if it names one."""
    if not isinstance(part, dict):
        return []
    within = ["config"] if isinstance(part.get("config"), dict) and "class_name" in part else []
    inner = part["config"] if within else part
    words = re.findall(r"(\w+)=|'(\w+)'", reason[:_LONGEST])
    named = [word for pair in words for word in pair if word in inner and word not in ("name", "config")]
    if not named:
        plain = {name: repr(value) for name, value in inner.items() if type(value) in (str, int, float)}
        named = [
            name for name, value in plain.items() if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", reason)
        ]
        named = named if len(named) == 1 else []
    return [*within, named[0]] if named else []


def _written(steps: list[Any]) -> str:
    """`config.layers[3].config.units`."""
    text = ""
    for step in steps:
        if isinstance(step, str) and step.isidentifier():
            text += f".{step}"
        else:
            text += f"[{step}]" if isinstance(step, int) else f"[{shown(step, 40)!r}]"
    return text.removeprefix(".")
