"""Weights made elsewhere, as arrays with names: of a file, a PyTorch module, a state dict, a Keras model."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tally.core.errors import SavingError
from tally.formats import huggingface, npz, pytorch, safetensors, tensorflow
from tally.formats.tensor import Contents, Tensor
from tally.saving.arrays import numpy_type, read_array
from tally.saving.parts import Part, Shape
from tally.saving.safetensors import located


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What holds weights.

    Args:
        name: What it is called in messages.
        parts: Its arrays by name, in its order.
        is_ordered: Whether that order is the one in which the model was written down; files often sort names.
        aliases: Names of arrays that are others again, with their first names.
        passed: Arrays that are no weights of a layer, with the reason.
        epsilons: The epsilon of layers that normalise, by the place of the layer, where the source says it.
        contents: What the headers of a file say.
    """

    name: str
    parts: dict[str, Part]
    is_ordered: bool
    aliases: dict[str, str] = field(default_factory=dict)
    passed: dict[str, tuple[Shape, str]] = field(default_factory=dict)
    epsilons: dict[str, float] = field(default_factory=dict)
    contents: Contents | None = None


def is_live(source: Any) -> bool:
    """Tell whether something is a module, a state dict or a model in memory, and no name of a file."""
    return not isinstance(source, str | os.PathLike)


def is_foreign_file(path: Path) -> bool:
    """Tell whether a path is a file or folder whose arrays have names of another library's."""
    path = located(path)
    return any(kind.matches(path) for kind in _KINDS)


_KINDS: tuple[Any, ...] = (safetensors, pytorch, npz, huggingface, tensorflow)


def open_source(source: Any) -> Source:
    """Find the arrays of a source; none is read yet.

    Args:
        source: A path, a PyTorch module, a mapping of names to tensors or arrays, or a Keras model.

    Raises:
        SavingError: It is none of these.
        BadFileError: The file is broken.
    """
    if not is_live(source):
        return _of_file(Path(source))
    if callable(getattr(source, "state_dict", None)):
        return _of_module(source)
    if isinstance(source, Mapping):
        return _of_mapping(source, "the state dict")
    if hasattr(source, "weights") and hasattr(source, "layers"):
        return _of_keras(source)
    raise SavingError(
        f"Weights can't be loaded from a {type(source).__name__}.",
        do="give a path, a PyTorch module or its state dict, or a Keras model",
    )


# -- files ---------------------------------------------------------------------------------------------------------
def _of_file(path: Path) -> Source:
    path = located(path)
    kind = next((kind for kind in _KINDS if kind.matches(path)), None)
    if kind is None:
        raise SavingError(
            f"There is no file at {path}."
            if not path.exists()
            else f"{path} is no file of weights that is known.",
            do="give a .weights.h5, .keras, .safetensors or PyTorch file, or a folder of the Hugging Face Hub",
        )
    contents: Contents = kind.read(path)
    names = [tensor.name for tensor in contents.tensors]
    is_pickled = contents.format.startswith(("PyTorch", "pickle", "TorchScript"))
    parts, passed = dict[str, Part](), dict[str, tuple[Shape, str]]()
    for tensor in contents.tensors:
        if tensor.role in ("optimizer", "seed", "other"):
            passed[tensor.name] = (tensor.shape, _ASIDE[tensor.role])
        elif tensor.alias_of is None:
            parts[tensor.name] = Part((tensor.name,), tensor.shape, _reader(tensor))
    return Source(
        name=str(path),
        parts=parts,
        is_ordered=is_pickled or (contents.format not in _SORTED and names != sorted(names)),
        aliases={tensor.name: tensor.alias_of for tensor in contents.tensors if tensor.alias_of is not None},
        passed=passed,
        contents=contents,
    )


_SORTED = ("safetensors", "TensorFlow checkpoint", "TensorFlow SavedModel")
"""Formats whose arrays stand in the order of their keys, whatever these are called in the model."""
_ASIDE = {
    "optimizer": "belongs to the optimizer",
    "seed": "is the state of a random generator",
    "other": "is no weight of a layer",
}


def _reader(tensor: Tensor) -> Callable[[], np.ndarray]:
    return lambda: read_array(tensor)


# -- what is in memory ---------------------------------------------------------------------------------------------
def _of_module(module: Any) -> Source:
    """The tensors of a PyTorch module, and the epsilons of its normalisations."""
    found = _of_mapping(module.state_dict(), f"the module {type(module).__name__}")
    epsilons = {
        name: float(inside.eps)
        for name, inside in (module.named_modules() if hasattr(module, "named_modules") else ())
        if isinstance(getattr(inside, "eps", None), float)
    }
    return Source(
        name=found.name, parts=found.parts, is_ordered=True, aliases=found.aliases, epsilons=epsilons
    )


def _of_mapping(given: Mapping[Any, Any], name: str) -> Source:
    flat = dict(_flatten(given, ""))
    parts, aliases, seen = dict[str, Part](), dict[str, str](), dict[Any, str]()
    passed: dict[str, tuple[Shape, str]] = {}
    for key, value in flat.items():
        if "rngs" in key.split("/"):  # Flax's generators stand beside the layers that draw from them
            passed[key] = (tuple(value.shape), _ASIDE["seed"])
            continue
        first = seen.setdefault(_identity(value), key)
        if first != key:
            aliases[key] = first
        else:
            parts[key] = Part((key,), tuple(int(size) for size in value.shape), _fetch(value))
    return Source(name=name, parts=parts, is_ordered=True, aliases=aliases, passed=passed)


def _flatten(given: Mapping[Any, Any], above: str) -> Iterable[tuple[str, Any]]:
    """The arrays of a tree such as Flax's parameters, each under the names on the way to it."""
    for key, value in given.items():
        name = f"{above}/{key}" if above else str(key)
        if isinstance(value, Mapping):
            yield from _flatten(value, name)
        elif hasattr(value, "shape"):
            yield name, value


def _identity(value: Any) -> Any:
    """What two names of one tensor have in common."""
    pointer = getattr(value, "data_ptr", None)
    if callable(pointer) and value.numel():
        return (pointer(), tuple(value.shape), tuple(value.stride()), str(value.dtype))
    return id(value)


def _fetch(value: Any) -> Callable[[], np.ndarray]:
    """Gives a tensor of any framework as a NumPy array."""

    def fetch() -> np.ndarray:
        if not hasattr(value, "detach"):
            return np.asarray(value)
        tensor = value.detach().cpu()
        dtype = str(tensor.dtype).removeprefix("torch.")
        try:
            return tensor.numpy()
        except TypeError:  # NumPy has no such type of its own, so the bits are handed over
            width = tensor.element_size()
            raw = tensor.contiguous().view(getattr(_library(tensor), f"int{8 * width}")).numpy()
            return raw.view(numpy_type(dtype))

    return fetch


def _library(tensor: Any) -> Any:
    """The module `torch`, which is loaded where there is a tensor of it."""
    import sys

    return sys.modules[type(tensor).__module__.split(".")[0]]


def _of_keras(model: Any) -> Source:
    """The weights of a Keras model; their paths say the layers."""
    parts: dict[str, Part] = {}
    for variable in model.weights:
        name = str(getattr(variable, "path", variable.name))
        while name in parts:
            name += "'"
        parts[name] = Part((name,), tuple(int(size) for size in variable.shape), _values_of(variable))
    if not parts:
        raise SavingError(f"The model '{model.name}' has no weights.", do="build it first")
    epsilons = {
        str(layer.path): float(layer.epsilon)
        for layer in model._flatten_layers()
        if isinstance(getattr(layer, "epsilon", None), float)
    }
    return Source(name=f"the Keras model '{model.name}'", parts=parts, is_ordered=True, epsilons=epsilons)


def _values_of(variable: Any) -> Callable[[], np.ndarray]:
    value = variable.value
    return _fetch(value) if hasattr(value, "detach") or not hasattr(value, "numpy") else value.numpy
