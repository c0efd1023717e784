"""Files that are broken on purpose, by name, for every reader: one error with file, place and reason, little work."""

import json
import os
import pickle
import re
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest
from tests.formats.messages import field, varint
from tests.fuzz.targets import seeds_of
from tests.hostile.bombs import end, listed, local, overlapping, quoted

from tally.accounting.ledger import Ledger
from tally.formats.errors import BadFileError
from tally.formats.window import Window
from tally.readers import files, read

DEEP = 100_000
MAIN = {
    "huggingface": "model.safetensors",
    "safetensors": "net.safetensors",
    "gguf": "net.gguf",
    "keras": "net.keras",
    "hdf5": "new.h5",
    "pytorch": "net.pt",
    "npz": "net.npz",
    "onnx": "layers.onnx",
    "tflite": "float.tflite",
    "tensorflow": "model-1.index",
    "orbax": "_METADATA",
    "msgpack": "net.msgpack",
}
"""For each reader a good file, or of a folder the one that tells what is in the others."""
Write = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def _imported() -> None:
    for kind in files.FORMATS.values():
        files._module(kind)


def refused(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch, words: str = ".") -> BadFileError:
    """The error that a reader gives, after it took no more bytes, steps and memory than the file explains."""
    steps = [0, 0]
    real = Window.take

    def take(window: Window, count: int, what: str = "the next part") -> bytes:
        found = real(window, count, what)
        steps[0] += 1
        steps[1] += len(found)
        return found

    monkeypatch.setattr(Window, "take", take)
    size = sum(one.stat().st_size for one in (path.parent.rglob("*")) if one.is_file())
    tracemalloc.start()
    with pytest.raises(BadFileError, match=words) as caught:
        files._module(kind).read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert steps[0] <= 10_000 + 2 * size
    assert steps[1] <= 2**20 + 20 * size
    assert peak <= 2**23 + 100 * size
    error = caught.value
    assert error.file.startswith(str(path.parent))
    assert error.reason
    if error.file.isprintable() and error.place.isprintable():
        assert str(error).startswith(f"{error.file}, {error.place}: " if error.place else f"{error.file}: ")
    return error


def good(kind: str, folder: Path) -> tuple[Path, Path]:
    """A good file or folder of a kind, and the file in it that matters."""
    for seed in seeds_of(kind):
        found = [name for name in seed.files if Path(name).name == MAIN[kind]]
        if found:
            for name, data in seed.files.items():
                (folder / "m" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "m" / name).write_bytes(data)
            return folder / "m" / seed.entry, folder / "m" / found[0]
    raise AssertionError(f"no such file for {kind}")


# -- for every reader ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAIN)
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_refused(
    kind: str, keep: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, main = good(kind, tmp_path)
    data = main.read_bytes()
    main.write_bytes(data[: int(keep * len(data))])
    refused(kind, entry, monkeypatch)


@pytest.mark.parametrize("kind", MAIN)
@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_a_file_of_one_byte_again_and_again_is_refused(
    kind: str, byte: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, main = good(kind, tmp_path)
    main.write_bytes(bytes([byte]) * main.stat().st_size)
    refused(kind, entry, monkeypatch)


@pytest.mark.parametrize("kind", MAIN)
def test_a_file_whose_head_is_another_formats_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, main = good(kind, tmp_path)
    data = main.read_bytes()
    main.write_bytes(b"\x89PNG\r\n\x1a\n" + data[8:])
    refused(kind, entry, monkeypatch)


@pytest.mark.parametrize(
    "kind", [kind for kind in MAIN if kind != "orbax"]
)  # has the same names in its store, too
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "broken link", "circle of links"])
def test_what_is_no_file_is_refused_and_not_waited_for(
    kind: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, main = good(kind, tmp_path)
    main.unlink()
    if what == "pipe":
        os.mkfifo(main)
    elif what == "folder":
        main.mkdir()
    else:
        main.symlink_to({"device": "/dev/zero", "broken link": "nowhere", "circle of links": main}[what])
    refused(kind, entry, monkeypatch)


@pytest.mark.parametrize("name", ["\udcff", "x" * 300, "a\nb", "\x1b[2J", "-", "é"])
def test_the_name_of_a_file_does_no_harm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused("gguf", tmp_path / name, monkeypatch)
    assert "\x1b" not in str(error)
    assert "\n" not in str(error).split("\n  do:")[0]


# -- by format -----------------------------------------------------------------------------------------------


def safetensors(header: str | bytes, length: bytes | None = None, size: int = 0) -> Write:
    raw = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else header

    def write(folder: Path) -> Path:
        (folder / "m.safetensors").write_bytes((length or struct.pack("<Q", len(raw))) + raw + bytes(size))
        return folder / "m.safetensors"

    return write


def one(shape: str = "[1]", offsets: str = "[0,1]", name: str = "w") -> str:
    return f'{{"{name}":{{"dtype":"U8","shape":{shape},"data_offsets":{offsets}}}}}'


def raw(name: str, data: bytes) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def gguf(data: bytes, arrays: int = 0, keys: int = 1, order: str = "<") -> Write:
    return raw("m.gguf", b"GGUF" + struct.pack(f"{order}IQQ", 3, arrays, keys) + data + bytes(64))


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def npy(shape: str, kind: str = "'<f4'", size: int = 0) -> bytes:
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(size)


def zipped(name: str, *members: tuple[str, bytes], packed: bool = False) -> Write:
    """A zip by hand, as it may name a member twice."""
    body, directory = b"", b""
    for member, data in members:
        stored = zlib.compress(data, 9)[2:-4] if packed else data
        method, checksum, encoded = 8 * packed, zlib.crc32(data), member.encode()
        directory += listed(encoded, len(stored), method, len(data), checksum, len(body))
        body += local(encoded, stored, method, len(data), checksum)
    return raw(name, body + directory + end(len(members), len(directory), len(body)))


def pickled(data: bytes) -> Write:
    return zipped("m.pt", ("m/data.pkl", data), ("m/version", b"3\n"), ("m/byteorder", b"little"))


def laughs(levels: int) -> bytes:
    """Lists of ten times the list before: 10 ** levels items in all."""
    found = b"\x80\x02]q\x00"
    for level in range(levels):
        found += (
            b"]q" + bytes([level + 1]) + b"(" + b"h" + bytes([level]) + (b"h" + bytes([level])) * 9 + b"e"
        )
    return found + b"."


def keras(config: str | bytes, *more: tuple[str, bytes]) -> Write:
    said = config.encode() if isinstance(config, str) else config
    return zipped(
        "m.keras", ("metadata.json", b"{}"), ("config.json", said), ("model.weights.h5", b""), *more
    )


def hdf5(change: Callable[[h5py.File], Any]) -> Write:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "m.h5", "w") as file:
            change(file)
        return folder / "m.h5"

    return write


def onnx(tensor: bytes) -> Write:
    return raw("m.onnx", field(1, 8) + field(7, field(2, "g") + field(5, tensor)))


def nested_message(numbers: tuple[int, ...], depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        for number in numbers:
            data = field(number, data)
    return data


def folder_of(**files_of: str | bytes) -> Write:
    """A folder; `__` in a name stands for a dot."""

    def write(folder: Path) -> Path:
        (folder / "m").mkdir()
        for name, data in files_of.items():
            path = folder / "m" / name.replace("__", ".")
            path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
        return folder / "m"

    return write


def index(name: str) -> Write:
    said = json.dumps({"metadata": {}, "weight_map": {"w": name}})
    return folder_of(config__json="{}", model__safetensors__index__json=said)


NAMED: dict[str, tuple[str, Write, str]] = {
    # safetensors
    "a length of 2^63": ("safetensors", safetensors("{}", struct.pack("<Q", 2**63)), "header of 9,223"),
    "a length in the other order": (
        "safetensors",
        safetensors(one(), struct.pack(">Q", 50)),
        "claims a header",
    ),
    "a shape below zero": ("safetensors", safetensors(one("[-1]")), "shape"),
    "2^63 elements": ("safetensors", safetensors(one(f"[{2**63}]")), "shape"),
    "a product of 2^64": ("safetensors", safetensors(one("[4294967296,4294967296]", "[0,0]")), "elements"),
    "a shape that is no number": ("safetensors", safetensors(one("[NaN]")), "shape"),
    "a shape that is true": ("safetensors", safetensors(one("[true]"), size=1), "shape"),
    "an offset that is no number": ("safetensors", safetensors(one("[1]", "[0,NaN]")), "lies at"),
    "an offset of a fraction": ("safetensors", safetensors(one("[1]", "[0,1.0]"), size=1), "lies at"),
    "a number of 100,000 digits": ("safetensors", safetensors(one("[" + "9" * DEEP + "]")), "digits"),
    "a hundred dimensions": (
        "safetensors",
        safetensors(one("[" + "1," * 99 + "1]"), size=1),
        "100 dimensions",
    ),
    "a name twice": ("safetensors", safetensors(one()[:-1] + "," + one()[1:], size=1), "twice"),
    "a header nested 100,000 deep": ("safetensors", safetensors('{"a":' * DEEP), "without end"),
    "a header nested 200 deep": ("safetensors", safetensors('{"a":' * 200 + "1" + "}" * 200), "levels deep"),
    "a name that is no UTF-8": ("safetensors", safetensors(b'{"\xff\xfe":{}}'), "UTF-8"),
    "a name without end": ("safetensors", safetensors(one(name="w" * 5_000), size=1), "5,000 characters"),
    "arrays that overlap": (
        "safetensors",
        safetensors(one("[2]", "[0,2]")[:-1] + "," + one("[2]", "[1,3]", "v")[1:], size=3),
        "overlaps",
    ),
    # GGUF
    "2^63 arrays": ("gguf", gguf(b"", arrays=2**63), "."),
    "2^63 keys": ("gguf", gguf(b"", keys=2**63), "."),
    "a file in a mix of orders": ("gguf", gguf(text(b"k"), order=">"), "."),
    "a text of 2^64 bytes": ("gguf", gguf(struct.pack("<Q", 2**64 - 1)), "claims"),
    "a key that is no UTF-8": ("gguf", gguf(text(b"\xff\xfe") + struct.pack("<IB", 7, 1)), "utf-8"),
    "lists of lists 100,000 deep": (
        "gguf",
        gguf(text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * DEEP),
        "nest|deep",
    ),
    "a list of 2^62 texts": ("gguf", gguf(text(b"k") + struct.pack("<IIQ", 9, 8, 2**62)), "."),
    # NumPy
    "a member twice": ("npz", zipped("m.npz", *[("w.npy", npy("(1,)", size=4))] * 2), "twice"),
    "members that overlap": ("npz", raw("m.npz", overlapping(3)), "something else|overlap"),
    "members that quote each other": ("npz", raw("m.npz", quoted(5)), "overlap"),
    "an array of -1": ("npz", raw("m.npy", npy("(-1,)")), "header"),
    "an array of 2^63": ("npz", raw("m.npy", npy(f"({2**63},)")), "shape"),
    "an array of objects": ("npz", raw("m.npy", npy("(1,)", "'|O'")), "running"),
    "a type that is code": ("npz", raw("m.npy", npy("(1,)", "__import__('os')")), "header"),
    "a header that is a program": (
        "npz",
        raw("m.npy", b"\x93NUMPY\x01\0\x10\0" + b"__import__('os')"),
        "header",
    ),
    "an array of NaN": ("npz", raw("m.npy", npy("(nan,)")), "header"),
    # PyTorch
    "a list of a billion of lists": ("pytorch", pickled(laughs(9)), "."),
    "a text of 2^63 letters": ("pytorch", pickled(b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"."), "."),
    "a memo of 2^32 - 1": ("pytorch", pickled(b"\x80\x02]r\xff\xff\xff\xffj\xfe\xff\xff\xff."), "."),
    "a stack that is empty": ("pytorch", pickled(b"\x80\x02R."), "."),
    "a pickle that is no UTF-8": ("pytorch", pickled(b"\x80\x02X\x02\0\0\0\xff\xfe."), "."),
    "a pickle twice": (
        "pytorch",
        zipped("m.pt", ("m/data.pkl", pickle.dumps({}, 2)), ("m/data.pkl", pickle.dumps([], 2))),
        "twice",
    ),
    "a pickle that swells": (
        "pytorch",
        zipped("m.pt", ("m/data.pkl", b"\x80\x02" + b"N" * 30_000_000), packed=True),
        "claims to unpack",
    ),
    # Keras
    "a configuration twice": ("keras", keras("{}", ("config.json", b"{}")), "twice"),
    "a configuration 100,000 deep": ("keras", keras("[" * DEEP), "without end"),
    "a configuration that names a thing twice": ("keras", keras('{"class_name":1,"class_name":2}'), "twice"),
    "a configuration that is no UTF-8": ("keras", keras(b'{"a":"\xff"}'), "UTF-8"),
    "a configuration that swells": (
        "keras",
        zipped("m.keras", ("config.json", b" " * 30_000_000), packed=True),
        "claims to unpack",
    ),
    "a member outside": ("keras", keras("{}", ("../../evil", b"")), "leads out of the folder"),
    "a member at the root": ("keras", keras("{}", ("/etc/evil", b"")), "leads out of the folder"),
    "weights that are none": ("keras", keras('{"class_name":"Sequential","config":{"layers":[]}}'), "."),
    # HDF5
    "an array of petabytes": (
        "hdf5",
        hdf5(lambda file: file.create_dataset("w", (2**40, 2**10), "f4", chunks=(1024, 1))),
        "claims",
    ),
    "an array in another file": (
        "hdf5",
        hdf5(lambda file: file.create_dataset("w", (3,), "f4", external=[("/etc/passwd", 0, 12)])),
        "external|another file",
    ),
    "a link into another file": (
        "hdf5",
        hdf5(lambda file: file.__setitem__("w", h5py.ExternalLink("../other.h5", "/w"))),
        "link|another file",
    ),
    # ONNX
    "a dimension below zero": ("onnx", onnx(field(1, -1) + field(2, 1) + field(8, "w")), "."),
    "2^63 scalars": ("onnx", onnx(field(1, 2**62) + field(1, 4) + field(2, 1) + field(8, "w")), "."),
    "a message of 2^63 bytes": ("onnx", raw("m.onnx", field(1, 8) + varint(58) + varint(2**63)), "."),
    "a number without end": ("onnx", raw("m.onnx", field(1, 8) + b"\x3a" + b"\xff" * 1_000), "."),
    "a name of bytes": (
        "onnx",
        onnx(field(1, 1) + field(2, 1) + field(8, b"\xff\xfe") + field(9, bytes(4))),
        ".",
    ),
    "graphs 2,000 deep": (
        "onnx",
        raw("m.onnx", field(1, 8) + field(7, nested_message((6, 5, 1), 2_000))),
        "deep|nest",
    ),
    # TensorFlow Lite
    "a table outside": ("tflite", raw("m.tflite", struct.pack("<I", 2**31) + b"TFL3" + bytes(64)), "."),
    "a table in itself": (
        "tflite",
        raw("m.tflite", struct.pack("<I", 8) + b"TFL3" + struct.pack("<i", 0) * 16),
        ".",
    ),
    # TensorFlow
    "a graph of 2^63 bytes": ("tensorflow", folder_of(saved_model__pb=b"\x08\x01\x12" + varint(2**63)), "."),
    # Orbax
    "a tree 100,000 deep": ("orbax", folder_of(_METADATA='{"tree_metadata":' + "[" * DEEP), "without end"),
    "a tree that says a thing twice": (
        "orbax",
        folder_of(_METADATA='{"tree_metadata":{},"tree_metadata":{}}'),
        "twice",
    ),
    # msgpack
    "maps 100,000 deep": ("msgpack", raw("m.msgpack", b"\x81\xa1a" * DEEP + b"\xc0"), "nest|deep"),
    "lists of 2^32 - 1": ("msgpack", raw("m.msgpack", b"\x81\xa1a\xdd\xff\xff\xff\xff"), "."),
    "a text of 2^32 - 1": ("msgpack", raw("m.msgpack", b"\x81\xa1a\xdb\xff\xff\xff\xff"), "."),
    "a key twice": ("msgpack", raw("m.msgpack", b"\x82\xa1a\x01\xa1a\x02"), "twice"),
    "a key that is no text": ("msgpack", raw("m.msgpack", b"\x81\xa2\xff\xfe\x01"), "."),
    "an array of -1 scalars": (
        "msgpack",
        raw("m.msgpack", msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb([[-1], "float32", b""]))})),
        ".",
    ),
    "an array of 2^63 scalars": (
        "msgpack",
        raw(
            "m.msgpack", msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb([[2**62, 4], "float32", b""]))})
        ),
        ".",
    ),
    # Hugging Face
    "an index that leads outside": ("huggingface", index("../secret.safetensors"), "outside of its folder"),
    "an index that leads to the root": ("huggingface", index("/etc/passwd"), "outside of its folder"),
    "an index with a zero in a name": ("huggingface", index("a\0b.safetensors"), "outside of its folder"),
    "an index of what isn't there": ("huggingface", index("a.safetensors"), "aren't there"),
    "an index 100,000 deep": (
        "huggingface",
        folder_of(config__json="{}", model__safetensors__index__json="[" * DEEP),
        "without end",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, write, words = NAMED[name]
    refused(kind, write(tmp_path), monkeypatch, words)


HOLLOW: dict[str, tuple[str, Write]] = {
    "lists 100,000 deep": ("pytorch", pickled(b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".")),
    "tuples 100,000 deep": ("pytorch", pickled(b"\x80\x02)" + b"\x85" * DEEP + b".")),
    "a graph in a graph 5,000 deep": (
        "tensorflow",
        folder_of(saved_model__pb=field(1, 1) + field(2, nested_message((2,), 5_000))),
    ),
}
"""What is strange but not wrong, and holds nothing."""


@pytest.mark.parametrize("name", HOLLOW)
def test_depth_without_arrays_in_it_is_only_depth(name: str, tmp_path: Path) -> None:
    kind, write = HOLLOW[name]
    assert files._module(kind).read(write(tmp_path)).tensors == ()


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "model.safetensors"])
def test_weights_behind_a_link_out_of_the_folder_are_not_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safetensors(one(), size=1)(tmp_path)
    folder = folder_of(config__json="{}")(tmp_path)
    (folder / name).symlink_to(tmp_path / "m.safetensors")
    refused("huggingface", folder, monkeypatch, "link")


def test_a_checkpoint_whose_parts_are_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, main = good("orbax", tmp_path)
    shutil.move(main, tmp_path / "elsewhere")
    main.symlink_to(tmp_path / "elsewhere")
    refused("orbax", entry, monkeypatch, "link")


LEDGERS = {
    "deep": "[" * DEEP,
    "twice": '{"schema": 1, "schema": 1}',
    "no object": "[]",
    "a number without end": "9" * DEEP,
    "a shape below zero": '"shape": [-1]',
    "a shape that is no number": '"shape": [NaN]',
    "2^63 scalars": f'"shape": [{2**63}]',
}


@pytest.mark.parametrize("name", LEDGERS)
def test_a_ledger_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    text = LEDGERS[name]
    if text.startswith('"shape"'):
        whole = seeds_of("ledger")[0].files
        (data,) = whole.values()
        text, count = re.subn(r'"shape":\s*\[[\d,\s]+\]', text, data.decode(), count=1)
        assert count == 1
    (tmp_path / "m.json").write_text(text)
    for load in (lambda: Ledger.from_json(text), lambda: read(tmp_path / "m.json")):
        with pytest.raises(ValueError, match=r"\w") as caught:
            load()
        assert type(caught.value) in (ValueError, BadFileError)


def test_members_with_the_bytes_of_arrays_are_never_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "m.npz", w=np.zeros(30_000_000, "int8"))
    with zipfile.ZipFile(tmp_path / "m.npz") as made:
        assert made.getinfo("w.npy").compress_size < 100_000
    np.savez(tmp_path / "small.npz", w=np.zeros(3))
    read(tmp_path / "small.npz")  # so that all is imported
    tracemalloc.start()
    assert read(tmp_path / "m.npz").entries[0].shape == (30_000_000,)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
