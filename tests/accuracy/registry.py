"""What the cases of the accuracy table share: how one is entered, and what is expected of `diagnose` for it."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
MARK = "# <- here"

Kind = Literal["mistake", "note", "correct"]
Build = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model, and what `diagnose` must find in it.

    Args:
        name: Family and function, such as `"tracking/naive_linear"`.
        kind: A planted mistake, a model with something to note, or a correct model.
        build: Makes the model; returns it, or it with a batch `(model, x)` or `(model, x, y)`.
        codes: Expected codes; one of them is enough, and the case counts for the first. Empty for a correct model.
        also: Further codes that may come out, because they follow from the same mistake.
        layers: Paths of which one must be named; None where any will do.
        file: The file that the case stands in.
        lines: Lines of which one must be named, those that end in `# <- here`; empty where any will do.
        by: Whether `diagnose` is given the model, or the function that builds it.
        counted: Numbers that can be trained in the model as it is, with its mistake; None where that says nothing.
    """

    name: str
    kind: Kind
    build: Build
    codes: tuple[str, ...] = ()
    also: frozenset[str] = frozenset()
    layers: tuple[str, ...] | None = None
    file: str = ""
    lines: frozenset[int] = frozenset()
    by: Literal["model", "function"] = "model"
    counted: int | None = None

    @property
    def code(self) -> str:
        """The code it counts for."""
        return self.codes[0] if self.codes else "correct"


CASES: dict[str, Case] = {}


def mistake(
    *codes: str,
    layer: str | tuple[str, ...] | None = None,
    also: tuple[str, ...] = (),
    by: Literal["model", "function"] = "model",
    counted: int | None = None,
    source: tuple[Any, ...] = (),
) -> Callable[[Build], Build]:
    """Enter a planted mistake.

    Args:
        *codes: What must be found; where two codes are equally right, either.
        layer: Path of the layer to name (one of them, where several would be right); None where any will do.
        also: Codes that may come out beside it.
        by: `"function"` where `diagnose` is to be given the function: the building itself fails or leaves no trace.
        counted: Numbers that can be trained in the model with its mistake.
        source: Further functions, classes, and names of the module to read `# <- here` from.
    """
    return _enter("mistake", codes=codes, layer=layer, also=also, by=by, counted=counted, source=source)


def note(
    *codes: str,
    layer: str | tuple[str, ...] | None = None,
    also: tuple[str, ...] = (),
) -> Callable[[Build], Build]:
    """Enter a correct model about which something is worth noting."""
    return _enter("note", codes=codes, layer=layer, also=also)


def correct(build: Build | None = None, *, by: Literal["model", "function"] = "model") -> Any:
    """Enter a correct model; used bare, or with `by="function"` to give `diagnose` the function."""
    enter = _enter("correct", by=by)
    return enter if build is None else enter(build)


def enter_correct(name: str, build: Build) -> None:
    """Enter a correct model that was not written out but made from a table."""
    CASES[name] = Case(name=name, kind="correct", build=build, file=_file(build))


def _enter(
    kind: Kind,
    *,
    codes: tuple[str, ...] = (),
    layer: str | tuple[str, ...] | None = None,
    also: tuple[str, ...] = (),
    by: Literal["model", "function"] = "model",
    counted: int | None = None,
    source: tuple[Any, ...] = (),
) -> Callable[[Build], Build]:
    def enter(build: Build) -> Build:
        family = build.__module__.rpartition(".")[2].removeprefix(f"{kind}s_").removeprefix(f"{kind}_")
        name = f"{family}/{build.__name__}"
        if name in CASES:
            raise ValueError(f"There are two cases '{name}'.")
        CASES[name] = Case(
            name=name,
            kind=kind,
            build=build,
            codes=codes,
            also=frozenset(also),
            layers=(layer,) if isinstance(layer, str) else layer,
            file=_file(build),
            lines=frozenset(line for thing in (build, *source) for line in marked_lines(thing, build)),
            by=by,
            counted=counted,
        )
        return build

    return enter


def marked_lines(thing: Any, build: Build) -> list[int]:
    """Numbers of the lines that carry the mark in a function, in a class, or after a name of the module of `build`."""
    if isinstance(thing, str):
        text = Path(build.__code__.co_filename).read_text()
        lines, first = [line if line.startswith(f"{thing} = ") else "" for line in text.splitlines()], 1
    else:
        lines, first = inspect.getsourcelines(thing)
    return [first + i for i, line in enumerate(lines) if line.rstrip().endswith(MARK)]


def _file(build: Any) -> str:
    return Path(build.__code__.co_filename).name


def load() -> dict[str, Case]:
    """All cases, by name, from the modules `mistakes_*`, `notes*` and `correct_*` beside this file."""
    for path in sorted(HERE.glob("*.py")):
        if path.stem.startswith(("mistakes_", "notes", "correct_")):
            importlib.import_module(f"{__package__}.{path.stem}")
    return CASES
