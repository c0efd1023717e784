"""Errors that say what happened, where in the user's file, and what to do; and how the user's line is found."""

import functools
import os
import sys
import sysconfig
from types import FrameType, TracebackType

_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_INSTALLED = tuple({sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "purelib", "platlib")})
_NOT_USERS = (_LIBRARY, *_INSTALLED, "<frozen", "<string>")
_STARTERS = set[str]()


class TallyError(Exception):
    """What every error of this library shares: a message in three parts.

    Args:
        what: One sentence: what happened and in which layer.
        where: The places involved, for instance `made at train.py:12; called with float32[32,28,28,5]`.
        do: What to write or change instead.
        code: The code of the finding that it is, such as `"T603"`.
    """

    def __init__(self, what: str, *, where: str = "", do: str = "", code: str | None = None) -> None:
        self.what, self.where, self.do, self.code = what, where, do, code
        lines = [what, where and f"  where: {where}", do and f"  do: {do}"]
        super().__init__("\n".join(line for line in lines if line))


class ShapeError(TallyError, ValueError):
    """A tensor's shape is not one the layer or the operation can take."""


class ArgumentError(TallyError, ValueError):
    """An argument's value is not one of those that are understood."""


class UnbuiltError(TallyError, ValueError):
    """Something was asked that can only be answered once the layer has seen an input shape."""


class DataError(TallyError, ValueError):
    """The data handed to `fit`, `evaluate` or `predict` don't fit together or don't fit the model."""


class NonFiniteError(TallyError, ArithmeticError):
    """A loss or a weight became NaN or infinite."""


class SavingError(TallyError, ValueError):
    """Something can't be written to, or read from, a file, or a configuration describes nothing that can be made."""

    place: str = ""
    """Where in a configuration: `config.layers[3].config.units`."""


def is_users(filename: str) -> bool:
    """Whether a source file is the user's own, and not this library's or an installed package's."""
    return not filename.startswith(_NOT_USERS) and filename not in _STARTERS


def leave_out(filename: str) -> None:
    """Take a source file for none of the user's own from now on: the script that a command was started by.

    Args:
        filename: As the interpreter knows it; it may lie in any folder, so only its caller can say that it is one.
    """
    _STARTERS.add(filename)


def users_line() -> str | None:
    """`file.py:12` of the nearest calling frame that is the user's own code; None when there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def place(filename: str, line: int) -> str:
    """A source position as people write it: the path relative to where the program runs, and the line."""
    return f"{_shown(filename, os.getcwd())}:{line}"


@functools.lru_cache(4096)
def _shown(filename: str, folder: str) -> str:
    """A file as seen from a folder; asked for every layer and weight, and each time of the same few files."""
    try:
        relative = os.path.relpath(filename, folder)
    except ValueError:  # another drive on Windows
        return filename
    return filename if relative.startswith("..") else relative


def raised_at(error: BaseException) -> str | None:
    """The deepest line of the user's own code that an error passed through."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            found = place(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def cut_trace(error: BaseException) -> BaseException:
    """Leave only the user's frames in an error's traceback, unless `TALLY_FULL_TRACE` is set."""
    if os.environ.get("TALLY_FULL_TRACE"):
        return error
    frames: list[TracebackType] = []
    trace = error.__traceback__
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            frames.append(trace)
        trace = trace.tb_next
    kept = None
    for trace in reversed(frames):
        kept = TracebackType(kept, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
    notes = getattr(error, "__notes__", None)
    if notes:  # JAX's own note on the frames it left out says nothing that helps here
        notes[:] = [note for note in notes if "JAX_TRACEBACK_FILTERING" not in note]
    return error.with_traceback(kept)


def nearest(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """` Did you mean 'x'?` for the closest known word, or nothing."""
    import difflib

    matches = difflib.get_close_matches(str(word), known, n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""
