"""Small data sets to learn and to test with: handwritten digits that need no network, and MNIST."""

from tally.datasets import digits, mnist

__all__ = ["digits", "mnist"]
