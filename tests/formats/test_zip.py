"""Zip files: what two readers could understand in two ways is refused, and nothing is unpacked past its limits."""

import io
import os
import struct
import zipfile
from pathlib import Path

import pytest

from formats.harm import flips, truncations
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.window import Window
from tally.formats.zip import Archive, directory


def window(data: bytes) -> Window:
    return Window(io.BytesIO(data), "x.zip", 0, len(data))


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


def refused(data: bytes, why: str, **options) -> None:
    with pytest.raises(BadFileError, match=why):
        directory(window(data), **options)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_those_that_python_reads(method: int) -> None:
    members = {"a.txt": b"hello" * 100, "b/c.bin": os.urandom(70_000), "empty": b"", "ä.txt": b"x"}
    found = directory(window(archive(members, method)))
    assert found.names == tuple(members)
    assert {name: found.read(name) for name in found.names} == members
    assert found.beginning("a.txt", 7) == b"hellohe"


def test_a_stored_member_is_a_window_on_the_file() -> None:
    data = archive({"first": b"123", "second": b"45678"})
    part = directory(window(data)).window("second")
    assert data[part.start : part.end] == b"45678"


def test_a_packed_member_has_no_window() -> None:
    found = directory(window(archive({"a": b"0" * 100}, zipfile.ZIP_DEFLATED)))
    with pytest.raises(BadFileError, match="packed"):
        found.window("a")


def test_a_zip_with_long_numbers_is_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made, made.open("big", "w", force_zip64=True) as member:
        member.write(b"12345")
    assert directory(window(file.getvalue())).read("big") == b"12345"
    longer = with_long_end(archive({"a": b"1"}))
    assert directory(window(longer)).read("a") == b"1"


def with_long_end(data: bytes) -> bytes:
    """The same zip with the record that has 64 bits for each number, and none in the short one."""
    end = data.rfind(b"PK\x05\x06")
    count, size, at = struct.unpack("<HLL", data[end + 10 : end + 20])
    long = b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, count, count, size, at)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, end, 1)
    short = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:end] + long + locator + short


def test_two_members_of_one_name_are_refused() -> None:
    data = archive({"a.txt": b"1", "b.txt": b"2"})
    refused(data.replace(b"b.txt", b"a.txt"), "names 'a.txt' twice")


def test_a_member_that_is_another_in_front_of_its_bytes_is_refused() -> None:
    data = archive({"safe": b"1"})
    refused(data.replace(b"safe", b"evil", 1), "something else than the directory says")


def test_members_that_overlap_are_refused() -> None:
    data = bytearray(archive({"a": b"1" * 50, "b": b"2" * 50}))
    first, second = data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02")
    inner = archive({"b": b"2"})[: 30 + 1 + 1]  # a whole member of its own inside the bytes of the first
    data[40 : 40 + len(inner)] = inner
    data[second + 16 : second + 28] = archive({"b": b"2"})[14:26]  # its checksum and sizes
    data[second + 42 : second + 46] = struct.pack("<L", 40)
    assert first < second
    refused(bytes(data), "overlap")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "C:/x", "a\\b"])
def test_names_that_lead_out_of_a_folder_are_refused(name: str) -> None:
    data = archive({"x" * len(name): b"1"}).replace(b"x" * len(name), name.encode())
    refused(data, "leads out")
    assert directory(window(data), labels=True).names == (name,)


@pytest.mark.parametrize(("mode", "what"), [(0o120777, "link"), (0o020666, "device"), (0o010644, "device")])
def test_links_and_devices_are_refused(mode: int, what: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        info = zipfile.ZipInfo("a")
        info.create_system, info.external_attr = 3, mode << 16
        made.writestr(info, b"/etc/passwd")
    refused(file.getvalue(), what)


def test_encrypted_members_are_refused() -> None:
    data = bytearray(archive({"a": b"1"}))
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    refused(bytes(data), "encrypted")


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    data = bytearray(archive({"a": bytes(2**21)}, zipfile.ZIP_DEFLATED))
    at = data.find(b"PK\x01\x02")
    data[at + 24 : at + 28] = data[22:26] = struct.pack("<L", 2**32 - 2)
    refused(bytes(data), "unpack from")


def test_a_member_that_unpacks_to_more_than_it_says_is_stopped() -> None:
    data = bytearray(archive({"a": bytes(2**20)}, zipfile.ZIP_DEFLATED))
    at = data.find(b"PK\x01\x02")
    data[at + 24 : at + 28] = data[22:26] = struct.pack("<L", 1_000)
    with pytest.raises(BadFileError, match="more than 1,000 bytes"):
        directory(window(bytes(data))).read("a")


def test_a_member_larger_than_the_limit_is_not_read() -> None:
    found = directory(window(archive({"a": bytes(100)})), Limits(header=99))
    with pytest.raises(BadFileError, match="more than 99"):
        found.read("a")


def test_bytes_before_or_behind_a_zip_are_refused() -> None:
    data = archive({"a": b"1"})
    refused(b"GIF89a" + data, "directory")
    refused(data + b"!", "end of the directory")


def test_a_changed_byte_is_found_by_the_checksum() -> None:
    data = archive({"a": b"hello"}).replace(b"hello", b"hallo")
    with pytest.raises(BadFileError, match="checksum"):
        directory(window(data)).read("a")


def test_one_of_several_parts_is_refused() -> None:
    data = bytearray(archive({"a": b"1"}))
    data[-18:-16] = b"\1\0"
    refused(bytes(data), "several parts")


def read_all(data: bytes) -> Archive:
    found = directory(window(data))
    for name in found.names:
        found.read(name)
    return found


def test_broken_zips_give_one_error() -> None:
    whole = with_long_end(archive({"a.txt": b"hello" * 9, "b": bytes(60)}, zipfile.ZIP_DEFLATED))
    broken = [*truncations(whole), *flips(whole, 1, 1_500)]
    outcomes = []
    for data in broken:
        try:
            outcomes.append(len(read_all(data).names))
        except BadFileError as error:
            outcomes.append(bool(error.reason))
    assert outcomes.count(True) > 500
