"""What the document of a plan looks like."""

from dataclasses import replace

import pytest

from tally.accounting.plan import Compiled, LayerPlan, Memory, Plan
from tally.report.plain import render
from tally.report.plan import draw

WHOLE = Plan(
    name="convnet",
    batch_size=64,
    training=True,
    followed=True,
    policy="mixed_bfloat16",
    device="gpu",
    count=34_826,
    parameters=139_312,
    gradients=139_304,
    optimizer=278_616,
    optimizer_name="AdamW",
    batch=200_704,
    step=Memory(activations=18_817_028, peak=19_499_716),
    rematerialised=Memory(activations=17_991_000, peak=18_690_000),
    prediction=Memory(activations=7_220_000, peak=7_560_000),
    multiply_adds=2_440_960,
    flops_forward=321_750_086,
    flops_backward=607_611_739,
    flops_update=557_271,
    transcendentals=35_484,
    moved=98_800_000,
    layers=(
        LayerPlan(path="", type="Sequential", multiply_adds=0, kept=4),
        LayerPlan(path="conv2d", type="Conv2D", parameters=320, multiply_adds=194_688, kept=11_075_584),
        LayerPlan(path="max_pooling2d", type="MaxPooling2D", multiply_adds=0, kept=1_384_448),
        LayerPlan(path="conv2d_1", type="Conv2D", parameters=18_496, multiply_adds=2_230_272, kept=3_964_928),
        *(
            LayerPlan(path=f"dense_{i}", type="Dense", multiply_adds=2_000 - i, kept=200 - i)
            for i in range(8)
        ),
    ),
    notes=("No loss is known: half the mean square of the outputs stands for it.",),
)


def test_a_plan_of_training(golden) -> None:
    golden("plan_training", render(draw(WHOLE)))


def test_a_plan_compared_with_the_compiler_and_a_run(golden) -> None:
    compiled = Compiled(peak=20_000_000, flops=929_918_080, flops_optimised=947_649_792, measured=25_000_000)
    found = replace(WHOLE, compiled=compiled, layers=())
    assert found.peak_error == pytest.approx(-0.025, abs=1e-3)
    golden("plan_compared", render(draw(found)))


@pytest.mark.parametrize(("largest", "name"), [(200, "fits"), (50, "too_large"), (0, "hopeless")])
def test_a_plan_for_a_memory(largest: int, name: str, golden) -> None:
    found = replace(
        WHOLE, layers=(), memory=16_000_000, largest_batch=largest, fixed=700_000, per_example=270_000
    )
    golden(f"plan_{name}", render(draw(found)))


def test_a_plan_of_prediction_from_a_ledger_alone(golden) -> None:
    found = Plan(
        name="stored",
        batch_size=1,
        training=False,
        followed=False,
        policy="as stored",
        device="any",
        count=1_000,
        parameters=4_000,
        prediction=Memory(activations=80, peak=4_080),
        layers=(
            LayerPlan(path="", type="Functional", outputs=40),
            LayerPlan(path="block", type="Block", outputs=40),
            LayerPlan(path="block/a", type="Dense", outputs=80),
            LayerPlan(path="block/b", type="Dense", outputs=40),
        ),
        notes=("No call could be followed.",),
    )
    golden("plan_ledger", render(draw(found)))


@pytest.mark.parametrize("width", [50, 72])
def test_no_line_of_a_narrow_plan_is_too_long(width: int) -> None:
    assert max(map(len, render(draw(WHOLE), width).splitlines())) <= max(width, 64)
