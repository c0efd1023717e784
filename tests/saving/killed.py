"""A program that saves two models in turn and is killed while it does, again and again; run by a test.

It is called with a folder, the name of a file, a seed and how often to kill. Before the first and after each kill the
file, or the files of a model in several, must be one of the two models, bit for bit. It prints how often it was which,
and how often a save was cut off.
"""

import json
import os
import random
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import tally

warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")  # a child computes nothing


def make(value: float) -> Any:
    """A compiled model all of whose numbers are one."""
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3), tally.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    model.materialize()
    return model


SIZES: dict[str, tuple[Any, Any]] = {
    "several.safetensors": (30, 50),
    "either.safetensors": (30, None),
    "model.weights.json": ("200B", "150B"),
}
"""The most bytes of a file, for each of the two models; None for all in one."""


MOST_LEFT = {"several.safetensors": 8, "either.safetensors": 8, "model.weights.json": 12}
"""Files that a killed save may leave: those of one set, and two that are unfinished."""


def save(model: Any, path: Path, size: Any = None) -> None:
    if path.suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path, **({} if size is None else {"max_shard_size": size}))


def belonging(path: Path) -> set[Path]:
    """The files that are the model."""
    index = path if path.suffix == ".json" else path.with_name(path.name + ".index.json")
    if path.exists() and path != index:
        return {path}
    placed = json.loads(index.read_text())["weight_map"].values()
    names = {name for one in placed for name in ([one] if isinstance(one, str) else one)}
    zero = [path.with_name("model_00000.weights.h5")] if path == index else []
    return {index, *zero, *(path.with_name(name) for name in names)}


def count_calls(action: Any) -> int:
    """How many calls of Python and C functions an action makes."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    action()
    sys.setprofile(None)
    return calls


def die_at(number: int) -> None:
    """Kill this process at a call."""
    left = number

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def save_and_die(models: list[Any], path: Path, sizes: Any, at: int | None) -> None:
    """In a child: save in turn until killed, at a call or by the parent."""
    if at is not None:
        die_at(at)
    while True:
        for model, size in zip(models, sizes, strict=True):
            save(model, path, size)


def content(model: Any) -> list[float]:
    return [float(value) for weight in model.get_weights() for value in weight.ravel()]


def main(folder: str, name: str, seed: int, kills: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path, chance = Path(folder) / name, random.Random(seed)
    models, reader = [make(1.0), make(2.0)], make(0.0)
    known = {tuple(content(model)): index for index, model in enumerate(models)}
    sizes = SIZES.get(name, (None, None))
    save(models[0], path, sizes[0])
    calls = count_calls(lambda: save(models[1], path, sizes[1]))
    found, cut_off = Counter[int](), 0
    for number in range(kills):
        at = chance.randrange(3 * calls) if number % 4 else None
        child = os.fork()
        if child == 0:
            try:
                save_and_die(models, path, sizes, at)
            finally:
                os._exit(1)
        if at is None:
            time.sleep(chance.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"a save failed by itself: {status}"
        reader.load_weights(path)
        found[known[tuple(content(reader))]] += 1
        left = set(path.parent.iterdir()) - belonging(path)
        assert len(left) <= MOST_LEFT.get(name, 1), f"unfinished files heap up: {left}"
        cut_off += bool(left)
    save(models[0], path, sizes[0])
    left = sorted(one.name for one in set(path.parent.iterdir()) - belonging(path))
    print(json.dumps({"first": found[0], "second": found[1], "cut off": cut_off, "left": left}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
