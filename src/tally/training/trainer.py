"""Compile, fit, evaluate and predict for a model that is handed in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from tally import optimizers as optimizer_room
from tally.callbacks import Callback, CallbackList, History
from tally.callbacks.base import as_numbers
from tally.core import process, tracking
from tally.core.errors import ArgumentError, DataError, UnbuiltError, users_line
from tally.core.holding import numbers
from tally.core.random import next_key
from tally.core.registry import deserialize, serialize
from tally.core.symbol import KerasTensor, leaves, map_tree
from tally.core.variable import Values, Variable, materialize, substitute
from tally.kernels.finishing import with_finished_convolutions
from tally.metrics import Mean, Metric
from tally.training import loop, reading
from tally.training.cutting import largest_kernel
from tally.training.data import DataSource, adapt, split_validation
from tally.training.health import Interrupts, warn_nothing_to_train
from tally.training.objective import Losses, Metrics, check_names, settled
from tally.training.resuming import Run
from tally.training.step import DONATED, MAKERS, Plan, State, Steps, forward


class Trainer:
    """Trains, tests and applies a model; `Model.compile`, `fit`, `evaluate` and `predict` forward here."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.compiled = False
        self.optimizer: Any = None
        self.loss: Any = None
        self.steps_per_execution = 1
        self.run_eagerly = False
        self.jit_compile: bool | str = "auto"
        self._arguments: dict[str, Any] = {}
        self._losses = Losses(None, None)
        self._metrics = Metrics(None, None)
        self._loss_tracker: Mean | None = None
        self._part_trackers: dict[str, Mean] = {}
        self._parts: dict[str, Any] = {}
        self._functions: dict[Any, Any] = {}
        self._plans: dict[str, Plan] = {}
        self.run: Run | None = None
        """The `fit` that is under way."""
        self.left_off: tuple[bytes, Any] | None = None
        """Where the run stood that the model's file was saved in, and that file; the next `fit` may go on from it."""
        self.compiled_at: str | None = None
        self.looked_at = 0
        """The compilation before whose first step mistakes were looked for."""
        self.compiled_number = 0
        """When that was: its place among all that came about."""
        self.compiled_with: dict[Variable, bool] = {}
        """The model's variables then, and whether they were to be trained."""

    # -- compile -------------------------------------------------------------------------------------------------------
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Say how to train.

        Args:
            optimizer: Name, `Optimizer`, or an `optax.GradientTransformation`.
            loss: Name, function or `Loss`; a list or a dict by output name for several outputs.
            loss_weights: A factor per output's loss, in a list or a dict.
            metrics: Names, functions or `Metric`s; per output for several.
            weighted_metrics: The same, taking `sample_weight` and `class_weight` into account.
            run_eagerly: Run layer by layer in Python, so that a debugger can step through `call`.
            steps_per_execution: How many batches one compiled call handles.
            jit_compile: False runs without compiling.
            auto_scale_loss: Scale the loss dynamically under a `mixed_float16` policy.

        Raises:
            ArgumentError: A name is unknown, or a number makes no sense.
        """
        if not isinstance(steps_per_execution, (int, np.integer)) or steps_per_execution < 1:
            raise ArgumentError(f"steps_per_execution is {steps_per_execution!r}.", do="pass 1 or more")
        check_names(loss, metrics, weighted_metrics)
        self._refuse_own_steps()
        given = optimizer_room.get(optimizer)
        if auto_scale_loss and self.model.dtype_policy.name == "mixed_float16" and given is not None:
            is_scaled = isinstance(given, optimizer_room.LossScaleOptimizer)
            given = given if is_scaled else optimizer_room.LossScaleOptimizer(given)
        self.optimizer, self.loss = given, loss
        self._losses = Losses(loss, loss_weights)
        self._metrics = Metrics(metrics, weighted_metrics)
        self._loss_tracker = Mean(name="loss")
        self._part_trackers = {}
        self.steps_per_execution = int(steps_per_execution)
        self.run_eagerly, self.jit_compile = run_eagerly, jit_compile
        self.compiled_at = users_line()
        self._functions, self._plans, self.compiled = {}, {}, True
        self.compiled_number = next(numbers)
        trainable = self.model._trainable()
        self.compiled_with = {variable: variable in trainable for variable in self.model.variables}
        self._arguments = {
            "optimizer": given,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
        }

    def _refuse_own_steps(self) -> None:
        """Say at once that a step of the user's own would never run, rather than train with another."""
        for name in ("train_step", "test_step", "predict_step"):
            if hasattr(type(self.model), name):
                raise ArgumentError(
                    f"{type(self.model).__name__} defines {name}, which fit, evaluate and predict don't call.",
                    where=f"model '{self.model.name}' made at {self.model.made_at}",
                    do="override compute_loss or compute_metrics; for another kind of step write the loop yourself "
                    "with model.stateless_call, jax.grad and optimizer.stateless_apply",
                )

    def get_config(self) -> dict[str, Any] | None:
        """The arguments of `compile` as JSON-able values."""
        if not self.compiled:
            return None
        return {name: serialize(value) for name, value in self._arguments.items()}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile with stored arguments."""
        known = {name: deserialize(value) for name, value in config.items() if name in _COMPILE_ARGUMENTS}
        self.model.compile(**known)
        if self.model.built and self.optimizer is not None:
            self.optimizer.build(self.model.trainable_variables)

    @property
    def is_jitted(self) -> bool:
        """Whether steps are compiled."""
        return not self.run_eagerly and self.jit_compile is not False

    def _check_compiled(self, verb: str, *, needs_optimizer: bool = False) -> None:
        if not self.compiled or (needs_optimizer and self.optimizer is None):
            raise UnbuiltError(
                f"'{self.model.name}' must be compiled {'with an optimizer ' * self.compiled}before {verb}.",
                where=f"made at {self.model.made_at}",
                do='call model.compile(optimizer="adam", loss=..., metrics=[...]) first',
            )

    # -- losses and metrics, called inside a step ----------------------------------------------------------------------
    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The compiled losses' weighted sum and the added and regularization losses."""
        del x
        total: Any = None
        if self.loss is not None:
            total, self._parts = self._losses(y, y_pred, sample_weight)
        added = self.model.losses
        if total is None and not added:
            raise ArgumentError(
                f"There is nothing to minimise: '{self.model.name}' was compiled without a loss and adds none.",
                where=f"made at {self.model.made_at}",
                do="pass loss= to compile, or call self.add_loss(...) in a layer",
            )
        for loss in added:
            loss = loss.sum().astype("float32" if total is None else total.dtype)
            total = loss if total is None else total + loss
        return total

    def losses_by_output(self, count: int) -> list[Any]:
        """The loss of each output, as far as it is settled before there are targets; None where there is none.

        Args:
            count: How many outputs the model has.
        """
        if self.loss is None:
            return [None] * count
        if self._losses.functions:
            return list(self._losses.functions)
        graph = getattr(self.model, "_graph", None)
        names = self.model.output_names if graph is not None else [f"output_{i}" for i in range(count)]
        return settled(self.loss, names)

    def take_parts(self) -> dict[str, Any]:
        """Each output's loss of the step in hand."""
        parts, self._parts = self._parts, {}
        return parts

    def track_loss(self, x: Any, loss: Any, parts: dict[str, Any]) -> None:
        """Take a batch's loss, and each output's, into their means."""
        size = next(leaf.shape[0] for leaf in leaves(x) if leaf is not None)
        if self._loss_tracker is not None:
            self._loss_tracker.update_state(loss, sample_weight=size)
        for name, value in parts.items():
            self._part_trackers[name].update_state(value, sample_weight=size)

    def compute_metrics(self, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, Any]:
        """Take a batch into the compiled metrics; gives the label and value of every metric."""
        self._metrics.update(y, y_pred, sample_weight, self._losses)
        return self.results()

    def results(self) -> dict[str, Any]:
        """Label -> value of every metric."""
        logs: dict[str, Any] = {}
        compiled = self._metrics.all
        for metric in self.model.metrics:
            if metric not in compiled:
                value = metric.result()
                logs.update(value if isinstance(value, dict) else {metric.name: value})
        return {**logs, **self._metrics.results()}

    @property
    def metrics(self) -> list[Metric]:
        """The loss tracker, the compiled metrics, those by output, and those that the model and its layers hold."""
        own = [self._loss_tracker] if self._loss_tracker is not None else []
        every = [*own, *self._metrics.all, *self._part_trackers.values(), *self._held_metrics()]
        return list({id(metric): metric for metric in every}.values())

    def _held_metrics(self) -> Iterator[Metric]:
        for layer in self.model._flatten_layers():
            if layer is self.model or not hasattr(layer, "_trainer"):  # a model inside measures itself
                for _, metric in tracking.find(layer._attributes(), lambda value: isinstance(value, Metric)):
                    yield metric

    def reset_metrics(self) -> None:
        """Begin anew with every metric."""
        for metric in self.model.metrics:
            metric.reset_state()

    # -- getting ready -------------------------------------------------------------------------------------------------
    def _prepare(self, source: DataSource, *, objective: bool = True) -> None:
        """Build from the first batch what is not built yet: layers, losses, metrics."""
        self._plans = {}
        is_built = all(layer.built for layer in self.model._flatten_layers())
        if not is_built or (objective and not self._metrics.built):
            self._build_for(source.peek(), objective=objective)

    def _build_for(self, batch: Any, *, objective: bool = True) -> None:
        model = self.model

        def symbol(leaf: Any) -> Any:
            return KerasTensor((None, *leaf.shape[1:]), leaf.dtype.name) if leaf is not None else None

        if not all(layer.built for layer in model._flatten_layers()):
            model.compute_output_spec(map_tree(symbol, batch[0]))
        if objective and not self._metrics.built:
            if self.is_jitted:
                with substitute(Values(abstract=True)):
                    jax.eval_shape(self._build_objective, batch)
            else:
                with substitute(Values()):
                    self._build_objective(batch)

    def _build_objective(self, batch: Any) -> None:
        """Bring losses and metrics together with outputs and targets; metrics plan what they collect in."""
        x, y, weight = batch
        y_pred = forward(self, x, training=False)
        self.model._clear_losses()
        names = self.model.output_names if getattr(self.model, "_graph", None) is not None else None
        self._losses.build(y, y_pred, names)
        self._part_trackers = {name: Mean(name=name) for name in self._losses.part_names}
        self._metrics.build(y, y_pred, self._losses)
        self.model.compute_metrics(x, y, y_pred, weight)

    def plan(self, kind: str, batch: Any = None) -> Plan:
        """The step of a kind, `"train"`, `"test"` or `"predict"`, ready to run; made anew only when that is needed.

        Args:
            kind: Which step.
            batch: What to build from if something is not built yet.
        """
        kept = self._plans.get(kind)
        if kept is None or kept.signature != self._signature(kind, kept):
            if batch is not None:
                self._build_for(batch, objective=kind != "predict")
            state = self._make_state(kind)
            steps = self._compiled_steps(kind, state)
            metrics = self.model.metrics if kind != "predict" else []
            kept = Plan(state, steps, metrics, self.model._flatten_layers())
            kept.signature = self._signature(kind, kept)
            self._plans[kind] = kept
        return kept

    def _signature(self, kind: str, plan: Plan) -> Any:
        """What a plan depends on, as far as it can be told without looking through the whole model."""
        constants = (self.optimizer, self.optimizer._constants()) if kind == "train" else None
        layers = [(layer.trainable, layer.built, len(vars(layer))) for layer in plan.layers]
        roles = [variable.trainable for variable in plan.state.model]
        return constants, self.is_jitted, self.steps_per_execution, layers, roles

    def _make_state(self, kind: str) -> State:
        """The model's variables by role, as things stand now, all with values."""
        model = self.model
        trainable = model.trainable_variables
        roles: dict[Variable, None] = dict.fromkeys(trainable)
        fixed = _others(model.variables, roles)
        slots: list[Variable] = []
        if kind == "train" and trainable:
            if not self.optimizer.built:
                self.optimizer.build(trainable)
            slots = _others(self.optimizer.variables, roles)
        measures: list[Variable] = []
        if kind != "predict":
            measures = _others((v for metric in model.metrics for v in metric.variables), roles)
        state = State(trainable, fixed, slots, measures)
        materialize(state.everything)
        return state

    def _compiled_steps(self, kind: str, state: State) -> Steps:
        """The step and its compiled forms; made anew only when what they take as given changes."""
        if kind == "train" and not state.trainable:
            warn_nothing_to_train(self.model)
        flags = tuple(layer.trainable for layer in self.model._flatten_layers())
        constants = (self.optimizer, self.optimizer._constants()) if kind == "train" else None
        identity = (kind, state.identity, flags, constants, self.is_jitted)
        if identity not in self._functions:
            step = MAKERS[kind](self, state)
            if kind != "train" and self.is_jitted and largest_kernel(self.model):
                step = with_finished_convolutions(step)
            self._functions[identity] = Steps(step, kind, self._jitted, joins=self.is_jitted)
        return self._functions[identity]

    def _jitted(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        if not self.is_jitted:
            return function
        options = process.compiler_options(
            is_training=kind == "train", largest_kernel=largest_kernel(self.model)
        )
        return jax.jit(function, donate_argnums=DONATED[kind], compiler_options=options or None)

    @contextmanager
    def _telling(
        self, callbacks: Any, source: DataSource, *, verbose: Any, epochs: int = 1, history: bool = False
    ) -> Iterator[CallbackList]:
        """The callbacks as a list that knows the run; told when it breaks off, and the source closed in any case."""
        model = self.model
        model.stop_training = model.stop_evaluating = model.stop_predicting = False
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks,
                add_history=history,
                add_progbar=verbose != 0,
                model=model,
                verbose=verbose,
                epochs=epochs,
                steps=source.steps,
            )
        try:
            yield callbacks
        except BaseException:
            callbacks.on_interrupt()
            raise
        finally:
            source.close()

    # -- fit -----------------------------------------------------------------------------------------------------------
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: list[Callback] | CallbackList | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | list[int] = 1,
    ) -> History:
        """Train for a number of passes over the data.

        Args:
            x: Arrays (first axis: examples), nested in tuples, lists or dicts for several inputs; or a generator,
                `PyDataset`, PyTorch `DataLoader`, `tf.data.Dataset` or grain loader that yields `(x, y[, weight])`.
            y: Targets, in the structure of the outputs.
            batch_size: Examples per step; 32 unless given.
            epochs: Number of the last epoch.
            verbose: 0 silent, 1 a progress bar, 2 one line per epoch, `"auto"` 1.
            callbacks: Objects of `tally.callbacks`.
            validation_split: Fraction of the arrays, taken from their end before shuffling, to measure on.
            validation_data: `(x, y)` or `(x, y, weight)`, or any source, to measure on after each epoch.
            shuffle: Whether arrays are shuffled before each epoch.
            class_weight: Class -> weight of its examples in the loss.
            sample_weight: Weight of each example in the loss.
            initial_epoch: Epoch to start from, when training goes on.
            steps_per_epoch: Steps that make an epoch; needed for endless generators.
            validation_steps: Steps that make a pass over the validation data.
            validation_batch_size: Examples per step of validation; `batch_size` unless given.
            validation_freq: Every how many epochs to measure, or a list of epochs counted from 1.

        Returns:
            A `History`, whose `history` maps each measure to its values by epoch.

        Raises:
            DataError: The data don't fit together or don't fit the model.
            NonFiniteError: A loss became NaN or infinite; the weights stay those of the last good step.
        """
        self._check_compiled("fit", needs_optimizer=True)
        loop.is_due(0, validation_freq)  # refuses what it doesn't understand before an epoch has passed
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_validation(x, y, sample_weight, validation_split)
        cut = {"batch_size": batch_size, "steps_per_epoch": steps_per_epoch, "shuffle": shuffle}
        source = adapt(x, y, sample_weight, class_weight=class_weight, **cut)
        validation = None
        if validation_data is not None:
            size = validation_batch_size or batch_size
            parts = _unpacked(validation_data)
            validation = adapt(*parts, batch_size=size, steps_per_epoch=validation_steps)
        self._prepare(source)
        self._losses.check_labels(y)
        self.model._look_before_training(source)
        with self._telling(callbacks, source, verbose=verbose, epochs=epochs, history=True) as told:
            when = {"epochs": epochs, "initial_epoch": initial_epoch, "validation_freq": validation_freq}
            loop.train(self, source, validation, told, **when)
        return told.history or History()

    def go_on(self, run: Run, first: int) -> None:
        """Go on where the run stood that the model's file was saved in, if that is the epoch asked for.

        Args:
            run: The `fit` that begins.
            first: The epoch it begins with.
        """
        left_off, self.left_off = self.left_off, None
        if left_off is not None and first > 0 and not run.goes_on:
            run.load(*left_off, first=first)

    # -- evaluate and predict ------------------------------------------------------------------------------------------
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Measure loss and metrics on data; arguments as in `fit`.

        Returns:
            The loss, or a list `[loss, metric, ...]`, or with `return_dict` a dict by name.
        """
        self._check_compiled("evaluate")
        source = adapt(x, y, sample_weight, batch_size=batch_size, steps_per_epoch=steps)
        self._prepare(source)
        with self._telling(callbacks, source, verbose=verbose) as told:
            logs = reading.test(self, source, told, seed=np.uint32(next_key().integer()))
        return logs if return_dict else _as_list(logs, self.model.metrics)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Compute the outputs for data, batch by batch.

        Returns:
            NumPy arrays in the structure of the model's outputs.
        """
        source = adapt(x, batch_size=batch_size, steps_per_epoch=steps)
        self._prepare(source, objective=False)
        with self._telling(callbacks, source, verbose=verbose) as told:
            made = reading.predict(self, source, told)
        if made is None:
            raise DataError("There is no data to predict on.", do="check that the source gives a batch")
        return made

    # -- single batches ------------------------------------------------------------------------------------------------
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One training step on one batch; returns the loss, or `[loss, metric, ...]`, or a dict."""
        self._check_compiled("train_on_batch", needs_optimizer=True)
        with Interrupts() as interrupts:
            batch = adapt(x, y, sample_weight, batch_size=_ALL, class_weight=class_weight).peek()
            training = loop.Training(self, interrupts)
            try:
                plan = training.begin(batch)
                for metric in plan.metrics:
                    metric.reset_state()
                logs = training.step(batch)
                training.check()
            finally:
                training.close()
        logs = as_numbers(jax.device_get(logs))
        return logs if return_dict else _as_list(logs, plan.metrics)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Loss and metrics on one batch, as in `train_on_batch`, without changing the model."""
        self._check_compiled("test_on_batch")
        source = adapt(x, y, sample_weight, batch_size=_ALL)
        plan = self.plan("test", source.peek())
        logs = reading.test(self, source, CallbackList([]), seed=np.uint32(next_key().integer()))
        return logs if return_dict else _as_list(logs, plan.metrics)

    def predict_on_batch(self, x: Any) -> Any:
        """Outputs for one batch, as NumPy arrays."""
        source = adapt(x, batch_size=_ALL)
        self.plan("predict", source.peek())
        return reading.predict(self, source, CallbackList([]))


_ALL = 2**62
"""A batch size that makes one batch of any data."""
_COMPILE_ARGUMENTS = frozenset(
    (
        "optimizer",
        "loss",
        "loss_weights",
        "metrics",
        "weighted_metrics",
        "run_eagerly",
        "steps_per_execution",
        "jit_compile",
    )
)


def _as_list(logs: dict[str, float], metrics: list[Metric]) -> Any:
    """Values in the order of the metrics, then the rest by name; a single one by itself."""
    first = dict.fromkeys(metric.name for metric in metrics if metric.name in logs)
    ordered = [logs[name] for name in (*first, *(name for name in sorted(logs) if name not in first))]
    return ordered[0] if len(ordered) == 1 else ordered


def _others(variables: Any, taken: dict[Variable, None]) -> list[Variable]:
    """Those not taken yet, once each; they are taken from now on."""
    found = [variable for variable in dict.fromkeys(variables) if variable not in taken]
    taken.update(dict.fromkeys(found))
    return found


def _unpacked(data: Any) -> Sequence[Any]:
    """Validation data as inputs, targets and weights."""
    if not isinstance(data, (tuple, list)):
        return (data,)
    if not 1 <= len(data) <= 3:
        raise DataError(
            f"validation_data has {len(data)} parts.",
            do="pass (x, y), (x, y, sample_weight), or a data source",
        )
    return data
