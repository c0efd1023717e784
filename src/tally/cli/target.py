"""What a command is about: a file, or a model or layer that a module or a script makes."""

import importlib
import importlib.util
import inspect
import sys
from contextlib import redirect_stdout
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from tally.accounting.ledger import Ledger
from tally.core.errors import ArgumentError, nearest
from tally.readers import UnreadableError, is_live_model, is_model_file, is_there, read_object
from tally.readers import read as read_account

FORMS = "a file or folder that holds a model, a ledger as .json, module:name, or script.py:name"


def read(target: str) -> Ledger:
    """The ledger of what a target names; see `load`."""
    thing = load(target, account=True)
    if isinstance(thing, Ledger):
        return thing
    from tally.models.ledger import account

    return account(thing)


def load(target: str, *, account: bool = False) -> Any:
    """The model, layer or ledger that a target names.

    What a script prints while it runs goes to standard error, so that the command's own output can be piped.

    Args:
        target: A `.keras` file, a ledger as `.json`, or a file or folder of which `tally.readers` reads the account;
            or `module:name` or `script.py:name` of a model or a layer of any library, a tree of arrays, a ledger, or a
            function without arguments that returns one.
        account: Whether the account is enough. That of a `.keras` file is then read without making the model.

    Raises:
        ArgumentError: The target has another form, or names something else.
        BadFileError: The file is broken, or of no kind that is known.
    """
    with redirect_stdout(sys.stderr):
        return _load_file(target, account) if _is_file(target) else _load_name(target)


def _is_file(target: str) -> bool:
    path = Path(target)
    if path.is_dir():  # a package, unless it holds the weights of a model
        return is_model_file(path) or not (path / "__init__.py").is_file()
    return target.endswith((".keras", ".json")) or (is_there(path) and not target.endswith(".py"))


def _load_file(target: str, account: bool) -> Any:
    if is_there(target) and (account or not target.endswith(".keras")):
        return read_account(target)  # without waiting for JAX
    from tally.models.verbs.subject import opened

    return opened(target)


def _load_name(target: str) -> Any:
    source, _, name = target.rpartition(":")
    if not source:
        source, name = target, ""
    module = _run_script(Path(source)) if source.endswith(".py") else _import(source)
    if not name:
        raise ArgumentError(
            f"'{target}' does not say which model.",
            do=f"write {target}:name{_listing(module)}",
        )
    try:
        thing = reduce(getattr, name.split("."), module)
    except AttributeError:
        raise ArgumentError(
            f"{source} has no '{name}'.{nearest(name, _candidates(module))}",
            do=f"name a model{_listing(module)}",
        ) from None
    if callable(thing) and not _has_account(thing):
        thing = _made(thing, target)
    if not _has_account(thing):
        raise ArgumentError(
            f"'{target}' has no parameters to account for: it is of type {type(thing).__name__}.",
            do="name a model, a layer, or a function without arguments that returns one",
        )
    return _account_of(thing)


def _account_of(thing: Any) -> Any:
    """A model of this library as it is, and of any other library its account."""
    if _is_ours(thing):
        return thing
    try:
        return read_object(thing)
    except UnreadableError as error:
        raise ArgumentError(error.text, do=error.do) from None


def _made(function: Any, target: str) -> Any:
    """What a function makes; one that needs arguments is told apart from one that fails inside."""
    try:
        signature = inspect.signature(function)
        signature.bind()
    except ValueError:  # something built in, which doesn't tell what it takes
        return function()
    except TypeError:
        name = target.rpartition(":")[2]
        raise ArgumentError(
            f"'{target}' needs arguments: {name}{signature}.",
            do=f"name a function without any, such as def make(): return {name}(...)",
        ) from None
    return function()


def _run_script(path: Path) -> ModuleType:
    """Run a script as a module of its own; its neighbours can be imported, and `__main__` blocks don't run."""
    if not path.is_file():
        raise ArgumentError(f"There is no script at {path}.", do="check the path, seen from this folder")
    # A name of its own, so that a script called random.py does not stand in for another module of that name.
    spec = importlib.util.spec_from_file_location("__tally_script__", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module


def _import(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, but something that it imports is not
        raise ArgumentError(f"There is no file and no module '{name}'.", do=f"give {FORMS}") from None


def _has_account(thing: Any) -> bool:
    return _is_ours(thing) or (not isinstance(thing, type | ModuleType) and is_live_model(thing))


def _is_ours(thing: Any) -> bool:
    from tally.core.layer import Layer

    return isinstance(thing, Layer | Ledger)


def _candidates(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if name[:2] != "__" and _has_account(value)]


def _listing(module: ModuleType) -> str:
    found = _candidates(module)
    return f"; there is {', '.join(found)}" if found else ""
