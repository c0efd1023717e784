"""`.keras` archives and `.weights.h5` files: written whole or not at all, in the form Keras 3 reads and writes."""

import io
import json
import re
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tally.core.errors import SavingError
from tally.core.reading import Reading
from tally.core.registry import custom_object_scope, serialize_object
from tally.saving.files import MAX_TEXT, extract_folder, made_model, read_member, replace_file, written_hdf5
from tally.saving.functions import safe_mode as in_safe_mode
from tally.saving.weights import places, read_weights, write_weights

if TYPE_CHECKING:
    from tally.saving.matching import Renaming
    from tally.saving.outcome import Report

_KERAS_VERSION = "3.12.0"
"""The version of the file format that is written."""
_WEIGHTS = "model.weights.h5"
_RUN = "tally/run.bin"
"""Where the `fit` stood in which the file was written; Keras passes over it."""
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError),
    *(UnicodeDecodeError, json.JSONDecodeError),
)
"""What the readers of archives, HDF5 and JSON raise for a file that was cut off or overwritten."""


def save_model(model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None) -> None:
    """Write a model to a `.keras` file, or to one of the older `.h5` form: configuration, weights, optimizer.

    Args:
        model: A model.
        filepath: Where; must end in `.keras`, or in `.h5` or `.hdf5`.
        overwrite: Whether a file that is there may be replaced. It stays whole until the new one is complete.
        zipped: Accepted for Keras's sake; a model is always one file.

    Raises:
        SavingError: The name has another ending, or something in the model has no stored form.
    """
    import h5py  # here, because most programs neither save nor load

    path = Path(filepath)
    if path.suffix in (".h5", ".hdf5") and not path.name.endswith(".weights.h5") and zipped is not False:
        from tally.saving.legacy import save_legacy

        save_legacy(model, path, overwrite=overwrite)
        return
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
        _write_run(archive, model)


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


def _write_run(archive: zipfile.ZipFile, model: Any) -> None:
    """Store where the `fit` stands that the model is saved in, so that another can go on to the same bits."""
    run = getattr(getattr(model, "_trainer", None), "run", None)
    stands = None if run is None else run.dump(callbacks=False)
    if stands is not None:
        archive.writestr(_RUN, stands, compress_type=zipfile.ZIP_DEFLATED)


def _read_run(model: Any, archive: zipfile.ZipFile, path: Path) -> None:
    trainer = getattr(model, "_trainer", None)
    if trainer is not None and trainer.compiled and _RUN in archive.namelist():
        trainer.left_off = read_member(archive, _RUN, limit=MAX_TEXT), path


def load_model(
    filepath: Any, custom_objects: Any = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """Read a model from a `.keras` file that this library or Keras 3 wrote, or an older `.h5` file.

    Args:
        filepath: The file.
        custom_objects: Names -> your own classes and functions.
        compile: Whether to compile it as it was, optimizer state included.
        safe_mode: Whether to refuse lambdas, which are code in the file. Only `False` allows them.

    Raises:
        SavingError: The file is damaged, unsafe, names something unknown, or its configuration describes nothing
            that can be made; then `place` says where in it.
    """
    from tally.formats import hdf5
    from tally.formats.json_text import parse_json
    from tally.saving.legacy import load_legacy
    from tally.saving.opening import check_archive, telling_damage

    path = _existing(filepath)
    if path.name.endswith("weights.json"):
        raise SavingError(f"{path} lists weights, but no model.", do="load_weights reads them into a model")
    if hdf5.matches(path):
        with custom_object_scope(custom_objects or {}), in_safe_mode(safe_mode), _unharmed(path):
            return load_legacy(path, compile=compile)
    if not zipfile.is_zipfile(path):
        _tell_cut_off(path)
        raise SavingError(
            f"{path} is no .keras archive.", do="load_weights reads .weights.h5 files into a model"
        )
    check_archive(path)
    with _unharmed(path), zipfile.ZipFile(path) as archive:
        text = read_member(archive, "config.json", limit=MAX_TEXT)
        weights = io.BytesIO(read_member(archive, _WEIGHTS))
    with telling_damage():
        config = parse_json(text, path, "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise SavingError(f"config.json in {path} doesn't describe a model.")
    if not compile:
        config.pop("compile_config", None)
    with custom_object_scope(custom_objects or {}), in_safe_mode(safe_mode), Reading(config, path):
        model = made_model(config)
    _read_into(model, weights, path)
    _read_assets(model, path)
    return model


def _read_into(
    model: Any,
    weights: Any,
    path: Path,
    *,
    skip_mismatch: bool = False,
    by_name: bool = False,
    name_map: "Renaming" = None,
) -> "Report":
    from tally.saving.legacy import is_legacy, read_legacy
    from tally.saving.opening import opened_hdf5

    with _unharmed(path), opened_hdf5(weights, path) as (file, tree):
        if is_legacy(tree):
            return read_legacy(
                *(file, tree, model, path), by_name=by_name, skip_mismatch=skip_mismatch, name_map=name_map
            )
        _refuse_names(path, by_name)
        return read_weights(file, model, source=path, skip_mismatch=skip_mismatch, name_map=name_map)


def _refuse_names(path: Path, by_name: bool) -> None:
    if by_name:
        raise SavingError(
            f"{path} finds its layers by their place, so by_name=True says nothing to it.",
            do="leave by_name out, or pass skip_mismatch=True",
        )


def _read_assets(model: Any, path: Path) -> None:
    with _unharmed(path), zipfile.ZipFile(path) as archive:
        _read_run(model, archive, path)
        for place, thing in places(model):
            if hasattr(thing, "load_assets"):
                with tempfile.TemporaryDirectory() as folder:
                    extract_folder(archive, "/".join(filter(None, ("assets", place))), Path(folder))
                    thing.load_assets(folder)


def _tell_cut_off(path: Path) -> None:
    """Say what is wrong with an archive that isn't whole.

    Raises:
        DamagedFileError: It is none, or the rest of one.
    """
    from tally.formats import keras
    from tally.saving.opening import telling_damage

    with path.open("rb") as file:
        is_archive = path.suffix == ".keras" or file.read(4) == b"PK\x03\x04"
    if is_archive:
        with telling_damage():
            keras.read(path)


def _existing(filepath: Any) -> Path:
    path = Path(filepath)
    if re.match(r"\w{2,}:/", str(filepath)):
        raise SavingError(
            f"{filepath} is an address, and files are read from this machine alone.",
            do="download it first, with tally.utils.get_file, and pass the path of the file",
        )
    if path.is_dir():
        raise SavingError(
            f"{path} is a folder, and a model is read from one file.",
            do="save it in Keras to a name that ends in .keras, without zipped=False",
        )
    if not path.is_file():
        raise SavingError(f"There is no file at {path}.")
    return path


@contextmanager
def _unharmed(path: Path) -> Iterator[None]:
    """Say in one kind of error that a file is cut off or overwritten, however its reader noticed."""
    from tally.saving.opening import telling_damage

    try:
        with telling_damage():
            yield
    except _DAMAGES as error:
        raise SavingError(f"{path} is damaged: {error}", do="copy or download it again") from error


def save_weights(model: Any, filepath: Any, overwrite: bool = True, **options: Any) -> None:
    """Write a model's weights to a `.weights.h5` or `.safetensors` file, or to several.

    Args:
        model: A model.
        filepath: Where; its ending says the form.
        overwrite: Whether a file that is there may be replaced. It stays whole until the new one is complete.
        **options: For safetensors `max_shard_size`, such as `"5GB"`, and `include_optimizer`; what Keras reads
            always has the optimizer's state. For `.weights.json`, which names several files, `max_shard_size`.

    Raises:
        SavingError: The name has another ending.
    """
    path = Path(filepath)
    if path.name.endswith((".safetensors", ".safetensors.index.json")):
        from tally.saving.safetensors import save_safetensors

        save_safetensors(model, path, overwrite=overwrite, **options)
        return
    if path.name.endswith(".weights.json"):
        from tally.saving.keras_shards import save_sharded

        save_sharded(model, path, overwrite=overwrite, **options)
        return
    if not path.name.endswith(".weights.h5"):
        raise SavingError(
            f"Weights are saved to a name that ends in .weights.h5, not '{path.name}'.",
            do="end it so, or in .safetensors",
        )
    if options:
        raise SavingError(
            f"A .weights.h5 file has no {' or '.join(options)}.",
            do="save to a .safetensors file, or, in several files, to a name that ends in .weights.json",
        )
    with replace_file(path, overwrite=overwrite) as part, written_hdf5(part) as file:
        write_weights(file, model)


def load_weights(
    model: Any,
    filepath: Any,
    skip_mismatch: bool = False,
    *,
    by_name: bool = False,
    name_map: "Renaming" = None,
) -> "Report":
    """Read weights from a file, or from a model made elsewhere, into a model.

    Args:
        model: A built model.
        filepath: A `.weights.h5`, `.weights.json` or `.keras` file; a `.safetensors` file, a folder of the Hugging Face
            Hub, a PyTorch file; or a PyTorch module, a state dict, a Keras model.
        skip_mismatch: Leave what doesn't fit as it is, with a warning, instead of refusing.
        by_name: For an older `.h5` file: find layers by their names and leave out those that only one side has.
        name_map: Names in the source -> paths in the model, for weights whose names don't tell where they belong; None
            leaves what has a name out.

    Returns:
        What went where, what was done to it, and what was left out; it prints as tables.

    Raises:
        SavingError: They don't fit the model; then nothing is changed.
        BadFileError: The file is broken.
    """
    from tally.formats import hdf5  # here, because most programs need none of the formats
    from tally.saving.foreign import is_foreign, load_foreign
    from tally.saving.matching import tell
    from tally.saving.opening import check_archive, telling_damage

    if is_foreign(filepath):
        with telling_damage():
            return tell(
                load_foreign(model, filepath, skip_mismatch=skip_mismatch, name_map=name_map), level=3
            )
    path = _existing(filepath)
    if path.name.endswith("weights.json"):
        from tally.saving.keras_shards import load_sharded

        _refuse_names(path, by_name)
        with _unharmed(path):
            return tell(load_sharded(model, path, skip_mismatch=skip_mismatch, name_map=name_map), level=3)
    if zipfile.is_zipfile(path):
        check_archive(path)
        with _unharmed(path), zipfile.ZipFile(path) as archive:
            source: Any = io.BytesIO(read_member(archive, _WEIGHTS))
    elif hdf5.matches(path):
        source = path
    else:
        _tell_cut_off(path)
        raise SavingError(f"{path} is neither an HDF5 file nor a .keras archive.")
    options = {"skip_mismatch": skip_mismatch, "by_name": by_name, "name_map": name_map}
    return tell(_read_into(model, source, path, **options), level=3)
