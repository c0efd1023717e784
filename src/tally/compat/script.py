"""Running a script as Python would, with the imports of Keras and TensorFlow answered."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tally.compat.install import install
from tally.core.errors import ArgumentError, cut_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a script ended.

    Args:
        names: Its globals.
        code: Its exit code, as the shell would see it; 1 after an error.
        error: What stopped it, with the traceback cut to the script's own lines; None if nothing did.
        said: What `sys.exit` was given to say, if anything.
    """

    names: dict[str, Any]
    code: int
    error: BaseException | None = None
    said: str | None = None


def run_script(path: str, arguments: Sequence[str] = ()) -> Ended:
    """Run a script as `__main__`, until it ends or an error stops it.

    Args:
        path: The script.
        arguments: What it finds in `sys.argv` behind its own name.

    Raises:
        ArgumentError: There is no such file.
        KeyboardInterrupt: The user stopped it.
    """
    if not os.path.isfile(path):
        raise ArgumentError(f"There is no script at {path}.", do="check the path, seen from this folder")
    module = ModuleType("__main__")
    module.__file__ = path
    with _as_main(module, path, arguments), install():
        try:
            exec(_compiled(path), vars(module))
        except SystemExit as left:
            code, said = _exit(left.code)
            return Ended(names=vars(module), code=code, said=said)
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except BaseException as error:
            return Ended(names=vars(module), code=1, error=_cut(error))
    return Ended(names=vars(module), code=0)


def _compiled(path: str) -> Any:
    with io.open_code(path) as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def _exit(code: Any) -> tuple[int, str | None]:
    """What `sys.exit` was given: a number is the exit code, anything else is said and means 1."""
    if code is None or isinstance(code, int):
        return int(code or 0), None
    return 1, str(code)


def _cut(error: BaseException) -> BaseException:
    """Cut the traceback, and those of the errors behind it."""
    behind: BaseException | None = error
    while behind is not None:
        cut_trace(behind)
        behind = behind.__cause__ or behind.__context__
    return error


@contextmanager
def _as_main(module: ModuleType, path: str, arguments: Sequence[str]) -> Iterator[None]:
    """Let a module be the program: its name, its arguments, and its folder among those that imports look in."""
    main, arguments_before, folders = sys.modules["__main__"], sys.argv, list(sys.path)
    sys.modules["__main__"] = module
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        sys.argv = arguments_before
        sys.path[:] = folders
