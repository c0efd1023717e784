"""`.keras` archives and `.weights.h5` files: written whole or not at all, in the form Keras 3 reads and writes."""

import io
import json
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py

from tally.core.errors import SavingError
from tally.core.registry import custom_object_scope, deserialize, serialize_object
from tally.saving.files import read_member, replace_file
from tally.saving.functions import safe_mode as in_safe_mode
from tally.saving.weights import read_weights, write_weights

_KERAS_VERSION = "3.12.0"
"""The version of the file format that is written."""


def save_model(model: Any, filepath: Any, overwrite: bool = True, **_: Any) -> None:
    """Write a model to a `.keras` file: configuration, weights, optimizer.

    Args:
        model: A model.
        filepath: Where; must end in `.keras`.
        overwrite: Whether a file that is there may be replaced. It stays whole until the new one is complete.

    Raises:
        SavingError: The name has another ending, or something in the model has no stored form.
    """
    path = Path(filepath)
    if path.suffix != ".keras":
        raise SavingError(
            f"A model is saved to a name that ends in .keras, not '{path.name}'.",
            do="use model.save('model.keras'), or model.save_weights('model.weights.h5') for the weights alone",
        )
    config = json.dumps(_config(model))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_weights(file, model)
    metadata = {"keras_version": _KERAS_VERSION, "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}
    with replace_file(path, overwrite=overwrite) as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", buffer.getbuffer())


def _config(model: Any) -> dict[str, Any]:
    try:
        return serialize_object(model)
    except SavingError as error:
        error.add_note(f"in the configuration of '{model.name}', made at {model.made_at}")
        raise


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
    path = Path(filepath)
    if not path.is_file():
        raise SavingError(f"There is no file at {path}.")
    if not zipfile.is_zipfile(path):
        raise SavingError(
            f"{path} is no .keras archive.", do="load_weights reads .weights.h5 files into a model"
        )
    with zipfile.ZipFile(path) as archive:
        config = json.loads(read_member(archive, "config.json"))
        if not compile:
            config.pop("compile_config", None)
        with custom_object_scope(custom_objects or {}), in_safe_mode(safe_mode):
            model = deserialize(config)
        weights = io.BytesIO(read_member(archive, "model.weights.h5", limit=None))
    with h5py.File(weights, "r") as file:
        read_weights(file, model)
    return model


def save_weights(model: Any, filepath: Any, overwrite: bool = True) -> None:
    """Write a model's weights to a `.weights.h5` file.

    Raises:
        SavingError: The name has another ending.
    """
    path = Path(filepath)
    if not path.name.endswith(".weights.h5"):
        raise SavingError(f"Weights are saved to a name that ends in .weights.h5, not '{path.name}'.")
    with replace_file(path, overwrite=overwrite) as part, h5py.File(part, "w") as file:
        write_weights(file, model)


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False, **_: Any) -> None:
    """Read weights from a `.weights.h5` or `.keras` file into a model.

    Raises:
        SavingError: They don't fit the model; then nothing is changed.
    """
    path = Path(filepath)
    if not path.is_file():
        raise SavingError(f"There is no file at {path}.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            source: Any = io.BytesIO(read_member(archive, "model.weights.h5", limit=None))
    elif h5py.is_hdf5(path):
        source = path
    else:
        raise SavingError(f"{path} is neither an HDF5 file nor a .keras archive.")
    with h5py.File(source, "r") as file:
        skipped = read_weights(file, model, skip_mismatch=skip_mismatch)
    if skipped:
        warnings.warn("Left as they were: " + "; ".join(skipped), stacklevel=3)
