"""What training minimises and measures: losses and metrics brought together with a model's outputs."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally import losses as loss_room
from tally import metrics as metric_room
from tally.core.dtype import floatx
from tally.core.errors import ArgumentError, DataError
from tally.core.symbol import leaves
from tally.losses.probabilistic import check_class_numbers

_BY_SHAPE = {
    "accuracy": ("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    "crossentropy": ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"),
}
"""Words whose meaning the shapes decide -> what they mean for one number, for one-hot labels and for class numbers."""
_SHORT = {"acc": "accuracy", "ce": "crossentropy"}


def _open_word(identifier: Any) -> str | None:
    """The word that shapes decide about, if it is one."""
    word = identifier.lower() if isinstance(identifier, str) else None
    word = _SHORT.get(word or "", word)
    return word if word in _BY_SHAPE else None


def _decide(word: str, target: Any, output: Any) -> str:
    if len(output.shape) < 2 or output.shape[-1] == 1:
        return _BY_SHAPE[word][0]
    has_class_numbers = len(target.shape) < len(output.shape) or target.shape[-1] == 1
    return _BY_SHAPE[word][2 if has_class_numbers else 1]


def check_names(loss: Any, metrics: Any, weighted_metrics: Any) -> None:
    """Refuse unknown losses and metrics at once, and not only when the first batch comes.

    Raises:
        ArgumentError: A name is unknown, or something is neither a loss nor a metric.
    """
    for one in _mentioned(loss):
        if _open_word(one) != "crossentropy":
            loss_room.get(one)
    for one in (*_mentioned(metrics), *_mentioned(weighted_metrics)):
        if _open_word(one) is None:
            metric_room.get(one)


def _mentioned(given: Any) -> Iterator[Any]:
    """Whatever is named in lists and in dicts by output; a configuration is one thing."""
    if isinstance(given, (list, tuple)):
        for one in given:
            yield from _mentioned(one)
    elif isinstance(given, dict) and "class_name" not in given:
        for one in given.values():
            yield from _mentioned(one)
    elif given is not None:
        yield given


def name_outputs(y_pred: Any, names: Sequence[str] | None) -> list[str]:
    """A word for each output: its key, the layer that makes it, or its position."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(y_pred)]
    if isinstance(y_pred, dict):
        return [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    if names and len(names) == len(paths):
        return list(names)
    return ["output"] if len(paths) == 1 else [f"output_{i}" for i in range(len(paths))]


def spread(given: Any, names: list[str], what: str) -> list[Any]:
    """Bring something given once, by position or by name into one value per output.

    Args:
        given: One value for every output, a list, or a dict by output name; None leaves every output without.
        names: The outputs' names.
        what: The word for the error message.

    Raises:
        ArgumentError: A name or the number of entries doesn't fit the outputs.
    """
    if isinstance(given, dict) and "class_name" not in given:
        unknown = [key for key in given if str(key) not in names]
        if unknown:
            raise ArgumentError(
                f"{what} names the output '{unknown[0]}', but the model's outputs are {', '.join(names)}.",
                do="use those names as keys",
            )
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        flat = leaves(given)
        if len(flat) != len(names):
            raise ArgumentError(
                f"{what} has {len(flat)} entries for {len(names)} outputs ({', '.join(names)}).",
                do="give one entry per output, or a dict by output name",
            )
        return flat
    return [given] * len(names)


class Losses:
    """The compiled losses, one per output, and their weighted sum.

    Args:
        loss: What `compile` was given.
        weights: Factors, given likewise.
    """

    def __init__(self, loss: Any, weights: Any) -> None:
        self.loss, self.weights = loss, weights
        for factor in leaves(weights):
            if not isinstance(factor, (int, float, np.number, type(None))):
                raise ArgumentError(
                    f"loss_weights holds {factor!r}, which is no number.",
                    do="pass a number per output; metrics are passed by name: metrics=[...]",
                )
        self.output_names: list[str] = []
        self.functions: list[Callable[..., Any] | None] = []
        self.factors: list[float | None] = []
        self.classes: list[int] = []

    def build(self, y: Any, y_pred: Any, names: Sequence[str] | None) -> None:
        """Find each output's loss; shapes of the first batch decide what `"crossentropy"` means."""
        self.output_names = name_outputs(y_pred, names)
        given = spread(self.loss, self.output_names, "loss")
        self.factors = spread(self.weights, self.output_names, "loss_weights")
        targets = match_targets(y, self.output_names, given)
        self.classes = [output.shape[-1] if output.ndim else 1 for output in leaves(y_pred)]
        self.functions = [
            None if one is None else _as_loss(one, target, output)
            for one, target, output in zip(given, targets, leaves(y_pred), strict=True)
        ]

    def check_labels(self, y: Any) -> None:
        """Look at all class numbers before training: inside a compiled step one out of range would pass unseen.

        Raises:
            ArgumentError: A class number is negative, or not below the number of classes.
        """
        if y is None or not self.functions:
            return
        targets = match_targets(y, self.output_names, self.functions)
        for function, target, classes in zip(self.functions, targets, self.classes, strict=True):
            if isinstance(function, loss_room.LossFunctionWrapper) and isinstance(target, np.ndarray):
                is_sparse = function.fn is loss_room.sparse_categorical_crossentropy
                if is_sparse and function.options.get("ignore_class") is None and target.dtype.kind in "iuf":
                    check_class_numbers(target, classes)

    @property
    def part_names(self) -> list[str]:
        """Names under which each output's own loss is logged: none unless several outputs have one."""
        names = [
            f"{name}_loss"
            for name, function in zip(self.output_names, self.functions, strict=True)
            if function is not None
        ]
        return names if len(names) > 1 else []

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, dict[str, Any]]:
        """The weighted sum, and each output's own loss where several have one."""
        if not self.output_names:
            self.build(y, y_pred, None)
        targets = match_targets(y, self.output_names, self.functions)
        weights = match_weights(sample_weight, self.output_names)
        parts: dict[str, Any] = {}
        total: Any = None
        every = zip(
            self.output_names, self.functions, self.factors, targets, leaves(y_pred), weights, strict=True
        )
        for name, function, factor, target, output, weight in every:
            if function is None:
                continue
            try:
                value = jnp.mean(function(target, output, sample_weight=weight)).astype(floatx())
            except Exception as error:
                error.add_note(f"in the loss of output '{name}'{_still_a_map(target, output)}")
                raise
            parts[f"{name}_loss"] = value
            value = value if factor is None else value * factor
            total = value if total is None else total + value
        return (jnp.zeros(()) if total is None else total), (parts if len(parts) > 1 else {})


def _still_a_map(target: Any, output: Any) -> str:
    """A word on outputs that kept the height and width of an image where the targets have none."""
    if jnp.ndim(output) < 4 or jnp.ndim(target) > 2:
        return ""
    return (
        f", whose shape {tuple(output.shape)} is still a feature map: put Flatten() or GlobalAveragePooling2D() "
        "before the last Dense layer"
    )


def settled(loss: Any, names: list[str]) -> list[Any]:
    """Each output's loss where no targets are needed to tell which; None elsewhere.

    Args:
        loss: What `compile` was given.
        names: The outputs' names.
    """
    try:
        given = spread(loss, names, "loss")
    except ArgumentError:
        return [None] * len(names)
    return [None if one is None or _open_word(one) else _as_loss(one, None, None) for one in given]


def _as_loss(identifier: Any, target: Any, output: Any) -> Callable[..., Any]:
    """A loss that takes sample weights, from a name, a function `(y_true, y_pred)` or a `Loss`."""
    word = _open_word(identifier)
    if word == "crossentropy":
        return getattr(loss_room, _decide(word, target, output))()
    found = loss_room.get(identifier)
    if isinstance(found, loss_room.Loss):
        return found
    return loss_room.LossFunctionWrapper(found, name=getattr(found, "__name__", type(found).__name__))


def match_targets(y: Any, names: list[str], losses: Sequence[Any] = ()) -> list[Any]:
    """One target per output; an output without a loss may go without a target.

    Args:
        y: Targets: an array, or arrays in a structure, by position or by output name.
        names: The outputs' names.
        losses: Each output's loss or None.

    Raises:
        DataError: A target is missing, or there are too many.
    """
    wanted = [i for i in range(len(names)) if losses and losses[i] is not None]
    given = leaves(y)
    if isinstance(y, dict) and set(names) & set(y):
        targets = [y.get(name) for name in names]
    elif len(given) == len(names):
        targets = given
    elif y is None or len(given) == len(wanted):
        filled = dict(zip(wanted, [] if y is None else given, strict=False))
        targets = [filled.get(i) for i in range(len(names))]
    else:
        outputs = "1 output" if len(names) == 1 else f"{len(names)} outputs"
        raise DataError(
            f"The model has {outputs} ({', '.join(names)}), but y has {len(given)} arrays.",
            do="pass y as one array per output, in a list or in a dict by output name",
        )
    missing = [names[i] for i in wanted if targets[i] is None]
    if missing:
        came = f"y has {', '.join(map(str, y))}" if isinstance(y, dict) else "there are no targets y for it"
        raise DataError(
            f"The output '{missing[0]}' has a loss, but {came}.",
            do="pass y, in a dict by output name or a list for several outputs; or compile that output without a loss",
        )
    return targets


def match_weights(sample_weight: Any, names: list[str]) -> list[Any]:
    """One array of sample weights, or None, per output."""
    if isinstance(sample_weight, dict):
        return [sample_weight.get(name) for name in names]
    given = leaves(sample_weight)
    return given if len(given) == len(names) else [given[0] if given else None] * len(names)


def find_metric(identifier: Any, target: Any, output: Any) -> Any:
    """A metric from its name, function or object; `"accuracy"` and `"crossentropy"` are chosen by the shapes.

    Args:
        identifier: What the user wrote; a name is also what the logs call the metric.
        target: The output's targets, for their shape.
        output: The output.
    """
    if isinstance(identifier, metric_room.Metric):
        return identifier
    word = _open_word(identifier)
    if word is not None and target is not None:
        found = getattr(metric_room, _decide(word, target, output))()
    else:
        found = metric_room.get(identifier)
    if not isinstance(found, metric_room.Metric):
        name = getattr(found, "__name__", None) or type(found).__name__
        found = metric_room.MeanMetricWrapper(found, name=name)
    if isinstance(identifier, str):
        found.name = identifier
    return found


class Metrics:
    """The compiled metrics, each with the output it measures.

    Args:
        metrics: What `compile` was given as `metrics`: they don't weigh samples.
        weighted: What it was given as `weighted_metrics`: they do.
    """

    def __init__(self, metrics: Any, weighted: Any) -> None:
        self.metrics, self.weighted = metrics, weighted
        self.built = False
        self.output_names: list[str] = []
        self._rows: list[tuple[int, str, Any, bool]] = []

    def build(self, y: Any, y_pred: Any, losses: Losses) -> None:
        """Find each output's metrics, and a label of its own for each."""
        self.output_names = names = losses.output_names
        targets, outputs = match_targets(y, names, losses.functions), leaves(y_pred)
        taken: Counter[str] = Counter()
        rows = []
        for given, is_weighted in ((self.metrics, False), (self.weighted, True)):
            for index, ones in enumerate(_per_output(given, names)):
                for one in ones:
                    metric = find_metric(one, targets[index], outputs[index])
                    prefix = "" if len(names) == 1 else f"{names[index]}_"
                    label = prefix + metric.name
                    if taken[label] and is_weighted:
                        label = f"{prefix}weighted_{metric.name}"
                    taken[label] += 1
                    unique = f"{label}_{taken[label] - 1}" if taken[label] > 1 else label
                    rows.append((index, unique, metric, is_weighted))
        self._rows, self.built = rows, True

    @property
    def all(self) -> list[Any]:
        """The metric objects."""
        return [metric for _, _, metric, _ in self._rows]

    def update(self, y: Any, y_pred: Any, sample_weight: Any, losses: Losses) -> None:
        """Take a batch into account."""
        if not self._rows:
            return
        targets = match_targets(y, self.output_names, losses.functions)
        weights = match_weights(sample_weight, self.output_names)
        outputs = leaves(y_pred)
        for index, label, metric, is_weighted in self._rows:
            if targets[index] is None:
                continue
            try:
                weight = weights[index] if is_weighted else None
                metric.update_state(targets[index], outputs[index], sample_weight=weight)
            except Exception as error:
                error.add_note(f"in the metric '{label}'")
                raise

    def results(self) -> dict[str, Any]:
        """Label -> value."""
        found: dict[str, Any] = {}
        for _, label, metric, _ in self._rows:
            value = metric.result()
            found.update(value if isinstance(value, dict) else {label: value})
        return found


def _per_output(given: Any, names: list[str]) -> list[list[Any]]:
    """The metrics of each output; a plain list of another length than there are outputs holds for all of them."""
    if isinstance(given, dict) and "class_name" not in given:
        given = spread(given, names, "metrics")
    elif len(names) == 1:
        given = [list(_mentioned(given))]
    elif given is None:
        given = [None] * len(names)
    elif not isinstance(given, (list, tuple)) or len(given) != len(names):
        if isinstance(given, (list, tuple)) and any(isinstance(one, (list, tuple)) for one in given):
            raise ArgumentError(
                f"metrics has {len(given)} entries for {len(names)} outputs ({', '.join(names)}).",
                do="give one list per output, or a dict by output name",
            )
        given = [list(_mentioned(given))] * len(names)
    return [list(_mentioned(one)) for one in given]
