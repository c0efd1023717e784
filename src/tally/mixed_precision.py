"""Dtype policies under the name that tutorials know: `tally.mixed_precision.set_global_policy("mixed_bfloat16")`."""

from tally.core.dtype import DTypePolicy as Policy
from tally.core.dtype import dtype_policy as global_policy
from tally.core.dtype import set_dtype_policy as set_global_policy

__all__ = ["Policy", "global_policy", "set_global_policy"]
