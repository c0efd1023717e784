"""Which operations a formulation becomes on each platform."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from tally.kernels.activation import rectify
from tally.kernels.convolution import convolve
from tally.kernels.native import library
from tally.kernels.pooling import pool


def _depthwise(x, kernel):
    return convolve(x, kernel, strides=(1, 1), padding="same", dilation=(1, 1), groups=4).sum()


def _pointwise(x, kernel):
    return convolve(x, kernel, strides=(1, 1), padding="same", dilation=(1, 1)).sum()


def _dense(x, kernel):
    return convolve(rectify(2 * x + 1), kernel, strides=(1, 1), padding="same", dilation=(1, 1)).sum()


def _pooled(x, kernel):
    return (kernel.sum() * pool(x, "max", (1, 3, 3, 1), (1, 2, 2, 1), "same")).sum()


def _lowered(function, kernel, platform, dtype="float32"):
    """The operations of a function's gradient, lowered for a platform that need not be there."""
    arrays = jax.ShapeDtypeStruct((2, 8, 8, 4), dtype), jax.ShapeDtypeStruct(kernel, dtype)
    gradient = jax.jit(jax.value_and_grad(function, argnums=(0, 1)))
    return gradient.trace(*arrays).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_the_plain_operations(platform):
    depthwise = _lowered(_depthwise, (3, 3, 1, 4), platform)
    assert depthwise.count("stablehlo.convolution(") == 3  # forward, and both gradients
    assert "stablehlo.while" not in depthwise
    assert _lowered(_pointwise, (1, 1, 4, 5), platform).count("stablehlo.convolution(") == 3
    pooled = _lowered(_pooled, (1,), platform)
    assert "stablehlo.select_and_scatter" in pooled
    assert "stablehlo.reduce_window" in pooled


def test_a_cpu_gets_products_slices_and_matrix_products(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "0")  # what is computed in C otherwise, tests/kernels/test_native.py
    depthwise = _lowered(_depthwise, (3, 3, 1, 4), "cpu")
    assert "stablehlo.convolution" not in depthwise
    pointwise = _lowered(_pointwise, (1, 1, 4, 5), "cpu")
    assert "stablehlo.convolution" not in pointwise
    assert pointwise.count("stablehlo.dot_general") == 3
    pooled = _lowered(_pooled, (1,), "cpu")
    assert "select_and_scatter" not in pooled
    assert "scatter" not in pooled


def test_what_stands_before_a_rectifier_is_not_computed_again_for_the_gradient_of_a_kernel(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "0")
    arrays = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 5))
    program = jax.jit(jax.value_and_grad(_dense, argnums=(0, 1))).lower(*arrays).compile().as_text()
    (turning,) = [part for part in program.split("\n\n") if "f32[4,8,8,2]{3,2,1,0} copy(" in part]
    assert "multiply(" not in turning


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_nothing_is_decided_when_the_program_runs(platform):
    for function, kernel in ((_depthwise, (3, 3, 1, 4)), (_pooled, (1,))):
        assert "stablehlo.case" not in _lowered(function, kernel, platform)


def test_half_precision_keeps_the_plain_operations_which_add_up_in_float32():
    assert _lowered(_depthwise, (3, 3, 1, 4), "cpu", "bfloat16").count("stablehlo.convolution(") == 3


def test_pooling_alone_stays_one_operation_that_fuses_with_the_convolution_before_it():
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), "float32")
    text = jax.jit(lambda x: pool(x, "max", (1, 2, 2, 1), (1, 2, 2, 1), "valid")).lower(x).as_text()
    assert "stablehlo.reduce_window" in text


def test_a_program_that_is_read_shows_the_plain_operations():
    arrays = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 1, 4))
    text = str(jax.make_jaxpr(jax.grad(_depthwise, argnums=(0, 1)))(*arrays))
    assert text.count("conv_general_dilated[") == 3


_SHARDED = """
import jax

jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from tally.kernels.convolution import convolve
from tally.kernels.native import library
from tally.kernels.normalization import normalize_batch
from tally.kernels.pooling import pool

random = np.random.default_rng(0)
arrays = [random.normal(size=s).astype("float32") for s in ((4, 8, 8, 6), (3, 3, 1, 6), (1, 1, 6, 5), (6,))]


def block(x, depthwise, pointwise, gamma):
    y = convolve(x, depthwise, strides=(1, 1), padding="same", dilation=(1, 1), groups=6)
    y = pool(y, "max", (1, 3, 3, 1), (1, 2, 2, 1), "same")
    y = normalize_batch(y, gamma, None, axis=-1, epsilon=1e-3)[0]
    y = convolve(y, pointwise, strides=(1, 1), padding="valid", dilation=(1, 1))
    y = pool(y, "sum", (1, 2, 2, 1), (1, 2, 2, 1), "valid")
    return jnp.sum(jnp.sin(y))


def check(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-3, atol=1e-3)


gradient = jax.grad(block, argnums=(0, 1, 2, 3))
whole = jax.jit(gradient)(*arrays)
by_halves = jax.grad(lambda x, *w: block(x[:2], *w) + block(x[2:], *w), argnums=(0, 1, 2, 3))(*arrays)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    places = [P("data"), P(), P(), P()]
    placed = [jax.device_put(a, NamedSharding(mesh, p)) for a, p in zip(arrays, places, strict=True)]
    check(jax.jit(gradient)(*placed), whole)
    for checks in (True, False):
        each = jax.shard_map(
            lambda *given: jax.lax.psum(block(*given), "data"),
            mesh=mesh, in_specs=tuple(places), out_specs=P(), check_vma=checks,
        )
        check(jax.jit(jax.grad(each, argnums=(0, 1, 2, 3)))(*placed), by_halves)
print("alike")
"""


def test_batches_that_lie_on_two_devices_give_the_same_gradients():
    done = subprocess.run([sys.executable, "-c", _SHARDED], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "alike", done.stderr[-2000:]
