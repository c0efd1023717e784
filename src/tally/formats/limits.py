"""What a file may claim before anything is allocated for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a file is believed; each limit is far above what real files need.

    Args:
        header: Bytes of structure that are read: a header, an index, a pickle, a configuration.
        tensors: How many arrays a file may name.
        rank: Dimensions an array may have.
        elements: Scalars an array may hold, and all together; past 2^63 no format can store the offset.
        depth: How deep lists, objects and messages may be nested.
        name: Characters of one name.
        files: Files that one model may be split into.
        ratio: How many times its stored size a compressed part may unpack to.

    Example:
        >>> Limits(tensors=10).tensors
        10
    """

    header: int = 512 * 2**20
    tensors: int = 2_000_000
    rank: int = 64
    elements: int = 2**63 - 1
    depth: int = 100
    name: int = 4_096
    files: int = 10_000
    ratio: int = 1_000


LIMITS = Limits()
