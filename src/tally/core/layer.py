"""The layer: builds its weights when it first sees a shape, tracks what it holds, and says where it was made."""

import functools
import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from jax.core import Tracer

from tally.core import masks
from tally.core.arguments import (
    as_spec,
    build_parameters,
    call_parameters,
    call_shapes,
    default_training,
    fill_named_masks,
    is_input,
    is_named,
    is_traced,
    masks_of,
    name_training,
    show_call,
    to_arrays,
)
from tally.core.calling import Call, building, in_call, noted, once, training_phase
from tally.core.collecting import collecting_later
from tally.core.dtype import DTypePolicy, get_policy, is_floating
from tally.core.errors import (
    UnbuiltError,
    cut_trace,
    is_users,
    nearest,
    users_line,
)
from tally.core.holding import Held, Holder, current_call, numbers
from tally.core.naming import auto_name
from tally.core.outlines import form_of, learn, recall, shapes_alone
from tally.core.registry import (
    accepted_arguments,
    known_arguments,
    resolve,
    serialize,
    snake_case,
)
from tally.core.shapes import as_shape, describe, known_sizes, map_shapes
from tally.core.spec import InputSpec, check_input_spec
from tally.core.symbol import KerasTensor, Node, has_symbol, infer, leaves, map_tree, record
from tally.core.variable import (
    Values,
    Variable,
    as_array,
    autocast,
    current_values,
    name_scope,
    substitute,
)


class Layer(Holder):
    """A function with weights. Subclass it, make the weights in `build`, use them in `call`.

    Args:
        activity_regularizer: Function of the output whose result is added to the loss.
        trainable: Whether the weights may be changed by training.
        dtype: Dtype or policy name, such as `"float32"` or `"mixed_bfloat16"`.
        autocast: Whether floating inputs are cast to the compute dtype.
        name: Name; the class's name and a number unless given.
        input_shape, input_dim, batch_input_shape, batch_size, weights: Accepted as older Keras code has them: the
            shape of one example for a first layer of a `Sequential`, and initial weights.

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
    _held: Held

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in vars(cls):
            cls.build = once(cls.build)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Note where the layer is made before its own constructor runs."""
        layer = super().__new__(cls, *args, **kwargs)
        held = Held()
        held.made_at = users_line()
        held.made_in_call = current_call.get() is not None
        object.__setattr__(layer, "_held", held)
        object.__setattr__(layer, "number", next(numbers))
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
            held.batch_input_shape = (batch, *as_shape(legacy.pop("input_shape")))
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
        self._note_change(variable.name, None, variable, sys._getframe(1))
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
        held = self._held
        if value and not held.building and is_users(sys._getframe(2).f_code.co_filename):
            held.marked_at = users_line()
        held.built = bool(value)

    def build(self, *input_shapes: Any, **named_shapes: Any) -> None:
        """Make the weights for an input shape. Override it; this one follows `call` with a symbolic input."""
        if type(self).call is Layer.call:
            self._held.built = True
            return
        shapes = input_shapes[0] if len(input_shapes) == 1 else list(input_shapes) or named_shapes
        if shapes is not None and not self._held.built:
            self._held.built = True
            self(map_shapes(lambda shape: KerasTensor(shape, self.compute_dtype), shapes))

    @property
    def _has_own_build(self) -> bool:
        return type(self).build is not Layer.build

    def _build(self, *shapes: Any, **named: Any) -> None:
        if self._has_own_build:
            self.build(*shapes, **named)
        else:  # what `call` uses is built as it runs
            with building(self, shapes, named):
                pass

    def _ensure_built(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._held.built:
            return
        shapes = call_shapes(self, args, kwargs)
        parameters = build_parameters(type(self))
        plain = len(parameters) <= 1 and not any(name in shapes for name in parameters)
        if plain or (len(shapes) <= 1 and not self._has_own_build):
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
        return (
            {"shapes_dict": shapes}
            if isinstance(shapes, dict) and is_named(shapes)
            else {"input_shape": shapes}
        )

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build for stored shapes."""
        if self.built:
            return
        if "input_shape" in config and config["input_shape"] is not None:
            shape = map_shapes(tuple, config["input_shape"])
            if self._has_own_build:
                self._build(shape)
            else:
                self.build(shape)
        elif config.get("shapes_dict"):
            self._build(**{name: map_shapes(tuple, shape) for name, shape in config["shapes_dict"].items()})

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
        outermost = current_call.get() is None
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
            with in_call(shapes_alone()):
                return self._call_with_values(a, k)

        form = form_of(self, args, kwargs)
        outputs = recall(form, KerasTensor)
        if outputs is None:
            with self._kept_from_traces(), collecting_later():
                outputs = infer(run, args, kwargs)
            self._clear_losses()
            learn(form, outputs)
        held.output_shapes = [leaf.shape for leaf in leaves(outputs) if leaf is not None]
        held.input_shapes = [leaf.shape for leaf in leaves((args, kwargs)) if isinstance(leaf, KerasTensor)]
        return record(self, args, kwargs, outputs)

    @contextmanager
    def _kept_from_traces(self) -> Iterator[None]:
        """Put back each attribute that `call` assigns while it is only followed: what it gets there is no array."""
        layers = self._flatten_layers()
        before = [(layer, dict(vars(layer))) for layer in layers]
        yield
        for layer, attributes in before:
            for name, value in list(vars(layer).items()):
                if isinstance(value, Tracer) and attributes.get(name) is not value:
                    if name in attributes:
                        vars(layer)[name] = attributes[name]
                    else:
                        del vars(layer)[name]

    def _call_with_values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        held = self._held
        args, kwargs = to_arrays(self, args, kwargs)
        outer = current_call.get()
        call = outer or Call(None)
        args, kwargs = name_training(type(self), args, kwargs)
        explicit = kwargs.get("training")
        phase = explicit if explicit is not None else call.training
        if phase is None:
            phase = default_training(type(self))
        call.layers[self] = None
        names = call_parameters(type(self))
        if "training" in names:
            kwargs = {**kwargs, "training": bool(phase) if phase is not None else False}
        elif "training" in kwargs:
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        previous_mask = masks_of(args[0]) if args else None
        if (
            "mask" in names
            and kwargs.get("mask") is None
            and any(m is not None for m in leaves(previous_mask))
        ):
            kwargs = {**kwargs, "mask": previous_mask}
        kwargs = fill_named_masks(names, args, kwargs)
        check_input_spec(self, args[0] if args else None)
        self._ensure_built(args, kwargs)
        if outer is None:
            self._clear_losses()
            held.last_call = map_tree(as_spec, (args, kwargs))
            if current_values() is None and not is_traced(args):
                self.materialize()
        if call.enter is not None:
            call.enter(self, args, kwargs, explicit)
        if call.stand_in is not None and (known := call.stand_in(self, args, kwargs)) is not None:
            if call.watch is not None:
                call.watch(self, known)
            return known
        saved, call.training = call.training, phase
        token = current_call.set(call) if outer is None else None
        try:
            with (
                name_scope(self.name),
                jax.named_scope(call.label(self)),
                autocast(self.compute_dtype if self.autocast else None),
                noted(self, lambda: f"called with {show_call(args, kwargs)}"),
            ):
                outputs = self.call(*args, **kwargs)
                self._regularize_activity(outputs)
        finally:
            call.training = saved
            if token is not None:
                current_call.reset(token)
        self._set_output_masks(args, outputs, previous_mask, uses_mask="mask" in names)
        if call.watch is not None:
            call.watch(self, outputs)
        if not held.output_shapes:  # the first call tells; a symbolic one knows best, with None for the batch
            held.input_shapes = [known_sizes(a.shape) for a in leaves((args, kwargs)) if is_input(a)]
            held.output_shapes = [known_sizes(a.shape) for a in leaves(outputs) if isinstance(a, jax.Array)]
        return outputs

    def _regularize_activity(self, outputs: Any) -> None:
        if self.activity_regularizer is None:
            return
        for output in leaves(outputs):
            if isinstance(output, jax.Array):
                loss = self.activity_regularizer(output)
                self.add_loss(loss / output.shape[0] if output.ndim else loss)  # per example, as in Keras

    def _set_output_masks(
        self, args: tuple[Any, ...], outputs: Any, previous_mask: Any, *, uses_mask: bool
    ) -> None:
        overridden = type(self).compute_mask is not Layer.compute_mask
        if not (self.supports_masking or overridden) or not args:
            if not uses_mask and any(m is not None for m in leaves(previous_mask)):
                warnings.warn(
                    f"{type(self).__name__} '{self.name}' was given a mask but doesn't pass it on: the layers after "
                    "it see every step. Set supports_masking = True if the layer leaves time steps where they are.",
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
            *(map_shapes(lambda s: KerasTensor(s, self.compute_dtype), shape) for shape in args),
            **{
                name.removesuffix("_shape"): map_shapes(lambda s: KerasTensor(s, self.compute_dtype), shape)
                for name, shape in kwargs.items()
            },
        )
        return map_tree(lambda leaf: leaf.shape if isinstance(leaf, KerasTensor) else leaf, outputs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Symbolic outputs for symbolic inputs, without adding to their graph. Builds the layer if it isn't built."""
        self._ensure_built(args, kwargs)
        self._held.last_call = (args, kwargs)

        def run(*a: Any, **k: Any) -> Any:
            with in_call(shapes_alone()):
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
            raise UnbuiltError(
                f"'{self.name}' is not built, so there are no variables to stand in for.", do="build it first"
            )
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
        unset = {name for name, default in _RARE.items() if self._arguments.get(name, default) is default}
        left_out = unset.union(self._held.legacy)
        arguments = self._serialized_arguments()
        config = {name: value for name, value in arguments.items() if name not in left_out}
        accepted = accepted_arguments(type(self))
        now = {"name": self.name, "trainable": self.trainable, "dtype": serialize(self.dtype_policy)}
        config.update((k, v) for k, v in now.items() if accepted is None or k in accepted)
        return config

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
                f"{type(self).__name__} '{self.name}' is used {len(nodes)} times in graphs, "
                "so it has no single input or output.",
                where=f"made at {self.made_at}",
            )
        return nodes[0]


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, Variable) else value


_RARE = {"activity_regularizer": None, "autocast": True}
"""Arguments of every layer that a configuration names only where they are set."""


@functools.cache
def _base_arguments() -> frozenset[str]:
    return frozenset(inspect.signature(Layer.__init__).parameters) - {"self", "legacy"}


__all__ = ["Call", "InputSpec", "Layer", "check_input_spec", "describe", "training_phase"]
