"""Who takes part: for each contestant its name, what it runs, and how its process is started."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from benchmarks.race.gate import Gate
from benchmarks.race.weights import Weights
from benchmarks.race.workloads import Data, Workload


class Racer(Protocol):
    """A model in one framework, with its weights loaded and nothing compiled yet."""

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What the model predicts for one batch."""
        ...

    def first_step(self) -> None:
        """One step on the first batch, compilation included."""
        ...

    def train(self, gate: Gate) -> None:
        """Epochs as long as the gate opens."""
        ...

    def predict(self, gate: Gate) -> None:
        """The whole data, batch by batch and back in numpy, as long as the gate opens."""
        ...


Make = Callable[[Workload, Data, Weights], Racer]


class Unavailable(Exception):
    """A contestant can't take part on this machine; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One framework, used in one way.

    Args:
        name: The word on the command line.
        title: Its name in tables.
        runs: What its training and prediction are made of, in a sentence.
        load: Imports the framework and gives what makes a `Racer`; called in the contestant's own process.
        environment: Variables its process is started with.
    """

    name: str
    title: str
    runs: str
    load: Callable[[], Make]
    environment: Mapping[str, str] = field(default_factory=dict)


def parse(words: str) -> Contestant:
    """The contestant a word on the command line means: a name, or `name@VARIABLE=VALUE,...` for it with a setting.

    Args:
        words: For example `tally` or `tally@XLA_FLAGS=--xla_cpu_use_thunk_runtime=false`.

    Raises:
        KeyError: There is no such contestant.
    """
    name, _, settings = words.partition("@")
    one = CONTESTANTS[name]
    if not settings:
        return one
    extra = dict(setting.split("=", 1) for setting in settings.split(","))
    return Contestant(
        name=words,
        title=f"{one.title} ({settings})",
        runs=one.runs,
        load=one.load,
        environment={**one.environment, **extra},
    )


def _load_tally() -> Make:
    import tally
    from benchmarks.race.contestants import with_fit

    return partial(with_fit.Racer, tally)


def _load_keras() -> Make:
    import keras

    from benchmarks.race.contestants import with_fit

    return partial(with_fit.Racer, keras)


def _load_jax() -> Make:
    from benchmarks.race.contestants import with_jax

    return with_jax.Racer


def _load_flax() -> Make:
    from benchmarks.race.contestants import with_flax

    return with_flax.Racer


def _load_equinox() -> Make:
    from benchmarks.race.contestants import with_equinox

    return with_equinox.Racer


def _load_torch() -> Make:
    from benchmarks.race.contestants import with_torch

    return with_torch.Racer


def _load_compiled_torch() -> Make:
    if not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        raise Unavailable("torch.compile needs a C++ compiler on the CPU, and there is none")
    from benchmarks.race.contestants import with_torch

    return partial(with_torch.Racer, compiled=True)


def _keras(backend: str, title: str, runs: str) -> Contestant:
    return Contestant(
        name=f"keras-{backend}",
        title=f"Keras on {title}",
        runs=f"`compile`, `fit` and `predict` of Keras 3 with `KERAS_BACKEND={backend}`{runs}",
        load=_load_keras,
        environment={"KERAS_BACKEND": backend},
    )


CONTESTANTS: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        Contestant(
            name="tally",
            title="tally",
            runs="`compile`, `fit` and `predict`; the same source as Keras's, another import",
            load=_load_tally,
        ),
        Contestant(
            name="jax",
            title="JAX and optax",
            runs="a function of a dict of weights, one donating `jax.jit` step",
            load=_load_jax,
        ),
        Contestant(
            name="flax",
            title="Flax NNX",
            runs="`nnx` modules and optimizer, an `nnx.jit` step bound by `nnx.cached_partial`",
            load=_load_flax,
        ),
        Contestant(
            name="equinox",
            title="Equinox",
            runs="modules for one example under `jax.vmap`, a donating `eqx.filter_jit` step",
            load=_load_equinox,
        ),
        _keras("jax", "JAX", ""),
        _keras("tensorflow", "TensorFlow", ""),
        _keras("torch", "PyTorch", ", which runs eagerly"),
        Contestant(
            name="torch",
            title="PyTorch",
            runs="eager mode, the usual loop over slices of a tensor, `channels_last` for images, fused Adam;"
            " prediction in `torch.inference_mode`",
            load=_load_torch,
        ),
        Contestant(
            name="torch-compile",
            title="torch.compile",
            runs="the same with the model given to `torch.compile`, which leaves `nn.LSTM` as it is",
            load=_load_compiled_torch,
        ),
    )
}
