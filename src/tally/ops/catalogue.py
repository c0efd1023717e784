"""Under which class an op is stored in a model's configuration, and which op a stored class names."""

import inspect
from typing import Any

from tally.core.errors import SavingError, nearest
from tally.ops import core, image, linalg, math, nn, numpy
from tally.ops.definition import Function

_ROOMS = (core, numpy, nn, linalg, math, image)
_CLASSES = {
    "allclose": "AllClose",
    "batch_normalization": "BatchNorm",
    "cdist": "CDist",
    "ctc_decode": "CTCDecode",
    "ctc_loss": "CTCLoss",
    "fft": "FFT",
    "fft2": "FFT2",
    "hsv_to_rgb": "HSVToRGB",
    "ifft2": "IFFT2",
    "irfft": "IRFFT",
    "isin": "IsIn",
    "istft": "ISTFT",
    "jvp": "JVP",
    "layer_normalization": "LayerNorm",
    "psnr": "PSNR",
    "rfft": "RFFT",
    "rgb_to_grayscale": "RGBToGrayscale",
    "rgb_to_hsv": "RGBToHSV",
    "rms_normalization": "RMSNorm",
    "searchsorted": "SearchSorted",
    "ssim": "SSIM",
    "stft": "STFT",
    "svd": "SVD",
}
"""Ops whose class is not their name in camel case."""

_CONFIGURED_TENSORS = {"bincount": ("weights",), "trapezoid": ("x",)}
"""Tensors that Keras takes as constructor arguments of the op, not as arguments of its call."""


def _class_name(name: str) -> str:
    return _CLASSES.get(name) or "".join(word.capitalize() for word in name.split("_"))


OPS: dict[str, Function] = {
    name: thing for room in _ROOMS for name, thing in vars(room).items() if getattr(thing, "is_op", False)
}
"""Every op by its public name."""
_BY_CLASS = {_class_name(op.__name__): op for op in OPS.values()}


def describe(operation: Function) -> tuple[str, str, tuple[str, ...]]:
    """How a graph's configuration names an op.

    Returns:
        The module and class Keras has for it, and which of its arguments go into `config`; the others are the node's.

    Example:
        >>> describe(tally.ops.mean)
        ('keras.src.ops.numpy', 'Mean', ('axis', 'keepdims'))
    """
    room = operation.__module__.rpartition(".")[2]
    name = operation.__name__
    return f"keras.src.ops.{room}", _class_name(name), _CONFIGURED_TENSORS.get(name, ()) + operation.options  # type: ignore[attr-defined]


def find_op(module: str, class_name: str) -> Function:
    """The op that a configuration names.

    Raises:
        SavingError: There is none of that name.
    """
    found = _BY_CLASS.get(class_name)
    if found is None or module.split(".")[0] not in ("keras", "tally"):
        raise SavingError(
            f"The configuration names the op '{class_name}' from {module}, which is not known here."
            f"{nearest(class_name, list(_BY_CLASS))}",
            do="rebuild the model with a Lambda or a layer of your own in its place",
        )
    return found


def split(
    operation: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Sort one call's arguments into the node's arguments and the configuration.

    Example:
        >>> split(tally.ops.mean, ("a tensor",), {"axis": -1})
        (['a tensor'], {'axis': -1, 'keepdims': False})
    """
    accepted = inspect.signature(operation)
    bound = accepted.bind(*args, **kwargs)
    bound.apply_defaults()
    options = describe(operation)[2]
    config = {name: bound.arguments[name] for name in options}
    given: list[Any] = []
    for name, value in bound.arguments.items():
        if name not in options:
            given.extend(
                value if accepted.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL else [value]
            )
    return given, config
