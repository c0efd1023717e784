"""Layers that bring raw numbers, categories and images into the form that a model takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally import ops
from tally.core.dtype import epsilon as smallest
from tally.core.dtype import image_data_format, standardize_data_format
from tally.core.errors import UnbuiltError
from tally.core.layer import Layer
from tally.core.variable import as_array
from tally.layers.options import read_count, read_word, refuse, refuse_shape, settle

Shape = tuple[int | None, ...]


def _batches(data: Any) -> Iterator[np.ndarray]:
    """The batches of what `adapt` was given: one array, or batches of inputs, or of inputs and targets."""
    whole = hasattr(data, "shape") or (isinstance(data, (list, tuple)) and not hasattr(data[0], "shape"))
    for batch in [data] if whole else data:
        x = batch[0] if isinstance(batch, tuple) else batch
        yield np.asarray(as_array(getattr(x, "numpy", lambda x=x: x)()))


class Rescaling(Layer):
    """Computes `inputs * scale + offset`.

    Args:
        scale: A number, or one for each channel; `1 / 255` brings pixels to 0 to 1.
        offset: Likewise.

    Source: `keras.layers.Rescaling`.
    """

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset

    def call(self, inputs: jax.Array) -> jax.Array:
        """The rescaled input."""
        scale, offset = (jnp.asarray(value, self.compute_dtype) for value in (self.scale, self.offset))
        if scale.ndim and image_data_format() == "channels_first":
            scale = scale.reshape(*scale.shape, *(1,) * (3 - scale.ndim))
        return inputs.astype(self.compute_dtype) * scale + offset


class Normalization(Layer):
    """Brings features to mean 0 and variance 1, with statistics that are given or learned by `adapt`.

    Args:
        axis: Axis, or axes, with statistics of their own; None for one mean and variance over all.
        mean, variance: The statistics, if they are known.
        invert: Whether to undo a normalisation instead.

    Raises:
        ArgumentError: Only one of `mean` and `variance` is given, or their shapes differ.

    Example:
        >>> layer = Normalization()
        >>> layer.adapt(np.array([[1.0, 10.0], [3.0, 30.0]]))
        >>> layer(np.array([[2.0, 10.0]])).tolist()
        [[0.0, -1.0]]

    Source: `keras.layers.Normalization`.
    """

    supports_masking = True
    axis: tuple[int, ...]
    invert: bool

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        axes = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        given: list[Any] = [
            None if value is None else np.asarray(value).tolist() for value in (mean, variance)
        ]
        settle(self, axis=axes, invert=invert)
        self.input_mean, self.input_variance = given
        self._arguments.update(mean=given[0], variance=given[1])
        if np.shape(given[0]) != np.shape(given[1]) or (given[0] is None) != (given[1] is None):
            raise refuse(
                self, "needs a mean and a variance of one shape.", "give both, or neither and call adapt"
            )
        if np.ndim(given[0]) > len(axes):
            raise refuse(self, f"has {len(axes)} axes, but a mean of {np.ndim(given[0])} dimensions.")

    def build(self, input_shape: Shape) -> None:
        """Make the statistics that `adapt` learns."""
        rank = len(input_shape)
        if any(not -rank <= axis < rank for axis in self.axis):
            raise refuse_shape(self, f"normalises axis {self.axis}, but its input has {rank} dimensions.")
        self._kept = tuple(sorted(axis % rank for axis in self.axis))
        sizes = tuple(input_shape[axis] for axis in self._kept)
        if None in sizes:
            raise refuse_shape(self, f"needs to know the size of axis {self.axis} of {tuple(input_shape)}.")
        self._spread = tuple(input_shape[i] if i in self._kept else 1 for i in range(rank))
        if self.input_mean is None:
            names = tuple("features" if axis == rank - 1 else f"axis {axis}" for axis in self._kept)
            for name, initializer in (("mean", "zeros"), ("variance", "ones")):
                weight = self.add_weight(
                    name=name, shape=sizes, initializer=initializer, trainable=False, axes=names
                )
                setattr(self, f"adapt_{name}", weight)
            self.count = self.add_weight(
                name="count", shape=(), dtype="int32", initializer="zeros", trainable=False
            )

    def adapt(self, data: Any) -> None:
        """Set the statistics to those of data.

        Args:
            data: An array, or something that gives batches of arrays.

        Raises:
            ArgumentError: The statistics were given.
        """
        if self.input_mean is not None:
            raise refuse(
                self, "was given its mean and variance, so there is nothing to adapt.", "leave them out"
            )
        count, mean, variance = 0, np.float64(0), np.float64(0)
        for batch in _batches(data):
            if not self.built:
                self._build(batch.shape)
            over = tuple(i for i in range(batch.ndim) if i not in self._kept)
            x = batch.astype("float64")
            if tuple(x.shape[axis] for axis in self._kept) != self.adapt_mean.shape:  # type: ignore[attr-defined]
                raise refuse_shape(self, f"was built for {self._spread}, but is adapted to {batch.shape}.")
            new = int(np.prod([x.shape[i] for i in over], dtype=int)) or 1
            share = new / (count + new)
            moved = mean + share * (x.mean(over) - mean)
            variance = (variance + (mean - moved) ** 2) * (1 - share) + (
                x.var(over) + (x.mean(over) - moved) ** 2
            ) * share
            count, mean = count + new, moved
        if not count:
            raise refuse(self, "was adapted to no data at all.")
        self.adapt_mean.assign(mean)  # type: ignore[attr-defined]
        self.adapt_variance.assign(variance)  # type: ignore[attr-defined]

    def _statistic(self, name: str) -> jax.Array:
        given = getattr(self, f"input_{name}")
        if given is None:
            return getattr(self, f"adapt_{name}").raw.reshape(self._spread).astype(self.compute_dtype)
        value = np.asarray(given, "float64")
        spread = [1] * len(self._spread)
        for place in range(1, value.ndim + 1):
            spread[self._kept[-place]] = value.shape[-place]
        return jnp.broadcast_to(jnp.asarray(value.reshape(spread), self.compute_dtype), self._spread)

    @property
    def mean(self) -> jax.Array:
        """The mean, with the rank of the input."""
        return self._statistic("mean")

    @property
    def variance(self) -> jax.Array:
        """The variance, with the rank of the input."""
        return self._statistic("variance")

    def call(self, inputs: jax.Array) -> jax.Array:
        """The normalised input."""
        x = inputs.astype(self.compute_dtype)
        deviation = jnp.maximum(jnp.sqrt(self.variance), smallest())
        return self.mean + x * deviation if self.invert else (x - self.mean) / deviation


class Resizing(Layer):
    """Resizes images.

    Args:
        height, width: New size in pixels.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        crop_to_aspect_ratio: Whether to cut the middle out, so that nothing is stretched.
        pad_to_aspect_ratio: Whether to add borders, so that nothing is stretched.
        fill_mode, fill_value: How borders are filled: `"constant"`, and with what.
        antialias: Whether shrinking averages over all pixels.
        data_format: `channels_last` or `channels_first`.

    Shapes:
        input: (batch, height, width, channels), or one image
        output: the same with the new height and width

    Source: `keras.layers.Resizing`.
    """

    data_format: str

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.height, self.width = read_count(self, "height", height), read_count(self, "width", width)
        self.interpolation, self.antialias = interpolation, bool(antialias)
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.fill_mode, self.fill_value = read_word(self, "fill_mode", fill_mode, ("constant",)), fill_value
        settle(self, data_format=standardize_data_format(data_format))

    def call(self, inputs: jax.Array) -> jax.Array:
        """The resized images."""
        return ops.image.resize(
            inputs,
            (self.height, self.width),
            interpolation=self.interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )


class CenterCrop(Layer):
    """Cuts the middle out of images; smaller ones are resized, cropped to the ratio of the sides.

    Args:
        height, width: Size of the middle in pixels.
        data_format: `channels_last` or `channels_first`.

    Shapes:
        input: (batch, height, width, channels), or one image
        output: the same with the new height and width

    Source: `keras.layers.CenterCrop`.
    """

    data_format: str

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width = read_count(self, "height", height), read_count(self, "width", width)
        settle(self, data_format=standardize_data_format(data_format))

    def call(self, inputs: jax.Array) -> jax.Array:
        """The middle."""
        x = inputs.astype(self.compute_dtype)
        first = x.ndim - (2 if self.data_format == "channels_first" else 3)
        sides = ((first, self.height), (first + 1, self.width))
        if any(x.shape[axis] < size for axis, size in sides):
            size = (self.height, self.width)
            return ops.image.resize(x, size, crop_to_aspect_ratio=True, data_format=self.data_format)
        for axis, size in sides:
            start = (x.shape[axis] - size) // 2
            x = jax.lax.slice_in_dim(x, start, start + size, axis=axis)
        return x


def _encode(indices: jax.Array, mode: str, depth: int, dtype: Any, weights: Any = None) -> jax.Array:
    """Write category numbers as `int`, `one_hot`, `multi_hot` (which are there) or `count` (how often each is)."""
    if mode == "int":
        return indices.astype(dtype)
    indices = jnp.atleast_1d(indices)
    if mode == "one_hot":
        flat = indices[..., 0] if indices.ndim > 1 and indices.shape[-1] == 1 else indices
        return jax.nn.one_hot(flat, depth, dtype=dtype)
    hot = jax.nn.one_hot(indices, depth, dtype=dtype if weights is None else weights.dtype)
    axis = 1 if indices.ndim > 1 else 0
    if mode == "multi_hot":
        return jnp.max(hot, axis)
    return jnp.sum(hot if weights is None else hot * weights[..., None], axis)


class CategoryEncoding(Layer):
    """Writes category numbers as vectors of zeros and ones, or as counts.

    Args:
        num_tokens: Number of categories; the numbers run from 0 to it.
        output_mode: `"multi_hot"` (which categories an example has), `"one_hot"` or `"count"`.
        sparse: Accepted for Keras's sake; the output is dense.

    Shapes:
        input: (batch, numbers)
        count_weights: the same, for `"count"`: how much each number counts.
        output: (batch, num_tokens), or (batch, numbers, num_tokens) for `"one_hot"`

    Source: `keras.layers.CategoryEncoding`.
    """

    output_mode: str

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_tokens is None:
            raise refuse(self, "needs num_tokens, the number of categories.", "count them first")
        self.num_tokens = read_count(self, "num_tokens", num_tokens)
        mode = "multi_hot" if output_mode == "binary" else output_mode
        settle(self, output_mode=read_word(self, "output_mode", mode, ("multi_hot", "one_hot", "count")))
        self.sparse = sparse

    def call(self, inputs: jax.Array, count_weights: Any = None) -> jax.Array:
        """The vectors."""
        if count_weights is not None and self.output_mode != "count":
            raise refuse(
                self, f"can't use count_weights with output_mode='{self.output_mode}'.", "use 'count'"
            )
        weights = None if count_weights is None else jnp.asarray(count_weights, self.compute_dtype)
        return _encode(inputs.astype("int32"), self.output_mode, self.num_tokens, self.compute_dtype, weights)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; `sparse` is not among them, as in Keras."""
        return {name: value for name, value in super().get_config().items() if name != "sparse"}


class Discretization(Layer):
    """Replaces numbers by the number of the bin they fall into.

    Args:
        bin_boundaries: Where one bin ends and the next begins, ascending.
        num_bins: Number of bins instead; `adapt` then lays boundaries so that each gets equally many numbers.
        epsilon: How exact those boundaries are: the share of the data a bin may be off by.
        output_mode: `"int"`, or `"one_hot"`, `"multi_hot"`, `"count"` as in `CategoryEncoding`.
        sparse: Accepted for Keras's sake; the output is dense.
        dtype: Dtype of the output's vectors.
        name: Name of the layer.

    Source: `keras.layers.Discretization`.
    """

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if (bin_boundaries is None) == (num_bins is None):
            raise refuse(self, "needs either bin_boundaries or num_bins.", "give one of them")
        self.bin_boundaries = None if bin_boundaries is None else list(bin_boundaries)
        self.num_bins = None if num_bins is None else read_count(self, "num_bins", num_bins)
        self.epsilon, self.sparse = epsilon, sparse
        self.output_mode = read_word(
            self, "output_mode", output_mode, ("int", "one_hot", "multi_hot", "count")
        )

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Lay the boundaries so that each bin gets equally many of the data.

        Args:
            data: An array, or something that gives batches of arrays.
            steps: How many batches to take; all unless given.
        """
        if self.num_bins is None:
            raise refuse(
                self, "was given its boundaries, so there is nothing to adapt.", "give num_bins instead"
            )
        points, weights = np.zeros(0, "float32"), np.zeros(0, "float32")
        for number, batch in enumerate(_batches(data)):
            if number == steps:
                break
            values = np.sort(batch.astype("float32"), axis=None)
            # A sample of the batch, each standing for so many numbers.
            step = max(values.size * self.epsilon, 1)
            sample = values[int(step) - 1 :: int(step)]
            points, weights = (
                np.append(points, sample),
                np.append(weights, np.full(sample.shape, step, "float32")),
            )
            order = np.argsort(points)
            points, weights = _thin(points[order], weights[order], self.epsilon)
        self.bin_boundaries = _thin(points, weights, 1 / self.num_bins)[0][:-1].tolist()

    def call(self, inputs: jax.Array) -> jax.Array:
        """The numbers of the bins, encoded."""
        if self.bin_boundaries is None:
            raise UnbuiltError(
                f"Discretization '{self.name}' has no boundaries yet.", do="call adapt(data) first"
            )
        bins = jnp.searchsorted(jnp.asarray(self.bin_boundaries, "float32"), inputs, side="right")
        dtype = "int32" if self.output_mode == "int" else self.compute_dtype
        return _encode(bins.astype("int32"), self.output_mode, len(self.bin_boundaries) + 1, dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, and the boundaries as they are now."""
        return {**super().get_config(), "bin_boundaries": self.bin_boundaries}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Discretization":
        """Make the layer; boundaries beside a number of bins are those it was adapted to."""
        boundaries = config.get("bin_boundaries") if config.get("num_bins") is not None else None
        made = super().from_config(config if boundaries is None else {**config, "bin_boundaries": None})
        made.bin_boundaries = boundaries if boundaries is not None else made.bin_boundaries
        return made


def _thin(points: np.ndarray, weights: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Fewer points for the same distribution: one for each share of the total weight."""
    if len(points) * share < 1:
        return points, weights
    total = np.cumsum(weights)
    wanted = share + np.arange(0.0, 1.0, share)
    reached = np.interp(wanted, total / total[-1], total)
    thinned = np.interp(wanted, total / total[-1], points)
    return thinned.astype("float32"), np.diff(reached, prepend=0).astype("float32")
