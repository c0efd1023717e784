"""What is fuzzed: each reader with its files, any file at all, ledgers as JSON, and models in Keras's format."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tally.accounting.ledger import Ledger
from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS
from tally.formats.naming import checked
from tally.formats.tensor import Contents
from tally.readers import files, tree

CORPUS = Path(__file__).parent / "corpus"
DATA = Path(__file__).parent.parent / "formats" / "data"
SHARED = {
    "onnx": ("layers.onnx", "quantised.onnx"),
    "tflite": ("float.tflite", "half.tflite", "int8.tflite"),
    "tensorflow": ("frozen.pb", "sessions.zip", "trained.zip", "exported.zip"),
    "orbax": ("orbax.zip",),
}
"""Files that the tests of the formats have already; a zip is a folder."""
_ENTRIES = {"model-1": "model-1.index", "orbax.zip": "10/default"}


@dataclass(frozen=True, slots=True)
class Seed:
    """A whole file, or a folder.

    Args:
        name: What it is called.
        files: Its files, by their place in the folder.
        entry: The place that is read: a file, or `"."` for the folder.
    """

    name: str
    files: Mapping[str, bytes]
    entry: str


@dataclass(frozen=True, slots=True)
class Target:
    """A reader and what it may do.

    Args:
        name: Its name in the table.
        read: Reads a path, and raises what is wrong with the result as an `AssertionError`.
        refusals: The errors that are answers.
        seeds: What is broken for it.
        engine: Whether it needs JAX, and so has to be given more memory.
    """

    name: str
    read: Callable[[Path], Any]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[Seed, ...]
    engine: bool = False


def seeds_of(kind: str) -> tuple[Seed, ...]:
    """The whole files of one format."""
    own = sorted((CORPUS / kind).iterdir()) if (CORPUS / kind).is_dir() else []
    return tuple(_seed(path) for path in [*own, *(DATA / name for name in SHARED.get(kind, ()))])


def _seed(path: Path) -> Seed:
    if path.is_dir():
        held = {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }
        return Seed(path.name, held, ".")
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        return Seed(path.name, _smaller(held), ".")
    return Seed(path.name, {path.name: path.read_bytes()}, path.name)


def _smaller(held: dict[str, bytes]) -> dict[str, bytes]:
    """Of the steps of a checkpoint the last one: the others only cost time."""
    last = {name: data for name, data in held.items() if name.startswith("10/default/")}
    return {name.removeprefix("10/default/"): data for name, data in last.items()} or held


def targets() -> dict[str, Target]:
    """All targets by name."""
    kinds = {kind: seeds_of(kind) for kind in files.FORMATS.values()}
    every = tuple(seed for seeds in kinds.values() for seed in seeds)
    ledgers = seeds_of("ledger")
    found = [
        *(Target(kind, _reader(kind), (BadFileError,), seeds) for kind, seeds in kinds.items()),
        Target("any file", _read_any, (BadFileError, ValueError), (*every, *ledgers)),
        Target("ledger", _read_ledger, (ValueError,), ledgers),
        Target("load_model", _load_model, _refusals(), _named("keras", ".keras"), engine=True),
        Target("model_from_json", _from_json, _refusals()[1:], seeds_of("config"), engine=True),
        Target("load_weights", _load_weights, _refusals(), _named("keras", ".h5"), engine=True),
    ]
    return {target.name: target for target in found}


def _named(kind: str, ending: str) -> tuple[Seed, ...]:
    return tuple(seed for seed in seeds_of(kind) if seed.name.endswith(ending))


def _reader(kind: str) -> Callable[[Path], Any]:
    """Reads a path as one format, and makes the account of it."""

    def read(path: Path) -> Ledger:
        module = files._module(kind)
        module.matches(path)  # may say anything, but not raise
        contents = module.read(path)
        assert isinstance(contents, Contents), type(contents)
        assert checked(contents.tensors, path) == contents.tensors
        assert all(tensor.stored >= 0 for tensor in contents.tensors)
        return _whole(tree.account(contents, layout=files._layout(kind, contents), name="x"))

    return read


def _read_any(path: Path) -> Ledger:
    try:
        return _whole(files.read(path))
    except ValueError as error:
        if not isinstance(error, BadFileError) and type(error) is not ValueError:
            raise AssertionError(f"{type(error).__name__} instead of a plain ValueError: {error}") from error
        raise


def _whole(ledger: Ledger) -> Ledger:
    """A ledger after it was counted; what it writes must be JSON."""
    assert 0 <= ledger.total <= LIMITS.elements
    json.loads(ledger.to_json())
    return ledger


def _read_ledger(path: Path) -> Ledger:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        text = path.read_bytes().decode("latin-1")
    try:
        ledger = Ledger.from_json(text)
    except ValueError as error:
        if type(error) is not ValueError:
            raise AssertionError(f"{type(error).__name__} instead of a plain ValueError: {error}") from error
        raise
    assert Ledger.from_json(ledger.to_json()) == ledger
    return ledger


def _refusals() -> tuple[type[Exception], ...]:
    from tally.core.errors import TallyError

    return (BadFileError, TallyError)


def _load_model(path: Path) -> Any:
    import tally

    return tally.saving.load_model(path)


def _from_json(path: Path) -> Any:
    import tally

    return tally.models.model_from_json(path.read_bytes())


def _load_weights(path: Path) -> Any:
    import tally

    layers = tally.layers
    convolved = [layers.Conv2D(2, 3, name="conv"), layers.BatchNormalization(name="norm")]
    model = tally.Sequential(
        [tally.Input((4, 4, 1)), *convolved, layers.Flatten(), layers.Dense(3, name="head")]
    )
    named = path.with_name("x.weights.h5")  # by any other name it would be refused unread
    if path != named:
        named.write_bytes(path.read_bytes())
    model.load_weights(named)
    return model
