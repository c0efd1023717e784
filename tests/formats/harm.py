"""Ways to break a file, and the promise that holds for every one: a valid account of it, or one `BadFileError`."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tally.formats.errors import BadFileError
from tally.formats.tensor import Contents


def truncations(data: bytes, step: int = 1) -> Iterator[bytes]:
    """The file cut off at every byte, or at every so many."""
    return (data[:end] for end in range(0, len(data), step))


def flips(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """The file with one to four of its bits turned, so many times."""
    chance = random.Random(seed)
    for _ in range(count):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        yield bytes(broken)


def survives(
    read: Callable[[Path], Any], data: bytes, tmp_path: Path, name: str = "broken.bin"
) -> Contents | BadFileError:
    """Read some bytes as a file; whatever else than an account or a `BadFileError` comes fails the test."""
    path = tmp_path / name
    path.write_bytes(data)
    try:
        found = read(path)
    except BadFileError as error:
        return error
    assert isinstance(found, Contents)
    return found
