"""TensorFlow's SavedModels, checkpoints and frozen graphs.

The files `data/*.zip` and `data/frozen.pb` were written by Keras and TensorFlow; `data/make_tensorflow.py` has it.
One fixture imports TensorFlow, for what changes with its version.
"""

import shutil
import zipfile
from pathlib import Path

import pytest
from tests.formats.harm import flips, survives, truncations
from tests.formats.messages import field
from tests.formats.test_leveldb import block, table

from tally.formats import tensorflow
from tally.formats.errors import BadFileError
from tally.formats.leveldb import entries
from tally.formats.limits import Limits
from tally.formats.tensor import Contents, Tensor
from tally.formats.window import opened
from tally.readers import account

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    for name in ("exported", "trained", "sessions"):
        with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
            archive.extractall(folder / name)
    return folder


def by_role(contents: Contents) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor in contents.tensors:
        found[tensor.role] = found.get(tensor.role, 0) + tensor.size
    return found


def named(contents: Contents) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in contents.tensors}


KERNEL, BIAS, NORM, DEEP, HEAD = 3 * 3 * 2 * 4, 4, 4, 3 * 3 * 4, 16 * 3
TRAINED = KERNEL + BIAS + 2 * NORM + DEEP + 4 + HEAD + 3


def test_an_exported_model_has_keras_names_and_counts(unpacked: Path) -> None:
    found = tensorflow.read(unpacked / "exported")
    assert by_role(found) == {"weight": TRAINED, "state": 2 * NORM}
    assert list(named(found)) == [
        "tiny/stem/kernel",
        "tiny/stem/bias",
        "tiny/norm/gamma",
        "tiny/norm/beta",
        "tiny/norm/moving_mean",
        "tiny/norm/moving_variance",
        "tiny/deep/kernel",
        "tiny/deep/bias",
        "tiny/head/kernel",
        "tiny/head/bias",
    ]
    assert "10 variables are kept twice, for the model and for its serving function." in found.notes
    assert found.metadata["signatures"] == ("serve", "serving_default")
    assert [path.name for path in found.files] == [
        "saved_model.pb",
        "variables.index",
        "variables.data-00000-of-00001",
    ]


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("tiny/stem/kernel", ("kernel height", "kernel width", "input channels", "filters")),
        ("tiny/stem/bias", ("filters",)),
        ("tiny/deep/kernel", ("kernel height", "kernel width", "input channels", "depth multiplier")),
        ("tiny/head/kernel", ("features", "units")),
        ("tiny/head/bias", ("units",)),
    ],
)
def test_the_graph_names_the_axes_of_variables(unpacked: Path, name: str, axes: tuple[str, ...]) -> None:
    assert named(tensorflow.read(unpacked / "exported" / "saved_model.pb"))[name].axes == axes


def test_a_checkpoint_knows_the_model_from_its_optimizer(unpacked: Path) -> None:
    found = tensorflow.read(unpacked / "trained")
    assert by_role(found) == {
        "weight": TRAINED,
        "state": 2 * NORM,
        "optimizer": 2 * TRAINED + 2,
        "other": 2,
    }
    held = named(found)
    assert held["tiny/head/kernel"].role == "weight"
    assert held["adam/tiny_head_kernel_momentum"].role == "optimizer"
    assert held["save_counter"].role == held["step"].role == "other"


def test_a_checkpoint_is_found_by_any_of_its_files(unpacked: Path) -> None:
    folder = unpacked / "trained"
    names = ("model-1.index", "model-1.data-00000-of-00001", "model-1", "checkpoint", "")
    paths = [folder / name if name else folder for name in names]
    assert all(map(tensorflow.matches, paths))
    assert len({tuple(named(tensorflow.read(path))) for path in paths}) == 1


def test_what_begins_like_no_checkpoint_is_none(unpacked: Path) -> None:
    for name in ("model", "model-2", "none"):
        assert not tensorflow.matches(unpacked / "trained" / name)
    with pytest.raises(BadFileError, match="can't be opened"):
        tensorflow.read(unpacked / "trained" / "model-2")


def test_what_holds_the_variables_stands_in_the_order_of_use(unpacked: Path) -> None:
    found = tensorflow.read(unpacked / "exported")
    assert [(node.name, node.inputs) for node in found.nodes] == [
        ("tiny/stem", ()),
        ("tiny/norm", ("tiny/stem",)),
        ("tiny/deep", ("tiny/norm",)),
        ("tiny/head", ("tiny/deep",)),
    ]
    ledger = account(found, layout="keras", name="tiny")
    kinds = ("Conv2D", "BatchNormalization", "DepthwiseConv2D", "Dense")
    assert tuple(owner.type for owner in ledger.owners if owner.path) == kinds
    assert ledger.total == TRAINED + 2 * NORM
    assert ledger.owner("tiny/head").inputs == ("tiny/deep",)


def test_spans_show_where_the_bytes_are(unpacked: Path) -> None:
    span = named(tensorflow.read(unpacked / "trained"))["step"].span
    assert span is not None
    assert span.file.read_bytes()[span.start : span.start + span.nbytes] == (3).to_bytes(8, "little")


def test_a_checkpoint_of_a_session_goes_by_names(unpacked: Path) -> None:
    found = tensorflow.read(unpacked / "sessions")
    roles = {name: tensor.role for name, tensor in named(found).items()}
    assert {name for name, role in roles.items() if role == "weight"} == {
        "dense/kernel",
        "dense/bias",
        "parts",
    }
    assert roles["norm/moving_mean"] == "state"
    assert roles["dense/kernel/Adam_1"] == roles["beta1_power"] == "optimizer"


def test_a_variable_in_parts_counts_once(unpacked: Path) -> None:
    parts = named(tensorflow.read(unpacked / "sessions"))["parts"]
    assert (parts.shape, parts.stored, parts.span) == ((10, 4), 160, None)
    assert parts.notes == ("It is split into 3 parts.",)


def test_constants_of_a_frozen_graph_act_as_weights() -> None:
    found = tensorflow.read(DATA / "frozen.pb")
    held = named(found)
    assert (held["dense/kernel"].role, held["dense/kernel"].axes) == ("weight", ("features", "units"))
    assert (held["dense/bias"].role, held["dense/bias"].axes) == ("weight", ("units",))
    assert {tensor.role for name, tensor in held.items() if name.startswith("parts/")} == {"fixed"}
    assert {node.type for node in found.nodes} == {"MatMul", "BiasAdd"}


def test_keras_2_says_the_classes_of_layers(unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked / "exported", tmp_path / "saved")
    said = '{"name": "stem", "class_name": "Conv2D", "config": {"filters": 4, "strides": [2, 2]}}'
    layer = field(1, field(2, 1) + field(3, "root.layer-0") + field(4, "_tf_keras_layer") + field(5, said))
    other = field(1, field(4, "_tf_keras_metric") + field(5, "no JSON"))
    (tmp_path / "saved" / "keras_metadata.pb").write_bytes(layer + other)
    found = tensorflow.read(tmp_path / "saved")
    assert found.metadata["layers"] == {"stem": "Conv2D"}
    assert found.nodes[0].type == "Conv2D"
    assert found.nodes[0].options["strides"] == (2, 2)
    assert {node.type for node in found.nodes[1:]} == {""}


def shape(*sizes: int) -> bytes:
    return field(2, b"".join(field(2, field(1, size)) for size in sizes))


def entry(kind: int, sizes: tuple[int, ...], start: int, size: int, shard: int = 0) -> bytes:
    return field(1, kind) + shape(*sizes) + field(3, shard) + field(4, start) + field(5, size)


def checkpoint(folder: Path, pairs: dict[str, bytes], data: int = 100, header: bytes | None = None) -> Path:
    rows = [
        (b"", field(1, 1) if header is None else header),
        *((key.encode(), pairs[key]) for key in sorted(pairs)),
    ]
    path = folder / "c.index"
    path.write_bytes(table(block(rows)))
    (folder / "c.data-00000-of-00001").write_bytes(bytes(data))
    return path


def test_keys_of_keras_2_become_readable(tmp_path: Path) -> None:
    value = entry(1, (2,), 0, 8)
    path = checkpoint(
        tmp_path,
        {
            "layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE": value,
            "layer_with_weights-0/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE": value,
            "keras_api/metrics/0/total/.ATTRIBUTES/VARIABLE_VALUE": value,
        },
    )
    assert [(one.name, one.role) for one in tensorflow.read(path).tensors] == [
        ("keras_api/metrics/0/total", "other"),
        ("layer_with_weights-0/kernel", "weight"),
        ("optimizer/layer_with_weights-0/kernel/m", "optimizer"),
    ]


def test_absent_data_is_a_note(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"w": entry(1, (2,), 0, 8)})
    (tmp_path / "c.data-00000-of-00001").unlink()
    found = tensorflow.read(path)
    assert found.notes == ("The data lies in 'c.data-00000-of-00001', which isn't beside it.",)
    assert found.tensors[0].size == 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (entry(1, (2,), 0, 9), "entry 'w': has 9 bytes, where its shape"),
        (entry(1, (2,), 96, 8), "claims the bytes 96 to 104 of 'c.data-00000-of-00001', which has 100"),
        (entry(1, (2,), 0, 8, shard=3), "of file 3 of 1"),
        (entry(1, (-2,), 0, 8), "has the type 1 and the shape"),
        (entry(77, (2,), 0, 8), "has the type 77"),
        (entry(1, (1,) * 65, 0, 4), "has the type 1 and the shape"),
        (entry(1, (2**40, 2**30), 0, 2**72 - 2**64), "bytes, where its shape"),
    ],
)
def test_an_impossible_entry_is_refused(tmp_path: Path, value: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        tensorflow.read(checkpoint(tmp_path, {"w": value}))


def test_a_header_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="claims 0 files of data"):
        tensorflow.read(checkpoint(tmp_path, {}, header=b""))
    (tmp_path / "c.index").write_bytes(table(block([(b"w", entry(1, (2,), 0, 8))])))
    with pytest.raises(BadFileError, match="has no header"):
        tensorflow.read(tmp_path / "c.index")


def test_data_behind_a_link_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"w": entry(1, (2,), 0, 8)})
    (tmp_path / "elsewhere").write_bytes(bytes(100))
    (tmp_path / "c.data-00000-of-00001").unlink()
    (tmp_path / "c.data-00000-of-00001").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadFileError, match="goes through a link"):
        tensorflow.read(path)


@pytest.mark.parametrize("name", ["/else/where/c", "../../c", "c"])
def test_the_last_checkpoint_is_looked_for_in_its_own_folder(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path, {"w": entry(1, (2,), 0, 8)})
    (tmp_path / "checkpoint").write_text(
        f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "old"\n'
    )
    assert tensorflow.read(tmp_path).files[0] == tmp_path / "c.index"


def test_without_a_list_the_last_number_counts(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"w": entry(1, (2,), 0, 8)})
    for number in (9, 10):
        shutil.copy(path, tmp_path / f"c-{number}.index")
    assert tensorflow.read(tmp_path).files[0].name == "c-10.index"


@pytest.mark.parametrize("name", ["..", ""])
def test_a_list_that_names_no_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{name}"')
    with pytest.raises(BadFileError, match="names the checkpoint"):
        tensorflow.read(tmp_path / "checkpoint")


def constant(name: str, tensor: bytes) -> bytes:
    return field(
        1, field(1, name) + field(2, "Const") + field(5, field(1, "value") + field(2, field(8, tensor)))
    )


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (constant("w", field(1, 1) + shape(2) + field(4, bytes(7))), "stores 7 bytes, where its shape"),
        (constant("w", field(1, 1) + shape(2)), "stores nothing"),
        (constant("w", field(1, 99) + shape(2) + field(4, bytes(8))), "has the type 99"),
        (constant("w", field(1, 1) + shape(-1) + field(4, bytes(8))), "an impossible shape"),
        (constant("w", field(1, 1) + shape(2) + field(4, bytes(8))) * 2, "is named twice"),
    ],
)
def test_an_impossible_constant_is_refused(tmp_path: Path, graph: bytes, says: str) -> None:
    (tmp_path / "g.pb").write_bytes(graph)
    with pytest.raises(BadFileError, match=says):
        tensorflow.read(tmp_path / "g.pb")


def test_equal_values_written_once_count_as_many(tmp_path: Path) -> None:
    (tmp_path / "g.pb").write_bytes(constant("w", field(1, 1) + shape(8) + b"\x2d\0\0\x80\x3f"))
    (held,) = tensorflow.read(tmp_path / "g.pb").tensors
    assert (held.size, held.notes) == (8, ("The file writes equal values once.",))


def test_matches_only_its_own(tmp_path: Path) -> None:
    assert tensorflow.matches(DATA / "frozen.pb")
    for name, text in (("a.index", b"words"), ("checkpoint", b"\xff"), ("x", b"\x0a\x02ab"), ("y", b"")):
        (tmp_path / name).write_bytes(text)
        assert not tensorflow.matches(tmp_path / name)
    assert not tensorflow.matches(DATA / "layers.onnx")
    assert not tensorflow.matches(DATA)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"holds neither saved_model.pb nor the index"):
        tensorflow.read(tmp_path)


def test_a_broken_checkpoint_is_read_or_refused(unpacked: Path, tmp_path: Path) -> None:
    folder = unpacked / "sessions"
    shutil.copy(folder / "model.ckpt-7.data-00000-of-00001", tmp_path / "broken.data-00000-of-00001")
    data = (folder / "model.ckpt-7.index").read_bytes()
    for broken in (*truncations(data, 9), *flips(data, 1, 200)):
        survives(tensorflow.read, broken, tmp_path, "broken.index")


def test_a_broken_entry_is_read_or_refused(unpacked: Path, tmp_path: Path) -> None:
    """The table's checksums would stop every flip, so its entries are broken before they are summed."""
    with opened(unpacked / "trained" / "model-1.index") as window:
        pairs = dict(entries(window))
    data = (unpacked / "trained" / "model-1.data-00000-of-00001").read_bytes()
    (tmp_path / "c.data-00000-of-00001").write_bytes(data)
    values = b"".join(pairs.values())
    for broken in flips(values, 2, 100):
        parts = iter(broken)
        rows = [(key, bytes(next(parts) for _ in value)) for key, value in pairs.items()]
        survives(tensorflow.read, table(block(rows)), tmp_path, "c.index")


def test_a_broken_graph_of_objects_is_read_or_refused(unpacked: Path, tmp_path: Path) -> None:
    shutil.copy(unpacked / "trained" / "model-1.index", tmp_path / "model-1.index")
    name = "model-1.data-00000-of-00001"
    data = (unpacked / "trained" / name).read_bytes()
    for broken in flips(data, 3, 150):
        survives(lambda path: tensorflow.read(path.with_name("model-1.index")), broken, tmp_path, name)


def test_a_broken_graph_is_read_or_refused(unpacked: Path, tmp_path: Path) -> None:
    data = (DATA / "frozen.pb").read_bytes()
    for broken in (*truncations(data, 13), *flips(data, 1, 200)):
        survives(tensorflow.read, broken, tmp_path, "broken.pb")
    data = (unpacked / "exported" / "saved_model.pb").read_bytes()
    for broken in flips(data, 1, 10):
        survives(tensorflow.read, broken, tmp_path, "saved_model.pb")


def test_structure_is_read_up_to_a_limit(unpacked: Path) -> None:
    with pytest.raises(BadFileError, match="more than 1,000 bytes"):
        tensorflow.read(unpacked / "exported", Limits(header=1_000))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the TensorFlow that is installed writes now."""
    tf = pytest.importorskip("tensorflow")

    class Model(tf.Module):
        def __init__(self) -> None:
            self.kernel = tf.Variable(tf.ones((3, 4)), name="kernel")
            self.tied = self.kernel
            self.bias = tf.Variable(tf.zeros(4), trainable=False, name="bias")
            self.scales = [tf.Variable(1.0), tf.Variable([1.0, 2.0]), tf.Variable(2.0, trainable=False)]

        @tf.function(input_signature=[tf.TensorSpec((None, 3))])
        def __call__(self, x):
            return tf.matmul(x, self.kernel) + self.bias

    folder = tmp_path_factory.mktemp("live")
    tf.saved_model.save(Model(), str(folder))
    return folder


def test_a_model_saved_now_is_read(live: Path) -> None:
    held = named(tensorflow.read(live))
    assert {name: (tensor.shape, tensor.role) for name, tensor in held.items()} == {
        "bias": ((4,), "state"),
        "kernel": ((3, 4), "weight"),
        "scales/0": ((), "weight"),
        "scales/1": ((2,), "weight"),
        "scales/2": ((), "state"),
    }
    assert held["kernel"].axes == ("features", "units")
    assert held["bias"].notes == ("The file says that it isn't trainable.",)


def test_each_layer_is_fed_by_what_comes_right_before_it(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")

    class Model(tf.Module):
        """Two branches that join, a normalisation of several operations, and a layer behind it."""

        def __init__(self) -> None:
            self.kept = [self.made(f"model/{name}") for name in ("left", "right", "norm", "last")]

        def made(self, scope: str):
            with tf.name_scope(scope):
                return tf.Variable(tf.ones((4, 4)), name="kernel")

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32)])
        def __call__(self, x):
            left, right, norm, last = self.kept
            with tf.name_scope("model/left"):
                first = tf.nn.relu(tf.matmul(x, left))
            with tf.name_scope("model/right"):
                second = tf.nn.relu(tf.matmul(x, right))
            with tf.name_scope("model/norm"):
                joined = first + second
                scaled = (joined - tf.reduce_mean(joined, 1, keepdims=True)) * norm[0]
                joined = scaled + joined
            with tf.name_scope("model/last"):
                return tf.matmul(joined, last)

    tf.saved_model.save(Model(), str(tmp_path))
    assert {node.name: set(node.inputs) for node in tensorflow.read(tmp_path).nodes} == {
        "model/left": set(),
        "model/right": set(),
        "model/norm": {"model/left", "model/right"},
        "model/last": {"model/norm"},
    }


@pytest.mark.parametrize("place", ["keras_api/metrics/0", "metrics/mean"])
def test_what_a_metric_keeps_is_no_layer(tmp_path: Path, place: str) -> None:
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    pairs = {f"{place}/total{end}": entry(1, (), 0, 4), f"dense/kernel{end}": entry(1, (2, 3), 4, 24)}
    ledger = account(tensorflow.read(checkpoint(tmp_path, pairs)), layout="keras", name="m")
    assert [owner.path for owner in ledger.owners] == ["", "dense"]
    assert [(one.path, one.owner, one.state) for one in ledger.entries][-1] == (f"{place}/total", "", "fixed")
    assert ledger.total == 6
