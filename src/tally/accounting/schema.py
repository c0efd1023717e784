"""The ledger as JSON: its published schema, a reader that checks every field against it, and a writer."""

import difflib
import functools
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

Document: TypeAlias = Mapping[str, Any]

_DEEPEST = 40
"""Levels of lists and objects in a document; it has five of its own."""
_LONGEST = 1000
"""Digits in a whole number; Python itself refuses a few thousand."""
_ODD = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""Numbers that JSON has no sign for."""
_NOUNS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@functools.cache
def schema_text(version: int = 1) -> str:
    """Return the published JSON Schema of a ledger, draft 2020-12, as it lies in the package.

    Args:
        version: Which version of the ledger's form.

    Raises:
        ValueError: There is no such version.

    Example:
        >>> json.loads(schema_text())["$id"]
        'urn:tally-nn:ledger:1'
    """
    path = Path(__file__).parent / "schemas" / f"ledger-{version}.json"
    if not path.is_file():
        raise ValueError(f"There is no version {version!r} of the ledger's schema.")
    return path.read_text(encoding="utf-8")


def read_document(text: str, version: int) -> dict[str, Any]:
    """Read a ledger's JSON and check all of it against the schema.

    Args:
        text: The JSON.
        version: The schema version that it must have.

    Raises:
        ValueError: The text is no JSON, has another version, or one of its values is not what the schema says; with
            the place, such as `entries[3].shape[0]`.
    """
    document = _parse(text.removeprefix("\ufeff"))
    _check_version(document, version)
    schema = _schema(version)
    _check(document, schema, schema["$defs"], "", 0)
    return document


def write_document(head: Document, rows: Mapping[str, Sequence[Document]], indent: int | None = None) -> str:
    """Write a ledger's document as JSON, its keys in the order they have.

    Args:
        head: What is said once.
        rows: The lists of owners and entries.
        indent: Spaces for each level; None writes one line.

    Raises:
        ValueError: A value is none that the schema knows, such as a set or an array.
    """
    plain = {
        name: [
            {field: _plain(value, f"{name}[{index}].{field}") for field, value in row.items()}
            for index, row in enumerate(listed)
        ]
        for name, listed in rows.items()
    }
    text = json.dumps({**head, **plain}, indent=indent, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, as in the name of a file that isn't UTF-8, could not be written to one.
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def thaw(value: Any) -> Any:
    """Turn a checked value of JSON into that of a ledger: lists into tuples, the odd numbers into themselves.

    Example:
        >>> thaw([3, [{"float": "-inf"}]])
        (3, (-inf,))
    """
    if isinstance(value, list):
        return tuple(map(thaw, cast("list[Any]", value)))
    return _ODD[value["float"]] if isinstance(value, dict) else value


def closest(word: str, known: list[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest known word, or nothing.

    Example:
        >>> closest("colour", ["color", "size"])
        " Did you mean 'color'?"
    """
    found = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


# -- writing -------------------------------------------------------------------------------------------------------
def _plain(value: Any, place: str) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            items = cast("list[Any]", value)
            return [_plain(item, f"{place}[{index}]") for index, item in enumerate(items)]
        case _:
            raise ValueError(
                f"A ledger can't hold {place}: it is of type {type(value).__name__}, and not a number, a word, or a "
                "tuple of them."
            )


# -- reading -------------------------------------------------------------------------------------------------------
def _parse(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_refuse_constant,
            parse_float=_finite_number,
            parse_int=_short_number,
        )
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise ValueError(
            f"This is no ledger: it is not JSON, {reason} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise ValueError("This is no ledger: its lists and objects are nested too deep.") from None
    except ValueError as error:
        raise ValueError(f"This is no ledger: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key given twice, of which JSON readers drop one or the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {_show(twice)} twice.")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(
        f'{name} is no JSON; it is written as {{"float": "{name.lower().replace("inity", "")}"}}.'
    )


def _finite_number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {_show(digits)} is too large.")
    return number


def _short_number(digits: str) -> int:
    if len(digits) > _LONGEST:
        raise ValueError(f"a number has {len(digits):,} digits, and may have {_LONGEST:,}.")
    return int(digits)


def _check_version(document: Any, version: int) -> None:
    if not isinstance(document, dict):
        raise ValueError(f"A ledger of schema version {version} is an object, but this is {_noun(document)}.")
    known = cast("dict[str, Any]", document)
    kind = known.get("kind", "ledger")
    if kind != "ledger":
        raise ValueError(
            f"A ledger of schema version {version} was expected, but this is of kind {_show(kind)}."
        )
    found = known.get("schema_version")
    if type(found) is int and found > version:
        raise ValueError(
            f"This ledger has schema version {_show(found)}, and this tally reads schema version {version}: read it "
            "with a newer tally."
        )
    if type(found) is not int or found != version:
        told = _show(found) if "schema_version" in known else "none"
        raise ValueError(f"A ledger of schema version {version} was expected, but this has {told}.")


@functools.cache
def _schema(version: int) -> dict[str, Any]:
    return json.loads(schema_text(version))


def _check(value: Any, schema: Document, shared: Document, place: str, depth: int) -> None:
    """Hold a value against the part of JSON Schema that the ledger's uses; raise where it doesn't fit."""
    if "$ref" in schema:
        schema = shared[schema["$ref"].rpartition("/")[2]]
    if depth > _DEEPEST:
        raise _fault(place, "is nested too deep")
    _check_kind(value, schema, place)
    if isinstance(value, dict):
        _check_object(cast("dict[str, Any]", value), schema, shared, place, depth)
    elif isinstance(value, list):
        _check_list(cast("list[Any]", value), schema, shared, place, depth)
    elif "enum" in schema and value not in schema["enum"]:
        known = ", ".join(schema["enum"])
        raise _fault(place, f"is {_show(value)}, which is none of {known}.{closest(value, schema['enum'])}")
    elif "const" in schema and value != schema["const"]:
        raise _fault(place, f"is {_show(value)}, and must be {schema['const']!r}")
    elif type(value) is int and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        least, most = schema.get("minimum"), schema.get("maximum")
        bound = f"at least {least}" if most is None or value < 0 else f"at most {most:,}"
        raise _fault(place, f"is {_show(value)}, and must be {bound}")


def _check_kind(value: Any, schema: Document, place: str) -> None:
    kinds: str | list[str] = schema["type"]
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(_IS[kind](value) for kind in kinds):
        wanted = " or ".join(_NOUNS[kind] for kind in kinds)
        raise _fault(place, f"is {_show(value)}, and must be {wanted}")


def _check_object(value: dict[str, Any], schema: Document, shared: Document, place: str, depth: int) -> None:
    known: dict[str, Any] = schema["properties"]
    for name in value:
        if name not in known:
            raise _fault(place, f"has {_show(name)}, which is unknown.{closest(name, list(known))}")
    for name in schema["required"]:
        if name not in value:
            raise _fault(place, f"has no {name!r}")
    for name, item in value.items():
        _check(item, known[name], shared, f"{place}.{name}".lstrip("."), depth + 1)


def _check_list(value: list[Any], schema: Document, shared: Document, place: str, depth: int) -> None:
    first: list[Document] = schema.get("prefixItems", [])
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if not least <= len(value) <= most:
        wanted = f"must have {least}" if least == most else f"may have {most} at most"
        raise _fault(place, f"has {len(value):,} items, and {wanted}")
    for index, item in enumerate(value):
        form = first[index] if index < len(first) else schema["items"]
        _check(item, form, shared, f"{place}[{index}]", depth + 1)


_IS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _fault(place: str, reason: str) -> ValueError:
    end = "" if reason.endswith(("?", ".")) else "."
    return ValueError(f"This is no ledger: {place or 'the document'} {reason}{end}")


def _noun(value: Any) -> str:
    return next(_NOUNS[kind] for kind, test in _IS.items() if test(value))


def _show(value: Any) -> str:
    """Write a value in a few words, however long it is."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return reprlib.repr(value)
