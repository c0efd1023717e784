"""HDF5: what h5py says of a file, without h5py; and broken files, on which the HDF5 library itself crashes."""

import itertools
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from formats.harm import flips, survives, truncations
from tally.formats import hdf5
from tally.formats.errors import BadFileError
from tally.formats.hdf5 import Stored, Tree, read_tree
from tally.formats.limits import Limits
from tally.formats.tensor import Contents
from tally.formats.window import Window, opened

each_version = pytest.mark.parametrize("version", ["earliest", "v108", "latest"])


def tree_of(path: Path, **options: Any) -> Tree:
    with opened(path) as window:
        return read_tree(window, **options)


def value_of(value: Any) -> Any:
    """An attribute as h5py gives it, as plain data."""
    if isinstance(value, np.ndarray):
        return [item.decode() if isinstance(item, bytes) else item for item in value]
    return value.decode() if isinstance(value, bytes) else value


def assert_same(path: Path) -> None:
    """Every group, array and attribute is that of h5py, and so are the bytes of each array."""
    found, data = tree_of(path), path.read_bytes()
    with h5py.File(path) as file:
        names: list[str] = [""]
        file.visit(names.append)
        arrays = {name for name in names if isinstance(file[name or "/"], h5py.Dataset)}
        assert found.arrays.keys() >= arrays
        assert found.groups.keys() == set(names) - arrays
        for name in names:
            there = file[name or "/"]
            attributes = found.arrays[name].attributes if name in arrays else found.groups[name]
            assert attributes == {key: value_of(there.attrs[key]) for key in there.attrs}
            if name in arrays:
                assert_same_array(found.arrays[name], there, data)


def assert_same_array(found: Stored, there: h5py.Dataset, data: bytes) -> None:
    assert (found.shape, found.dtype) == (there.shape, there.dtype.name)
    if found.start is not None:
        assert data[found.start : found.start + found.nbytes] == there[()].tobytes()
    if not found.filters:
        assert found.stored == there.id.get_storage_size()


def write(path: Path, version: str, **options: Any) -> Path:
    with h5py.File(path, "w", libver=(version, "latest"), **options) as file:
        for kind in ("f2", "f4", "f8", ">f4", ">i2", "i1", "i8", "u1", "u4", "c8", "c16", "?"):
            file.create_dataset(f"types/{kind}", data=np.ones((2, 3), kind))
        file.create_dataset("scalar", data=np.float32(1))
        file.create_dataset("empty", data=np.ones((0, 3), "f4"))
        file.create_dataset("chunks", data=np.ones((100, 10), "f4"), chunks=(10, 5))
        file.attrs.update(
            {"text": "ä" * 500, "bytes": b"abc", "number": 3, "real": 2.5, "list": ["ab", "c", ""]}
        )
        file.attrs["fixed"] = np.array([b"layer", b"x"])
    return path


@each_version
@pytest.mark.parametrize("ordered", [False, True])
def test_types_shapes_places_and_attributes_are_those_of_h5py(
    version: str, ordered: bool, tmp_path: Path
) -> None:
    assert_same(write(tmp_path / "a.h5", version, track_order=ordered))


@each_version
@pytest.mark.parametrize("count", [8, 9, 300])
def test_groups_and_attributes_of_any_number_are_found(version: str, count: int, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver=(version, "latest")) as file:
        for number in range(count):
            file.create_group(f"layers/dense_{number}/vars").create_dataset("0", data=np.ones(number % 5))
        for number in range(count if version == "latest" else 40):
            file["layers"].attrs[f"name{number}"] = "t" * number
    assert_same(tmp_path / "a.h5")


def test_large_attributes_are_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.attrs["dense"] = np.array([b"x" * 50] * 900)
        file.attrs["huge"] = np.array([b"y" * 50] * 3_000)
        file.attrs["loose"] = "z" * 200_000
    assert_same(tmp_path / "a.h5")


def test_a_block_of_the_user_may_stand_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", "earliest", userblock_size=1024)
    assert tree_of(path).arrays["scalar"].shape == ()


@each_version
def test_packed_chunks_are_named_by_their_filters(version: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver=(version, "latest")) as file:
        file.create_dataset(
            "x", data=np.ones((100, 100)), chunks=(100, 100), compression="gzip", shuffle=True
        )
        stored = file["x"].id.get_storage_size()
    tensor = hdf5.read(tmp_path / "a.h5").tensors[0]
    assert (tensor.shape, tensor.stored, tensor.span) == ((100, 100), stored, None)
    assert tensor.notes == ("Stored packed (shuffle, deflate).",)


def test_bytes_that_an_attribute_gives_a_type_are_of_that_type(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros(3, "V2")).attrs["dtype"] = "bfloat16"
        file.create_dataset("y", data=np.zeros(3, "V2")).attrs["dtype"] = "float64"
        file.create_dataset("z", data=["a", "b"])
    found = hdf5.read(tmp_path / "a.h5")
    assert [(t.name, t.dtype) for t in found.tensors] == [("x", "bfloat16")]
    assert found.notes == ("2 of its arrays hold no numbers, such as 'y'.",)


def test_an_array_with_two_names_says_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.ones(3)
        file["b"] = file["a"]
        file["loop"] = file["/"]
        file["soft"] = h5py.SoftLink("/a")
    found = tree_of(tmp_path / "a.h5")
    assert found.arrays["b"].first == "a"
    assert found.notes == ("'loop' is another name of the group ''.", "1 soft link was not followed.")


# -- what is refused -------------------------------------------------------------------------------------------------
def refused(path: Path, why: str, **options: Any) -> None:
    with pytest.raises(BadFileError, match=why):
        tree_of(path, **options)


def test_links_to_other_files_are_refused(tmp_path: Path) -> None:
    """CVE-2026-1669: an external link made the reader open a file of the reader's own machine."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("/etc/passwd", "/")
    refused(tmp_path / "a.h5", "link to another file")


def test_arrays_in_other_files_are_refused(tmp_path: Path) -> None:
    """CVE-2026-1669: external storage made the weights of a model the bytes of any file."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (8,), "u1", external=[("/etc/passwd", 0, 8)])
    refused(tmp_path / "a.h5", "kept in another file")


def test_virtual_arrays_are_refused(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("x", layout)
    refused(tmp_path / "a.h5", "put together from other files")


@each_version
@pytest.mark.parametrize("chunks", [None, (1024,)])
def test_a_shape_bomb_is_refused(version: str, chunks: Any, tmp_path: Path) -> None:
    """CVE-2026-0897: a file of some kilobytes declared 8.88 PiB, which the loader tried to allocate."""
    with h5py.File(tmp_path / "a.h5", "w", libver=(version, "latest")) as file:
        file.create_dataset("x", (2**50,), "f8", chunks=chunks)
    refused(tmp_path / "a.h5", "made to fill the memory")


def test_an_array_that_ends_behind_the_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones(100)
        place = file["x"].id.get_offset()
    data = (tmp_path / "a.h5").read_bytes()
    changed = data.replace(struct.pack("<QQ", place, 800), struct.pack("<QQ", place + 10**6, 800))
    (tmp_path / "a.h5").write_bytes(changed)
    refused(tmp_path / "a.h5", "outside of")
    (tmp_path / "a.h5").write_bytes(
        data.replace(struct.pack("<QQ", place, 800), struct.pack("<QQ", place, 8))
    )
    refused(tmp_path / "a.h5", "claims 800 bytes in a place of 8")


def test_a_file_that_is_cut_off_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", "earliest")
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    refused(path, f"cut off: it should have {len(data):,} bytes")


def test_depth_names_and_count_have_limits(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("/".join("g" * 20))
    refused(tmp_path / "a.h5", "too deep", limits=Limits(depth=10))
    refused(tmp_path / "a.h5", "too deep", limits=Limits(name=20))
    refused(tmp_path / "a.h5", "more than 10 objects", limits=Limits(tensors=5))


def test_blocks_that_lead_in_circles_have_an_end(tmp_path: Path) -> None:
    """Each address of a block is set to that of every other one: trees that hold themselves, headers without end."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("a/b").attrs["name"] = "x"
    data = (tmp_path / "a.h5").read_bytes()
    addresses = sorted({number for (number,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])})
    inside = [number for number in addresses if 0 < number < len(data)]
    places = [at for at in range(0, len(data) - 7, 8) if struct.unpack_from("<Q", data, at)[0] in inside]
    for at, other in itertools.product(places, inside):
        broken = data[:at] + struct.pack("<Q", other) + data[at + 8 :]
        survives(hdf5.read, broken, tmp_path, "b.h5")


def test_time_does_not_depend_on_the_size_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = Window.take

    def counting(window: Window, count: int, what: str = "") -> bytes:
        taken.append(count)
        return take(window, count, what)

    monkeypatch.setattr(Window, "take", counting)
    reads = []
    for size in (10, 1_000_000):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = np.ones(size)
        taken.clear()
        assert hdf5.read(tmp_path / "a.h5").tensors[0].shape == (size,)
        reads.append(sum(taken))
    assert reads[0] == reads[1] < 2_000


@each_version
def test_broken_files_give_one_error(version: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver=(version, "latest")) as file:
        for number in range(9):
            group = file.create_group(f"layers/dense_{number}/vars")
            group.attrs["name"] = "dense"
            group.create_dataset("0", data=np.ones(3), chunks=(2,), compression="gzip")
        file.attrs["names"] = ["a", "bc"]
    data = (tmp_path / "a.h5").read_bytes()
    broken = [*truncations(data, 97), *flips(data, 7, 700)]
    found = [survives(hdf5.read, one, tmp_path, "b.h5") for one in broken]
    assert sum(isinstance(one, BadFileError) for one in found) > 200
    assert any(isinstance(one, Contents) for one in found)
