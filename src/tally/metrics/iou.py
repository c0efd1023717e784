"""Intersection over union: how well labelled and predicted regions cover each other."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import epsilon, is_floating
from tally.core.errors import ArgumentError, ShapeError
from tally.core.variable import as_array
from tally.losses.base import called_with
from tally.metrics.base import Metric


class IoU(Metric):
    """Intersection over union, mean over some classes; classes that occur nowhere are left out.

    Args:
        num_classes: Number of classes.
        target_class_ids: The classes the mean is taken over.
        name: As `Metric` takes it.
        dtype: Dtype of the counts; `int32` by default. Take a float for weights that are no integers.
        ignore_class: Positions with this label don't count.
        sparse_y_true: Whether labels are class numbers; one-hot or probabilities otherwise.
        sparse_y_pred: Whether predictions are class numbers; probabilities otherwise.
        axis: The axis of the classes, where there is one.

    Raises:
        ArgumentError: A target class is not below the number of classes.

    Example:
        >>> iou = tally.metrics.IoU(num_classes=2, target_class_ids=[1])
        >>> iou.update_state(np.array([0, 1, 1]), np.array([0, 0, 1]))
        >>> round(float(iou.result()), 3)
        0.5

    Source: `keras.metrics.IoU`.
    """

    direction = "up"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(dtype or "int32", name)
        if max(target_class_ids) >= num_classes:
            raise ArgumentError(
                f"{type(self).__name__} is to look at class {max(target_class_ids)}, but there are {num_classes} "
                f"classes, 0 to {num_classes - 1}.",
                do="name target classes below num_classes",
            )
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        self.confusion = self.add_variable(
            (num_classes, num_classes), dtype=self.dtype, name="total_confusion_matrix"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in; class numbers that are none of the classes don't count.

        Args:
            y_true: Labels.
            y_pred: Predictions.
            sample_weight: One weight per position.

        Raises:
            ShapeError: There are not as many predictions as labels.
        """
        y_true, y_pred = as_array(y_true), as_array(y_pred)
        labels = (y_true if self.sparse_y_true else y_true.argmax(axis=self.axis)).astype("int32").ravel()
        guesses = (y_pred if self.sparse_y_pred else y_pred.argmax(axis=self.axis)).astype("int32").ravel()
        if labels.shape != guesses.shape:
            raise ShapeError(
                f"{type(self).__name__} '{self.name}' was given {labels.size} labels and {guesses.size} predictions.",
                where=called_with(y_true, y_pred),
                do="say with sparse_y_true and sparse_y_pred which of them are class numbers",
            )
        counts = (labels >= 0) & (labels < self.num_classes) & (guesses >= 0) & (guesses < self.num_classes)
        if self.ignore_class is not None:
            counts &= labels != self.ignore_class
        weights = jnp.where(counts, self._weights(sample_weight, labels.shape), 0)
        labels, guesses = (jnp.where(counts, x, 0) for x in (labels, guesses))
        self.confusion.assign(self.confusion.raw.at[labels, guesses].add(weights))

    def _weights(self, sample_weight: Any, shape: tuple[int, ...]) -> jax.Array:
        weights = as_array(1 if sample_weight is None else sample_weight)
        if is_floating(weights.dtype) and not is_floating(self.dtype):
            warnings.warn(
                f"{type(self).__name__} '{self.name}' counts in {self.dtype}, so the fractions of the sample weights "
                "are cut off. Make it with dtype='float32'.",
                stacklevel=3,
            )
        return jnp.broadcast_to(weights.astype(self.dtype).ravel(), shape)

    def result(self) -> jax.Array:
        """The mean over the target classes so far."""
        confusion = self.confusion.value
        both = jnp.diag(confusion)
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - both
        targets = jnp.asarray(self.target_class_ids)
        both, union = (x[targets].astype("float32") for x in (both, union))
        occurs = union > 1e-9
        return jnp.where(occurs, both / (union + epsilon()), 0).sum() / (occurs.sum() + epsilon())


class BinaryIoU(IoU):
    """Intersection over union of two classes told apart by a threshold.

    Args:
        target_class_ids: The classes the mean is taken over: 0 is below the threshold, 1 is not.
        threshold: Predictions of at least this are class 1.
        name, dtype: As `IoU` takes them.

    Source: `keras.metrics.BinaryIoU`.
    """

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels, 0 and 1.
            y_pred: Predictions of the same shape.
            sample_weight: One weight per position.
        """
        super().update_state(y_true, as_array(y_pred) >= self.threshold, sample_weight)


class MeanIoU(IoU):
    """Intersection over union, mean over all classes.

    Args:
        num_classes: Number of classes.
        name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis: As `IoU` takes them.

    Source: `keras.metrics.MeanIoU`.
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis
        )


class OneHotIoU(IoU):
    """Intersection over union of one-hot labels, mean over some classes.

    Args:
        num_classes: Number of classes.
        target_class_ids: The classes the mean is taken over.
        name, dtype, ignore_class, sparse_y_pred, axis: As `IoU` takes them.

    Source: `keras.metrics.OneHotIoU`.
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """Intersection over union of one-hot labels, mean over all classes.

    Args:
        num_classes: Number of classes.
        name, dtype, ignore_class, sparse_y_pred, axis: As `IoU` takes them.

    Source: `keras.metrics.OneHotMeanIoU`.
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
