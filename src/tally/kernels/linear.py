"""Linear maps with a formulation per platform and a known transpose, as one JAX primitive.

`jax.custom_vjp` would give up forward mode, and automatic transposition would give up the formulation. Here a map says
how it is computed, plainly and on a CPU, and what its transpose is; the rules below make of that every derivative of
every order, vectorisation, and the choice of the formulation when a program is lowered for a platform.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from tally.kernels.native import library

Arrays = tuple[jax.Array, ...]


@dataclass(frozen=True)
class LinearMap:
    """A function that is linear in its last arguments, `values`; the first, `residuals`, decide which function it is.

    A subclass is a frozen dataclass of everything static, sizes included: it is part of the compiled program's key.
    """

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        """The map in plain `lax` operations, as accelerators' compilers want it."""
        raise NotImplementedError

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:
        """The map as XLA's CPU compiler makes a fast program of it; the same numbers up to rounding."""
        return self.apply(residuals, values)

    def transposed(self) -> "LinearMap":
        """The map from cotangents of the outputs to cotangents of `values`, with the same residuals."""
        raise NotImplementedError

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Sequence[jax.Array]:
        """How the outputs change when the residuals change by `tangents`."""
        return jax.jvp(lambda *moved: self.apply(moved, values), residuals, tangents)[1]

    def __call__(self, residuals: Arrays, values: Arrays) -> Arrays:
        """The map, as one operation of the program that is being traced."""
        arguments = _varying_alike([*residuals, *values])
        return tuple(_linear_map.bind(*arguments, **self.parameters(arguments, len(residuals))))

    def parameters(self, arguments: Sequence[Any], residuals: int) -> dict[str, Any]:
        """The parameters of the operation for such arguments, of which the first are residuals."""
        plain = _plain_form(self, residuals, tuple((one.shape, one.dtype) for one in arguments))
        return {"map": self, "residuals": residuals, "plain": plain}

    def in_place_of(self, equation: Any, residuals: Sequence[Any]) -> Any:
        """An equation of a program that computes the results of another one as this map, of residuals alone.

        Args:
            equation: The other one.
            residuals: Variables of the program.
        """
        params = self.parameters([var.aval for var in residuals], len(residuals))
        return equation.replace(primitive=_linear_map, invars=list(residuals), params=params)


@dataclass(frozen=True)
class _Batched(LinearMap):
    """A map over a new first axis of its values and of some of its residuals."""

    one: LinearMap
    residual_axes: tuple[int | None, ...]
    size: int

    def _over(self, function: Any, residuals: Arrays, values: Arrays) -> Arrays:
        return jax.vmap(function, in_axes=(self.residual_axes, 0), axis_size=self.size)(residuals, values)

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return self._over(self.one.apply, residuals, values)

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:
        with library.wanted(False):  # an operation in C has no rule for one more axis
            return self._over(self.one.apply_on_cpu, residuals, values)

    def transposed(self) -> LinearMap:
        return _Batched(self.one.transposed(), self.residual_axes, self.size)


_linear_map = Primitive("linear_map")
_linear_map.multiple_results = True


@cache
def _plain_form(map: LinearMap, residuals: int, kinds: tuple[Any, ...]) -> Any:
    """What the map computes, for whoever reads the program: tools that count work or follow where numbers go."""
    apply = jax.jit(lambda *arguments: map.apply(arguments[:residuals], arguments[residuals:]))
    return jax.make_jaxpr(apply)(*(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds))


@cache
def _compiled(map: LinearMap, residuals: int, plain: Any) -> Any:
    return jax.jit(lambda *arguments: _linear_map.bind(*arguments, map=map, residuals=residuals, plain=plain))


@_linear_map.def_impl
def _run(*arguments: Any, map: LinearMap, residuals: int, plain: Any) -> Any:
    return _compiled(map, residuals, plain)(*arguments)


@_linear_map.def_abstract_eval
def _shapes(*arguments: Any, map: LinearMap, residuals: int, plain: Any) -> list[Any]:
    return [
        arguments[-1].update(shape=one.shape, dtype=one.dtype, weak_type=False) for one in plain.out_avals
    ]


def _lower_plain(*arguments: Any, map: LinearMap, residuals: int, plain: Any) -> Any:
    return map.apply(arguments[:residuals], arguments[residuals:])


def _lower_on_cpu(*arguments: Any, map: LinearMap, residuals: int, plain: Any) -> Any:
    return map.apply_on_cpu(arguments[:residuals], arguments[residuals:])


def _lower_for_cpu(context: Any, *arguments: Any, **parameters: Any) -> Any:
    """Lower the form for a CPU, with operations in C where the program stays in this process and on one device.

    Another process that loads an exported program need not know them, and XLA can't tell how to split them.
    """
    module = context.module_context
    devices = getattr(module.axis_context, "num_devices", None)
    is_for_export = getattr(module.lowering_parameters, "for_export", False)
    with library.wanted(devices == 1 and (not is_for_export or library.may_be_exported())):
        return mlir.lower_fun(_lower_on_cpu, multiple_results=True)(context, *arguments, **parameters)


mlir.register_lowering(_linear_map, mlir.lower_fun(_lower_plain, multiple_results=True))
mlir.register_lowering(_linear_map, _lower_for_cpu, platform="cpu")


def _varying_alike(arguments: list[Any]) -> list[Any]:
    """The arguments, each different on all devices of a `shard_map` on which one of them is."""
    axes = [_varying(argument) for argument in arguments]
    every = frozenset().union(*axes)
    if all(own == every for own in axes):
        return arguments
    return [
        lax.pcast(argument, tuple(every - own), to="varying") if every - own else argument
        for argument, own in zip(arguments, axes, strict=True)
    ]


def _varying(x: jax.Array) -> frozenset[str]:
    """The axes of a `shard_map` along which devices hold different values; JAX 0.9 and 0.10 tell it differently."""
    kind = jax.typeof(x)
    return getattr(getattr(kind, "manual_axis_type", kind), "varying", getattr(kind, "vma", frozenset()))


def is_placed(x: jax.Array) -> bool:
    """Whether the type of an array says how it lies on devices, as only plain operations can carry on."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    return sharding is not None and any(axis is not None for axis in sharding.spec)


def _jvp(primals: Any, tangents: Any, *, map: LinearMap, residuals: int, plain: Any) -> Any:
    tangents = [
        ad.instantiate_zeros(tangent) if _is_among(i, tangents, residuals) else None
        for i, tangent in enumerate(tangents)
    ]
    held, values = primals[:residuals], primals[residuals:]
    out = map(held, values)
    parts = []
    if tangents[-1] is not None:
        parts.append(map(held, tuple(tangents[residuals:])))
    if residuals and tangents[0] is not None:
        parts.append(map.differentiate(held, tuple(tangents[:residuals]), values))
    return out, [sum(terms[1:], start=terms[0]) for terms in zip(*parts, strict=True)]


def _is_among(place: int, tangents: Any, residuals: int) -> bool:
    """Whether anything moves in the group of arguments that a place belongs to."""
    group = tangents[:residuals] if place < residuals else tangents[residuals:]
    return any(type(tangent) is not ad.Zero for tangent in group)


def _transpose(cotangents: Any, *arguments: Any, map: LinearMap, residuals: int, plain: Any) -> Any:
    found = map.transposed()(arguments[:residuals], tuple(ad.instantiate_zeros(ct) for ct in cotangents))
    wanted = [ad.is_undefined_primal(argument) for argument in arguments[residuals:]]
    return [None] * residuals + [
        ct if is_wanted else None for ct, is_wanted in zip(found, wanted, strict=True)
    ]


def _batch(arguments: Any, axes: Any, *, map: LinearMap, residuals: int, plain: Any) -> Any:
    size = next(arg.shape[axis] for arg, axis in zip(arguments, axes, strict=True) if axis is not None)
    held = tuple(
        arg if axis is None else jnp.moveaxis(arg, axis, 0)
        for arg, axis in zip(arguments[:residuals], axes[:residuals], strict=True)
    )
    values = tuple(
        jnp.broadcast_to(arg, (size, *arg.shape)) if axis is None else jnp.moveaxis(arg, axis, 0)
        for arg, axis in zip(arguments[residuals:], axes[residuals:], strict=True)
    )
    many = _Batched(map, tuple(None if axis is None else 0 for axis in axes[:residuals]), size)
    out = many(held, values)
    return out, (0,) * len(out)


ad.primitive_jvps[_linear_map] = _jvp
ad.primitive_transposes[_linear_map] = _transpose
batching.primitive_batchers[_linear_map] = _batch
