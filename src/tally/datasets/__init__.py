"""Data sets to learn and to test with, as Keras has them, and handwritten digits that need no network.

`published` brings their files, each compared with a hash; `arrays` reads what is in them, and runs none of the pickles.
"""

from tally.datasets import (
    boston_housing,
    california_housing,
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    imdb,
    mnist,
    reuters,
)

__all__ = [
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
]
