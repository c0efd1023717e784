"""Variables: a parameter array that is planned (shape, initializer, key) before it holds a value."""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tally.core import caching, drawing, process, random
from tally.core.dtype import dtype_policy, is_floating, standardize_dtype
from tally.core.errors import ArgumentError, ShapeError, TallyError, is_users, users_line

process.prepare()  # now, because JAX starts its threads with the first value, and they keep to what they find

numbers = itertools.count()
"""Variables, in the order they were made."""
_scope: ContextVar[tuple[str, ...]] = ContextVar("names of the layers being built", default=())


class Values(dict["Variable", jax.Array]):
    """What variables stand for while a pure function runs; `assign` writes here."""

    def __init__(
        self, values: Iterable[tuple["Variable", jax.Array]] = (), *, abstract: bool = False
    ) -> None:
        super().__init__(values)
        self.abstract = abstract
        self.read: dict[Variable, None] = {}


_substituted: ContextVar[Values | None] = ContextVar("substituted values", default=None)
_autocast: ContextVar[str | None] = ContextVar("dtype that variables are read in", default=None)


def current_values() -> Values | None:
    """What variables stand for here; None outside pure functions."""
    return _substituted.get()


@contextmanager
def substitute(values: Values) -> Iterator[Values]:
    """Let variables stand for these values, and assignments go there, while the block runs."""
    token = _substituted.set(values)
    try:
        yield values
    finally:
        _substituted.reset(token)


@contextmanager
def autocast(dtype: str | None) -> Iterator[None]:
    """Read floating variables in this dtype while the block runs; None reads them as they are stored."""
    token = _autocast.set(dtype)
    try:
        yield
    finally:
        _autocast.reset(token)


@contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Put a name in front of the paths of variables made while the block runs."""
    token = _scope.set((*_scope.get(), name))
    try:
        yield
    finally:
        _scope.reset(token)


def current_scope() -> tuple[str, ...]:
    """The names around what is being built."""
    return _scope.get()


class Loan:
    """The values of variables while a compiled loop owns them: one list, exchanged after every step.

    A step gives the memory of the values it takes away (donation). So an array that anyone else may hold is copied
    before it is lent, and whoever reads a variable meanwhile gets a copy that stays valid.

    Args:
        variables: Those that are lent; they must hold values. One that is lent already is lent on, and returned there.
    """

    def __init__(self, variables: Sequence["Variable"]) -> None:
        self.variables = list(variables)
        self.values: list[jax.Array] = [
            value if v._is_unseen and v._loan is None else jnp.array(value, copy=True)
            for v, value in zip(self.variables, stored(self.variables), strict=True)
        ]
        self._shown: dict[int, jax.Array] = {}
        self._owners = [(v._loan, v._loan_index) for v in self.variables]
        for index, variable in enumerate(self.variables):
            variable._loan, variable._loan_index, variable._value = self, index, None

    def exchange(self, values: list[jax.Array]) -> None:
        """Put the values after a step in the place of those before it."""
        self.values = values
        if self._shown:
            self._shown = {}

    def show(self, index: int) -> jax.Array:
        """A copy of a value, made once per step."""
        if index not in self._shown:
            self._shown[index] = jnp.array(self.values[index], copy=True)
        return self._shown[index]

    def put(self, index: int, value: jax.Array) -> None:
        """Set a value; whoever gave it keeps it."""
        self.values[index] = jnp.array(value, copy=True)
        self._shown.pop(index, None)

    def settle(self) -> None:
        """Give every variable its last value back."""
        for variable, value, (loan, index) in zip(self.variables, self.values, self._owners, strict=True):
            if variable._loan is not self:
                continue
            variable._loan, variable._loan_index = loan, index
            if loan is None:
                variable._value, variable._is_unseen = value, True
            else:
                loan.values[index] = value
                loan._shown.pop(index, None)


def stored(variables: Sequence["Variable"]) -> list[jax.Array]:
    """The arrays behind variables, for a computation that neither donates them nor shows them to anyone."""
    return [
        cast("jax.Array", v._value) if v._loan is None else v._loan.values[v._loan_index] for v in variables
    ]


class Variable:
    """An array that a model remembers: first a plan, then, when its value is needed, memory.

    Args:
        initializer: A value (anything array-like), or a function `(shape, dtype) -> array`, or an `Initializer`.
        shape: Sizes; needed unless a value is given.
        dtype: Name of the dtype; `floatx()` unless a value with a dtype is given.
        trainable: Whether an optimizer may change it.
        autocast: Whether layers read it in their compute dtype.
        aggregation: How replicas combine it: `"none"`, `"mean"`, `"sum"` or `"only_first_replica"`.
        name: Last part of its path.
        axes: One name per dimension, for instance `("features", "units")`. They write the formulas, name the axis in a
            shape error and can shard the weight.
        constraint: Function applied to the value after each update.
        regularizer: Function whose result is added to the loss.

    Raises:
        ShapeError: A size is unknown or negative, or the number of axes isn't the number of dimensions.

    Example:
        >>> weight = tally.Variable(tally.initializers.Ones(), shape=(2, 3), axes=("features", "units"))
        >>> weight.is_planned, weight.count
        (True, 6)
        >>> float(weight.value.sum()), weight.is_planned
        (6.0, False)
    """

    pieces: tuple["Variable", ...] = ()
    """Where the values are, of a weight of several blocks that are alike; see `stacks.Stack`."""
    lead: tuple[int, ...] = ()
    """How many blocks share the array: the sizes of its first axes."""

    __array_ufunc__ = None  # so that `numpy_array + variable` comes here
    __array_priority__ = 100

    def __init__(
        self,
        initializer: Any,
        shape: Sequence[int] | None = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        synchronization: str = "auto",
        name: str | None = None,
        *,
        axes: Sequence[str] | None = None,
        constraint: Callable[[Any], Any] | None = None,
        regularizer: Callable[[Any], Any] | None = None,
    ) -> None:
        self.number = next(numbers)
        self.name = name or "variable"
        self.path = "/".join((*_scope.get(), self.name))
        self.origin = users_line()
        self.key = random.next_key()
        self._trainable = self.declared_trainable = bool(trainable)
        self.autocast, self.aggregation, self.synchronization = autocast, aggregation, synchronization
        self.constraint, self.regularizer = constraint, regularizer
        self.is_seed = False
        self.frozen_at: str | None = None
        self.switched_at: str | None = None
        """The user's line that set `trainable` on it, and not on a layer."""
        self._value: jax.Array | None = None
        self._is_unseen = False  # nobody else can hold the array
        self._loan: Loan | None = None
        self._loan_index = 0
        if callable(initializer):
            self.initializer: Any = initializer
            self.dtype = standardize_dtype(dtype or dtype_policy().variable_dtype)
            self.shape = self._checked(shape)
        else:
            self.initializer = None
            value = as_array(initializer, dtype)
            if shape is not None and tuple(shape) != value.shape:
                raise ShapeError(
                    f"Variable '{self.path}' was given shape {tuple(shape)} and a value of shape {value.shape}."
                )
            self.shape, self.dtype, self._value = value.shape, value.dtype.name, value
        self.axes = tuple(axes) if axes is not None else ("",) * len(self.shape)
        if len(self.axes) != len(self.shape):
            raise ShapeError(
                f"Variable '{self.path}' has {len(self.shape)} dimensions {self.shape} but {len(self.axes)} named axes "
                f"{self.axes}.",
                where=f"made at {self.origin}",
                do="name each dimension once",
            )

    def _checked(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        if shape is None:
            raise ArgumentError(
                f"Variable '{self.path}' has an initializer but no shape.",
                do="pass shape=(...), or an array as the value",
            )
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        for position, size in enumerate(sizes):
            if not isinstance(size, (int, np.integer)) or size < 0:
                shown = tuple(s if isinstance(s, (int, np.integer)) else None for s in sizes)
                raise ShapeError(
                    f"The weight '{self.path}' can't have shape {shown}: its size on axis {position} is not known.",
                    where=f"made at {self.origin}",
                    do="give the input that size, for instance Input(shape=(28, 28, 1)), or don't size a weight by it",
                    code="T603",
                )
        return tuple(int(size) for size in sizes)

    # -- the plan --------------------------------------------------------------------------------------------------
    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def count(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)

    size = count

    @property
    def is_planned(self) -> bool:
        """Whether the value has not been drawn yet and takes no memory."""
        return self._value is None and self._loan is None

    @property
    def trainable(self) -> bool:
        """Whether an optimizer may change it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        if is_users(sys._getframe(1).f_code.co_filename):
            self.switched_at = users_line()
        self.frozen_at = None if value else users_line()

    # -- the value -------------------------------------------------------------------------------------------------
    @property
    def raw(self) -> jax.Array:
        """The value as it is stored, never cast."""
        values = _substituted.get()
        if values is not None:
            values.read[self] = None
            if self in values:
                return values[self]
            if values.abstract:
                return jnp.zeros(self.shape, self.dtype)
        if self._loan is not None:
            return self._loan.show(self._loan_index)
        if self.pieces:
            raise self._refuse_alone("read")
        if self._value is None:
            with jax.ensure_compile_time_eval():  # a first read inside a trace must not capture a tracer
                materialize([self])
        self._is_unseen = False
        return cast("jax.Array", self._value)

    @property
    def value(self) -> jax.Array:
        """The value, drawn at the first read; in the compute dtype while a layer of another dtype runs."""
        value = self.raw
        dtype = _autocast.get()
        if dtype is not None and self.autocast and value.dtype.name != dtype and is_floating(value.dtype):
            return value.astype(dtype)
        return value

    def _draw_alone(self) -> Any:
        """What a user's own initializer gives, which may not be traceable."""
        return call_initializer(self.initializer, self.shape, self.dtype)

    def _begin(self, drawn: Any) -> None:
        """Take the initializer's result as the first value."""
        drawn = as_array(drawn, self.dtype)
        if drawn.shape != self.shape:
            raise ShapeError(
                f"The initializer of '{self.path}' gave shape {drawn.shape}, not {self.shape}.",
                where=f"made at {self.origin}",
            )
        self._value = drawn

    def assign(self, value: Any) -> Any:
        """Set the value; inside a pure function this becomes part of what the function returns.

        Raises:
            ShapeError: The value's shape is another.
        """
        value = as_array(value, self.dtype)
        if value.shape != self.shape:
            raise ShapeError(
                f"'{self.path}' has shape {self.shape} and can't be assigned a value of shape {tuple(value.shape)}.",
                where=f"made at {self.origin}",
            )
        values = _substituted.get()
        if values is not None:
            values[self] = value
        elif isinstance(value, Tracer):
            raise ArgumentError(
                f"'{self.path}' was assigned inside a function that JAX is tracing; the value would be lost.",
                do="use tally's fit, or layer.stateless_call, which return what was assigned",
            )
        elif self._loan is not None:
            self._loan.put(self._loan_index, value)
        elif self.pieces:
            raise self._refuse_alone("assigned")
        else:
            self._value, self._is_unseen = value, False
        return self

    def _refuse_alone(self, what: str) -> TallyError:
        blocks = sum(len(piece) for piece in self.pieces)
        return TallyError(
            f"'{self.path}' stands for a weight of {blocks} blocks and can't be {what} as one.",
            where=f"made at {self.origin}",
            do=f"take it from the weights of the layer that repeats the block: there it has a first axis of {blocks}",
        )

    @property
    def keys(self) -> Sequence[random.Key]:
        """The keys that the value is drawn from: one for each block that shares the array."""
        return (self.key,)

    def assign_add(self, value: Any) -> Any:
        """Add to the value."""
        return self.assign(self.raw + as_array(value, self.dtype))

    def assign_sub(self, value: Any) -> Any:
        """Subtract from the value."""
        return self.assign(self.raw - as_array(value, self.dtype))

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array."""
        return np.asarray(self.raw)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.raw, dtype=dtype)

    def __jax_array__(self) -> jax.Array:
        return self.value

    def __repr__(self) -> str:
        state = "planned" if self.is_planned else "materialised"
        axes = f" axes={self.axes}" if any(self.axes) else ""
        kind = f"shape={self.shape} dtype={self.dtype}{axes} trainable={self.trainable}"
        return f"<Variable path={self.path} {kind} {state}>"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"'{self.path}' is a scalar and has no length.")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __iter__(self) -> Iterator[jax.Array]:
        return iter(self.value)

    def __getitem__(self, index: Any) -> jax.Array:
        return self.value[index]

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> Any:
        return self is other

    @property
    def T(self) -> jax.Array:
        """The value transposed."""
        return self.value.T


def call_initializer(initializer: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """The first value that a user's own initializer gives, which may take no dtype."""
    try:
        return initializer(shape, dtype=dtype)
    except TypeError as error:
        if "dtype" not in str(error):
            raise
        return initializer(shape)


def _binary(name: str) -> Callable[[Variable, Any], Any]:
    def operate(self: Variable, other: Any) -> Any:
        return getattr(self.value, name)(other.value if isinstance(other, Variable) else other)

    operate.__name__ = name
    return operate


for _word in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(Variable, f"__{_word}__", _binary(f"__{_word}__"))
    setattr(Variable, f"__r{_word}__", _binary(f"__r{_word}__"))
for _word in ("lt", "le", "gt", "ge"):
    setattr(Variable, f"__{_word}__", _binary(f"__{_word}__"))
for _word in ("neg", "abs", "pos"):
    setattr(Variable, f"__{_word}__", lambda self, _name=f"__{_word}__": getattr(self.value, _name)())


def as_array(value: Any, dtype: Any = None) -> jax.Array:
    """A JAX array from an array of any framework, a variable, a number or nested lists.

    Python numbers and float64 NumPy arrays become `floatx()` unless a dtype is asked for, as in Keras.
    """
    if isinstance(value, Variable):
        value = value.value
    wanted = standardize_dtype(dtype) if dtype is not None else None
    if isinstance(value, jax.Array):
        return value if wanted is None or value.dtype.name == wanted else value.astype(wanted)
    if not isinstance(value, (np.ndarray, np.generic)):
        if hasattr(value, "detach"):  # a PyTorch tensor, on whatever device
            value = value.detach().cpu().numpy()
        value = np.asarray(value)
    if value.dtype == object:
        raise ArgumentError(
            f"A ragged or non-numeric value of type {type(value).__name__} can't become a tensor.",
            do="pass numbers in a rectangular array",
        )
    if wanted is None:
        from tally.core.dtype import floatx

        wanted = {"float64": floatx(), "int64": "int32" if not jax.config.jax_enable_x64 else "int64"}.get(  # pyright: ignore[reportAttributeAccessIssue]
            value.dtype.name, value.dtype.name
        )
    return jnp.asarray(value, dtype=wanted)


@dataclass(frozen=True)
class _Recipe:
    """What weights drawn together have in common; holds no variable, so that a cached program keeps no values."""

    signature: Any
    shape: tuple[int, ...]
    dtype: str
    initializer: Any = field(compare=False)

    def draw(self, key: jax.Array) -> jax.Array:
        return jnp.asarray(self.initializer(self.shape, self.dtype, key=key), self.dtype)


@functools.lru_cache(maxsize=256)
def _program(
    groups: tuple[tuple[_Recipe, tuple[tuple[int, ...], ...]], ...], shardings: tuple[Any, ...] | None
) -> Callable[..., list[jax.Array]]:
    """The compiled function that draws so many weights of each recipe from their keys' seeds and numbers.

    A weight is drawn by the same vectorised code alone and in company, hence with the same bits. At XLA's usual
    optimisation level the 320 weights of a ResNet50 took 6.4 s to compile, at this one 2.6 s, and both 0.2 s to
    draw (two CPU cores).
    """

    def draw_all(seeds: jax.Array, numbers: jax.Array) -> list[jax.Array]:
        keys = jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number))(seeds, numbers)
        drawn, start = [], 0
        for recipe, leads in groups:
            stop = start + sum(map(math.prod, leads))
            drawn.extend(_cut(jax.vmap(recipe.draw)(keys[start:stop]), leads))
            start = stop
        return drawn

    return jax.jit(
        draw_all,
        out_shardings=None if shardings is None else list(shardings),
        compiler_options={"xla_backend_optimization_level": 1},
    )


def _cut(drawn: jax.Array, leads: tuple[tuple[int, ...], ...]) -> Iterator[jax.Array]:
    """Give each weight its part of what was drawn together: one, or as many as there are blocks."""
    if not any(leads):
        yield from drawn
        return
    start = 0
    for lead in leads:
        stop = start + math.prod(lead)
        yield drawn[start:stop].reshape(*lead, *drawn.shape[1:])
        start = stop


def _not_drawn_in_rows(variables: Sequence[Variable]) -> Sequence[Variable]:
    """Draw those whose numbers are drawn apart from each other, without compiling anything for their shapes."""
    wanted: dict[Variable, drawing.Wanted] = {}
    for variable in variables:
        if variable.is_planned and getattr(variable.initializer, "takes_key", False):
            shape, dtype = variable.shape, variable.dtype
            elements = drawing.elements_of(variable.initializer, shape[len(variable.lead) :], dtype)
            if elements is not None:
                wanted[variable] = drawing.Wanted(elements, shape, dtype, variable.keys)
    for variable, value in zip(wanted, drawing.draw(list(wanted.values())), strict=True):
        variable._begin(value)
    return [variable for variable in variables if variable not in wanted]


def materialize(variables: Sequence[Variable], shardings: Sequence[Any] | None = None) -> None:
    """Draw the values of all planned variables in one compiled call, straight onto their devices.

    Args:
        variables: Those that hold a value already are left as they are.
        shardings: One `jax.sharding.Sharding` per variable, or None for the default device.
    """
    caching.switch_on()
    if shardings is None:
        variables = _not_drawn_in_rows(variables)
    # Weights of one shape and initializer are drawn together, which keeps the program to compile small.
    groups: dict[_Recipe, list[int]] = {}
    for index, variable in enumerate(variables):
        if not variable.is_planned:
            continue
        if getattr(variable.initializer, "takes_key", False):
            signature = variable.initializer.signature()
            shape = variable.shape[len(variable.lead) :]
            recipe = _Recipe(signature, shape, variable.dtype, variable.initializer)
            groups.setdefault(recipe, []).append(index)
        else:
            variable._begin(variable._draw_alone())
    if not groups:
        return
    order = [index for group in groups.values() for index in group]
    draw_all = _program(
        tuple((recipe, tuple(variables[i].lead for i in group)) for recipe, group in groups.items()),
        None if shardings is None else tuple(shardings[index] for index in order),
    )
    keys = [key for index in order for key in variables[index].keys]
    drawn = draw_all(
        np.array([key.seed for key in keys], "uint32"), np.array([key.number for key in keys], "uint32")
    )
    for index, value in zip(order, drawn, strict=True):
        variables[index]._begin(value)
