"""Linear algebra."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.ops.definition import Array, Value, float_op, op

det = float_op(jnp.linalg.det, "x")
eig = float_op(lambda x: tuple(jnp.linalg.eig(x)), "x", "eig")
eigh = float_op(lambda x: tuple(jnp.linalg.eigh(x)), "x", "eigh")
inv = float_op(jnp.linalg.inv, "x")
lu_factor = float_op(lambda x: tuple(jax.scipy.linalg.lu_factor(x)), "x", "lu_factor")
matrix_rank = float_op(lambda x, tol: jnp.linalg.matrix_rank(x, tol), "x; tol=None", "matrix_rank")
norm = float_op(jnp.linalg.norm, "x; ord=None, axis=None, keepdims=False")
pinv = float_op(lambda x, rcond: jnp.linalg.pinv(x, rcond), "x; rcond=None", "pinv")
qr = float_op(lambda x, mode: tuple(jnp.linalg.qr(x, mode)), "x; mode='reduced'", "qr")
lstsq = float_op(lambda a, b, rcond: jnp.linalg.lstsq(a, b, rcond)[0], "a, b; rcond=None", "lstsq")


@float_op
def cholesky(x: Array, upper: bool = False) -> Array:
    """The triangular factor of a positive definite matrix."""
    return jnp.linalg.cholesky(x, upper=upper)


@float_op
def cholesky_inverse(x: Array, upper: bool = False) -> Array:
    """The inverse of a matrix given by its Cholesky factor."""
    identity = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    return jax.scipy.linalg.cho_solve((x, not upper), identity)


@float_op
def solve(a: Array, b: Array) -> Array:
    """Find x with `a @ x = b`; `b` holds a vector per matrix if it has one axis less than `a`, else columns."""
    return _with_columns(jnp.linalg.solve, a, b)


@float_op
def solve_triangular(a: Array, b: Array, lower: bool = False) -> Array:
    """Find x with `a @ x = b` for a triangular `a`."""
    return _with_columns(lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=lower), a, b)


def _with_columns(solver: Any, a: Array, b: Array) -> Array:
    return solver(a, b[..., None])[..., 0] if b.ndim == a.ndim - 1 else solver(a, b)


@float_op
def svd(x: Array, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Singular values, with the left and right vectors unless `compute_uv` is false."""
    found = jnp.linalg.svd(x, full_matrices, compute_uv)
    return tuple(found) if compute_uv else found


@op
def jvp(fun: Value, primals: Value, tangents: Value, has_aux: bool = False) -> Any:
    """A function's result and its derivative along `tangents`."""
    return jax.jvp(fun, tuple(primals), tuple(tangents), has_aux=has_aux)
