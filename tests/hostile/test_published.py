"""Every published way of loading a model to do harm, tried on everything here that loads or reads one.

Each payload would write a file, change the environment, run a command, connect somewhere, or read a file of the user's.
A reader that only counts may give the account of a hostile file; what loads one has to refuse it.
"""

import base64
import io
import json
import marshal
import os
import pickle
import re
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.formats.messages import field
from tests.hostile.watch import MARK, Deeds, harmless, watched

import tally
from tally.core.errors import TallyError
from tally.downloads import get_file
from tally.formats.errors import BadFileError
from tally.readers import contents_of, read

REFUSALS = (TallyError, BadFileError)
Config = dict[str, Any]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, a secret beside it, a module that nobody should import; at the end no harm is done."""
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.syspath_prepend(inner)
    (inner / "evil_module.py").write_text(f"open({MARK!r}, 'w').close()\nclass Layer: pass\n")
    (tmp_path / "secret").write_bytes(np.full((4, 3), 7, "float32").tobytes())
    model().save(inner / "warm.keras")  # so that all is imported before anything is watched
    tally.saving.load_model(inner / "warm.keras")
    read(inner / "warm.keras")
    with harmless(tmp_path):
        yield inner


def model() -> Any:
    return tally.Sequential([tally.Input((4,)), tally.layers.Dense(3, name="low")])


# -- configurations ------------------------------------------------------------------------------------------


def layer(kind: str, module: str | None = "keras.layers", **config: Any) -> Config:
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": "evil", **config},
        "registered_name": None,
    }


def function(module: str | None, name: str) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def whole(*layers: Config, **more: Any) -> Config:
    given = layer("InputLayer", batch_shape=[None, 4]) | {
        "config": {"batch_shape": [None, 4], "name": "given"}
    }
    return {**layer("Sequential", "keras", layers=[given, *layers]), **more}


def bytecode() -> Config:
    code = compile(f"lambda x: (open({MARK!r}, 'w').close(), x)[1]", "<evil>", "eval").co_consts[0]
    stored = base64.b64encode(marshal.dumps(code)).decode()
    return {"class_name": "__lambda__", "config": {"code": stored, "defaults": None, "closure": None}}


def older_bytecode() -> list[Any]:
    return [bytecode()["config"]["code"], None, None]


def archive(folder: Path, config: Any, weights: bytes | None = None) -> Path:
    """A `.keras` file with this configuration."""
    with zipfile.ZipFile(folder / "warm.keras") as good:
        weights = good.read("model.weights.h5") if weights is None else weights
    with zipfile.ZipFile(folder / "evil.keras", "w") as file:
        file.writestr("metadata.json", '{"keras_version": "3.12.0"}')
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", weights)
    return folder / "evil.keras"


def older(folder: Path, config: Any) -> Path:
    """The same in the `.h5` of Keras 2, which is safe in no mode where the mode is not asked for."""
    with h5py.File(folder / "evil.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")
    return folder / "evil.h5"


def text(folder: Path, config: Any) -> Path:
    (folder / "evil.json").write_text(json.dumps(config))
    return folder / "evil.json"


LOADERS: dict[str, Callable[[Path, Config], Any]] = {
    "load_model": lambda folder, config: tally.saving.load_model(archive(folder, config)),
    "load_model, uncompiled": lambda folder, config: tally.saving.load_model(
        archive(folder, config), compile=False
    ),
    "load_model, older": lambda folder, config: tally.saving.load_model(older(folder, config)),
    "load_weights, older": lambda folder, config: model().load_weights(older(folder, config)),
    "model_from_json": lambda _, config: tally.models.model_from_json(json.dumps(config)),
    "deserialize": lambda _, config: tally.saving.deserialize_keras_object(config),
}
WRITERS = {"archive": archive, "older": older, "json": text}
NOT_KNOWN = "not known|is not a known name"


def tried(scene: Path, config: Config, words: str, loaders: tuple[str, ...] = tuple(LOADERS)) -> None:
    """Whatever loads the model refuses it and says why; whatever reads its account does nothing else."""
    for name in loaders:
        with pytest.raises(REFUSALS) as caught:
            LOADERS[name](scene, config)
        # The older form isn't read as a model at all, and says that instead.
        assert "older" in name or re.search(words, str(caught.value)), (name, str(caught.value))
    for write in WRITERS.values():
        with suppress(BadFileError):
            read(write(scene, config))


def test_bytecode_in_a_lambda_is_not_run(scene: Path) -> None:  # CVE-2024-3660, CVE-2025-9905
    tried(scene, whole(layer("Lambda", function=bytecode())), "holds a Python lambda, that is code")


def test_bytecode_in_the_mask_or_shape_of_a_lambda_is_not_run(scene: Path) -> None:  # CVE-2024-3660
    for place in ("output_shape", "mask", "arguments"):
        given = {"x": bytecode()} if place == "arguments" else bytecode()
        tried(scene, whole(layer("Lambda", function="relu", **{place: given})), "holds a Python lambda")


@pytest.mark.parametrize("place", ["activation", "kernel_initializer", "kernel_constraint", "dtype"])
def test_bytecode_where_another_thing_belongs_is_not_run(scene: Path, place: str) -> None:  # CVE-2024-3660
    tried(scene, whole(layer("Dense", units=3, **{place: bytecode()})), "holds a Python lambda")


COMMANDS = [
    ("os", "system"),
    ("posix", "system"),
    ("subprocess", "run"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "__import__"),
    ("runpy", "run_path"),
    ("importlib", "import_module"),
    ("pickle", "loads"),
    ("evil_module", "Layer"),
    (None, "eval"),
    ("tally.os", "system"),
    ("keras.src.utils.file_utils.os", "system"),
]


@pytest.mark.parametrize(("module", "name"), COMMANDS)
def test_a_function_of_any_module_that_the_file_names_is_not_called(  # CVE-2025-1550
    scene: Path, module: str, name: str
) -> None:
    evil = layer("Lambda", function=function(module, name), arguments={"command": f"touch {MARK}"})
    tried(scene, whole(evil), NOT_KNOWN)


@pytest.mark.parametrize(
    "evil",
    [
        layer("Popen", "subprocess", args=["touch", MARK]),
        layer("Layer", "evil_module"),
        layer("Dense", "evil_module", units=3),
        layer("system", "os", command=f"touch {MARK}"),
        {**layer("Layer_", "evil_module"), "registered_name": "evil_module>Layer"},
        {**layer("exec", "builtins"), "registered_name": "builtins>exec"},
        layer("catch_warnings", "warnings"),
    ],
)
def test_a_class_of_any_module_that_the_file_names_is_not_made(
    scene: Path, evil: Config
) -> None:  # CVE-2025-1550
    tried(scene, whole(evil), NOT_KNOWN)


@pytest.mark.parametrize("place", ["optimizer", "loss", "metrics"])
def test_what_a_model_is_compiled_with_is_not_called_either(scene: Path, place: str) -> None:  # CVE-2025-1550
    compiled = {"optimizer": "sgd", "loss": "mse", place: function("os", "system")}
    if place == "metrics":
        compiled["metrics"] = [function("os", "system")]
    config = whole(layer("Dense", units=3), compile_config=compiled)
    tried(scene, config, NOT_KNOWN, ("load_model", "model_from_json", "deserialize"))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.utils", "get_file"),
        ("keras.src.utils.file_utils", "get_file"),
        ("tally.utils", "get_file"),
        ("tally.downloads", "get_file"),
        ("keras.saving", "load_model"),
        ("keras.models", "load_model"),
        ("tally.saving", "deserialize_keras_object"),
        ("tally.models", "model_from_json"),
        ("keras.utils", "set_random_seed"),
    ],
)
def test_a_function_of_the_library_itself_is_no_tool_for_an_attack(  # CVE-2025-8747
    scene: Path, module: str, name: str
) -> None:
    arguments = {"origin": "http://127.0.0.1:9/payload", "fname": MARK, "cache_dir": str(scene)}
    tried(scene, whole(layer("Lambda", function=function(module, name), arguments=arguments)), NOT_KNOWN)


@pytest.mark.parametrize(
    "module", ["keras.config", "keras.src.saving.serialization_lib", "tally.saving.functions"]
)
def test_a_file_can_not_switch_off_its_own_check(scene: Path, module: str) -> None:  # CVE-2025-9906
    name = "safe_mode" if module.startswith("tally") else "enable_unsafe_deserialization"
    first = layer("Dense", units=3, activation=function(module, name))
    switched = {**whole(first, layer("Lambda", function=bytecode())), "safe_mode": False}
    tried(scene, switched, NOT_KNOWN)
    tried(
        scene,
        {**whole(layer("Lambda", function=bytecode(), safe_mode=False)), "safe_mode": False},
        "Python lambda",
    )


@pytest.mark.parametrize("kind", ["StringLookup", "TextVectorization", "IntegerLookup"])
def test_a_vocabulary_is_not_fetched_from_a_path_or_a_server(
    scene: Path, kind: str
) -> None:  # CVE-2025-12058
    for vocabulary in (
        str(scene.parent / "secret"),
        "http://127.0.0.1:9/vocabulary",
        "file://localhost/etc/passwd",
    ):
        tried(scene, whole(layer(kind, vocabulary=vocabulary)), NOT_KNOWN)


def test_another_model_that_the_file_points_to_is_not_loaded(scene: Path) -> None:  # CVE-2026-1462
    tried(
        scene,
        whole(layer("TFSMLayer", filepath=str(scene.parent / "secret"), call_endpoint="serve")),
        NOT_KNOWN,
    )


def test_a_pickled_module_inside_is_not_unpickled(
    scene: Path,
) -> None:  # the class of CVE-2024-3660, keras #23048
    stored = base64.b64encode(Payload.pickled()).decode()
    for kind in ("TorchModuleWrapper", "JaxLayer", "FlaxLayer"):
        tried(scene, whole(layer(kind, module=stored)), NOT_KNOWN)


# -- weights -------------------------------------------------------------------------------------------------


def weights(scene: Path, change: Callable[[h5py.File], Any]) -> Path:
    path = scene / "evil.weights.h5"
    model().save_weights(path)
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/0"]
        change(file)
    return path


def refused_weights(scene: Path, change: Callable[[h5py.File], Any], words: str) -> None:
    """Neither the weights alone nor a model with them is loaded or read, and the model is left as it was."""
    path, target = weights(scene, change), model()
    before = target.get_weights()
    for load in (target.load_weights, lambda path: tally.saving.load_model(path)):
        where = path if load == target.load_weights else with_weights(scene, path)
        with pytest.raises(REFUSALS, match=words):
            load(where)
    for one, other in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for place in (path, with_weights(scene, path)):
        with pytest.raises(BadFileError) as caught:
            read(place)
        assert caught.value.file == str(place)
        assert caught.value.place
        assert caught.value.reason


def with_weights(scene: Path, path: Path) -> Path:
    return archive(scene, tally.saving.serialize_keras_object(model()), path.read_bytes())


def test_an_array_that_lies_in_a_file_of_the_user_is_not_read(scene: Path) -> None:  # CVE-2026-1669
    kept = [(str(scene.parent / "secret"), 0, 48)]
    refused_weights(
        scene,
        lambda file: file["layers/dense/vars"].create_dataset("0", (4, 3), "float32", external=kept),
        "in another file|external",
    )


def test_a_link_into_another_file_is_not_followed(scene: Path) -> None:  # CVE-2026-1669
    with h5py.File(scene.parent / "other.h5", "w") as other:
        other["secret"] = np.full((4, 3), 7, "float32")

    def link(file: h5py.File) -> None:
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(scene.parent / "other.h5"), "/secret")

    refused_weights(scene, link, "link")


def test_an_array_made_of_those_of_other_files_is_not_read(scene: Path) -> None:  # keras #22976
    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4, 3), "float32")
        layout[:] = h5py.VirtualSource(str(scene.parent / "other.h5"), "secret", (4, 3))
        file.create_virtual_dataset("layers/dense/vars/0", layout)

    refused_weights(scene, virtual, "in another file|other files|virtual")


@pytest.mark.parametrize("shape", [(2**30, 2**20), (2**40, 3), (2**62, 1)])
def test_an_array_that_claims_petabytes_takes_no_memory(
    scene: Path, shape: tuple[int, int]
) -> None:  # CVE-2026-0897
    refused_weights(
        scene,
        lambda file: file["layers/dense/vars"].create_dataset("0", shape, "int8", chunks=(1024, 1)),
        "claims|more than",
    )


def test_a_member_that_unpacks_to_a_thousand_times_its_size_is_refused(scene: Path) -> None:  # keras #23010
    with zipfile.ZipFile(scene / "warm.keras") as good:
        members = {name: good.read(name) for name in good.namelist()}
    for name in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(scene / "bomb.keras", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
            for member, data in {**members, name: bytes(20_000_000)}.items():
                file.writestr(member, data)
        with pytest.raises(REFUSALS, match="claims"):
            tally.saving.load_model(scene / "bomb.keras")
        with pytest.raises(BadFileError, match="claims to unpack"):
            read(scene / "bomb.keras")


def test_an_archive_of_numpy_that_unpacks_to_far_more_is_not_unpacked(scene: Path) -> None:  # keras #23016
    with zipfile.ZipFile(scene / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        stored = io.BytesIO()
        np.save(stored, np.zeros(20_000_000, "int8"))
        file.writestr("w.npy", stored.getvalue())
    tracemalloc.start()  # zeros may honestly be packed as densely as that; so none of them is unpacked
    assert contents_of(scene / "bomb.npz").tensors[0].size == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_objects_in_an_archive_of_numpy_are_not_unpickled(scene: Path) -> None:  # keras #23034
    np.savez(scene / "evil.npz", np.array([Payload()], object))
    with pytest.raises(BadFileError, match="can't be read without running what is in them"):
        read(scene / "evil.npz")


# -- pickles -------------------------------------------------------------------------------------------------


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {MARK}",)

    @classmethod
    def pickled(cls, protocol: int = 2) -> bytes:
        return pickle.dumps(cls(), protocol)


PICKLES = {
    "reduce": b"cos\nsystem\n(S'touch " + MARK.encode() + b"'\ntR.",
    "instance": b"(S'touch " + MARK.encode() + b"'\nios\nsystem\n.",
    "object": b"(cos\nsystem\nS'touch " + MARK.encode() + b"'\no.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x07touch x\x85R.",
    "new object": b"\x80\x02csubprocess\nPopen\n(S'touch'\nt\x81.",
    "set state": b"\x80\x02cos\n_Environ\n)\x81}U\x04datacos\nenviron\nsb.",
    "hidden in a dict": b"\x80\x02}U\x01w(cbuiltins\nexec\n(S'import os'\ntRtRs.",
    "extension": b"\x80\x02\x82\x01.",
    "memory": b"\x80\x02]" + b"q\x00h\x00h\x00" * 10 + b".",
    "persistent": b"\x80\x02U\x07storageQ.",
}


def zipped_pickle(scene: Path, data: bytes) -> Path:
    with zipfile.ZipFile(scene / "evil.pt", "w") as file:
        file.writestr("evil/data.pkl", data)
        file.writestr("evil/version", "3\n")
        file.writestr("evil/byteorder", "little")
    return scene / "evil.pt"


def older_pickle(scene: Path, data: bytes) -> Path:
    start = b"".join(pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    (scene / "evil.bin").write_bytes(start + data + pickle.dumps([], 2))
    return scene / "evil.bin"


@pytest.mark.parametrize("write", [zipped_pickle, older_pickle])
@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_never_executed(  # CVE-2025-32434
    scene: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path, bytes], Path]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("something unpickles")

    path = write(scene, PICKLES[name])
    for place, called in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(place, called, fail)
    with pytest.raises(REFUSALS):
        model().load_weights(path)
    with suppress(BadFileError):
        assert read(path).total == 0


def test_a_tensor_that_reaches_out_of_its_storage_is_refused(scene: Path) -> None:  # CVE-2026-24747
    torch.save({"low.weight": torch.zeros(3, 4), "low.bias": torch.zeros(3)}, scene / "good.pt")
    with zipfile.ZipFile(scene / "good.pt") as good, zipfile.ZipFile(scene / "evil.pt", "w") as evil:
        for name in good.namelist():
            data = good.read(name)
            if name.endswith("data.pkl"):
                assert b"K\x03K\x04\x86" in data
                data = data.replace(b"K\x03K\x04\x86", b"K\x7fK\x7f\x86")
            evil.writestr(name.replace("good/", "evil/"), data)
    for load in (read, model().load_weights):
        with pytest.raises(BadFileError, match="reaches out of its storage"):
            load(scene / "evil.pt")


# -- downloads -----------------------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


TARS = {
    "dots": [member(f"../../{MARK}")],
    "absolute": [member(f"/tmp/{MARK}")],
    "through a link": [member("out", tarfile.SYMTYPE, "../.."), member(f"out/{MARK}")],
    "through two links": [
        member("a", tarfile.SYMTYPE, "."),
        member("a/b", tarfile.SYMTYPE, ".."),
        member(f"a/b/{MARK}"),
    ],
    "long link": [member("d/" * 40 + "l", tarfile.SYMTYPE, "../" * 40), member("d/" * 40 + f"l/{MARK}")],
    "hard link": [member("copy", tarfile.LNKTYPE, "../../secret")],
    "hard link to a link": [member("a", tarfile.SYMTYPE, "../../secret"), member("b", tarfile.LNKTYPE, "a")],
    "device": [member("null", tarfile.CHRTYPE)],
}


@pytest.mark.parametrize("name", TARS)
def test_an_archive_that_is_downloaded_writes_into_its_folder_alone(
    scene: Path, name: str
) -> None:  # CVE-2025-12638
    with tarfile.open(scene / "evil.tar", "w") as made:
        for one in TARS[name]:
            made.addfile(one)
    with pytest.raises(BadFileError, match=r"leads out of the folder|is a link|is a device"):
        get_file(origin=(scene / "evil.tar").as_uri(), cache_dir=scene, extract=True)
    assert [path.name for path in (scene / "datasets").iterdir()] == ["evil.tar_archive"]


# -- other formats -------------------------------------------------------------------------------------------


def onnx(scene: Path, location: str, offset: str = "0", length: str = "48") -> Path:
    pairs = {"location": location, "offset": offset, "length": length}
    outside = b"".join(field(13, field(1, key) + field(2, value)) for key, value in pairs.items())
    tensor = field(1, 4) + field(1, 3) + field(2, 1) + field(8, "w") + outside + field(14, 1)
    graph = field(2, "g") + field(5, tensor)
    (scene / "evil.onnx").write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 17)))
    return scene / "evil.onnx"


def refused(path: Path, words: str = ".") -> BadFileError:
    with pytest.raises(BadFileError, match=words) as caught:
        contents_of(path)
    assert caught.value.file.startswith(str(path.parent))
    assert caught.value.reason
    return caught.value


@pytest.mark.parametrize(
    "location",
    ["../secret", "a/../../secret", "./../secret", "{}/secret", "..\\secret", "C:secret", "", ".", ".."],
)
def test_data_outside_of_the_models_folder_is_not_looked_at(  # CVE-2022-25882, CVE-2024-27318, CVE-2026-27489
    scene: Path, location: str
) -> None:
    assert refused(onnx(scene, location.format(scene.parent)), "outside of its folder").place == "tensor 'w'"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_data_behind_a_symbolic_link_is_not_looked_at(scene: Path, kind: str) -> None:  # CVE-2026-34447
    (scene / "data").symlink_to(scene.parent / "secret" if kind == "file" else scene.parent)
    refused(onnx(scene, "data" if kind == "file" else "data/secret"), "goes through a link")


def test_data_that_is_somebody_elses_file_by_another_name_is_not_read(  # CVE-2026-34446
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(scene.parent / "secret", scene / "data")  # of this user's; its size is all that is asked for
    contents_of(onnx(scene, "data"))
    real = os.lstat

    def of_another(path: Any, **options: Any) -> os.stat_result:
        found = real(path, **options)
        return (
            os.stat_result((*found[:4], found.st_uid + 1, *found[5:])) if Path(path).name == "data" else found
        )

    monkeypatch.setattr(os, "lstat", of_another)
    refused(onnx(scene, "data"), "also a file of somebody else")


@pytest.mark.parametrize(
    ("offset", "length"), [("-1", "48"), ("0", "-1"), ("1", "48"), ("0", "9" * 30), ("x", "48")]
)
def test_data_that_reaches_out_of_its_file_is_refused(
    scene: Path, offset: str, length: str
) -> None:  # CVE-2026-34445
    (scene / "data").write_bytes(bytes(48))
    refused(onnx(scene, "data", offset, length), "w")


ONE = '{"dtype":"U8","shape":[1],"data_offsets":%s}'
TWO = '{"dtype":"U8","shape":[2],"data_offsets":%s}'
HEADERS = {
    "overlapping": ('{"a":' + TWO % "[0,2]" + ',"b":' + TWO % "[1,3]" + "}", 3),
    "with a hole": ('{"a":' + ONE % "[1,2]" + "}", 2),
    "with a tail": ('{"a":' + ONE % "[0,1]" + "}", 400),
    "twice": ('{"a":' + ONE % "[0,1]" + ',"a":' + ONE % "[0,1]" + "}", 1),
    "backwards": ('{"a":' + ONE % "[1,0]" + "}", 1),
    "wrapped around": ('{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', 0),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_safetensors_can_not_hide_another_file(
    scene: Path, name: str
) -> None:  # the audit of 2023
    header, size = HEADERS[name]
    (scene / "evil.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(size))
    refused(scene / "evil.safetensors")
    with pytest.raises(REFUSALS):
        model().load_weights(scene / "evil.safetensors")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<IQQ", 3, 2**63, 0),
        struct.pack("<IQQ", 3, 0, 2**63),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**64 - 1),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 8, 2**62),
        struct.pack("<IQQ", 3, 1, 0)
        + struct.pack("<Q", 1)
        + b"w"
        + struct.pack("<I4QIQ", 4, *[2**32] * 4, 0, 0),
        struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 1) + b"w" + struct.pack("<I", 2**32 - 1),
    ],
    ids=["arrays", "keys", "the length of a name", "texts in a list", "a product", "dimensions"],
)
def test_the_numbers_of_a_gguf_file_do_not_overflow(
    scene: Path, data: bytes
) -> None:  # CVE-2024-23496, -2025-53630
    (scene / "evil.gguf").write_bytes(b"GGUF" + data + bytes(64))
    refused(scene / "evil.gguf")


def test_code_beside_a_model_of_the_hub_is_not_imported(
    scene: Path,
) -> None:  # what trust_remote_code is asked for
    header = b'{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    (scene / "hub").mkdir()
    (scene / "hub" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    (scene / "hub" / "evil.py").write_text((scene / "evil_module.py").read_text())
    said = {"architectures": ["Net"], "auto_map": {"AutoModel": "evil.Layer"}, "model_type": "../evil"}
    (scene / "hub" / "config.json").write_text(json.dumps(said))
    assert read(scene / "hub").total == 1


def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    with watched() as deeds:
        os.system("true")
        pickle.loads(Payload.pickled().replace(f"touch {MARK}".encode(), b"true".ljust(len(f"touch {MARK}"))))
        (tmp_path / "a").write_text("x")
    assert isinstance(deeds, Deeds)
    assert [harm.partition(" ")[0] for harm in deeds.harm] == ["os.system", "pickle.find_class", "os.system"]
    assert str(tmp_path / "a") in deeds.opened
