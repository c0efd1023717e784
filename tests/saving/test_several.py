"""Weights in several files: what is saved anew replaces the old in one stroke, and nothing else is touched."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import tally
from formats.harm import flips, truncations
from models.cases import CASES, assert_same, both
from tally import writing
from tally.core.errors import SavingError
from tally.formats.errors import BadFileError
from tally.readers import contents_of, read
from tally.saving.keras_shards import KerasFiles
from tally.saving.safetensors import Shards

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
L = tally.layers
HUB, KERAS = "m.safetensors", "m.weights.json"
each_form = pytest.mark.parametrize("name", [HUB, KERAS])


def make(value: float = 1.0) -> Any:
    model = tally.Sequential([tally.Input((4,)), L.Dense(6, name="a"), L.Dense(3, name="b")], name="net")
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    return model


def save(model: Any, path: Path, size: Any = "70B") -> None:
    model.save_weights(path, max_shard_size=size)


def value_in(path: Path) -> float:
    model = make(0.0)
    model.load_weights(path)
    (value,) = {float(value) for weight in model.get_weights() for value in weight.ravel()}
    return value


def index_of(path: Path) -> Path:
    return path if path.suffix == ".json" else path.with_name(path.name + ".index.json")


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def set_of(path: Path) -> set[str]:
    files = KerasFiles(path) if path.suffix == ".json" else Shards(path)
    return {files.index.name, *files.listed(), *files.kept}


# -- one set for another -------------------------------------------------------------------------------------------
@each_form
def test_names_are_plain_where_they_are_free_and_have_a_tag_where_they_are_not(
    name: str, tmp_path: Path
) -> None:
    plain = set()
    for number in range(4):
        save(make(number), tmp_path / name)
        assert names_in(tmp_path) == set_of(tmp_path / name)
        assert value_in(tmp_path / name) == number
        plain = plain or names_in(tmp_path)
    assert len(plain) > 3
    assert "m_00000.weights.h5" in plain if name == KERAS else "m-00001-of-00004.safetensors" in plain


@each_form
def test_what_a_killed_save_left_goes_with_the_next(name: str, tmp_path: Path) -> None:
    save(make(1.0), tmp_path / name)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    save(make(2.0), tmp_path / name)
    for old, data in before.items():  # as if it had been killed before its last step
        (tmp_path / old).write_bytes(data)
    assert value_in(tmp_path / name) == 1.0
    save(make(3.0), tmp_path / name)
    assert names_in(tmp_path) == set_of(tmp_path / name)
    assert value_in(tmp_path / name) == 3.0


def test_what_a_first_save_left_that_was_killed_goes_with_the_next(tmp_path: Path) -> None:
    save(make(1.0), tmp_path / HUB)
    index_of(tmp_path / HUB).unlink()
    save(make(2.0), tmp_path / HUB)
    assert names_in(tmp_path) == set_of(tmp_path / HUB)


@each_form
def test_files_of_others_stay_whatever_they_are_called(name: str, tmp_path: Path) -> None:
    kinds = {
        HUB: ["m-00001-of-00003.safetensors", "m-0123abcd-00001-of-00002.safetensors", "m-x.safetensors"],
        KERAS: ["m_00001.weights.h5", "m_0123abcd_00001.weights.h5", "m_best.weights.h5"],
    }
    for other in kinds[name]:
        (tmp_path / other).write_bytes(b"mine")
    for number in range(3):
        save(make(number), tmp_path / name)
        assert value_in(tmp_path / name) == number
    assert [(tmp_path / other).read_bytes() for other in kinds[name]] == [b"mine"] * 3
    assert names_in(tmp_path) == {*set_of(tmp_path / name), *kinds[name]}


def test_a_set_whose_name_goes_on_with_a_tag_is_another(tmp_path: Path) -> None:
    save(make(5.0), tmp_path / "m-0123abcd.safetensors")
    for number in range(3):
        save(make(number), tmp_path / HUB)
    assert value_in(tmp_path / "m-0123abcd.safetensors") == 5.0


def test_an_index_that_names_other_files_deletes_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    victims = ["letter.txt", "other.safetensors", "other-00001-of-00002.safetensors", "sub/m.safetensors"]
    for victim in victims:
        (tmp_path / victim).write_text("kept")
    placed = {
        str(number): name for number, name in enumerate((*victims, "../x", str(tmp_path / "letter.txt")))
    }
    index_of(tmp_path / HUB).write_text(json.dumps({"weight_map": placed}))
    save(make(), tmp_path / HUB)
    assert [(tmp_path / victim).read_text() for victim in victims] == ["kept"] * 4
    assert value_in(tmp_path / HUB) == 1.0


def test_the_files_of_an_index_that_another_program_wrote_are_replaced(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3, "float32")}, tmp_path / "m-00001-of-00001.safetensors")
    placed = {"w": "m-00001-of-00001.safetensors"}
    index_of(tmp_path / HUB).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    save(make(), tmp_path / HUB)
    assert names_in(tmp_path) == set_of(tmp_path / HUB)
    assert "m-00001-of-00001.safetensors" not in names_in(tmp_path)


@each_form
def test_what_a_living_process_writes_is_left_alone(name: str, tmp_path: Path) -> None:
    save(make(1.0), tmp_path / name)
    theirs = {file: (tmp_path / file).read_bytes() for file in set_of(tmp_path / name)}
    save(make(2.0), tmp_path / name)
    with writing.replaced(index_of(tmp_path / name)) as part:
        for file, data in theirs.items():  # they have written these, and are about to name them
            if file != index_of(tmp_path / name).name and not (tmp_path / file).exists():
                (tmp_path / file).write_bytes(data)
        part.write_bytes(theirs[index_of(tmp_path / name).name])
        save(make(3.0), tmp_path / name)
        assert value_in(tmp_path / name) == 3.0
        assert names_in(tmp_path) >= theirs.keys()


def test_one_file_stands_for_the_model_where_both_are_there(tmp_path: Path) -> None:
    path = tmp_path / HUB
    save(make(1.0), path)
    several = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    save(make(2.0), path, None)
    assert names_in(tmp_path) == {HUB}
    for file, data in several.items():
        (tmp_path / file).write_bytes(data)
    assert value_in(path) == 2.0
    assert value_in(index_of(path)) == 1.0
    save(make(3.0), path)
    assert names_in(tmp_path) == set_of(path)
    assert value_in(path) == 3.0


@each_form
def test_files_are_only_replaced_where_that_is_wanted(name: str, tmp_path: Path) -> None:
    save(make(1.0), tmp_path / name)
    before = names_in(tmp_path)
    with pytest.raises(SavingError, match="already"):
        make(2.0).save_weights(tmp_path / name, overwrite=False, max_shard_size="70B")
    assert names_in(tmp_path) == before
    assert value_in(tmp_path / name) == 1.0


def test_an_interruption_behind_the_last_step_deletes_nothing_of_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(make(1.0), tmp_path / HUB)
    rename = writing.os.replace

    def interrupted(part: Any, path: Any) -> None:
        rename(part, path)
        if str(path).endswith(".json"):
            raise KeyboardInterrupt

    monkeypatch.setattr(writing.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(make(2.0), tmp_path / HUB)
    monkeypatch.undo()
    assert value_in(tmp_path / HUB) == 2.0


# -- Keras's files -------------------------------------------------------------------------------------------------
KiB = 2**-20
"""In GiB, which is what Keras counts in."""


@pytest.mark.parametrize("case", list(CASES)[:4])
def test_weights_in_several_files_go_both_ways(case: str, tmp_path: Path) -> None:
    theirs, ours, inputs, expected = both(case)
    size = max(1.01 * max((v.numpy().nbytes for v in theirs.weights), default=0) / 2**30, KiB / 4)
    theirs.save_weights(tmp_path / "theirs.weights.json", max_shard_size=size)
    fresh = tally.models.clone_model(ours)
    fresh.load_weights(tmp_path / "theirs.weights.json")
    assert_same(fresh.get_weights(), [v.numpy() for v in theirs.weights])
    for _ in range(2):  # the second time with other names
        ours.save_weights(tmp_path / "ours.weights.json", max_shard_size=size)
        theirs.set_weights([0 * value for value in ours.get_weights()])
        theirs.load_weights(tmp_path / "ours.weights.json")
        assert_same(theirs(inputs), expected)


def trained(lib: Any) -> Any:
    model = lib.Sequential(
        [lib.Input((6,)), lib.layers.Dense(8), lib.layers.BatchNormalization(), lib.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    model.fit(np.ones((4, 6)), np.ones((4, 1)), verbose=0)
    return model


def test_an_optimizer_that_lies_in_several_files_goes_both_ways(tmp_path: Path) -> None:
    theirs, ours = trained(keras), trained(tally)
    theirs.save_weights(tmp_path / KERAS, max_shard_size=KiB / 4)
    placed = json.loads((tmp_path / KERAS).read_text())["weight_map"]
    assert len(placed["/optimizer/vars"]) > 2
    ours.load_weights(tmp_path / KERAS)
    assert_same(
        [v.numpy() for v in ours.optimizer.variables], [np.array(v) for v in theirs.optimizer.variables]
    )
    ours.set_weights([weight + 1 for weight in ours.get_weights()])
    save(ours, tmp_path / KERAS, "256B")  # over the files that Keras wrote
    assert names_in(tmp_path) == set_of(tmp_path / KERAS)
    theirs.load_weights(tmp_path / KERAS)
    assert_same([np.array(v) for v in theirs.weights], ours.get_weights())
    assert_same(
        [np.array(v) for v in theirs.optimizer.variables], [v.numpy() for v in ours.optimizer.variables]
    )


def test_the_account_is_that_of_one_file_and_says_where_each_array_is(tmp_path: Path) -> None:
    model = trained(keras)
    model.save_weights(tmp_path / "one.weights.h5")
    model.save_weights(tmp_path / KERAS, max_shard_size=KiB / 4)
    one, several = read(tmp_path / "one.weights.h5"), read(tmp_path / KERAS)
    assert several.total == one.total == model.count_params()
    assert sorted(e.path for e in several.entries) == sorted(e.path for e in one.entries)
    assert several.name == "m"
    contents = contents_of(tmp_path / KERAS)
    assert {tensor.span.file for tensor in contents.tensors if tensor.span} == set(contents.files[1:])
    for tensor in contents.tensors:
        span = tensor.span
        assert span is not None
        data = span.file.read_bytes()[span.start : span.start + span.nbytes]
        assert len(data) == tensor.size * np.dtype(tensor.dtype).itemsize


def test_an_array_that_is_larger_than_a_file_may_be_has_one_of_its_own(tmp_path: Path) -> None:
    save(make(), tmp_path / KERAS, "30B")
    assert value_in(tmp_path / KERAS) == 1.0
    assert len(set_of(tmp_path / KERAS)) == 5


def test_a_file_of_the_users_with_the_number_0_is_not_emptied(tmp_path: Path) -> None:
    make(7.0).save_weights(tmp_path / "m_00000.weights.h5")
    for _ in range(2):
        save(make(), tmp_path / KERAS)
    assert value_in(tmp_path / "m_00000.weights.h5") == 7.0


def test_weights_that_do_not_fit_are_named_and_nothing_changes(tmp_path: Path) -> None:
    save(make(), tmp_path / KERAS)
    other = tally.Sequential([tally.Input((4,)), L.Dense(6), L.Dense(2)])
    before = other.get_weights()
    with pytest.raises(SavingError, match=r"is \(6, 2\), the file has \(6, 3\)"):
        other.load_weights(tmp_path / KERAS)
    assert_same(other.get_weights(), before)
    with pytest.warns(UserWarning, match="Left as they were or not used: dense"):
        other.load_weights(tmp_path / KERAS, skip_mismatch=True)
    assert float(other.get_weights()[0].max()) == 1.0
    with pytest.raises(SavingError, match="by_name=True says nothing"):
        other.load_weights(tmp_path / KERAS, by_name=True)


def test_files_of_two_saves_are_not_mixed(tmp_path: Path) -> None:
    for folder, value in (("one", 1.0), ("two", 2.0)):
        (tmp_path / folder).mkdir()
        save(make(value), tmp_path / folder / KERAS)
    (tmp_path / "one" / "m_00001.weights.h5").write_bytes(
        (tmp_path / "two" / "m_00001.weights.h5").read_bytes()
    )
    with pytest.raises(
        SavingError, match=r"m_00001\.weights\.h5 was not written together with m\.weights\.json"
    ):
        value_in(tmp_path / "one" / KERAS)


# -- hostile -------------------------------------------------------------------------------------------------------
def placed_at(*names: Any) -> Callable[[dict[str, Any]], None]:
    def change(index: dict[str, Any]) -> None:
        index["weight_map"]["/layers/dense/vars"] = list(names)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (placed_at("../x.weights.h5"), "outside of its folder"),
        (placed_at("/etc/passwd"), "outside of its folder"),
        (placed_at("link.weights.h5"), "goes through a link"),
        (placed_at("folder"), "is no file"),
        (placed_at("missing.weights.h5"), "'missing.weights.h5', of 2 files, which aren't there"),
        (placed_at("m_00000.weights.h5", "m_00000.weights.h5"), "names a file twice"),
        (
            placed_at("m_00000.weights.h5", "copy.weights.h5"),
            "holds an array that 'copy.weights.h5' has, too",
        ),
        (
            placed_at("m_00000.weights.h5", "m_00001.weights.h5"),
            "holds arrays of 'layers/dense/vars', which it doesn't",
        ),
        (placed_at("m_00001.weights.h5"), "holds arrays of 'layers/dense/vars', which it doesn't"),
        (placed_at(), "is more than names of files"),
        (placed_at(3), "is more than names of files"),
        (lambda index: index["weight_map"].update({"layers/dense/vars": "x"}), "is named twice"),
        (lambda index: index["weight_map"].update({"/": {}}), "is more than names of files"),
        (
            lambda index: index.update(weight_map={"/layers/dense_1/vars": ["m_00000.weights.h5"]}),
            "holds an array, but 'm.weights.json' doesn't say so",
        ),
        (lambda index: index.update(weight_map=[]), "has no weight_map"),
    ],
)
def test_an_index_that_leads_astray_is_refused(tmp_path: Path, change: Any, reason: str) -> None:
    path = tmp_path / KERAS
    save(make(), path, "150B")  # a layer in each of two files
    (tmp_path / "link.weights.h5").symlink_to(tmp_path / "m_00000.weights.h5")
    (tmp_path / "copy.weights.h5").write_bytes((tmp_path / "m_00000.weights.h5").read_bytes())
    (tmp_path / "folder").mkdir()
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(BadFileError, match=reason):
        contents_of(path)
    model = make(5.0)
    with pytest.raises(SavingError, match=reason) as caught:
        model.load_weights(path)
    assert isinstance(caught.value, BadFileError)
    assert {float(weight.max()) for weight in model.get_weights()} == {5.0}


def test_an_array_in_two_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / KERAS
    save(make(), path)
    (tmp_path / "more.weights.h5").write_bytes((tmp_path / "m_00000.weights.h5").read_bytes())
    index = json.loads(path.read_text())
    placed = index["weight_map"]
    for group, names in placed.items():
        listed = [names] if isinstance(names, str) else names
        placed[group] = [*listed, "more.weights.h5"] if "m_00000.weights.h5" in listed else listed
    path.write_text(json.dumps(index))
    with pytest.raises(BadFileError, match=r"holds an array that 'm_00000\.weights\.h5' has, too"):
        contents_of(path)


def test_a_file_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    save(make(), tmp_path / KERAS)
    with h5py.File(tmp_path / "m_00000.weights.h5", "a") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink("/tmp/other.h5", "x")
    with pytest.raises(SavingError, match="link"):
        make().load_weights(tmp_path / KERAS)


def test_a_broken_index_gives_one_kind_of_error(tmp_path: Path) -> None:
    path = tmp_path / KERAS
    save(make(), path)
    data = path.read_bytes()
    outcomes = set()
    for broken in (*truncations(data, 7), *flips(data, 3, 200)):
        path.write_bytes(broken)
        try:
            make().load_weights(path)
            outcomes.add("loaded")
        except SavingError:
            outcomes.add("refused")
    assert outcomes == {"loaded", "refused"}


def test_a_broken_file_gives_one_kind_of_error(tmp_path: Path) -> None:
    save(make(), tmp_path / KERAS)
    file = tmp_path / "m_00000.weights.h5"
    data = file.read_bytes()
    for broken in (*truncations(data, 257), *flips(data, 5, 60)):
        file.write_bytes(broken)
        try:
            make().load_weights(tmp_path / KERAS)
        except SavingError:
            continue
