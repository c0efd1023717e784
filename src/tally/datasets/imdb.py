"""IMDB: 50,000 reviews of films as numbers of words, each for or against the film."""

import numpy as np

from tally.datasets.arrays import read_npz
from tally.datasets.published import KERAS, Published
from tally.datasets.words import Split, as_objects, common_only, prepared, read_index

_FILE = Published(
    title="IMDB",
    address=f"{KERAS}imdb.npz",
    pin="69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
    size=17_464_789,
)
_INDEX = Published(
    title="The word index of IMDB",
    address=f"{KERAS}imdb_word_index.json",
    pin="bfafd718b763782e994055a2d397834f",
    size=1_641_221,
)


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple[Split, Split]:
    """Load the reviews from `~/.tally/datasets`, where they are downloaded to (17 MB) the first time.

    Words are numbered by how common they are: 1 is the most common one, in the file "the". What comes back has
    `index_from` added to each, and the smaller numbers stand for no word: 0 for nothing, to fill up with.

    Args:
        path: Name of the file there.
        num_words: Numbers from this one on are replaced by `oov_char`; by default only the largest that occurs.
        skip_top: Numbers below this one are replaced by `oov_char`.
        maxlen: Reviews of as many numbers or more are left out.
        seed: The same number gives the same order.
        start_char: What each review begins with; None for nothing.
        oov_char: What stands for a word that is left out; None to leave nothing in its place.
        index_from: What is added to the number of each word.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 25,000 reviews each, an array of lists of whole numbers, and 1 for each
        that speaks for the film, 0 against it, int64, (reviews,).

    Raises:
        ArgumentError: No review is as short as `maxlen` asks.
        DataError: The file is not there and could not be downloaded, or is not the expected one.
        BadFileError: The file has something else than reviews in it.

    Example:
        ```python
        (x_train, y_train), _ = tally.datasets.imdb.load_data(num_words=10_000)
        words = {number + 3: word for word, number in tally.datasets.imdb.get_word_index().items()}
        print(" ".join(words.get(number, "?") for number in x_train[0]))
        ```

    Source: Maas et al., 2011, https://ai.stanford.edu/~amaas/data/sentiment; the file of `keras.datasets.imdb`. It
        holds pickles, which are read as data: none is run.
    """
    file = _FILE.fetch(path)
    arrays = read_npz(file, ("x_train", "y_train", "x_test", "y_test"))
    options = {"start_char": start_char, "index_from": index_from, "maxlen": maxlen}
    generator = np.random.RandomState(seed)  # one for both: the order of the second half follows the first's
    (x_train, y_train), (x_test, y_test) = (
        prepared(arrays[f"x_{half}"], arrays[f"y_{half}"], file, f"x_{half}", generator=generator, **options)
        for half in ("train", "test")
    )
    reviews = common_only(x_train + x_test, num_words, skip_top, oov_char)
    count = len(x_train)
    return (as_objects(reviews[:count]), y_train), (as_objects(reviews[count:]), y_test)


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """Load the number of each word, 88,584 of them; the numbers in the reviews are larger by `index_from`.

    The SHA-256 of this file is not known here: what is downloaded is compared with its MD5, which keeps accidents out
    but not somebody who can forge one, and is read as plain JSON of words and numbers.

    Args:
        path: Name of the file in `~/.tally/datasets`, where it is downloaded to (2 MB) the first time.

    Raises:
        DataError: The file is not there and could not be downloaded, or is not the expected one.
        BadFileError: It is something else than words and their numbers.

    Source: The file of `keras.datasets.imdb`.
    """
    return read_index(_INDEX, path)
