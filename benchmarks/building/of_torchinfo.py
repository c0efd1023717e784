"""The models of `benchmarks/build.py` in PyTorch on the device `meta`, accounted for by torchinfo."""

from typing import Any

import torchinfo

from benchmarks.building.of_torch import gpt3, resnet50, single_experts, stacked_experts


def account(made: Any) -> tuple[int, str]:
    """Parameters that learn, and the table."""
    model, given = made
    found = torchinfo.summary(model, input_data=given, device="meta", depth=8, verbose=0)
    return found.trainable_params, str(found)


__all__ = ["account", "gpt3", "resnet50", "single_experts", "stacked_experts"]
