"""A file that doesn't fit a model: every weight is named, likely renames are suggested, and nothing is changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tally
from tally.core.errors import SavingError
from tally.saving.matching import compare, rename, short_renames

L = tally.layers


def row(*names: str, units: int = 3, seed: int = 0) -> Any:
    tally.utils.set_random_seed(seed)
    return tally.Sequential([tally.Input((4,)), *(L.Dense(units, name=name) for name in names)], name="net")


def refused(model: Any, path: Path) -> str:
    before = model.get_weights()
    with pytest.raises(SavingError) as caught:
        model.load_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(caught.value).replace(str(path), path.name)


def test_a_renamed_layer_is_told_with_the_map_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    stored, model = row("stem", "classifier"), row("stem", "classify", seed=1)
    stored.save_weights(path)
    assert refused(model, path) == (
        "The weights in m.safetensors don't fit 'net': of its 4 weights 2 are missing in the file, and the file has 2 "
        "that the model hasn't.\n"
        "  where: classify/kernel (3, 3) is missing; the file has classifier/kernel\n"
        "         classify/bias (3,) is missing; the file has classifier/bias\n"
        "  do: pass name_map={'classifier': 'classify'} if they are the same; or build the model the file was made "
        "from; or pass skip_mismatch=True to load what fits; nothing was changed"
    )
    model.load_weights(path, name_map={"classifier": "classify"})
    for one, two in zip(stored.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_each_kind_of_misfit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    row("a", "b").save_weights(path)
    model = tally.Sequential(
        [tally.Input((4,)), L.Dense(3, name="a"), L.Dense(5, name="b"), L.LayerNormalization(name="end")],
        name="net",
    )
    assert refused(model, path) == (
        "The weights in m.safetensors don't fit 'net': of its 6 weights 2 are missing in the file, and 2 have other "
        "shapes.\n"
        "  where: end/gamma (5,) is missing\n"
        "         end/beta (5,) is missing\n"
        "         b/kernel is (3, 5), the file has (3, 3)\n"
        "         b/bias is (5,), the file has (3,)\n"
        "  do: build the model the file was made from; or pass skip_mismatch=True to load what fits; nothing was "
        "changed"
    )


def test_a_long_list_is_cut_with_a_count(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    row(*(f"old_{i}" for i in range(10)), units=4).save_weights(path)
    text = refused(row(*(f"x{i}" for i in range(20)), units=6), path)
    lines = text.splitlines()
    assert (
        "of its 40 weights 40 are missing in the file, and the file has 20 that the model hasn't." in lines[0]
    )
    assert "         and 34 more missing" in lines
    assert "         and 14 more only in the file" in lines
    assert len(lines) == 16


def test_what_fits_can_be_loaded_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    stored, model = row("a", "b"), row("a", "c", seed=1)
    stored.save_weights(path)
    with pytest.warns(UserWarning, match=r"Left as they were or not used: c/kernel \(3, 3\): the file"):
        report = model.load_weights(path, skip_mismatch=True)
    np.testing.assert_array_equal(stored.get_weights()[0], model.get_weights()[0])
    assert [match.path for match in report.matched] == ["a/kernel", "a/bias"]


def test_hdf5_names_all_that_does_not_fit_and_a_layer_of_the_same_shapes(tmp_path: Path) -> None:
    def graph(*places: str) -> Any:
        class Net(tally.Model):
            def __init__(self) -> None:
                super().__init__(name="net")
                for place in places:
                    setattr(self, place, L.Dense(4, name=place))

            def call(self, x: Any) -> Any:
                for place in places:
                    x = getattr(self, place)(x)
                return x

        model = Net()
        model.build((None, 4))
        return model

    path = tmp_path / "m.weights.h5"
    graph("stem", "classifier").save_weights(path)
    text = refused(graph("stem", "classify"), path)
    assert text == (
        "The weights in m.weights.h5 don't fit 'net': of its 4 weights 2 are missing in the file, and the file has 2 "
        "that the model hasn't.\n"
        "  where: classify/kernel (4, 4) is missing at classify/vars/0; the file has classifier/vars/0\n"
        "         classify/bias (4,) is missing at classify/vars/1; the file has classifier/vars/1\n"
        "  do: pass name_map={'classifier': 'classify'} if they are the same; or build the model the file was made "
        "from; or pass skip_mismatch=True to load what fits; nothing was changed"
    )


def test_the_most_alike_of_equal_shapes_is_suggested() -> None:
    found = compare(
        {"enc/kernel": (2, 2), "dec/kernel": (2, 2), "enc/bias": (2,)},
        {"decoder/kernel": (2, 2), "encoder/kernel": (2, 2), "encoder/bias": (3,)},
    )
    assert found.likely == {"enc/kernel": "encoder/kernel", "dec/kernel": "decoder/kernel"}
    assert found.renames == {"encoder": "enc", "decoder": "dec"}


def test_a_name_that_another_weight_keeps_is_not_suggested() -> None:
    assert compare({"a/w": (2,), "b/w": (3,)}, {"a/w": (3,), "b/w": (2,)}).renames == {"a": "b", "b": "a"}
    assert compare({"a/w": (2,), "b/w": (3,)}, {"a/w": (3,), "b/w": (3,)}).renames == {}
    assert compare({"a/w": (2,), "b/w": (3,)}, {"a/w": (4,), "c/w": (2,)}).renames == {}
    moved = compare({"a/w": (2,), "b/w": (3,), "c/w": (4,)}, {"a/w": (4,), "b/w": (2,), "d/w": (3,)})
    assert moved.renames == {"b": "a", "d": "b", "a": "c"}


def test_names_that_are_not_alike_are_not_suggested() -> None:
    assert compare({"stem/kernel": (2, 2)}, {"q.zz": (2, 2)}).renames == {}


def test_two_renames_of_one_part_are_told_apart() -> None:
    pairs = [("x/kernel", "a/kernel"), ("x/bias", "b/bias")]
    assert short_renames(pairs) == {"x": "a", "x/bias": "b/bias"}


def test_the_longest_beginning_counts() -> None:
    names = {"enc": "body", "enc.out": "head", "encoder": "never"}
    assert [rename(name, names) for name in ("enc.a.w", "enc.out.w", "encode.w", "enc")] == [
        "body.a.w",
        "head.w",
        "encode.w",
        "body",
    ]
    assert rename("a.w", lambda name: "b.w" if name == "a.w" else None) == "b.w"
    assert rename("c.w", lambda name: None) == "c.w"
