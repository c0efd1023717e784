"""Archives that `get_file` unpacks: whole or not at all, and nothing of those that reach, link or swell."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.bombs import overlapping, quoted

from tally.core.errors import DataError
from tally.downloads import archives, get_file
from tally.downloads.archives import unpack
from tally.formats.errors import BadFileError

CONTENT = b"a,b\n1,2\n"
LIMIT = 10**6
Member = tuple[str, bytes] | tarfile.TarInfo


def tar(path: Path, *members: Member, mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as made:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                made.addfile(member)
            else:
                about = tarfile.TarInfo(member[0])
                about.size = len(member[1])
                made.addfile(about, io.BytesIO(member[1]))
    return path


def kind(name: str, type: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname, about.size = type, target, size
    return about


def zipped(path: Path, *members: tuple[str, bytes], packed: bool = True) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as made:
        for name, data in members:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made.writestr(zipfile.ZipInfo(name), data, 8 if packed else 0)
    return path


def held(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def refused(path: Path, limit: int = LIMIT, most: int = 0) -> BadFileError:
    """Unpacking it fails, leaves nothing behind and writes nothing elsewhere; the error names the file."""
    before = held(path.parent.parent)
    with pytest.raises(BadFileError) as caught, within(most):
        unpack(path, path.parent / "out", ("tar", "zip"), limit)
    assert held(path.parent.parent) == before
    assert not (path.parent / "out").exists()
    assert caught.value.file == str(path)
    return caught.value


@contextmanager
def within(most: int) -> Iterator[None]:
    """Fails where more bytes than that are held at once; with 0 nothing is measured, which is slow."""
    if not most:
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    return tmp_path / "inner"


MEMBERS = (("./a.csv", CONTENT), ("deep/er/b.bin", bytes(3_000_000)), ("empty", b""), ("ü.txt", b"1"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_is_unpacked(folder: Path, mode: str, form: int) -> None:
    archive = tar(
        folder / "a.tar",
        kind("deep", tarfile.DIRTYPE),
        *MEMBERS,
        ("noise", os.urandom(20_000)),
        mode=mode,
        form=form,
    )
    found = held(unpack(archive, folder / "out", ("tar",), 10**7))
    assert found.pop("noise")
    assert found == {name.removeprefix("./"): data for name, data in MEMBERS}


@pytest.mark.parametrize("packed", [True, False])
def test_a_zip_is_unpacked(folder: Path, packed: bool) -> None:
    noise = random.Random(0).randbytes(3_000_000)  # in several pieces, each way
    members = (("a.csv", CONTENT), ("folder/", b""), ("deep/er/b.bin", noise), ("zeros", bytes(100_000)))
    archive = zipped(folder / "a.zip", *members, packed=packed)
    found = unpack(archive, folder / "out", ("zip",), 10**7)
    assert held(found) == {name: data for name, data in members if not name.endswith("/")}
    assert (found / "folder").is_dir()


@pytest.mark.parametrize(
    ("fname", "kept", "unpacked"),
    [
        (None, "a.tar.gz_archive", "a.tar.gz"),
        ("photos", "photos_archive", "photos"),
        ("photos.tgz", "photos.tgz", "photos_extracted"),
    ],
)
def test_get_file_names_the_folder_as_keras_does(
    tmp_path: Path, fname: str | None, kept: str, unpacked: str
) -> None:
    origin = tar(tmp_path / "a.tar.gz", ("data.csv", CONTENT)).as_uri()
    for _ in range(2):
        path = get_file(fname, origin, cache_dir=tmp_path / "cache", extract=True)
    assert path == str(tmp_path / "cache" / "datasets" / unpacked)
    assert held(Path(path)) == {"data.csv": CONTENT}
    assert sorted(one.name for one in Path(path).parent.iterdir()) == sorted([kept, unpacked])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize(
    "options", [{"extract": True}, {"untar": True}, {"extract": True, "archive_format": ["tar"]}]
)
def test_get_file_unpacks_every_kind_that_is_asked_for(
    tmp_path: Path, mode: str, options: dict[str, Any]
) -> None:
    made, write = tmp_path / "made", zipped if mode == "zip" else tar
    write(made, ("data.csv", CONTENT), **({} if mode == "zip" else {"mode": mode}))
    if mode == "zip" and options != {"extract": True}:
        with pytest.raises(BadFileError, match="is no archive of the kind tar"):
            get_file("a", made.as_uri(), cache_dir=tmp_path, **options)
        options = {"extract": True, "archive_format": "zip"}
    assert held(Path(get_file("a", made.as_uri(), cache_dir=tmp_path, **options))) == {"data.csv": CONTENT}


def test_an_archive_of_no_format_is_not_unpacked_and_that_is_said(tmp_path: Path) -> None:
    origin = tar(tmp_path / "a.tar", ("data.csv", CONTENT)).as_uri()
    with pytest.warns(UserWarning, match="is not unpacked: archive_format is None"):
        path = get_file("a", origin, cache_dir=tmp_path, extract=True, archive_format=None)
    assert not Path(path).exists()


@pytest.mark.parametrize("link", [False, True])
def test_a_file_or_a_link_where_the_folder_would_be_is_left_alone(tmp_path: Path, link: bool) -> None:
    origin = tar(tmp_path / "a.tar", ("data.csv", CONTENT)).as_uri()
    place = Path(get_file(origin=origin, cache_dir=tmp_path))  # first as it is
    if link:
        (tmp_path / "mine").mkdir()
        os.utime(tmp_path / "mine", (0, 0))
        place.unlink()
        place.symlink_to(tmp_path / "mine")
    with pytest.raises(BadFileError, match="which is a file or a link") as caught:
        get_file(origin=origin, cache_dir=tmp_path, extract=True)
    assert str(place) in str(caught.value)
    assert place.is_symlink() if link else place.is_file()


def test_a_full_disk_leaves_nothing_half_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_fill", fail)
    with pytest.raises(DataError, match=r"could not be unpacked to .*: No space left on device"):
        get_file("a", tar(tmp_path / "a.tar", ("a", CONTENT)).as_uri(), cache_dir=tmp_path, extract=True)
    assert [one.name for one in (tmp_path / "datasets").iterdir()] == ["a_archive"]


def test_an_archive_is_unpacked_once_and_again_when_it_is_another(folder: Path) -> None:
    archive = zipped(folder / "a.zip", ("a", b"1"))
    out = unpack(archive, folder / "out", ("zip",), LIMIT)
    (out / "mine").write_text("kept as long as nothing is unpacked")
    unpack(archive, folder / "out", ("zip",), LIMIT)
    assert (out / "mine").exists()
    zipped(archive, ("a", b"2"))
    os.utime(archive, ns=(out.stat().st_mtime_ns + 10**9,) * 2)
    assert held(unpack(archive, folder / "out", ("zip",), LIMIT)) == {"a": b"2"}
    assert sorted(path.name for path in folder.iterdir()) == ["a.zip", "out"]


def test_what_breaks_on_the_way_leaves_the_old_folder(folder: Path) -> None:
    out = unpack(zipped(folder / "a.zip", ("a", b"1")), folder / "out", ("zip",), LIMIT)
    broken = tar(folder / "b.tar", ("a", b"2"), ("../b", b"3"))
    with pytest.raises(BadFileError, match="leads out of the folder"):
        unpack(broken, out, ("tar",), LIMIT, anew=True)
    assert held(out) == {"a": b"1"}


def test_only_the_kinds_that_are_asked_for_are_unpacked(folder: Path) -> None:
    with pytest.raises(BadFileError, match="is no archive of the kind tar"):
        unpack(zipped(folder / "a.zip", ("a", b"1")), folder / "out", ("tar",), LIMIT)
    with pytest.raises(BadFileError, match="is no archive of the kind zip"):
        unpack(tar(folder / "a.tar", ("a", b"1")), folder / "out", ("zip",), LIMIT)


# -- names ---------------------------------------------------------------------------------------------------

OUTSIDE = [
    "../evil",
    "a/../../evil",
    "/tmp/evil",
    "C:/evil",
    "..",
    "a\\..\\evil",
    "deep/" * 60 + "a",
    "n" * 300,
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("write", [tar, zipped])
def test_a_name_that_leads_elsewhere_is_refused(folder: Path, name: str, write: Callable[..., Path]) -> None:
    error = refused(write(folder / "evil", ("good", CONTENT), (name, CONTENT)))
    assert "leads out of the folder" in error.reason or "too long a name" in error.reason
    assert error.place


@pytest.mark.parametrize(
    "members",
    [
        (("a", b"1"), ("a", b"2")),
        (("a", b"1"), ("./a", b"2")),
        (("a", b"1"), ("a/b", b"2")),
        (("a/b", b"1"), ("a", b"2")),
    ],
)
@pytest.mark.parametrize("write", [tar, zipped])
def test_a_name_that_comes_twice_is_refused(folder: Path, members: Any, write: Callable[..., Path]) -> None:
    assert any(
        word in str(refused(write(folder / "evil", *members))) for word in ("twice", "a file and a folder")
    )


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (kind("link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (kind("link", tarfile.SYMTYPE, "good"), "is a link"),
        (kind("link", tarfile.LNKTYPE, "/etc/passwd"), "is a link"),
        (kind("link", tarfile.LNKTYPE, "good"), "is a link"),
        (kind("device", tarfile.CHRTYPE), "is a device"),
        (kind("device", tarfile.BLKTYPE), "is a device"),
        (kind("pipe", tarfile.FIFOTYPE), "is a device"),
        (kind("unknown", b"9"), "is a device"),
    ],
)
def test_what_is_no_file_in_a_tar_is_refused(folder: Path, member: tarfile.TarInfo, words: str) -> None:
    error = refused(tar(folder / "evil", ("good", CONTENT), member, (f"{member.name}/through", CONTENT)))
    assert error.place == f"member {member.name!r}"
    assert words in error.reason


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_what_is_no_file_in_a_zip_is_refused(folder: Path, mode: int) -> None:
    with zipfile.ZipFile(folder / "evil", "w") as made:
        about = zipfile.ZipInfo("link")
        about.external_attr, about.create_system = mode << 16, 3
        made.writestr(about, "/etc/passwd")
    assert "no file" in refused(folder / "evil").reason


def test_modes_owners_and_times_of_an_archive_are_not_taken_over(folder: Path) -> None:
    about = kind("run.sh", tarfile.REGTYPE)
    about.mode, about.uid, about.mtime = 0o6777, 0, 0
    out = unpack(tar(folder / "a", about), folder / "out", ("tar",), LIMIT)
    status = (out / "run.sh").stat()
    assert status.st_mode & 0o7111 == 0
    assert status.st_uid == os.getuid()


# -- sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [tar, zipped])
def test_more_than_the_limit_is_refused(folder: Path, write: Callable[..., Path]) -> None:
    noise = random.Random(0).randbytes(60_000)
    assert "unpacks to" in refused(write(folder / "large", ("a", noise), ("b", noise)), limit=100_000).reason


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_that_unpacks_to_far_more_than_is_stored_is_refused(
    folder: Path, pack: Callable[[bytes], bytes]
) -> None:
    (folder / "bomb").write_bytes(
        pack(tar(folder / "plain", ("zeros", bytes(30_000_000)), mode="w").read_bytes())
    )
    error = refused(folder / "bomb", limit=10**12, most=20 * 2**20)
    assert "made to fill the disk" in error.do


def test_a_tar_whose_member_claims_terabytes_is_refused_unread(folder: Path) -> None:
    data = tar(
        folder / "plain", kind("huge", tarfile.REGTYPE, size=2**42), mode="w", form=tarfile.GNU_FORMAT
    ).read_bytes()
    (folder / "bomb").write_bytes(gzip.compress(data))
    assert "unpacks to 4,398,046,511,104 bytes" in refused(folder / "bomb").reason


@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory_is_refused(folder: Path, type: bytes) -> None:
    head = kind("pax", type, size=20_000_000).tobuf(tarfile.GNU_FORMAT)
    data = random.Random(0).randbytes(40_000) * 500
    (folder / "bomb").write_bytes(head + data + bytes(10_240))
    error = refused(folder / "bomb", limit=10**9, most=20 * 2**20)
    assert "header" in error.reason


def test_headers_of_headers_without_end_are_refused(folder: Path) -> None:
    record = b"11 path=ab\n"
    head = (
        kind("pax", tarfile.XHDTYPE, size=len(record)).tobuf(tarfile.USTAR_FORMAT)
        + record
        + bytes(512 - len(record))
    )
    (folder / "deep").write_bytes(head * 3_000 + bytes(1_024))
    assert "can't be unpacked" in refused(folder / "deep").reason


def test_a_size_below_zero_does_not_lead_back(folder: Path) -> None:
    head = bytearray(kind("a", tarfile.REGTYPE).tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" + struct.pack(">q", -1024).rjust(11, b"\xff")
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    (folder / "evil").write_bytes(bytes(head) + bytes(2_048))
    refused(folder / "evil")


def test_a_tar_of_holes_is_refused(folder: Path) -> None:
    about = kind("holes", tarfile.GNUTYPE_SPARSE)
    head = bytearray(about.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (0, 0)
    head[483:495] = b"%011o\0" % 2**30
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    (folder / "evil").write_bytes(bytes(head) + bytes(1_024))
    error = refused(folder / "evil", limit=2**40)
    assert "holes" in error.reason


def test_a_zip_bomb_is_refused_before_it_is_unpacked(folder: Path) -> None:
    bomb = zipped(folder / "bomb", ("zeros", bytes(30_000_000)))
    error = refused(bomb, limit=10**12, most=2**20)
    assert "claims to unpack from" in error.reason


def test_members_that_share_their_bytes_are_refused(folder: Path) -> None:
    for bomb in (overlapping(4), quoted(4)):
        (folder / "bomb").write_bytes(bomb)
        assert any(
            word in refused(folder / "bomb", limit=10**12).reason for word in ("overlap", "something else")
        )


def test_a_member_that_is_longer_than_it_says_is_refused(folder: Path) -> None:
    data = bytearray(zipped(folder / "plain", ("a", bytes(range(200)) * 9)).read_bytes())
    whole = struct.pack("<L", 1_800)
    start, end = data.find(whole), data.rfind(whole)
    data[start : start + 4] = data[end : end + 4] = struct.pack("<L", 900)
    (folder / "evil").write_bytes(data)
    assert "unpacks to more than 900 bytes" in refused(folder / "evil").reason


# -- by chance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [tar, zipped])
def test_a_broken_archive_is_refused_or_unpacked_inside_its_folder(
    folder: Path, write: Callable[..., Path]
) -> None:
    options: dict[str, Any] = {"mode": "w"} if write is tar else {"packed": False}
    whole = write(folder / "whole", ("a", CONTENT), ("b/c", CONTENT * 30), **options).read_bytes()
    whole = whole[:4_096]
    chance = random.Random(1)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice(
                (0, 255, 0x2E, 0x2F, 0x37, chance.randrange(256))
            )
        (folder / "broken").write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        with suppress(BadFileError):
            unpack(folder / "broken", folder / "out", ("tar", "zip"), LIMIT, anew=True)
        assert {path.name for path in folder.iterdir()} <= {"whole", "broken", "out"}
        assert [path.name for path in folder.parent.iterdir()] == ["inner"]
