"""ONNX models: what each array is, where its data lies, and that no file leads elsewhere.

`data/layers.onnx` and `data/quantised.onnx` were written by the package `onnx`; `data/make_onnx.py` has the code.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.formats.harm import flips, survives, truncations
from tests.formats.messages import field

from tally.formats import onnx
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.tensor import Contents, Node, Tensor

DATA = Path(__file__).parent / "data"
FLOAT, INT8, INT64 = 1, 3, 7


def array(
    name: str, shape: tuple[int, ...], raw: bytes | None = None, kind: int = FLOAT, more: bytes = b""
) -> bytes:
    size = 4
    for length in shape:
        size *= length
    held = bytes(max(size, 0)) if raw is None else raw
    return field(1, list(shape)) + field(2, kind) + field(8, name) + (more or field(9, held))


def node(kind: str, takes: str, gives: str, more: bytes = b"") -> bytes:
    names = b"".join(field(1, name) for name in takes.split()) + b"".join(
        field(2, name) for name in gives.split()
    )
    return field(1, names + field(3, f"{gives} by {kind}") + field(4, kind) + more)


def attribute(name: str, value: bytes) -> bytes:
    return field(5, field(1, name) + value)


def model(graph: bytes, more: bytes = b"") -> bytes:
    return field(1, 10) + field(2, "tests") + field(7, graph) + more


def outside(name: str, location: str, **said: object) -> bytes:
    pairs = {"location": location, **said}
    held = b"".join(field(13, field(1, key) + field(2, str(value))) for key, value in pairs.items())
    return field(5, array(name, (2, 3), more=held + field(14, 1))) + node(
        "MatMul", f"x {name}", f"{name}.out"
    )


def read(data: bytes, folder: Path) -> Contents:
    path = folder / "m.onnx"
    path.write_bytes(data)
    return onnx.read(path)


def named(contents: Contents) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in contents.tensors}


def operator(contents: Contents, name: str) -> Node:
    return next(node for node in contents.nodes if node.name == name)


@pytest.fixture(scope="module")
def layers() -> Contents:
    return onnx.read(DATA / "layers.onnx")


@pytest.fixture(scope="module")
def quantised() -> Contents:
    return onnx.read(DATA / "quantised.onnx")


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("stem.weight", ("filters", "input channels", "kernel height", "kernel width")),
        ("stem.bias", ("filters",)),
        ("bn.mean", ("channels",)),
        ("deep.weight", ("filters", "input channels per group", "kernel height", "kernel width")),
        ("up.weight", ("input channels", "filters", "kernel height", "kernel width")),
        ("slope", ("channels", "", "")),
        ("head.weight", ("units", "features")),
        ("head.bias", ("units",)),
        ("words", ("tokens", "features")),
        ("lstm.w", ("directions", "4 gates·units", "features")),
        ("lstm.r", ("directions", "4 gates·units", "units")),
        ("lstm.b", ("directions", "2 biases·4 gates·units")),
        ("ln.weight", ("features",)),
        ("scale.weight", ("features", "units")),
        ("scale.bias", ("units",)),
    ],
)
def test_an_operator_names_the_axes_of_what_it_takes(
    layers: Contents, name: str, axes: tuple[str, ...]
) -> None:
    assert named(layers)[name].axes == axes


def test_roles_follow_from_the_operators(layers: Contents) -> None:
    roles = {tensor.name: tensor.role for tensor in layers.tensors}
    assert [name for name, role in roles.items() if role == "state"] == ["bn.mean", "bn.var"]
    assert [name for name, role in roles.items() if role == "fixed"] == ["two", "shape"]
    assert sum(tensor.size for tensor in layers.tensors if tensor.role == "weight") == 365


def test_an_initializer_of_two_operators_counts_once_and_says_so(layers: Contents) -> None:
    assert named(layers)["words"].notes == (
        "2 operators share it, and it counts once: i by Gather, n by MatMul.",
    )


def test_operators_are_nodes_with_options_shapes_and_neighbours(layers: Contents) -> None:
    conv = operator(layers, "a by Conv")
    assert (conv.type, conv.tensors) == ("Conv", ("stem.weight", "stem.bias"))
    assert conv.options == {"kernel_shape": (3, 3), "places": (1, 2)}
    assert conv.input_shapes == ((None, 3, 8, 8),)
    assert operator(layers, "c by Conv").options["group"] == 4
    assert operator(layers, "c by Conv").inputs == ("b by BatchNormalization",)
    assert operator(layers, "h by Gemm").options["transB"] == 1
    assert operator(layers, "r by Scaled").output_shapes == ((None, 5),)


def test_the_body_of_a_function_takes_what_its_caller_gives(layers: Contents) -> None:
    assert operator(layers, "own.Scaled/product by MatMul").tensors == ("scale.weight",)


def test_spans_show_where_the_bytes_are(layers: Contents) -> None:
    span = named(layers)["head.weight"].span
    assert span is not None
    data = (DATA / "layers.onnx").read_bytes()[span.start : span.start + span.nbytes]
    assert data == b"\0\0\x80\x3f" * 12


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "stored"),
    [
        ("int8", (8, 4), "int8", 32),
        ("nbits", (4, 4), "uint4", 32),
        ("int4", (4, 4), "int4", 8),
        ("bfloat16", (4, 4), "bfloat16", 16),
        ("float8", (4, 4), "float8_e4m3fn", 16),
        ("sparse", (4, 4), "float32", 36),
        ("constant", (4, 4), "float32", 64),
        ("i by If/then_branch/own", (4, 4), "float32", 64),
        ("i by If/else_branch/own", (4, 4), "float32", 64),
    ],
)
def test_a_packed_array_counts_the_parameters_it_stands_for(
    quantised: Contents, name: str, shape: tuple[int, ...], dtype: str, stored: int
) -> None:
    held = named(quantised)[name]
    assert (held.role, held.shape, held.dtype, held.stored) == ("weight", shape, dtype, stored)


def test_scales_are_fixed(quantised: Contents) -> None:
    fixed = {tensor.name for tensor in quantised.tensors if tensor.role == "fixed"}
    assert fixed == {"int8.scale", "int8.zero", "nbits.scale", "nbits.zero", "int4.scale"}


def test_the_weight_behind_a_cast_belongs_to_the_product(quantised: Contents) -> None:
    assert operator(quantised, "b by MatMul").tensors == ("int8",)


def test_a_weight_in_a_constant_says_so(quantised: Contents) -> None:
    (note,) = named(quantised)["constant"].notes
    assert note == "It is held by a Constant operator, not listed among the initializers."


@pytest.mark.parametrize(("kind", "gates", "states"), [("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)])
def test_the_states_a_recurrent_operator_starts_from_are_no_parameters(
    tmp_path: Path, kind: str, gates: int, states: int
) -> None:
    held = field(5, array("w", (1, gates * 6, 8))) + field(5, array("r", (1, gates * 6, 6)))
    begun = ["h", "c"][:states]
    held += b"".join(field(5, array(name, (1, 1, 6))) for name in begun)
    # the places between are a bias and lengths, and stay empty
    names = b"".join(field(1, name) for name in ("x", "w", "r", "", "", *begun))
    operator = field(1, names + field(2, "y") + field(3, "rnn") + field(4, kind))
    roles = {tensor.name: tensor.role for tensor in read(model(held + operator), tmp_path).tensors}
    assert roles == {"w": "weight", "r": "weight", **dict.fromkeys(begun, "fixed")}


def test_a_constant_that_only_scales_is_no_parameter(tmp_path: Path) -> None:
    held = attribute("value", field(5, array("", (2,))))
    found = read(
        model(node("Constant", "", "ones", held) + node("InstanceNormalization", "x ones ones", "y")),
        tmp_path,
    )
    assert [(tensor.name, tensor.role) for tensor in found.tensors] == [("ones", "fixed")]


def test_constants_of_shapes_are_passed_over_and_counted(tmp_path: Path) -> None:
    held = attribute("value", field(5, array("", (2,), bytes(16), INT64)))
    found = read(model(node("Constant", "", "to", held) + node("Reshape", "x to", "y")), tmp_path)
    assert (found.tensors, found.notes) == (
        (),
        ("1 constants that sizes are computed with are passed over.",),
    )


def test_a_convolution_without_normalisation_may_have_been_folded(tmp_path: Path) -> None:
    found = read(model(field(5, array("w", (1, 1, 1, 1))) + node("Conv", "x w", "y")), tmp_path)
    assert "folded away" in found.notes[0]


def test_what_a_training_graph_adds_is_the_optimizers(tmp_path: Path) -> None:
    step = field(5, array("momentum", (2, 3))) + node("Add", "w momentum", "next")
    main = field(5, array("w", (2, 3))) + node("MatMul", "x w", "y")
    found = named(read(model(main, field(20, field(2, step))), tmp_path))
    assert found["training/0/algorithm/momentum"].role == "optimizer"
    assert found["w"].role == "weight"


def test_numbers_in_fields_of_their_own_are_counted(tmp_path: Path) -> None:
    one = b"\x25\0\0\x80\x3f"  # field 4, 32 bits
    found = read(model(field(5, array("w", (2, 3), more=one * 6)) + node("MatMul", "x w", "y")), tmp_path)
    assert named(found)["w"].stored == 24


def test_data_beside_the_model_is_found_but_not_opened(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "w.bin").write_bytes(bytes(40))
    found = read(model(outside("w", "parts/w.bin", offset=16, length=24)), tmp_path)
    span = named(found)["w"].span
    assert span is not None
    assert (span.file, span.start, span.nbytes) == (tmp_path / "parts" / "w.bin", 16, 24)
    assert found.files == (tmp_path / "m.onnx", tmp_path / "parts" / "w.bin")


def test_two_arrays_of_the_same_outside_bytes_are_tied(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(24))
    found = named(read(model(outside("a", "w.bin") + outside("b", "w.bin")), tmp_path))
    assert (found["a"].alias_of, found["b"].alias_of) == (None, "a")


def test_absent_data_is_a_note(tmp_path: Path) -> None:
    found = read(model(outside("w", "w.bin")), tmp_path)
    assert found.notes == ("The data lies in 'w.bin', which isn't beside it.",)
    assert found.tensors[0].size == 6


@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "/etc/passwd",
        "a/../../w.bin",
        "..",
        "",
        ".",
        "a//b",
        "C:w.bin",
        "..\\w.bin",
        "w\0.bin",
        "/" * 300,
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str, sparse: bool) -> None:
    """CVE-2022-25882, CVE-2024-27318, CVE-2026-27489, and the same in a sparse array."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(100))
    graph = outside("w", location)
    if sparse:
        pairs = field(13, field(1, "location") + field(2, location)) + field(14, 1)
        values, places = array("w", (1,), more=pairs), array("", (1,), bytes(8), INT64)
        graph = field(15, field(1, values) + field(2, places) + field(3, [2, 3]))
    with pytest.raises(BadFileError, match="outside of its folder"):
        read(model(graph), folder)


def test_data_behind_a_link_is_refused(tmp_path: Path) -> None:
    """CVE-2026-34447."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(100))
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    (folder / "up").symlink_to(tmp_path)
    for location in ("w.bin", "up/w.bin"):
        with pytest.raises(BadFileError, match="goes through a link"):
            read(model(outside("w", location)), folder)


def test_somebody_elses_file_under_a_second_name_is_refused(tmp_path: Path, monkeypatch) -> None:
    """CVE-2026-34446."""
    (tmp_path / "w.bin").write_bytes(bytes(100))
    os.link(tmp_path / "w.bin", tmp_path / "again.bin")
    assert read(model(outside("w", "w.bin")), tmp_path).tensors
    mine = os.lstat

    def theirs(path: Path) -> os.stat_result:
        found = list(mine(path))
        found[4] += 1  # the owner
        return os.stat_result(found)

    monkeypatch.setattr(os, "lstat", theirs)
    with pytest.raises(BadFileError, match="a file of somebody else"):
        read(model(outside("w", "w.bin")), tmp_path)


@pytest.mark.parametrize("name", ["folder", "pipe"])
def test_data_in_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFileError, match="is no file"):
        read(model(outside("w", name)), tmp_path)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"offset": 80}, "claims the bytes 80 to 104 of 'w.bin', which has 100"),
        ({"length": 25}, "claims 25 bytes of 'w.bin', where its elements need 24"),
        ({"offset": -1}, "has the offset '-1'"),
        ({"offset": "9" * 5_000}, "has the offset '9999"),
        ({"length": "NaN"}, "has the length 'NaN'"),
    ],
)
def test_data_past_the_end_of_its_file_is_refused(tmp_path: Path, said: dict[str, object], says: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(100))
    with pytest.raises(BadFileError, match=says):
        read(model(outside("w", "w.bin", **said)), tmp_path)


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (field(5, array("w", (2, 3), bytes(23))), "tensor 'w': stores 23 bytes, where its elements need 24"),
        (field(5, array("w", (2, 3), more=field(4, b""))), "stores 0 bytes, where it has 6 elements"),
        (
            field(5, array("w", (2, 3), more=field(5, [1] * 5), kind=INT8)),
            "stores 5 bytes, where it has 6 elements",
        ),
        (field(5, array("w", (-1, 3))), r"has the shape \(-1, 3\)"),
        (field(5, array("w", (2**40, 2**40), b"")), "claims 1,208,925,819,614,629,174,706,176 scalars"),
        (field(5, array("w", (1,) * 65)), "has 65 dimensions, more than 64"),
        (field(5, array("w", (1,), kind=99)), "unknown type 99"),
        (field(5, array("w", (1,))) * 2, "tensor 'w': is named twice"),
        (field(5, field(8, b"\xff")), "is not utf-8"),
        (field(15, field(3, [2])), "a sparse array without values or places"),
        (
            field(
                15, field(1, array("w", (3,))) + field(2, array("", (3,), bytes(24), INT64)) + field(3, [2])
            ),
            "has 3 values with places",
        ),
    ],
)
def test_an_impossible_array_is_refused(tmp_path: Path, graph: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        read(model(graph), tmp_path)


def test_a_file_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="holds no graph"):
        read(field(1, 10), tmp_path)


def test_graphs_in_graphs_have_an_end(tmp_path: Path) -> None:
    graph = b""
    for _ in range(60):
        graph = node("If", "c", "y", attribute("then_branch", field(6, graph)))
    with pytest.raises(BadFileError, match="nested more than 100 deep"):
        read(model(graph), tmp_path)


def test_functions_that_call_each_other_end(tmp_path: Path) -> None:
    def function(name: str, calls: str) -> bytes:
        call = field(7, field(1, "v") + field(2, "out") + field(4, calls) + field(7, "own"))
        return field(25, field(1, name) + field(4, "v") + field(5, "out") + field(10, "own") + call)

    graph = field(5, array("w", (1,))) + node("One", "w", "y", field(7, "own"))
    found = read(model(graph, function("One", "Two") + function("Two", "One")), tmp_path)
    assert found.tensors[0].notes == ("No operator takes it.",)


def test_a_value_taken_very_often_is_followed_for_a_while(tmp_path: Path) -> None:
    graph = field(5, array("w", (1,))) + b"".join(node("Identity", "w", f"v{n}") for n in range(300))
    graph += b"".join(node("Mul", f"x v{n}", f"y{n}") for n in range(300))
    (tensor,) = read(model(graph), tmp_path).tensors
    assert tensor.notes[0].startswith("64 operators share it")


def test_many_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(b"".join(field(5, array(f"w{n}", (1,))) for n in range(11))))
    with pytest.raises(BadFileError, match="names more than 10 arrays"):
        onnx.read(path, Limits(tensors=10))


def test_matches_by_what_is_in_the_file(tmp_path: Path) -> None:
    copy = tmp_path / "renamed"
    copy.write_bytes((DATA / "layers.onnx").read_bytes())
    assert onnx.matches(copy)
    for text in (b"", b"plain text", field(1, 1) + field(2, field(1, 1)), bytes(100)):
        copy.write_bytes(text)
        assert not onnx.matches(copy)
    assert not onnx.matches(tmp_path)


@pytest.mark.parametrize("name", ["layers.onnx", "quantised.onnx"])
def test_a_broken_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    data = (DATA / name).read_bytes()
    for broken in (*truncations(data, 7), *flips(data, 1, 300)):
        survives(onnx.read, broken, tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_nesting_of_fields_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    value = st.recursive(
        st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=6)),
        lambda inner: st.lists(st.tuples(st.integers(1, 26), inner), max_size=5).map(
            lambda fields: b"".join(field(number, one) for number, one in fields)
        ),
        max_leaves=20,
    )
    graph = data.draw(value)
    survives(onnx.read, model(graph if isinstance(graph, bytes) else b""), tmp_path)
