"""Attention takes cuDNN's kernel in programs for NVIDIA GPUs where it fits; programs are lowered here, and not run."""

import importlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from tally.kernels import attention

CHANCE = np.random.default_rng(0)
PLACES = CHANCE.normal(size=(2, 64, 32)).astype("float32")
CAUSAL = np.tril(np.ones((64, 64), bool))[None]


@pytest.fixture
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose JAX finds cuDNN, as far as tracing and lowering go."""
    try:
        module = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
    except ImportError:
        pytest.skip("this JAX has cuDNN's attention elsewhere")
    monkeypatch.setattr(module, "check_cudnn_version", lambda: 91100)
    monkeypatch.setattr(attention, "has_kernel", lambda: True)


def _layer(dtype: str = "mixed_bfloat16", size: int = 8, **options: Any) -> Any:
    layer = tally.layers.MultiHeadAttention(2, size, dtype=dtype, **options)
    layer(PLACES, PLACES)
    return layer


def _gradient(layer: Any, x: Any, **call: Any) -> Any:
    """A function of weights: the gradient of the mean square of what the layer gives."""

    def objective(weights: list[Any]) -> Any:
        outputs, _ = layer.stateless_call(
            weights, [v.value for v in layer.non_trainable_variables], x, x, **call
        )
        return jnp.mean(jnp.square(outputs.astype("float32")))

    return jax.grad(objective)


def _lowered(layer: Any, platform: str, x: Any = PLACES, **call: Any) -> str:
    weights = [v.value for v in layer.trainable_variables]
    traced = jax.jit(_gradient(layer, x, **call)).trace(weights)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def _kernels(program: str) -> list[str]:
    return re.findall(r"custom_call @__cudnn\$(\w+)", program)


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("causal", [False, True])
def test_a_program_for_cuda_has_the_kernel_both_ways_and_no_scores(causal: bool) -> None:
    program = _lowered(_layer(), "cuda", use_causal_mask=causal)
    assert _kernels(program) == ["fmhaSoftmax", "fmhaSoftmaxBackward"]
    assert program.count("mask_type\\22: \\22CAUSAL") == 2 * causal
    assert "exponential" not in program
    assert not re.search(r"dot_general.*-> tensor<(\d+x)*64x64x", program)


@pytest.mark.usefixtures("_kernel")
def test_the_same_step_lowered_for_a_cpu_has_no_kernel() -> None:
    program = _lowered(_layer(), "cpu")
    assert not _kernels(program)
    assert program.count("stablehlo.exponential") == 1


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize(
    ("options", "x", "call"),
    [
        ({"dtype": "float32"}, PLACES, {}),
        ({"size": 12}, PLACES, {}),
        ({"size": 136}, PLACES, {}),
        ({"flash_attention": False}, PLACES, {}),
        ({"sliding_window": 8}, PLACES, {}),
        ({"value_dim": 16}, PLACES, {}),
        ({}, PLACES[:, :32], {}),
        ({}, PLACES, {"attention_mask": CAUSAL}),
    ],
    ids=["float32", "size 12", "size 136", "refused", "window", "values of another size", "short", "mask"],
)
def test_where_the_kernel_does_not_fit_scores_are_computed(
    options: dict[str, Any], x: np.ndarray, call: dict[str, Any]
) -> None:
    program = _lowered(_layer(**options), "cuda", x, **call)
    assert not _kernels(program)
    assert "stablehlo.exponential" in program


@pytest.mark.usefixtures("_kernel")
def test_dropped_scores_are_computed_in_training_alone() -> None:
    layer = _layer(dropout=0.1)
    assert not _kernels(_lowered(layer, "cuda", training=True))
    assert _kernels(_lowered(layer, "cuda", training=False)) == ["fmhaSoftmax", "fmhaSoftmaxBackward"]


@pytest.mark.usefixtures("_kernel")
def test_a_choice_of_kernels_changes_no_bit_where_there_is_none() -> None:
    layer = _layer()
    weights = [v.value for v in layer.trainable_variables]
    chosen = jax.jit(_gradient(layer, PLACES, use_causal_mask=True))(weights)
    layer.flash_attention = False
    plain = jax.jit(_gradient(layer, PLACES, use_causal_mask=True))(weights)
    for one, other in zip(chosen, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_causal_mask_by_name_is_the_mask_written_out() -> None:
    layer = _layer("float32")
    weights = [v.value for v in layer.trainable_variables]
    assert_close(layer(PLACES, PLACES, use_causal_mask=True), layer(PLACES, PLACES, attention_mask=CAUSAL))
    named, written = (
        _gradient(layer, PLACES, **call)(weights)
        for call in ({"use_causal_mask": True}, {"attention_mask": CAUSAL})
    )
    for one, other in zip(named, written, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_with_scores_to_drop_prediction_is_that_by_scores() -> None:
    layer = _layer("float32", dropout=0.5)
    by_scores, _ = layer(PLACES, PLACES, return_attention_scores=True, use_causal_mask=True)
    assert_close(layer(PLACES, PLACES, use_causal_mask=True), by_scores)


@pytest.mark.usefixtures("_kernel")
def test_a_plan_counts_what_is_computed_with_or_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    x = tally.Input((64, 32))
    model = tally.Model(x, _layer()(x, x, use_causal_mask=True))
    with_kernel = tally.plan(model, batch_size=2, device="gpu", print_fn=lambda text: None)
    monkeypatch.setattr(attention, "has_kernel", lambda: False)
    without = tally.plan(model, batch_size=2, device="gpu", print_fn=lambda text: None)
    assert with_kernel == without
    assert without.multiply_adds == 4 * 64 * 32 * 16 + 2 * 64 * 64 * 16
