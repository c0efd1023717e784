"""Downloads against a server of our own: pinned, resumed, whole or not there, and no further than they may go."""

import base64
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tally import utils
from tally.core.errors import ArgumentError, DataError
from tally.downloads import fetching
from tally.downloads.cache import get_file
from tally.downloads.part import part_of

CONTENT = b"a,b\n1,2\n"
LONG = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
LONG_SHA256 = hashlib.sha256(LONG).hexdigest()


class Server:
    """What is served, how, and what was asked for.

    Args:
        address: Where it is.
        content: Path -> bytes.
        tag: The ETag of all of it; none where empty.
        cut: Bytes after which a body breaks off.
        ranges: Whether parts can be asked for.
        headers: More headers, or others.
        redirect: Path -> where it leads on to.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.content: dict[str, bytes] = {"/data.csv": CONTENT, "/long.bin": LONG}
        self.tag, self.cut, self.ranges = '"one"', 0, True
        self.headers: dict[str, str] = {}
        self.redirect: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    served: Server

    def do_GET(self) -> None:
        served = self.served
        served.asked.append(
            {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
        )
        if self.path in served.redirect:
            return self.answer(302, {"Location": served.redirect[self.path]}, b"")
        if self.path not in served.content:
            return self.answer(404, {}, b"")
        whole, tag = served.content[self.path], {"ETag": served.tag} if served.tag else {}
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if served.ranges else 0
        if self.headers.get("If-Range", served.tag) != served.tag:
            start = 0
        if start >= len(whole):
            return self.answer(416, {"Content-Range": f"bytes */{len(whole)}"}, b"")
        told = {"Content-Length": str(len(whole) - start), **tag}
        if start:
            told["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        body = whole[start : start + served.cut] if served.cut else whole[start:]
        return self.answer(206 if start else 200, {**told, **served.headers}, body)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    handler = type("Handler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        handler.served = Server(f"http://127.0.0.1:{running.server_port}")
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield handler.served
        running.shutdown()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_it_is_found_where_keras_has_it() -> None:
    assert utils.get_file is get_file


@pytest.mark.parametrize("file_hash", [None, SHA256, MD5, SHA256.upper()])
def test_a_file_is_downloaded_once(server: Server, tmp_path: Path, file_hash: str | None) -> None:
    for _ in range(2):
        path = get_file(origin=f"{server.address}/data.csv", file_hash=file_hash, cache_dir=tmp_path)
    assert path == str(tmp_path / "datasets" / "data.csv")
    assert files(tmp_path / "datasets") == {"data.csv": CONTENT}
    assert len(server.asked) == 1


def test_it_is_downloaded_again_if_that_is_asked_for(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path, force_download=True)
    assert len(server.asked) == 2


def test_a_changed_file_is_downloaded_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "data.csv").write_text("changed")
    path = get_file(origin=f"{server.address}/data.csv", file_hash=SHA256, cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT


def test_an_address_of_a_file_works_and_the_home_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_HOME", str(tmp_path / "home"))
    (tmp_path / "data.csv").write_bytes(CONTENT)
    path = get_file("mine.csv", (tmp_path / "data.csv").as_uri(), cache_subdir="tables")
    assert path == str(tmp_path / "home" / "tables" / "mine.csv")
    assert files(tmp_path / "home" / "tables") == {"mine.csv": CONTENT}


def test_another_file_than_expected_says_both_hashes_and_deletes_nothing_good(
    server: Server, tmp_path: Path
) -> None:
    get_file(origin=f"{server.address}/data.csv", file_hash=SHA256, cache_dir=tmp_path)
    with pytest.raises(DataError) as caught:
        get_file(origin=f"{server.address}/data.csv", file_hash="0" * 64, cache_dir=tmp_path)
    assert str(caught.value) == (
        f"{server.address}/data.csv is not the expected file: its sha256 hash is {SHA256}, not {'0' * 64}; "
        f"{tmp_path}/datasets/data.csv is left as it was.\n"
        "  do: check the address and the hash; the file may have been replaced"
    )
    assert files(tmp_path / "datasets") == {"data.csv": CONTENT}


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("/data.csv", {"file_hash": "0" * 64}, "is not the expected file"),
        ("/data.csv", {"file_hash": "0" * 32}, f"its md5 hash is {MD5}, not 0{{32}}"),
        ("/data.csv", {"size_limit": 5}, "has more than 5 bytes"),
        ("/missing.csv", {}, "HTTP Error 404"),
    ],
)
def test_a_download_that_fails_leaves_nothing_behind(
    server: Server, tmp_path: Path, path: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        get_file(origin=server.address + path, cache_dir=tmp_path, **options)
    assert files(tmp_path / "datasets") == {}


def test_a_body_without_a_length_is_stopped_at_the_limit(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Length": "no number"}
    with pytest.raises(DataError, match="has more than 100 bytes"):
        get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path, size_limit=100)
    assert files(tmp_path / "datasets") == {}


@pytest.mark.parametrize(
    ("fname", "origin"),
    [
        (None, None),
        (None, "ftp://example.org/a"),
        (None, "data:,a"),
        (None, "file://elsewhere/a"),
        (None, "https:///a"),
        (None, "http://[::1/a"),
        ("../a", "http://example.org/a"),
        ("a\\b", "http://example.org/a"),
        ("..", "http://example.org/a"),
        (None, "http://example.org/"),
    ],
)
def test_an_address_or_name_that_can_not_be_used_is_refused(fname: str | None, origin: str | None) -> None:
    with pytest.raises(ArgumentError, match="get_file can't"):
        get_file(fname, origin)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"file_hash": "12"}, "that is no hash"),
        ({"file_hash": "g" * 64}, "that is no hash"),
        ({"file_hash": "0" * 32, "hash_algorithm": "sha256"}, "that is no sha256"),
        ({"md5_hash": "0" * 64}, "that is no md5"),
        ({"hash_algorithm": "sha1"}, "doesn't know the hash_algorithm 'sha1'"),
        ({"archive_format": "rar", "extract": True}, "can't unpack archive_format='rar'"),
    ],
)
def test_a_hash_or_an_archive_that_is_none_is_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArgumentError, match=words):
        get_file("a", "http://127.0.0.1:1/a", cache_dir=tmp_path, **options)


# -- what breaks off -----------------------------------------------------------------------------------------


def test_what_breaks_off_is_taken_up_again_where_it_did(server: Server, tmp_path: Path) -> None:
    server.cut = 300_000
    path = get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert Path(path).read_bytes() == LONG
    assert [asked.get("range") for asked in server.asked] == [
        None, "bytes=300000-", "bytes=600000-", "bytes=900000-"
    ]  # fmt: skip
    assert {asked.get("if-range") for asked in server.asked[1:]} == {'"one"'}
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def begun(server: Server, folder: Path, **options: Any) -> None:
    """Leaves a half of the long file behind, as five attempts bring it."""
    server.cut = 100_000
    with pytest.raises(DataError, match="broke off after 500,000 of 1,024,000 bytes"):
        get_file(origin=f"{server.address}/long.bin", cache_dir=folder, **options)
    assert files(folder / "datasets")[".long.bin.part"] == LONG[:500_000]
    server.cut = 0
    server.asked.clear()


def test_the_next_call_goes_on_where_the_last_one_stopped(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert [asked["range"] for asked in server.asked] == ["bytes=500000-"]
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_a_file_that_changed_meanwhile_is_downloaded_from_the_start(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    server.tag, server.content["/long.bin"] = '"two"', LONG[::-1]
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert files(tmp_path / "datasets") == {"long.bin": LONG[::-1]}


def test_a_server_that_knows_no_ranges_sends_the_whole(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    server.ranges = False
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_a_server_that_sends_another_piece_is_asked_for_the_whole(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path, file_hash=LONG_SHA256)
    server.headers = {"Content-Range": "bytes 7-9/1024000"}
    with pytest.raises(DataError, match="another piece than was asked for"):
        get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    server.headers = {}
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_a_part_that_is_the_whole_is_taken_for_it(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    (tmp_path / "datasets" / ".long.bin.part").write_bytes(LONG)
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert [asked["range"] for asked in server.asked] == ["bytes=1024000-"]
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_a_part_of_another_file_is_noticed_by_the_hash(server: Server, tmp_path: Path) -> None:
    server.tag = ""
    begun(server, tmp_path, file_hash=LONG_SHA256)
    (tmp_path / "datasets" / ".long.bin.part").write_bytes(bytes(500_000))
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path, file_hash=LONG_SHA256)
    assert [asked.get("range") for asked in server.asked] == ["bytes=500000-", None]
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_without_a_version_and_a_hash_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    server.tag, server.cut = 'W/"weak"', 100
    with pytest.raises(DataError, match="broke off after 100 of 1,024,000 bytes"):
        get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert len(server.asked) == 1
    assert files(tmp_path / "datasets") == {}


def test_a_part_from_another_address_is_not_used(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    server.content["/other.bin"] = LONG[::-1]
    get_file("long.bin", f"{server.address}/other.bin", cache_dir=tmp_path)
    assert "range" not in server.asked[0]
    assert files(tmp_path / "datasets") == {"long.bin": LONG[::-1]}


@pytest.mark.parametrize("note", [b"", b"[]", b"\xff", b'{"origin": 3, "mark": 4}'])
def test_a_broken_note_starts_from_nothing(server: Server, tmp_path: Path, note: bytes) -> None:
    begun(server, tmp_path)
    (tmp_path / "datasets" / ".long.bin.part.json").write_bytes(note)
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert "range" not in server.asked[0]
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_a_link_in_the_place_of_the_part_is_not_written_through(server: Server, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "datasets" / ".data.csv.part").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="could not be kept"):
        get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_link_in_the_place_of_the_note_is_not_written_through(server: Server, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "datasets" / ".data.csv.part.json").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="could not be kept"):
        get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_server_that_sends_more_than_it_said_is_not_listened_to(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Length": "5"}
    path = get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT[:5]
    with pytest.raises(DataError, match="is not the expected file"):
        get_file("b", f"{server.address}/data.csv", file_hash=SHA256, cache_dir=tmp_path)


def test_a_piece_that_is_longer_than_what_is_missing_is_refused(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    server.headers = {"Content-Range": "bytes 500000-1023999/600000"}
    with pytest.raises(DataError, match="the server sent more than the 600,000 bytes it spoke of"):
        get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    server.headers = {}
    get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_another_process_that_begins_as_a_file_is_finished_keeps_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, note = tmp_path / ".a.part", tmp_path / ".a.part.json"
    replace = os.replace

    def and_another_begins(source: Any, target: Any) -> None:
        replace(source, target)
        place.write_bytes(b"theirs")
        note.write_bytes(b"theirs")

    monkeypatch.setattr(os, "replace", and_another_begins)
    with part_of(tmp_path / "a", "http://example.org/a") as part:
        part.file.write(b"whole")
        part.finish(tmp_path / "a")
    assert files(tmp_path) == {".a.part": b"theirs", ".a.part.json": b"theirs", "a": b"whole"}


def test_many_at_once_each_get_the_whole_file(server: Server, tmp_path: Path) -> None:
    found: list[bytes] = []

    def get() -> None:
        path = get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path, file_hash=LONG_SHA256)
        found.append(Path(path).read_bytes())

    threads = [threading.Thread(target=get) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [LONG] * 6
    assert files(tmp_path / "datasets") == {"long.bin": LONG}


def test_two_processes_at_once_each_bring_a_whole_file(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "datasets"
    folder.mkdir()
    with part_of(folder / "long.bin", f"{server.address}/long.bin") as other:  # the first one, half through
        other.begin('"one"')
        other.file.write(LONG[:1000])
        code = "import sys; from tally.downloads import get_file; get_file(origin=sys.argv[1], cache_dir=sys.argv[2])"
        command = [sys.executable, "-c", code, f"{server.address}/long.bin", str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True)
        assert (folder / "long.bin").read_bytes() == LONG
        other.file.write(LONG[1000:])
        other.finish(folder / "long.bin")
    assert files(folder) == {"long.bin": LONG}


def test_a_full_disk_leaves_what_was_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path))

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_copy", fail)
    with pytest.raises(DataError, match=r"could not be kept as .*data\.csv: No space left"):
        get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path, force_download=True)
    assert path.read_bytes() == CONTENT


# -- where it may lead ---------------------------------------------------------------------------------------


def test_a_redirect_to_another_web_address_is_followed(server: Server, tmp_path: Path) -> None:
    server.redirect = {"/old.csv": "/data.csv"}
    path = get_file(origin=f"{server.address}/old.csv", cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "address", ["file://localhost/etc/passwd", "ftp://127.0.0.1/a", "data:,a", "gopher://127.0.0.1/a", "//[/"]
)
def test_a_redirect_to_anything_else_is_refused(server: Server, tmp_path: Path, address: str) -> None:
    server.redirect = {"/old.csv": address}
    with pytest.raises(DataError, match="could not be downloaded"):
        get_file(origin=f"{server.address}/old.csv", cache_dir=tmp_path)
    assert files(tmp_path / "datasets") == {}


def test_a_redirect_from_a_safe_connection_to_an_open_one_is_refused() -> None:
    request = fetching.urllib.request.Request("https://example.org/a")
    with pytest.raises(fetching.urllib.error.URLError, match="no https address"):
        fetching._SameScheme().redirect_request(request, io.BytesIO(), 302, "", {}, "http://example.org/a")


def test_redirects_in_a_circle_end(server: Server, tmp_path: Path) -> None:
    server.redirect = {"/a": "/b", "/b": "/a"}
    with pytest.raises(DataError, match="could not be downloaded"):
        get_file(origin=f"{server.address}/a", cache_dir=tmp_path)
    assert len(server.asked) < 20


def test_a_body_that_comes_packed_is_refused(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(DataError, match="comes packed"):
        get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path)


def test_a_name_and_a_password_are_told_to_that_server_alone(server: Server, tmp_path: Path) -> None:
    server.redirect = {"/old.csv": "/data.csv"}
    origin = server.address.replace("//", "//me%40home:s%3Acret@") + "/old.csv"
    path = get_file(origin=origin, cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT
    told = [asked.get("authorization") for asked in server.asked]
    assert told == ["Basic " + base64.b64encode(b"me@home:s:cret").decode(), None]


def test_a_token_in_the_address_a_server_leads_on_to_is_not_shown(server: Server, tmp_path: Path) -> None:
    server.redirect = {"/old.csv": "ftp://me:secret@127.0.0.1/a?token=hidden"}
    with pytest.raises(
        DataError, match=r"leads on to 'ftp://127.0.0.1/a', which is no http address"
    ) as caught:
        get_file(origin=f"{server.address}/old.csv", cache_dir=tmp_path)
    assert not {"secret", "hidden"} & set(str(caught.value).replace("=", " ").replace(":", " ").split())


def test_a_password_in_an_address_is_not_shown(server: Server, tmp_path: Path, capfd: Any) -> None:
    origin = server.address.replace("//", "//me:secret@") + "/missing.csv?token=hidden"
    with pytest.raises(DataError, match="HTTP Error 404") as caught:
        get_file(origin=origin, cache_dir=tmp_path)
    assert f"{server.address}/missing.csv" in str(caught.value)
    assert "secret" not in str(caught.value) + capfd.readouterr().err
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("make", ["folder", "pipe", "device", "nothing"])
def test_what_is_no_file_of_this_machine_is_not_read(tmp_path: Path, make: str) -> None:
    place = tmp_path / "place"
    if make == "folder":
        place.mkdir()
    elif make == "pipe":
        os.mkfifo(place)
    elif make == "device":
        place = Path("/dev/zero")
    with pytest.raises(DataError, match=r"is no file|No such file|Is a directory"):
        get_file(origin=place.as_uri(), cache_dir=tmp_path, size_limit=100)
    assert files(tmp_path / "datasets") == {}


def test_a_cache_that_can_not_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "datasets").write_text("a file")
    with pytest.raises(DataError, match="or set TALLY_HOME"):
        get_file(origin="http://127.0.0.1:1/a", cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["n" * 240, "n" * 300])
def test_a_name_that_no_folder_can_hold_is_said(server: Server, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="File name too long"):
        get_file(name + "n" * 15, f"{server.address}/data.csv", cache_dir=tmp_path)


def test_a_folder_that_can_not_be_written_to_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path)
    monkeypatch.setattr(os, "open", refuse)  # as for everybody but root
    assert get_file(origin=f"{server.address}/data.csv", cache_dir=tmp_path)  # what is there needs no writing
    with pytest.raises(DataError, match=r"could not be kept as .*: Permission denied"):
        get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)


def test_where_nobody_has_a_home_another_folder_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TALLY_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(
        DataError, match=r"~/.tally/datasets: Could not determine home directory\.\n.*TALLY_HOME"
    ):
        get_file(origin="http://127.0.0.1:1/a")


def test_what_is_no_file_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    os.mkfifo(tmp_path / "datasets" / "a")
    with pytest.raises(ArgumentError, match="it is a folder or a device"):
        get_file(origin="http://127.0.0.1:1/a", cache_dir=tmp_path, file_hash=SHA256)


def test_of_two_hashes_the_old_name_counts_less(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its sha256 hash is"):
        get_file(origin=f"{server.address}/data.csv", md5_hash=MD5, file_hash="0" * 64, cache_dir=tmp_path)
    path = get_file(origin=f"{server.address}/data.csv", md5_hash=MD5, cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Connection refused"):
        get_file(origin="http://127.0.0.1:1/a", cache_dir=tmp_path)


# -- what is shown -------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (io.StringIO, "Downloading {}/long.bin (1.0 MB)\n"),
        (Terminal, "\r{0}/long.bin: 1.0 of 1.0 MB, 100%\x1b[K\n"),
    ],
)
def test_a_download_says_how_far_it_is(
    server: Server, tmp_path: Path, monkeypatch: Any, kind: Callable[[], io.StringIO], expected: str
) -> None:
    shown = kind()
    monkeypatch.setattr(fetching.time, "monotonic", lambda: 0.05)
    with contextlib.redirect_stderr(shown):
        get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
        get_file(origin=f"{server.address}/long.bin", cache_dir=tmp_path)
    assert shown.getvalue() == expected.format(server.address)


def test_the_note_beside_a_part_tells_nobody_the_address(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    note = json.loads(files(tmp_path / "datasets")[".long.bin.part.json"])
    address = hashlib.sha256(f"{server.address}/long.bin".encode()).hexdigest()
    assert note == {"origin": address, "mark": '"one"'}
    assert (tmp_path / "datasets" / ".long.bin.part.json").stat().st_mode & 0o077 == 0
