"""Convolutions finished in C: what becomes one operation, what stays by itself, and the same numbers in either case."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tally
from tally import layers
from tally.kernels import finishing
from tally.kernels.convolution import Geometry
from tally.kernels.finishing import Finish, Finished, with_finished_convolutions
from tally.kernels.native import convolution as native
from tally.kernels.native import library

if library._compiler() is None:
    pytest.skip("there is no C compiler", allow_module_level=True)

BOTH = ("mul", "add")
RELU = Finish(BOTH, low=0.0)


def finishes_in(jaxpr) -> list[Finish]:
    """How the convolutions of a program are finished, those of programs within it included."""
    found = []
    for equation in jaxpr.eqns:
        if isinstance(equation.params.get("map"), Finished):
            found.append(equation.params["map"].finish)
        elif equation.primitive.name in finishing._WITHIN:
            inner = [*equation.params.values(), *equation.params.get("branches", ())]
            found += [one for part in inner if hasattr(part, "jaxpr") for one in finishes_in(part.jaxpr)]
    return found


def finishes_of(function, *arguments) -> list[Finish]:
    """How convolutions are finished; checks on the way that the numbers stay."""
    finished = with_finished_convolutions(function)
    for found, plain in zip(
        jax.tree.leaves(jax.jit(finished)(*arguments)), jax.tree.leaves(function(*arguments)), strict=True
    ):
        np.testing.assert_allclose(found, plain, rtol=2e-5, atol=2e-5)
    return finishes_in(jax.make_jaxpr(finished)(*arguments).jaxpr)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(size=shape).astype("float32")


X = drawn(2, 9, 8, 3)


def model_of(*stack: layers.Layer) -> tally.Sequential:
    model = tally.Sequential([tally.Input(X.shape[1:]), *stack])
    for variable in model.variables:  # statistics and biases that do something
        variable.assign(np.abs(drawn(*variable.shape)) + 0.1)
    return model


def conv(**options) -> layers.Conv2D:
    return layers.Conv2D(6, 3, padding="same", **options)


NORM = layers.BatchNormalization
POOL = layers.MaxPooling2D
MODELS = {
    "bias": ((conv(),), [Finish(("add",))]),
    "bias, rectifier": ((conv(activation="relu"),), [Finish(("add",), low=0.0)]),
    "normalisation": ((conv(use_bias=False), NORM()), [Finish(BOTH)]),
    "bias, normalisation, rectifier, pool": (
        (conv(), NORM(), layers.ReLU(), POOL(2)),
        [Finish(("add", "mul", "add"), low=0.0, pools=True)],
    ),
    "rectifier with a ceiling": (
        (conv(use_bias=False), NORM(), layers.ReLU(6.0)),
        [Finish(BOTH, low=0.0, high=6.0)],
    ),
    "pool before the rectifier": ((conv(), POOL(2), layers.ReLU()), [Finish(("add",), low=0.0, pools=True)]),
    "strided, of size 1, and grouped": (
        (
            conv(strides=2, activation="relu"),
            layers.Conv2D(4, 1, activation="relu"),
            layers.Conv2D(4, 3, groups=2),
        ),
        [Finish(("add",), low=0.0)] * 2 + [Finish(("add",))],
    ),
    "another activation after the bias": ((conv(activation="gelu"),), [Finish(("add",))]),
    "another window": ((conv(), POOL(3)), [Finish(("add",))]),
    "windows that overlap": ((conv(), POOL(2, strides=1)), [Finish(("add",))]),
    "windows with a margin": ((conv(), POOL(2, padding="same")), [Finish(("add",))]),
    "nothing after it": ((conv(use_bias=False), layers.GlobalAveragePooling2D()), []),
    "dilated": ((conv(dilation_rate=2),), []),
    "channelwise": ((layers.DepthwiseConv2D(3), layers.ReLU()), [Finish(("add",), low=0.0)]),
    "channelwise, several filters each": ((layers.DepthwiseConv2D(3, depth_multiplier=2),), []),
    "on one side": ((layers.Reshape((9, 24)), layers.Conv1D(4, 3)), []),
}


@pytest.mark.parametrize(("stack", "finishes"), MODELS.values(), ids=MODELS)
def test_what_alone_reads_a_convolution_is_done_with_it(stack, finishes) -> None:
    assert finishes_of(model_of(*stack), X) == finishes


def test_an_output_that_is_read_twice_stays() -> None:
    x = tally.Input(X.shape[1:])
    y = conv(use_bias=False)(x)
    both = tally.Model(x, layers.Add()([layers.ReLU()(y), y]))
    shown = tally.Model(x, [y, layers.ReLU()(y)])
    assert finishes_of(both, X) == finishes_of(shown, X) == []


def test_a_sum_with_an_array_of_the_same_shape_stays() -> None:
    x = tally.Input(X.shape[1:])
    residual = tally.Model(x, layers.ReLU()(layers.Add()([conv()(x), layers.Conv2D(6, 1)(x)])))
    assert finishes_of(residual, X) == [Finish(("add",))] * 2


def test_channels_first_and_half_precision_stay() -> None:
    model = model_of(conv(activation="relu"))
    kernel, bias = (jnp.asarray(variable) for variable in model.variables)

    def half(x):
        y = tally.ops.conv(x, kernel.astype("bfloat16"), padding="same")
        return jax.nn.relu(y + bias.astype("bfloat16"))

    def first(x):
        y = tally.ops.conv(x, kernel, padding="same", data_format="channels_first")
        return y + bias[:, None, None]

    assert finishes_of(half, jnp.asarray(X, "bfloat16")) == []
    assert finishes_of(first, np.moveaxis(X, -1, 1)) == []


def test_programs_within_a_program_are_read_too() -> None:
    model = model_of(conv(), NORM(), layers.ReLU())
    finish = Finish(("add", "mul", "add"), low=0.0)

    def looped(x):
        return jax.lax.map(model, x)

    def chosen(x):
        return jax.lax.cond(x.sum() > 0, model, lambda x: -model(x), x)

    def repeated(x):
        return jax.lax.fori_loop(0, 2, lambda _, y: y + model(x), jnp.zeros((2, 9, 8, 6)))

    assert finishes_of(looped, X[None]) == [finish]
    assert finishes_of(chosen, X) == [finish] * 2
    assert finishes_of(jax.jit(repeated), X) == [finish]


def test_max_pooling_of_any_kind_and_dtype_is_found() -> None:
    def pooled(x):
        whole = jax.lax.reduce_window(
            jnp.rint(x).astype("int32"), jnp.int32(-(2**31)), jax.lax.max, (1, 3, 2, 1), (1, 1, 1, 1), "SAME"
        )
        return tally.ops.max_pool(x, 3, strides=2, padding="same"), tally.ops.max_pool(x, 9), whole

    assert finishes_of(pooled, X) == []


def test_predict_and_evaluate_finish_and_fit_does_not(monkeypatch) -> None:
    called, call = [], library.call
    monkeypatch.setattr(
        library, "call", lambda kind, *given, **more: called.append(kind) or call(kind, *given, **more)
    )
    model = model_of(conv(), NORM(), layers.ReLU(), POOL(2), layers.Flatten(), layers.Dense(2))
    targets = drawn(2, 2)
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict(X, verbose=0), model(X), rtol=1e-4)
    assert called[0] == "finished"
    called.clear()
    loss = model.evaluate(X, targets, verbose=0)
    assert called == ["finished"]
    assert loss == pytest.approx(float(np.mean((np.asarray(model(X)) - targets) ** 2)), rel=1e-4)
    called.clear()
    model.fit(X, targets, verbose=0)
    assert sorted(called) == ["kernel", "output"]


def test_without_c_a_function_stays_as_it_is(monkeypatch) -> None:
    monkeypatch.setenv(library.VARIABLE, "0")
    assert finishes_of(model_of(conv(), layers.ReLU()), X) == []


def test_losses_and_assigned_state_come_out_as_they_would() -> None:
    class Counting(layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            self.add_loss(tally.ops.mean(x))
            return x

    model = tally.Sequential([tally.Input(X.shape[1:]), conv(), layers.ReLU(), Counting(), layers.Flatten()])
    model.compile("sgd", "mse")
    expected = float(np.mean(np.asarray(model(X))))
    model.layers[2].calls.assign(0.0)
    targets = np.asarray(model.predict(X, verbose=0))
    assert model.evaluate(X, targets, verbose=0) == pytest.approx(expected, rel=1e-4)
    assert float(model.layers[2].calls.value) == 2.0


# -- in C --------------------------------------------------------------------------------------------------------------


def whole(*shape: int, seed: int = 0) -> np.ndarray:
    """Small whole numbers, whose sums have no rounding: results are compared to the bit."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype("float32")


@st.composite
def cases(draw):
    groups, size, stride = draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    each, filters = draw(st.integers(1, 40)), groups * draw(st.integers(1, 70))
    sides = [draw(st.integers(size + 1, 14)) for _ in range(2)]
    pads = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2)]
    x, kernel = (draw(st.integers(1, 9)), *sides, each * groups), (size, size, each, filters)
    geometry = Geometry((stride, stride), tuple(pads), (1, 1), groups, False, x, kernel)
    pools = min(geometry.out_sides) > 1 and draw(st.booleans())
    return geometry, Finish(
        BOTH, draw(st.sampled_from([-np.inf, 0.0])), draw(st.sampled_from([6.0, np.inf])), pools
    )


@settings(max_examples=60, derandomize=True)
@given(cases())
def test_any_geometry_is_finished_exactly(case) -> None:
    geometry, finish = case
    x, kernel = whole(*geometry.x_shape), whole(*geometry.kernel_shape)
    scale, shift = (whole(geometry.kernel_shape[-1], seed=seed) for seed in (1, 2))
    found = native.finished(geometry, x, kernel, scale, shift, finish)
    plain = finish.apply(native.output(geometry, x, kernel), [scale, shift])
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize(
    "kernel", [(3, 3, 16, 16), (3, 3, 2, 5), (1, 1, 2, 5)], ids=["by points", "3 by 3", "1 by 1"]
)
@pytest.mark.parametrize("pools", [False, True])
def test_nan_stays_nan_between_bounds_and_in_a_pool(kernel, pools) -> None:
    pads = ((kernel[0] // 2,) * 2,) * 2
    geometry = Geometry((1, 1), pads, (1, 1), 1, False, (2, 12, 12, kernel[2]), kernel)
    x = np.ones(geometry.x_shape, "float32")
    x[1, 5, 6, 1] = np.nan
    ones = np.ones(kernel[-1], "float32")
    found = np.asarray(
        native.finished(geometry, x, np.ones(kernel, "float32"), ones, ones, Finish((), 0.0, 6.0, pools))
    )
    where = np.isnan(found)
    assert where[1, 5 // (1 + pools), 6 // (1 + pools)].all()
    assert not where[0].any()
    assert (found[0] <= 6).all()
