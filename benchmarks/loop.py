"""Prints what a training loop costs beside the work itself, for models so small that little else is left to measure.

`python -m benchmarks.loop` trains a model, and then deeper ones, with tally's `fit`, with tally's compiled step alone
(the same arrays in every step, nothing around it), with a loop written by hand in JAX and optax, and with Keras. Each
library runs in a process of its own; they take turns, and what is printed is the least of all rounds: microseconds per
step, of wall time and of CPU time of all threads. An epoch is measured from its beginning to its end, the second of
each `fit`, so that neither compiling nor preparing counts.

Then the same for `predict`, from the call to its arrays: beside tally's compiled call for one batch alone, a loop over
a jitted function, and Keras. tally's own time is less than nothing where many small batches share a call.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine

ROOT = Path(__file__).parent.parent
ROUNDS = 5
FEATURES, BATCH = 4, 32
Case = dict[str, Any]
"""What is run: `how`, with so many `layers` of `units`, so many batches in an execution (`size`), a `bar` or none."""
WORKERS = {
    "tally": ("fit", "compiled step", "by hand"),
    "keras-jax": ("fit",),
    "keras-tensorflow": ("fit",),
}
PREDICTING = {
    "tally": ("predict", "compiled call", "loop by hand"),
    "keras-jax": ("predict",),
    "keras-tensorflow": ("predict",),
}

MINE, BOTH, ALL = ("tally",), ("tally", "keras-jax"), tuple(WORKERS)
PLAN = (
    (1, 8, 1, False, 512, ALL),
    (1, 8, 1, True, 512, ALL),
    (1, 8, 32, False, 512, ALL),
    (5, 8, 1, False, 256, BOTH),
    (50, 8, 1, False, 128, BOTH),
    (50, 8, 32, False, 128, MINE),
    (500, 8, 1, False, 16, MINE),
    (4, 2000, 1, False, 6, BOTH),
)
"""Layers of the model, their units, batches of an execution, whether a bar is shown, steps of a round, and who takes
part: compiling the deepest for everybody would take most of the time."""
PREDICTIONS = ((1, 8, 512, ALL), (1, 8, 4, MINE), (5, 8, 256, BOTH), (50, 8, 128, MINE), (4, 1000, 16, BOTH))
"""Layers of the model, their units, batches of a prediction, and who takes part."""


class Terminal(io.TextIOBase):
    """Takes what is printed and says that it is a terminal, so that progress is drawn as for a user."""

    def isatty(self) -> bool:
        """It is one."""
        return True

    def write(self, text: str) -> int:
        """Forget the text."""
        return len(text)


def data(steps: int, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples and targets for so many steps."""
    random = np.random.default_rng(0)
    shapes = ((steps * BATCH, FEATURES), (steps * BATCH, units))
    x, y = (random.normal(size=shape).astype("float32") for shape in shapes)
    return x, y


# -- who takes part ----------------------------------------------------------------------------------------------------
def model_of(library: Any, case: Case) -> Any:
    """A chain of dense layers under Adam with one metric, as the library's guide writes it."""
    dense = [library.layers.Dense(case["units"]) for _ in range(case["layers"])]
    model = library.Sequential([library.Input((FEATURES,)), *dense])
    model.compile("adam", "mse", metrics=["mae"], steps_per_execution=case["size"])
    return model


def fitting(library: Any, case: Case) -> Callable[[int], tuple[float, float]]:
    """`fit` of tally or Keras."""
    model = model_of(library, case)
    times: dict[str, tuple[float, float]] = {}

    def note(when: str) -> Callable[..., None]:
        return lambda epoch, logs=None: times.update({when: (time.perf_counter(), time.process_time())})

    watch = library.callbacks.LambdaCallback(on_epoch_begin=note("begin"), on_epoch_end=note("end"))

    def run(steps: int) -> tuple[float, float]:
        x, y = data(steps, case["units"])
        printed, sys.stdout = sys.stdout, Terminal()
        try:
            model.fit(x, y, batch_size=BATCH, epochs=2, verbose=int(case["bar"]), callbacks=[watch])
        finally:
            sys.stdout = printed
        (wall, cpu), (later, later_cpu) = times["begin"], times["end"]
        return later - wall, later_cpu - cpu

    return run


def stepping(library: Any, case: Case) -> Callable[[int], tuple[float, float]]:
    """The step that tally compiles, in a bare loop, on the same arrays each time."""
    import jax

    from tally.training.health import Interrupts
    from tally.training.loop import Training

    size, model = case["size"], model_of(library, case)
    x, y = data(size, case["units"])
    model.fit(x, y, batch_size=BATCH, verbose=0)
    training = Training(model._trainer, Interrupts())
    plan = training.begin()
    function = plan.steps.given(size)
    shape = (BATCH,) if size == 1 else (size, BATCH)
    batch = jax.tree.map(
        jax.numpy.array, (x.reshape(*shape, FEATURES), y.reshape(*shape, case["units"]), None)
    )
    assert training.loan is not None
    assert training.hold is not None
    values, fixed, seed = training.loan.values, training.hold.values, training.seed
    held = [values, training.record]

    def loop(steps: int) -> None:
        values, record = held
        for _ in range(0, steps, size):
            values, _, record, _ = function(values, fixed, record, seed, batch)
        held[:] = jax.block_until_ready((values, record))

    return timed(loop)


def by_hand(library: Any, case: Case) -> Callable[[int], tuple[float, float]]:
    """A loop in JAX and optax as their guides write it, on slices of NumPy arrays."""
    del library
    import jax
    import jax.numpy as jnp
    import optax

    size, optimizer = case["size"], optax.adam(1e-3)
    keys = jax.random.split(jax.random.key(0), case["layers"])
    widths = [FEATURES, *[case["units"]] * case["layers"]]
    scales = [(6 / (widths[i] + widths[i + 1])) ** 0.5 for i in range(case["layers"])]
    weights = [
        {"kernel": scale * jax.random.uniform(key, shape, minval=-1.0), "bias": jnp.zeros(shape[1])}
        for key, scale, shape in zip(keys, scales, pairwise(widths), strict=True)
    ]

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        for layer in weights:
            x = x @ layer["kernel"] + layer["bias"]
        return jnp.mean((x - y) ** 2), jnp.mean(jnp.abs(x - y))

    def step(carry: Any, batch: Any) -> Any:
        weights, state, sums = carry
        (loss, error), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, *batch)
        updates, state = optimizer.update(gradients, state, weights)
        return (optax.apply_updates(weights, updates), state, (sums[0] + loss, sums[1] + error)), None

    def several(carry: Any, batch: Any) -> Any:
        return jax.lax.scan(step, carry, batch) if size > 1 else step(carry, batch)

    compiled = jax.jit(several, donate_argnums=0)
    held = [(weights, optimizer.init(weights), (jnp.zeros(()), jnp.zeros(())))]
    shape = (BATCH,) if size == 1 else (size, BATCH)

    def loop(steps: int) -> None:
        x, y = examples(made, case, steps)
        carry = held[0]
        for start in range(0, steps * BATCH, size * BATCH):
            piece = slice(start, start + size * BATCH)
            carry, _ = compiled(
                carry, (x[piece].reshape(*shape, FEATURES), y[piece].reshape(*shape, case["units"]))
            )
        held[0] = jax.block_until_ready(carry)

    made: dict[int, Any] = {}
    return timed(loop, before=lambda steps: examples(made, case, steps))


def predicting(library: Any, case: Case) -> Callable[[int], tuple[float, float]]:
    """`predict` of tally or Keras."""
    model, made = model_of(library, case), dict[int, Any]()

    def loop(steps: int) -> None:
        model.predict(examples(made, case, steps)[0], batch_size=BATCH, verbose=0)

    return timed(loop, before=lambda steps: examples(made, case, steps))


def calling(library: Any, case: Case) -> Callable[[int], tuple[float, float]]:
    """The call that tally compiles for a batch to be predicted, in a bare loop, on the same array each time."""
    import jax

    from tally.core.variable import stored

    x, _ = data(1, case["units"])
    plan = model_of(library, case)._trainer.plan("predict", (x, None, None))
    function, values = plan.steps.given(), stored(plan.state.model)
    batch, number = (jax.numpy.array(x), None, None), jax.numpy.int32(0)

    def loop(steps: int) -> None:
        made = None
        for _ in range(steps):
            _, _, made = function([], values, number, number, batch)
        jax.block_until_ready(made)

    return timed(loop)


def predicting_by_hand(library: Any, case: Case) -> Callable[[int], tuple[float, float]]:
    """A loop over slices of an array, through a jitted function and back to NumPy at the end."""
    del library
    import jax

    widths, made = [FEATURES, *[case["units"]] * case["layers"]], dict[int, Any]()
    weights = [(jax.numpy.ones(pair) / pair[0], jax.numpy.zeros(pair[1])) for pair in pairwise(widths)]

    @jax.jit
    def answer(weights: Any, x: Any) -> Any:
        for kernel, bias in weights:
            x = x @ kernel + bias
        return x

    def loop(steps: int) -> None:
        x, _ = examples(made, case, steps)
        outputs = [answer(weights, x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
        np.concatenate(jax.device_get(outputs))

    return timed(loop, before=lambda steps: examples(made, case, steps))


def examples(made: dict[int, Any], case: Case, steps: int) -> Any:
    """Examples and targets for so many steps, made once."""
    if steps not in made:
        made[steps] = data(steps, case["units"])
    return made[steps]


def timed(
    loop: Callable[[int], None], before: Callable[[int], Any] = lambda steps: None
) -> Callable[[int], tuple[float, float]]:
    """A loop that tells its seconds, and its CPU seconds."""

    def run(steps: int) -> tuple[float, float]:
        before(steps)
        wall, cpu = time.perf_counter(), time.process_time()
        loop(steps)
        return time.perf_counter() - wall, time.process_time() - cpu

    return run


MAKERS = {
    "fit": fitting,
    "compiled step": stepping,
    "by hand": by_hand,
    "predict": predicting,
    "compiled call": calling,
    "loop by hand": predicting_by_hand,
}
TITLES = {
    "compiled step": "compiled step (tally)",
    "by hand": "by hand (JAX)",
    "compiled call": "compiled call (tally)",
    "loop by hand": "by hand (JAX)",
}
"""How it is run -> what it is called in tables, where that is not the library's name."""


def work(name: str) -> None:
    """Be a worker: read cases from standard input, a line each, and write their times."""
    answers = sys.stdout
    sys.stdout = sys.stderr
    if name == "tally":
        import tally as library
    else:
        import keras as library
    made: dict[str, Any] = {}
    for line in sys.stdin:
        case = json.loads(line)
        key = json.dumps(case["what"], sort_keys=True)
        if key not in made:
            made[key] = MAKERS[case["what"]["how"]](library, case["what"])
            made[key](case["steps"])
        print(json.dumps(made[key](case["steps"])), file=answers, flush=True)


class Worker:
    """A process that runs cases of one library.

    Args:
        name: One of `WORKERS`.
    """

    def __init__(self, name: str) -> None:
        backend = name.removeprefix("keras-")
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.loop", "--worker", name],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, what: Case, steps: int) -> tuple[float, float]:
        """Microseconds per step, of wall time and of CPU time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"what": what, "steps": steps}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"A worker broke off at {what}; run it alone to see why.")
        wall, cpu = json.loads(answer)
        return wall / steps * 1e6, cpu / steps * 1e6

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


# -- what is compared --------------------------------------------------------------------------------------------------
def cases() -> list[tuple[str, str, Case, int]]:
    """Group of rows, worker, case and steps of a round, for all there is to measure."""
    found = []
    for layers, units, size, bar, steps, names in PLAN:
        many = "a step" if size == 1 else f"{size} steps"
        shown = ", with a progress bar" * bar
        weights = (FEATURES + 1) * units + (layers - 1) * (units + 1) * units
        group = f"{2 * layers:,} variables, {weights:,} weights, {many} per execution{shown}"
        for worker in names:
            for how in WORKERS[worker]:
                if not bar or how == "fit":
                    what = {"how": how, "layers": layers, "units": units, "size": size, "bar": bar}
                    found.append((group, worker, what, steps))
    for layers, units, steps, names in PREDICTIONS:
        weights = (FEATURES + 1) * units + (layers - 1) * (units + 1) * units
        group = f"prediction of {steps:,} batches: {2 * layers:,} variables, {weights:,} weights"
        for worker in names:
            for how in PREDICTING[worker]:
                what = {"how": how, "layers": layers, "units": units, "size": 1, "bar": False}
                found.append((group, worker, what, steps))
    return found


def measure(rounds: int) -> list[dict[str, Any]]:
    """A record for each case, from interleaved rounds."""
    workers = {name: Worker(name) for name in WORKERS}
    todo = cases()
    best = [(float("inf"), float("inf"))] * len(todo)
    try:
        for _ in range(rounds):
            for index, (_, worker, what, steps) in enumerate(todo):
                wall, cpu = workers[worker].run(what, steps)
                best[index] = min(best[index][0], wall), min(best[index][1], cpu)
    finally:
        for worker in workers.values():
            worker.close()
    records = []
    for (group, worker, what, steps), (wall, cpu) in zip(todo, best, strict=True):
        name = TITLES.get(what["how"], worker)
        records.append(
            {
                "group": group,
                "contestant": name,
                "variables": 2 * what["layers"],
                "units": what["units"],
                "steps_per_execution": what["size"],
                "bar": what["bar"],
                "steps": steps,
                "wall_us": round(wall, 2),
                "cpu_us": round(cpu, 2),
            }
        )
    return [record | over(record, records) for record in records]


def over(record: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    """How much more a record's step takes than tally's compiled step alone, or its call that predicts a batch."""
    kind = "call" if record["group"].startswith("prediction") else "step"
    same = ["variables", "units", "steps_per_execution", *(["group"] if kind == "call" else [])]
    (bare,) = (
        one
        for one in records
        if one["contestant"] == f"compiled {kind} (tally)" and all(one[k] == record[k] for k in same)
    )
    return {f"over_{kind}": round(record[kind] - bare[kind], 2) for kind in ("wall_us", "cpu_us")}


def table(records: list[dict[str, Any]]) -> list[str]:
    """The lines of a table, a group of rows after the other."""
    lines, group = [], None
    for record in records:
        if record["group"] != group:
            group = record["group"]
            lines += ["", f"{group:<80}{'wall us':>10}{'over':>10}{'CPU us':>10}{'over':>10}"]
        figures = (record[key] for key in ("wall_us", "over_wall_us", "cpu_us", "over_cpu_us"))
        lines.append(f"  {record['contestant']:<78}" + "".join(f"{figure:>10,.1f}" for figure in figures))
    return lines


def main() -> None:
    """Measure, print a table, and keep the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="a file for the figures and the machine's facts")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    records = measure(options.rounds)
    print("\n".join(table(records)))
    if options.json:
        kept = {"machine": machine.describe(), "rounds": options.rounds, "records": records}
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
