"""Every formulation against autodiff of the plain operation: values, first and second derivatives, both modes, vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tally.kernels.convolution import convolve, convolve_transposed
from tally.kernels.normalization import normalize_batch
from tally.kernels.pooling import pool


def _random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


def _every_use(function, *arrays):
    """What comes of a function under each transformation, in one compiled program."""
    places = tuple(range(len(arrays)))
    tangents = [_random(*one.shape, seed=1) for one in arrays]
    pairs = [jnp.stack([one, 0.5 * one + 1]) for one in arrays]

    def score(*given):
        outputs = jax.tree.leaves(function(*given))
        return sum(jnp.vdot(jnp.sin(out), _random(*out.shape, seed=2)) for out in outputs)

    gradient = jax.grad(score, argnums=places)

    def along(*given):
        return sum(jnp.vdot(one, t) for one, t in zip(gradient(*given), tangents, strict=True))

    def all_of_them(arrays, tangents, pairs):
        first_alone = (0, *(None for _ in arrays[1:]))
        return {
            "values": function(*arrays),
            "forward mode": jax.jvp(function, arrays, tangents)[1],
            "gradient": gradient(*arrays),
            "forward over reverse": jax.jvp(gradient, arrays, tangents)[1],
            "reverse over reverse": jax.grad(along, argnums=places)(*arrays),
            "vmap": jax.vmap(function)(*pairs),
            "vmap of the gradient": jax.vmap(gradient)(*pairs),
            "vmap of the gradient, one argument": jax.vmap(gradient, first_alone)(pairs[0], *arrays[1:]),
        }

    return jax.jit(all_of_them)(tuple(arrays), tuple(tangents), pairs)


def _assert_alike(function, plain, *arrays):
    found, expected = _every_use(function, *arrays), _every_use(plain, *arrays)
    for use in expected:
        for one, other in zip(jax.tree.leaves(found[use]), jax.tree.leaves(expected[use]), strict=True):
            scale = float(jnp.abs(other).max()) + 1e-6
            np.testing.assert_allclose(one / scale, other / scale, atol=2e-5, err_msg=use)


CONVOLUTIONS = {
    "depthwise": {"size": 3, "groups": 4},
    "depthwise, strided, two filters each": {"size": 3, "groups": 4, "filters": 8, "stride": 2},
    "depthwise, strided, valid": {"size": 2, "groups": 4, "stride": 3, "padding": "valid", "sides": (8, 9)},
    "depthwise, dilated": {"size": 3, "groups": 4, "dilation": 2, "sides": (7, 8)},
    "depthwise, channels first": {"size": 3, "groups": 4, "channels_first": True},
    "depthwise, one side": {"size": 3, "groups": 4, "sides": (9,)},
    "depthwise, odd batch": {"size": 3, "groups": 4, "batch": 3, "sides": (5, 4)},
    "pointwise": {"size": 1, "filters": 3},
    "pointwise, strided": {"size": 1, "filters": 3, "stride": 2, "sides": (7, 6)},
    "pointwise, strided, channels first": {"size": 1, "filters": 3, "stride": 2, "channels_first": True},
    "dense": {"size": 3, "filters": 3},
    "grouped": {"size": 3, "filters": 6, "groups": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(case):
    sides, filters, groups = case.get("sides", (6, 5)), case.get("filters", 4), case.get("groups", 1)
    batch, first = case.get("batch", 2), case.get("channels_first", False)
    rank = len(sides)
    strides, dilation = (case.get("stride", 1),) * rank, (case.get("dilation", 1),) * rank
    padding = case.get("padding", "same")
    space = "HW"[-rank:]
    layout = f"NC{space}" if first else f"N{space}C"

    def ours(x, kernel):
        return convolve(
            x,
            kernel,
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=groups,
            channels_first=first,
        )

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding.upper(),
            rhs_dilation=dilation,
            dimension_numbers=(layout, f"{space}IO", layout),
            feature_group_count=groups,
        )

    x = _random(batch, 4, *sides) if first else _random(batch, *sides, 4)
    _assert_alike(ours, plain, x, _random(*(case["size"],) * rank, 4 // groups, filters))


TRANSPOSED = {
    "strided": {"size": 3, "stride": 2, "padding": ((2, 2), (2, 2))},
    "strided, even kernel": {"size": 4, "stride": 2, "padding": ((2, 2), (1, 2))},
    "strided, more than the kernel reaches": {"size": 2, "stride": 3, "padding": ((1, 2), (1, 2))},
    "dilated": {"size": 3, "dilation": 2, "padding": ((2, 2), (4, 4))},
    "one number each": {"size": 1, "stride": 2, "padding": ((0, 1), (0, 0))},
    "channels first": {"size": 3, "stride": 2, "padding": ((2, 1), (1, 2)), "channels_first": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", TRANSPOSED.values(), ids=TRANSPOSED)
def test_transposed_convolutions(case):
    first = case.get("channels_first", False)
    strides, dilation = (case.get("stride", 1),) * 2, (case.get("dilation", 1),) * 2
    layout = "NCHW" if first else "NHWC"

    def ours(x, kernel):
        return convolve_transposed(
            x, kernel, strides=strides, padding=case["padding"], dilation=dilation, channels_first=first
        )

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x,
            jnp.flip(kernel, (0, 1)).swapaxes(-1, -2),
            (1, 1),
            case["padding"],
            lhs_dilation=strides,
            rhs_dilation=dilation,
            dimension_numbers=(layout, "HWIO", layout),
        )

    x = _random(2, 4, 5, 4) if first else _random(2, 5, 4, 4)
    _assert_alike(ours, plain, x, _random(case["size"], case["size"], 3, 4))


POOLS = {
    "tiles": {"sizes": (2, 2), "strides": (2, 2), "padding": "valid"},
    "tiles that leave a rest": {"sizes": (2, 2), "strides": (2, 2), "padding": "valid", "sides": (7, 5)},
    "margins": {"sizes": (2, 2), "strides": (2, 2), "padding": "same", "sides": (7, 5)},
    "overlapping": {"sizes": (3, 3), "strides": (2, 2), "padding": "same", "sides": (7, 6)},
    "overlapping by all but one": {"sizes": (3, 2), "strides": (1, 1), "padding": "same", "sides": (5, 4)},
    "gaps": {"sizes": (2, 1), "strides": (3, 2), "padding": "valid", "sides": (8, 5)},
    "one side": {"sizes": (3,), "strides": (2,), "padding": "same", "sides": (9,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["max", "sum"])
@pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
def test_pools(mode, case):
    windows, strides = (1, *case["sizes"], 1), (1, *case["strides"], 1)
    least, combine = (-np.inf, lax.max) if mode == "max" else (0.0, lax.add)

    def plain(x):
        return lax.reduce_window(x, np.float32(least), combine, windows, strides, case["padding"].upper())

    x = _random(2, *case.get("sides", (6, 4)), 3)
    _assert_alike(lambda x: pool(x, mode, windows, strides, case["padding"]), plain, x)


@pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
def test_of_equal_values_the_first_gets_the_gradient_of_a_window(case):
    windows, strides = (1, *case["sizes"], 1), (1, *case["strides"], 1)
    x = jnp.round(
        _random(2, *case.get("sides", (6, 4)), 3)
    )  # integers: most windows hold their maximum twice

    def plain(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, windows, strides, case["padding"].upper())

    y, back = jax.vjp(plain, x)
    cotangent = jnp.round(10 * _random(*y.shape))  # integers add up exactly in any order
    _, ours = jax.vjp(lambda x: pool(x, "max", windows, strides, case["padding"]), x)
    np.testing.assert_array_equal(ours(cotangent)[0], back(cotangent)[0])


def test_the_gradient_of_a_window_of_nan_is_not_lost():
    x = jnp.full((1, 2, 2, 1), jnp.nan)
    gradient = jax.grad(lambda x: pool(x, "max", (1, 2, 2, 1), (1, 2, 2, 1), "valid").sum())(x)
    assert gradient.sum() == 1


@pytest.mark.parametrize("axis", [-1, 1])
def test_batch_normalisation(axis):
    def plain(x, gamma, beta):
        others = tuple(i for i in range(4) if i != axis % 4)
        spread = [1] * 4
        spread[axis] = -1
        mean, variance = x.mean(others), x.var(others)
        normal = (x - mean.reshape(spread)) * lax.rsqrt(variance.reshape(spread) + 1e-3)
        return normal * gamma.reshape(spread) + beta.reshape(spread), mean, variance

    arrays = _random(3, 4, 5, 4), _random(4), _random(4, seed=3)
    _assert_alike(lambda *given: normalize_batch(*given, axis=axis, epsilon=1e-3), plain, *arrays)


def test_the_variance_of_values_far_from_0_keeps_its_digits():
    x = 4096 + _random(1000, 2)
    _, mean, variance = normalize_batch(x, None, None, axis=-1, epsilon=1e-3)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-4)  # E[x²] - E[x]² would be off by 100 %
