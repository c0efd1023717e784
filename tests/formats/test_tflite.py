"""TensorFlow Lite models: constants, how they are quantised, and the operators that take them.

The files `data/*.tflite` are one Keras model of 183 parameters, converted by TensorFlow; `data/make_tensorflow.py` has
the code. Converting folds batch normalisation into the convolution before it.
"""

from pathlib import Path
from typing import Any

import pytest
from tests.formats.flat import build
from tests.formats.harm import flips, survives, truncations

from tally.formats import tflite
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.tensor import Contents, Tensor
from tally.formats.tflite_operators import OPERATORS

DATA = Path(__file__).parent / "data"
FLOAT, FLOAT16, INT32, INT8, INT4, STRING = 0, 1, 2, 9, 17, 5


def tensor(name: str, shape: list[int], kind: int = FLOAT, buffer: int = 0, **more: Any) -> dict[int, Any]:
    fields = {0: ("<i", shape), 1: ("<b", kind), 2: ("<I", buffer), 3: name}
    return fields | {int(number[1:]): value for number, value in more.items()}


def operator(
    code: int, takes: list[int], gives: list[int], options: tuple[int, dict[int, Any]] | None = None
) -> Any:
    fields: dict[int, Any] = {0: ("<I", code), 1: ("<i", takes), 2: ("<i", gives)}
    return fields | ({3: ("<B", options[0]), 4: options[1]} if options else {})


def model(
    kinds: list[str], tensors: list[Any], operators: list[Any], buffers: list[Any], more: Any = ()
) -> bytes:
    codes = [{3: ("<i", OPERATORS.index(kind))} for kind in kinds]
    graphs = [{0: tensors, 1: ("<i", [0]), 3: operators}, *more]
    return build({0: ("<I", 3), 1: codes, 2: graphs, 4: [{}, *buffers]})


def dense(weight: dict[int, Any], data: bytes, *others: bytes) -> bytes:
    tensors = [tensor("x", [1, 4]), weight, tensor("y", [1, 3])]
    return model(
        ["FULLY_CONNECTED"], tensors, [operator(0, [0, 1, -1], [2])], [{0: data}, *({0: o} for o in others)]
    )


def read(data: bytes, folder: Path, limits: Limits | None = None) -> Contents:
    path = folder / "m.tflite"
    path.write_bytes(data)
    return tflite.read(path, limits or Limits())


def weights(contents: Contents) -> dict[tuple[str, ...], Tensor]:
    return {held.axes: held for held in contents.tensors if held.role == "weight" and len(held.shape) > 1}


@pytest.mark.parametrize(
    ("name", "dtype", "size"), [("float", "float32", 4), ("half", "float16", 2), ("int8", "int8", 1)]
)
def test_a_converted_model_counts_the_same_in_every_type(name: str, dtype: str, size: int) -> None:
    found = tflite.read(DATA / f"{name}.tflite")
    held = [one for one in found.tensors if one.role == "weight"]
    assert sum(one.size for one in held) == 3 * 3 * 2 * 4 + 4 + 3 * 3 * 4 + 4 + 16 * 3 + 3
    kernels = weights(found)
    assert {axes: one.shape for axes, one in kernels.items()} == {
        ("filters", "kernel height", "kernel width", "input channels"): (4, 3, 3, 2),
        ("broadcast", "kernel height", "kernel width", "input channels"): (1, 3, 3, 4),
        ("units", "features"): (3, 16),
    }
    assert {one.dtype for one in kernels.values()} == {dtype}
    assert all(one.stored == one.size * size for one in kernels.values())


def test_a_quantised_kernel_says_how_many_scales_it_has() -> None:
    kernel = weights(tflite.read(DATA / "int8.tflite"))["units", "features"]
    assert kernel.notes == ("Quantised with 3 scales, one for each place on axis 0.",)


def test_half_precision_reaches_its_operator_through_a_cast() -> None:
    found = tflite.read(DATA / "half.tflite")
    conv = next(node for node in found.nodes if node.type == "CONV_2D")
    assert len(conv.tensors) == 2
    assert conv.options["stride_h"] == 1
    assert (conv.input_shapes, conv.output_shapes) == (((None, 6, 6, 2),), ((None, 4, 4, 4),))


def test_spans_show_where_the_bytes_are(tmp_path: Path) -> None:
    data = dense(tensor("w", [3, 4], INT8, 1), b"dense kernel")
    (held,) = read(data, tmp_path).tensors
    assert held.span is not None
    assert data[held.span.start : held.span.start + held.span.nbytes] == b"dense kernel"


def test_numbers_smaller_than_a_byte_are_packed(tmp_path: Path) -> None:
    (held,) = read(dense(tensor("w", [3, 4], INT4, 1), bytes(6)), tmp_path).tensors
    assert (held.size, held.dtype, held.stored) == (12, "int4", 6)


def test_scales_in_blocks_are_fixed(tmp_path: Path) -> None:
    blocks = {4: ("<B", 2), 5: {0: ("<i", 3), 1: ("<i", -1), 2: ("<i", 2)}}
    tensors = [
        tensor("x", [1, 4]),
        tensor("w", [3, 4], INT4, 1, _4=blocks),
        tensor("y", [1, 3]),
        tensor("scales", [3, 2], FLOAT16, 2),
    ]
    data = model(["FULLY_CONNECTED"], tensors, [operator(0, [0, 1], [2])], [{0: bytes(6)}, {0: bytes(12)}])
    found = read(data, tmp_path)
    assert [(one.name, one.role, one.notes) for one in found.tensors] == [
        ("w", "weight", ("Quantised in blocks of 2.",)),
        ("scales", "fixed", ()),
    ]


def test_a_sparse_kernel_counts_its_zeros(tmp_path: Path) -> None:
    (held,) = read(dense(tensor("w", [3, 4], FLOAT, 1, _6={}), bytes(8)), tmp_path).tensors
    assert (held.size, held.stored, held.span) == (12, 8, None)


def test_a_buffer_of_two_tensors_counts_once(tmp_path: Path) -> None:
    tensors = [
        tensor("x", [1, 4]),
        tensor("a", [3, 4], FLOAT, 1),
        tensor("b", [3, 4], FLOAT, 1),
        tensor("y", [1, 3]),
    ]
    steps = [operator(0, [0, 1], [3]), operator(0, [0, 2], [3])]
    found = read(model(["FULLY_CONNECTED"], tensors, steps, [{0: bytes(48)}]), tmp_path)
    assert [one.alias_of for one in found.tensors] == [None, "a"]


def test_a_tensor_of_two_operators_says_so(tmp_path: Path) -> None:
    tensors = [tensor("x", [1, 4]), tensor("w", [4, 4], FLOAT, 1), tensor("y", [1, 4])]
    steps = [operator(0, [0, 1], [2]), operator(0, [2, 1], [2])]
    (held,) = read(model(["FULLY_CONNECTED"], tensors, steps, [{0: bytes(64)}]), tmp_path).tensors
    assert held.notes == ("2 operators share it, and it counts once: FULLY_CONNECTED_0, FULLY_CONNECTED_1.",)


def test_data_behind_the_tables_is_found(tmp_path: Path) -> None:
    """Files past 2 GB keep their data behind the tables, where offsets of 32 bits don't reach."""
    data = dense(tensor("w", [3, 4], FLOAT, 1), b"")
    wide = model(
        ["FULLY_CONNECTED"],
        [tensor("x", [1, 4]), tensor("w", [3, 4], FLOAT, 1), tensor("y", [1, 3])],
        [operator(0, [0, 1], [2])],
        [{1: ("<Q", 1_000), 2: ("<Q", 48)}],
    )
    assert read(data, tmp_path).tensors == ()
    (held,) = read(wide.ljust(1_048, b"\0"), tmp_path).tensors
    assert held.span is not None
    assert (held.span.start, held.span.nbytes) == (1_000, 48)
    with pytest.raises(BadFileError, match="tensor 'w': claims the bytes 1,000 to 1,048 of 1,047"):
        read(wide.ljust(1_047, b"\0"), tmp_path)


@pytest.mark.parametrize(
    ("kind", "place", "shape", "axes"),
    [
        (
            "CONV_2D",
            1,
            [4, 3, 3, 1],
            ("filters", "kernel height", "kernel width", "input channels per group"),
        ),
        ("TRANSPOSE_CONV", 1, [4, 2, 2, 2], ("filters", "kernel height", "kernel width", "input channels")),
        ("EMBEDDING_LOOKUP", 1, [9, 2], ("tokens", "features")),
        ("GATHER", 0, [9, 2], ("tokens", "features")),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", 3, [5, 2], ("units", "features")),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", 7, [5, 5], ("units", "units")),
        ("BIDIRECTIONAL_SEQUENCE_LSTM", 20, [5, 2], ("units", "features")),
        ("BATCH_MATMUL", 1, [2, 3], ("features", "units")),
        ("PRELU", 1, [1, 1, 6], ("", "", "channels")),
    ],
)
def test_an_operator_names_the_axes(
    tmp_path: Path, kind: str, place: int, shape: list[int], axes: tuple[str, ...]
) -> None:
    size = 4
    for length in shape:
        size *= length
    takes = [0] * place + [1] + [0] * 3
    tensors = [tensor("x", [1, 8, 8, 2]), tensor("w", shape, FLOAT, 1), tensor("y", [1])]
    (held,) = read(model([kind], tensors, [operator(0, takes, [2])], [{0: bytes(size)}]), tmp_path).tensors
    assert (held.role, held.axes) == ("weight", axes)


def test_whole_numbers_and_single_fractions_are_no_weights(tmp_path: Path) -> None:
    tensors = [tensor("x", [1]), tensor("to", [2], INT32, 1), tensor("by", [], FLOAT, 2), tensor("y", [1])]
    steps = [operator(0, [0, 1], [3]), operator(1, [3, 2], [3])]
    found = read(model(["RESHAPE", "MUL"], tensors, steps, [{0: bytes(8)}, {0: bytes(4)}]), tmp_path)
    assert [one.role for one in found.tensors] == ["fixed", "fixed"]


def test_what_a_loop_is_given_is_used_in_its_body(tmp_path: Path) -> None:
    tensors = [tensor("x", [1, 4]), tensor("w", [4, 4], FLOAT, 1), tensor("y", [1, 4])]
    body = {
        0: [tensor("a", [1, 4]), tensor("b", [4, 4]), tensor("c", [1, 4])],
        1: ("<i", [0, 1]),
        3: [operator(1, [0, 1], [2])],
    }
    loop = operator(0, [0, 1], [2], (93, {0: ("<i", 1), 1: ("<i", 1)}))
    data = model(["WHILE", "FULLY_CONNECTED"], tensors, [loop], [{0: bytes(64)}], [body])
    (held,) = read(data, tmp_path).tensors
    assert held.axes == ("units", "features")


def test_names_given_twice_are_told_apart(tmp_path: Path) -> None:
    tensors = [tensor("w", [1], FLOAT, 1), tensor("w", [1], FLOAT, 2), tensor("", [1], FLOAT, 3)]
    found = read(model([], tensors, [], [{0: bytes(4)}, {0: bytes(4)}, {0: bytes(4)}]), tmp_path)
    assert [one.name for one in found.tensors] == ["w", "w#0:1", "tensor 0:2"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (dense(tensor("w", [3, 4], FLOAT, 1), bytes(47)), "needs 48 bytes, and its buffer holds 47"),
        (dense(tensor("w", [3, -4], FLOAT, 1), bytes(48)), r"has the shape \(3, -4\)"),
        (dense(tensor("w", [3, 4], FLOAT, 9), bytes(48)), "lies in buffer 9 of 2"),
        (dense(tensor("w", [3, 4], 77, 1), bytes(48)), "unknown type 77"),
        (dense(tensor("w", [1] * 1_001, FLOAT, 1), bytes(4)), "a vector claims 1,001 elements"),
        (dense(tensor("w", [3], FLOAT, 1, _4={2: ("<f", [1.0, 2.0])}), bytes(12)), "has 2 scales"),
        (model([], [], [operator(3, [], [])], []), "is number 3 of 0 kinds"),
        (model(["ADD"], [], [operator(0, [5], [])], []), "takes or gives tensor 5, which isn't there"),
        (b"\0\0\0\0TFL3", "outside of the file"),
        (b"plain text", "doesn't hold the letters TFL3"),
    ],
)
def test_an_impossible_model_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        read(data, tmp_path)


def test_many_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="a vector claims 3 elements"):
        read(dense(tensor("w", [3, 4], FLOAT, 1), bytes(48)), tmp_path, Limits(tensors=2))


def test_matches_by_the_letters_in_the_file(tmp_path: Path) -> None:
    assert tflite.matches(DATA / "float.tflite")
    assert not tflite.matches(DATA / "layers.onnx")
    assert not tflite.matches(tmp_path)


@pytest.mark.parametrize("name", ["float", "int8"])
def test_a_broken_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    data = (DATA / f"{name}.tflite").read_bytes()
    for broken in (*truncations(data, 11), *flips(data, 1, 300)):
        survives(tflite.read, broken, tmp_path)
