"""Variables as scripts make them, the objects that hold them, and the initializers of `tf`."""

from collections.abc import Sequence
from typing import Any

from tally import initializers
from tally.compat.names import put
from tally.compat.tensorflow.making import tensor
from tally.core.errors import ShapeError
from tally.core.layer import Layer
from tally.core.variable import Variable as OwnVariable


class _VariableType(type):
    """Lets every variable of this library count as a `tf.Variable`, as a layer's weights do in TensorFlow."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, OwnVariable)


class Variable(OwnVariable, metaclass=_VariableType):
    """A tensor that can be assigned to; a layer that has it as an attribute counts, trains and saves it.

    Args:
        initial_value: A value, or a function without arguments that gives it.
        trainable: Whether an optimizer may change it.
        validate_shape, caching_device, variable_def, import_scope, synchronization, aggregation: Accepted as
            TensorFlow has them.
        name: Last part of its path.
        dtype: Dtype; the value's unless given.
        constraint: Function applied to the value after each update.
        shape: Its shape, to check the value against.

    Raises:
        ShapeError: The value has another shape.
    """

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        import_scope: Any = None,
        constraint: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        del caching_device, variable_def, import_scope, synchronization, aggregation
        value = tensor(initial_value() if callable(initial_value) else initial_value, dtype)
        if shape is not None and validate_shape:
            from tally.compat.tensors import TensorShape

            if not TensorShape(value.shape).is_compatible_with(shape):
                raise ShapeError(
                    f"A tf.Variable of shape {TensorShape(shape)} was given a value of {value.shape}."
                )
        super().__init__(
            value, trainable=trainable is not False, name=name, constraint=constraint, dtype=value.dtype.name
        )

    def read_value(self) -> Any:
        """The value."""
        return self.value

    initialized_value = read_value


put("Variable", Variable)


class Module(Layer):
    """What holds variables and other modules in its attributes, with a call of its own.

    Args:
        name: Name.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.built = True

    @property
    def submodules(self) -> Sequence[Layer]:
        """The modules and layers inside, at any depth."""
        return tuple(self._flatten_layers(include_self=False))

    @classmethod
    def with_name_scope(cls, method: Any) -> Any:
        """Give the method back: names come from where a variable is held."""
        return method


put("Module", Module)


# -- initializers that TensorFlow has at its top -----------------------------------------------------------------------
put("zeros_initializer", lambda: initializers.Zeros())
put("ones_initializer", lambda: initializers.Ones())
put("constant_initializer", lambda value=0: initializers.Constant(value))
put(
    "random_normal_initializer",
    lambda mean=0.0, stddev=0.05, seed=None: initializers.RandomNormal(mean, stddev, seed),
)
put(
    "random_uniform_initializer",
    lambda minval=-0.05, maxval=0.05, seed=None: initializers.RandomUniform(minval, maxval, seed),
)
