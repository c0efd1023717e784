"""Products of matrices, and linear algebra."""

from typing import Any

import jax.numpy as jnp

from tally import ops
from tally.compat.names import like, named
from tally.compat.tensorflow.making import tensor
from tally.compat.tensors import known, sizes
from tally.core.errors import ArgumentError

for _paths, _op, _arguments in (
    ("linalg.det", ops.det, "input"),
    ("linalg.logdet", ops.logdet, "matrix"),
    ("linalg.pinv", ops.pinv, "a, rcond=None"),
    ("linalg.matrix_rank", ops.matrix_rank, "a, tol=None"),
    ("linalg.slogdet", ops.slogdet, "input"),
    ("linalg.cholesky", ops.cholesky, "input"),
    ("linalg.eigh", ops.eigh, "tensor"),
):
    like(_paths, _op, _arguments)


def _turned(x: Any, transposed: bool, adjoint: bool) -> Any:
    x = tensor(x)
    if not (transposed or adjoint):
        return x
    if transposed and adjoint:
        raise ArgumentError(
            "A matrix is asked for transposed and as its adjoint.", do="give only one of them"
        )
    x = ops.swapaxes(x, -1, -2)
    return ops.conj(x) if adjoint else x


@named("matmul linalg.matmul")
def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
) -> Any:
    """The matrix product over the last two axes.

    Raises:
        ArgumentError: One of the two is a vector.
    """
    left, right = _turned(a, transpose_a, adjoint_a), _turned(b, transpose_b, adjoint_b)
    if left.ndim < 2 or right.ndim < 2:
        raise ArgumentError(
            f"tf.matmul takes matrices, but was given shapes {tuple(left.shape)} and {tuple(right.shape)}.",
            do="use tf.tensordot(a, b, 1), or tf.linalg.matvec for a matrix and a vector",
        )
    return ops.matmul(left, right)


@named("linalg.matvec")
def matvec(a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False) -> Any:
    """The product of a matrix and a vector."""
    return ops.squeeze(ops.matmul(_turned(a, transpose_a, adjoint_a), ops.expand_dims(b, -1)), -1)


@named("tensordot linalg.tensordot")
def tensordot(a: Any, b: Any, axes: Any) -> Any:
    """The sum of products over the axes named, or over that many neighbouring ones."""
    if not isinstance(axes, int):
        first, second = axes
        axes = (sizes(first), sizes(second))
    return ops.tensordot(tensor(a), tensor(b), axes)


@named("einsum linalg.einsum")
def einsum(equation: str, *inputs: Any, **kwargs: Any) -> Any:
    """Sums of products in Einstein's notation."""
    del kwargs  # how TensorFlow searches for the best order
    return ops.einsum(equation, *[tensor(x) for x in inputs])


@named("linalg.cross")
def cross(a: Any, b: Any) -> Any:
    """The cross product of vectors of three numbers."""
    return ops.cross(a, b)


@named("linalg.trace")
def trace(x: Any) -> Any:
    """The sum of the diagonal of each matrix."""
    return ops.trace(x, 0, -2, -1)


@named("linalg.diag_part")
def diag_part(input: Any) -> Any:
    """The diagonal of each matrix."""
    return ops.diagonal(input, 0, -2, -1)


@named("linalg.band_part")
def band_part(input: Any, num_lower: Any, num_upper: Any) -> Any:
    """Each matrix with zeros outside a band around the diagonal; -1 keeps all of a side."""
    x = tensor(input)
    rows, columns = jnp.arange(x.shape[-2])[:, None], jnp.arange(x.shape[-1])
    lower, upper = known(num_lower), known(num_upper)
    kept = (lower < 0) | (rows - columns <= lower)
    kept = kept & ((upper < 0) | (columns - rows <= upper))
    return ops.where(kept, x, ops.zeros_like(x))


@named("norm linalg.norm")
def norm(tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool | None = None) -> Any:
    """The norm of vectors along an axis, of matrices along two, or of all numbers as one vector.

    Raises:
        ArgumentError: `ord` is none of `"euclidean"`, `"fro"`, 1, 2 and infinity.
    """
    one_axis = axis is None or not isinstance(axis, list | tuple) or len(axis) < 2
    if ord == "euclidean" or (ord == "fro" and not one_axis) or (ord == 2 and one_axis):
        return ops.sqrt(ops.sum(ops.square(ops.abs(tensor)), axis, bool(keepdims)))
    if one_axis and ord == 1:
        return ops.sum(ops.abs(tensor), axis, bool(keepdims))
    if one_axis and ord == float("inf"):
        return ops.max(ops.abs(tensor), axis, bool(keepdims))
    if not one_axis and ord in (1, 2, float("inf")):
        return ops.norm(tensor, ord, sizes(axis), bool(keepdims))
    raise ArgumentError(f"tf.norm has no ord={ord!r} here.", do="use 'euclidean', 1, 2 or np.inf")


@named("linalg.normalize")
def normalize(tensor: Any, ord: Any = "euclidean", axis: Any = None) -> tuple[Any, Any]:
    """The tensor divided by its norm, and the norm."""
    length = norm(tensor, ord, axis, keepdims=True)
    return ops.divide(tensor, length), length


@named("math.l2_normalize linalg.l2_normalize nn.l2_normalize")
def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    """The tensor divided by its Euclidean norm, whose square is taken to be at least `epsilon`."""
    square = ops.sum(ops.square(x), axis, True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(square, epsilon)))


@named("linalg.inv")
def inv(input: Any, adjoint: bool = False) -> Any:
    """The inverse of each matrix."""
    return ops.inv(_turned(input, False, adjoint))


@named("linalg.solve")
def solve(matrix: Any, rhs: Any, adjoint: bool = False) -> Any:
    """Find x with `matrix @ x = rhs`, whose last two axes are a matrix."""
    return ops.solve(_turned(matrix, False, adjoint), rhs)


@named("linalg.triangular_solve")
def triangular_solve(matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False) -> Any:
    """Find x with `matrix @ x = rhs` for a triangular matrix."""
    x = tensor(matrix)
    kept = ops.tril(x) if lower else ops.triu(x)
    return ops.solve_triangular(_turned(kept, False, adjoint), rhs, lower != adjoint)


@named("linalg.svd")
def svd(tensor: Any, full_matrices: bool = False, compute_uv: bool = True) -> Any:
    """Singular values, then the left and right vectors as columns, unless `compute_uv` is false."""
    found = ops.svd(tensor, full_matrices, compute_uv)
    if not compute_uv:
        return found
    left, values, right = found
    return values, left, ops.conj(ops.swapaxes(right, -1, -2))


@named("linalg.qr")
def qr(input: Any, full_matrices: bool = False) -> Any:
    """An orthogonal and a triangular factor."""
    return ops.qr(input, "complete" if full_matrices else "reduced")


@named("linalg.eigvalsh")
def eigvalsh(tensor: Any) -> Any:
    """The eigenvalues of symmetric matrices, in ascending order."""
    return ops.eigh(tensor)[0]
