"""What an array of fixed numbers looks like: weights that someone forgot to make, or a constant that someone meant."""

import numpy as np

_MOST = 4096
"""As many numbers are looked at."""


def looks_like_weights(value: np.ndarray) -> bool:
    """Tell numbers as they come from an initializer from a constant with a shape of its own.

    An initializer gives noise without order, or all zeros or ones. Filters, encodings, transforms and statistics have
    an order: values repeat, are symmetric, add up to zero or one, or follow from their neighbours.

    Args:
        value: The array.

    Example:
        >>> looks_like_weights(np.random.default_rng(0).normal(size=(10, 5)))
        True
        >>> looks_like_weights(np.array([[1., 2., 1.], [0., 0., 0.], [-1., -2., -1.]]))
        False
    """
    if value.dtype.kind not in "fV" or not value.size or not np.isfinite(value.astype(float)).all():
        return False
    numbers = value.astype(float)
    flat = numbers.ravel()[:_MOST]
    if np.ptp(flat) == 0:
        return bool(flat[0] in (0.0, 1.0)) and value.size > 1
    return flat.size >= 4 and _is_noise(numbers, flat)


def _is_noise(numbers: np.ndarray, flat: np.ndarray) -> bool:
    if len(np.unique(flat)) < 0.9 * flat.size:
        return False
    steps = np.diff(flat)
    if (steps >= 0).all() or (steps <= 0).all():
        return False
    total = float(numbers.sum())
    if any(abs(total - goal) < 1e-6 * np.abs(flat).sum() for goal in (0.0, 1.0)):
        return False
    return not _is_orthogonal(numbers) and not _is_smooth(numbers)


def _is_orthogonal(numbers: np.ndarray) -> bool:
    """A transform, such as a Fourier or cosine basis, has columns at right angles."""
    if numbers.ndim != 2 or min(numbers.shape) < 2 or numbers.size > _MOST:
        return False
    tall = numbers if numbers.shape[0] >= numbers.shape[1] else numbers.T
    squares = tall.T @ tall
    scale = np.sqrt(np.outer(np.diag(squares), np.diag(squares))) + 1e-12
    return bool(np.abs(squares / scale - np.eye(len(squares))).max() < 1e-3)


def _is_smooth(numbers: np.ndarray) -> bool:
    """Neighbours that tell of each other along some axis: a window, a ramp, a wave."""
    for axis in range(numbers.ndim):
        if numbers.shape[axis] < 3:
            continue
        moved = np.moveaxis(numbers, axis, 0)
        here, there = moved[:-1].ravel()[:_MOST], moved[1:].ravel()[:_MOST]
        if here.size >= 8 and here.std() and there.std() and abs(np.corrcoef(here, there)[0, 1]) > 0.6:
            return True
    return False
