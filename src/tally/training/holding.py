"""Values that compiled steps read, and seldom give anew: frozen weights, moving statistics."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from tally.core.variable import Loan, Variable, stored


class Hold(Loan):
    """The values of variables while compiled steps read them; none is copied, for no step takes their memory away.

    Args:
        variables: Those that are lent; they must hold values.

    Example:
        >>> moving = tally.Variable([0.0], trainable=False)
        >>> hold = Hold([moving])
        >>> hold.change({0: jnp.array([1.0])})
        >>> hold.settle()
        >>> moving.value
        Array([1.], dtype=float32)
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = list(variables)
        self.values = stored(self.variables)
        self._shown = {}
        self._owners = [(v._loan, v._loan_index) for v in self.variables]
        self._unseen = [v._is_unseen for v in self.variables]
        for index, variable in enumerate(self.variables):
            variable._loan, variable._loan_index, variable._value = self, index, None

    def change(self, changed: Mapping[int, jax.Array]) -> None:
        """Put values that a step gave anew in the place of those before it."""
        for index, value in changed.items():
            self.values[index], self._unseen[index] = value, True

    def show(self, index: int) -> jax.Array:
        """A value; a copy where another loan may give its memory away later."""
        value = self.values[index]
        if self._owners[index][0] is not None:
            return jnp.array(value, copy=True)
        self._unseen[index] = False
        return value

    def put(self, index: int, value: jax.Array) -> None:
        """Set a value; whoever gave it keeps it."""
        self.values[index] = value
        self._unseen[index] = False

    def settle(self) -> None:
        """Give every variable its last value back."""
        super().settle()
        for variable, unseen, (loan, _) in zip(self.variables, self._unseen, self._owners, strict=True):
            if loan is None and variable._loan is None:
                variable._is_unseen = unseen
