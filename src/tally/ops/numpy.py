"""The ops that NumPy has too, under Keras's argument names."""

import builtins
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tally.core.dtype import floatx
from tally.ops.definition import Array, Value, float_op, op

# -- element by element ------------------------------------------------------------------------------------------------
abs = op(jnp.abs, "x", "abs")
absolute = op(jnp.abs, "x", "absolute")
angle = float_op(jnp.angle, "x")
arccos = float_op(jnp.arccos, "x", "arccos")
arccosh = float_op(jnp.arccosh, "x", "arccosh")
arcsin = float_op(jnp.arcsin, "x", "arcsin")
arcsinh = float_op(jnp.arcsinh, "x", "arcsinh")
arctan = float_op(jnp.arctan, "x", "arctan")
arctanh = float_op(jnp.arctanh, "x", "arctanh")
cbrt = float_op(jnp.cbrt, "x")
ceil = float_op(jnp.ceil, "x")
conj = op(jnp.conj, "x", "conj")
conjugate = op(jnp.conj, "x", "conjugate")
copy = op(jnp.copy, "x")
cos = float_op(jnp.cos, "x")
cosh = float_op(jnp.cosh, "x")
deg2rad = float_op(jnp.deg2rad, "x")
exp = float_op(jnp.exp, "x")
exp2 = float_op(jnp.exp2, "x")
expm1 = float_op(jnp.expm1, "x")
fabs = float_op(jnp.fabs, "x")
floor = float_op(jnp.floor, "x")
i0 = float_op(jnp.i0, "x")
imag = op(jnp.imag, "x")
isfinite = op(jnp.isfinite, "x")
isinf = op(jnp.isinf, "x")
isnan = op(jnp.isnan, "x")
isneginf = op(jnp.isneginf, "x")
isposinf = op(jnp.isposinf, "x")
isreal = op(jnp.isreal, "x")
log = float_op(jnp.log, "x")
log10 = float_op(jnp.log10, "x")
log1p = float_op(jnp.log1p, "x")
log2 = float_op(jnp.log2, "x")
logical_not = op(jnp.logical_not, "x")
nan_to_num = op(jnp.nan_to_num, "x; nan=0.0, posinf=None, neginf=None")
negative = op(jnp.negative, "x")
rad2deg = float_op(jnp.rad2deg, "x")
real = op(jnp.real, "x")
reciprocal = float_op(jnp.reciprocal, "x")
round = op(jnp.round, "x; decimals=0")
sign = op(jnp.sign, "x")
signbit = op(jnp.signbit, "x")
sin = float_op(jnp.sin, "x")
sinc = float_op(jnp.sinc, "x")
sinh = float_op(jnp.sinh, "x")
sqrt = float_op(jnp.sqrt, "x")
square = op(jnp.square, "x")
tan = float_op(jnp.tan, "x")
tanh = float_op(jnp.tanh, "x")
trunc = op(jnp.trunc, "x")


def vectorize(pyfunc: Any, *, excluded: Any = None, signature: str | None = None) -> Any:
    """A function of numbers as one of arrays, which broadcast; arguments in `excluded` are passed on whole."""
    return jnp.vectorize(pyfunc, excluded=frozenset(excluded or ()), signature=signature)


@op
def clip(x: Array, x_min: Any, x_max: Any) -> Array:
    """Limit values to an interval; booleans become integers."""
    return jnp.clip(x.astype("int32") if x.dtype == bool else x, x_min, x_max)


@op
def view(x: Array, dtype: Any = None) -> Array:
    """The same bytes read as another dtype."""
    return x.view(dtype)


# -- two tensors -------------------------------------------------------------------------------------------------------
add = op(jnp.add, "x1, x2")
arctan2 = float_op(jnp.arctan2, "x1, x2", "arctan2")
bitwise_and = op(jnp.bitwise_and, "x, y")
bitwise_invert = op(jnp.bitwise_not, "x", "bitwise_invert")
bitwise_left_shift = op(jnp.left_shift, "x, y", "bitwise_left_shift")
bitwise_not = op(jnp.bitwise_not, "x", "bitwise_not")
bitwise_or = op(jnp.bitwise_or, "x, y")
bitwise_right_shift = op(jnp.right_shift, "x, y", "bitwise_right_shift")
bitwise_xor = op(jnp.bitwise_xor, "x, y")
divide = float_op(jnp.divide, "x1, x2", "divide")
equal = op(jnp.equal, "x1, x2")
floor_divide = op(jnp.floor_divide, "x1, x2")
fmax = op(jnp.fmax, "x1, x2")
fmin = op(jnp.fmin, "x1, x2")
fmod = op(jnp.fmod, "x1, x2")
gcd = op(jnp.gcd, "x1, x2")
greater = op(jnp.greater, "x1, x2")
greater_equal = op(jnp.greater_equal, "x1, x2")
heaviside = float_op(jnp.heaviside, "x1, x2")
hypot = float_op(jnp.hypot, "x1, x2")
allclose = op(jnp.allclose, "x1, x2; rtol=1e-5, atol=1e-8, equal_nan=False")
lcm = op(jnp.lcm, "x1, x2")
ldexp = op(jnp.ldexp, "x1, x2")
left_shift = op(jnp.left_shift, "x, y")
less = op(jnp.less, "x1, x2")
less_equal = op(jnp.less_equal, "x1, x2")
logaddexp = float_op(jnp.logaddexp, "x1, x2")
logaddexp2 = float_op(jnp.logaddexp2, "x1, x2")
logical_and = op(jnp.logical_and, "x1, x2")
logical_or = op(jnp.logical_or, "x1, x2")
logical_xor = op(jnp.logical_xor, "x1, x2")
maximum = op(jnp.maximum, "x1, x2")
minimum = op(jnp.minimum, "x1, x2")
mod = op(jnp.mod, "x1, x2", "mod")
multiply = op(jnp.multiply, "x1, x2")
nextafter = float_op(jnp.nextafter, "x1, x2")
not_equal = op(jnp.not_equal, "x1, x2")
power = op(jnp.power, "x1, x2")
right_shift = op(jnp.right_shift, "x, y")
subtract = op(jnp.subtract, "x1, x2")
true_divide = float_op(jnp.divide, "x1, x2", "true_divide")


@op
def isclose(x1: Array, x2: Array, rtol: Value = 1e-5, atol: Value = 1e-8, equal_nan: bool = False) -> Array:
    """Whether numbers differ by at most `atol + rtol * abs(x2)`."""
    return jnp.isclose(x1, x2, rtol, atol, equal_nan)


@float_op
def divide_no_nan(x1: Array, x2: Array) -> Array:
    """A quotient that is 0 where the divisor is 0."""
    return jnp.where(x2 == 0, 0, x1 / jnp.where(x2 == 0, 1, x2))


# -- over axes ---------------------------------------------------------------------------------------------------------
_REDUCED = "x; axis=None, keepdims=False"
all = op(jnp.all, _REDUCED)
amax = op(jnp.max, _REDUCED, "amax")
amin = op(jnp.min, _REDUCED, "amin")
any = op(jnp.any, _REDUCED)
argmax = op(jnp.argmax, _REDUCED)
argmin = op(jnp.argmin, _REDUCED)
count_nonzero = op(jnp.count_nonzero, "x; axis=None")
cumprod = op(jnp.cumprod, "x; axis=None, dtype=None")
cumsum = op(jnp.cumsum, "x; axis=None, dtype=None")
max = op(jnp.max, "x; axis=None, keepdims=False, initial=None")
mean = float_op(jnp.mean, _REDUCED)
median = float_op(jnp.median, _REDUCED)
min = op(jnp.min, "x; axis=None, keepdims=False, initial=None")
nanargmax = op(jnp.nanargmax, _REDUCED)
nanargmin = op(jnp.nanargmin, _REDUCED)
nancumprod = op(jnp.nancumprod, "x; axis=None, dtype=None")
nancumsum = op(jnp.nancumsum, "x; axis=None, dtype=None")
nanmax = op(jnp.nanmax, _REDUCED)
nanmean = float_op(jnp.nanmean, _REDUCED)
nanmedian = float_op(jnp.nanmedian, _REDUCED)
nanmin = op(jnp.nanmin, _REDUCED)
nanpercentile = float_op(jnp.nanpercentile, "x, q; axis=None, method='linear', keepdims=False")
nanprod = op(jnp.nanprod, _REDUCED)
nanquantile = float_op(jnp.nanquantile, "x, q; axis=None, method='linear', keepdims=False")
nanstd = float_op(jnp.nanstd, _REDUCED)
nansum = op(jnp.nansum, _REDUCED)
nanvar = float_op(jnp.nanvar, _REDUCED)
percentile = float_op(jnp.percentile, "x, q; axis=None, method='linear', keepdims=False")
prod = op(jnp.prod, "x; axis=None, keepdims=False, dtype=None")
ptp = op(jnp.ptp, _REDUCED)
quantile = float_op(jnp.quantile, "x, q; axis=None, method='linear', keepdims=False")
std = float_op(jnp.std, _REDUCED)
sum = op(jnp.sum, _REDUCED)
trace = op(jnp.trace, "x; offset=0, axis1=0, axis2=1")
var = float_op(jnp.var, _REDUCED)


@float_op
def average(x: Array, axis: Any = None, weights: Array | None = None) -> Array:
    """The mean, or the weighted mean."""
    return jnp.average(x, axis=axis, weights=weights)


@op
def diff(a: Array, n: int = 1, axis: int = -1) -> Array:
    """Differences between neighbours, `n` times over."""
    return jnp.diff(a, n, axis)


@float_op
def trapezoid(y: Array, x: Array | None = None, dx: float = 1.0, axis: int = -1) -> Array:
    """The integral by the trapezoidal rule."""
    return jnp.trapezoid(y, x, dx, axis)


# -- products ----------------------------------------------------------------------------------------------------------
cross = op(jnp.cross, "x1, x2; axisa=-1, axisb=-1, axisc=-1, axis=None")
inner = op(jnp.inner, "x1, x2")
kron = op(jnp.kron, "x1, x2")
outer = op(jnp.outer, "x1, x2")
vdot = op(jnp.vdot, "x1, x2")


def _accumulator(*tensors: Array) -> str | None:
    """Sums of products of signed 8-bit integers are held in 32 bits."""
    return "int32" if builtins.all(x.dtype == jnp.int8 for x in tensors) else None


@op
def matmul(x1: Array, x2: Array) -> Array:
    """Matrix product over the last two axes."""
    return jnp.matmul(x1, x2, preferred_element_type=_accumulator(x1, x2))


@op
def dot(x1: Array, x2: Array) -> Array:
    """Sum of products over the last axis of `x1` and the last but one of `x2`."""
    return jnp.dot(x1, x2, preferred_element_type=_accumulator(x1, x2))


@op
def tensordot(x1: Array, x2: Array, axes: Any = 2) -> Array:
    """Sum of products over the axes named, or over that many neighbouring ones."""
    return jnp.tensordot(x1, x2, axes, preferred_element_type=_accumulator(x1, x2))


@op
def einsum(subscripts: str, *operands: Array, **kwargs: Value) -> Array:
    """Sums of products in Einstein's notation, such as `"bij,bjk->bik"`."""
    return jnp.einsum(subscripts, *operands, preferred_element_type=_accumulator(*operands))


# -- shapes ------------------------------------------------------------------------------------------------------------
broadcast_to = op(lambda x, shape: jnp.broadcast_to(x, _filled(x, shape)), "x; shape", "broadcast_to")
diag = op(jnp.diag, "x; k=0")
diagflat = op(jnp.diagflat, "x; k=0")
diagonal = op(jnp.diagonal, "x; offset=0, axis1=0, axis2=1")
expand_dims = op(jnp.expand_dims, "x; axis")
flip = op(jnp.flip, "x; axis=None")
fliplr = op(jnp.fliplr, "x")
flipud = op(jnp.flipud, "x")
ndim = op(jnp.ndim, "x")
size = op(jnp.size, "x")
moveaxis = op(jnp.moveaxis, "x; source, destination")
ravel = op(jnp.ravel, "x")
repeat = op(lambda x, repeats, axis: jnp.repeat(x, _counts(repeats), axis), "x; repeats, axis=None", "repeat")
reshape = op(lambda x, newshape: jnp.reshape(x, _filled(x, newshape)), "x; newshape", "reshape")
roll = op(jnp.roll, "x; shift, axis=None")
rot90 = op(jnp.rot90, "array; k=1, axes=(0, 1)")
squeeze = op(jnp.squeeze, "x; axis=None")
swapaxes = op(jnp.swapaxes, "x; axis1, axis2")
tile = op(lambda x, repeats: jnp.tile(x, repeats), "x; repeats", "tile")
transpose = op(jnp.transpose, "x; axes=None")
tril = op(jnp.tril, "x; k=0")
triu = op(jnp.triu, "x; k=0")


def _counts(repeats: Any) -> Any:
    return np.asarray(repeats) if isinstance(repeats, tuple) else repeats


def _filled(x: Array, shape: Any) -> tuple[Any, ...]:
    """A shape without None: the one size left open is -1; beside others, None is the size that `x` has on that axis."""
    sizes = (shape,) if not isinstance(shape, (tuple, list)) and np.ndim(shape) == 0 else tuple(shape)
    is_open = [size is None or (isinstance(size, (int, np.integer)) and size == -1) for size in sizes]
    alone = is_open.count(True) == 1
    return tuple(
        size if size is not None else -1 if alone else x.shape[axis] for axis, size in enumerate(sizes)
    )


@op
def pad(x: Array, pad_width: Any, mode: str = "constant", constant_values: Value = None) -> Array:
    """Add to the ends of each axis."""
    fill = {} if constant_values is None else {"constant_values": constant_values}
    return jnp.pad(x, pad_width, mode, **fill)


# -- joining and splitting ---------------------------------------------------------------------------------------------
@op
def append(x1: Array, x2: Array, axis: int | None = None) -> Array:
    """`x2` behind `x1`; both flattened unless an axis is given."""
    return jnp.append(x1, x2, axis)


@op
def concatenate(xs: Sequence[Array], axis: int = 0) -> Array:
    """Tensors one behind the other on an axis."""
    return jnp.concatenate(xs, axis)


@op
def stack(x: Sequence[Array], axis: int = 0) -> Array:
    """Tensors of one shape on a new axis."""
    return jnp.stack(x, axis)


@op
def hstack(xs: Sequence[Array]) -> Array:
    """Tensors side by side, on axis 1 (vectors on axis 0)."""
    return jnp.hstack(xs)


@op
def vstack(xs: Sequence[Array]) -> Array:
    """Tensors as rows, on axis 0."""
    return jnp.vstack(xs)


@op
def dstack(xs: Sequence[Array]) -> Array:
    """Tensors behind each other, on axis 2."""
    return jnp.dstack(xs)


@op
def meshgrid(*x: Array, indexing: str = "xy") -> list[Array]:
    """Coordinates of a grid from the coordinates on its axes."""
    return jnp.meshgrid(*x, indexing=indexing)


split = op(jnp.split, "x; indices_or_sections, axis=0")
array_split = op(jnp.array_split, "x; indices_or_sections, axis=0")
dsplit = op(jnp.dsplit, "x; indices_or_sections")
hsplit = op(jnp.hsplit, "x; indices_or_sections")
vsplit = op(jnp.vsplit, "x; indices_or_sections")

# -- picking and ordering ----------------------------------------------------------------------------------------------
argpartition = op(jnp.argpartition, "x; kth, axis=-1")
argsort = op(jnp.argsort, "x; axis=-1")
digitize = op(jnp.digitize, "x, bins")
isin = op(jnp.isin, "x1, x2; assume_unique=False, invert=False")
nonzero = op(jnp.nonzero, "x")
searchsorted = op(jnp.searchsorted, "sorted_sequence, values; side='left'")
sort = op(jnp.sort, "x; axis=-1")
take = op(jnp.take, "x, indices; axis=None")
take_along_axis = op(jnp.take_along_axis, "x, indices; axis=None")
unravel_index = op(jnp.unravel_index, "indices; shape")


@op
def get_item(x: Array, key: Value) -> Array:
    """`x[key]`."""
    return x[tuple(key) if isinstance(key, list) and builtins.any(isinstance(k, slice) for k in key) else key]


@op
def where(condition: Array, x1: Array | None = None, x2: Array | None = None) -> Any:
    """`x1` where the condition holds and `x2` elsewhere; the indices where it holds if neither is given."""
    return jnp.where(condition) if x1 is None or x2 is None else jnp.where(condition, x1, x2)


@op
def select(condlist: Sequence[Array], choicelist: Sequence[Array], default: Value = 0) -> Array:
    """For each element, the choice belonging to the first condition that holds."""
    return jnp.select(condlist, choicelist, default)


@op
def unique(
    x: Array,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The distinct values, in order; `size` fixes how many are returned, so that the result's shape is known."""
    return jnp.unique(
        x, return_index, return_inverse, return_counts, axis, size=size, fill_value=fill_value, sorted=sorted
    )


# -- counting ----------------------------------------------------------------------------------------------------------
@op
def bincount(x: Array, weights: Array | None = None, minlength: int = 0, sparse: bool = False) -> Array:
    """How often each whole number occurs, row by row; `minlength` fixes the length inside compiled code."""
    length = minlength if isinstance(x, Tracer) else builtins.max(int(jnp.max(x, initial=-1)) + 1, minlength)
    hits = jax.nn.one_hot(x, length, dtype="int32" if weights is None else weights.dtype)
    return jnp.sum(hits if weights is None else hits * weights[..., None], axis=-2, dtype=hits.dtype)


@op
def histogram(x: Array, bins: int = 10, range: Any = None) -> tuple[Array, Array]:
    """How many values lie in each of `bins` intervals, and the intervals' edges."""
    return jnp.histogram(x, bins, range)


@float_op
def correlate(x1: Array, x2: Array, mode: str = "valid") -> Array:
    """Cross-correlation of two vectors."""
    return jnp.correlate(x1, x2, mode)


corrcoef = float_op(jnp.corrcoef, "x")
slogdet = float_op(lambda x: tuple(jnp.linalg.slogdet(x)), "x", "slogdet")
vander = op(jnp.vander, "x; N=None, increasing=False")

# -- making ------------------------------------------------------------------------------------------------------------
_WINDOW = "; x"
array = op(lambda x, dtype: x if dtype is None else x.astype(dtype), "x; dtype=None", "array")
bartlett = op(lambda x: jnp.bartlett(int(x)).astype(floatx()), _WINDOW, "bartlett")
blackman = op(lambda x: jnp.blackman(int(x)).astype(floatx()), _WINDOW, "blackman")
empty = op(lambda shape, dtype: jnp.empty(shape, dtype or floatx()), "; shape, dtype=None", "empty")
empty_like = op(jnp.empty_like, "x; dtype=None")
eye = op(lambda N, M, k, dtype: jnp.eye(N, M, k, dtype or floatx()), "; N, M=None, k=0, dtype=None", "eye")
full_like = op(jnp.full_like, "x, fill_value; dtype=None")
hamming = op(lambda x: jnp.hamming(int(x)).astype(floatx()), _WINDOW, "hamming")
hanning = op(lambda x: jnp.hanning(int(x)).astype(floatx()), _WINDOW, "hanning")
identity = op(lambda n, dtype: jnp.identity(n, dtype or floatx()), "; n, dtype=None", "identity")
kaiser = op(lambda x, beta: jnp.kaiser(int(x), beta).astype(floatx()), "; x, beta", "kaiser")
ones = op(lambda shape, dtype: jnp.ones(shape, dtype or floatx()), "; shape, dtype=None", "ones")
ones_like = op(jnp.ones_like, "x; dtype=None")
tri = op(lambda N, M, k, dtype: jnp.tri(N, M, k, dtype or floatx()), "; N, M=None, k=0, dtype=None", "tri")
zeros = op(lambda shape, dtype: jnp.zeros(shape, dtype or floatx()), "; shape, dtype=None", "zeros")
zeros_like = op(jnp.zeros_like, "x; dtype=None")


@op
def full(shape: Any, fill_value: Array, dtype: str | None = None) -> Array:
    """A tensor of one value."""
    return jnp.full(shape, fill_value, dtype or floatx())


@op
def arange(start: Value, stop: Value = None, step: Value = None, dtype: str | None = None) -> Array:
    """Numbers at equal distances, the last one excluded."""
    return jnp.arange(start, stop, step, dtype)


@float_op
def linspace(
    start: Array,
    stop: Array,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: str | None = None,
    axis: int = 0,
) -> Any:
    """`num` numbers at equal distances from `start` to `stop`."""
    return jnp.linspace(start, stop, num, endpoint, retstep, dtype, axis)


@float_op
def logspace(
    start: Array,
    stop: Array,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10,
    dtype: str | None = None,
    axis: int = 0,
) -> Array:
    """`num` numbers whose logarithms to `base` are at equal distances."""
    return jnp.logspace(start, stop, num, endpoint, base, dtype, axis)


@float_op
def geomspace(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, dtype: str | None = None, axis: int = 0
) -> Array:
    """`num` numbers of equal ratio from `start` to `stop`."""
    return jnp.geomspace(start, stop, num, endpoint, dtype, axis)
