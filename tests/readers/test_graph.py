"""What a file says of its layers: operators with arrays of made-up names, and layers that hold none."""

from pathlib import Path

import pytest

from tally.accounting.explain import explain
from tally.formats.tensor import Contents, Node, Tensor
from tally.readers import account, read

DATA = Path(__file__).parent.parent / "formats" / "data"

SIDES = ("kernel height", "kernel width")


def tensor(name: str, *shape: int, axes: tuple[str, ...] = ()) -> Tensor:
    return Tensor(name=name, shape=shape, dtype="float32", stored=0, axes=axes)


def of(nodes: tuple[Node, ...], *tensors: Tensor, layout: str = ""):
    contents = Contents(format="test", tensors=tensors, nodes=nodes)
    return account(contents, layout=layout, name="m")


def test_arrays_without_a_name_stand_where_their_operator_does():
    ledger = of(
        (
            Node(
                name="/conv1/Conv",
                type="Conv",
                tensors=("onnx::Conv_1", "onnx::Conv_2"),
                options={"group": 2},
            ),
            Node(name="/Relu", type="Relu", inputs=("/conv1/Conv",)),
            Node(name="/fc/MatMul", type="MatMul", tensors=("onnx::MatMul_3",), inputs=("/Relu",)),
            Node(name="/fc/Add", type="Add", tensors=("fc.bias",), inputs=("/fc/MatMul",)),
        ),
        tensor("fc.bias", 5, axes=("units",)),
        tensor("onnx::Conv_1", 8, 2, 3, 3, axes=("filters", "input channels per group", *SIDES)),
        tensor("onnx::Conv_2", 8, axes=("filters",)),
        tensor("onnx::MatMul_3", 8, 5, axes=("features", "units")),
    )
    conv, fc = ledger.children()
    assert (conv.path, conv.type, conv.option("groups"), conv.option("kernel_size")) == (
        "conv1",
        "Conv2D",
        2,
        (3, 3),
    )
    assert (fc.path, fc.type, fc.inputs) == ("fc", "Dense", ("conv1",))
    assert [entry.path for entry in ledger.entries] == ["conv1/weight", "conv1/bias", "fc/weight", "fc/bias"]


def test_two_operators_of_one_place_are_two_layers():
    nodes = tuple(Node(name=f"/a/MatMul_{n}", type="MatMul", tensors=(f"onnx::MatMul_{n}",)) for n in (1, 2))
    ledger = of(nodes, *(tensor(f"onnx::MatMul_{n}", 2, n) for n in (1, 2)))
    assert [owner.path for owner in ledger.children()] == ["a", "a/MatMul_2"] or ledger.total == 6
    assert ledger.total == 6


def test_an_array_that_two_operators_take_counts_once():
    nodes = tuple(Node(name=f"/{name}/Gemm", type="Gemm", tensors=("shared.weight",)) for name in "ab")
    assert of(nodes, tensor("shared.weight", 3, 4, axes=("units", "features"))).total == 12


def test_shapes_are_said_of_all_layers_or_of_none():
    known = Node(name="/a/Gemm", type="Gemm", tensors=("a.weight",), output_shapes=((2, 5),))
    unknown = Node(name="/b/Gemm", type="Gemm", tensors=("b.weight",))
    arrays = tensor("a.weight", 5, 4), tensor("b.weight", 5, 5)
    assert of((known,), *arrays).owner("a").output_shapes == ((2, 5),)
    assert of((known, unknown), *arrays).owner("a").output_shapes == ()


def test_layers_of_keras_keep_what_the_file_says():
    ledger = of(
        (
            Node(name="image", type="InputLayer", output_shapes=((None, 8),)),
            Node(
                name="dense",
                type="Dense",
                tensors=("layers/dense/vars/0", "dense/bias"),
                options={"units": 3, "activation": "relu", "list": [1, 2], "object": object()},
                inputs=("image",),
                output_shapes=((None, 3),),
            ),
            Node(name="mine", type="Mine", tensors=("mine/w",), inputs=("dense",)),
        ),
        tensor("layers/dense/vars/0", 8, 3, axes=("features", "units")),
        tensor("dense/bias", 3, axes=("units",)),
        tensor("mine/w", 2),
        layout="keras",
    )
    image, dense, mine = ledger.children()
    assert (image.status, dense.status) == ("no weights", "built")
    assert dict(dense.options) == {"units": 3, "activation": "relu", "list": (1, 2)}
    assert (dense.inputs, dense.output_shapes) == (("image",), ((None, 3),))
    assert (mine.type, mine.builtin) == ("Mine", False)
    assert {entry.path for entry in ledger.owned_by("dense")} == {"dense/0", "dense/bias"}


@pytest.mark.parametrize("name", ["float", "half", "int8"])
def test_the_arrays_of_an_exported_network_stand_in_its_layers(name: str) -> None:
    ledger = read(DATA / f"{name}.tflite")
    counts = dict.fromkeys((owner.path for owner in ledger.owners if owner.path), 0)
    for entry in ledger.entries:
        counts[entry.owner] += entry.count
    assert counts == {"tiny_1/stem_1": 76, "tiny_1/deep_1": 40, "tiny_1/head_1": 51}
    assert [ledger.owner(path).type for path in counts] == ["Conv2D", "DepthwiseConv2D", "Dense"]
    assert {e.name for e in ledger.entries} == {"weight", "bias"}


def test_a_network_of_constants_is_told_in_words_of_its_own():
    ledger = read(DATA / "layers.onnx")
    told = explain(ledger)
    assert told["lstm"].formula.numbers == "1 × 4 × 2 × (6 + 2 + 2) = 80"
    assert (
        next(one.product for one in told["lstm"].weights if one.name == "b")
        == "1 direction × 2 biases × 4 gates × 2 units = 16"
    )
    texts = [remark.text for remark in told["bn"].remarks]
    assert (
        "mean and var follow the data: training averaged them over its batches, and here they are constants."
        in texts
    )
    packed = explain(read(DATA / "int8.tflite"))["tiny_1/head_1"].remarks
    assert [remark.text for remark in packed if remark.kind == "frozen"] == [
        "51 parameters stored as int8 and int32, which no gradient changes. They are counted and used as they are."
    ]


@pytest.mark.parametrize(
    ("node", "array", "path"),
    [
        ("Gather_3", "words_embedding", "words"),
        ("Gather_3", "words", "words"),
        ("lookup", "words", "lookup"),
        ("Gather_3", "const_fold_7", "Gather_3"),
        ("Gather_3", "12", "Gather_3"),
    ],
)
def test_a_layer_has_the_name_of_its_operator_or_else_of_its_array(node, array, path):
    ledger = of((Node(name=node, type="Gather", tensors=(array,)),), tensor(array, 10, 4))
    assert [(owner.path, owner.type) for owner in ledger.children()] == [(path, "Embedding")]
