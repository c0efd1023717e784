"""Whether contestants compute the same: their first outputs, and the loss of every epoch."""

from collections.abc import Mapping, Sequence

OUTPUTS = 2e-3
"""How far an output may be from the first contestant's, as a part of the largest output."""


def compare_outputs(outputs: Mapping[str, Sequence[float]]) -> list[str]:
    """Say whose first outputs, from the same weights and batch, differ from the first contestant's.

    Args:
        outputs: Some outputs by contestant, at the same places.

    Returns:
        A sentence for each contestant that differs.

    Example:
        >>> compare_outputs({"tally": [1.0, 2.0], "peer": [1.0, 2.0001], "wrong": [1.0, 2.5]})
        ["The first outputs of wrong differ from tally's by 25.00% of the largest."]
    """
    first, *others = outputs
    scale = max(map(abs, outputs[first])) or 1.0
    found = []
    for name in others:
        off = max(abs(a - b) for a, b in zip(outputs[name], outputs[first], strict=True)) / scale
        if not off <= OUTPUTS:
            found.append(f"The first outputs of {name} differ from {first}'s by {off:.2%} of the largest.")
    return found


def compare_losses(losses: Mapping[str, Sequence[float]], tolerance: float) -> list[str]:
    """Say whose loss went another way than the first contestant's, and where nothing was learnt.

    Args:
        losses: The loss of each epoch by contestant; epochs that not all have trained are left out.
        tolerance: How far they may be apart, as a part of the first contestant's first loss.

    Returns:
        A sentence for each contestant whose loss differs, and one if the first contestant's loss did not fall.

    Example:
        >>> compare_losses({"tally": [2.0, 1.0], "peer": [2.01, 1.0], "wrong": [2.0, 1.5]}, 0.05)
        ["The loss of wrong in epoch 2 is 1.5, tally's is 1."]
    """
    first, *others = losses
    reference = losses[first]
    found = []
    if not reference[-1] < reference[0]:
        found.append(f"The loss of {first} did not fall: {reference[0]:.4g}, then {reference[-1]:.4g}.")
    for name in others:
        for epoch, (one, other) in enumerate(zip(losses[name], reference, strict=False), 1):
            if not abs(one - other) <= tolerance * reference[0]:
                found.append(f"The loss of {name} in epoch {epoch} is {one:.4g}, {first}'s is {other:.4g}.")
                break
    return found
