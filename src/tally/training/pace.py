"""How many steps are under way at once, where the device is the host.

There a step takes its memory when it is sent off, not when it begins. Sent off one after another without a pause, 30
steps would hold 30 times what one needs, and the C library would give that back to the system and ask for it anew.
"""

import time
from collections import deque
from typing import Any

LONG, SHORT = 0.02, 0.001
"""Seconds of waiting from which a step is long, and up to which it is short."""
MANY = 8
"""Short steps that may be under way at once: sending one off takes as long as it does itself."""


class Pace:
    """Waits until few enough steps are under way: a long one alone, a running one and the next, or some short ones.

    Args:
        is_host: Whether the device is the host; elsewhere nothing is waited for.

    Example:
        >>> import jax.numpy as jnp
        >>> pace = Pace(is_host=True)
        >>> pace.follow(jnp.zeros(1))  # the first step is done now; another may be sent off before the next is
    """

    def __init__(self, is_host: bool) -> None:
        self.is_host = is_host
        self._waiting: deque[Any] = deque()
        self._most = 0  # until it is known how long a step takes

    def follow(self, made: Any) -> None:
        """Take note of a step that was sent off.

        Args:
            made: An array that the step gives and that no later step takes away.
        """
        if not self.is_host:
            return
        self._waiting.append(made)
        begun = time.monotonic()
        while len(self._waiting) > self._most:
            self._waiting.popleft().block_until_ready()
            waited = time.monotonic() - begun
            self._most = 0 if waited > LONG else 1 if waited > SHORT else MANY
