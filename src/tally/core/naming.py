"""Default names, counted in the process as Keras counts them: dense, dense_1, dense_2."""

_counts: dict[str, int] = {}


def auto_name(prefix: str) -> str:
    """The next default name: the word itself, then with 1, 2, ... behind it."""
    number = _counts.get(prefix, 0)
    _counts[prefix] = number + 1
    return f"{prefix}_{number}" if number else prefix


def reset_names() -> None:
    """Start counting anew."""
    _counts.clear()
