"""One row per op: its name in keras.ops, and the arguments that both libraries are called with."""

from dataclasses import dataclass
from typing import Any

import numpy as np

words = str.split
_random = np.random.default_rng(0)


@dataclass(frozen=True)
class Batched:
    """An array whose first axis is the batch, unknown in the symbolic test."""

    array: np.ndarray


@dataclass(frozen=True)
class Case:
    """A call of an op."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        shown = [str(a) if isinstance(a, (int, float, str, bool)) else "" for a in self.args]
        options = [
            f"{name}={value}"
            for name, value in self.kwargs.items()
            if not isinstance(value, (np.ndarray, Batched))
        ]
        return "-".join([self.name, *filter(None, shown), *options])


def _floats(*shape: int) -> np.ndarray:
    return _random.normal(size=shape).astype("float32")


def case(name: str, *args: Any, **kwargs: Any) -> Case:
    """A row of the table."""
    return Case(name, args, kwargs)


M = Batched(_floats(4, 3))
N = Batched(_floats(4, 3))
T = Batched(_floats(2, 4, 3))
POSITIVE = Batched(np.abs(_floats(4, 3)) + 0.1)
SMALL = Batched(np.tanh(_floats(4, 3)) * 0.9)
HOLED = Batched(np.array([[1, np.nan, 2], [np.nan, 0.5, -1], [3, 2, 1], [np.inf, -np.inf, 0]], "float32"))
WHOLE = Batched(np.array([[1, 5, 2], [7, 3, 4], [2, 2, 6], [4, 1, 3]], "int32"))
WHOLE2 = Batched(np.array([[2, 3, 1], [2, 1, 4], [1, 3, 2], [3, 5, 1]], "int32"))
FLAGS = Batched(
    np.array([[True, False, True], [False, False, True], [True, True, True], [False, False, False]])
)
LABELS = Batched(np.array([0, 2, 1, 1], "int32"))
PROBABILITIES = Batched(_random.dirichlet([1, 1, 1], 4).astype("float32"))
ONE_HOT = Batched(np.eye(3, dtype="float32")[[0, 2, 1, 1]])
VECTOR = np.array([0.5, -1.0, 2.0, 3.0, -0.25, 1.0], "float32")
SQUARE = Batched(_floats(2, 3, 3) + 3 * np.eye(3, dtype="float32"))
POSITIVE_DEFINITE = Batched(np.array([[[4, 1, 0], [1, 3, 1], [0, 1, 2]]] * 2, "float32"))
LOWER = Batched(np.tril(POSITIVE_DEFINITE.array))
SIGNAL = Batched(_floats(2, 9))
SEQUENCE = Batched(_floats(2, 7, 4))
IMAGES = Batched(_floats(2, 6, 7, 4))
PICTURES = Batched(_random.uniform(size=(2, 6, 7, 3)).astype("float32"))
FIRST = Batched(_floats(2, 4, 6, 7))
BYTES = Batched(_random.integers(0, 255, (2, 6, 7, 3)).astype("uint8"))
VOLUMES = Batched(_floats(1, 4, 5, 4, 2))
QUERY, KEY, VALUE = (Batched(_floats(2, length, 2, 4)) for length in (3, 5, 5))

_ELEMENTWISE = (
    "abs absolute angle arcsinh arctan cbrt ceil conj conjugate copy cos cosh deg2rad exp exp2 expm1 fabs "
    "floor i0 imag isfinite isinf isnan isneginf isposinf isreal logical_not negative rad2deg real "
    "reciprocal round sign signbit sin sinc sinh square tan tanh trunc nan_to_num elu celu gelu "
    "hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid relu relu6 selu "
    "sigmoid silu swish soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh_shrink "
    "erf erfc stop_gradient ones_like zeros_like array convert_to_tensor ravel"
)
_PAIRED = (
    "add arctan2 divide true_divide divide_no_nan equal not_equal floor_divide fmax fmin greater "
    "greater_equal heaviside hypot isclose less less_equal logaddexp logaddexp2 maximum minimum mod fmod "
    "multiply nextafter subtract logical_and logical_or logical_xor"
)
_WHOLE_PAIRED = (
    "add divide floor_divide mod power gcd lcm bitwise_and bitwise_or bitwise_xor left_shift right_shift "
    "bitwise_left_shift bitwise_right_shift maximum"
)
_REDUCTIONS = words("all any amax amin max min mean median prod ptp std sum var logsumexp argmax argmin")
_IGNORING_NAN = words("nanargmax nanargmin nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar")

CASES = [
    *(case(name, M) for name in words(_ELEMENTWISE)),
    *(case(name, POSITIVE) for name in ["log", "log10", "log1p", "log2", "sqrt", "rsqrt"]),
    *(case(name, SMALL) for name in words("arccos arcsin arctanh erfinv")),
    *(case(name, HOLED) for name in ["isfinite", "isinf", "isnan", "isposinf", "isneginf", "nan_to_num"]),
    *(
        case(name, WHOLE)
        for name in [
            "arccosh",
            "sqrt",
            "mean",
            "floor",
            "bitwise_not",
            "bitwise_invert",
            "reciprocal",
            "square",
            "cumsum",
        ]
    ),
    *(case(name, M, N) for name in words(_PAIRED)),
    *(case(name, WHOLE, WHOLE2) for name in words(_WHOLE_PAIRED)),
    case("power", POSITIVE, N),
    case("ldexp", M, WHOLE),
    case("add", M, 2),
    case("multiply", 2.5, WHOLE),
    case("allclose", M, N),
    *(case(name, M) for name in _REDUCTIONS),
    *(case(name, M, axis=-1, keepdims=True) for name in _REDUCTIONS),
    *(case(name, T, axis=(0, 2)) for name in ("sum", "mean", "max", "std", "logsumexp", "any")),
    case("sum", T, axis=[1, 2]),
    *(case(name, FLAGS, axis=1) for name in ("sum", "prod", "all", "count_nonzero", "cumsum")),
    *(case(name, HOLED, axis=1) for name in _IGNORING_NAN),
    *(
        case(name, M, axis=1)
        for name in ("cumprod", "cumsum", "nancumsum", "nancumprod", "average", "diff", "flip")
    ),
    case("average", M, axis=1, weights=POSITIVE),
    case("max", M, axis=1, initial=0.5),
    case("quantile", M, 0.3, axis=1),
    case("percentile", M, 30.0, axis=1, keepdims=True),
    case("nanquantile", HOLED, 0.3, axis=1),
    case("nanpercentile", HOLED, 30.0, axis=1),
    case("trapezoid", M, dx=0.5),
    case("trace", SQUARE, axis1=1, axis2=2),
    case("clip", M, -0.5, 0.5),
    case("view", M, dtype="int32"),
    # products
    case("matmul", T, _floats(3, 5)),
    case("matmul", Batched(np.ones((2, 3), "int8")), np.ones((3, 2), "int8")),
    case("dot", M, _floats(3, 5)),
    case("tensordot", T, _floats(3, 5), axes=1),
    case("tensordot", T.array, _floats(4, 3, 2), axes=[[1, 2], [0, 1]]),
    case("einsum", "btf,fg->btg", T, _floats(3, 5)),
    case("einsum", "ij,ij->i", M, N),
    case("inner", M, _floats(5, 3)),
    case("outer", VECTOR, VECTOR),
    case("kron", _floats(2, 2), _floats(2, 3)),
    case("vdot", VECTOR, VECTOR),
    case("cross", M, N),
    # shapes
    case("broadcast_to", _floats(1, 3), (4, 3)),
    case("diag", VECTOR, k=1),
    case("diagflat", VECTOR),
    case("diagonal", SQUARE, axis1=1, axis2=2),
    case("expand_dims", M, 1),
    case("expand_dims", M, axis=[1, -1]),
    case("flip", M, axis=1),
    case("fliplr", M),
    case("flipud", _floats(4, 3)),
    case("moveaxis", T, 1, 2),
    case("repeat", M, 2, axis=1),
    case("repeat", VECTOR, np.array([1, 0, 2, 1, 1, 3]), axis=0),
    case("reshape", T, (-1, 12)),
    case("reshape", T, (-1, 3, 4)),
    case("roll", M, 1, axis=1),
    case("rot90", IMAGES, axes=(1, 2)),
    case("squeeze", Batched(_floats(4, 1, 3)), axis=1),
    case("swapaxes", T, 1, 2),
    case("tile", M, (1, 2)),
    case("transpose", T, (0, 2, 1)),
    case("transpose", M),
    case("tril", T, k=-1),
    case("triu", T),
    case("pad", M, [[0, 0], [1, 2]]),
    case("pad", M, ((0, 0), (1, 2)), "constant", 3.0),
    case("pad", M, ((0, 0), (1, 1)), mode="reflect"),
    # joining and splitting
    case("append", M, N, axis=1),
    case("concatenate", [M, N], axis=-1),
    case("stack", [M, N], axis=1),
    case("hstack", [M, N]),
    case("vstack", [_floats(2, 3), _floats(1, 3)]),
    case("dstack", [M, N]),
    case("meshgrid", VECTOR, VECTOR[:2], indexing="ij"),
    case("split", T, 2, axis=1),
    case("split", T, [1, 3], axis=1),
    case("array_split", T, 3, axis=1),
    case("hsplit", T, 2),
    case("vsplit", _floats(4, 3), 2),
    case("dsplit", T, [1]),
    case("unstack", T, axis=1),
    # picking and ordering
    case("argpartition", np.array([3, 1, 2], "int32"), 1),
    case("argsort", M),
    case("sort", M, axis=1),
    case("digitize", M, np.array([-1.0, 0.0, 1.0], "float32")),
    case("isin", WHOLE, np.array([1, 2], "int32")),
    case("nonzero", np.array([[1, 0], [0, 2]], "int32")),
    case(
        "searchsorted",
        np.array([1.0, 2.0, 3.0], "float32"),
        np.array([0.5, 2.0, 9.0], "float32"),
        side="right",
    ),
    case("take", M, np.array([0, -1], "int32"), axis=1),
    case("take_along_axis", M, Batched(np.array([[0], [1], [2], [0]], "int32")), axis=1),
    case("unravel_index", np.array([3, 5], "int32"), (2, 3)),
    case("get_item", T, (slice(None), 0)),
    case("get_item", T, (slice(None), slice(None, None, 2), None)),
    case("where", FLAGS, M, N),
    case("where", np.array([True, False, True])),
    case("select", [FLAGS, FLAGS], [M, N], 0.0),
    case("unique", np.array([3, 1, 3, 2], "int32"), return_counts=True),
    case("bincount", np.array([1, 1, 3], "int32"), minlength=5),
    case("bincount", np.array([1, 1, 3], "int32"), weights=np.array([0.5, 1.0, 2.0], "float32")),
    case("histogram", VECTOR, bins=4),
    case("correlate", VECTOR, VECTOR[:2], mode="same"),
    case("corrcoef", M.array),
    case("vander", VECTOR[:3], 3),
    case("slogdet", SQUARE),
    case("size", M.array),
    case("ndim", M.array),
    # making
    *(case(name, 5) for name in words("bartlett blackman hamming hanning identity eye")),
    case("kaiser", 5, 3.0),
    case("zeros", (2, 3)),
    case("ones", (2,), dtype="int32"),
    case("full", (2, 2), 3),
    case("full_like", M, 2.0),
    case("tri", 3, 4, k=1),
    case("eye", 3, 4, k=1, dtype="bfloat16"),
    case("arange", 5),
    case("arange", 1.0, 3.0, 0.5),
    case("linspace", 0, 1, num=5),
    case("logspace", 0, 2, num=3),
    case("geomspace", 1, 8, num=4),
    # tensors as such, and control flow
    case("cast", M, "float16"),
    case("saturate_cast", Batched(M.array * 300), "uint8"),
    case("slice", _floats(4, 3), np.array([1, 1]), (2, 2)),
    case("slice_update", _floats(4, 3), [1, 1], np.ones((2, 2), "float32")),
    case(
        "scatter", np.array([[0, 1], [0, 1], [1, 0]], "int32"), np.array([1.0, 2.0, 3.0], "float32"), (2, 2)
    ),
    case("scatter_update", _floats(3, 2), np.array([[0], [2]], "int32"), _floats(2, 2)),
    case("scatter_update", _floats(3), np.array([[0], [0]], "int32"), np.array([1.0, 2.0], "float32"), "add"),
    case("associative_scan", np.add, np.arange(5, dtype="float32")),
    # activations over axes
    case("softmax", T),
    case("softmax", T, axis=(1, 2)),
    case("log_softmax", T, axis=1),
    case("glu", Batched(_floats(2, 4))),
    case("threshold", M, 0.1, -9.0),
    # convolution and pooling
    case("conv", SEQUENCE, _floats(3, 4, 5), 2, "same"),
    case("conv", SEQUENCE, _floats(3, 2, 6), dilation_rate=2),
    case("conv", IMAGES, _floats(3, 2, 4, 5), strides=(1, 2)),
    case("conv", VOLUMES, _floats(2, 2, 2, 2, 3)),
    case("depthwise_conv", IMAGES, _floats(3, 3, 4, 2), padding="same"),
    case("depthwise_conv", SEQUENCE, _floats(3, 4, 1), strides=2),
    case("separable_conv", IMAGES, _floats(3, 3, 4, 1), _floats(1, 1, 4, 5)),
    *(
        case(
            "conv_transpose",
            SEQUENCE,
            _floats(size, 2, 4),
            strides=strides,
            padding=padding,
            output_padding=extra,
        )
        for size in (2, 3)
        for padding in ("valid", "same")
        for strides, extra in ((1, None), (2, None), (3, None), (2, 1), (3, 0), (3, 1), (3, 2))
    ),
    case("conv_transpose", SEQUENCE, _floats(3, 2, 4), 1, "same", dilation_rate=2),
    case("conv_transpose", IMAGES, _floats(3, 2, 5, 4), strides=2, padding="same"),
    case("max_pool", IMAGES, 2, 2),
    case("max_pool", WHOLE.array[None, :, :, None], 2, 1),
    case("max_pool", FIRST, (2, 3), 1, "same", "channels_first"),
    case("average_pool", IMAGES, (2, 3), 2, "same"),
    case("average_pool", SEQUENCE, 3, 1),
    case("adaptive_average_pool", IMAGES, (2, 3)),
    case("adaptive_max_pool", SEQUENCE, 3),
    # encoding and losses
    case("one_hot", LABELS, 4),
    case("one_hot", np.array([[0, -1], [2, 5]], "int32"), 3, axis=1, dtype="int32"),
    case("multi_hot", WHOLE, 9),
    case("multi_hot", np.array([0, 2], "int32"), 3),
    *(
        row
        for logits, output in ((False, PROBABILITIES), (True, M))
        for row in (
            case("categorical_crossentropy", ONE_HOT, output, from_logits=logits),
            case("sparse_categorical_crossentropy", LABELS, output, from_logits=logits),
            case("binary_crossentropy", ONE_HOT, output, from_logits=logits),
        )
    ),
    case("ctc_loss", np.array([[1, 2, 1]]), _floats(1, 6, 4), np.array([2]), np.array([5])),
    case(
        "ctc_decode",
        np.array([[[0, 3, 1], [0, 2, 1], [5, 1, 1], [0, 1, 4], [0, 9, 1]]] * 2, "float32"),
        np.array([5, 3]),
    ),
    # normalisation and attention
    case("moments", T, axes=[1]),
    case("moments", M, axes=(1,), keepdims=True),
    case("batch_normalization", T, VECTOR[:3], np.abs(VECTOR[:3]), -1, VECTOR[3:], VECTOR[:3]),
    case("batch_normalization", T, VECTOR[:4], np.abs(VECTOR[:4]), 1),
    case("layer_normalization", T, VECTOR[:3], VECTOR[3:]),
    case("layer_normalization", T, axis=(1, 2), epsilon=1e-3),
    case("rms_normalization", T, VECTOR[:3]),
    case("normalize", M, axis=1),
    case("normalize", M, axis=1, order=1),
    case("dot_product_attention", QUERY, KEY, VALUE),
    case("dot_product_attention", QUERY, KEY, VALUE, bias=_floats(1, 2, 3, 5), scale=0.3),
    case("dot_product_attention", KEY, KEY, VALUE, is_causal=True),
    case(
        "dot_product_attention",
        QUERY,
        KEY,
        VALUE,
        mask=np.array([True, True, False, True, False]).reshape(1, 1, 1, 5),
    ),
    case("psnr", M, N, 2.0),
    case("polar", POSITIVE, M),
    case("depth_to_space", IMAGES, 2),
    case("space_to_depth", Batched(_floats(2, 4, 6, 2)), 2),
    case("unfold", FIRST, (2, 3), dilation=1, padding=1, stride=2),
    case("fold", Batched(_floats(2, 8, 9)), (4, 4), 2),
    case("hard_tanh", WHOLE),
    # mathematics
    case("top_k", M, 2),
    case("in_top_k", LABELS, PROBABILITIES, 2),
    case("cdist", M.array, _floats(5, 3)),
    *(
        case(f"segment_{name}", VECTOR, np.array([0, 0, 1, 2, 2, 2], "int32"), num_segments=3)
        for name in ("sum", "max", "min", "prod")
    ),
    case("fft", (_floats(2, 4), _floats(2, 4))),
    case("fft2", (_floats(3, 4), _floats(3, 4))),
    case("ifft2", (_floats(3, 4), _floats(3, 4))),
    case("rfft", SIGNAL),
    case("rfft", SIGNAL, fft_length=6),
    case("irfft", (_floats(2, 4), _floats(2, 4))),
    case("extract_sequences", SIGNAL, 4, 2),
    case("stft", SIGNAL, 4, 2, 6),
    case("stft", SIGNAL, 4, 2, 4, window=None, center=False),
    case("istft", (_floats(2, 5, 3), _floats(2, 5, 3)), 4, 2, 4),
    case("logdet", POSITIVE_DEFINITE),
    case("view_as_complex", Batched(_floats(4, 2))),
    case("view_as_real", np.array([1 + 2j, 3j], "complex64")),
    # linear algebra
    *(case(name, SQUARE) for name in ("det", "inv", "lu_factor", "pinv")),
    case("matrix_rank", SQUARE),
    case("norm", M),
    case("norm", M, ord=1, axis=1, keepdims=True),
    case("norm", SQUARE, ord="fro", axis=(1, 2)),
    case("cholesky", POSITIVE_DEFINITE),
    case("cholesky", POSITIVE_DEFINITE, upper=True),
    case("cholesky_inverse", LOWER.array[0]),
    case("eigh", POSITIVE_DEFINITE),
    case("qr", SQUARE),
    case("svd", T, compute_uv=False),
    case("svd", T, full_matrices=False),
    case("solve", SQUARE, Batched(_floats(2, 3, 2))),
    case("solve_triangular", LOWER, Batched(_floats(2, 3, 2)), lower=True),
    case("lstsq", _floats(4, 3), _floats(4)),
    # images
    *(
        case("image.resize", IMAGES, (4, 9), interpolation=name)
        for name in ("nearest", "bilinear", "bicubic", "lanczos3")
    ),
    case("image.resize", IMAGES, (3, 3), antialias=True),
    case("image.resize", BYTES, (4, 9)),
    case("image.resize", IMAGES, (4, 8), crop_to_aspect_ratio=True),
    case("image.resize", IMAGES, (4, 8), pad_to_aspect_ratio=True, fill_value=2.0),
    case("image.resize", FIRST, (3, 3), data_format="channels_first"),
    case("image.pad_images", IMAGES, 1, 2, target_height=9, target_width=10),
    case("image.crop_images", IMAGES, 1, 2, target_height=3, target_width=4),
    case("image.extract_patches", IMAGES, (2, 3), padding="same"),
    case("image.extract_patches", IMAGES, 2, strides=1, dilation_rate=2),
    case("image.extract_patches_3d", VOLUMES, 2),
    case(
        "image.map_coordinates", _floats(4, 5), _random.uniform(-1, 5, (2, 6)).astype("float32"), 1, "nearest"
    ),
    case(
        "image.affine_transform", IMAGES.array, np.array([[1, 0.2, -1, 0.1, 0.9, 0.5, 0, 0]] * 2, "float32")
    ),
    case(
        "image.perspective_transform",
        IMAGES.array,
        np.array([[[0, 0], [6, 0], [0, 5], [6, 5]]] * 2, "float32"),
        np.array([[[1, 0], [6, 1], [0, 4], [5, 5]]] * 2, "float32"),
    ),
    case("image.rgb_to_grayscale", PICTURES),
    case("image.rgb_to_hsv", PICTURES),
    case("image.hsv_to_rgb", PICTURES),
    case("image.sobel_edges", PICTURES),
    case("image.ssim", PICTURES, Batched(PICTURES.array[:, ::-1]), 1.0, filter_size=5),
    case(
        "image.scale_and_translate",
        IMAGES.array,
        (2, 3, 4, 4),
        np.array([0.5, 0.6], "float32"),
        np.array([0.1, 0.2], "float32"),
        (1, 2),
        "linear",
    ),
]
