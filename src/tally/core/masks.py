"""Masks that travel with arrays: which time steps of a sequence are to be skipped."""

import weakref
from typing import Any

_masks: dict[int, tuple[Any, Any]] = {}


def set_mask(array: Any, mask: Any) -> Any:
    """Attach a boolean mask to an array (None takes it away) and return the array."""
    key = id(array)
    if mask is None:
        _masks.pop(key, None)
    elif hasattr(array, "keras_mask"):  # a symbolic tensor
        array.keras_mask = mask
    else:
        try:
            reference = weakref.ref(array, lambda _: _masks.pop(key, None))
        except TypeError:
            return array
        _masks[key] = (reference, mask)
    return array


def get_mask(array: Any) -> Any:
    """The mask attached to an array, or None."""
    if hasattr(array, "keras_mask"):
        return array.keras_mask
    reference, mask = _masks.get(id(array), (None, None))
    return mask if reference is not None and reference() is array else None
