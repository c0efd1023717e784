"""What the data sets of texts share: sequences of word numbers, how they are cut down, and the number of each word."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from tally.core.errors import ArgumentError
from tally.datasets.published import Published
from tally.formats.errors import BadFileError
from tally.formats.json_text import parse_json

_MOST = 20_000_000
"""Words in one array; the reviews of IMDB have 6 million. A list that a pickle names twice counts twice."""
_LARGEST = 2**31

Sequences = list[list[int]]
Split = tuple[np.ndarray, np.ndarray]


def prepared(
    found: Any,
    labels: Any,
    path: Path,
    name: str,
    *,
    generator: np.random.RandomState,
    start_char: int | None,
    index_from: int,
    maxlen: int | None,
) -> tuple[Sequences, np.ndarray]:
    """Check the sequences of a file, shuffle them, begin each with the mark of the start, leave out the long ones.

    Args:
        found: What should be lists of whole numbers.
        labels: What should be as many whole numbers.
        path: The file, for the error.
        name: The array in it.
        generator: What the order is drawn from.
        start_char: The mark of the start; None for none.
        index_from: What is added to the number of each word.
        maxlen: Sequences of as many numbers or more are left out.

    Raises:
        BadFileError: They are something else.
        ArgumentError: All are too long.
    """
    sequences, labels = _shuffled(*_checked(found, labels, path, name), generator)
    return _short_only(_begun(sequences, start_char, index_from), labels, maxlen)


def _checked(found: Any, labels: Any, path: Path, name: str) -> tuple[Sequences, np.ndarray]:
    """Give the sequences and labels of a file, once they are known to be nothing else.

    Args:
        found: What should be lists of whole numbers.
        labels: What should be as many whole numbers.
        path: The file, for the error.
        name: The array in it.

    Raises:
        BadFileError: They are something else.
    """
    place = f"member '{name}.npy'"
    if not isinstance(found, list) or not all(type(one) is list for one in found):
        raise BadFileError(path, "is no array of lists", place=place)
    sequences = cast("Sequences", found)
    if sum(map(len, sequences)) > _MOST:
        raise BadFileError(path, f"has more than {_MOST:,} words", place=place)
    if any(
        set(map(type, one)) - {int} or (one and not 0 <= min(one) <= max(one) < _LARGEST) for one in sequences
    ):
        raise BadFileError(path, "has a sequence of something else than the numbers of words", place=place)
    if not (
        isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.shape == (len(sequences),)
    ):
        raise BadFileError(path, f"has not one label for each of {len(sequences):,} sequences", place=place)
    return sequences, labels


def _shuffled(
    sequences: Sequences, labels: np.ndarray, generator: np.random.RandomState
) -> tuple[Sequences, np.ndarray]:
    """Bring both into the same order by chance."""
    order = np.arange(len(sequences))
    generator.shuffle(order)
    return [sequences[place] for place in order], labels[order]


def _begun(sequences: Sequences, start_char: int | None, index_from: int) -> Sequences:
    """Make room for the numbers that stand for no word, and put the mark of the start in front."""
    start = [] if start_char is None else [start_char]
    return [[*start, *(word + index_from for word in one)] for one in sequences]


def _short_only(sequences: Sequences, labels: np.ndarray, maxlen: int | None) -> tuple[Sequences, np.ndarray]:
    """Leave out the sequences that have `maxlen` numbers or more.

    Raises:
        ArgumentError: None is left.
    """
    if not maxlen:
        return sequences, labels
    kept = [place for place, one in enumerate(sequences) if len(one) < maxlen]
    if not kept:
        raise ArgumentError(
            f"maxlen={maxlen} leaves no sequence: the shortest has {min(map(len, sequences), default=0)} numbers.",
            do="pass a larger maxlen",
        )
    return [sequences[place] for place in kept], labels[kept]


def common_only(
    sequences: Sequences, num_words: int | None, skip_top: int, oov_char: int | None
) -> Sequences:
    """Replace the words that are too rare or too common, or leave them out where nothing stands for them."""
    # Without num_words the largest number there is falls out itself: Keras does so, and models were trained on it.
    end = num_words or max((max(one) for one in sequences if one), default=0)
    if oov_char is None:
        return [[word for word in one if skip_top <= word < end] for one in sequences]
    return [[word if skip_top <= word < end else oov_char for word in one] for one in sequences]


def as_objects(sequences: Sequence[list[int]]) -> np.ndarray:
    """Give an array of lists; `np.array` would make a table of lists that are all of one length."""
    found = np.empty(len(sequences), object)
    for place, one in enumerate(sequences):
        found[place] = one
    return found


def read_index(file: Published, path: str) -> dict[str, int]:
    """Give the number of each word.

    Raises:
        DataError: The file isn't there and can't be downloaded, or is another one.
        BadFileError: It is something else than words and numbers.
    """
    found = file.fetch(path)
    index = parse_json(found.read_bytes(), found)
    if not isinstance(index, dict) or not _are_numbers(cast("dict[str, Any]", index).values()):
        raise BadFileError(found, "is no list of words and their numbers")
    return cast("dict[str, int]", index)


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) is int and 0 < value < _LARGEST for value in values)
