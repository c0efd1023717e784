"""The layer: builds its weights when it first sees a shape, tracks what it holds, and says where it was made."""

import functools
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

from tally.core import masks, tracking
from tally.core.dtype import DTypePolicy, get_policy, is_floating
from tally.core.errors import ArgumentError, ShapeError, TallyError, UnbuiltError, cut_trace, nearest, raised_at, users_line
from tally.core.naming import auto_name
from tally.core.random import SeedGenerator
from tally.core.registry import Configured, accepted_arguments, known_arguments, resolve, serialize, snake_case
from tally.core.symbol import KerasTensor, Node, has_symbol, infer, leaves, map_tree, record
from tally.core.variable import (
    Values,
    Variable,
    _scope,
    _substituted,
    as_array,
    autocast,
    materialize,
    name_scope,
    substitute,
)

_numbers = itertools.count()


class Call:
    """What is known while the outermost layer runs: the phase, and which layers were called on the way."""

    def __init__(self, training: bool | None) -> None:
        self.training = training
        self.started = next(_numbers)
        self.layers: dict[Layer, None] = {}
        self.watch: Callable[[Layer, Any], None] | None = None


_call: ContextVar[Call | None] = ContextVar("call", default=None)


class _Held:
    """The base class's own notes about a layer, in one place so that the layer's attributes are the user's alone."""

    def __init__(self) -> None:
        self.name = ""
        self.auto_named = True
        self.path = ""
        self.policy: DTypePolicy = get_policy(None)
        self.trainable = True
        self.frozen_at: str | None = None
        self.built = False
        self.building = False
        self.made_at: str | None = None
        self.weights: list[Variable] = []
        self.losses: list[Any] = []
        self.initial_weights: list[Any] | None = None
        self.batch_input_shape: tuple[int | None, ...] | None = None
        self.build_shapes: Any = None
        self.input_shapes: list[tuple[int | None, ...]] = []
        self.output_shapes: list[tuple[int | None, ...]] = []
        self.legacy: list[str] = []
        self.last_call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.initialised = False


class Layer(Configured):
    """A function with weights. Subclass it, make the weights in `build`, use them in `call`.

    Args:
        activity_regularizer: Function of the output whose result is added to the loss.
        trainable: Whether the weights may be changed by training.
        dtype: Dtype or policy name, such as `"float32"` or `"mixed_bfloat16"`.
        autocast: Whether floating inputs are cast to the compute dtype.
        name: Name; the class's name and a number unless given.
        input_shape, input_dim, batch_input_shape, batch_size, weights: Accepted as older Keras code has them: the shape of
            one example for a first layer of a `Sequential`, and initial weights.

    Example:
        >>> class Linear(tally.layers.Layer):
        ...     def __init__(self, units, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.units = units
        ...     def build(self, input_shape):
        ...         self.w = self.add_weight(shape=(input_shape[-1], self.units), axes=("features", "units"))
        ...     def call(self, inputs):
        ...         return inputs @ self.w
        >>> Linear(5)(tally.Input((10,))).shape
        (None, 5)
    """

    keras_module: str | None = None
    _held: _Held

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in vars(cls):
            cls.build = _once(cls.build)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        layer = super().__new__(cls, *args, **kwargs)
        held = _Held()
        held.made_at = users_line()
        object.__setattr__(layer, "_held", held)
        object.__setattr__(layer, "number", next(_numbers))
        object.__setattr__(layer, "inbound_nodes", [])
        return layer

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **legacy: Any,
    ) -> None:
        held = self._held
        held.name = str(name) if name is not None else auto_name(snake_case(type(self).__name__))
        held.auto_named = name is None
        held.path = held.name
        held.policy = get_policy(dtype)
        held.trainable = bool(trainable)
        if not trainable:
            held.frozen_at = held.made_at
        held.initialised = True
        self.activity_regularizer = resolve("regularizers", activity_regularizer)
        self.autocast = autocast
        self.input_spec: Any = None
        if not hasattr(type(self), "supports_masking"):
            self.supports_masking = False
        self._take_legacy(legacy)

    def _take_legacy(self, legacy: dict[str, Any]) -> None:
        held = self._held
        held.legacy = sorted(legacy)
        held.initial_weights = legacy.pop("weights", None)
        batch = legacy.pop("batch_size", None)
        if "input_dim" in legacy:
            held.batch_input_shape = (batch, int(legacy.pop("input_dim")))
        if "input_shape" in legacy:
            held.batch_input_shape = (batch, *_as_shape(legacy.pop("input_shape")))
        if "batch_input_shape" in legacy:
            held.batch_input_shape = tuple(legacy.pop("batch_input_shape"))
        if "batch_shape" in legacy:
            held.batch_input_shape = tuple(legacy.pop("batch_shape"))
        if legacy:
            unknown = next(iter(legacy))
            known = sorted((known_arguments(type(self)) or frozenset()) | _base_arguments())
            raise TypeError(
                f"{type(self).__name__} '{self.name}' has no argument '{unknown}'.{nearest(unknown, known)}\n"
                f"  where: made at {held.made_at}"
            )

    # -- identity --------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        """The layer's name."""
        return self._notes().name

    @name.setter
    def name(self, value: str) -> None:
        self._notes().name = value

    @property
    def path(self) -> str:
        """Names of the layers around it and its own, with slashes."""
        return self._notes().path

    @property
    def made_at(self) -> str | None:
        """`file.py:12` of the user's line that made the layer."""
        return self._held.made_at

    def _notes(self) -> _Held:
        if not self._held.initialised:
            raise TallyError(
                f"{type(self).__name__} was used before its base class was set up.",
                where=f"made at {self._held.made_at}",
                do="call super().__init__(**kwargs) first in __init__",
            )
        return self._held

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self._held.name}, built={self._held.built}>"

    def __hash__(self) -> int:
        return self.number  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        return self is other

    # -- dtype -----------------------------------------------------------------------------------------------------
    @property
    def dtype_policy(self) -> DTypePolicy:
        """What weights are stored in and what the layer computes in."""
        return self._notes().policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        self._notes().policy = get_policy(value)

    @property
    def dtype(self) -> str:
        """Dtype of the weights."""
        return self._notes().policy.variable_dtype

    variable_dtype = dtype

    @property
    def compute_dtype(self) -> str:
        """Dtype of the computation."""
        return self._notes().policy.compute_dtype

    # -- what it holds -----------------------------------------------------------------------------------------------
    def __setattr__(self, name: str, value: Any) -> None:
        held = vars(self).get("_held")
        if held is not None and not held.initialised and isinstance(value, (Layer, Variable)):
            self._notes()  # raises: super().__init__ was forgotten
        old = vars(self).get(name)
        object.__setattr__(self, name, value)
        if isinstance(old, Variable) and old is not value and held is not None and old in held.weights:
            held.weights.remove(old)  # a weight that was exchanged for another is no longer this layer's

    def _attributes(self) -> dict[str, Any]:
        """The user's attributes: everything but the base's own notes."""
        return {name: value for name, value in vars(self).items() if name not in _INTERNAL}

    def _children(self) -> Iterator[tuple[str, "Layer"]]:
        """`(place, layer)` of every direct sublayer: attribute names, with positions or keys in containers."""
        found = tracking.find(self._attributes(), lambda value: isinstance(value, Layer))
        return ((place, layer) for place, layer in found if layer is not self)

    def _own_variables(self) -> list[Variable]:
        """Variables held by the layer itself, trainable ones first, each group in the order of making."""
        return [variable for _, variable in self._named_variables()]

    def _named_variables(self) -> list[tuple[str, Variable]]:
        """`(place, variable)` for the layer's own variables, seeds excluded."""
        named = {v: v.name for v in self._held.weights}
        for place, variable in tracking.find(self._attributes(), lambda value: isinstance(value, Variable)):
            if variable not in named:
                named[variable] = variable.name if variable.name != "variable" else place
        ordered = sorted(named, key=lambda v: (not v.declared_trainable, v.number))
        return [(named[v], v) for v in ordered if not v.is_seed]

    def _own_seeds(self) -> list[Variable]:
        """The states of seed generators held by the layer itself."""
        found = tracking.find(self._attributes(), lambda value: isinstance(value, SeedGenerator))
        return [generator.state for _, generator in found]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list["Layer"]:
        found: dict[Layer, None] = {self: None}

        def walk(layer: Layer) -> None:
            for _, child in layer._children():
                if child not in found:
                    found[child] = None
                    if recursive:
                        walk(child)

        walk(self)
        return list(found)[0 if include_self else 1 :]

    @property
    def variables(self) -> list[Variable]:
        """Every variable of the layer and its sublayers, once each, seed states included."""
        found: dict[Variable, None] = {}
        for layer in self._flatten_layers():
            found.update(dict.fromkeys((*layer._own_variables(), *layer._own_seeds())))
        return list(found)

    @property
    def weights(self) -> list[Variable]:
        """Like `variables`, without seed states: what `get_weights` gives and files hold."""
        return [variable for variable in self.variables if not variable.is_seed]

    def _trainable(self, seen: set["Layer"] | None = None) -> dict[Variable, None]:
        seen = set() if seen is None else seen
        if self in seen or not self._notes().trainable:
            return {}
        seen.add(self)
        found = {variable: None for variable in self._own_variables() if variable.trainable}
        for _, child in self._children():
            found.update(child._trainable(seen))
        return found

    @property
    def trainable_variables(self) -> list[Variable]:
        """Variables an optimizer may change. Empty before the layer is built."""
        return list(self._trainable())

    @property
    def trainable_weights(self) -> list[Variable]:
        """The same as `trainable_variables`."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """All other variables: frozen ones, moving statistics, seed states."""
        trainable = self._trainable()
        return [variable for variable in self.variables if variable not in trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The same without seed states."""
        return [variable for variable in self.non_trainable_variables if not variable.is_seed]

    @property
    def trainable(self) -> bool:
        """Whether the layer may learn. Setting it reaches all sublayers and weights, at any time."""
        return self._notes().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        line = users_line()
        for layer in self._flatten_layers():
            layer._notes().trainable = bool(value)
            layer._held.frozen_at = None if value else line
            for variable in layer._own_variables():
                if variable.declared_trainable:
                    variable.trainable = bool(value)
                    variable.frozen_at = None if value else line

    def count_params(self) -> int:
        """Number of scalars in all weights, each weight once.

        Raises:
            UnbuiltError: No input shape has been seen, so there is nothing to count yet.
        """
        if not self.built:
            raise UnbuiltError(
                f"{type(self).__name__} '{self.name}' has no weights yet: it has not seen an input shape.",
                where=f"made at {self.made_at}",
                do="call it on data, call build(input_shape), or give the model an Input",
            )
        return sum(variable.count for variable in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """The values of all weights as NumPy arrays."""
        self.materialize()
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of all weights, in the order of `weights`.

        Raises:
            ShapeError: There are too many or too few, or one has another shape; then none was changed.
        """
        variables = self.weights
        shapes = [tuple(np.shape(value)) for value in weights]
        if len(shapes) != len(variables):
            raise ShapeError(
                f"{type(self).__name__} '{self.name}' has {len(variables)} weights but was given {len(shapes)}.",
                where=f"made at {self.made_at}",
                do="give one array for each of: " + (", ".join(f"{v.path} {v.shape}" for v in variables) or "no weights"),
            )
        for variable, shape in zip(variables, shapes, strict=True):
            if variable.shape != shape:
                raise ShapeError(
                    f"Weight '{variable.path}' has shape {variable.shape} but was given {shape}.",
                    where=f"layer made at {self.made_at}",
                    do="check the order and the orientation of the arrays; nothing was changed",
                )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)

    def materialize(self, shardings: Any = None) -> None:
        """Draw all values that are still planned, in one compiled call.

        Args:
            shardings: A function `variable -> jax.sharding.Sharding`, or None for the default device.
        """
        variables = self.variables
        materialize(variables, [shardings(v) for v in variables] if callable(shardings) else None)

    # -- weights -----------------------------------------------------------------------------------------------------
    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        name: str | None = None,
        axes: Sequence[str] | None = None,
        **_: Any,
    ) -> Variable:
        """Plan a weight and remember it as this layer's.

        Args:
            shape: Sizes, all known; `()` for a scalar.
            initializer: Name, object or function; Glorot uniform for floating weights unless given.
            dtype: The layer's variable dtype unless given.
            trainable: Whether training may change it.
            autocast: Whether it is read in the compute dtype.
            regularizer: Function whose result is added to the loss.
            constraint: Function applied after each update.
            aggregation: How replicas combine it.
            name: Name within the layer.
            axes: A name for each dimension, for instance `("features", "units")`.
        """
        held = self._notes()
        if isinstance(shape, str):  # the older order: add_weight("kernel", shape=...)
            shape, name = None if not isinstance(initializer, (tuple, list)) else initializer, shape
            initializer = None if isinstance(initializer, (tuple, list)) else initializer
        shape = () if shape is None else shape
        dtype = dtype or held.policy.variable_dtype
        if initializer is None:
            initializer = "glorot_uniform" if is_floating(dtype) else "zeros"
        variable = Variable(
            resolve("initializers", initializer),
            shape,
            dtype,
            trainable=trainable,
            autocast=autocast,
            aggregation=aggregation,
            name=name,
            axes=axes,
            constraint=resolve("constraints", constraint),
            regularizer=resolve("regularizers", regularizer),
        )
        if trainable and not held.trainable:
            variable.trainable = False
            variable.frozen_at = held.frozen_at
        held.weights.append(variable)
        return variable

    add_variable = add_weight

    def add_loss(self, loss: Any) -> None:
        """Add a scalar (or a list of scalars) computed in `call` to what training minimises."""
        for value in leaves(loss):
            if value is not None:
                self._notes().losses.append(as_array(value))

    @property
    def losses(self) -> list[Any]:
        """Losses added in the last call, and those of weight regularizers."""
        added = [loss for layer in self._flatten_layers() for loss in layer._held.losses]
        trainable = self._trainable()
        return added + [v.regularizer(v.raw) for v in trainable if v.regularizer is not None]

    def _clear_losses(self) -> None:
        for layer in self._flatten_layers():
            layer._held.losses.clear()

    # -- building ----------------------------------------------------------------------------------------------------
    @property
    def built(self) -> bool:
        """Whether the weights are planned."""
        return self._held.built

    @built.setter
    def built(self, value: bool) -> None:
        self._held.built = bool(value)

    def build(self, *input_shapes: Any, **named_shapes: Any) -> None:
        """Make the weights for an input shape. Override it; this one follows `call` with a symbolic input."""
        if type(self).call is Layer.call:
            self._held.built = True
            return
        shapes = input_shapes[0] if len(input_shapes) == 1 else list(input_shapes) or named_shapes
        if shapes is not None and not self._held.built:
            self._held.built = True
            self(_map_shapes(lambda shape: KerasTensor(shape, self.compute_dtype), shapes))

    @property
    def _has_own_build(self) -> bool:
        return type(self).build is not Layer.build

    def _build(self, *shapes: Any, **named: Any) -> None:
        if self._has_own_build:
            self.build(*shapes, **named)
        else:  # what `call` uses is built as it runs
            with _building(self, shapes, named):
                pass

    def _ensure_built(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._held.built:
            return
        shapes = _call_shapes(self, args, kwargs)
        parameters = _build_parameters(type(self))
        if len(parameters) <= 1 and not any(name in shapes for name in parameters):
            self._build(*list(shapes.values())[:1])
        else:
            wanted = {f"{name.removesuffix('_shape')}_shape": shape for name, shape in shapes.items()}
            if any(kind is inspect.Parameter.VAR_KEYWORD for kind in parameters.values()):
                self._build(**wanted)
            elif set(parameters) & set(wanted):
                self._build(**{name: shape for name, shape in wanted.items() if name in parameters})
            else:
                self._build(*list(shapes.values())[: len(parameters)])

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes the layer was built for."""
        shapes = self._held.build_shapes
        if shapes is None:
            return None
        return {"shapes_dict": shapes} if isinstance(shapes, dict) and _is_named(shapes) else {"input_shape": shapes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build for stored shapes."""
        if self.built:
            return
        if "input_shape" in config and config["input_shape"] is not None:
            shape = _map_shapes(tuple, config["input_shape"])
            if self._has_own_build:
                self._build(shape)
            else:
                self.build(shape)
        elif config.get("shapes_dict"):
            self._build(**{name: _map_shapes(tuple, shape) for name, shape in config["shapes_dict"].items()})

    # -- calling -----------------------------------------------------------------------------------------------------
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes. Override it."""
        raise NotImplementedError(
            f"{type(self).__name__} has no call method.\n  where: made at {self.made_at}\n"
            "  do: define call(self, inputs) in the class"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Build if needed, then run `call`; on a symbolic tensor, add a node to its graph instead."""
        self._notes()
        outermost = _call.get() is None
        try:
            if has_symbol(args, kwargs):
                return self._call_symbolically(args, kwargs)
            return self._call_with_values(args, kwargs)
        except Exception as error:
            if not outermost:
                raise
            raise cut_trace(error)  # noqa: B904 - the same error, with the user's frames alone

    def _call_symbolically(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._held.built:
            check_input_spec(self, args[0] if args else None)
            self._ensure_built(args, kwargs)
        held = self._held

        def run(*a: Any, **k: Any) -> Any:
            with _in_call(Call(None)):
                return self._call_with_values(a, k)

        outputs = infer(run, args, kwargs)
        self._clear_losses()
        held.output_shapes = [leaf.shape for leaf in leaves(outputs) if leaf is not None]
        held.input_shapes = [leaf.shape for leaf in leaves((args, kwargs)) if isinstance(leaf, KerasTensor)]
        return record(self, args, kwargs, outputs)

    def _call_with_values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        held = self._held
        args, kwargs = _to_arrays(self, args, kwargs)
        outer = _call.get()
        call = outer or Call(None)
        explicit = kwargs.get("training")
        phase = explicit if explicit is not None else call.training
        if phase is None:
            phase = _default_training(type(self))
        call.layers[self] = None
        names = _call_parameters(type(self))
        if "training" in names:
            kwargs = {**kwargs, "training": bool(phase) if phase is not None else False}
        elif "training" in kwargs:
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        previous_mask = _masks_of(args[0]) if args else None
        if "mask" in names and kwargs.get("mask") is None and any(m is not None for m in leaves(previous_mask)):
            kwargs = {**kwargs, "mask": previous_mask}
        kwargs = _fill_named_masks(names, args, kwargs)
        check_input_spec(self, args[0] if args else None)
        self._ensure_built(args, kwargs)
        if outer is None:
            self._clear_losses()
            held.last_call = map_tree(_as_spec, (args, kwargs))
            if _substituted.get() is None and not _is_traced(args):
                self.materialize()
        saved, call.training = call.training, phase
        token = _call.set(call) if outer is None else None
        try:
            with (
                name_scope(self.name),
                jax.named_scope(self.name.replace("/", "_")),
                autocast(self.compute_dtype if self.autocast else None),
                _noted(self, lambda: f"called with {_show_call(args, kwargs)}"),
            ):
                outputs = self.call(*args, **kwargs)
                self._regularize_activity(outputs)
        finally:
            call.training = saved
            if token is not None:
                _call.reset(token)
        self._set_output_masks(args, outputs, previous_mask, uses_mask="mask" in names)
        if call.watch is not None:
            call.watch(self, outputs)
        if not held.output_shapes:  # the first call tells; a symbolic one knows best, with None for the batch
            held.input_shapes = [_known(a.shape) for a in leaves((args, kwargs)) if _is_input(a)]
            held.output_shapes = [_known(a.shape) for a in leaves(outputs) if isinstance(a, jax.Array)]
        return outputs

    def _regularize_activity(self, outputs: Any) -> None:
        if self.activity_regularizer is None:
            return
        for output in leaves(outputs):
            if isinstance(output, jax.Array):
                self.add_loss(self.activity_regularizer(output))

    def _set_output_masks(self, args: tuple[Any, ...], outputs: Any, previous_mask: Any, *, uses_mask: bool) -> None:
        overridden = type(self).compute_mask is not Layer.compute_mask
        if not (self.supports_masking or overridden) or not args:
            if not uses_mask and any(m is not None for m in leaves(previous_mask)):
                warnings.warn(
                    f"{type(self).__name__} '{self.name}' was given a mask but doesn't pass it on: the layers after it see "
                    "every time step. Set supports_masking = True if the layer leaves time steps where they are.",
                    stacklevel=2,
                )
            return
        with jax.named_scope("mask"):
            made = self.compute_mask(args[0], previous_mask)
        arrays = [a for a in leaves(outputs) if isinstance(a, jax.Array)]
        if made is None:
            return
        made_leaves = leaves(made) if not isinstance(made, jax.Array) else [made]
        for array, mask in zip(arrays, made_leaves, strict=False):
            if mask is not None:
                masks.set_mask(array, mask)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the output: the input's, unless overridden."""
        del inputs
        return previous_mask

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The output shape for an input shape (sizes or None; nested for several inputs), batch included."""
        outputs = self.compute_output_spec(
            *(_map_shapes(lambda s: KerasTensor(s, self.compute_dtype), shape) for shape in args),
            **{
                name.removesuffix("_shape"): _map_shapes(lambda s: KerasTensor(s, self.compute_dtype), shape)
                for name, shape in kwargs.items()
            },
        )
        return map_tree(lambda leaf: leaf.shape if isinstance(leaf, KerasTensor) else leaf, outputs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Symbolic outputs for symbolic inputs, without adding to their graph. Builds the layer if it isn't built."""
        self._ensure_built(args, kwargs)
        self._held.last_call = (args, kwargs)

        def run(*a: Any, **k: Any) -> Any:
            with _in_call(Call(None)):
                return self._call_with_values(a, k)

        try:
            return infer(run, args, kwargs)
        finally:
            self._clear_losses()

    def stateless_call(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run the layer as a pure function, for `jax.jit`, `jax.grad` and the rest.

        Args:
            trainable_variables: A value for each of `self.trainable_variables`.
            non_trainable_variables: A value for each of `self.non_trainable_variables`.
            *args: What `call` takes.
            return_losses: Whether to return the added losses, too.
            **kwargs: What `call` takes.

        Returns:
            The outputs and the new values of the non-trainable variables, and the losses if asked for.
        """
        if not self.built:
            raise UnbuiltError(f"'{self.name}' is not built, so there are no variables to stand in for.", do="build it first")
        trainable, state = self.trainable_variables, self.non_trainable_variables
        values = Values((v, _raw(x)) for v, x in zip(trainable, trainable_variables, strict=True))
        values.update((v, _raw(x)) for v, x in zip(state, non_trainable_variables, strict=True))
        with substitute(values):
            outputs = self(*args, **kwargs)
            losses = self.losses if return_losses else []
        self._clear_losses()
        result = (outputs, [values[variable] for variable in state])
        return (*result, losses) if return_losses else result

    # -- configuration -------------------------------------------------------------------------------------------------
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values, with name, dtype and trainable where it takes them."""
        config = {name: serialize(value) for name, value in self._arguments.items() if name not in _LEGACY}
        accepted = accepted_arguments(type(self))
        now = {"name": self.name, "trainable": self.trainable, "dtype": serialize(self.dtype_policy)}
        config.update((k, v) for k, v in now.items() if accepted is None or k in accepted)
        return config

    def quantize(self, *_: Any, **__: Any) -> None:
        """Not offered for this layer."""
        raise ArgumentError(f"{type(self).__name__} '{self.name}' has no quantised form.")

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's only use in a graph."""
        return self._only_node().args[0]

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's only use in a graph."""
        return self._only_node().outputs

    def _only_node(self) -> Node:
        nodes: list[Node] = self.inbound_nodes  # type: ignore[attr-defined]
        if len(nodes) != 1:
            raise UnbuiltError(
                f"{type(self).__name__} '{self.name}' is used {len(nodes)} times in graphs, so it has no single input or output.",
                where=f"made at {self.made_at}",
            )
        return nodes[0]


_INTERNAL = frozenset(
    ("_held", "_arguments", "number", "inbound_nodes", "activity_regularizer", "autocast", "input_spec", "supports_masking")
)
_LEGACY = frozenset(("weights", "input_shape", "input_dim", "batch_input_shape", "batch_shape", "batch_size"))


@functools.cache
def _base_arguments() -> frozenset[str]:
    return frozenset(inspect.signature(Layer.__init__).parameters) - {"self", "legacy"}


@functools.cache
def _call_parameters(cls: type[Layer]) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(cls.call).parameters.items())[1:])


@functools.cache
def _build_parameters(cls: type[Layer]) -> dict[str, Any]:
    return {name: p.kind for name, p in list(inspect.signature(cls.build).parameters.items())[1:]}


@functools.cache
def _default_training(cls: type[Layer]) -> bool | None:
    parameter = _call_parameters(cls).get("training")
    return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


def _current_scope() -> tuple[str, ...]:
    return _scope.get()


@contextmanager
def _in_call(call: Call) -> Iterator[None]:
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)


@contextmanager
def training_phase(training: bool) -> Iterator[Call]:
    """Run layers in the training or the inference phase while the block runs."""
    call = Call(training)
    with _in_call(call):
        yield call


def _once(build: Callable[..., None]) -> Callable[..., None]:
    """Let a class's `build` run once per layer, and note what it was built for."""

    @functools.wraps(build)
    def run(self: Layer, *shapes: Any, **named: Any) -> None:
        if self._held.building:  # super().build(...)
            build(self, *shapes, **named)
        elif not self._held.built:
            with _building(self, shapes, named):
                build(self, *shapes, **named)

    return run


@contextmanager
def _building(layer: Layer, shapes: tuple[Any, ...], named: dict[str, Any]) -> Iterator[None]:
    """Build under the layer's name, eagerly even inside a trace; afterwards the layer is built."""
    held = layer._notes()
    held.build_shapes = shapes[0] if len(shapes) == 1 and not named else (list(shapes) or named or None)
    held.building = True
    try:
        with (
            name_scope(layer.name),
            jax.ensure_compile_time_eval(),
            _noted(layer, lambda: f"built for {held.build_shapes}"),
        ):
            held.path = "/".join(_current_scope())
            yield
    finally:
        held.building = False
    held.built = True
    if held.initial_weights is not None:
        given, held.initial_weights = held.initial_weights, None
        layer.set_weights(given)


@contextmanager
def _noted(layer: Layer, doing: Any) -> Iterator[None]:
    """Add the layer, where it was made and what it was doing to errors that pass through."""
    try:
        yield
    except Exception as error:
        if isinstance(error, TallyError) and getattr(error, "layer_told", False):
            where = ""
        else:
            line = raised_at(error)
            where = f", raised at {line}" if line and not isinstance(error, TallyError) else ""
            if "__jax_array__" in str(error):
                error.add_note(
                    "A function of jax.numpy was given a Variable. do: pass its value, for instance self.kernel.value, or use "
                    "tally.ops, which takes variables as they are"
                )
        error.add_note(f"in {type(layer).__name__} '{layer.name}', made at {layer.made_at}, {doing()}{where}")
        if isinstance(error, TallyError):
            error.layer_told = True  # type: ignore[attr-defined]
        raise


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, Variable) else value


def _known(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _is_traced(structure: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves(structure))


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and leaf.dtype != bool


def _as_spec(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf


def _as_shape(shape: Any) -> tuple[int | None, ...]:
    return (shape,) if shape is None or isinstance(shape, int) else tuple(shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(size is None or isinstance(size, (int, np.integer)) for size in value)


def _is_named(shapes: dict[str, Any]) -> bool:
    return bool(shapes) and all(str(name).endswith("_shape") for name in shapes)


def _map_shapes(function: Any, shapes: Any) -> Any:
    """Apply a function to each shape in a nest of shapes."""
    if _is_shape(shapes):
        return function(tuple(shapes))
    if isinstance(shapes, dict):
        return {name: _map_shapes(function, shape) for name, shape in shapes.items()}
    if shapes is None:
        return None
    return type(shapes)(_map_shapes(function, shape) for shape in shapes)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (KerasTensor, jax.Array, np.ndarray))


def _shapes_of(structure: Any) -> Any:
    return map_tree(lambda leaf: _known(leaf.shape) if _is_tensor(leaf) else None, structure)


def _call_shapes(layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name of each tensor argument of `call` -> its shape (nested where the argument is)."""
    try:
        bound = inspect.signature(layer.call).bind(*args, **kwargs).arguments
    except TypeError:
        bound = {"inputs": args[0]} if args else {}
    shapes = {}
    for name, value in bound.items():
        if name in ("mask", "training"):
            continue
        if name == "args" and isinstance(value, tuple) and len(value) == 1:
            value = value[0]
        if any(_is_tensor(leaf) for leaf in leaves(value)):
            shapes[name] = _shapes_of(value)
    return shapes


def _to_arrays(layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Bring tensors of any framework to JAX arrays, floating ones to the layer's compute dtype."""
    dtype = layer.compute_dtype

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            if layer.autocast and leaf.dtype.name != dtype and is_floating(leaf.dtype):
                return _with_mask(leaf.astype(dtype), leaf)
            return leaf
        if isinstance(leaf, (np.ndarray, np.generic, Variable)) or hasattr(leaf, "detach") or _is_tensorflow(leaf):
            array = as_array(leaf if not _is_tensorflow(leaf) else leaf.numpy())
            return array.astype(dtype) if layer.autocast and is_floating(array.dtype) else array
        return leaf

    if args and isinstance(args[0], (list, tuple)) and leaves(args[0]) and all(isinstance(x, (int, float)) for x in leaves(args[0])):
        args = (np.asarray(args[0]), *args[1:])  # layer([[1., 2.]]): plain lists of numbers are data
    if args and isinstance(args[0], (int, float)) and not isinstance(args[0], bool):
        args = (np.asarray(args[0], dtype), *args[1:])
    return map_tree(convert, (args, kwargs))


def _with_mask(array: Any, source: Any) -> Any:
    mask = masks.get_mask(source)
    return array if mask is None else masks.set_mask(array, mask)


def _is_tensorflow(leaf: Any) -> bool:
    return type(leaf).__module__.startswith("tensorflow.python") and hasattr(leaf, "numpy")


def _masks_of(structure: Any) -> Any:
    return map_tree(lambda leaf: masks.get_mask(leaf) if isinstance(leaf, jax.Array) else None, structure)


def _fill_named_masks(names: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Fill `query_mask`, `value_mask`, ... of a call that takes several tensors by name."""
    wanted = [name for name in names if name.endswith("_mask") and name != "attention_mask" and kwargs.get(name) is None]
    if not wanted:
        return kwargs
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    found = {name: masks.get_mask(given[name.removesuffix("_mask")]) for name in wanted if given.get(name.removesuffix("_mask")) is not None}
    return {**kwargs, **{name: mask for name, mask in found.items() if mask is not None}}


def _show_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    shown = [describe(leaf) for leaf in leaves((args, kwargs)) if isinstance(leaf, jax.Array)]
    return ", ".join(shown) or "no tensors"


def describe(array: Any) -> str:
    """A tensor in a word: `float32[32,28,28,1]`."""
    return f"{array.dtype.name if hasattr(array.dtype, 'name') else array.dtype}[{','.join(map(str, _known(array.shape)))}]"


class InputSpec(Configured):
    """What a layer takes: rank, sizes of some axes, dtype.

    Args:
        dtype: Dtype of the input.
        shape: All sizes, None where any will do.
        ndim, max_ndim, min_ndim: Bounds on the number of dimensions.
        axes: Axis -> the size it must have.
        allow_last_axis_squeeze: Whether a last axis of size 1 may be missing.
        name: Name of the input.
        optional: Whether the input may be None.
    """

    keras_module = "keras"

    def __init__(
        self,
        dtype: str | None = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        self.dtype, self.name, self.optional = dtype, name, optional
        self.shape = tuple(shape) if shape is not None else None
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze


def check_input_spec(layer: Layer, inputs: Any) -> None:
    """Compare the inputs with the layer's `input_spec`.

    Raises:
        ShapeError: An input has another rank, or another size on an axis the layer was built for.
    """
    spec = layer.input_spec
    if spec is None or inputs is None:
        return
    specs = leaves(spec) if isinstance(spec, (list, tuple, dict)) else [spec]
    tensors = [leaf for leaf in leaves(inputs) if leaf is None or _is_tensor(leaf)]
    if len(specs) != len(tensors):
        if len(specs) == 1:
            return
        raise ShapeError(
            f"{type(layer).__name__} '{layer.name}' takes {len(specs)} inputs, but was given {len(tensors)}.",
            where=f"made at {layer.made_at}",
        )
    for one, tensor in zip(specs, tensors, strict=True):
        if tensor is not None and isinstance(one, InputSpec):
            _check_one(layer, one, tensor)


def _check_one(layer: Layer, spec: InputSpec, tensor: Any) -> None:
    shape, rank = _known(tensor.shape), len(tensor.shape)
    who = f"{type(layer).__name__} '{layer.name}'"
    where = f"made at {layer.made_at}; called with {describe(tensor)}"
    if spec.ndim is not None and rank != spec.ndim and not (spec.allow_last_axis_squeeze and abs(rank - spec.ndim) == 1):
        raise ShapeError(
            f"{who} takes an input of {spec.ndim} dimensions, but was given {rank}: {shape}.",
            where=where,
            do=_rank_advice(shape, rank, spec.ndim),
        )
    if (spec.max_ndim is not None and rank > spec.max_ndim) or (spec.min_ndim is not None and rank < spec.min_ndim):
        bound = f"at most {spec.max_ndim}" if spec.max_ndim is not None and rank > spec.max_ndim else f"at least {spec.min_ndim}"
        raise ShapeError(f"{who} takes an input of {bound} dimensions, but was given {rank}: {shape}.", where=where)
    for axis, size in spec.axes.items():
        found = shape[axis] if -rank <= axis < rank else None
        if size is not None and found is not None and found != size:
            word = _axis_word(layer, size)
            raise ShapeError(
                f"{who} takes {size} {word}, but was given {found}.",
                where=where,
                do=f"feed {size} {word} on {'the last axis' if axis in (-1, rank - 1) else f'axis {axis}'}, or make another "
                f"{type(layer).__name__} for this input",
            )
    for axis, size in enumerate(spec.shape or ()):
        if size is not None and axis < rank and shape[axis] is not None and shape[axis] != size:
            raise ShapeError(f"{who} takes an input of shape {spec.shape}, but was given {shape}.", where=where)


def _rank_advice(shape: tuple[int | None, ...], rank: int, wanted: int) -> str:
    if rank == wanted - 1:
        return f"add the missing axis: a batch axis, x[None], gives {(1, *shape)}; a channel axis, x[..., None], gives {(*shape, 1)}"
    if rank > wanted:
        return "flatten or pool the extra dimensions first, or take a layer of higher rank"
    return "check which axes the input lacks"


def _axis_word(layer: Layer, size: int) -> str:
    """The name a weight of the layer gives to the axis of this size, in the user's terms."""
    for variable in layer._own_variables():
        for word, length in zip(variable.axes, variable.shape, strict=True):
            if word.startswith(("input", "features", "channels")) and length == size:
                return word
    return "input channels" if "conv" in type(layer).__name__.lower() else "features"


__all__ = ["Call", "InputSpec", "Layer", "check_input_spec", "describe", "training_phase"]
