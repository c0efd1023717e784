"""Losses that pull samples of one class together and push those of others apart."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.core.masks import set_mask
from tally.core.variable import as_array
from tally.losses.base import LossFunctionWrapper


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> jax.Array:
    """Circle loss of each embedding against the reference embeddings.

    Args:
        y_true: Class numbers, (batch,).
        y_pred: Embeddings of length 1, (batch, features).
        ref_labels: Class numbers of what to compare with; the batch's own by default.
        ref_embeddings: What to compare with; the batch itself by default.
        remove_diagonal: Whether a sample is left out of its own references.
        gamma: How steep the loss is.
        margin: How far the classes are to be apart.

    Returns:
        (batch,), with a mask that leaves out samples without a loss.
    """
    embeddings = as_array(y_pred)
    references = embeddings if ref_embeddings is None else as_array(ref_embeddings, embeddings.dtype)
    labels = as_array(y_true, "int32").reshape(-1, 1)
    reference_labels = labels if ref_labels is None else as_array(ref_labels, "int32").reshape(-1, 1)
    distance = jnp.maximum(1 - embeddings @ references.T, 0)
    is_same = labels == reference_labels.T
    is_other = ~is_same
    if remove_diagonal:
        is_same &= ~jnp.eye(*is_same.shape, dtype=bool)

    def gather(mask: jax.Array, weight: jax.Array, excess: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(gamma * jnp.maximum(weight, 0) * excess, axis=1, where=mask)

    to_same = gather(is_same, distance + margin, distance - margin)
    to_other = gather(is_other, 1 + margin - distance, 1 - margin - distance)
    loss = jax.nn.softplus(to_same + to_other)
    return set_mask(loss, loss > 0)


class Circle(LossFunctionWrapper):
    """Circle loss: similarities inside a class and between classes, each weighted by how far it is from its goal.

    Args:
        gamma: How steep the loss is.
        margin: How far the classes are to be apart.
        remove_diagonal: Whether a sample is left out of its own references.
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true: (batch,), class numbers
        y_pred: (batch, features), embeddings of length 1

    Source: Sun et al., Circle Loss, 2020; `keras.losses.Circle`.
    """

    takes_class_numbers = True

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            circle, reduction, name, dtype, gamma=gamma, margin=margin, remove_diagonal=remove_diagonal
        )
