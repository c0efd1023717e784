"""`.keras` archives and `.weights.h5` files: written whole or not at all, in the form Keras 3 reads and writes."""

import io
import json
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tally.core.errors import SavingError
from tally.core.registry import custom_object_scope, deserialize, serialize_object
from tally.saving.files import MAX_TEXT, extract_folder, read_member, replace_file
from tally.saving.functions import safe_mode as in_safe_mode
from tally.saving.weights import places, read_weights, write_weights

_KERAS_VERSION = "3.12.0"
"""The version of the file format that is written."""
_WEIGHTS = "model.weights.h5"
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError),
    *(UnicodeDecodeError, json.JSONDecodeError),
)
"""What the readers of archives, HDF5 and JSON raise for a file that was cut off or overwritten."""


def save_model(model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None) -> None:
    """Write a model to a `.keras` file: configuration, weights, optimizer.

    Args:
        model: A model.
        filepath: Where; must end in `.keras`.
        overwrite: Whether a file that is there may be replaced. It stays whole until the new one is complete.
        zipped: Accepted for Keras's sake; a model is always one file.

    Raises:
        SavingError: The name has another ending, or something in the model has no stored form.
    """
    import h5py  # here, because most programs neither save nor load

    path = Path(filepath)
    if path.suffix != ".keras" or zipped is False:
        raise SavingError(
            f"A model is saved to one file whose name ends in .keras, not to '{path.name}'.",
            do="use model.save('model.keras'), or model.save_weights('model.weights.h5') for the weights alone",
        )
    if not model.built:
        warnings.warn(
            f"'{model.name}' is saved without weights: it has not seen an input shape yet.", stacklevel=3
        )
    config = json.dumps(_config(model))
    metadata = {"keras_version": _KERAS_VERSION, "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_weights(file, model)
    with replace_file(path, overwrite=overwrite) as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("config.json", config)
        archive.writestr(_WEIGHTS, buffer.getbuffer())
        _write_assets(archive, model)


def _config(model: Any) -> dict[str, Any]:
    try:
        return serialize_object(model)
    except SavingError as error:
        error.add_note(f"in the configuration of '{model.name}', made at {model.made_at}")
        raise


def _write_assets(archive: zipfile.ZipFile, model: Any) -> None:
    """Store the files, such as vocabularies, of layers that have a `save_assets` method."""
    for place, thing in places(model):
        if hasattr(thing, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                thing.save_assets(folder)
                for file in sorted(Path(folder).rglob("*")):
                    if file.is_file():
                        name = "/".join(filter(None, ("assets", place, file.relative_to(folder).as_posix())))
                        archive.write(file, name)


def load_model(
    filepath: Any, custom_objects: Any = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """Read a model from a `.keras` file that this library or Keras 3 wrote.

    Args:
        filepath: The file.
        custom_objects: Names -> your own classes and functions.
        compile: Whether to compile it as it was, optimizer state included.
        safe_mode: Whether to refuse lambdas, which are code in the file.

    Raises:
        SavingError: The file is damaged, unsafe, or names something unknown.
    """
    path = _existing(filepath)
    if not zipfile.is_zipfile(path):
        raise SavingError(
            f"{path} is no .keras archive.", do="load_weights reads .weights.h5 files into a model"
        )
    with _unharmed(path), zipfile.ZipFile(path) as archive:
        config = json.loads(read_member(archive, "config.json", limit=MAX_TEXT))
        weights = io.BytesIO(read_member(archive, _WEIGHTS))
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise SavingError(f"config.json in {path} doesn't describe a model.")
    if not compile:
        config.pop("compile_config", None)
    with custom_object_scope(custom_objects or {}), in_safe_mode(safe_mode):
        model = deserialize(config)
    _read_into(model, weights, path)
    _read_assets(model, path)
    return model


def _read_into(model: Any, weights: Any, path: Path, *, skip_mismatch: bool = False) -> list[str]:
    import h5py

    with _unharmed(path), h5py.File(weights, "r") as file:
        return read_weights(file, model, source=path, skip_mismatch=skip_mismatch)


def _read_assets(model: Any, path: Path) -> None:
    with _unharmed(path), zipfile.ZipFile(path) as archive:
        for place, thing in places(model):
            if hasattr(thing, "load_assets"):
                with tempfile.TemporaryDirectory() as folder:
                    extract_folder(archive, "/".join(filter(None, ("assets", place))), Path(folder))
                    thing.load_assets(folder)


def _existing(filepath: Any) -> Path:
    path = Path(filepath)
    if not path.is_file():
        raise SavingError(f"There is no file at {path}.")
    return path


@contextmanager
def _unharmed(path: Path) -> Iterator[None]:
    """Say in one kind of error that a file is cut off or overwritten, however its reader noticed."""
    try:
        yield
    except _DAMAGES as error:
        raise SavingError(f"{path} is damaged: {error}", do="copy or download it again") from error


def save_weights(model: Any, filepath: Any, overwrite: bool = True) -> None:
    """Write a model's weights to a `.weights.h5` file.

    Raises:
        SavingError: The name has another ending.
    """
    import h5py

    path = Path(filepath)
    if not path.name.endswith(".weights.h5"):
        raise SavingError(f"Weights are saved to a name that ends in .weights.h5, not '{path.name}'.")
    with replace_file(path, overwrite=overwrite) as part, h5py.File(part, "w") as file:
        write_weights(file, model)


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False) -> None:
    """Read weights from a `.weights.h5` or `.keras` file into a model.

    Args:
        model: A built model.
        filepath: The file.
        skip_mismatch: Leave layers that don't fit as they are, with a warning, instead of refusing.

    Raises:
        SavingError: They don't fit the model; then nothing is changed.
    """
    import h5py

    path = _existing(filepath)
    if zipfile.is_zipfile(path):
        with _unharmed(path), zipfile.ZipFile(path) as archive:
            source: Any = io.BytesIO(read_member(archive, _WEIGHTS))
    elif h5py.is_hdf5(path):
        source = path
    else:
        raise SavingError(f"{path} is neither an HDF5 file nor a .keras archive.")
    skipped = _read_into(model, source, path, skip_mismatch=skip_mismatch)
    if skipped:
        warnings.warn("Left as they were: " + "; ".join(skipped), stacklevel=3)
