"""How what a user hands over becomes structures of arrays: conversions, checks, weights."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.dtype import floatx
from tally.core.errors import ArgumentError, DataError, users_line
from tally.core.symbol import leaves

Batch = tuple[Any, Any, Any]
"""Inputs, targets and sample weights, each an array, a structure of arrays, or None."""


def raise_data_error(what: str, *, do: str = "") -> NoReturn:
    """Raise a `DataError` that also says which of the user's lines handed the data over."""
    line = users_line()
    raise DataError(what, where=f"called at {line}" if line else "", do=do)


def is_array_like(value: Any) -> bool:
    """Whether a value is an array, a table, a number or a structure of those; nothing to iterate over."""
    if isinstance(value, (list, tuple, dict, int, float, complex, bool, str, bytes)):
        return True
    return hasattr(value, "__array__") or (hasattr(value, "shape") and hasattr(value, "dtype"))


def narrow(array: Any) -> Any:
    """Give floats wider than `floatx()` that precision, which is what the device would be sent anyway."""
    wide = array.dtype.kind == "f" and array.dtype.itemsize > np.dtype(floatx()).itemsize
    return array.astype(floatx()) if wide else array


def as_arrays(value: Any, label: str) -> Any:
    """Turn every leaf of a structure into a NumPy or JAX array; a list of numbers is an array.

    Args:
        value: An array, tensor, table, list of numbers, or tuples, lists and dicts of those. None stays None.
        label: What errors call it, for instance `x`.

    Raises:
        DataError: A leaf holds text or Python objects, or is a single number.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: as_arrays(part, f"{label}[{key!r}]") for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not _is_numbers(value):
        parts = [as_arrays(part, f"{label}[{i}]") for i, part in enumerate(value)]
        return parts if isinstance(value, list) else tuple(parts)
    return _as_array(value, label)


def _is_numbers(value: Any) -> bool:
    while isinstance(value, (list, tuple)):
        if not value:
            return True
        value = value[0]
    return isinstance(value, (int, float, complex, str, bytes, np.generic))


def _as_array(value: Any, label: str) -> Any:
    if isinstance(value, jax.Array):
        on_host = all(device.platform == "cpu" for device in value.devices()) and value.is_fully_addressable
        array = np.asarray(value) if on_host else value
    elif isinstance(value, np.ndarray):
        array = value
    elif type(value).__module__.startswith("pandas"):
        array = _from_pandas(value, label)
    elif hasattr(value, "detach") and hasattr(value, "cpu"):
        tensor = value.detach().cpu()  # NumPy has no name for PyTorch's bfloat16
        array = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    elif type(value).__module__.startswith("scipy.sparse"):
        raise_data_error(
            f"{label} is a sparse matrix, and only dense arrays can be fed.",
            do=f"pass {label}.toarray()",
        )
    else:
        array = _from_anything(value, label)
    if array.dtype.kind not in "biufc" and not jnp.issubdtype(array.dtype, jnp.number):
        kind = "text" if _holds_text(array) else "dates" if array.dtype.kind in "mM" else "Python objects"
        raise_data_error(
            f"{label} holds {kind} (dtype {array.dtype}), and a model computes on numbers.",
            do="turn categories into integers, and rows of unequal length into rows of one length",
        )
    if array.ndim == 0:
        raise_data_error(
            f"{label} is a single number, so it has no axis of examples.",
            do=f"pass an array whose first axis counts examples, for instance np.array([{label}])",
        )
    # A file on disk is narrowed batch by batch, so that it is never read as a whole.
    return array if isinstance(array, np.memmap) else narrow(array)


def _from_anything(value: Any, label: str) -> np.ndarray:
    try:
        return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except ValueError as error:
        raise_data_error(
            f"{label} is a list that is no array: {str(error).split('.')[0]}.",
            do="give all rows the same length, for instance by padding",
        )


def _holds_text(array: Any) -> bool:
    return array.dtype.kind in "SU" or (array.size > 0 and isinstance(array.flat[0], (str, bytes)))


def _from_pandas(table: Any, label: str) -> np.ndarray:
    columns = dict(table.items()) if table.ndim == 2 else {table.name: table}
    textual = [name for name, column in columns.items() if getattr(column.dtype, "kind", "O") not in "biuf"]
    if textual:
        places = ", ".join(f"{name!r} ({columns[name].dtype})" for name in textual)
        raise_data_error(
            f"{label} has columns that are not numbers: {places}.",
            do="drop them or encode them as integers, as table[column].astype('category').cat.codes does",
        )
    array = table.to_numpy()
    if array.dtype == object:  # columns of mixed kinds, or of kinds that know missing values
        array = table.to_numpy(dtype=floatx(), na_value=np.nan)
    # Keras, too, takes a series of features or targets for a table of one column.
    return array[:, None] if table.ndim == 1 and not label.startswith("sample_weight") else array


def count_examples(batch: Batch) -> int:
    """Number of examples that all arrays of a batch agree on.

    Raises:
        DataError: They don't agree, or there are none.
    """
    sizes = {
        label: [leaf.shape[0] for leaf in leaves(part) if leaf is not None]
        for label, part in zip(("x", "y", "sample_weight"), batch, strict=True)
    }
    sizes = {label: counts for label, counts in sizes.items() if counts}
    different = {count for counts in sizes.values() for count in counts}
    if not different:
        raise_data_error("There are no arrays in the data.", do="pass at least one array of inputs as x")
    if len(different) > 1:
        _refuse_mismatch(sizes)
    (examples,) = different
    if not examples:
        raise_data_error(
            "The data are empty: x has 0 examples.", do="check the filter or the path that made x"
        )
    return examples


def _refuse_mismatch(sizes: dict[str, list[int]]) -> None:
    told = [
        f"{label} has {' and '.join(f'{n:,}' for n in dict.fromkeys(counts))}"
        for label, counts in sizes.items()
    ]
    raise_data_error(
        f"Mismatched batch sizes: {', '.join(told)} examples.",
        do="give all arrays the same number of examples, the length of their first axis",
    )


def weigh_classes(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """A weight for each example from the weight of its class.

    Args:
        y: Classes as integers, shape (examples,) or (examples, 1), or one-hot, shape (examples, classes).
        class_weight: Class -> weight; a class that is missing weighs 1.
    """
    if isinstance(y, (list, tuple, dict)):
        raise_data_error(
            "class_weight needs a single array of targets, but y is a structure of several.",
            do="pass sample_weight with one array per output instead",
        )
    labels = np.asarray(y)
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] != 1 else labels[..., 0]
    classes, positions = np.unique(np.rint(labels).astype("int64"), return_inverse=True)
    weights = np.array([class_weight.get(int(c), 1.0) for c in classes], dtype=floatx())
    return weights[positions].reshape(labels.shape)


def complete(x: Any, y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None) -> Batch:
    """A batch in which class weights have become sample weights, and several outputs a sample weight each.

    Raises:
        DataError: Both kinds of weights are given, they don't fit the targets, or there are no targets.
    """
    for word, weights in (("class_weight", class_weight), ("sample_weight", sample_weight)):
        if weights is not None and y is None:
            raise_data_error(
                f"{word} was given, but there are no targets y to weigh.", do=f"pass y, or drop {word}"
            )
    if class_weight is not None:
        if sample_weight is not None:
            raise_data_error(
                "class_weight and sample_weight were both given.",
                do="multiply them yourself and pass the product as sample_weight",
            )
        return x, y, weigh_classes(y, class_weight)
    if sample_weight is not None and isinstance(y, (list, tuple, dict)):
        sample_weight = _weights_per_output(y, sample_weight)
    return x, y, sample_weight


def _weights_per_output(y: Any, sample_weight: Any) -> Any:
    outputs = jax.tree.structure(y)
    if isinstance(sample_weight, (list, tuple, dict)):
        if len(leaves(sample_weight)) != outputs.num_leaves or type(sample_weight) is not type(y):
            raise_data_error(
                f"sample_weight has {len(leaves(sample_weight))} arrays in a {type(sample_weight).__name__}, "
                f"but y has {outputs.num_leaves} in a {type(y).__name__}.",
                do="pass one array of weights per output, arranged as y is",
            )
        return sample_weight
    if sample_weight.ndim > 1 and math.prod(sample_weight.shape[1:]) > 1:
        raise_data_error(
            f"sample_weight has the shape {tuple(sample_weight.shape)} for {outputs.num_leaves} outputs.",
            do="pass weights of shape (examples,), or one array per output, arranged as y is",
        )
    return jax.tree.unflatten(outputs, [sample_weight] * outputs.num_leaves)


def split_validation(x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple[Batch, Batch]:
    """Split arrays into a first part to train on and a last part to validate on.

    Args:
        x: Inputs, as for `fit`.
        y: Targets or None.
        sample_weight: Weights or None.
        fraction: The share of examples, between 0 and 1, that goes to validation.

    Returns:
        The two parts, each as `(x, y, sample_weight)`.

    Raises:
        ArgumentError: The fraction is not between 0 and 1.
        DataError: The data are not arrays, or too few to split.
    """
    if not 0 < fraction < 1:
        raise ArgumentError(
            f"validation_split is {fraction}, but has to lie between 0 and 1.", do="pass for example 0.2"
        )
    if not is_array_like(x):
        raise_data_error(
            f"validation_split can't split a {type(x).__name__}, only arrays.",
            do="pass validation_data=... with data of its own",
        )
    parts = (as_arrays(x, "x"), as_arrays(y, "y"), as_arrays(sample_weight, "sample_weight"))
    examples = count_examples(parts)
    first = math.floor(examples * (1 - fraction))
    if first in (0, examples):
        raise_data_error(
            f"validation_split={fraction} of {examples} examples leaves one of the two parts without any.",
            do="pass more examples, another fraction, or validation_data",
        )

    def cut(piece: slice) -> Batch:
        take: Callable[[Any], Any] = lambda leaf: leaf[piece]
        train_x, train_y, weights = (jax.tree.map(take, part) for part in parts)
        return train_x, train_y, weights

    return cut(slice(0, first)), cut(slice(first, None))
