"""Functions as values: conditions, loops, maps, and the decorators that TensorFlow needs and JAX doesn't."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tally import ops
from tally.compat.names import named, put
from tally.compat.tensorflow.making import tensor
from tally.core.errors import ArgumentError
from tally.core.symbol import KerasTensor, leaves, map_tree
from tally.core.variable import Variable, name_scope

put("name_scope", name_scope)


@named("custom_gradient")
def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that returns its result and the function that computes its gradient."""
    ruled = ops.custom_gradient(f)
    return functools.wraps(f)(lambda *args: ruled(*map(tensor, args)))


def function(func: Any = None, **options: Any) -> Any:
    """`tf.function`: gives the function back, because models here are compiled by `fit` and layers by themselves."""
    del options  # input_signature, jit_compile, reduce_retracing: about how TensorFlow compiles
    return (lambda decorated: decorated) if func is None else func


put("function", function)
put("executing_eagerly", lambda: True)
put("init_scope", contextlib.nullcontext)


@contextlib.contextmanager
def control_dependencies(control_inputs: Any) -> Iterator[None]:
    """What comes first in the script is done first, so there is nothing to order."""
    del control_inputs
    yield


put("control_dependencies", control_dependencies)


def _is_unknown(structure: Any) -> bool:
    """Whether a value in it is only known when the program runs."""
    return any(isinstance(leaf, Tracer | KerasTensor) for leaf in leaves(structure))


@named("cond")
def cond(
    pred: Any, true_fn: Callable[[], Any] | None = None, false_fn: Callable[[], Any] | None = None
) -> Any:
    """The result of one function or the other."""
    if true_fn is None or false_fn is None:
        raise ArgumentError("tf.cond needs both true_fn and false_fn.")
    if _is_unknown(pred):
        return ops.cond(pred, lambda: _tensors(true_fn()), lambda: _tensors(false_fn()))
    return true_fn() if bool(pred.value if isinstance(pred, Variable) else pred) else false_fn()


def _tensors(structure: Any) -> Any:
    return map_tree(lambda leaf: None if leaf is None else tensor(leaf), structure)


@named("while_loop")
def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    maximum_iterations: Any = None,
) -> Any:
    """Repeat `loop_vars = body(*loop_vars)` while the condition holds."""
    del shape_invariants, parallel_iterations, back_prop, swap_memory
    state = map_tree(tensor, loop_vars)
    most = None if maximum_iterations is None else int(maximum_iterations)
    if _is_unknown(state):
        return type(loop_vars)(ops.while_loop(cond, body, tuple(state), most))
    count = 0
    while (most is None or count < most) and bool(cond(*state)):
        made = body(*state)
        state = made if isinstance(made, list | tuple) else (made,)
        count += 1
    return type(loop_vars)(state)


@named("map_fn")
def map_fn(
    fn: Callable[[Any], Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: Any = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    fn_output_signature: Any = None,
) -> Any:
    """Apply a function to each slice along the first axis, and stack the results."""
    del dtype, parallel_iterations, back_prop, swap_memory, infer_shape, fn_output_signature
    given = map_tree(tensor, elems)
    if _is_unknown(given):
        return ops.map(lambda part: _tensors(fn(part)), given)
    made = [_tensors(fn(jax.tree.map(lambda x, i=i: x[i], given))) for i in range(leaves(given)[0].shape[0])]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *made)


@named("vectorized_map")
def vectorized_map(
    fn: Callable[[Any], Any], elems: Any, fallback_to_while_loop: bool = True, warn: bool = True
) -> Any:
    """Apply a function to each slice along the first axis, all at once."""
    del fallback_to_while_loop, warn
    return ops.vectorized_map(lambda part: _tensors(fn(part)), map_tree(tensor, elems))


def print_(
    *inputs: Any, output_stream: Any = None, summarize: int = 3, sep: str = " ", end: str = "\n"
) -> None:
    """`tf.print`: to standard error unless told; from a compiled step each time it runs."""
    del summarize
    stream = sys.stderr if output_stream is None else output_stream

    def show(*values: Any) -> None:
        words = (str(np.asarray(value)) if hasattr(value, "__array__") else str(value) for value in values)
        print(*words, sep=sep, end=end, file=stream)

    if _is_unknown(inputs):
        traced = [i for i, value in enumerate(inputs) if isinstance(value, Tracer)]

        def show_all(*values: Any) -> None:
            filled = list(inputs)
            for i, value in zip(traced, values, strict=True):
                filled[i] = value
            show(*filled)

        jax.debug.callback(show_all, *[inputs[i] for i in traced])
    else:
        show(*inputs)


put("print", print_)


# -- nests -------------------------------------------------------------------------------------------------------------
def _define_nests() -> None:
    from tally import tree

    put("nest.flatten", tree.flatten)
    put("nest.map_structure", tree.map_structure)
    put("nest.pack_sequence_as", tree.pack_sequence_as)
    put("nest.assert_same_structure", tree.assert_same_structure)
    put("nest.is_nested", tree.is_nested)


_define_nests()
