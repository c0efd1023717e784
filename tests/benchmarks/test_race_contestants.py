"""Every contestant computes the same from the same weights, and learns the same from the same batches."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.race import contestants
from benchmarks.race.contestants import Contestant, Racer, with_fit, with_jax
from benchmarks.race.workloads import WORKLOADS, Workload

import tally

every = pytest.mark.parametrize("name", WORKLOADS)


class Turnstile:
    """A gate that opens a number of times."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.losses, self.begun = epochs, [], 0

    def wait(self) -> bool:
        self.epochs -= 1
        return self.epochs >= 0

    def begin(self) -> None:
        self.begun += 1

    def end(self, loss: float | None = None) -> None:
        self.losses.append(loss)


def _small(name: str) -> Workload:
    return replace(WORKLOADS[name], batch=4, steps=2)


def _run(make: contestants.Make, workload: Workload) -> tuple[np.ndarray, list[float]]:
    """First outputs, and the loss of two epochs after one step."""
    data = workload.data()
    racer: Racer = make(workload, data, workload.weights())
    outputs = racer.outputs(data[0][: workload.batch])
    racer.first_step()
    training, predicting = Turnstile(2), Turnstile(1)
    racer.train(training)
    racer.predict(predicting)
    assert (training.begun, len(training.losses)) == (2, 2)
    assert (predicting.begun, predicting.losses) == (1, [None])
    return outputs, training.losses


def _tally(workload: Workload, data: object, weights: dict[str, np.ndarray]) -> Racer:
    return with_fit.Racer(tally, workload, data, weights)


def _keras(workload: Workload, data: object, weights: dict[str, np.ndarray]) -> Racer:
    import keras

    return with_fit.Racer(keras, workload, data, weights)


def _assert_alike(name: str, *makes: contestants.Make) -> None:
    workload = _small(name)
    (outputs, losses), *others = [_run(make, workload) for make in makes]
    for its_outputs, its_losses in others:
        np.testing.assert_allclose(its_outputs, outputs, atol=2e-5)
        if name != "mnist":  # dropout is drawn by each in its own way
            np.testing.assert_allclose(its_losses, losses, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("name", ["mlp", "tiny"])
def test_tally_jax_and_keras_learn_the_same(name: str) -> None:
    _assert_alike(name, _tally, with_jax.Racer, _keras)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "cifar", "separable", "mobilenet", "transformer", "lstm"])
def test_tally_jax_and_keras_learn_the_same_from_images_and_sequences(name: str) -> None:
    _assert_alike(name, _tally, with_jax.Racer, _keras)


@pytest.mark.slow
@every
def test_equinox_learns_the_same(name: str) -> None:
    with_equinox = pytest.importorskip("benchmarks.race.contestants.with_equinox", exc_type=ImportError)
    _assert_alike(name, with_jax.Racer, with_equinox.Racer)


@pytest.mark.slow
@every
def test_flax_learns_the_same(name: str) -> None:
    with_flax = pytest.importorskip("benchmarks.race.contestants.with_flax", exc_type=ImportError)
    _assert_alike(name, with_jax.Racer, with_flax.Racer)


@pytest.mark.slow
@every
def test_torch_learns_the_same(name: str) -> None:
    with_torch = pytest.importorskip("benchmarks.race.contestants.with_torch", exc_type=ImportError)
    _assert_alike(name, with_jax.Racer, with_torch.Racer)


def test_a_contestant_with_settings_keeps_its_own_and_adds_them() -> None:
    one = contestants.parse("keras-jax@XLA_FLAGS=--a=1,OTHER=2")
    assert one.environment == {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--a=1", "OTHER": "2"}
    assert one.title == "Keras on JAX (XLA_FLAGS=--a=1,OTHER=2)"
    assert one.load is contestants.CONTESTANTS["keras-jax"].load


def test_torch_compile_without_a_compiler_says_so(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(contestants.Unavailable, match=r"needs a C\+\+ compiler"):
        contestants.CONTESTANTS["torch-compile"].load()


def test_asking_for_contestants_imports_no_framework() -> None:
    code = (
        "import sys; import benchmarks.race.driver, benchmarks.report;"
        "print({'jax', 'tally', 'keras', 'torch', 'flax', 'equinox', 'tensorflow'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def test_every_contestant_says_what_it_runs() -> None:
    for name, contestant in contestants.CONTESTANTS.items():
        assert isinstance(contestant, Contestant)
        assert contestant.name == name
        assert contestant.title
        assert not contestant.runs.endswith(".")
