"""Ops on images: resizing, warping, cutting, colours and filters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tally.core.dtype import standardize_data_format
from tally.core.errors import ArgumentError
from tally.core.random import draw_key
from tally.ops.definition import Array, Value, as_floating, float_op, op


def _with_batch(function: Callable[[Array], Array], images: Array, data_format: str | None) -> Array:
    """Apply a function of (batch, height, width, channels) to one image or a batch, in either data format."""
    first = standardize_data_format(data_format) == "channels_first"
    batch = images if images.ndim == 4 else images[None]
    made = function(jnp.moveaxis(batch, 1, -1) if first else batch)
    made = jnp.moveaxis(made, -1, 1) if first else made
    return made if images.ndim == 4 else made[0]


def _in_float(function: Callable[[Array], Array], images: Array, data_format: str | None) -> Array:
    """The same in floats; whole numbers come back rounded into their range."""

    def run(batch: Array) -> Array:
        return _as(function(as_floating(batch)), images.dtype)

    return _with_batch(run, images, data_format)


def _as(x: Array, dtype: Any) -> Array:
    if not jnp.issubdtype(dtype, jnp.integer):
        return x.astype(dtype)
    limits = jnp.iinfo(dtype)
    return jnp.clip(jnp.round(x), limits.min, limits.max).astype(dtype)


# -- cutting and padding -----------------------------------------------------------------------------------------------
def _two_of_three(before: Any, after: Any, total: Any, size: Any, sign: int) -> tuple[int, int]:
    """What goes before and after an axis, from two of: before, after, the target size."""
    if total is None:
        return before or 0, after or 0
    missing = sign * (total - size)
    if before is None:
        before = missing - after if after is not None else 0
    return before, missing - before


@op
def pad_images(
    images: Array,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Array:
    """Zeros around images, as many as are given or as the target size needs."""

    def run(x: Array) -> Array:
        rows = _two_of_three(top_padding, bottom_padding, target_height, x.shape[1], 1)
        columns = _two_of_three(left_padding, right_padding, target_width, x.shape[2], 1)
        return jnp.pad(x, ((0, 0), rows, columns, (0, 0)))

    return _with_batch(run, images, data_format)


@op
def crop_images(
    images: Array,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Array:
    """Images without their borders, cut by what is given or to the target size."""

    def run(x: Array) -> Array:
        top, bottom = _two_of_three(top_cropping, bottom_cropping, target_height, x.shape[1], -1)
        left, right = _two_of_three(left_cropping, right_cropping, target_width, x.shape[2], -1)
        return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]

    return _with_batch(run, images, data_format)


@op
def extract_patches(
    images: Array,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """Windows of images; their pixels and channels become channels, in the order row, column, channel."""
    return _patches(images, size, strides, dilation_rate, padding, data_format, rank=2)


@op
def extract_patches_3d(
    volumes: Array,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """Windows of volumes; their voxels and channels become channels."""
    return _patches(volumes, size, strides, dilation_rate, padding, data_format, rank=3)


def _patches(
    x: Array, size: Any, strides: Any, dilation: Any, padding: str, data_format: str | None, rank: int
) -> Array:
    window = (size,) * rank if isinstance(size, int) else size
    steps = window if strides is None else (strides,) * rank if isinstance(strides, int) else strides
    spread = (dilation,) * rank if isinstance(dilation, int) else dilation
    first = standardize_data_format(data_format) == "channels_first"
    batch = x if x.ndim == rank + 2 else x[None]
    batch = jnp.moveaxis(batch, 1, -1) if first else batch
    space = "DHW"[-rank:]
    layout = (f"N{space}C", f"{space}IO", f"N{space}C")
    made = lax.conv_general_dilated_patches(
        batch, window, steps, padding.upper(), rhs_dilation=spread, dimension_numbers=layout
    )
    # XLA orders (channel, window); the channel is to vary fastest.
    made = jnp.swapaxes(made.reshape(*made.shape[:-1], batch.shape[-1], -1), -1, -2).reshape(made.shape)
    made = jnp.moveaxis(made, -1, 1) if first else made
    return made if x.ndim == rank + 2 else made[0]


# -- resizing and warping ----------------------------------------------------------------------------------------------
_METHODS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


@op
def resize(
    images: Array,
    size: Any,
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Array:
    """Images in another size.

    Args:
        images: (batch, height, width, channels) or one image; or channels first.
        size: New height and width.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        antialias: Whether shrinking averages over all pixels.
        crop_to_aspect_ratio: Keep the sides' ratio by cutting the middle out.
        pad_to_aspect_ratio: Keep it by adding borders.
        fill_mode: How borders are filled; only `"constant"`.
        fill_value: What with.
        data_format: Where the channels are.
    """
    if interpolation not in _METHODS:
        raise ArgumentError(
            f"resize can't interpolate by '{interpolation}'.", do=f"use one of {', '.join(_METHODS)}"
        )
    height, width = (size, size) if isinstance(size, int) else size

    def run(x: Array) -> Array:
        rows, columns = x.shape[1:3]
        if crop_to_aspect_ratio:
            kept_rows = min(rows, int(columns * height / width)) or rows
            kept_columns = min(columns, int(rows * width / height)) or columns
            top, left = int((rows - kept_rows) / 2), int((columns - kept_columns) / 2)
            x = x[:, top : top + kept_rows, left : left + kept_columns]
        elif pad_to_aspect_ratio:
            more_rows = max(rows, int(columns * height / width)) - rows
            more_columns = max(columns, int(rows * width / height)) - columns
            around = [(n // 2, n // 2) for n in (more_rows, more_columns)]
            x = jnp.pad(x, ((0, 0), *around, (0, 0)), constant_values=fill_value)
        return jax.image.resize(
            x, (x.shape[0], height, width, x.shape[3]), interpolation, antialias=antialias
        )

    return _in_float(run, images, data_format)


@op
def scale_and_translate(
    images: Array,
    output_shape: Value,
    scale: Array,
    translation: Array,
    spatial_dims: Any,
    method: str,
    antialias: bool = True,
) -> Array:
    """Images scaled and moved along some of their axes."""
    return jax.image.scale_and_translate(
        images, output_shape, spatial_dims, scale, translation, method, antialias
    )


_MODES = {
    "constant": "constant",
    "nearest": "nearest",
    "wrap": "wrap",
    "mirror": "mirror",
    "reflect": "reflect",
}


@op
def map_coordinates(
    inputs: Array, coordinates: Array, order: int, fill_mode: str = "constant", fill_value: float = 0
) -> Array:
    """Values at places between the elements: the nearest (order 0), or interpolated linearly (order 1).

    Args:
        inputs: A tensor.
        coordinates: (number of its axes, ...): where to look.
        order: 0 or 1.
        fill_mode: What lies beyond the edges: `"constant"`, `"nearest"`, `"wrap"`, `"mirror"` or `"reflect"`.
        fill_value: The constant.
    """
    return jax.scipy.ndimage.map_coordinates(inputs, list(coordinates), order, _MODES[fill_mode], fill_value)


def _order(interpolation: str) -> int:
    if interpolation not in ("nearest", "bilinear"):
        raise ArgumentError(f"Images can't be warped by '{interpolation}'.", do="use 'nearest' or 'bilinear'")
    return ("nearest", "bilinear").index(interpolation)


def _sample(x: Array, rows: Array, columns: Array, order: int, fill_mode: str, fill_value: float) -> Array:
    """Look into each image of a batch at its own places; rows and columns: (batch, new height, new width)."""

    def one_channel(image: Array, row: Array, column: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(image, [row, column], order, _MODES[fill_mode], fill_value)

    rows, columns = (jnp.broadcast_to(places, x.shape[:3]) for places in (rows, columns))
    return jax.vmap(jax.vmap(one_channel, in_axes=(-1, None, None), out_axes=-1))(x, rows, columns)


def _grid(x: Array) -> tuple[Array, Array]:
    rows, columns = jnp.meshgrid(jnp.arange(x.shape[1]), jnp.arange(x.shape[2]), indexing="ij")
    return rows.astype(x.dtype), columns.astype(x.dtype)


def _project(x: Array, transform: Array) -> tuple[Array, Array]:
    """Where each output pixel comes from, for (batch, 8) coefficients of a projective map in (column, row) order."""
    rows, columns = _grid(x)
    a = transform.astype(x.dtype)[:, :, None, None]
    depth = a[:, 6] * columns + a[:, 7] * rows + 1
    return (a[:, 3] * columns + a[:, 4] * rows + a[:, 5]) / depth, (
        a[:, 0] * columns + a[:, 1] * rows + a[:, 2]
    ) / depth


@op
def affine_transform(
    images: Array,
    transform: Array,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Array:
    """Images whose pixel (column x, row y) is taken from (a0 x + a1 y + a2, b0 x + b1 y + b2).

    Args:
        images: A batch or one image.
        transform: (batch, 8) or (8,): a0, a1, a2, b0, b1, b2 and two numbers that are ignored.
        interpolation: `"nearest"` or `"bilinear"`.
        fill_mode: What lies beyond the edges; see `map_coordinates`.
        fill_value: The constant.
        data_format: Where the channels are.
    """
    affine = jnp.atleast_2d(transform).at[:, 6:].set(0)

    def run(x: Array) -> Array:
        return _sample(x, *_project(x, affine), _order(interpolation), fill_mode, fill_value)

    return _in_float(run, images, data_format)


@op
def perspective_transform(
    images: Array,
    start_points: Array,
    end_points: Array,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Array:
    """Images warped so that four points move to four others.

    Args:
        images: A batch or one image.
        start_points: (batch, 4, 2) or (4, 2): column and row of each point.
        end_points: Where they go.
        interpolation: `"nearest"` or `"bilinear"`.
        fill_value: What lies beyond the edges.
        data_format: Where the channels are.
    """
    start, end = (as_floating(p).reshape(-1, 4, 2) for p in (start_points, end_points))
    ones, zeros = jnp.ones((*end.shape[:2], 1), end.dtype), jnp.zeros((*end.shape[:2], 3), end.dtype)
    to_column = jnp.concatenate([end, ones, zeros, -start[..., :1] * end], axis=-1)
    to_row = jnp.concatenate([zeros, end, ones, -start[..., 1:] * end], axis=-1)
    system = jnp.concatenate([to_column, to_row], axis=1)
    wanted = jnp.concatenate([start[..., 0], start[..., 1]], axis=-1)[..., None]
    transform = jnp.linalg.solve(system, wanted)[..., 0]

    def run(x: Array) -> Array:
        return _sample(x, *_project(x, transform), _order(interpolation), "constant", fill_value)

    return _in_float(run, images, data_format)


@op
def elastic_transform(
    images: Array,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> Array:
    """Images whose pixels are moved by smoothed noise of strength `alpha` and width `sigma`."""

    def run(x: Array) -> Array:
        size = int(6 * sigma) | 1
        noise = alpha * jax.random.normal(draw_key(seed), (*x.shape[:3], 2), x.dtype)
        moved = _blur(noise, (size, size), (sigma, sigma))
        rows, columns = _grid(x)
        return _sample(
            x, rows + moved[..., 0], columns + moved[..., 1], _order(interpolation), fill_mode, fill_value
        )

    return _in_float(run, images, data_format)


# -- colours -----------------------------------------------------------------------------------------------------------
@op
def rgb_to_grayscale(images: Array, data_format: str | None = None) -> Array:
    """How light red, green and blue look together: one channel."""

    def run(x: Array) -> Array:
        return jnp.sum(x * jnp.array([0.2989, 0.5870, 0.1140], x.dtype), axis=-1, keepdims=True)

    return _in_float(run, images, data_format).astype(images.dtype)


@float_op
def rgb_to_hsv(images: Array, data_format: str | None = None) -> Array:
    """Red, green, blue from 0 to 1 as hue, saturation and value from 0 to 1."""

    def run(x: Array) -> Array:
        red, green, blue = (x[..., i] for i in range(3))
        value = jnp.max(x, axis=-1)
        spread = value - jnp.min(x, axis=-1)
        safe = jnp.where(spread > 0, spread, 1)
        hue = jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
        hue = jnp.where(value == red, (green - blue) / safe, hue)
        hue = jnp.where(spread > 0, hue / 6 % 1, 0)
        saturation = jnp.where(value > 0, spread / jnp.where(value > 0, value, 1), 0)
        return jnp.stack([hue, saturation, value], axis=-1)

    return _with_batch(run, images, data_format)


@float_op
def hsv_to_rgb(images: Array, data_format: str | None = None) -> Array:
    """Hue, saturation and value from 0 to 1 as red, green, blue from 0 to 1."""

    def run(x: Array) -> Array:
        hue, saturation, value = (x[..., i, None] for i in range(3))
        ramps = jnp.concatenate(
            [jnp.abs(6 * hue - 3) - 1, 2 - jnp.abs(6 * hue - 2), 2 - jnp.abs(6 * hue - 4)], axis=-1
        )
        return value * (1 - saturation * (1 - jnp.clip(ramps, 0, 1)))

    return _with_batch(run, images, data_format)


# -- filters -----------------------------------------------------------------------------------------------------------
def _bell(size: int, sigma: Any, dtype: Any) -> Array:
    places = jnp.arange(size, dtype=dtype) - (size - 1) / 2
    values = jnp.exp(-jnp.square(places / sigma) / 2)
    return values / jnp.sum(values)


def _filter(x: Array, kernel: Array, padding: str = "SAME") -> Array:
    """Filter each channel by one (height, width) kernel."""
    channels = x.shape[-1]
    kernels = jnp.tile(kernel[..., None, None], (1, 1, 1, channels))
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernels, (1, 1), padding, dimension_numbers=layout, feature_group_count=channels
    )


def _blur(x: Array, size: Any, sigma: Any) -> Array:
    height, width = (_bell(n, s, x.dtype) for n, s in zip(size, sigma, strict=True))
    return _filter(x, height[:, None] * width)


@op
def gaussian_blur(
    images: Array, kernel_size: Any = (3, 3), sigma: Any = (1.0, 1.0), data_format: str | None = None
) -> Array:
    """Images blurred by a Gaussian bell; its size in pixels and its width are given as (height, width)."""
    return _in_float(lambda x: _blur(x, kernel_size, sigma), images, data_format)


@float_op
def sobel_edges(images: Array, data_format: str | None = None) -> Array:
    """How fast images change downwards and to the right, on a new last axis of 2."""
    smooth, change = jnp.array([1.0, 2.0, 1.0], images.dtype), jnp.array([-1.0, 0.0, 1.0], images.dtype)

    def edges(images: Array, kernel: Array) -> Array:
        return _with_batch(lambda x: _filter(x, kernel), images, data_format)

    down, across = change[:, None] * smooth, smooth[:, None] * change
    return jnp.stack([edges(images, down), edges(images, across)], axis=-1)


@float_op
def ssim(
    image1: Array,
    image2: Array,
    max_val: float,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Array:
    """Structural similarity of two images, or of the pairs of two batches.

    Source: Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity".
    """
    bell = _bell(filter_size, filter_sigma, image1.dtype)

    def local(x: Array) -> Array:
        return _with_batch(lambda y: _filter(y, bell[:, None] * bell, "VALID"), x, data_format)

    mean1, mean2 = local(image1), local(image2)
    variance1, variance2 = local(image1 * image1) - mean1**2, local(image2 * image2) - mean2**2
    shared = local(image1 * image2) - mean1 * mean2
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    lightness = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    structure = (2 * shared + c2) / (variance1 + variance2 + c2)
    return jnp.mean(lightness * structure, axis=(-3, -2, -1))
