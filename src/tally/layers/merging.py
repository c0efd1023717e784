"""Layers that make one tensor of several: sums, products, extremes, concatenation, inner products."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tally import ops
from tally.core.errors import ArgumentError, ShapeError
from tally.core.layer import Layer

Shape = tuple[int | None, ...]


def _sizes(x: jax.Array) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in x.shape)


class _Merge(Layer):
    """What every merging layer shares: it takes a list, and says which axis of which input doesn't fit."""

    supports_masking = True
    least: ClassVar[int] = 1
    most: ClassVar[int | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def _check_list(self, inputs: Any) -> list[jax.Array]:
        name = type(self).__name__
        if (
            not isinstance(inputs, (list, tuple))
            or len(inputs) < self.least
            or len(inputs) > (self.most or len(inputs))
        ):
            wanted = f"a list of {self.most}" if self.most else "a list of"
            given = f"a list of {len(inputs)}" if isinstance(inputs, (list, tuple)) else "one tensor"
            raise ShapeError(
                f"{name} '{self.name}' takes {wanted} tensors, but was given {given}.",
                where=f"made at {self.made_at}",
                do=f"call it as {name}()([a, b])",
            )
        return list(inputs)

    def _refuse(self, inputs: Sequence[jax.Array], axis: int, reason: str, do: str) -> ShapeError:
        shapes = ", ".join(str(_sizes(x)) for x in inputs)
        return ShapeError(
            f"{type(self).__name__} '{self.name}' can't merge inputs of shapes {shapes}: {reason} on axis {axis}.",
            where=f"made at {self.made_at}",
            do=do,
        )


class _Elementwise(_Merge):
    """Merges entry by entry; sizes of 1 and missing leading axes are spread."""

    operation: ClassVar[Callable[[Any, Any], Any]]

    def call(self, inputs: Sequence[jax.Array], mask: Any = None) -> jax.Array:
        """The merged tensor."""
        return self._merge(self._aligned(inputs), list(mask) if mask is not None else [None] * len(inputs))

    def _merge(self, inputs: list[jax.Array], masks: list[Any]) -> jax.Array:
        del masks
        return functools.reduce(type(self).operation, inputs)

    def _aligned(self, inputs: Any) -> list[jax.Array]:
        """The inputs with one rank: missing axes are put behind the batch."""
        given = self._check_list(inputs)
        rank = max(x.ndim for x in given)
        aligned = [
            x.reshape(*x.shape[:1], *(1,) * (rank - x.ndim), *x.shape[1:]) if x.ndim else x for x in given
        ]
        for axis in range(rank):
            sizes = {x.shape[axis] for x in aligned if x.ndim and isinstance(x.shape[axis], int)}
            sizes -= {1} if axis else set()
            if len(sizes) > 1:
                found = " and ".join(map(str, sorted(sizes)))
                raise self._refuse(
                    given,
                    axis,
                    f"sizes {found} differ",
                    "give them equal sizes, for instance by a 1x1 convolution or Dense",
                )
        return aligned

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """True where any input is seen; none unless every input has a mask."""
        if previous_mask is None or any(mask is None for mask in previous_mask):
            return None
        return functools.reduce(jnp.logical_or, previous_mask)


def _spread(mask: Any, x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(mask[..., None], x.shape)


class Add(_Elementwise):
    """Adds tensors of equal shape: `Add()([a, b])`, as residual connections do.

    Source: `keras.layers.Add`.
    """

    operation = jnp.add


class Subtract(_Elementwise):
    """Subtracts the second of two tensors from the first.

    Source: `keras.layers.Subtract`.
    """

    operation = jnp.subtract
    least = most = 2


class Multiply(_Elementwise):
    """Multiplies tensors entry by entry; what a mask hides counts as 1.

    Source: `keras.layers.Multiply`.
    """

    operation = jnp.multiply

    def _merge(self, inputs: list[jax.Array], masks: list[Any]) -> jax.Array:
        seen = [
            x if m is None else jnp.where(_spread(m, x), x, 1) for x, m in zip(inputs, masks, strict=True)
        ]
        product = super()._merge(seen, masks)
        if any(mask is None for mask in masks):
            return product
        return jnp.where(_spread(functools.reduce(jnp.logical_or, masks), product), product, 0)


class Average(_Elementwise):
    """Averages tensors entry by entry.

    Source: `keras.layers.Average`.
    """

    operation = jnp.add

    def _merge(self, inputs: list[jax.Array], masks: list[Any]) -> jax.Array:
        return super()._merge(inputs, masks) / len(inputs)


class _Extreme(_Elementwise):
    """An extreme has no neutral entry, so what a mask hides takes the other side's value."""

    def _merge(self, inputs: list[jax.Array], masks: list[Any]) -> jax.Array:
        result, seen = inputs[0], masks[0]
        for x, mask in zip(inputs[1:], masks[1:], strict=True):
            other = x if mask is None else jnp.where(_spread(mask, x), x, result)
            own = result if seen is None else jnp.where(_spread(seen, result), result, other)
            result = type(self).operation(own, other)
            seen = None if mask is None or seen is None else jnp.logical_or(seen, mask)
        return result


class Maximum(_Extreme):
    """Takes the largest of the tensors' entries.

    Source: `keras.layers.Maximum`.
    """

    operation = jnp.maximum


class Minimum(_Extreme):
    """Takes the smallest of the tensors' entries.

    Source: `keras.layers.Minimum`.
    """

    operation = jnp.minimum


class Concatenate(_Merge):
    """Puts tensors behind one another along an axis; all other sizes must agree.

    Args:
        axis: That axis.

    Example:
        >>> Concatenate()([tally.Input((3,)), tally.Input((4,))]).shape
        (None, 7)

    Source: `keras.layers.Concatenate`.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Sequence[jax.Array]) -> jax.Array:
        """The long tensor."""
        given = self._check_list(inputs)
        rank = given[0].ndim
        if not -rank <= self.axis < rank or any(x.ndim != rank for x in given):
            raise self._refuse(
                given, self.axis, "ranks differ, or there is no such axis,", "give all inputs that axis"
            )
        for axis in range(rank):
            sizes = sorted({x.shape[axis] for x in given if isinstance(x.shape[axis], int)})
            if axis != self.axis % rank and len(sizes) > 1:
                found = " and ".join(map(str, sizes))
                advice = f"all sizes but those of axis {self.axis} must agree; is axis={axis} meant?"
                raise self._refuse(given, axis, f"sizes {found} differ", advice)
        return jnp.concatenate(given, self.axis)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The masks behind one another; a tensor without one is seen everywhere."""
        if previous_mask is None or all(mask is None for mask in previous_mask):
            return None
        wide = [
            jnp.ones(x.shape, bool) if mask is None else _spread(mask, x) if mask.ndim < x.ndim else mask
            for x, mask in zip(inputs, previous_mask, strict=True)
        ]
        return jnp.any(jnp.concatenate(wide, self.axis), axis=-1)


class Dot(_Merge):
    """Multiplies two tensors and sums along one axis of each, example by example.

    Args:
        axes: The axis of both, or a pair with one for each; never the batch.
        normalize: Whether both are scaled to norm 1 along their axis first, which gives cosines.

    Shapes:
        input: two tensors of the same batch, with equal sizes on `axes`
        output: (batch, other axes of the first, other axes of the second); (batch, 1) when none are left

    Source: `keras.layers.Dot`.
    """

    least = most = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(axes, int) and len(axes) != 2:
            raise ArgumentError(
                f"Dot '{self.name}' has axes={axes}.", do="give one axis, or one for each of two inputs"
            )
        self.axes, self.normalize = axes, normalize

    def call(self, inputs: Sequence[jax.Array]) -> jax.Array:
        """The inner products."""
        x, y = self._check_list(inputs)
        first, second = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        first, second = first % x.ndim, second % y.ndim
        if 0 in (first, second):
            raise self._refuse(
                (x, y), 0, "the batch can't be summed over", "count axes from 1, or from the back"
            )
        a, b = x.shape[first], y.shape[second]
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise self._refuse(
                (x, y),
                first,
                f"{a} entries meet {b} (the other's axis {second})",
                "choose axes of equal size",
            )
        if self.normalize:
            x, y = (ops.normalize(z, axis, epsilon=1e-7) for z, axis in ((x, first), (y, second)))
        product = jax.lax.dot_general(x, y, (((first,), (second,)), ((0,), (0,))))
        return product[:, None] if product.ndim == 1 else product

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """None: no axis of the result is time."""


def _functional(layer: type[_Merge]) -> Callable[..., Any]:
    def apply(inputs: Any, **kwargs: Any) -> Any:
        return layer(**kwargs)(inputs)

    apply.__name__ = apply.__qualname__ = layer.__name__.lower()
    apply.__doc__ = f"Merge a list of tensors with `{layer.__name__}`; keyword arguments are the layer's."
    return apply


add = _functional(Add)
subtract = _functional(Subtract)
multiply = _functional(Multiply)
average = _functional(Average)
maximum = _functional(Maximum)
minimum = _functional(Minimum)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """Put tensors behind one another with `Concatenate`."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """Take inner products of two tensors with `Dot`."""
    return Dot(axes=axes, **kwargs)(inputs)
