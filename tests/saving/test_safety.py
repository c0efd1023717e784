"""Files that are damaged, hostile or meant for another model do no harm and say what is wrong with them."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import tally
from tally.core.errors import SavingError
from tally.formats import safetensors
from tally.formats.errors import BadFileError


def make(units: int = 3) -> Any:
    layers = tally.layers
    return tally.Sequential(
        [tally.Input((4,)), layers.Dense(units, name="low"), layers.Dense(2, name="high")]
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    make().save_weights(tmp_path / "model.weights.h5")
    return tmp_path / "model.weights.h5"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    make().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def assert_refused(path: Path, match: str, model: Any = None) -> SavingError:
    """Loading fails, and the model is as it was."""
    model = model or make()
    before = model.get_weights()
    with pytest.raises(SavingError, match=match) as caught:
        model.load_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    return caught.value


def rewrite(path: Path, change: Callable[[dict[str, bytes]], Any]) -> None:
    """Change the members of an archive."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def test_weights_of_other_shapes_name_the_layer_and_both_shapes(weights: Path) -> None:
    error = assert_refused(weights, "low", make(units=5))
    assert str(error) == (
        f"The weights in {weights} don't fit 'sequential_1': of its 4 weights 3 have other shapes.\n"
        "  where: low/kernel is (4, 5), the file has (4, 3) at layers/dense/vars/0\n"
        "         low/bias is (5,), the file has (3,) at layers/dense/vars/1\n"
        "         high/kernel is (5, 2), the file has (3, 2) at layers/dense_1/vars/0\n"
        "  do: build the model the file was made from; or pass skip_mismatch=True to load what fits; nothing was "
        "changed"
    )


def test_layers_that_do_not_fit_can_be_skipped(weights: Path) -> None:
    stored, model = (
        make(),
        tally.Sequential([tally.Input((4,)), tally.layers.Dense(3), tally.layers.Dense(9)]),
    )
    stored.load_weights(weights)
    with pytest.warns(UserWarning, match=r"Left as they were .* \(3, 9\): the file has \(3, 2\)"):
        model.load_weights(weights, skip_mismatch=True)
    np.testing.assert_array_equal(model.get_weights()[0], stored.get_weights()[0])


def test_a_file_with_fewer_layers_says_which_is_missing(weights: Path) -> None:
    model = make()
    model.add(tally.layers.Dense(1, name="top"))
    assert_refused(weights, r"top/kernel \(2, 1\) is missing at layers/dense_2/vars/0", model)


def test_weights_for_an_unbuilt_model_say_that_it_is_not_built(weights: Path) -> None:
    model = tally.Sequential([tally.layers.Dense(3), tally.layers.Dense(2)])
    assert_refused(weights, "nowhere to go: 'sequential_1' is not built", model)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_cut_off_file_is_damaged(archive: Path, weights: Path, keep: float) -> None:
    for path in (archive, weights):
        data = path.read_bytes()
        path.write_bytes(data[: int(keep * len(data))])
        assert_refused(path, "damaged|neither an HDF5 file nor a .keras archive")


def test_flipped_bytes_in_an_archive_are_noticed(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(SavingError, match="is damaged: Bad CRC-32"):
        tally.saving.load_model(archive)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_member_is_named(archive: Path, name: str) -> None:
    rewrite(archive, lambda members: members.pop(name))
    with pytest.raises(SavingError, match=f"holds no {name}"):
        tally.saving.load_model(archive)


def test_a_configuration_that_is_no_json_is_damaged(archive: Path) -> None:
    rewrite(archive, lambda members: members.update({"config.json": b'{"config": '}))
    with pytest.raises(SavingError, match=r"config\.json: is no JSON: expecting value at letter 11"):
        tally.saving.load_model(archive)


def test_a_configuration_that_describes_nothing_is_refused(archive: Path) -> None:
    rewrite(archive, lambda members: members.update({"config.json": b"[1, 2]"}))
    with pytest.raises(SavingError, match=r"config.json in .* doesn't describe a model"):
        tally.saving.load_model(archive)


def test_a_member_that_unpacks_to_far_more_than_is_stored_is_refused(archive: Path) -> None:
    rewrite(archive, lambda members: members.update({"config.json": b" " * 10**7}))
    with pytest.raises(SavingError, match="claims 10,000,000 bytes"):
        tally.saving.load_model(archive)


def test_no_module_is_imported_because_a_file_names_it(
    archive: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"][1].update(
            module="evil", class_name="Dense_", registered_name="evil>Dense_"
        )
        members["config.json"] = json.dumps(config).encode()

    rewrite(archive, change)
    with pytest.raises(SavingError, match="names 'Dense_' from evil, which is not known here"):
        tally.saving.load_model(archive)


def test_a_class_of_this_library_is_not_found_under_a_foreign_module() -> None:
    config = {"module": "evil.layers", "class_name": "Dense", "config": {"units": 1}, "registered_name": None}
    with pytest.raises(SavingError, match=r"names 'Dense' from evil\.layers"):
        tally.saving.deserialize_keras_object(config)


def soft(file: h5py.File, elsewhere: Path) -> Any:
    return h5py.SoftLink("/layers/dense_1/vars/0")


def external(file: h5py.File, elsewhere: Path) -> Any:
    return h5py.ExternalLink(str(elsewhere), "/secret")


@pytest.mark.parametrize("link", [soft, external])
@pytest.mark.parametrize("place", ["layers/dense/vars/0", "layers/dense/vars", "layers/dense", "layers"])
def test_links_are_not_followed(weights: Path, tmp_path: Path, link: Any, place: str) -> None:
    with h5py.File(tmp_path / "elsewhere.h5", "w") as other:
        other["secret"] = np.ones((4, 3), "float32")
    with h5py.File(weights, "r+") as file:
        del file[place]
        file[place] = link(file, tmp_path / "elsewhere.h5")
    error = assert_refused(weights, "is a link to (somewhere else|another file)")
    assert "do: don't trust this file" in str(error)


def test_external_storage_and_virtual_datasets_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(np.ones((4, 3), "float32").tobytes())
    with h5py.File(weights, "r+") as file:
        del file["layers/dense/vars/0"]
        file.create_dataset(
            "layers/dense/vars/0", (4, 3), "float32", external=[(str(tmp_path / "secret.bin"), 0, 48)]
        )
    assert_refused(weights, "is kept in another file")
    with h5py.File(weights, "r+") as file:
        del file["layers/dense/vars/0"]
        layout = h5py.VirtualLayout((4, 3), "float32")
        layout[:] = h5py.VirtualSource(str(tmp_path / "elsewhere.h5"), "secret", (4, 3))
        file.create_virtual_dataset("layers/dense/vars/0", layout)
    assert_refused(weights, "is put together from other files")


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("float32", (10**6, 10**6)), ("S8", (4, 3)), ([("x", "f4")], (4, 3)), ("(999,)f4", (4, 3))],
)
def test_what_is_no_plain_array_of_numbers_is_refused(weights: Path, dtype: Any, shape: Any) -> None:
    with h5py.File(weights, "r+") as file:
        del file["layers/dense/vars/0"]
        chunks = (1000, 1000) if shape[0] > 4 else None
        file["layers/dense/vars"].create_dataset("0", shape, np.dtype(dtype), chunks=chunks)
    assert_refused(weights, "claims 4,000,000,000,000 bytes|no numbers|don't fit")


def test_a_configuration_of_absurd_size_allocates_nothing(archive: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"][1]["config"]["units"] = 10**13
        members["config.json"] = json.dumps(config).encode()

    rewrite(archive, change)
    with pytest.raises(SavingError, match=r"low/kernel is \(4, 10000000000000\), the file has \(4, 3\)"):
        tally.saving.load_model(archive)


def test_an_asset_can_not_leave_its_folder(tmp_path: Path) -> None:
    from tally.saving.files import extract_folder

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("assets/layer/../../../gone.txt", "x")
    with (
        zipfile.ZipFile(tmp_path / "a.zip") as file,
        pytest.raises(SavingError, match="leads out of its folder"),
    ):
        extract_folder(file, "assets/layer", tmp_path / "inside")


def test_a_save_that_fails_leaves_the_old_file_whole(archive: Path, monkeypatch: Any) -> None:
    before = archive.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(SavingError, match="could not be written: disk full"):
        make().save(archive)
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.iterdir()] == ["model.keras"]


def test_a_file_is_not_overwritten_unless_that_is_allowed(archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(SavingError) as caught:
        make(5).save(archive, overwrite=False)
    assert str(caught.value) == (
        f"There is a file at {archive} already.\n  do: choose another name, or pass overwrite=True"
    )
    assert archive.read_bytes() == before


def test_saving_through_a_link_writes_the_file_it_means(archive: Path) -> None:
    link = archive.with_name("link.keras")
    link.symlink_to(archive)
    make(5).save(link)
    assert link.is_symlink()
    assert tally.saving.load_model(archive).layers[0].units == 5


def test_other_endings_are_refused_with_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(SavingError) as caught:
        make().save(tmp_path / "model.tf")
    assert str(caught.value) == (
        "A model is saved to one file whose name ends in .keras, not to 'model.tf'.\n"
        "  do: use model.save('model.keras'), or model.save_weights('model.weights.h5') for the weights alone"
    )
    with pytest.raises(SavingError, match=r"a name that ends in .weights.h5, not 'model.h5'"):
        make().save_weights(tmp_path / "model.h5")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    for load in (make().load_weights, tally.saving.load_model):
        with pytest.raises(SavingError, match="There is no file at"):
            load(tmp_path / "none.keras")


def test_a_model_without_weights_yet_is_saved_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is saved without weights"):
        tally.Sequential([tally.layers.Dense(1)]).save(tmp_path / "model.keras")


@pytest.mark.parametrize("load", [tally.saving.load_model, lambda path: make().load_weights(path)])
def test_an_archive_that_is_not_whole_is_called_so(archive: Path, load: Any) -> None:
    data = archive.read_bytes()
    for length, match in (
        (len(data) // 2, "byte [0-9,]+: is no zip, or its end is missing: there is no directory"),
        (len(data) - 5, "byte [0-9,]+: is no zip, or its end is missing: there is no directory"),
        (2, "is no zip, as a .keras file is"),
    ):
        archive.write_bytes(data[:length])
        with pytest.raises(SavingError, match=match) as caught:
            load(archive)
        assert isinstance(caught.value, BadFileError)
        assert caught.value.file == str(archive)


def deflated(path: Path) -> None:
    """Store the arrays of a PyTorch file compressed, the last one broken."""
    rewrite(path, lambda members: None)
    with zipfile.ZipFile(path) as file:
        last = max(
            (one for one in file.infolist() if "/data/" in one.filename), key=lambda one: one.header_offset
        )
    data = bytearray(path.read_bytes())
    start = last.header_offset + 30 + len(last.filename)
    data[start : start + last.compress_size] = b"\xff" * last.compress_size
    path.write_bytes(data)


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_values_that_are_broken_are_found_before_any_is_set(
    tmp_path: Path, monkeypatch: Any, ending: str
) -> None:
    path, model = tmp_path / f"m{ending}", make()
    if ending == ".pt":
        torch = pytest.importorskip("torch")
        sizes = {"low.weight": (3, 4), "low.bias": (3,), "high.weight": (2, 3), "high.bias": (2,)}
        torch.save({name: torch.ones(shape) for name, shape in sizes.items()}, path)
        deflated(path)
    else:
        make().save_weights(path)
        look = safetensors.read

        def cut_off_later(given: Path, *args: Any) -> Any:
            contents = look(given, *args)
            path.write_bytes(path.read_bytes()[:-4])
            return contents

        monkeypatch.setattr(safetensors, "read", cut_off_later)
    assert_refused(path, "can't be read from", model)


def test_an_empty_name_is_not_advised_to_be_mapped() -> None:
    model: Any = tally.Sequential(
        [
            tally.Input((4,)),
            *(tally.layers.Dense(4, use_bias=False, name=name) for name in ("low", "high")),
        ]
    )
    state = {"weight": np.ones((4, 4), "float32")}
    with pytest.raises(SavingError) as caught:
        model.load_weights(state)
    assert "name_map" not in str(caught.value)
    state |= {f"{name}.weight": state["weight"] + 1 for name in ("other", "third")}
    with pytest.raises(SavingError, match=r"name_map={'other': 'low', ...}"):
        model.load_weights(state)


@pytest.mark.parametrize(
    ("module", "name", "is_of_python"),
    [
        ("os", "system", True),
        ("os.path", "join", True),
        ("builtins", "eval", True),
        ("builtins", "my_loss", False),
        ("mine.losses", "my_loss", False),
    ],
)
def test_only_functions_of_ones_own_are_advised_to_be_passed(
    archive: Path, module: str, name: str, is_of_python: bool
) -> None:
    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"][1].update(module=module, class_name=name, registered_name=None)
        members["config.json"] = json.dumps(config).encode()

    rewrite(archive, change)
    with pytest.raises(SavingError, match=f"names '{name}' from {module}, which is not known here") as caught:
        tally.saving.load_model(archive)
    assert ("it is Python's own, and no model needs it" in str(caught.value)) is is_of_python
    assert ("custom_objects=" in str(caught.value)) is not is_of_python


def test_a_broken_structure_is_found_before_the_hdf5_library_sees_it(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model = weights.read_bytes(), make()
    seen: list[Any] = []
    opened = h5py.File
    monkeypatch.setattr(h5py, "File", lambda *args, **kwargs: seen.append(args) or opened(*args, **kwargs))
    weights.write_bytes(data[: len(data) // 2])
    error = assert_refused(weights, "is cut off", model)
    assert isinstance(error, BadFileError)
    assert error.file == str(weights)
    assert pickle.loads(pickle.dumps(error)).reason == error.reason
    assert seen == []
    chance, refused = np.random.default_rng(3), 0
    for _ in range(60):
        spoilt = bytearray(data)
        for place in chance.integers(0, len(data), 4):
            spoilt[place] ^= 1 << int(chance.integers(8))
        weights.write_bytes(spoilt)
        try:
            model.load_weights(weights)
        except SavingError:
            refused += 1
    assert 0 < refused < 60
