"""Fashion-MNIST: four packed files of bytes, equal to what Keras reads, and nothing but that."""

import gzip
import struct
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tally.datasets import fashion_mnist
from tally.formats.errors import BadFileError

CHANCE = np.random.default_rng(0)
NAMES = tuple(fashion_mnist._FILES)


def images(count: int) -> bytes:
    return struct.pack(">4I", 0x803, count, 28, 28) + CHANCE.integers(0, 256, count * 784, "uint8").tobytes()


def labels(count: int, below: int = 10) -> bytes:
    return (
        struct.pack(">2I", 0x801, count) + CHANCE.integers(below - 10, below, count).astype("uint8").tobytes()
    )


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def published(**changed: bytes) -> Path:
        whole = dict(zip(NAMES, (images(5), labels(5), images(2), labels(2)), strict=True))
        packed = {name: gzip.compress(data) for name, data in whole.items()}
        packed[NAMES[0]] = changed.get("images", packed[NAMES[0]])
        packed[NAMES[1]] = changed.get("labels", packed[NAMES[1]])
        found = {}
        for name, data in packed.items():
            file = tmp_path / name
            file.write_bytes(data)
            pin = sha256(data).hexdigest()
            found[name] = replace(fashion_mnist._FILES[name], address=file.as_uri(), pin=pin)
        monkeypatch.setattr(fashion_mnist, "_FILES", found)
        monkeypatch.setenv("TALLY_HOME", str(tmp_path / "home"))
        return tmp_path / "home" / "datasets" / "fashion-mnist"

    return published


def test_it_is_what_keras_reads(publish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.src.datasets import fashion_mnist as theirs

    folder = publish()
    ours = fashion_mnist.load_data()
    monkeypatch.setattr(theirs, "get_file", lambda name, **_: str(folder / name))
    for mine, yours in zip(ours, theirs.load_data(), strict=True):
        for one, other in zip(mine, yours, strict=True):
            np.testing.assert_array_equal(one, other)
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
    ours[0][0][0] = 0  # they may be written to


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"images": gzip.compress(images(5)[:-1])}, "claims 5 items, and has 3,919 bytes"),
        ({"images": gzip.compress(images(5) + b"1")}, "claims 5 items, and has 3,921 bytes"),
        ({"images": gzip.compress(images(4))}, "has not one label"),
        ({"images": gzip.compress(labels(5))}, "fewer than a header|something else"),
        ({"images": gzip.compress(struct.pack(">4I", 0x803, 2**32 - 1, 28, 28))}, "claims 4,294,967,295 items"),
        ({"images": gzip.compress(struct.pack(">4I", 0x803, 1, 2**31, 2**31))}, "something else"),
        ({"images": gzip.compress(b"\0" * 70_000_000, 1)}, "unpacks to more than 67,108,864 bytes"),
        ({"images": gzip.compress(images(5))[:-9]}, "isn't one whole gzip file"),
        ({"images": gzip.compress(images(5)) + b"more"}, "isn't one whole gzip file"),
        ({"images": images(5)}, "can't be unpacked"),
        ({"images": b""}, "isn't one whole gzip file"),
        ({"labels": gzip.compress(labels(5, 11 + 9))}, "has not one label from 0 to 9"),
        ({"labels": gzip.compress(b"\0\0\x08")}, "fewer than a header"),
        ({"labels": gzip.compress(images(5))}, "something else than bytes"),
    ],
)  # fmt: skip
def test_a_file_that_is_something_else_is_refused(
    publish: Any, changed: dict[str, bytes], words: str
) -> None:
    publish(**changed)
    with pytest.raises(BadFileError, match=words):
        fashion_mnist.load_data()


def test_every_file_is_pinned_by_its_sha256_and_its_size() -> None:
    assert {len(file.pin) for file in fashion_mnist._FILES.values()} == {64}
    assert sum(file.size for file in fashion_mnist._FILES.values()) == 30_878_645
