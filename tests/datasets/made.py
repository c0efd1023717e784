"""Files in the form the data sets were published in, small, and written with what wrote them: pickles of Python 2."""

import io
import pickle
import struct
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

_NAMES = {"_reconstruct": "numpy.core.multiarray", "ndarray": "numpy", "dtype": "numpy"}


class _Python2(pickle._Pickler):
    """Writes what Python 2 wrote: texts and bytes are one kind, and NumPy's names are those of that time."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_text(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin-1")
        head = b"U" + struct.pack("B", len(data)) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
        self.write(head + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_text

    def save_global(self, obj: Any, name: str | None = None) -> None:
        name = name or obj.__name__
        self.write(f"c{_NAMES.get(name, obj.__module__)}\n{name}\n".encode())
        self.memoize(obj)

    dispatch[type] = save_global


def python2(value: Any) -> bytes:
    """A pickle as Python 2 writes it, with protocol 2."""
    stream = io.BytesIO()
    _Python2(stream, 2).dump(value)
    return stream.getvalue()


def objects(lists: list[Any]) -> np.ndarray:
    """An array of objects."""
    found = np.empty(len(lists), object)
    for place, one in enumerate(lists):
        found[place] = one
    return found


def npy(array: np.ndarray, pickled: bytes | None = None) -> bytes:
    """An array in NumPy's form; of objects, with a pickle of Python 2."""
    stream = io.BytesIO()
    if not array.dtype.hasobject:
        np.save(stream, array)
        return stream.getvalue()
    header = {"descr": "|O", "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + (python2(array) if pickled is None else pickled)


def npz(path: Path, **arrays: np.ndarray | bytes) -> Path:
    """A zip of arrays; bytes are written as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", array if isinstance(array, bytes) else npy(array))
    return path


def publish(monkeypatch: Any, module: Any, file: Path, name: str = "_FILE") -> None:
    """Let a data set be a file of this machine."""
    monkeypatch.setenv("TALLY_HOME", str(file.parent / "home"))
    pin = sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(module, name, replace(getattr(module, name), address=file.as_uri(), pin=pin))


class Evil:
    """What runs a command as soon as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.mark}",)
