"""A save that is killed, or runs out of room, leaves the old file or the new one and nothing beside it."""

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import tally
from tally import writing
from tally.core.errors import SavingError

resource = pytest.importorskip("resource")
TESTS = Path(__file__).parent.parent


def make(value: float = 1.0) -> Any:
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(300), tally.layers.Dense(1)])
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    return model


def save(model: Any, path: Path) -> None:
    (model.save if path.suffix == ".keras" else model.save_weights)(path)


def save_in_several(model: Any, path: Path) -> None:
    model.save_weights(path, max_shard_size="2KB")


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


ONE = ["model.keras", "model.weights.h5"]
SEVERAL = ["model.safetensors", "model.weights.json"]


@pytest.mark.parametrize("name", [*ONE, "several.safetensors", "either.safetensors", "model.weights.json"])
@pytest.mark.parametrize("kills", [24, pytest.param(400, marks=pytest.mark.slow)])
def test_a_killed_save_leaves_the_old_file_or_the_new_one(name: str, kills: int, tmp_path: Path) -> None:
    program = [sys.executable, str(TESTS / "saving" / "killed.py"), str(tmp_path), name, "1337", str(kills)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=TESTS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["first"] + found["second"] == kills
    assert min(found["first"], found["second"], found["cut off"]) > 0
    assert found["left"] == []


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("limit", [1_000, 6_000])
def test_a_file_that_may_not_grow_leaves_the_old_one_and_says_what_to_do(
    name: str, limit: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    save(make(1.0), path)
    before = path.read_bytes()
    with files_of_at_most(limit), pytest.raises(SavingError) as caught:
        save(make(2.0), path)
    first, where, do = str(caught.value).splitlines()
    assert first == f"{path} could not be written: File too large."
    assert where.endswith(f"bytes are free in {tmp_path}; the file that was there is as it was")
    assert do == "  do: raise the limit on the size of files (ulimit -f), or save to another file system"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ONE)
def test_a_full_disk_is_one_error_even_when_it_shows_only_at_the_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing.os, "fsync", no_room)
    with pytest.raises(SavingError) as caught:
        save(make(), tmp_path / name)
    assert "could not be written: No space left on device." in str(caught.value)
    assert "do: make room there, or save to a folder on another disk" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("limit", [300, 1_000, 2_500])
def test_several_files_that_may_not_grow_leave_all_the_old_ones(
    name: str, limit: int, tmp_path: Path
) -> None:
    save_in_several(make(1.0), tmp_path / name)
    before = files_in(tmp_path)
    assert len(before) > 3
    with files_of_at_most(limit), pytest.raises(SavingError, match="could not be written: File too large"):
        save_in_several(make(2.0), tmp_path / name)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("name", SEVERAL)
def test_a_disk_that_is_full_at_any_of_several_files_leaves_all_the_old_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, flush = 0, os.fsync

    def no_room(handle: int) -> None:
        nonlocal left
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    reader = make(0.0)
    save_in_several(make(1.0), tmp_path / name)
    before = files_in(tmp_path)
    monkeypatch.setattr(writing.os, "fsync", no_room)
    for room in range(20):
        left = room
        with suppress(SavingError):
            save_in_several(make(2.0), tmp_path / name)
            break
        assert files_in(tmp_path) == before
    assert room == sum(not file.endswith("00000.weights.h5") for file in before) + (name in SEVERAL[1:])
    reader.load_weights(tmp_path / name)
    assert {float(value) for weight in reader.get_weights() for value in weight.ravel()} == {2.0}


def test_a_disk_that_is_full_at_any_write_of_the_hdf5_library_is_the_same_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tally.saving import files

    path, left = tmp_path / "model.weights.h5", 0

    class Full(files._Written):
        def write(self, data: Any) -> int:
            nonlocal left
            left -= 1
            if left < 0 and self.failed is None:
                self.failed = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    save(make(1.0), path)
    before = path.read_bytes()
    monkeypatch.setattr(files, "_Written", Full)
    for room in range(100):
        left = room
        with suppress(SavingError):
            save(make(2.0), path)
            break
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
    assert 3 < room < 99
    with h5py.File(path) as file:
        assert np.asarray(file["layers/dense/vars/0"]).max() == 2.0


def test_what_a_dead_process_left_is_cleared_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    stale = tmp_path / ".old.keras.01234567.tally.part"
    stale.write_bytes(b"unfinished")
    (tmp_path / ".mine.part").write_bytes(b"somebody else's")
    with writing.replaced(tmp_path / "other.txt") as part:
        part.write_text("being written")
        save(make(), tmp_path / "model.weights.h5")
        assert part.exists()
        assert not stale.exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == [".mine.part", "model.weights.h5", "other.txt"]


def test_a_link_is_not_cleared_as_an_unfinished_file(tmp_path: Path) -> None:
    target = tmp_path / "precious.txt"
    target.write_text("kept")
    (tmp_path / ".x.tally.part").symlink_to(target)
    save(make(), tmp_path / "model.weights.h5")
    assert target.read_text() == "kept"


def test_a_file_keeps_its_permissions_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    path, usual = tmp_path / "model.keras", tmp_path / "usual"
    usual.touch()
    save(make(), path)
    assert path.stat().st_mode == usual.stat().st_mode
    path.chmod(0o640)
    save(make(), path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.keras").mkdir()
    with pytest.raises(SavingError, match=r"model\.keras is a folder"):
        save(make(), tmp_path / "model.keras")


def test_reports_and_locks_are_whole_or_as_they_were(tmp_path: Path) -> None:
    from tally.accounting.lock import write_lock
    from tally.report.summary import tabulate

    ledger = make().account()
    write_lock(ledger, str(tmp_path / "lock.json"), "mine")
    before = (tmp_path / "lock.json").read_bytes()
    with files_of_at_most(100):
        with pytest.raises(OSError, match="File too large"):
            write_lock(ledger, str(tmp_path / "lock.json"), "mine")
        with pytest.raises(OSError, match="File too large"):
            tabulate(ledger).to_html(tmp_path / "page.html")
    assert (tmp_path / "lock.json").read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["lock.json"]


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writing.write_text(pipe, "through")
    assert os.read(reading, 100) == b"through"
    os.close(reading)
    assert pipe.is_fifo()
