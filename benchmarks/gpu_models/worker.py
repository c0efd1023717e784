"""The process of one contestant: gets ready, then trains a pass whenever a line says so, and answers in JSON.

Run as `python -m benchmarks.gpu_models.worker CONTESTANT TASK SCALE`. It reads `run` and `end`, one a line.
"""

import importlib
import importlib.util
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu_models.running import Contestant, LeftOut
from benchmarks.gpu_models.sizes import Task, make_data, tasks


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant of the table.

    Attributes:
        title: What the table calls it.
        needs: The packages it can't do without.
        made_by: Module and function that make it ready.
        grouped: Whether it takes several steps an execution, on the tasks that ask for that.
    """

    title: str
    needs: tuple[str, ...]
    made_by: str
    grouped: bool = False


ENTRIES = {
    "tally": Entry("tally fit", ("jax",), "fits:by_tally"),
    "jax": Entry("JAX by hand", ("jax", "optax"), "loops:by_jax"),
    "tally-grouped": Entry("tally fit, grouped", ("jax",), "fits:by_tally", True),
    "jax-grouped": Entry("JAX by hand, grouped", ("jax", "optax"), "loops:by_jax", True),
    "torch-compile": Entry("torch.compile", ("torch",), "by_torch:compiled"),
    "keras-jax": Entry("Keras on JAX", ("keras", "jax"), "fits:by_keras_on_jax"),
    "flax": Entry("Flax NNX", ("flax", "optax"), "loops:by_flax"),
    "torch": Entry("PyTorch eager", ("torch",), "by_torch:eagerly"),
    "keras-tensorflow": Entry("Keras on TensorFlow", ("keras", "tensorflow"), "fits:by_keras_on_tensorflow"),
    "keras-torch": Entry("Keras on PyTorch", ("keras", "torch"), "fits:by_keras_on_torch"),
    "keras-jax-grouped": Entry("Keras on JAX, grouped", ("keras", "jax"), "fits:by_keras_on_jax", True),
    "keras-tensorflow-grouped": Entry(
        "Keras on TensorFlow, grouped", ("keras", "tensorflow"), "fits:by_keras_on_tensorflow", True
    ),
}
"""Name for `--only` -> contestant, those first that matter most."""


def takes_part(entry: Entry, task: Task) -> bool:
    """Whether a contestant has a row for a task."""
    return not entry.grouped or task.group > 1


def prepare(name: str, task: Task, *, dry: bool) -> Contestant:
    """A contestant that is ready to train.

    Raises:
        LeftOut: It can't take part here.
    """
    entry = ENTRIES[name]
    for package in entry.needs:
        if importlib.util.find_spec(package) is None:
            raise LeftOut(f"{package} is not installed")
    module, function = entry.made_by.split(":")
    make = getattr(importlib.import_module(f"benchmarks.gpu_models.{module}"), function)
    return make(task, make_data(task), dry=dry, group=task.group if entry.grouped else 1)


def serve(name: str, task: Task, *, dry: bool, answer: Any, orders: Any) -> None:
    """Get ready, warm up, then follow orders until there are no more.

    Args:
        name: Which contestant.
        task: What it trains.
        dry: Whether a CPU will do.
        answer: Called with each answer, which is plain data.
        orders: Lines.
    """
    try:
        began = time.perf_counter()
        contestant = prepare(name, task, dry=dry)
        prepared = time.perf_counter()
        contestant.train()
        first = time.perf_counter() - prepared
        began, losses = time.perf_counter(), [contestant.train()[1]]
        second = time.perf_counter() - began
    except LeftOut as reason:
        answer({"left_out": str(reason)})
        return
    except Exception as error:
        told = traceback.format_exception_only(error)[-1].strip()
        answer({"left_out": told[:300], "traceback": traceback.format_exc()[-4000:]})
        return
    ready = {"compile_seconds": max(first - second, 0.0), "versions": contestant.versions}
    answer({"ready": True, **ready, "notes": contestant.notes})
    for order in orders:
        if order.strip() != "run":
            break
        seconds, loss = contestant.train()
        losses.append(loss)
        answer({"seconds": seconds, "loss": loss, "peak_bytes": contestant.peak_memory()})


def main() -> None:
    """Answer on what was standard output; whatever else writes there goes to standard error."""
    name, task_name, scale = sys.argv[1:]
    task = next(task for task in tasks(scale) if task.name == task_name)
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    serve(
        name,
        task,
        dry=scale == "dry",
        answer=lambda told: print(json.dumps(told), file=pipe),
        orders=sys.stdin,
    )


if __name__ == "__main__":
    main()
