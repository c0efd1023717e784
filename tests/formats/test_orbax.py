"""Orbax checkpoints: the tree of arrays, wherever and however they are stored.

`data/orbax.zip` was written by Orbax; `data/make_orbax.py` has the code. Where Orbax is installed, what it writes now
is read in every layout.
"""

import json
import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.formats.harm import flips, survives, truncations
from tests.formats.messages import varint

from tally.formats import orbax
from tally.formats.errors import BadFileError
from tally.formats.leveldb import crc32c
from tally.formats.limits import Limits
from tally.formats.ocdbt import Store
from tally.formats.tensor import Contents, Tensor
from tally.formats.zarr import read_description

DATA = Path(__file__).parent / "data"
PARAMS = sum(4 * (n + 1) + n + 1 for n in range(20))


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orbax")
    with zipfile.ZipFile(DATA / "orbax.zip") as archive:
        archive.extractall(folder)
    return folder


def by_role(contents: Contents) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor in contents.tensors:
        found[tensor.role] = found.get(tensor.role, 0) + tensor.size
    return found


def named(contents: Contents) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in contents.tensors}


def test_the_last_step_is_read(steps: Path) -> None:
    found = orbax.read(steps)
    first, second = found.notes
    assert first == "The checkpoint of step 10; 2 others are beside it."
    packed = sum(tensor.packed or 0 for tensor in found.tensors)
    assert second == f"Its arrays take {packed:,} bytes on disk, packed."
    whole = sum(path.stat().st_size for path in (steps / "10").rglob("*") if path.is_file())
    assert 0 < packed < whole
    assert found.metadata["step"] == 10
    assert named(orbax.read(steps / "10")) == named(orbax.read(steps / "10" / "default")) == named(found)


def test_roles_follow_from_the_tree(steps: Path) -> None:
    found = orbax.read(steps)
    assert by_role(found) == {
        "weight": PARAMS,
        "state": 6,
        "optimizer": 2 * PARAMS + 2,  # and the step that the training is at
        "seed": 2,
    }
    held = named(found)
    assert held["params/layer_7/kernel"].shape == (4, 8)
    assert (held["params/layer_7/bias"].dtype, held["params/layer_7/bias"].stored) == ("bfloat16", 16)
    assert held["opt_state/0/mu/layer_0/bias"].role == "optimizer"


def test_no_data_is_read(steps: Path, tmp_path: Path) -> None:
    shutil.copytree(steps / "10", tmp_path / "c")
    for file in (tmp_path / "c" / "default" / "ocdbt.process_0").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    assert named(orbax.read(tmp_path / "c")) == named(orbax.read(steps))


def zarray(folder: Path, name: str, text: str | None = None) -> None:
    said = {"zarr_format": 2, "shape": [4, 3], "chunks": [2, 3], "dtype": "<f4"}
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / ".zarray").write_text(text or json.dumps(said))


def tree(folder: Path, *paths: tuple[str, ...], more: dict[str, Any] | None = None) -> None:
    leaves = {
        str(path): {
            "key_metadata": [{"key": key, "key_type": 2} for key in path],
            "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False},
        }
        for path in paths
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_METADATA").write_text(json.dumps({"tree_metadata": leaves | (more or {})}))


def test_arrays_in_folders_are_read(tmp_path: Path) -> None:
    tree(tmp_path, ("params", "w"))
    zarray(tmp_path, "params.w")
    for number, size in ((0, 30), (1, 4)):
        (tmp_path / "params.w" / f"{number}.0").write_bytes(bytes(size))
    (tmp_path / "params.w" / "far").symlink_to(tmp_path / "params.w" / "0.0")
    (held,) = orbax.read(tmp_path).tensors
    assert (held.name, held.shape, held.dtype, held.stored) == ("params/w", (4, 3), "float32", 48)
    assert held.notes == ("It is stored in 2 chunks.",)
    assert held.packed == 34


def test_leaves_without_arrays_are_passed_over(tmp_path: Path) -> None:
    empty = {"value_metadata": {"value_type": "Dict", "skip_deserialize": True}, "key_metadata": []}
    text = {"value_metadata": {"value_type": "string"}, "key_metadata": [{"key": "name"}]}
    tree(tmp_path, ("w",), more={"e": empty, "t": text})
    zarray(tmp_path, "w")
    assert [held.name for held in orbax.read(tmp_path).tensors] == ["w"]


def test_what_the_tree_leaves_out_is_read_and_said(tmp_path: Path) -> None:
    tree(tmp_path, ("w",))
    zarray(tmp_path, "w")
    zarray(tmp_path, "more.v")
    assert "The tree of the checkpoint doesn't name it." in named(orbax.read(tmp_path))["more/v"].notes


def test_parts_of_a_step_keep_their_names_apart(tmp_path: Path) -> None:
    for part in ("model", "optimizer"):
        tree(tmp_path / "3" / part, ("w",))
        zarray(tmp_path / "3" / part, "w")
    assert [(held.name, held.role) for held in orbax.read(tmp_path).tensors] == [
        ("model/w", "weight"),
        ("optimizer/w", "optimizer"),
    ]


def test_nnx_wraps_every_array(tmp_path: Path) -> None:
    for path in (("norm", "scale", "value"), ("norm", "mean", "value")):
        zarray(tmp_path, ".".join(path))
    tree(tmp_path, ("norm", "scale", "value"), ("norm", "mean", "value"))
    assert [(held.name, held.role) for held in orbax.read(tmp_path).tensors] == [
        ("norm/scale", "weight"),
        ("norm/mean", "state"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no description of an array"),
        ('{"zarr_format": 4}', "is of version 4 of Zarr"),
        ('{"zarr_format": 2, "shape": [-1], "chunks": [1], "dtype": "<f4"}', "has the sizes"),
        ('{"zarr_format": 2, "shape": [1e9], "chunks": [1], "dtype": "<f4"}', "has the sizes"),
        ('{"zarr_format": 2, "shape": [4], "chunks": [0], "dtype": "<f4"}', "into chunks of"),
        ('{"zarr_format": 2, "shape": [4], "chunks": [4, 4], "dtype": "<f4"}', "into chunks of"),
        ('{"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "|O"}', "the unknown type"),
        ('{"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": [["a", "<f4"]]}', "the unknown type"),
        ('{"zarr_format": 3, "shape": [4], "chunk_grid": 3, "data_type": "int8"}', "has the sizes"),
        (
            '{"zarr_format": 2, "shape": [9223372036854775807, 2], "chunks": [1, 1], "dtype": "|u1"}',
            "scalars",
        ),
    ],
)
def test_an_impossible_description_is_refused(tmp_path: Path, text: str, says: str) -> None:
    tree(tmp_path, ("w",))
    zarray(tmp_path, "w", text)
    with pytest.raises(BadFileError, match=says):
        orbax.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("<i8", "int64"),
        ("|b1", "bool"),
        ("bfloat16", "bfloat16"),
        ("float8_e4m3fn", "float8_e4m3fn"),
        ("<c8", "complex64"),
    ],
)
def test_types_of_either_version_are_known(name: str, dtype: str) -> None:
    said = {"zarr_format": 2, "shape": [], "chunks": [], "dtype": name}
    assert read_description(json.dumps(said).encode(), "w", "").dtype == dtype


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ([], "where an object belongs"),
        ({"tree_metadata": []}, "where an object belongs"),
        ({"tree_metadata": {"a": {}}}, "where an object belongs"),
        ({"tree_metadata": {"a": {"value_metadata": {}, "key_metadata": 3}}}, "where a list belongs"),
        ({"tree_metadata": {"a": {"value_metadata": {}, "key_metadata": []}}}, "names an array by 0 parts"),
    ],
)
def test_a_tree_of_another_form_is_refused(tmp_path: Path, said: object, says: str) -> None:
    (tmp_path / "_METADATA").write_text(json.dumps(said))
    with pytest.raises(BadFileError, match=says):
        orbax.read(tmp_path)


def test_an_array_that_is_not_stored_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, ("params", "w"))
    with pytest.raises(BadFileError, match=r"array 'params.w': is in the tree, and not stored"):
        orbax.read(tmp_path)


def test_a_description_behind_a_link_is_passed_over(tmp_path: Path) -> None:
    zarray(tmp_path, "else")
    tree(tmp_path / "c", ("w",))
    (tmp_path / "c" / "w").symlink_to(tmp_path / "else")
    with pytest.raises(BadFileError, match="and not stored"):
        orbax.read(tmp_path / "c")


def test_a_checkpoint_that_was_not_finished_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "3.orbax-checkpoint-tmp-9"
    tree(folder, ("w",))
    zarray(folder, "w")
    assert orbax.read(folder).notes == ("The checkpoint was not finished when it was written.",)


def test_shardings_are_said(tmp_path: Path) -> None:
    tree(tmp_path, ("w",))
    zarray(tmp_path, "w")
    spread = {"shape": [2, 4], "axis_names": ["data", "model"], "partition_spec": ["data", None]}
    (tmp_path / "_sharding").write_text(json.dumps({"dw==": json.dumps(spread)}))
    assert orbax.read(tmp_path).tensors[0].notes[-1] == (
        "It was sharded by (data, whole) over a mesh of data 2 × model 4."
    )
    (tmp_path / "_sharding").write_text('{"~": "{}"}')
    with pytest.raises(BadFileError, match="isn't one in base 64"):
        orbax.read(tmp_path)


def test_matches_folders_of_its_own_kind(steps: Path, tmp_path: Path) -> None:
    assert all(orbax.matches(path) for path in (steps, steps / "10", steps / "10" / "default"))
    assert not orbax.matches(tmp_path)
    assert not orbax.matches(DATA / "layers.onnx")


def test_another_folder_or_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="holds no arrays"):
        orbax.read(tmp_path)
    with pytest.raises(BadFileError, match="is no folder"):
        orbax.read(DATA / "layers.onnx")


def closed(magic: int, body: bytes) -> bytes:
    """A node or a manifest, not packed."""
    data = magic.to_bytes(4, "big") + (len(body) + 18).to_bytes(8, "little") + b"\0\0" + body
    return data + crc32c(data).to_bytes(4, "little")


def store(
    folder: Path, node: bytes, name: bytes = b"d/node", height: int = 0, size: int | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    files = varint(1) + varint(len(name)) + b"\0" + name
    root = bytes([1, 1, height, 0, 0]) + varint(len(node) if size is None else size) + bytes(3 + 8 + 1)
    manifest = bytes(16) + b"\0" + varint(1_024) + varint(10**8) + b"\x04\0" + files + root
    (folder / "manifest.ocdbt").write_bytes(closed(0x0CDB3A2A, manifest))
    (folder / "d").mkdir(exist_ok=True)
    (folder / "d" / "node").write_bytes(node)
    return folder


def leaf(key: bytes, value: bytes) -> bytes:
    body = b"\0\0\x01" + varint(len(key)) + key + varint(len(value)) + b"\0" + value
    return closed(0x0CDB20DE, body)


def values(folder: Path, limits: Limits | None = None) -> dict[str, bytes | None]:
    return {value.key: value.inline for value in Store(folder, limits or Limits()).values()}


def test_a_store_of_one_value_is_read(tmp_path: Path) -> None:
    assert values(store(tmp_path / "s", leaf(b"a", b"1"))) == {"a": b"1"}


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ({"name": b"../d/node"}, "outside of its folder"),
        ({"name": b"/d/node"}, "outside of its folder"),
        ({"name": b"d/none"}, "isn't there, though the store needs it"),
        ({"name": b"\xff"}, "is not utf-8"),
        ({"size": 2**40}, "a node claims 1,099,511,627,776 bytes"),
        ({"size": 19}, "has another size than it claims"),
        ({"height": 200}, ""),
        ({"node": leaf(b"a", b"1")[:-1] + b"\0"}, "a checksum that isn't right"),
        ({"node": closed(0x0CDB3A2A, b"")}, "doesn't begin as one does"),
        ({"node": closed(0x0CDB20DE, b"\0\0\xff\xff\x03")}, "claims 65,534 numbers|claims 65,535 numbers"),
        ({"node": closed(0x0CDB20DE, b"\0\0\x01\x7f")}, "a name that doesn't fit|claims 127 bytes"),
        ({"node": closed(0x0CDB20DE, b"\0\x01\x05")}, "claims"),
        ({"node": closed(0x0CDB20DE, b"\x40\0\0")}, "has 64 levels below one that has 32"),
        ({"node": closed(0x0CDB20DE, b"")}, "claims 1 bytes, where 0 are left"),
    ],
)
def test_a_broken_store_is_refused(tmp_path: Path, folder: dict[str, Any], says: str) -> None:
    made = store(tmp_path / "s", **({"node": leaf(b"a", b"1")} | folder))
    if not says:
        assert values(made) == {}
        return
    with pytest.raises(BadFileError, match=says):
        values(made)


def test_a_tree_that_holds_itself_is_refused(tmp_path: Path) -> None:
    size = 0
    for _ in range(2):  # the second time with the right size
        files = varint(1) + varint(6) + b"\0d/node"
        body = b"\x01" + files + b"\x01" + b"\0" + b"\0" + b"\0\0" + varint(size) + bytes(3)
        node = closed(0x0CDB20DE, body)
        size = len(node)
    with pytest.raises(BadFileError, match="points to one node twice"):
        values(store(tmp_path / "s", node, height=1))


def test_keys_are_read_up_to_a_limit(tmp_path: Path) -> None:
    made = store(tmp_path / "s", leaf(b"a", b"1"))
    with pytest.raises(BadFileError, match="more than 0 keys"):
        values(made, Limits(tensors=0))
    with pytest.raises(BadFileError, match="more than 60 bytes of structure"):
        values(made, Limits(header=60))


@pytest.mark.parametrize("name", ["_METADATA", "_sharding", "manifest.ocdbt", "array_metadatas/process_0"])
def test_a_broken_part_is_read_or_refused(steps: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(steps / "10" / "default", tmp_path / "c")
    data = (steps / "10" / "default" / name).read_bytes()
    for broken in (*truncations(data, math.ceil(len(data) / 8)), *flips(data, 4, 12)):
        survives(lambda _: orbax.read(tmp_path / "c"), broken, tmp_path / "c", name)


def test_a_broken_node_is_read_or_refused(tmp_path: Path) -> None:
    text = b'{"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<f4"}'
    body = leaf(b"w/.zarray", text)[14:-4]
    for broken in (*truncations(body), *flips(body, 6, 300)):
        made = store(tmp_path / "s", closed(0x0CDB20DE, broken))
        survives(lambda _: orbax.read(tmp_path / "s"), b"", made, "unused")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the Orbax that is installed writes now, in each of its layouts."""
    checkpoint = pytest.importorskip("orbax.checkpoint")
    import jax.numpy as jnp
    import numpy as np

    made = {
        "params": {"w": jnp.ones((4, 3), jnp.bfloat16), "list": [jnp.ones(2)]},
        "step": 3,
        "plain": np.arange(3),
    }
    folder, found = tmp_path_factory.mktemp("live"), {}
    for one_store in (True, False):
        for version in (2, 3):
            handler = checkpoint.PyTreeCheckpointHandler(use_ocdbt=one_store, use_zarr3=version == 3)
            name = f"{'store' if one_store else 'folders'}, Zarr {version}"
            found[name] = folder / name
            with checkpoint.Checkpointer(handler) as writer:
                writer.save(found[name], made)
    return found


@pytest.mark.parametrize("name", ["store, Zarr 2", "store, Zarr 3", "folders, Zarr 2", "folders, Zarr 3"])
def test_a_checkpoint_written_now_is_read(live: dict[str, Path], name: str) -> None:
    held = named(orbax.read(live[name]))
    assert {key: (one.shape, one.dtype, one.role) for key, one in held.items()} == {
        "params/list/0": ((2,), "float32", "weight"),
        "params/w": ((4, 3), "bfloat16", "weight"),
        "plain": ((3,), "int64", "other"),
        "step": ((), "int64", "optimizer"),
    }


def test_a_folder_with_only_a_checkpoint_that_was_not_finished_says_so(tmp_path: Path) -> None:
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()
    assert orbax.matches(tmp_path)
    with pytest.raises(BadFileError, match=r"'7\.orbax-checkpoint-tmp', a checkpoint that was not finished"):
        orbax.read(tmp_path)
