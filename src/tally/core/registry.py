"""How objects become plain configuration and come back: recorded arguments, names, and the classes behind names."""

import builtins
import functools
import importlib
import inspect
import re
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import numpy as np

from tally.core.errors import ArgumentError, SavingError, nearest
from tally.core.reading import Reading, need

_published: dict[str, dict[str, Any]] = {}
"""Family ("layers", "initializers", ...) -> public name -> class or function of this library."""
_ROOMS = (
    *("layers", "models", "initializers", "activations", "regularizers", "constraints", "losses", "metrics"),
    "optimizers",
)
"""The rooms that publish names. Those not loaded yet are loaded when a configuration names something unknown."""
_FUNCTIONS = ("activations", "regularizers", "constraints")
_AT_THE_TOP = frozenset(("Initializer", "Layer", "Loss", "Metric", "Optimizer"))
"""Base classes that files name `keras.Layer`, not `keras.layers.Layer`."""
_registered: dict[str, Any] = {}
"""`package>name` -> a user's class or function."""
_custom: ContextVar[Mapping[str, Any] | None] = ContextVar("custom objects", default=None)
_remembered: ContextVar[dict[str, Any] | None] = ContextVar("what was serialized to be copied", default=None)
_deserializers: dict[str, Callable[[dict[str, Any]], Any]] = {}
"""Class names with a form of their own in a file (`__numpy__`, `__lambda__`, ...) -> how to read them."""


@functools.lru_cache(4096)
def snake_case(name: str) -> str:
    """Write a class name as Keras names its layers: `Conv2DTranspose` -> `conv2d_transpose`, `ReLU` -> `re_lu`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", re.sub(r"\W", "", name)).lower()


def _family(cls: Any) -> str | None:
    parts = str(getattr(cls, "__module__", "")).split(".")
    return parts[1] if parts[0] == "tally" and len(parts) > 1 else None


def publish(thing: Any, *names: str, family: str | None = None) -> Any:
    """Make a class or function of this library known under its names in its family."""
    table = _published.setdefault(family or _family(thing) or "", {})
    for name in names or (thing.__name__,):
        table[name] = thing
    return thing


class Configured:
    """Records the arguments of its constructor, so that `get_config` and `from_config` need no code in subclasses."""

    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if _family(cls) and not cls.__name__.startswith("_"):
            publish(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Keep the arguments before the constructor sees them."""
        made = super().__new__(cls)
        object.__setattr__(made, "_arguments", record_arguments(cls, args, kwargs))
        return made

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        return self._serialized_arguments()

    def _serialized_arguments(self) -> dict[str, Any]:
        """A user's class may take a function as it is, so only this library's own classes get names of functions."""
        by_name = _family(type(self)) is not None
        return {name: serialize(value, by_name=by_name) for name, value in self._arguments.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make an instance from what `get_config` gave; options of other versions that are unset are passed over."""
        known = known_arguments(cls)
        wanted = {k: v for k, v in config.items() if known is None or k in known or v is not None}
        return cls(**{name: deserialize(value) for name, value in wanted.items()})


@functools.cache
def _signature(cls: type) -> inspect.Signature:
    return inspect.signature(cls.__init__)


class _Parameters(NamedTuple):
    """A constructor's parameters, read once for all calls: binding by `inspect` takes ten times as long.

    Args:
        positions: Names of those that may be given by position.
        defaults: Name -> default of each; `inspect.Parameter.empty` where there is none.
        takes_more: Whether any further positions are taken.
        takes_any: Whether any further names are taken.
    """

    positions: tuple[str, ...]
    defaults: dict[str, Any]
    takes_more: bool
    takes_any: bool


@functools.cache
def _parameters(cls: type) -> _Parameters:
    parameters = list(_signature(cls).parameters.values())[1:]
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return _Parameters(
        positions=tuple(p.name for p in named if p.kind is not p.KEYWORD_ONLY),
        defaults={p.name: p.default for p in named},
        takes_more=any(p.kind is p.VAR_POSITIONAL for p in parameters),
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def accepted_arguments(cls: type) -> set[str] | None:
    """Names the constructor takes; None when it takes any keyword."""
    parameters = _signature(cls).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters} - {"self"}


@functools.cache
def known_arguments(cls: type) -> frozenset[str] | None:
    """Names that the constructor, or those it passes keywords on to, declare; None when anything may be taken."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return frozenset(names) or None


def record_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Bind a constructor call to names, defaults included; an ill-formed one fails in `__init__`, not here."""
    parameters = _parameters(cls)
    given = dict(zip(parameters.positions, args, strict=False))
    too_many = len(args) > len(parameters.positions) and not parameters.takes_more
    if too_many or given.keys() & kwargs.keys():
        return {}
    given.update(kwargs)
    recorded = {name: given.pop(name, default) for name, default in parameters.defaults.items()}
    lacks_one = any(value is inspect.Parameter.empty for value in recorded.values())
    return {} if lacks_one or (given and not parameters.takes_any) else {**recorded, **given}


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[Any], Any]:
    """Decorate a class or function so that files can name it.

    Args:
        package: A word that keeps your names apart from others'.
        name: The name in the file; the object's own by default.

    Example:
        >>> @tally.saving.register_keras_serializable("my_project")
        ... class Scale(tally.Layer): ...
    """

    def register(thing: Any) -> Any:
        key = f"{package}>{name or thing.__name__}"
        _registered[key] = thing
        thing._registered_name = key
        return thing

    return register


def get_registered_object(name: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The class or function registered, or in scope, under a name; None when unknown."""
    for table in (custom_objects or {}, _custom.get() or {}, _registered):
        if name in table:
            return table[name]
    return None


def get_registered_name(obj: Any) -> str:
    """The name a class or function is stored under."""
    own = vars(obj) if hasattr(obj, "__dict__") else {}
    return own.get("_registered_name", obj.__name__)


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any]) -> Iterator[None]:
    """Let names in configurations mean these classes and functions while the block runs."""
    token = _custom.set({**(_custom.get() or {}), **custom_objects})
    try:
        yield
    finally:
        _custom.reset(token)


def resolve(family: str, identifier: Any, *, none: Any = None) -> Any:
    """Turn a name, a config, a class, an object or a function into what a family uses.

    Args:
        family: `initializers`, `activations`, `regularizers`, `constraints`, `losses`, `metrics`, `optimizers`
            or `layers`.
        identifier: A string such as `"relu"`, a `{"class_name", "config"}` dict, a class, or the thing itself.
        none: What None stands for.

    Raises:
        ArgumentError: The name is unknown; the message suggests the closest one.
    """
    if identifier is None:
        return none
    if isinstance(identifier, dict):
        if "class_name" not in identifier:
            raise ArgumentError(
                f"A dict that describes one of tally.{family} has a class_name; this one has none."
            )
        if "config" not in identifier:
            raise ArgumentError(
                f"A dict that describes one of tally.{family} has a config; this one has none.",
                do="add an empty one, which stands for no arguments",
            )
        return deserialize({**identifier, "module": identifier.get("module") or f"keras.{family}"})
    if inspect.isclass(identifier):
        return identifier()
    if not isinstance(identifier, str):
        if family in _FUNCTIONS and not callable(identifier):
            raise ArgumentError(
                f"{identifier!r} is no {family.removesuffix('s')}.", do="pass a name, a function or None"
            )
        return identifier
    if family not in _published:
        importlib.import_module(f"tally.{family}")
    found = get_registered_object(identifier) or _published.get(family, {}).get(identifier)
    if found is None:
        by_snake = {snake_case(name): thing for name, thing in _published.get(family, {}).items()}
        found = by_snake.get(identifier.lower())
    if found is None:
        known = sorted({snake_case(name) for name in _published.get(family, {})})
        raise ArgumentError(
            f"'{identifier}' is not a known name in tally.{family}.{nearest(identifier, known)}",
            do=f"use one of {', '.join(known)}, or pass the object itself",
        )
    return found() if inspect.isclass(found) else found


def serialize(value: Any, *, by_name: bool = True) -> Any:
    """Turn any argument of a layer into values that JSON can hold, in the form Keras writes.

    Args:
        value: An argument.
        by_name: Whether a function of this library becomes its mere name, as arguments such as `activation` take it.

    Raises:
        SavingError: The value has no such form.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, set, frozenset)):
        return [serialize(item, by_name=by_name) for item in value]
    if isinstance(value, tuple):
        return tuple(serialize(item, by_name=by_name) for item in value)
    if isinstance(value, dict):
        return {name: serialize(item, by_name=by_name) for name, item in value.items()}
    if isinstance(value, (np.generic,)):
        return value.item()
    if isinstance(value, np.dtype) or (inspect.isclass(value) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(value, (np.ndarray, jax.Array)):
        return {
            "class_name": "__numpy__",
            "config": {"value": np.asarray(value).tolist(), "dtype": str(value.dtype)},
        }
    if isinstance(value, bytes):
        return {"class_name": "__bytes__", "config": {"value": value.decode("latin-1")}}
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, slice):
        return {
            "class_name": "__slice__",
            "config": {"start": value.start, "stop": value.stop, "step": value.step},
        }
    if inspect.isfunction(value) or inspect.isbuiltin(value) or inspect.isclass(value):
        return _serialize_function(value, by_name)
    if hasattr(value, "get_config"):
        return serialize_object(value)
    raise SavingError(
        f"A {type(value).__name__} can't be written into a configuration.",
        do="give its class a get_config method, or override the layer's get_config and from_config",
    )


def _keras_module(cls: type) -> str:
    if cls.__name__ in _AT_THE_TOP:
        return "keras"
    return getattr(cls, "keras_module", None) or f"keras.{_family(cls)}"


@contextmanager
def remembering() -> Iterator[None]:
    """Let what is serialized in the block be deserialized there, too, without registration."""
    remembered: dict[str, Any] = {}
    token = _remembered.set(remembered)
    scope = _custom.set(ChainMap(remembered, dict(_custom.get() or {})))
    try:
        yield
    finally:
        _custom.reset(scope)
        _remembered.reset(token)


def _remember(thing: Any, remembered: dict[str, Any]) -> str:
    key = f"{thing.__name__}#{id(thing)}"
    remembered[key] = thing
    return key


def serialize_object(thing: Any) -> dict[str, Any]:
    """The `{module, class_name, config, registered_name}` form of an object with `get_config`."""
    cls = type(thing)
    ours = _family(cls) is not None
    remembered = _remembered.get()
    if remembered is not None and not ours:
        return {"module": None, "class_name": _remember(cls, remembered), "config": thing.get_config()}
    config = {
        "module": _keras_module(cls) if ours else None,
        "class_name": cls.__name__,
        "config": thing.get_config(),
        "registered_name": None
        if ours and not vars(cls).get("_registered_name")
        else get_registered_name(cls),
    }
    build_config = getattr(thing, "get_build_config", lambda: None)()
    if build_config:
        config["build_config"] = build_config
    compile_config = getattr(thing, "get_compile_config", lambda: None)()
    if compile_config:
        config["compile_config"] = compile_config
    return config


def _serialize_function(function: Any, by_name: bool) -> Any:
    """A function of this library is its name; another's is a reference that only custom objects can resolve."""
    family = _family(function)
    if family and function in _published.get(family, {}).values():
        name = function.__name__
        reference = {
            "class_name": "function",
            "config": name,
            "module": "builtins",
            "registered_name": "function",
        }
        return name if by_name else reference
    remembered = _remembered.get()
    if remembered is not None:
        key = _remember(function, remembered)
        return {"class_name": "function", "config": key, "module": None, "registered_name": key}
    if getattr(function, "__name__", "") == "<lambda>":
        return _serializers["lambda"](function)
    return {
        "class_name": "function",
        "config": function.__name__,
        "module": function.__module__ if not family else "builtins",
        "registered_name": get_registered_name(function),
    }


_serializers: dict[str, Callable[[Any], Any]] = {}


def define_form(
    name: str, *, write: Callable[[Any], Any] | None = None, read: Callable[[dict], Any] | None = None
) -> None:
    """Teach configurations a form of their own, for instance lambdas: how it is written, how it is read."""
    if write is not None:
        _serializers[name] = write
    if read is not None:
        _deserializers[name] = read


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Undo `serialize`.

    Args:
        config: What `serialize` gave, or a file's JSON; anything that is no serialized object stays as it is.
        custom_objects: Names -> classes or functions that are not this library's.

    Raises:
        SavingError: The configuration names a class or function that is neither this library's nor registered, or
            describes nothing that can be made. The message says where in the configuration; what a class of the
            user's raised is its cause.
    """
    if not isinstance(config, (dict, list, tuple)):
        return config
    with custom_object_scope(custom_objects) if custom_objects else nullcontext(), Reading(config):
        if isinstance(config, list):
            return [deserialize(item) for item in config]
        if isinstance(config, tuple):
            return tuple(deserialize(item) for item in config)
        if "class_name" not in config or "config" not in config:
            return {name: deserialize(item) for name, item in config.items()}
        return _make(config)


def _make(config: dict[str, Any]) -> Any:
    """The object or function that is described."""
    name, inner = need(config, "class_name", str), config["config"]
    module, registered = config.get("module"), config.get("registered_name")
    if module is not None:
        need(config, "module", str)
    if name in _deserializers:
        return _deserializers[name](config)
    if name == "function":
        return find(module, need(config, "config", str), registered)
    thing = find(module, name, registered)
    if not inspect.isclass(thing):
        return thing
    if _family(thing) is not None:
        need(config, "config", dict)
    made: Any = thing.from_config(inner)  # pyright: ignore[reportAttributeAccessIssue]
    for kind in ("build", "compile"):
        given, take = config.get(f"{kind}_config"), getattr(made, f"{kind}_from_config", None)
        if given and take is not None:
            with Reading(given):
                take(need(config, f"{kind}_config", dict))
    return made


def find(module: str | None, name: str, registered: Any = None) -> Any:
    """The class or function a configuration names. Only what this library publishes or the user registered is found.

    Raises:
        SavingError: There is none of that name. No module is ever imported because a file says so.
    """
    candidates = [registered, name] if isinstance(registered, str) else [name]
    for candidate in candidates:
        found = get_registered_object(candidate)
        if found is not None:
            return found
    family = (module or "").removeprefix("keras.").removeprefix("tally.").removeprefix("src.").split(".")[0]
    if module is None or module.split(".")[0] in ("keras", "tally", "builtins"):
        for attempt in range(2):
            for table in (_published.get(family, {}), *_published.values()):
                if name in table:
                    return table[name]
            if attempt == 0:
                _load_rooms()
    if module is not None and _is_of_python(module, name):
        raise SavingError(
            f"The configuration names '{name[:200]}' from {module[:200]}, which is not known here: "
            "it is Python's own, and no model needs it.",
            do="don't trust this file",
        )
    known = [key for table in _published.values() for key in table] + list(_registered)
    raise SavingError(
        f"The configuration names '{name[:200]}'{f' from {module[:200]}' if module else ''}, which is not known here."
        f"{nearest(name[:200], known)}",
        do=f"pass custom_objects={{'{name[:200]}': ...}}, "
        "or decorate it with @tally.saving.register_keras_serializable()",
    )


def _is_of_python(module: str, name: str) -> bool:
    """Whether it is of Python's library; for Keras `builtins` is also where functions of one's own are."""
    first = module.split(".")[0]
    return hasattr(builtins, name) if first == "builtins" else first in sys.stdlib_module_names


def _load_rooms() -> None:
    for room in _ROOMS:
        importlib.import_module(f"tally.{room}")


def _read_array(form: dict[str, Any]) -> np.ndarray:
    """An array as a file describes it, of numbers or texts; no number or text is larger than it is written."""
    config = need(form, "config", dict)
    name = need(config, "dtype", str)
    value = need(config, "value", list, int, float, str)
    dtype = np.dtype(name)
    is_number = dtype.kind in "biufc" or dtype.isbuiltin == 2  # those that JAX adds, such as bfloat16
    if not is_number and dtype.kind not in "US":
        raise SavingError(
            f"A configuration has an array of the type {name[:80]}, which is no type of a number."
        )
    letters = [len(text) for text in _texts(value)]
    if not is_number and dtype.itemsize * max(len(letters), 1) > 2**20 + 200 * sum(letters):
        raise SavingError(
            f"A configuration has {len(letters):,} texts of the type {name[:80]}: more than they fill."
        )
    return np.array(value, dtype=dtype)


def _texts(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, list):
            yield from _texts(item)
        elif isinstance(item, str):
            yield item


def _read_bytes(form: dict[str, Any]) -> bytes:
    return need(need(form, "config", dict), "value", str).encode("latin-1")


def _read_slice(form: dict[str, Any]) -> slice:
    config = need(form, "config", dict)
    return slice(*(need(config, name, int, type(None)) for name in ("start", "stop", "step")))


define_form("__numpy__", read=_read_array)
define_form("__tensor__", read=_read_array)
define_form("__bytes__", read=_read_bytes)
define_form("__slice__", read=_read_slice)
define_form("__ellipsis__", read=lambda _: ...)


def get_custom_objects() -> dict[str, Any]:
    """The table of registered classes and functions; what you add is known from then on."""
    return _registered
