"""Writes `layers.onnx` and `quantised.onnx` with the package `onnx` 1.23, which the tests themselves do without."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OPSETS = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]


def filled(name: str, *shape: int, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def node(kind: str, takes: str, gives: str, domain: str = "", **options: object) -> onnx.NodeProto:
    names = ["" if name == "-" else name for name in takes.split()]
    return helper.make_node(kind, names, gives.split(), f"{gives} by {kind}", domain=domain, **options)


def layers() -> onnx.ModelProto:
    nodes = [
        node("Conv", "x stem.weight stem.bias", "a", kernel_shape=[3, 3]),
        node("BatchNormalization", "a bn.weight bn.bias bn.mean bn.var", "b"),
        node("Conv", "b deep.weight", "c", group=4, kernel_shape=[3, 3]),
        node("ConvTranspose", "c up.weight up.bias", "d"),
        node("PRelu", "d slope", "e"),
        node("GlobalAveragePool", "e", "f"),
        node("Flatten", "f", "g"),
        node("Gemm", "g head.weight head.bias", "h", transB=1),
        node("Gather", "words ids", "i"),
        node("LSTM", "i lstm.w lstm.r lstm.b", "j k l", hidden_size=2),
        node("Transpose", "words", "m", perm=[1, 0]),
        node("MatMul", "h m", "n"),
        node("LayerNormalization", "n ln.weight ln.bias", "o"),
        node("Pow", "o two", "p"),
        node("Add", "p shift", "q"),
        node("Scaled", "q scale.weight scale.bias", "r", domain="own"),
    ]
    held = [
        filled("stem.weight", 4, 3, 3, 3),
        filled("stem.bias", 4),
        *(filled(f"bn.{name}", 4) for name in ("weight", "bias", "mean", "var")),
        filled("deep.weight", 4, 1, 3, 3),
        filled("up.weight", 4, 2, 2, 2),
        filled("up.bias", 2),
        filled("slope", 2, 1, 1),
        filled("head.weight", 6, 2),
        filled("head.bias", 6),
        filled("words", 5, 6),
        filled("lstm.w", 1, 8, 6),
        filled("lstm.r", 1, 8, 2),
        filled("lstm.b", 1, 16),
        filled("ln.weight", 5),
        filled("ln.bias", 5),
        filled("two"),
        filled("shift", 5),
        filled("scale.weight", 5, 5),
        filled("scale.bias", 5),
        filled("shape", 3, dtype="int64"),
    ]
    scaled = helper.make_function(
        "own",
        "Scaled",
        ["v", "by", "plus"],
        ["out"],
        [node("MatMul", "v by", "product"), node("Add", "product plus", "out")],
        OPSETS[:1],
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "layers",
        [value("x", TensorProto.FLOAT, ["batch", 3, 8, 8]), value("ids", TensorProto.INT64, ["batch", 4])],
        [value("r", TensorProto.FLOAT, ["batch", 5])],
        held,
    )
    return helper.make_model(
        graph, opset_imports=OPSETS, functions=[scaled], producer_name="tests", ir_version=10
    )


def branch(name: str) -> onnx.GraphProto:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    return helper.make_graph([node("MatMul", "h own", "out")], name, [], [out], [filled("own", 4, 4)])


def quantised() -> onnx.ModelProto:
    nodes = [
        node("DequantizeLinear", "int8 int8.scale int8.zero", "a", axis=1),
        node("MatMul", "x a", "b"),
        node(
            "MatMulNBits",
            "b nbits nbits.scale nbits.zero",
            "c",
            "com.microsoft",
            K=4,
            N=4,
            bits=4,
            block_size=16,
        ),
        node("DequantizeLinear", "int4 int4.scale", "d"),
        node("Gemm", "c d", "e", transB=1),
        node("Cast", "bfloat16", "f", to=1),
        node("MatMul", "e f", "g"),
        node("Cast", "float8", "h8", to=1),
        node("MatMul", "g h8", "h"),
        node("If", "which", "i", then_branch=branch("then"), else_branch=branch("else")),
        helper.make_node("Constant", [], ["constant"], value=filled("", 4, 4)),
        node("MatMul", "i constant", "j"),
        node("MatMul", "j sparse", "k"),
    ]
    zeros = [0] * 16
    held = [
        filled("int8", 8, 4, dtype="int8"),
        filled("int8.scale", 4),
        filled("int8.zero", 4, dtype="int8"),
        filled("nbits", 4, 1, 8, dtype="uint8"),
        filled("nbits.scale", 4),
        filled("nbits.zero", 4, dtype="uint8"),
        helper.make_tensor("int4", TensorProto.INT4, (4, 4), zeros),
        filled("int4.scale"),
        helper.make_tensor("bfloat16", TensorProto.BFLOAT16, (4, 4), zeros),
        helper.make_tensor("float8", TensorProto.FLOAT8E4M3FN, (4, 4), zeros),
    ]
    values, places = filled("sparse", 3), numpy_helper.from_array(np.array([1, 5, 9]), "places")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "quantised",
        [value("x", TensorProto.FLOAT, ["batch", 8]), value("which", TensorProto.BOOL, [])],
        [value("k", TensorProto.FLOAT, ["batch", 4])],
        held,
        sparse_initializer=[helper.make_sparse_tensor(values, places, [4, 4])],
    )
    return helper.make_model(graph, opset_imports=OPSETS[:2], producer_name="tests", ir_version=10)


if __name__ == "__main__":
    for model in (layers(), quantised()):
        onnx.checker.check_model(model) if "--check" in sys.argv else None
        onnx.save(model, HERE / f"{model.graph.name}.onnx")
