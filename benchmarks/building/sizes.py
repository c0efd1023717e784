"""The sizes that every contestant builds its models with."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """A decoder's sizes.

    Args:
        blocks: How many blocks.
        width: Features of a token.
        heads: Heads of the attention.
        words: Words in the vocabulary.
        length: Tokens in a sequence.
        experts: Experts in a block; one plain pair of layers if there are none.
    """

    blocks: int
    width: int
    heads: int
    words: int
    length: int
    experts: int = 0


GPT3 = Sizes(blocks=96, width=12_288, heads=96, words=50_257, length=2_048)
EXPERTS = Sizes(blocks=64, width=5_632, heads=44, words=50_257, length=2_048, experts=64)

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""ResNet-50: blocks in a stage, and the filters of their inner convolutions; the outer ones have four times as many."""
EPSILON = 1.001e-5
"""Of ResNet-50's normalisations."""
