"""Answering the imports of `keras` and `tensorflow` in the user's own files, and undoing it.

Not a finder in `sys.meta_path`: what a finder loads stays in `sys.modules`, where every library that asks whether
TensorFlow is there would find half of one. Here nothing enters `sys.modules`; only the user's files are answered.
"""

import builtins
import importlib
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib import util
from typing import Any

from tally.core.errors import is_users


def install() -> "Installed":
    """Let `import keras` and `import tensorflow` in the user's files mean this library, until removed.

    Works for the whole process, as a call or as a `with` block. Installed packages are not affected: they import what
    is really there. Installing twice is harmless; the last removal counts.

    Example:
        >>> with tally.compat.install():
        ...     from tensorflow import keras
        ...     model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(5)])
        >>> model.count_params()
        55
    """
    return Installed()


class Installed:
    """What `install` gives back: leaves the imports as they were when its block ends, or by `remove`."""

    _depth = 0
    _undo: ExitStack | None = None

    def __init__(self) -> None:
        self._removed = False
        if Installed._depth == 0:
            Installed._undo = _install()
        Installed._depth += 1

    def remove(self) -> None:
        """Give the real packages their names back."""
        if self._removed:
            return
        self._removed = True
        Installed._depth -= 1
        if Installed._depth == 0 and Installed._undo is not None:
            Installed._undo.close()
            Installed._undo = None

    def __enter__(self) -> "Installed":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _install() -> ExitStack:
    from tally.compat.tensors import tensor_methods

    undo = ExitStack()
    undo.enter_context(tensor_methods())
    for owner, name, replace in (
        (builtins, "__import__", _importing),
        (importlib, "import_module", _importing_by_name),
    ):
        original = getattr(owner, name)
        setattr(owner, name, replace(original))
        undo.callback(setattr, owner, name, original)
    return undo


def _keras() -> Any:
    from tally.compat.keras import keras

    return keras()


def _tensorflow() -> Any:
    from tally.compat.tensorflow import tensorflow

    return tensorflow()


_ROOTS: dict[str, Callable[[], Any]] = {"keras": cache(_keras), "tensorflow": cache(_tensorflow)}


def _importing(original: Callable[..., Any]) -> Callable[..., Any]:
    """What the `import` statement calls."""

    def import_(
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        root = name.partition(".")[0]
        if level or root not in _ROOTS or not is_users(sys._getframe(1).f_code.co_filename):
            return original(name, globals, locals, fromlist, level)
        module = _resolve(name)
        for word in fromlist or ():
            if word != "*":
                _part(module, word)
        return module if fromlist else _ROOTS[root]()

    return import_


def _importing_by_name(original: Callable[..., Any]) -> Callable[..., Any]:
    """What `importlib.import_module` is meanwhile."""

    def import_module(name: str, package: str | None = None) -> Any:
        full = util.resolve_name(name, package) if name.startswith(".") else name
        if full.partition(".")[0] in _ROOTS and is_users(sys._getframe(1).f_code.co_filename):
            return _resolve(full)
        return original(name, package)

    return import_module


def _resolve(name: str) -> Any:
    """The module of a dotted name."""
    from tally.compat.rooms import Room, UnknownImport

    root, *words = name.split(".")
    module = _ROOTS[root]()
    for word in words:
        found = _part(module, word)
        if not isinstance(found, Room):
            raise module.unknown(UnknownImport, word)
        module = found
    return module


def _part(module: Any, name: str) -> Any:
    from tally.compat.rooms import UnknownImport, UnknownName

    try:
        return getattr(module, name)
    except UnknownName:
        raise module.unknown(UnknownImport, name) from None
