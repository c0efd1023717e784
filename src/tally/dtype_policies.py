"""Dtype policies: what weights are stored in and what layers compute in."""

from tally.core.dtype import DTypePolicy, get_policy

FloatDTypePolicy = DTypePolicy
get = get_policy

__all__ = ["DTypePolicy", "FloatDTypePolicy", "get"]
