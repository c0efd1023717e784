"""What training minimises and measures: losses and metrics brought together with a model's outputs."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from tally import losses as loss_room
from tally import metrics as metric_room
from tally.core.errors import ArgumentError, DataError
from tally.core.symbol import leaves


def name_outputs(y_pred: Any, names: Sequence[str] | None) -> list[str]:
    """A word for each output: its key, the layer that makes it, or its position."""
    if isinstance(y_pred, dict):
        return [str(key) for key in sorted(y_pred)]
    count = len(leaves(y_pred))
    if names and len(names) == count:
        return list(names)
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def spread(given: Any, y_pred: Any, names: list[str], what: str, *, broadcast: bool) -> list[Any]:
    """Bring something given once, by position or by name into one value per output.

    Args:
        given: One value, a list, or a dict by output name; None leaves every output without.
        y_pred: The outputs.
        names: Their names.
        what: The word for the error message.
        broadcast: Whether a single value holds for every output.
    """
    if given is None:
        return [None] * len(names)
    if isinstance(given, dict):
        unknown = [key for key in given if str(key) not in names]
        if unknown:
            raise ArgumentError(
                f"{what} names the output '{unknown[0]}', but the model's outputs are {', '.join(names)}.",
                do="use those names as keys",
            )
        return [given.get(name) for name in names]
    if len(names) == 1:
        return [
            given[0] if isinstance(given, (list, tuple)) and len(given) == 1 and what != "metrics" else given
        ]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ArgumentError(
                f"{what} has {len(given)} entries for {len(names)} outputs ({', '.join(names)})."
            )
        return list(given)
    if not broadcast:
        raise ArgumentError(f"{what} must be a list or a dict for a model with {len(names)} outputs.")
    del y_pred
    return [given] * len(names)


class Losses:
    """The compiled losses, one per output, and their weighted sum."""

    def __init__(self, loss: Any, weights: Any, names: Sequence[str] | None) -> None:
        self.loss, self.weights, self.names = loss, weights, names
        self.output_names: list[str] = []
        self.functions: list[Callable[..., Any] | None] = []
        self.factors: list[float] = []

    def build(self, y_pred: Any) -> None:
        """Find each output's loss."""
        self.output_names = name_outputs(y_pred, self.names)
        given = spread(self.loss, y_pred, self.output_names, "loss", broadcast=True)
        self.functions = [None if one is None else _as_loss(one) for one in given]
        factors = spread(self.weights, y_pred, self.output_names, "loss_weights", broadcast=False)
        self.factors = [1.0 if factor is None else float(factor) for factor in factors]

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, dict[str, Any]]:
        """The weighted sum, and each output's own loss where there are several."""
        if not self.output_names:
            self.build(y_pred)
        outputs = leaves(y_pred)
        targets = match_targets(y, y_pred, self.output_names, self.functions)
        weights = match_weights(sample_weight, self.output_names)
        parts: dict[str, Any] = {}
        total: Any = None
        every = zip(self.output_names, self.functions, self.factors, targets, outputs, weights, strict=True)
        for name, function, factor, target, output, weight in every:
            if function is None:
                continue
            try:
                value = _mean(function(target, output, sample_weight=weight))
            except Exception as error:
                error.add_note(f"in the loss of output '{name}'")
                raise
            parts[f"{name}_loss"] = value
            total = value * factor if total is None else total + value * factor
        return (jnp.zeros(()) if total is None else total), (parts if len(self.output_names) > 1 else {})


def _as_loss(identifier: Any) -> Callable[..., Any]:
    """A loss that takes sample weights, from a name, a function `(y_true, y_pred)` or a `Loss`."""
    found = loss_room.get(identifier)
    if isinstance(found, loss_room.Loss):
        return found
    return loss_room.LossFunctionWrapper(found, name=getattr(found, "__name__", type(found).__name__))


def _mean(value: Any) -> Any:
    return jnp.mean(value) if jnp.ndim(value) else value


def match_targets(y: Any, y_pred: Any, names: list[str], functions: Sequence[Any] = ()) -> list[Any]:
    """One target per output; an output without a loss may go without a target."""
    if isinstance(y, dict) and not isinstance(y_pred, dict) and len(names) > 1:
        return [y.get(name) for name in names]
    given = leaves(y)
    if len(given) == len(names):
        return given
    with_loss = [i for i, function in enumerate(functions) if function is not None]
    if functions and len(given) == len(with_loss):
        targets: list[Any] = [None] * len(names)
        for i, target in zip(with_loss, given, strict=True):
            targets[i] = target
        return targets
    if not with_loss and functions:
        return [None] * len(names)
    raise DataError(
        f"The model has {len(names)} outputs ({', '.join(names)}), but {len([g for g in given if g is not None])} targets came.",
        do="pass y as one array per output, in a list or in a dict by output name",
    )


def match_weights(sample_weight: Any, names: list[str]) -> list[Any]:
    """One array of sample weights, or None, per output."""
    if isinstance(sample_weight, dict):
        return [sample_weight.get(name) for name in names]
    given = leaves(sample_weight)
    return given if len(given) == len(names) else [given[0] if given else None] * len(names)


_ACCURACIES = {
    "accuracy": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "crossentropy": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
}
_SHORT = {"acc": "accuracy", "ce": "crossentropy"}


def find_metric(identifier: Any, target: Any, output: Any, loss: Any) -> Any:
    """A metric from its name, function or object; `"accuracy"` and `"crossentropy"` are chosen by the shapes.

    Args:
        identifier: What the user wrote.
        target: The output's targets, for their shape.
        output: The output.
        loss: The output's loss.
    """
    word = _SHORT.get(identifier, identifier) if isinstance(identifier, str) else None
    if word in _ACCURACIES and target is not None:
        binary = jnp.ndim(output) > 0 and output.shape[-1] == 1
        sparse = jnp.ndim(target) < jnp.ndim(output) or (target.shape[-1] == 1 and output.shape[-1] > 1)
        del loss
        chosen = getattr(metric_room, _ACCURACIES[word][0 if binary else 2 if sparse else 1])
        return chosen(name=identifier)
    if isinstance(identifier, metric_room.Metric):
        return identifier
    found = metric_room.get(identifier)
    if isinstance(found, metric_room.Metric):
        return found
    name = getattr(found, "__name__", None) or type(found).__name__
    return metric_room.MeanMetricWrapper(found, name=identifier if isinstance(identifier, str) else name)


class Metrics:
    """The compiled metrics, each with the output it measures."""

    def __init__(self, metrics: Any, weighted: Any, names: Sequence[str] | None) -> None:
        self.metrics, self.weighted, self.names = metrics, weighted, names
        self.built = False
        self.rows: list[tuple[int, str, Any, bool]] = []
        self.output_names: list[str] = []

    def build(self, y: Any, y_pred: Any, losses: Losses) -> None:
        """Find each output's metrics; shapes of the first batch decide what `"accuracy"` means."""
        self.built = True
        self.output_names = names = name_outputs(y_pred, self.names)
        targets = match_targets(y, y_pred, names, losses.functions)
        for given, weighted in ((self.metrics, False), (self.weighted, True)):
            for index, ones in enumerate(_per_output(given, y_pred, names)):
                for one in ones:
                    loss = losses.functions[index] if losses.functions else None
                    metric = find_metric(one, targets[index], leaves(y_pred)[index], loss)
                    label = metric.name if len(names) == 1 else f"{names[index]}_{metric.name}"
                    self.rows.append((index, label, metric, weighted))

    @property
    def all(self) -> list[Any]:
        """The metric objects."""
        return [metric for _, _, metric, _ in self.rows]

    def update(self, y: Any, y_pred: Any, sample_weight: Any, losses: Losses) -> None:
        """Take a batch into account."""
        if not self.rows:
            return
        targets = match_targets(y, y_pred, self.output_names, losses.functions)
        weights = match_weights(sample_weight, self.output_names)
        outputs = leaves(y_pred)
        for index, _, metric, weighted in self.rows:
            if targets[index] is not None:
                metric.update_state(
                    targets[index], outputs[index], sample_weight=weights[index] if weighted else None
                )

    def results(self) -> dict[str, Any]:
        """Label -> value."""
        found: dict[str, Any] = {}
        for _, label, metric, _ in self.rows:
            value = metric.result()
            found.update(value if isinstance(value, dict) else {label: value})
        return found


def _per_output(given: Any, y_pred: Any, names: list[str]) -> list[list[Any]]:
    if given is None:
        return [[] for _ in names]
    if isinstance(given, dict):
        given = spread(given, y_pred, names, "metrics", broadcast=False)
    elif len(names) == 1:
        given = (
            [given[0]]
            if isinstance(given, (list, tuple)) and given and isinstance(given[0], (list, tuple))
            else [given]
        )
    elif isinstance(given, (list, tuple)) and not any(isinstance(one, (list, tuple)) for one in given):
        given = list(given) if len(given) == len(names) else [list(given)] * len(names)
    return [[] if one is None else list(one) if isinstance(one, (list, tuple)) else [one] for one in given]
