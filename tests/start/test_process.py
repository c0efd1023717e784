"""What is set for the whole process: once, only where it helps, taken back on request, and off when asked."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from tally.core import process

GLIBC = process._c_library() is not None


class Library:
    """A C library that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self.trimmed = 0

    def mallopt(self, name: int, value: int) -> int:
        self.told.append((name, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trimmed += 1
        return 1


@pytest.fixture
def library(monkeypatch) -> Library:
    made = Library()
    monkeypatch.setattr(process, "_c_library", lambda: made)
    monkeypatch.setattr(process, "_is_prepared", False)
    for name in (process.VARIABLE, "GLIBC_TUNABLES", *process._OF_USERS):
        monkeypatch.delenv(name, raising=False)
    return made


def test_it_is_set_once_and_taken_back(library):
    process.prepare("cpu")
    process.prepare("cpu")
    assert process.is_prepared()
    assert library.told == [(-8, 1), (-3, 2**30), (-1, 2**30)]
    process.restore()
    process.restore()
    assert library.told[3:] == [(-3, 32 * 2**20), (-1, 64 * 2**20)]
    assert (process.is_prepared(), library.trimmed) == (False, 1)


@pytest.mark.parametrize("word", ["0", "off", "False", " no "])
def test_one_variable_switches_all_of_it_off(word, library, monkeypatch):
    monkeypatch.setenv(process.VARIABLE, word)
    process.prepare("cpu")
    assert not process.is_prepared()
    assert library.told == []
    assert process.compiler_options(is_training=True, largest_kernel=100) == {}


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_a_user_has_set_stays(name, library, monkeypatch):
    monkeypatch.setenv(name, "glibc.malloc.arena_max=2")
    process.prepare("cpu")
    assert library.told == []


def test_nothing_is_set_for_an_accelerator(library, monkeypatch):
    process.prepare("gpu")
    monkeypatch.setattr(process, "_expected_backend", lambda: "unknown")
    process.prepare()
    assert library.told == []
    process.prepare("cpu")
    assert len(library.told) == 3


def test_another_c_library_is_left_alone(monkeypatch):
    for platform, told in (("darwin", "glibc 2.36"), ("linux", None)):
        process._c_library.cache_clear()
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(os, "confstr", lambda name, told=told: told)
        assert process._c_library() is None
        process.give_back()
    process._c_library.cache_clear()


def test_a_named_backend_is_believed_without_starting_it(monkeypatch):
    for named, expected in (("cpu", "cpu"), ("cuda,cpu", "cuda"), ("", "cpu"), (None, "cpu")):
        with monkeypatch.context() as patch:
            patch.setattr(type(jax.config), "jax_platforms", named, raising=False)
            patch.setattr(process.importlib.util, "find_spec", lambda name: None)
            assert process._expected_backend() == expected
    monkeypatch.setattr(type(jax.config), "jax_platforms", None, raising=False)
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: name == "jax_plugins" or None)
    assert process._expected_backend() == "unknown"


def test_an_option_that_xla_does_not_know_falls_away(monkeypatch):
    monkeypatch.delenv(process.VARIABLE, raising=False)
    known = process.compiler_options(is_training=True, largest_kernel=100)
    assert set(known) <= {process._OPTION}
    doubled = jax.jit(lambda x: x + x, compiler_options=known or None)
    np.testing.assert_array_equal(doubled(np.arange(3)), [0, 2, 4])
    monkeypatch.setattr(process, "_OPTION", "xla_cpu_option_of_tomorrow")
    assert process.compiler_options(is_training=True, largest_kernel=100) == {}


FAULTS = """
import json, resource, sys
import numpy as np, tally
model = tally.Sequential([tally.Input((8,)), tally.layers.Dense(8192, activation="relu"), tally.layers.Dense(1)])
model.compile("sgd", "mse")
x, y = np.ones((2560, 8), "float32"), np.ones((2560, 1), "float32")
found = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    model.train_on_batch(x, y)
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps(found))
"""


@pytest.mark.skipif(not GLIBC, reason="only the GNU C library is told anything")
def test_a_step_asks_the_system_for_no_memory_anew():
    """Two arrays of 84 MB, 20,480 pages each, come and go; left alone, all are asked for anew at every step.

    A few of the first steps still do, until free memory lies so that all arrays fit in.
    """
    settings = {name: value for name, value in os.environ.items() if name != process.VARIABLE}
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=settings
    )
    assert min(json.loads(ran.stdout)) < 2048
