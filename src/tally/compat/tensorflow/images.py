"""Images: sizes, crops, turns, colours."""

import math
from typing import Any

import jax.numpy as jnp

from tally import ops
from tally.compat.names import named, put
from tally.compat.tensorflow.making import cast, tensor
from tally.compat.tensors import settle, sizes
from tally.core.errors import ArgumentError
from tally.ops.definition import Array, op

_METHODS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")


class ResizeMethod:
    """The names of the ways to resize."""

    BILINEAR = "bilinear"
    NEAREST_NEIGHBOR = "nearest"
    BICUBIC = "bicubic"
    LANCZOS3 = "lanczos3"
    LANCZOS5 = "lanczos5"


put("image.ResizeMethod", ResizeMethod)


def _sides(x: Any) -> tuple[int, int]:
    return x.shape[-3], x.shape[-2]


def _cut(x: Any, top: int, left: int, height: int, width: int) -> Any:
    return ops.get_item(x, (..., slice(top, top + height), slice(left, left + width), slice(None)))


@named("image.resize")
def resize(
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
) -> Any:
    """Images in another size, as floats; by `"nearest"` in their own dtype.

    Bicubic without `antialias` is exact here; TensorFlow reads its weights from a table, to within 0.0005.

    Raises:
        ArgumentError: The method is not one of `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"`, `"lanczos5"`.
    """
    if method not in _METHODS:
        raise ArgumentError(
            f"tf.image.resize has no method {method!r} here.", do=f"use {', '.join(_METHODS)}"
        )
    x = tensor(images)
    height, width = sizes(size)
    if preserve_aspect_ratio:
        rows, columns = _sides(x)
        scale = min(height / rows, width / columns)
        height, width = round(scale * rows), round(scale * columns)
    if method == "nearest":
        return ops.image.resize(x, (height, width), "nearest")
    return ops.image.resize(cast(x, "float32"), (height, width), method, antialias)


@named("image.crop_to_bounding_box")
def crop_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    """The part of an image that starts at the offsets and has the target size."""
    return _cut(tensor(image), offset_height, offset_width, target_height, target_width)


@named("image.pad_to_bounding_box")
def pad_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Any:
    """The image at the offsets in zeros of the target size."""
    x = tensor(image)
    height, width = _sides(x)
    rows = (offset_height, target_height - offset_height - height)
    columns = (offset_width, target_width - offset_width - width)
    return ops.pad(x, ((0, 0),) * (x.ndim - 3) + (rows, columns, (0, 0)))


@named("image.resize_with_crop_or_pad")
def resize_with_crop_or_pad(image: Any, target_height: int, target_width: int) -> Any:
    """The middle of an image, or the image in the middle of zeros, in the target size."""
    x = tensor(image)
    height, width = _sides(x)
    top, left = max(height - target_height, 0) // 2, max(width - target_width, 0) // 2
    kept = _cut(x, top, left, min(height, target_height), min(width, target_width))
    above, before = max(target_height - height, 0) // 2, max(target_width - width, 0) // 2
    return pad_to_bounding_box(kept, above, before, target_height, target_width)


@named("image.central_crop")
def central_crop(image: Any, central_fraction: float) -> Any:
    """The middle of an image, that share of each side."""
    x = tensor(image)
    height, width = _sides(x)
    top = int((height - height * central_fraction) / 2)
    left = int((width - width * central_fraction) / 2)
    return _cut(x, top, left, height - 2 * top, width - 2 * left)


# -- turns -------------------------------------------------------------------------------------------------------------
@named("image.flip_left_right")
def flip_left_right(image: Any) -> Any:
    """Left and right exchanged."""
    return ops.flip(image, -2)


@named("image.flip_up_down")
def flip_up_down(image: Any) -> Any:
    """Up and down exchanged."""
    return ops.flip(image, -3)


@named("image.transpose")
def transpose(image: Any) -> Any:
    """Height and width exchanged."""
    return ops.swapaxes(image, -3, -2)


@named("image.rot90")
def rot90(image: Any, k: int = 1) -> Any:
    """Turned to the left by so many right angles."""
    return ops.rot90(image, k, (-3, -2))


# -- numbers and colours -----------------------------------------------------------------------------------------------
@named("image.convert_image_dtype")
def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False) -> Any:
    """Pixels in another dtype: whole numbers use its range, floats 0 to 1."""
    x, name = tensor(image), settle(dtype)
    whole, whole_after = (jnp.issubdtype(kind, jnp.integer) for kind in (x.dtype, name))
    if x.dtype == name:
        return x
    if whole and whole_after:
        raise ArgumentError(
            f"Pixels of {x.dtype} are not brought to {name} here.", do="convert them to tf.float32 first"
        )
    if whole:
        return ops.divide(cast(x, name), jnp.iinfo(x.dtype).max)
    if not whole_after:
        return cast(x, name)
    scaled = ops.multiply(x, jnp.iinfo(name).max + 0.5)
    return ops.saturate_cast(scaled, name) if saturate else cast(scaled, name)


def _in_floats(image: Any, change: Any) -> Any:
    """Change pixels as floats from 0 to 1, and give them back in their own dtype."""
    x = tensor(image)
    made = change(convert_image_dtype(x, "float32"))
    return convert_image_dtype(made, str(x.dtype), saturate=True)


@named("image.adjust_brightness")
def adjust_brightness(image: Any, delta: Any) -> Any:
    """A number added to all pixels."""
    return _in_floats(image, lambda x: ops.add(x, delta))


@named("image.adjust_contrast")
def adjust_contrast(images: Any, contrast_factor: Any) -> Any:
    """The distance of each pixel from its channel's mean, multiplied."""

    def change(x: Any) -> Any:
        mean = ops.mean(x, (-3, -2), True)
        return ops.add(ops.multiply(ops.subtract(x, mean), contrast_factor), mean)

    return _in_floats(images, change)


@named("image.adjust_saturation")
def adjust_saturation(image: Any, saturation_factor: Any) -> Any:
    """The saturation of colours, multiplied."""

    def change(x: Any) -> Any:
        hue, saturation, value = ops.unstack(ops.image.rgb_to_hsv(x), 3, -1)
        deeper = ops.clip(ops.multiply(saturation, saturation_factor), 0.0, 1.0)
        return ops.image.hsv_to_rgb(ops.stack([hue, deeper, value], -1))

    return _in_floats(image, change)


@named("image.adjust_hue")
def adjust_hue(image: Any, delta: Any) -> Any:
    """The hue of colours, moved by a part of the circle."""

    def change(x: Any) -> Any:
        hue, saturation, value = ops.unstack(ops.image.rgb_to_hsv(x), 3, -1)
        return ops.image.hsv_to_rgb(ops.stack([ops.mod(ops.add(hue, delta), 1.0), saturation, value], -1))

    return _in_floats(image, change)


@op
def _grey(x: Array) -> Array:
    return jnp.tensordot(x, jnp.asarray([0.2989, 0.5870, 0.1140], x.dtype), 1)[..., None]


@named("image.rgb_to_grayscale")
def rgb_to_grayscale(images: Any) -> Any:
    """One channel of how bright each colour looks."""
    return _in_floats(images, _grey)


@named("image.grayscale_to_rgb")
def grayscale_to_rgb(images: Any) -> Any:
    """Three equal channels."""
    return ops.repeat(images, 3, -1)


@named("image.rgb_to_hsv")
def rgb_to_hsv(images: Any) -> Any:
    """Hue, saturation and value."""
    return ops.image.rgb_to_hsv(images)


@named("image.hsv_to_rgb")
def hsv_to_rgb(images: Any) -> Any:
    """Red, green and blue."""
    return ops.image.hsv_to_rgb(images)


@named("image.per_image_standardization")
def per_image_standardization(image: Any) -> Any:
    """Each image with mean 0 and variance 1; a variance too small for its size is taken larger."""
    x = cast(image, "float32")
    count = math.prod(x.shape[-3:])
    mean = ops.mean(x, (-3, -2, -1), True)
    deviation = ops.maximum(ops.std(x, (-3, -2, -1), True), count**-0.5)
    return ops.divide(ops.subtract(x, mean), deviation)


@named("image.psnr")
def psnr(a: Any, b: Any, max_val: Any) -> Any:
    """Peak signal-to-noise ratio of each pair of images, in decibels."""
    first, second = convert_image_dtype(a, "float32"), convert_image_dtype(b, "float32")
    x = tensor(a)
    scale = jnp.iinfo(x.dtype).max if jnp.issubdtype(x.dtype, jnp.integer) else 1
    error = ops.mean(ops.square(ops.subtract(first, second)), (-3, -2, -1))
    return ops.subtract(20 * math.log10(max_val / scale), ops.multiply(10.0, ops.log10(error)))


# -- by chance ---------------------------------------------------------------------------------------------------------
def _by_chance(path: str, flip: Any) -> None:
    def turn(image: Any, seed: int | None = None) -> Any:
        from tally.compat.tensorflow.drawing import uniform

        x = tensor(image)
        shape = (x.shape[0], 1, 1, 1) if x.ndim == 4 else ()
        return ops.where(ops.less(uniform(shape, seed=seed), 0.5), flip(x), x)

    turn.__name__ = path.rpartition(".")[2]
    named(path)(turn)


_by_chance("image.random_flip_left_right", flip_left_right)
_by_chance("image.random_flip_up_down", flip_up_down)


@named("image.random_brightness")
def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Any:
    """A number between `-max_delta` and `max_delta` added to all pixels."""
    from tally.compat.tensorflow.drawing import uniform

    return adjust_brightness(image, uniform((), -max_delta, max_delta, seed=seed))


@named("image.random_contrast")
def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Any:
    """Contrast by a factor between two bounds."""
    from tally.compat.tensorflow.drawing import uniform

    return adjust_contrast(image, uniform((), lower, upper, seed=seed))


@named("image.random_crop")
def random_crop(value: Any, size: Any, seed: int | None = None) -> Any:
    """A block of the size given from anywhere in the tensor."""
    from tally.compat.tensorflow.drawing import uniform

    x, wanted = tensor(value), sizes(size)
    wanted = tuple(own if part == -1 else part for part, own in zip(wanted, x.shape, strict=True))
    starts = [
        cast(uniform((), 0, own - part + 1, "int32", seed), "int32")
        for part, own in zip(wanted, x.shape, strict=True)
    ]
    return ops.slice(x, starts, wanted)
