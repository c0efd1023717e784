"""What kind of file it is, told by its first bytes, and the account of what it holds."""

import functools
import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from tally.accounting.ledger import Ledger
from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.mistaken import ENOUGH, mistaken
from tally.formats.tensor import Contents
from tally.formats.window import opened
from tally.readers.kept import kept_account
from tally.readers.tree import account

FORMATS: dict[str, str] = {
    "a Hugging Face folder": "huggingface",
    "safetensors": "safetensors",
    "GGUF": "gguf",
    "Keras": "keras",
    "HDF5": "hdf5",
    "PyTorch": "pytorch",
    "NumPy": "npz",
    "ONNX": "onnx",
    "TensorFlow Lite": "tflite",
    "TensorFlow": "tensorflow",
    "Orbax": "orbax",
    "Flax msgpack": "msgpack",
}
"""Each kind of file and the module of `tally.formats` that reads it; those that are told surely come first."""

LAYOUTS: dict[str, str] = {
    "gguf": "torch",
    "pytorch": "torch",
    "onnx": "torch",
    "keras": "keras",
    "hdf5": "keras",
    "tensorflow": "keras",
    "msgpack": "keras",
    "tflite": "mlx",
}
"""In which order the axes of a kernel lie; where the format doesn't say, the names of the arrays do."""


def read(source: str | os.PathLike[str], *, limits: Limits = LIMITS) -> Ledger:
    """Read the account of a model from its file or folder, without its data; or one that was written as JSON.

    Args:
        source: The path of a file or a folder.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or of no kind that is known.
        ValueError: It is a ledger as JSON, and broken.

    Example:
        >>> import pathlib, tempfile
        >>> header = b'{"head.weight": {"dtype": "F16", "shape": [5, 10], "data_offsets": [0, 100]}}'
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "tiny.safetensors"
        >>> _ = path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))
        >>> ledger = read(path)
        >>> ledger.name, ledger.total, ledger.entries[0].axes
        ('tiny', 50, ('units', 'features'))
    """
    path = Path(source)
    if path.suffix == ".json" and path.is_file() and _is_none_of_ours(path):
        return Ledger.from_json(_text(path, limits))
    kind = _kind(path)
    kept, contents = kept_account(_module(kind).read(path, limits))
    return kept or account(contents, layout=_layout(kind, contents), name=_name(path))


def _text(path: Path, limits: Limits) -> str:
    with opened(path) as window:
        if window.size > limits.header:
            raise window.bad(f"has {window.size:,} bytes, more than {limits.header:,}")
        return window.text(window.size, "the ledger")


def _is_none_of_ours(path: Path) -> bool:
    """Whether a file of JSON is neither an index nor a configuration, and so a ledger or nothing."""
    return not any(_module(kind).matches(path) for kind in _known())


def contents_of(source: str | os.PathLike[str], *, limits: Limits = LIMITS) -> Contents:
    """Read what a file or folder holds, as the file itself names it; see `read`."""
    path = Path(source)
    return _module(_kind(path)).read(path, limits)


def is_model_file(source: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a file or folder of a kind that is known."""
    path = Path(source)
    return is_there(path) and any(_module(kind).matches(path) for kind in _known())


def is_there(source: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a file or a folder, or what the files of one TensorFlow checkpoint begin with.

    Example:
        >>> is_there("no/such/file")
        False
    """
    path = Path(source)
    return path.exists() or os.path.isfile(f"{path}.index")


def _kind(path: Path) -> str:
    if not is_there(path):
        raise BadFileError(path, "isn't there", do="check the path, seen from this folder")
    for kind in _known():
        if _module(kind).matches(path):
            return kind
    other = _mistaken(path) if path.is_file() else None
    if other is not None:
        raise BadFileError(path, other[0], do=other[1])
    names = ", ".join(name for name, kind in FORMATS.items() if kind in _known())
    what = "folder" if path.is_dir() else "file"
    raise BadFileError(path, f"is a {what} of no kind that is known", do=f"give one of {names}")


def _mistaken(path: Path) -> tuple[str, str] | None:
    with opened(path) as window:
        return mistaken(window.take(min(ENOUGH, window.left)))


@functools.cache
def _known() -> tuple[str, ...]:
    """The kinds whose module is there."""
    return tuple(kind for kind in FORMATS.values() if importlib.util.find_spec(f"tally.formats.{kind}"))


@functools.cache
def _module(kind: str) -> Any:
    module: ModuleType = importlib.import_module(f"tally.formats.{kind}")
    return module


def _layout(kind: str, contents: Contents) -> str:
    """What the format says of the order of axes, or the file itself: MLX writes safetensors, too."""
    if contents.metadata.get("format") == "mlx":
        return "mlx"
    return LAYOUTS.get(kind, "")


def _name(path: Path) -> str:
    """The file's name without what says its kind; the folder's, where the file's is the same for every model."""
    full = path.resolve()
    name = full.name
    for ending in (".index.json", ".safetensors", ".weights.h5", ".weights.json"):
        name = name.removesuffix(ending)
    name = name if name != full.name or not full.is_file() else full.stem
    return full.parent.name or name if name in _GENERIC and not full.is_dir() else name


_GENERIC = ("model", "pytorch_model", "diffusion_pytorch_model", "flax_model", "adapter_model", "saved_model")
