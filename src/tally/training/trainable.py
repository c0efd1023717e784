"""What a model can do once it can be trained: the methods that a user calls or overrides, forwarded to its trainer."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from tally.core.errors import cut_trace
from tally.metrics import Metric
from tally.training.trainer import Trainer

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _forwarded(method: Callable[Concatenate[Trainer, _P], _R]) -> Callable[Concatenate[Any, _P], _R]:
    """A method of the model that is one of its trainer, with its signature and documentation."""

    @functools.wraps(method)
    def run(self: Any, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(self._trainer, *args, **kwargs)
        except Exception as error:
            raise cut_trace(error)  # noqa: B904 - the same error, with the user's own frames alone

    return run


class Trainable:
    """The training side of a model. Whatever holds a `Trainer` as `_trainer` has it by inheriting from this."""

    _trainer: Trainer
    stop_training = False
    stop_evaluating = False
    stop_predicting = False

    compile = _forwarded(Trainer.compile)
    fit = _forwarded(Trainer.fit)
    evaluate = _forwarded(Trainer.evaluate)
    predict = _forwarded(Trainer.predict)
    train_on_batch = _forwarded(Trainer.train_on_batch)
    test_on_batch = _forwarded(Trainer.test_on_batch)
    predict_on_batch = _forwarded(Trainer.predict_on_batch)
    reset_metrics = _forwarded(Trainer.reset_metrics)
    get_metrics_result = _forwarded(Trainer.results)
    compile_from_config = _forwarded(Trainer.compile_from_config)

    def _look_before_training(self, source: Any) -> None:
        """Called by `fit` before its first step, when all is built."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The scalar that training minimises: the compiled losses and the added ones. May be overridden.

        Args:
            x: Inputs of a batch.
            y: Targets.
            y_pred: Outputs.
            sample_weight: Weights of the examples, or None.
            training: Whether a training step asks.
        """
        del training
        return self._trainer.compute_loss(x, y, y_pred, sample_weight)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Take a batch into the compiled metrics, and give the name and value of every metric. May be overridden.

        Args:
            x: Inputs of a batch.
            y: Targets.
            y_pred: Outputs.
            sample_weight: Weights of the examples, or None.
        """
        del x
        return self._trainer.compute_metrics(y, y_pred, sample_weight)

    @property
    def optimizer(self) -> Any:
        """The optimizer given to `compile`."""
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        self._trainer.optimizer = value

    @property
    def loss(self) -> Any:
        """The loss given to `compile`."""
        return self._trainer.loss

    @loss.setter
    def loss(self, value: Any) -> None:
        self._trainer.loss = value

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._trainer.compiled

    @property
    def metrics(self) -> list[Metric]:
        """The metrics of `compile`, and those held by the model and its layers."""
        return self._trainer.metrics

    @property
    def metrics_names(self) -> list[str]:
        """Names of the metrics."""
        return [metric.name for metric in self.metrics]

    @property
    def metrics_variables(self) -> list[Any]:
        """What the metrics collect in."""
        return list(dict.fromkeys(v for metric in self.metrics for v in metric.variables))

    @property
    def steps_per_execution(self) -> int:
        """How many steps one compiled call makes."""
        return self._trainer.steps_per_execution

    @property
    def run_eagerly(self) -> bool:
        """Whether steps run layer by layer in Python."""
        return self._trainer.run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._trainer.run_eagerly = value

    @property
    def jit_compile(self) -> bool:
        """Whether steps are compiled."""
        return self._trainer.is_jitted

    @jit_compile.setter
    def jit_compile(self, value: bool) -> None:
        self._trainer.jit_compile = value

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` was given, as JSON-able values; None before."""
        return self._trainer.get_config()
