"""Small helpers, against Keras's where there is one, and downloads against a server of our own."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from tally import utils
from tally.core.errors import ArgumentError, DataError


@pytest.mark.parametrize("x", [[0, 2, 1], [[0], [2]], [[0, 1], [2, 0]], 1])
@pytest.mark.parametrize("num_classes", [None, 5])
def test_to_categorical_equals_keras(x: Any, num_classes: int | None) -> None:
    ours, theirs = utils.to_categorical(x, num_classes), keras.utils.to_categorical(x, num_classes)
    np.testing.assert_array_equal(ours, theirs)


def test_to_categorical_of_a_jax_array_is_one() -> None:
    made = utils.to_categorical(jnp.array([1, 0]))
    assert isinstance(made, jax.Array)
    assert made.dtype == "float32"


def test_to_categorical_refuses_a_class_beyond_the_last() -> None:
    with pytest.raises(ArgumentError, match="do: pass num_classes=4"):
        utils.to_categorical([0, 3], num_classes=3)


@pytest.mark.parametrize(("axis", "order"), [(-1, 2), (1, 1), (0, 2)])
def test_normalize_equals_keras(axis: int, order: int) -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, -2.0]])
    theirs = keras.utils.normalize(x, axis, order) if axis else keras.utils.normalize(x.T, -1, order).T
    np.testing.assert_allclose(utils.normalize(x, axis, order), theirs)


@pytest.mark.parametrize("batch", [(1,), (1, 2), (1, 2, 3)])
def test_a_packed_batch_unpacks_to_itself(batch: tuple[int, ...]) -> None:
    unpacked = utils.unpack_x_y_sample_weight(utils.pack_x_y_sample_weight(*batch))
    assert unpacked == (*batch, None, None)[:3]


def test_what_lives_elsewhere_is_found_here() -> None:
    from tally.callbacks import progress
    from tally.training import data

    assert utils.PyDataset is utils.Sequence is data.PyDataset
    assert utils.Progbar is progress.Progbar


def test_names_put_into_the_custom_objects_are_known() -> None:
    utils.get_custom_objects()["my_activation"] = abs
    assert utils.get_registered_object("my_activation") is abs
    del utils.get_custom_objects()["my_activation"]


# -- get_file ------------------------------------------------------------------------------------------------

CONTENT = b"a,b\n1,2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        Quiet.asked += 1
        if self.path == "/short.csv":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    Quiet.asked = 0
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "data.csv").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("file_hash", [None, SHA256, MD5, SHA256.upper()])
def test_a_file_is_downloaded_once(server: str, tmp_path: Path, file_hash: str | None) -> None:
    for _ in range(2):
        path = utils.get_file(origin=f"{server}/data.csv", file_hash=file_hash, cache_dir=tmp_path)
    assert path == str(tmp_path / "datasets" / "data.csv")
    assert Path(path).read_bytes() == CONTENT
    assert Quiet.asked == 1


def test_a_changed_file_is_downloaded_anew(server: str, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "data.csv").write_text("changed")
    path = utils.get_file(origin=f"{server}/data.csv", file_hash=SHA256, cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT


def test_an_address_of_a_file_works_and_the_home_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_HOME", str(tmp_path / "home"))
    (tmp_path / "data.csv").write_bytes(CONTENT)
    path = utils.get_file("mine.csv", (tmp_path / "data.csv").as_uri(), cache_subdir="tables")
    assert path == str(tmp_path / "home" / "tables" / "mine.csv")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("data.csv", {"file_hash": "0" * 64}, "is not the expected file"),
        ("data.csv", {"size_limit": 5}, "has more than 5 bytes"),
        ("missing.csv", {}, "HTTP Error 404"),
        ("short.csv", {}, "broke off after 8 of 100 bytes"),
    ],
)
def test_a_download_that_fails_leaves_nothing_behind(
    server: str, tmp_path: Path, name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        utils.get_file(origin=f"{server}/{name}", cache_dir=tmp_path, **options)
    assert list((tmp_path / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    ("fname", "origin"),
    [
        (None, None),
        (None, "ftp://example.org/a"),
        ("../a", "http://example.org/a"),
        (None, "http://example.org/"),
    ],
)
def test_an_address_or_name_that_can_not_be_used_is_refused(fname: str | None, origin: str | None) -> None:
    with pytest.raises(ArgumentError, match="get_file can't"):
        utils.get_file(fname, origin)


def archive(path: Path, member: str = "data.csv") -> str:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(member, CONTENT)
    else:
        with tarfile.open(path, "w:gz") as made:
            information = tarfile.TarInfo(member)
            information.size = len(CONTENT)
            made.addfile(information, io.BytesIO(CONTENT))
    return path.as_uri()


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_an_archive_is_unpacked_beside_itself(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        path = Path(utils.get_file(origin=archive(tmp_path / name), cache_dir=tmp_path, extract=True))
    assert path == tmp_path / "datasets" / "a_extracted"
    assert [(file.name, file.read_bytes()) for file in path.iterdir()] == [("data.csv", CONTENT)]


def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path) -> None:
    origin = archive(tmp_path / "evil.tar.gz", "../../evil.csv")
    with pytest.raises(DataError, match="can't be unpacked"):
        utils.get_file(origin=origin, cache_dir=tmp_path, extract=True)
    assert [file.name for file in (tmp_path / "datasets").iterdir()] == ["evil.tar.gz"]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.zip"
    with zipfile.ZipFile(large, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("zeros", bytes(10**6))
    with pytest.raises(DataError, match="unpacks to 1,000,000 bytes"):
        utils.get_file(origin=large.as_uri(), cache_dir=tmp_path, extract=True, size_limit=10**5)
