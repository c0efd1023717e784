"""JSON in a file that isn't trusted: no name twice, no endless depth, no endless numbers."""

import json
import math
from os import PathLike
from typing import Any, cast

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits

_DIGITS = 400
"""Of a whole number; 2^63 has 19. Reading takes time with the square of their number."""


def parse_json(text: bytes | str, file: str | PathLike[str], place: str = "", limits: Limits = LIMITS) -> Any:
    """Read a JSON document.

    Args:
        text: The document, in UTF-8 where it is bytes.
        file: Whose it is, for the error.
        place: Where in the file, for the error.
        limits: How deep lists and objects may be nested.

    Raises:
        BadFileError: It is no JSON, names something twice in one object, is nested too deep, or has a number
            that nothing could hold.

    Example:
        >>> parse_json('{"shape": [2, 3]}', "x.json")
        {'shape': [2, 3]}
        >>> parse_json('{"a": 1, "a": 2}', "x.json", "the header")
        Traceback (most recent call last):
        ...
        tally.formats.errors.BadFileError: x.json, the header: names 'a' twice in one object.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        document = json.loads(
            decoded,
            object_pairs_hook=_once,
            parse_int=_whole,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise BadFileError(file, f"is not UTF-8 at byte {error.start:,}", place=place) from None
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")  # some of these texts end so
        reason = f"is no JSON: {what[:1].lower()}{what[1:]} at letter {error.pos:,}"
        raise BadFileError(file, reason, place=place) from None
    except _WrongError as error:
        raise BadFileError(file, str(error), place=place) from None
    except RecursionError:
        raise BadFileError(file, "nests lists and objects without end", place=place) from None
    if _too_deep(document, limits.depth):
        raise BadFileError(file, f"nests lists and objects more than {limits.depth} levels deep", place=place)
    return document


class _WrongError(Exception):
    """What a hook found; no ValueError, which the parser would take for its own."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _WrongError(f"names {name[:80]!r} twice in one object")
            seen.add(name)
    return found


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise _WrongError(f"has a whole number of {len(digits):,} digits")
    return int(digits)


def _fraction(digits: str) -> float:
    if len(digits) > _DIGITS or not math.isfinite(number := float(digits)):
        raise _WrongError(f"has the number {digits[:20]}, which is none")
    return number


def _constant(word: str) -> float:
    """What JSON has no word for, but Python's writer writes: a configuration may say that a limit is `Infinity`."""
    return float(word)


def _too_deep(document: Any, most: int) -> bool:
    """Whether lists and objects are nested deeper than that; told without recursion."""
    level = [document]
    for _ in range(most + 1):
        level = [item for value in level for item in _items(value)]
        if not level:
            return False
    return True


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        inside = list(cast("dict[str, Any]", value).values())
    elif isinstance(value, list):
        inside = cast("list[Any]", value)
    else:
        return []
    return [item for item in inside if isinstance(item, dict | list)]


def is_whole(value: Any, most: int = 2**63 - 1) -> bool:
    """Tell whether a value of JSON is a whole number from 0 up; `true` is none, though Python takes it for 1.

    Example:
        >>> is_whole(3), is_whole(-1), is_whole(True), is_whole(2**63)
        (True, False, False, False)
    """
    return type(value) is int and 0 <= value <= most
