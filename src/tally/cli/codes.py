"""Exit codes of every command."""

HOLDS, DOES_NOT_HOLD, COULD_NOT_RUN = 0, 1, 2
"""It ran and all is well; it ran and something is wrong; it could not run."""
