"""The GPU benchmark without a GPU: its sizes, its arithmetic, its table, and dry runs of the same code on the CPU."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import tally

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_models import peaks, process, results, sizes, worker  # noqa: E402
from benchmarks.gpu_models.running import Contestant, LeftOut  # noqa: E402

from benchmarks import gpu  # noqa: E402 - found by the line above

DRY = {task.name: task for task in sizes.tasks("dry")}
FULL = {task.name: task for task in sizes.tasks()}


@pytest.mark.parametrize("name", DRY)
def test_the_closed_form_counts_what_tally_counts(name: str) -> None:
    from benchmarks.gpu_models import layered

    task = DRY[name]
    model = layered.build(tally, task)
    planned = tally.plan(model, batch_size=2, training=False, print_fn=lambda text: None)
    assert planned.multiply_adds == task.model.multiply_adds()


def test_full_sizes_are_those_of_the_papers() -> None:
    millions = {name: round(task.model.multiply_adds() / 1e6) for name, task in FULL.items()}
    assert (millions["resnet50"], millions["vit"]) == (4089, 17564)
    assert FULL["gpt"].units == 16 * 1024
    assert FULL["resnet50"].flops == 6 * 256 * FULL["resnet50"].model.multiply_adds()


@pytest.mark.parametrize("name", ["mnist", "gpt"])
def test_hand_written_jax_has_as_many_weights_as_the_layers(name: str) -> None:
    from benchmarks.gpu_models import by_jax, layered

    task = DRY[name]
    model = layered.build(tally, task)
    weights, _ = by_jax.MODELS[type(task.model)][0](task.model)
    shapes = sorted(weight.shape for weight in weights.values())
    assert shapes == sorted(variable.shape for variable in model.trainable_variables)


def test_data_are_the_same_each_time_and_fit_the_task() -> None:
    for task in DRY.values():
        (x, y), (again, _) = sizes.make_data(task), sizes.make_data(task)
        np.testing.assert_array_equal(x, again)
        assert len(x) == len(y) == task.batch * task.steps
        assert y.max() < (task.model.words if task.unit == "tokens" else task.model.classes)
        assert x.dtype == ("int32" if task.unit == "tokens" else "uint8")


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("Tesla T4", None),
    ],
)
def test_a_device_s_peak_is_known_by_its_name_or_not_at_all(device: str, peak: float | None) -> None:
    assert peaks.peak_flops(device, "bfloat16") == (peak and pytest.approx(peak * 1e12))
    assert peaks.peak_flops(device, "float64") is None


def test_what_nvidia_smi_says_is_read() -> None:
    line = "NVIDIA H200, 580.65, 143771, 143000, 345, 1980, 3201, 700.00, 31, [N/A], 0\n"
    told = peaks.read_gpu(line)
    assert told is not None
    assert (told["name"], told["memory.total"], told["clocks.max.sm"]) == (
        "NVIDIA H200",
        143771 * 2**20,
        1980,
    )
    assert told["mig.mode.current"] is None
    assert peaks.read_gpu("no devices were found") is None


def _row(name: str = "jax", **fields: Any) -> results.Row:
    return results.Row("gpt", name, worker.ENTRIES[name].title, **fields)


def test_figures_follow_from_the_rounds() -> None:
    task = FULL["gpt"]
    row = _row(seconds=[2.0, 1.0, 4.0], beside=[1.0, 1.0, 2.0], losses=[3.0])
    found = results.compute(row, task, "NVIDIA H200")
    assert found is not None
    assert found.step_seconds == 2.0 / task.steps
    assert found.per_second == 16 * 1024 / found.step_seconds
    assert found.utilisation == pytest.approx(task.flops / found.step_seconds / 989.4e12)
    assert found.ratio == (2.0, 1.0, 2.0)
    assert results.compute(_row(), task, "NVIDIA H200") is None


def test_the_table_has_a_line_for_each_and_says_who_was_left_out() -> None:
    rows = [
        _row("tally", seconds=[1.0], losses=[3.5], peak_bytes=12_340_000_000, compile_seconds=30.25),
        _row(seconds=[1.1], beside=[1.0], in_turns=True, losses=[3.25]),
        _row("keras-jax", left_out="keras is not installed"),
    ]
    drawn = results.draw(rows, [FULL["gpt"]], "NVIDIA H200").splitlines()
    assert (
        drawn[1].split()
        == ("GPT-2 124M tally fit 327,680 tokens 50.000 " + drawn[1].split()[7] + " 12.34 30.2 3.500").split()
    )
    assert "1.100x" in drawn[2]
    assert drawn[3:] == ["", "Left out:", "  GPT-2 124M, Keras on JAX: left out: keras is not installed"]
    assert "unknown" in results.draw(rows, [FULL["gpt"]], "Tesla T4")


def test_a_worker_warms_up_twice_answers_each_order_and_stops() -> None:
    passes, told = [], []

    def train() -> tuple[float, float]:
        passes.append(1)
        return 0.5, 2.0

    made = Contestant(train, lambda: 7, {"jax": "1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "prepare", lambda name, task, dry: made)
        worker.serve(
            "jax", DRY["gpt"], dry=True, answer=told.append, orders=iter(["run\n", "run\n", "end\n", "run\n"])
        )
    assert len(passes) == 4
    assert told[0]["ready"] is True
    assert told[1:] == [{"seconds": 0.5, "loss": 2.0, "peak_bytes": 7}] * 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [(LeftOut("JAX sees no GPU"), "JAX sees no GPU"), (ValueError("too large"), "ValueError: too large")],
)
def test_who_can_not_take_part_says_why(error: Exception, reason: str) -> None:
    def refuse(name: str, task: Any, dry: bool) -> Any:
        raise error

    told: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "prepare", refuse)
        worker.serve("jax", DRY["gpt"], dry=True, answer=told.append, orders=iter(()))
    assert [answer["left_out"] for answer in told] == [reason]


def test_a_package_that_is_missing_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.importlib.util, "find_spec", lambda name: None if name == "flax" else name)
    with pytest.raises(LeftOut, match="flax is not installed"):
        worker.prepare("flax", DRY["gpt"], dry=True)


class _Stand:
    """A contestant's process that computes nothing: what a pass takes is given by name."""

    SECONDS: ClassVar[dict[str, float]] = {"tally": 1.0, "jax": 0.5, "torch": 2.0}
    opened: ClassVar[list[str]] = []
    living: ClassVar[set[str]] = set()
    most = 0

    def __init__(self, name: str, task: str, scale: str, deadline: float) -> None:
        self.name = name
        self.opened.append(name)
        self.living.add(name)
        type(self).most = max(self.most, len(self.living))

    def answer(self) -> dict[str, Any]:
        if self.name == "torch" and len(self.living) > 1:
            return {"left_out": "RESOURCE_EXHAUSTED: out of memory"}
        return {"ready": True, "compile_seconds": 1.0, "versions": {self.name: "1"}, "notes": []}

    def run(self) -> dict[str, Any]:
        return {"seconds": self.SECONDS[self.name], "loss": 1.0, "peak_bytes": None}

    def close(self) -> None:
        self.living.discard(self.name)


def test_contestants_run_in_turns_with_tally_until_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "Process", _Stand)
    monkeypatch.setattr(_Stand, "opened", [])
    run = gpu.Benchmark("dry", ["tally", "jax", "torch"], [DRY["gpt"]], 1.0, tmp_path / "found.json")
    run.run()
    ours, by_hand, torch = run.rows
    assert _Stand.opened == ["tally", "jax", "torch", "torch"]
    assert (_Stand.most, _Stand.living) == (2, set())
    assert (by_hand.in_turns, by_hand.beside) == (True, [1.0, 1.0])
    assert (torch.in_turns, torch.beside, torch.left_out) == (False, [1.0, 1.0], None)
    assert len(ours.seconds) == 4
    kept = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [row["figures"]["ratio"][0] for row in kept["rows"][1:]] == [0.5, 2.0]
    assert kept["machine"]["cores"] > 0
    assert "2.000x*" in run.draw()
    capsys.readouterr()


def test_a_process_that_dies_is_left_out_with_its_last_words() -> None:
    dead = process.Process("tally", "no such task", "dry", time.monotonic() + 60)
    try:
        assert dead.answer() == {"left_out": "its process ended with 1: StopIteration"}
        assert dead.run() == {"left_out": "its process ended with 1: StopIteration"}
    finally:
        dead.close()


def test_a_process_that_is_late_is_left_out() -> None:
    late = process.Process("tally", "gpt", "dry", time.monotonic())
    try:
        assert late.answer() == {"left_out": "the time was up"}
    finally:
        late.close()


def test_without_a_gpu_only_a_dry_run_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "describe_gpu", lambda: None)
    assert gpu.main([]) == 1
    assert "--dry" in capsys.readouterr().out


def test_names_that_are_not_known_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--dry", "--models", "bert"])
    assert "bert is none of mnist, gpt, vit, resnet50" in capsys.readouterr().err


def _dry(file: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--dry", "--json", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text(encoding="utf-8"))["rows"]


def _check(rows: list[dict[str, Any]], count: int) -> None:
    assert [row["left_out"] for row in rows] == [None] * count
    assert all(len(row["seconds"]) >= gpu.ROUNDS["dry"] and math.isfinite(row["losses"][-1]) for row in rows)


@pytest.mark.parametrize("name", ["tally", "jax", "tally-grouped", "jax-grouped"])
def test_a_worker_trains_on_the_cpu_in_a_dry_run(name: str) -> None:
    told: list[dict[str, Any]] = []
    worker.serve(name, DRY["mnist"], dry=True, answer=told.append, orders=iter(["run"]))
    ready, round_ = told
    assert ready["versions"]["jax"]
    assert round_["seconds"] > 0
    assert 1 < round_["loss"] < 3


def test_without_a_gpu_nothing_is_measured_on_the_cpu() -> None:
    told: list[dict[str, Any]] = []
    worker.serve("jax", DRY["mnist"], dry=False, answer=told.append, orders=iter(()))
    assert told == [{"left_out": "JAX sees no GPU: it was installed without CUDA"}]


@pytest.mark.slow
def test_a_dry_run_trains_tally_beside_jax_in_processes_of_their_own(tmp_path: Path) -> None:
    tally_row, jax_row = rows = _dry(tmp_path / "found.json", "--models", "mnist", "--only", "tally,jax")
    _check(rows, 2)
    assert jax_row["in_turns"]
    assert jax_row["beside"] == tally_row["seconds"][-2:]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRY)
def test_a_dry_run_trains_every_contestant(name: str, tmp_path: Path) -> None:
    taking_part = [entry for entry in worker.ENTRIES.values() if worker.takes_part(entry, DRY[name])]
    _check(_dry(tmp_path / "found.json", "--models", name), len(taking_part))
