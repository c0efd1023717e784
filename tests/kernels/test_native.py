"""Convolutions in C: the numbers of the plain operation, where they are called, and what happens without a compiler."""

import concurrent.futures
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from tally.kernels.convolution import Geometry, convolve, convolve_transposed
from tally.kernels.native import convolution as native
from tally.kernels.native import library
from tally.kernels.native import pooling as native_pooling
from tally.kernels.pooling import Window, pool

if library._compiler() is None:
    pytest.skip("there is no C compiler", allow_module_level=True)
assert library.reason() is None, library.reason()  # where there is a compiler they must be there, too


def _drawn(*shape, seed=0):
    """Small whole numbers, whose sums have no rounding: results are compared to the bit."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype("float32")


def _directions(geometry):
    """Each direction of a convolution on drawn numbers, computed in C and by hand."""
    sides = (geometry.x_shape[0], *geometry.out_sides, geometry.kernel_shape[-1])
    x, kernel, ct = _drawn(*geometry.x_shape), _drawn(*geometry.kernel_shape), _drawn(*sides, seed=1)
    found = {
        "output": native.output(geometry, x, kernel),
        "input": native.input_cotangent(geometry, ct, kernel),
        "kernel": native.kernel_cotangent(geometry, x, ct),
    }
    return found, _by_hand(geometry, x, kernel, ct)


def _by_hand(g, x, kernel, ct):
    """All directions as sums over the kernel's places, in NumPy."""
    rank, each, filters = len(g.strides), g.channels // g.groups, g.kernel_shape[-1] // g.groups
    room = [(max(low, 0), max(high, 0)) for low, high in g.pads]
    wide = np.pad(x, [(0, 0), *room, (0, 0)])
    cut = [slice(max(-low, 0), None) for low, _ in g.pads]
    spread, y, dw = np.zeros_like(wide), np.zeros_like(ct), np.zeros_like(kernel)
    for place in np.ndindex(*g.sizes):
        window = tuple(
            slice(i * gap, i * gap + (out - 1) * step + 1, step)
            for i, gap, out, step in zip(place, g.dilation, g.out_sides, g.strides, strict=True)
        )
        for group in range(g.groups):
            ins, outs = slice(group * each, (group + 1) * each), slice(group * filters, (group + 1) * filters)
            met = (slice(None), *window, ins)
            seen = wide[:, *cut][met]
            axes = tuple(range(rank + 1))
            y[..., outs] += seen @ kernel[place][:, outs]
            dw[place][:, outs] += np.tensordot(seen, ct[..., outs], (axes, axes))
            spread[:, *cut][met] += ct[..., outs] @ kernel[place][:, outs].T
    inside = tuple(slice(low, low + side) for (low, _), side in zip(room, g.sides, strict=True))
    return {"output": y, "input": spread[:, *inside], "kernel": dw}


def _assert_same(geometry):
    found, expected = _directions(geometry)
    for direction, numbers in expected.items():
        np.testing.assert_array_equal(found[direction], numbers, err_msg=f"{direction} of {geometry}")


def _geometry(x, kernel, *, strides=(1, 1), pads=((1, 1), (1, 1)), dilation=(1, 1), groups=1):
    return Geometry(strides, pads, dilation, groups, False, x, kernel)


GEOMETRIES = {
    "3×3": _geometry((2, 9, 8, 5), (3, 3, 5, 7)),
    "whole vectors": _geometry((2, 9, 8, 16), (3, 3, 16, 64)),
    "one channel": _geometry((3, 12, 12, 1), (3, 3, 1, 32), pads=((0, 0), (0, 0))),
    "blocks of 64, 32 and 16 filters, and 3 more": _geometry((1, 5, 4, 3), (3, 3, 3, 115)),
    "strided": _geometry((2, 9, 11, 4), (3, 3, 4, 6), strides=(2, 3)),
    "strides beyond the kernel": _geometry(
        (2, 9, 11, 4), (1, 2, 4, 6), strides=(3, 4), pads=((0, 0), (0, 0))
    ),
    "dilated": _geometry((2, 9, 11, 4), (3, 2, 4, 6), dilation=(2, 3), pads=((2, 2), (1, 2))),
    "channelwise": _geometry((3, 9, 8, 70), (3, 3, 1, 70), groups=70),
    "channelwise, strided": _geometry((2, 9, 11, 21), (5, 4, 1, 21), strides=(2, 3), groups=21),
    "channelwise, dilated": _geometry(
        (2, 9, 11, 40), (3, 2, 1, 40), dilation=(2, 3), pads=((2, 2), (1, 2)), groups=40
    ),
    "groups": _geometry((2, 6, 5, 12), (3, 3, 4, 9), groups=3),
    "padding that cuts": _geometry((2, 8, 9, 3), (2, 2, 3, 4), pads=((-1, 2), (1, -2)), strides=(2, 1)),
    "padding beyond the kernel": _geometry((1, 3, 3, 2), (2, 2, 2, 3), pads=((3, 3), (4, 0))),
    "one place": _geometry((2, 3, 3, 4), (3, 3, 4, 5), pads=((0, 0), (0, 0))),
    "one side": _geometry((3, 17, 6), (5, 6, 8), strides=(2,), pads=((2, 2),), dilation=(1,)),
    "more channels than a panel holds": _geometry((2, 2, 3, 1700), (1, 3, 1700, 70), pads=((0, 0), (1, 1))),
    "rows longer than a task": _geometry((1, 2, 1500, 2), (1, 3, 2, 3), pads=((0, 0), (1, 1))),
    "enough for all threads": _geometry((16, 16, 16, 24), (3, 3, 24, 40)),
    "by points, no whole vectors or tiles": _geometry((4, 7, 11, 19), (3, 3, 19, 86), pads=((1, 0), (0, 2))),
    "by points, wider than a block": _geometry((2, 8, 12, 33), (3, 3, 33, 144)),
    "size 1": _geometry((3, 5, 7, 20), (1, 1, 20, 70), pads=((0, 0), (0, 0))),
    "size 1, more channels than a panel holds": _geometry(
        (1, 2, 3, 1700), (1, 1, 1700, 9), pads=((0, 0), (0, 0))
    ),
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_all_directions_are_exact(geometry):
    _assert_same(geometry)


@st.composite
def geometries(draw):
    rank, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    each, filters = draw(st.integers(1, 20)), draw(st.integers(1, 70))
    some = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))
    sides, sizes, strides = some(1, 12), some(1, 4), some(1, 3)
    dilation = some(1, 3) if max(strides) == 1 else (1,) * rank
    pads = []
    for side, size, gap in zip(sides, sizes, dilation, strict=True):
        low, high = draw(st.integers(-1, 4)), draw(st.integers(-1, 4))
        missing = max(0, (size - 1) * gap + 1 - side - low - high, 1 - side - min(low, 0) - min(high, 0))
        pads.append((low + missing, high + missing))
    x, kernel = (draw(st.integers(1, 4)), *sides, each * groups), (*sizes, each, filters * groups)
    return Geometry(strides, tuple(pads), dilation, groups, False, x, kernel)


@settings(max_examples=60, derandomize=True)
@given(geometries())
def test_any_geometry_is_exact(geometry):
    _assert_same(geometry)


def test_points_lose_no_digits():
    """Winograd's form adds and subtracts before it multiplies; what that rounds stays within single precision's."""
    geometry = _geometry((4, 16, 16, 64), (3, 3, 64, 64))
    random = np.random.default_rng(0)
    x, kernel, ct = (
        random.standard_normal(shape).astype("float32")
        for shape in (geometry.x_shape, geometry.kernel_shape, (4, 16, 16, 64))
    )
    found = {
        "output": native.output(geometry, x, kernel),
        "input": native.input_cotangent(geometry, ct, kernel),
        "kernel": native.kernel_cotangent(geometry, x, ct),
    }
    for direction, exact in _by_hand(
        geometry, *(array.astype("float64") for array in (x, kernel, ct))
    ).items():
        error = np.abs(np.asarray(found[direction], "float64") - exact)
        assert error.max() < 5e-6 * np.sqrt(np.mean(exact**2)), direction


@st.composite
def windows(draw):
    rank = draw(st.integers(1, 2))
    sizes, strides, sides = (tuple(draw(st.integers(1, high)) for _ in range(rank)) for high in (4, 3, 12))
    pads = tuple((draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))) for size in sizes)
    sides = tuple(
        max(side, size - low - high) for side, size, (low, high) in zip(sides, sizes, pads, strict=True)
    )
    shape = (draw(st.integers(1, 3)), *sides, draw(st.integers(1, 40)))
    return Window((1, *sizes, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0)), shape)


@settings(max_examples=60, derandomize=True)
@given(windows())
def test_the_largest_of_any_window_is_found_and_handed_back_to(window):
    x, ct = _drawn(*window.shape), _drawn(*window.out_shape, seed=1)
    y, back = jax.vjp(window.largest, x)
    np.testing.assert_array_equal(native_pooling.largest(window, x), y)
    np.testing.assert_array_equal(native_pooling.handed_to_first(window, x, y, ct), back(ct)[0])


def test_pooling_in_c_is_what_it_is_without(monkeypatch):
    def pooled(x):
        y = pool(x, "max", (1, 3, 3, 1), (1, 2, 2, 1), "same")
        return (y * jnp.arange(1.0, 1 + y.size).reshape(y.shape)).sum(), y

    x = np.array(_drawn(2, 7, 7, 20))
    x[0, 3, 3, 5] = np.nan  # its number goes to each window's last place
    with_c = jax.jit(jax.value_and_grad(pooled, has_aux=True))
    assert with_c.lower(x).as_text().count("custom_call @tally_") == 2
    (_, found), gradient = with_c(x)
    monkeypatch.setenv(library.VARIABLE, "0")
    without = jax.jit(jax.value_and_grad(lambda x: pooled(x), has_aux=True))
    assert "custom_call @tally_" not in without.lower(x).as_text()
    (_, plain), plain_gradient = without(x)
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_array_equal(gradient, plain_gradient)
    assert np.isnan(found).sum() == 4


def _score(x, kernel):
    return convolve(x, kernel, strides=(1, 1), padding="same", dilation=(1, 1)).sum()


ARRAYS = jax.ShapeDtypeStruct((2, 8, 8, 4), "float32"), jax.ShapeDtypeStruct((3, 3, 4, 5), "float32")


def _calls(function, arrays=ARRAYS):
    """How many operations in C a function's gradient calls."""
    gradient = jax.jit(jax.grad(function, argnums=(0, 1)))
    return gradient.lower(*arrays).as_text().count("custom_call @tally_")


def test_a_program_for_a_cpu_calls_them_and_one_for_another_device_does_not():
    gradient = jax.jit(jax.value_and_grad(_score, argnums=(0, 1))).trace(*ARRAYS)
    assert gradient.lower(lowering_platforms=("cpu",)).as_text().count("custom_call @tally_") == 3
    for platform in ("cuda", "tpu"):
        assert "tally_" not in gradient.lower(lowering_platforms=(platform,)).as_text()


def test_half_and_double_precision_are_left_to_xla():
    for dtype in ("bfloat16", "float16"):
        assert _calls(_score, [jax.ShapeDtypeStruct(one.shape, dtype) for one in ARRAYS]) == 0
    with jax.enable_x64(True):
        assert _calls(_score, [jax.ShapeDtypeStruct(one.shape, "float64") for one in ARRAYS]) == 0


def test_three_sides_and_several_filters_for_each_channel_are_left_to_xla():
    def volume(x, kernel):
        return convolve(x, kernel, strides=(1,) * 3, padding="same", dilation=(1,) * 3).sum()

    def depthwise(x, kernel):
        return convolve(x, kernel, strides=(1, 1), padding="same", dilation=(1, 1), groups=4).sum()

    of_volume = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 4, 4, 4, 3), (2, 2, 2, 3, 5))]
    assert _calls(volume, of_volume) == 0
    for filters, calls in ((4, 2), (8, 0)):
        assert _calls(depthwise, [ARRAYS[0], jax.ShapeDtypeStruct((3, 3, 1, filters), "float32")]) == calls


def test_they_are_called_inside_a_loop_too():
    def repeated(x, kernel):
        return jax.lax.fori_loop(0, 3, lambda _, y: y + _score(x, kernel), 0.0)

    assert _calls(repeated) > 0


def test_a_new_axis_is_left_to_xla_and_gives_the_same():
    def slide(x, kernel):
        return convolve(x, kernel, strides=(1, 1), padding="same", dilation=(1, 1))

    x, kernels = _drawn(2, 6, 6, 4), _drawn(3, 3, 3, 4, 5)
    many = jax.jit(jax.vmap(slide, in_axes=(None, 0)))
    assert "tally_" not in many.lower(x, kernels).as_text()
    np.testing.assert_array_equal(many(x, kernels), [slide(x, kernel) for kernel in kernels])


def test_the_variable_switches_them_off(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "off")
    assert _calls(lambda x, kernel: 1.5 * _score(x, kernel)) == 0


def test_what_is_traced_while_they_are_held_back_is_left_to_xla():
    assert _calls(library.held_back()(lambda x, kernel: 2.5 * _score(x, kernel))) == 0


def test_a_program_for_others_has_none_unless_that_is_asked_for():
    exported = export.export(jax.jit(_score))(*ARRAYS)
    assert "tally_" not in exported.mlir_module()
    known = [export.DisabledSafetyCheck.custom_call(target) for target in library.targets()]
    with library.exported():
        own = export.export(jax.jit(lambda *given: _score(*given)), disabled_checks=known)(*ARRAYS)
    assert own.mlir_module().count("custom_call @tally_") == 1


_ON_TWO_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from tally.kernels.convolution import convolve
slide = jax.jit(lambda x, k: convolve(x, k, strides=(1, 1), padding="same", dilation=(1, 1)))
x, kernel = jnp.ones((4, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
placed = jax.device_put(x, NamedSharding(mesh, P("data"))), jax.device_put(kernel, NamedSharding(mesh, P()))
assert "tally_" not in slide.lower(*placed).as_text()
assert "tally_" in slide.lower(x, kernel).as_text()
assert (slide(*placed) == slide(x, kernel)).all()
print("alike")
"""


def test_what_lies_on_several_devices_is_left_to_xla():
    done = subprocess.run(
        [sys.executable, "-c", _ON_TWO_DEVICES], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "alike", done.stderr[-2000:]


def test_results_are_the_same_to_the_bit_in_every_run_and_from_several_threads_at_once():
    x, kernel = (
        np.random.default_rng(0).normal(size=s).astype("float32") for s in ((32, 16, 16, 24), (3, 3, 24, 40))
    )
    gradient = jax.jit(jax.grad(lambda *given: jnp.sin(_score(*given)), argnums=(0, 1)))
    first = [np.asarray(one) for one in gradient(x, kernel)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: gradient(x, kernel), range(12)):
            for one, other in zip(found, first, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_transposed_convolution_is_the_gradient_of_one():
    x, kernel = _drawn(2, 5, 5, 6), _drawn(4, 4, 7, 6)
    pads = ((3, 3), (3, 3))
    found = convolve_transposed(x, kernel, strides=(2, 2), padding=pads, dilation=(1, 1))
    plain = jax.lax.conv_transpose(
        x, kernel, (2, 2), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True
    )
    np.testing.assert_array_equal(found, plain)


# -- compiling -------------------------------------------------------------------------------------------------------
@pytest.fixture
def compiled_again(monkeypatch):
    """What compiles and loads them as a new process would; XLA takes each name once."""
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: None)
    return library.reason.__wrapped__


def test_they_are_compiled_once(compiled_again, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TALLY_COMPILE_CACHE", raising=False)
    commands = []
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **how: commands.append(command) or run(command, **how)
    )
    for _ in range(2):
        assert compiled_again() is None
    assert len(commands) == 1
    (kept,) = tmp_path.rglob("*.so")
    assert os.stat(kept.parent).st_mode & 0o077 == 0
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_nothing_is_kept_where_nothing_is_to_be(compiled_again, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TALLY_COMPILE_CACHE", "0")
    assert compiled_again() is None
    assert not list(tmp_path.rglob("*"))


def test_without_a_compiler_everything_is_computed_by_xla(compiled_again, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    why = compiled_again()
    assert why == "there is no C compiler: neither CC nor cc, gcc or clang is one"
    monkeypatch.setattr(library, "reason", lambda: why)
    assert _calls(lambda x, kernel: 3.5 * _score(x, kernel)) == 0


def test_a_compiler_that_fails_is_told_of(compiled_again, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TALLY_COMPILE_CACHE", raising=False)
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no memory left' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CC", str(broken))
    assert compiled_again() == f"{broken} can't compile them: no memory left"
    assert not list(tmp_path.rglob("*.so"))


def test_another_kind_of_processor_has_none(compiled_again, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "riscv64" in compiled_again()


_NARROWER = """
import sys
from tally.kernels.native import library
from tally.kernels.native import pooling as native_pooling
from tally.kernels.pooling import Window, pool
options = library._options
library._options = lambda: [*options(), sys.argv[1]]
assert library.reason() is None, library.reason()
from tests.kernels.test_native import GEOMETRIES, _assert_same
for geometry in GEOMETRIES.values():
    _assert_same(geometry)
print("exact")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the options are of x86 processors")
@pytest.mark.parametrize("option", ["-mno-avx512f", "-mno-avx"])
def test_processors_with_shorter_vectors_get_the_same(option):
    settings = {**os.environ, "TALLY_COMPILE_CACHE": "0"}
    command = [sys.executable, "-c", _NARROWER, option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=settings)
    assert done.stdout.strip() == "exact", done.stderr[-2000:]
