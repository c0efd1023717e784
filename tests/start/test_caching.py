"""Compiled programs kept between runs: found again, of limited size, in a folder that is the user's alone."""

import json
import os
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import jax
import pytest

from tally.core import caching

PROGRAM = """
import json, jax
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rpartition("/")[2]))
import numpy as np, tally
layer = tally.layers.Dense(3)
layer.build((None, 2))
layer.kernel.value  # drawn by a compiled program, which switches the cache on
told = {name: events.count(name) for name in ("cache_hits", "cache_misses")}
print(json.dumps({**told, "folder": jax.config.jax_compilation_cache_dir}))
"""


def run(**variables: str) -> dict:
    """What a small program found in the cache, run in a process of its own; it must say nothing beside."""
    dropped = (
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_ENABLE_COMPILATION_CACHE",
        caching.VARIABLE,
        "XDG_CACHE_HOME",
    )
    settings = {name: value for name, value in os.environ.items() if name not in dropped}
    settings |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **variables}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        env=settings,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


def test_the_second_run_finds_what_the_first_compiled(tmp_path):
    first = run(XDG_CACHE_HOME=str(tmp_path))
    folder = Path(first["folder"])
    assert folder.parent == tmp_path / "tally" / "compiled"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (folder, folder.parent)] == [0o700, 0o700]
    kept = {path.name for path in folder.glob("*-cache")}
    assert first["cache_hits"] == 0
    assert len(kept) == first["cache_misses"] > 0
    assert run(XDG_CACHE_HOME=str(tmp_path)) == {**first, "cache_hits": len(kept), "cache_misses": 0}

    for path in folder.glob("*-cache"):  # as a full disk leaves them
        path.write_bytes(path.read_bytes()[:100])
    assert run(XDG_CACHE_HOME=str(tmp_path))["cache_hits"] == 0


def test_there_is_none_where_the_user_wants_none(tmp_path):
    off = run(TALLY_COMPILE_CACHE="0", XDG_CACHE_HOME=str(tmp_path))
    assert (off["folder"], list(tmp_path.iterdir())) == (None, [])


@pytest.fixture
def decided(monkeypatch, tmp_path):
    """A process in which nothing is decided yet, whose user has the folder `tmp_path`."""
    monkeypatch.setattr(caching, "_is_decided", False)
    monkeypatch.setattr(caching.warnings, "filterwarnings", lambda *_: None)
    monkeypatch.setenv(caching.VARIABLE, str(tmp_path / "programs"))
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_what_the_user_told_jax_stays(decided, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    caching.switch_on()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert not (tmp_path / "programs").exists()


def test_jax_is_told_once(decided, tmp_path):
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    caching.switch_on()
    folder = Path(jax.config.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / "programs"
    assert jax.config.jax_persistent_cache_min_compile_time_secs == caching.MIN_SECONDS
    jax.config.update("jax_compilation_cache_dir", None)
    caching.switch_on()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_others_can_write_to_is_not_used(decided, tmp_path):
    home = tmp_path / "programs"
    for mode in (0o770, 0o707):
        home.mkdir(exist_ok=True)
        home.chmod(mode)
        assert caching.prepare_folder() is None
    home.chmod(0o700)
    assert caching.prepare_folder() is not None
    tmp_path.chmod(0o777)  # anybody could put another folder in its place
    assert caching.prepare_folder() is None
    tmp_path.chmod(0o1777)
    assert caching.prepare_folder() is not None


def test_a_folder_of_another_user_is_not_used(decided, monkeypatch):
    monkeypatch.setattr(caching.os, "getuid", lambda: 12345)
    assert caching.prepare_folder() is None


def test_a_link_is_not_followed(decided, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "programs").symlink_to(tmp_path / "elsewhere")
    assert caching.prepare_folder() is None


def test_a_place_that_cannot_be_written_to_means_no_cache(decided, tmp_path, monkeypatch):
    (tmp_path / "programs").write_text("a file")
    assert caching.prepare_folder() is None
    (tmp_path / "programs").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(caching.os, "access", lambda *_: False)
        assert caching.prepare_folder() is None
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda _: usage(2**20))
    assert caching.prepare_folder() is None


def test_what_was_used_least_recently_goes_first(tmp_path):
    paths = [tmp_path / machine / f"{name}-cache" for machine in ("a", "b") for name in ("x", "y")]
    for age, path in zip((3, 1, 4, 2), paths, strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (10_000 - age, 10_000 - age))
    (tmp_path / "a" / "notes.txt").write_text("not a program")
    caching.bring_down(tmp_path, 4000)
    assert all(path.exists() for path in paths)
    caching.bring_down(tmp_path, 2500)
    assert [path.exists() for path in paths] == [False, True, False, True]
    assert (tmp_path / "a" / "notes.txt").exists()


def test_the_place_is_the_one_of_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv(caching.VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert caching._home() == tmp_path / ".cache" / "tally" / "compiled"
    monkeypatch.setattr(caching.sys, "platform", "darwin")
    assert caching._home() == tmp_path / "Library" / "Caches" / "tally" / "compiled"
    monkeypatch.setattr(caching.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert caching._home() == tmp_path / "local" / "tally" / "compiled"


def test_another_processor_has_another_folder(monkeypatch):
    here = caching._machine()
    assert here == caching._machine()
    monkeypatch.setattr(caching, "_processor", lambda: ["flags : fpu only"])
    assert caching._machine() != here
