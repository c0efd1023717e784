"""Reuters: 11,228 newswires of 1987 as numbers of words, each on one of 46 topics."""

import numpy as np

from tally.core.errors import ArgumentError
from tally.datasets.arrays import read_npz
from tally.datasets.published import KERAS, Published
from tally.datasets.words import Split, as_objects, common_only, prepared, read_index

_FILE = Published(
    title="Reuters",
    address=f"{KERAS}reuters.npz",
    pin="d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916",
    size=2_110_848,
)
_INDEX = Published(
    title="The word index of Reuters",
    address=f"{KERAS}reuters_word_index.json",
    pin="4d44cc38712099c9e383dc6e5f11a921",
    size=550_378,
)
_TOPICS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass "
    "crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi "
    "iron-steel rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead"
)


def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple[Split, Split]:
    """Load the newswires from `~/.tally/datasets`, where they are downloaded to (2 MB) the first time.

    Words are numbered by how common they are: 1 is the most common one. What comes back has `index_from` added to each,
    and the smaller numbers stand for no word: 0 for nothing, to fill up with.

    Args:
        path: Name of the file there.
        num_words: Numbers from this one on are replaced by `oov_char`; by default only the largest that occurs.
        skip_top: Numbers below this one are replaced by `oov_char`.
        maxlen: Newswires of as many numbers or more are left out.
        test_split: The share that is held out to test with, the last ones after shuffling.
        seed: The same number gives the same order.
        start_char: What each newswire begins with; None for nothing.
        oov_char: What stands for a word that is left out; None to leave nothing in its place.
        index_from: What is added to the number of each word.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 8,982 and 2,246 newswires, an array of lists of whole numbers, and the
        topic of each, int64 from 0 to 45, (newswires,).

    Raises:
        ArgumentError: `test_split` is no share, or no newswire is as short as `maxlen` asks.
        DataError: The file is not there and could not be downloaded, or is not the expected one.
        BadFileError: The file has something else than newswires in it.

    Source: Reuters-21578, https://doi.org/10.24432/C52G6M; the file of `keras.datasets.reuters`. It holds a pickle,
        which is read as data: it is not run.
    """
    if not 0 <= test_split <= 1:
        raise ArgumentError(
            f"test_split={test_split} is no share.", do="choose a number from 0 to 1, such as 0.2"
        )
    file = _FILE.fetch(path)
    arrays = read_npz(file, ("x", "y"))
    options = {"start_char": start_char, "index_from": index_from, "maxlen": maxlen}
    generator = np.random.RandomState(seed)
    wires, labels = prepared(arrays["x"], arrays["y"], file, "x", generator=generator, **options)
    wires = common_only(wires, num_words, skip_top, oov_char)
    count = int(len(wires) * (1 - test_split))
    return (as_objects(wires[:count]), labels[:count].copy()), (
        as_objects(wires[count:]),
        labels[count:].copy(),
    )


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """Load the number of each word, 30,979 of them; the numbers in the newswires are larger by `index_from`.

    The SHA-256 of this file is not known here: what is downloaded is compared with its MD5, which keeps accidents out
    but not somebody who can forge one, and is read as plain JSON of words and numbers.

    Args:
        path: Name of the file in `~/.tally/datasets`, where it is downloaded to (1 MB) the first time.

    Raises:
        DataError: The file is not there and could not be downloaded, or is not the expected one.
        BadFileError: It is something else than words and their numbers.

    Source: The file of `keras.datasets.reuters`.
    """
    return read_index(_INDEX, path)


def get_label_names() -> tuple[str, ...]:
    """Give the names of the 46 topics, in the order of their numbers.

    Example:
        >>> get_label_names()[3]
        'earn'

    Source: `keras.datasets.reuters.get_label_names`.
    """
    return tuple(_TOPICS.split())
