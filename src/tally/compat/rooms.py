"""Modules that stand for Keras's and TensorFlow's: they answer the names they know, and explain those they don't."""

import difflib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from tally.compat.missing import advice
from tally.core.errors import TallyError, users_line


class UnknownName(TallyError, AttributeError):
    """A script uses a name of Keras or TensorFlow that has no counterpart here."""


class UnknownImport(TallyError, ModuleNotFoundError):
    """A script imports a name of Keras or TensorFlow that has no counterpart here."""


class Room(ModuleType):
    """A module of Keras or TensorFlow as a script sees it.

    Args:
        name: Its dotted name, such as `"keras.layers"`.
        find: Gives what a name stands for, or raises `KeyError`.
        names: Gives all names it knows.
        everywhere: Gives the dotted names of the whole package, for suggestions.
    """

    def __init__(
        self,
        name: str,
        find: Callable[[str], Any],
        names: Callable[[], Iterable[str]],
        everywhere: Callable[[], Iterable[str]],
    ) -> None:
        super().__init__(name, f"What this library answers for {name}.")
        self._find, self._names, self._everywhere = find, names, everywhere

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return dir(self)
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._find(name)
        except KeyError:
            raise self.unknown(UnknownName, name) from None

    def __dir__(self) -> list[str]:
        return sorted(self._names())

    def unknown(self, kind: type[TallyError], name: str) -> TallyError:
        """The error for a name that is not here, at the script's line."""
        full = f"{self.__name__}.{name}"
        line = users_line()
        return kind(
            f"{spoken(full)} has no counterpart in tally.",
            where=f"used at {line}" if line else "",
            do=advice(full)
            or self._nearest(name)
            or f"dir({spoken(self.__name__)}) lists the names there are",
        )

    def _nearest(self, name: str) -> str:
        here = difflib.get_close_matches(name, dir(self), n=1, cutoff=0.75)
        if here:
            return f"did you mean {spoken(f'{self.__name__}.{here[0]}')}?"
        by_last: dict[str, str] = {}
        for path in self._everywhere():
            by_last.setdefault(path.rpartition(".")[2], path)
        near = difflib.get_close_matches(name, list(by_last), n=1, cutoff=0.75)
        return f"the nearest name is {spoken(by_last[near[0]])}" if near else ""


def spoken(path: str) -> str:
    """A dotted name as scripts write it: `tensorflow.math.add` is `tf.math.add`."""
    return "tf" + path.removeprefix("tensorflow") if path.split(".")[0] == "tensorflow" else path
