"""Calls of TensorFlow functions, each a row: the name, and arguments that both libraries are given."""

from typing import Any, NamedTuple

import numpy as np

_chance = np.random.default_rng(7)


def _floats(*shape: int) -> np.ndarray:
    return _chance.normal(size=shape).astype("float32")


A, B = _floats(3, 4), _floats(3, 4)
M, N = _floats(4, 2), _floats(2, 4)
T = _floats(2, 3, 4)
V = _floats(5)
UNIT = _chance.uniform(0.1, 0.9, (3, 4)).astype("float32")
POSITIVE = _chance.uniform(1.1, 3.0, (3, 4)).astype("float32")
WHOLE, OTHER = np.array([[1, 5, -3], [4, 0, 7]], "int32"), np.array([[2, 3, 2], [5, 1, 3]], "int32")
P = np.array([[True, False, True], [False, False, True]])
Q = np.array([[True, True, False], [False, True, True]])
SQUARE = _floats(3, 3) + 3 * np.eye(3, dtype="float32")
SPD = SQUARE @ SQUARE.T
IMAGE = _chance.uniform(0, 1, (2, 6, 5, 3)).astype("float32")
BYTES = _chance.integers(0, 256, (6, 5, 3)).astype("uint8")
MAPS = _floats(2, 7, 6, 4)
SERIES = _floats(2, 9, 3)
VOLUME = _floats(1, 5, 4, 4, 2)
LOGITS = _floats(4, 3)
CLASSES = np.array([0, 2, 1, 1], "int32")
HOT = np.eye(3, dtype="float32")[CLASSES]


class Case(NamedTuple):
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}-{'-'.join(self.kwargs)}".rstrip("-")


def case(name: str, *args: Any, **kwargs: Any) -> Case:
    return Case(name, args, kwargs)


_ON_ANY = """abs math.ceil cos cosh exp math.expm1 floor math.erf math.erfc math.is_nan math.log_sigmoid negative
round math.rint sigmoid sign sin sinh square tan tanh atan asinh nn.relu nn.relu6 nn.elu nn.selu nn.softplus nn.softsign
nn.softmax nn.log_softmax nn.leaky_relu nn.gelu nn.silu nn.crelu nn.l2_loss identity stop_gradient zeros_like ones_like
math.is_inf math.is_finite math.reduce_euclidean_norm reduce_logsumexp"""
_ON_UNIT = "acos asin atanh math.erfinv math.log1p"
_ON_POSITIVE = "acosh math.log math.lgamma math.digamma math.rsqrt sqrt math.reciprocal"
_ON_PAIRS = """add subtract multiply divide maximum minimum math.floormod math.floordiv math.squared_difference
math.divide_no_nan math.multiply_no_nan truediv atan2"""
_COMPARED = "equal not_equal less less_equal greater greater_equal"
_REDUCED = "reduce_sum reduce_max reduce_min reduce_prod reduce_mean math.reduce_std math.reduce_variance"

CASES = [
    *(case(name, A) for name in _ON_ANY.split()),
    *(case(name, UNIT) for name in _ON_UNIT.split()),
    *(case(name, POSITIVE) for name in _ON_POSITIVE.split()),
    *(case(name, A, B) for name in _ON_PAIRS.split()),
    *(case(name, WHOLE, OTHER) for name in _COMPARED.split()),
    *(case(name, A, axis=axis) for name in _REDUCED.split() for axis in (None, 0, [0, 1], -1)),
    *(case(name, T, axis=1, keepdims=True) for name in _REDUCED.split()),
    *(case(name, P, Q) for name in ("logical_and", "logical_or", "math.logical_xor")),
    *(case(name, P, axis=1) for name in ("reduce_all", "reduce_any")),
    case("logical_not", P),
    case("math.xlogy", np.array([0.0, 2.0], "float32"), np.array([0.0, 3.0], "float32")),
    case("math.divide_no_nan", A, np.zeros_like(A)),
    case("math.multiply_no_nan", np.array([np.nan, 2.0], "float32"), np.array([0.0, 3.0], "float32")),
    case("pow", POSITIVE, A),
    case("pow", WHOLE, 2),
    case("math.floordiv", WHOLE, OTHER),
    case("math.floormod", WHOLE, OTHER),
    case("reduce_mean", WHOLE),
    case("reduce_mean", WHOLE, axis=1),
    case("reduce_sum", WHOLE, axis=0),
    case("math.reduce_std", T, axis=[0, 2]),
    case("add_n", [A, B, A]),
    *(case(f"math.{word}", (A + 1j * B).astype("complex64")) for word in ("real", "imag", "conj", "angle")),
    case("clip_by_value", A, -0.5, 0.5),
    case("clip_by_norm", A, 1.0),
    case("clip_by_norm", A, 0.5, axes=[1]),
    case("clip_by_global_norm", [A, V], 1.0),
    case("linalg.global_norm", [A, V]),
    case("math.polyval", [A, B, 2.0], 3.0),
    case("cumsum", A),
    case("cumsum", A, axis=1, exclusive=True),
    case("cumsum", T, axis=-1, reverse=True),
    case("math.cumprod", A, axis=1, exclusive=True, reverse=True),
    case("argmax", A),
    case("argmax", A, axis=-1, output_type="int32"),
    case("argmin", A, axis=1),
    case("math.count_nonzero", WHOLE),
    case("math.count_nonzero", WHOLE, axis=1, keepdims=True),
    case("math.zero_fraction", WHOLE),
    case("math.top_k", A, k=2),
    case("math.in_top_k", CLASSES, LOGITS, 2),
    case("sort", A),
    case("sort", A, axis=0, direction="DESCENDING"),
    case("argsort", A, direction="DESCENDING"),
    case("argsort", A, axis=0),
    case("searchsorted", np.array([1.0, 2.0, 4.0], "float32"), np.array([0.5, 2.0, 5.0], "float32")),
    case("searchsorted", np.array([1.0, 2.0, 4.0], "float32"), np.array([2.0], "float32"), side="right"),
    case("unique", np.array([4, 2, 4, 9, 2], "int32")),
    case("math.segment_sum", A, np.array([0, 0, 1])),
    *(case(f"math.segment_{word}", A, np.array([0, 0, 2])) for word in ("max", "min", "prod", "sum")),
    *(case(f"math.unsorted_segment_{word}", A, np.array([3, 0, 3]), 5) for word in ("max", "min", "prod")),
    case("math.unsorted_segment_max", WHOLE, np.array([2, 2]), 3),
    case("math.unsorted_segment_sum", A, np.array([2, 0, 2]), num_segments=4),
    # making
    case("constant", [[1, 2], [3, 4]]),
    case("constant", [1.5, 2.0]),
    case("constant", 7, shape=[2, 2]),
    case("constant", [1, 2, 3, 4], shape=(2, 2), dtype="float32"),
    case("convert_to_tensor", A),
    case("cast", A, "int32"),
    case("cast", WHOLE, "float32"),
    case("cast", WHOLE, "bool"),
    case("cast", [1.9, -1.9], "int32"),
    case("saturate_cast", np.array([-4.0, 300.0], "float32"), "uint8"),
    case("zeros", [2, 3]),
    case("zeros", 4, "int32"),
    case("ones", (2,), "bool"),
    case("fill", [2, 3], 9),
    case("fill", [2], 1.5),
    case("zeros_like", WHOLE),
    case("ones_like", WHOLE, dtype="float32"),
    case("eye", 3),
    case("eye", 2, 3, batch_shape=[2]),
    case("range", 5),
    case("range", 3, 12, 4),
    case("range", 1.0, 2.0, 0.25),
    case("range", 5, 1, -2),
    case("linspace", 0.0, 1.0, 5),
    case("linspace", np.array([0.0, 1.0], "float32"), np.array([2.0, 3.0], "float32"), 3, axis=-1),
    case("one_hot", [0, 2, -1, 3], 3),
    case("one_hot", [[0, 1]], 3, axis=1),
    case("one_hot", [1, 0], 2, on_value=5, off_value=-1),
    case("one_hot", [1], 2, on_value=5.0),
    case("one_hot", [1, 0], 2, on_value=True, off_value=False),
    case("one_hot", [1], 3, dtype="int32"),
    case("sequence_mask", [1, 3, 0]),
    case("sequence_mask", [[1], [2]], maxlen=4, dtype="float32"),
    case("meshgrid", [1, 2, 3], [4, 5]),
    case("meshgrid", [1, 2, 3], [4, 5], indexing="ij"),
    case("shape", T),
    case("size", T),
    case("rank", T),
    # shapes
    case("reshape", T, [4, -1]),
    case("reshape", T, (-1,)),
    case("transpose", T),
    case("transpose", T, perm=[1, 0, 2]),
    case("expand_dims", A, -1),
    case("expand_dims", A, axis=0),
    case("squeeze", A[None, :, None]),
    case("squeeze", A[None, :, None], axis=[0]),
    case("broadcast_to", V, [3, 5]),
    case("broadcast_to", A, [2, 3, 4]),
    case("tile", A, [2, 3]),
    case("concat", [A, B], 0),
    case("concat", [A, B], axis=-1),
    case("stack", [A, B]),
    case("stack", [A, B], axis=-1),
    case("unstack", A, axis=1),
    case("split", A, 2, axis=1),
    case("split", A, 3),
    case("split", A, [1, -1, 1], axis=1),
    case("split", A, [1, 2], 0),
    case("reverse", T, axis=[0, 2]),
    case("roll", A, shift=1, axis=0),
    case("roll", A, shift=[1, -1], axis=[0, 1]),
    case("repeat", V, 2),
    case("repeat", A, [1, 0, 2], axis=0),
    case("pad", A, [[1, 0], [0, 2]]),
    case("pad", A, [[1, 1], [2, 0]], constant_values=3.0),
    case("pad", A, [[1, 1], [2, 1]], mode="REFLECT"),
    case("pad", A, [[1, 1], [2, 1]], mode="symmetric"),
    case("linalg.matrix_transpose", T),
    case("linalg.diag", A),
    case("nn.space_to_depth", _floats(1, 4, 6, 2), 2),
    case("nn.depth_to_space", _floats(1, 2, 3, 8), 2),
    # picking
    case("gather", A, [2, 0]),
    case("gather", A, [[3, 1]], axis=1),
    case("gather", T, [[0, 1], [2, 2]], axis=1, batch_dims=1),
    case("gather", T, [[0, 1], [3, 2]], axis=2, batch_dims=1),
    case("gather", T, [[0, 1], [2, 2]], batch_dims=1),
    case("gather_nd", T, [[0, 1], [1, 2]]),
    case("gather_nd", T, [[0, 1, 3], [1, 2, 0]]),
    case("gather_nd", T, [[1], [2]], batch_dims=1),
    case("nn.embedding_lookup", A, [[0, 2], [1, 1]]),
    case("nn.embedding_lookup", A, [0, 2], max_norm=1.0),
    case("where", P),
    case("where", WHOLE > 2, WHOLE, OTHER),
    case("where", P, 1.0, 0.0),
    case("boolean_mask", WHOLE, P),
    case("boolean_mask", A, [True, False, True]),
    case("boolean_mask", A, [True, False, True, True], axis=1),
    case("slice", T, [0, 1, 1], [1, -1, 2]),
    case("scatter_nd", [[1], [3], [1]], np.array([9.0, 10.0, 11.0], "float32"), [5]),
    case("scatter_nd", [[0, 1]], V[None], [2, 3, 5]),
    *(
        case(f"tensor_scatter_nd_{word}", V, [[0], [3]], np.array([0.5, -0.5], "float32"))
        for word in ("update", "add", "sub", "max", "min")
    ),
    # products
    case("matmul", A, M),
    case("matmul", A, B, transpose_b=True),
    case("matmul", A, B, transpose_a=True),
    case("matmul", T, M),
    case("matmul", WHOLE, OTHER, transpose_b=True),
    case("linalg.matvec", A, _floats(4)),
    case("tensordot", A, M, 1),
    case("tensordot", T, A, axes=[[1, 2], [0, 1]]),
    case("tensordot", A, M, axes=[1, 0]),
    case("einsum", "ij,jk->ik", A, M),
    case("einsum", "bij,jk->bik", T, M),
    case("linalg.cross", _floats(2, 3), _floats(2, 3)),
    case("linalg.trace", SQUARE),
    case("linalg.diag_part", _floats(2, 3, 4)),
    case("linalg.band_part", _floats(4, 4), -1, 0),
    case("linalg.band_part", _floats(2, 4, 5), 1, 2),
    case("norm", A),
    case("norm", A, axis=1, keepdims=True),
    case("norm", T, ord=1),
    case("norm", A, ord=np.inf, axis=0),
    case("norm", T, ord="fro", axis=[1, 2]),
    case("norm", T, ord=1, axis=[1, 2]),
    case("linalg.normalize", A, axis=1),
    case("nn.l2_normalize", A, axis=1),
    case("math.l2_normalize", A),
    case("linalg.inv", SQUARE),
    case("linalg.inv", SQUARE, adjoint=True),
    case("linalg.solve", SQUARE, _floats(3, 2)),
    case("linalg.triangular_solve", SQUARE, _floats(3, 2)),
    case("linalg.triangular_solve", SQUARE, _floats(3, 2), lower=False, adjoint=True),
    case("linalg.cholesky", SPD),
    case("linalg.det", SQUARE),
    case("linalg.logdet", SPD),
    case("linalg.slogdet", SQUARE),
    case("linalg.pinv", M),
    case("linalg.matrix_rank", SQUARE),
    case("linalg.eigvalsh", SPD),
    case("linalg.svd", A, compute_uv=False),
    # networks
    case("nn.softmax", T, axis=1),
    case("nn.leaky_relu", A, alpha=0.1),
    case("nn.gelu", A, approximate=True),
    case("nn.silu", A, beta=2.0),
    case("nn.moments", T, axes=[0, 1]),
    case("nn.moments", T, axes=[2], keepdims=True),
    case("nn.batch_normalization", A, B[0], UNIT[0], B[1], A[2], 1e-3),
    case("nn.batch_normalization", A, B[0], UNIT[0], None, None, 1e-3),
    case("nn.local_response_normalization", MAPS, depth_radius=1, bias=2.0, alpha=0.5, beta=0.75),
    case("nn.bias_add", MAPS, _floats(4)),
    case("nn.sigmoid_cross_entropy_with_logits", labels=UNIT, logits=A),
    case("nn.weighted_cross_entropy_with_logits", labels=UNIT, logits=A, pos_weight=2.0),
    case("nn.softmax_cross_entropy_with_logits", labels=HOT, logits=LOGITS),
    case("nn.sparse_softmax_cross_entropy_with_logits", labels=CLASSES, logits=LOGITS),
    case("nn.compute_average_loss", V),
    case("nn.compute_average_loss", V, sample_weight=V, global_batch_size=8),
    # convolution
    case("nn.conv1d", SERIES, _floats(3, 3, 2), 1, "SAME"),
    case("nn.conv1d", SERIES, _floats(2, 3, 2), 2, "VALID"),
    case("nn.conv2d", MAPS, _floats(3, 2, 4, 5), 1, "SAME"),
    case("nn.conv2d", MAPS, _floats(3, 3, 4, 5), [1, 2, 2, 1], "SAME"),
    case("nn.conv2d", MAPS, _floats(3, 3, 4, 5), strides=(2, 1), padding="VALID"),
    case("nn.conv2d", MAPS, _floats(2, 2, 4, 3), 1, "VALID", dilations=2),
    case("nn.conv2d", MAPS, _floats(2, 2, 4, 3), 1, [[0, 0], [1, 0], [2, 1], [0, 0]]),
    case("nn.conv2d", MAPS, _floats(2, 2, 2, 6), 1, "SAME"),
    case("nn.conv3d", VOLUME, _floats(2, 2, 2, 2, 3), [1, 1, 1, 1, 1], "SAME"),
    case("nn.convolution", MAPS, _floats(3, 3, 4, 2), padding="SAME"),
    case("nn.depthwise_conv2d", MAPS, _floats(3, 3, 4, 2), [1, 1, 1, 1], "SAME"),
    case("nn.depthwise_conv2d", MAPS, _floats(3, 3, 4, 1), [1, 2, 2, 1], "VALID"),
    case("nn.separable_conv2d", MAPS, _floats(3, 3, 4, 2), _floats(1, 1, 8, 3), [1, 1, 1, 1], "SAME"),
    case("nn.conv2d_transpose", MAPS, _floats(3, 3, 5, 4), [2, 14, 12, 5], strides=2),
    case("nn.conv2d_transpose", MAPS, _floats(3, 3, 5, 4), [2, 13, 11, 5], strides=2),
    case("nn.conv2d_transpose", MAPS, _floats(3, 3, 5, 4), [2, 9, 8, 5], 1, "VALID"),
    case("nn.conv1d_transpose", SERIES, _floats(3, 2, 3), [2, 18, 2], 2),
    case("nn.max_pool2d", MAPS, 2, 2, "VALID"),
    case("nn.max_pool2d", MAPS, [3, 2], [2, 1], "SAME"),
    case("nn.max_pool", MAPS, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
    case("nn.avg_pool2d", MAPS, 2, 2, "SAME"),
    case("nn.avg_pool2d", MAPS, ksize=3, strides=1, padding="SAME"),
    case("nn.avg_pool1d", SERIES, 3, 1, "SAME"),
    case("nn.max_pool3d", VOLUME, 2, 2, "SAME"),
    case("nn.avg_pool", SERIES, 2, 2, "VALID"),
    case("nn.max_pool1d", SERIES, 2, 2, "VALID"),
    case("nn.avg_pool3d", VOLUME, 2, 1, "VALID"),
    # images
    case("image.resize", IMAGE, [9, 11]),
    case("image.resize", IMAGE, (4, 3)),
    case("image.resize", IMAGE, (4, 3), antialias=True),
    case("image.resize", BYTES, [8, 8]),
    case("image.resize", IMAGE, (4, 3), method="bicubic", antialias=True),
    case("image.resize", IMAGE, [9, 11], method="lanczos3"),
    case("image.resize", BYTES, [9, 4], method="nearest"),
    case("image.resize", IMAGE, [12, 20], preserve_aspect_ratio=True),
    case("image.crop_to_bounding_box", IMAGE, 1, 2, 3, 2),
    case("image.pad_to_bounding_box", IMAGE, 1, 2, 9, 9),
    case("image.resize_with_crop_or_pad", IMAGE, 4, 9),
    case("image.resize_with_crop_or_pad", BYTES, 9, 4),
    case("image.central_crop", IMAGE, 0.5),
    case("image.flip_left_right", IMAGE),
    case("image.flip_up_down", BYTES),
    case("image.transpose", IMAGE),
    case("image.rot90", IMAGE),
    case("image.rot90", BYTES, k=3),
    case("image.convert_image_dtype", BYTES, "float32"),
    case("image.convert_image_dtype", IMAGE, "uint8"),
    case("image.adjust_brightness", IMAGE, 0.1),
    case("image.adjust_brightness", BYTES, 0.1),
    case("image.adjust_contrast", IMAGE, 1.5),
    case("image.adjust_contrast", BYTES, 0.7),
    case("image.adjust_saturation", IMAGE, 0.5),
    case("image.adjust_hue", IMAGE, 0.2),
    case("image.rgb_to_grayscale", IMAGE),
    case("image.rgb_to_grayscale", BYTES),
    case("image.grayscale_to_rgb", IMAGE[..., :1]),
    case("image.rgb_to_hsv", IMAGE),
    case("image.hsv_to_rgb", IMAGE),
    case("image.per_image_standardization", IMAGE),
    case("image.per_image_standardization", BYTES),
    case("image.psnr", IMAGE, IMAGE * 0.9, 1.0),
    case("image.psnr", BYTES, BYTES // 2, 255),
    # control
    case("map_fn", lambda x: x * 2, A),
    case("map_fn", lambda pair: pair[0] + pair[1], (A, B), fn_output_signature="float32"),
    case("vectorized_map", lambda x: x * 2, A),
    case("while_loop", lambda i, x: i < 3, lambda i, x: [i + 1, x * 2], [0, 1.5]),
    case("while_loop", lambda i: i < 10, lambda i: (i + 1,), (0,), maximum_iterations=4),
    case("cond", True, lambda: A, lambda: B),
    case("nest.flatten", {"b": A, "a": (B, V)}),
    case("nest.map_structure", lambda x: x * 2, {"b": A, "a": (B, V)}),
    case("nest.pack_sequence_as", {"b": 1, "a": (2, 3)}, [A, B, V]),
]
