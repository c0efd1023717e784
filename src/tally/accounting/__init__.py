"""The ledger: what a model's parameters are, and functions over that; nothing here imports JAX."""

from tally.accounting.explain import Explanation, OwnerExplanation, WeightExplanation, explain
from tally.accounting.formula import Formula
from tally.accounting.ledger import SCHEMA_VERSION, Entry, Ledger, Owner
from tally.accounting.reasons import Remark

__all__ = [
    "SCHEMA_VERSION",
    "Entry",
    "Explanation",
    "Formula",
    "Ledger",
    "Owner",
    "OwnerExplanation",
    "Remark",
    "WeightExplanation",
    "explain",
]
