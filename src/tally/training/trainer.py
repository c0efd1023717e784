"""Compile, fit, evaluate and predict for a model that is handed in."""

from typing import Any

import jax
import numpy as np

from tally import optimizers as optimizer_room
from tally.callbacks import Callback, CallbackList, History
from tally.core import tracking
from tally.core.errors import ArgumentError, DataError, UnbuiltError, cut_trace
from tally.core.random import next_key
from tally.core.registry import deserialize, serialize
from tally.core.symbol import KerasTensor, leaves, map_tree
from tally.core.variable import as_array, materialize
from tally.metrics import Mean, Metric
from tally.training import health as health_room
from tally.training.data import adapt, split_validation
from tally.training.objective import Losses, Metrics, name_outputs
from tally.training.step import (
    State,
    make_predict_step,
    make_test_step,
    make_train_step,
    several,
    stack,
)


class Trainer:
    """Trains, tests and applies a model; `Model.compile`, `fit`, `evaluate` and `predict` forward here."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.compiled = False
        self.optimizer: Any = None
        self.loss: Any = None
        self.steps_per_execution = 1
        self._arguments: dict[str, Any] = {}
        self._losses = Losses(None, None, None)
        self._metrics = Metrics(None, None, None)
        self._loss_tracker: Mean | None = None
        self._part_trackers: dict[str, Mean] = {}
        self._parts: dict[str, Any] = {}
        self._functions: dict[Any, Any] = {}
        self._state: State | None = None
        self._jit = True

    # -- compile -------------------------------------------------------------------------------------------------------
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *,
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
        """
        given = optimizer_room.get(optimizer)
        if auto_scale_loss and self.model.dtype_policy.name == "mixed_float16":
            scaled = getattr(optimizer_room, "LossScaleOptimizer", None)
            if scaled is not None and not isinstance(given, scaled):
                given = scaled(given)
        self.optimizer, self.loss = given, loss
        names = self.model.output_names if getattr(self.model, "_graph", None) is not None else None
        self._losses = Losses(loss, loss_weights, names)
        self._metrics = Metrics(metrics, weighted_metrics, names)
        self._loss_tracker = Mean(name="loss")
        self._part_trackers = {}
        self.steps_per_execution = int(steps_per_execution)
        self._jit = not run_eagerly and jit_compile is not False
        self._functions, self.compiled = {}, True
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
        for one in [loss] if isinstance(loss, str) else []:
            self._losses.functions = []
            from tally import losses as loss_room

            loss_room.get(one)  # an unknown name is told here, at the user's line, not at the first batch

    def get_config(self) -> dict[str, Any] | None:
        """The arguments of `compile` as JSON-able values."""
        if not self.compiled:
            return None
        return {name: serialize(value) for name, value in self._arguments.items()}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile with stored arguments."""
        known = {name: deserialize(value) for name, value in config.items() if name in _COMPILE_ARGUMENTS}
        self.compile(**known)
        if self.model.built:
            self.optimizer.build(self.model.trainable_variables)

    def _check_compiled(self, verb: str, *, needs_optimizer: bool = False) -> None:
        if not self.compiled or (needs_optimizer and self.optimizer is None):
            raise UnbuiltError(
                f"'{self.model.name}' must be compiled before {verb}.",
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
            total = loss if total is None else total + loss.astype(total.dtype)
        return total

    def take_parts(self) -> dict[str, Any]:
        """Each output's loss of the step in hand."""
        parts, self._parts = self._parts, {}
        return parts

    def update_metrics(
        self, x: Any, y: Any, y_pred: Any, weight: Any, loss: Any, parts: dict[str, Any]
    ) -> None:
        """Take a batch into account."""
        size = next(leaf.shape[0] for leaf in leaves(x) if leaf is not None and np.ndim(leaf))
        assert self._loss_tracker is not None
        self._loss_tracker.update_state(loss, sample_weight=size)
        for name, value in parts.items():
            self._part_trackers[name].update_state(value, sample_weight=size)
        self._metrics.update(y, y_pred, weight, self._losses)

    def compute_metrics(self) -> dict[str, Any]:
        """Label -> value of every metric."""
        assert self._loss_tracker is not None
        logs = {"loss": self._loss_tracker.result()}
        logs.update({name: tracker.result() for name, tracker in self._part_trackers.items()})
        logs.update(self._metrics.results())
        compiled = set(map(id, self._metrics.all))
        for metric in self._held_metrics():
            if id(metric) not in compiled:
                logs[metric.name] = metric.result()
        return logs

    def _held_metrics(self) -> list[Metric]:
        found = {}
        for layer in self.model._flatten_layers():
            for _, metric in tracking.find(layer._attributes(), lambda value: isinstance(value, Metric)):
                found[id(metric)] = metric
        return list(found.values())

    @property
    def metrics(self) -> list[Metric]:
        """The loss tracker, the compiled metrics and those that layers hold."""
        tracker = [self._loss_tracker] if self._loss_tracker is not None else []
        every = [*tracker, *self._part_trackers.values(), *self._metrics.all, *self._held_metrics()]
        return list({id(metric): metric for metric in every}.values())

    # -- getting ready -------------------------------------------------------------------------------------------------
    def _build_for(self, batch: Any, *, losses: bool = True) -> None:
        """Build what is not built yet from the first batch: layers, losses, metrics, optimizer."""
        x, y, _ = batch

        def symbol(leaf: Any) -> Any:
            return KerasTensor((None, *np.shape(leaf)[1:]), leaf.dtype.name) if leaf is not None else None

        model = self.model
        unbuilt = [layer for layer in model._flatten_layers() if not layer.built]
        ready = not losses or (self._metrics.built and self._losses.output_names)
        if unbuilt or not ready:
            y_pred = model.compute_output_spec(map_tree(symbol, x))
            if losses and not ready:
                self._losses.names = self._losses.names or None
                self._losses.build(y_pred)
                if len(self._losses.output_names) > 1:
                    self._part_trackers = {
                        f"{name}_loss": Mean(name=f"{name}_loss")
                        for name, function in zip(
                            self._losses.output_names, self._losses.functions, strict=True
                        )
                        if function is not None
                    }
                self._metrics.build(y, y_pred, self._losses)

    def _make_state(self, *, optimizer: bool) -> State:
        model = self.model
        trainable = model.trainable_variables
        inside = set(trainable)
        fixed = [v for v in model.variables if v not in inside]
        slots: list[Any] = []
        if optimizer:
            if not getattr(self.optimizer, "built", False):
                self.optimizer.build(trainable)
            slots = list(self.optimizer.variables)
        measures = list(dict.fromkeys(v for metric in self.metrics for v in metric.variables))
        taken = {*trainable, *fixed}
        state = State(trainable, fixed, slots, [v for v in measures if v not in taken])
        materialize([v for group in state.groups for v in group])
        return state

    def _compiled(self, kind: str, state: State) -> Any:
        """The step of a kind, compiled anew only when the variables or their roles have changed."""
        if kind == "train" and not state.groups[0]:
            health_room.warn_nothing_to_train(self.model)
        identity = (kind, tuple(tuple(group) for group in state.groups))
        if identity not in self._functions:
            made = {"train": make_train_step, "test": make_test_step, "predict": make_predict_step}[kind](
                self, state
            )
            if kind == "train" and self.steps_per_execution > 1:
                one, many = made, several(made, self.steps_per_execution)
                self._functions[identity] = (self._jitted(one, kind), self._jitted(many, kind))
            else:
                self._functions[identity] = (self._jitted(made, kind), None)
        return self._functions[identity]

    def _jitted(self, function: Any, kind: str) -> Any:
        if not self._jit:
            return function
        return jax.jit(function, donate_argnums={"train": (0, 1, 2, 3, 4), "test": (2,), "predict": ()}[kind])

    # -- fit -----------------------------------------------------------------------------------------------------------
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: list[Callback] | CallbackList | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
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
            validation_split: Fraction of the arrays, taken from their end before shuffling, to measure on after each epoch.
            validation_data: `(x, y)` or `(x, y, weight)`, or any source, to measure on after each epoch.
            shuffle: Whether arrays are shuffled before each epoch.
            class_weight: Class -> weight of its examples in the loss.
            sample_weight: Weight of each example in the loss.
            initial_epoch: Epoch to start from, when training goes on.
            steps_per_epoch: Steps that make an epoch; needed for endless generators.
            validation_steps, validation_batch_size, validation_freq: The same for validation, and every how many epochs.

        Returns:
            A `History`, whose `history` maps each measure to its values by epoch.

        Raises:
            DataError: The data don't fit together or don't fit the model.
            NonFiniteError: A loss became NaN or infinite; the weights stay those of the last good step.
        """
        self._check_compiled("fit", needs_optimizer=True)
        try:
            if validation_split and validation_data is None:
                (x, y, sample_weight), validation_data = split_validation(
                    x, y, sample_weight, validation_split
                )
            source = adapt(
                x,
                y,
                sample_weight,
                batch_size=batch_size,
                steps_per_epoch=steps_per_epoch,
                shuffle=shuffle,
                class_weight=class_weight,
            )
            validation = None
            if validation_data is not None:
                validation = self._adapt_validation(
                    validation_data, validation_batch_size or batch_size, validation_steps
                )
            return self._fit(source, validation, epochs, initial_epoch, verbose, callbacks, validation_freq)
        except Exception as error:
            raise cut_trace(error)

    @staticmethod
    def _adapt_validation(data: Any, batch_size: int | None, steps: int | None) -> Any:
        if isinstance(data, (tuple, list)):
            if len(data) not in (2, 3):
                raise DataError(
                    f"validation_data has {len(data)} parts.",
                    do="pass (x, y), (x, y, sample_weight), or a data source",
                )
            x, y, weight = (*data, None)[:3]
            return adapt(x, y, weight, batch_size=batch_size, steps_per_epoch=steps)
        return adapt(data, batch_size=batch_size, steps_per_epoch=steps)

    def _fit(
        self,
        source: Any,
        validation: Any,
        epochs: int,
        start: int,
        verbose: Any,
        callbacks: Any,
        validation_freq: Any,
    ) -> History:
        model = self.model
        model.stop_training = False
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks,
                add_history=True,
                add_progbar=verbose != 0,
                model=model,
                verbose=verbose,
                epochs=epochs,
                steps=source.steps,
            )
        run = _Run(self, callbacks)
        callbacks.on_train_begin()
        logs: dict[str, Any] = {}
        try:
            for epoch in range(start, epochs):
                self._reset_metrics()
                callbacks.on_epoch_begin(epoch)
                logs = run.epoch(source, epoch)
                if validation is not None and _is_due(epoch, validation_freq):
                    kept = self._state
                    measured = self._evaluate(validation, None)
                    self._state = kept
                    logs.update({f"val_{name}": value for name, value in measured.items()})
                callbacks.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
        finally:
            run.close()
            source.close()
            if validation is not None:
                validation.close()
        if hasattr(self.optimizer, "finalize_variable_values"):
            self.optimizer.finalize_variable_values(model.trainable_variables)
        callbacks.on_train_end(logs)
        return callbacks.history

    def _reset_metrics(self) -> None:
        for metric in self.metrics:
            metric.reset_state()

    # -- evaluate and predict ------------------------------------------------------------------------------------------
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *,
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
        try:
            source = adapt(x, y, sample_weight, batch_size=batch_size, steps_per_epoch=steps)
            if not isinstance(callbacks, CallbackList):
                callbacks = CallbackList(
                    callbacks,
                    add_progbar=verbose != 0,
                    model=self.model,
                    verbose=verbose,
                    epochs=1,
                    steps=source.steps,
                )
            callbacks.on_test_begin()
            logs = self._evaluate(source, callbacks)
            callbacks.on_test_end(logs)
            source.close()
        except Exception as error:
            raise cut_trace(error)
        return logs if return_dict else self._as_list(logs)

    @staticmethod
    def _as_list(logs: dict[str, float]) -> Any:
        ordered = [logs["loss"], *(value for name, value in logs.items() if name != "loss")]
        return ordered[0] if len(ordered) == 1 else ordered

    def _evaluate(self, source: Any, callbacks: CallbackList | None) -> dict[str, float]:
        self._reset_metrics()
        state, step, logs = None, None, {}
        source.on_epoch_begin()
        for index, batch in enumerate(source.batches()):
            if state is None:
                self._build_for(batch)
                state = self._state or self._make_state(optimizer=False)
                step, _ = self._compiled("test", state)
                t, s, o, m = state.values
                m = [jax.numpy.array(value, copy=True) for value in m]
            if callbacks is not None:
                callbacks.on_test_batch_begin(index)
            m, logs = step(t, s, m, _with_dtypes(batch))  # type: ignore[misc]
            state.exchange(t, s, o, m)  # type: ignore[possibly-undefined]
            if callbacks is not None:
                callbacks.on_test_batch_end(index, logs)
        if state is None:
            raise DataError(
                "There is no data to evaluate on.", do="check that the source yields at least one batch"
            )
        source.on_epoch_end()
        return _pythonic(logs)

    def predict(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Compute the outputs for data, batch by batch.

        Returns:
            NumPy arrays in the structure of the model's outputs.
        """
        try:
            source = adapt(x, batch_size=batch_size, steps_per_epoch=steps)
            if not isinstance(callbacks, CallbackList):
                callbacks = CallbackList(
                    callbacks,
                    add_progbar=verbose != 0,
                    model=self.model,
                    verbose=verbose,
                    epochs=1,
                    steps=source.steps,
                )
            callbacks.on_predict_begin()
            state, step, made = None, None, []
            for index, batch in enumerate(source.batches()):
                if state is None:
                    self._build_for(batch, losses=False)
                    state = self._state or self._make_state(optimizer=False)
                    step, _ = self._compiled("predict", state)
                    t, s, _, _ = state.values
                callbacks.on_predict_batch_begin(index)
                outputs = step(t, s, _arrays(batch[0]))  # type: ignore[misc, possibly-undefined]
                made.append(outputs)
                callbacks.on_predict_batch_end(index, {"outputs": outputs})
            callbacks.on_predict_end()
            source.close()
        except Exception as error:
            raise cut_trace(error)
        if not made:
            raise DataError(
                "There is no data to predict on.", do="check that the source yields at least one batch"
            )
        return jax.tree.map(lambda *parts: np.concatenate([np.asarray(p) for p in parts]), *made)

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
        try:
            batch = self._one_batch(x, y, sample_weight, class_weight)
            run = _Run(self, CallbackList([], model=self.model, verbose=0, epochs=1, steps=1))
            try:
                logs = run.steps([batch])
                run.check([batch], 0)
            finally:
                run.close()
        except Exception as error:
            raise cut_trace(error)
        logs = _pythonic(logs)
        return logs if return_dict else self._as_list(logs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Loss and metrics on one batch, going on from earlier batches until `reset_metrics`."""
        self._check_compiled("test_on_batch")
        try:
            batch = self._one_batch(x, y, sample_weight, None)
            self._build_for(batch)
            state = self._make_state(optimizer=False)
            step, _ = self._compiled("test", state)
            t, s, o, m = state.values
            m, logs = step(t, s, [jax.numpy.array(value, copy=True) for value in m], _with_dtypes(batch))
            state.exchange(t, s, o, m)
        except Exception as error:
            raise cut_trace(error)
        logs = _pythonic(logs)
        return logs if return_dict else self._as_list(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """Outputs for one batch, as NumPy arrays."""
        batch = (map_tree(lambda leaf: None if leaf is None else as_array(leaf), x), None, None)
        self._build_for(batch, losses=False)
        state = self._make_state(optimizer=False)
        step, _ = self._compiled("predict", state)
        t, s, _, _ = state.values
        return jax.tree.map(np.asarray, step(t, s, batch[0]))

    @staticmethod
    def _one_batch(x: Any, y: Any, sample_weight: Any, class_weight: Any) -> Any:
        size = next(np.shape(leaf)[0] for leaf in leaves(x) if leaf is not None)
        source = adapt(x, y, sample_weight, batch_size=size, class_weight=class_weight)
        return next(iter(source.batches()))


class _Run:
    """The steps of one `fit`: compiled function, borrowed state, and what must hold after every step."""

    def __init__(self, trainer: Trainer, callbacks: CallbackList) -> None:
        self.trainer, self.callbacks = trainer, callbacks
        self.state: State | None = None
        self.health: Any = None
        self.seed = np.uint32(next_key().integer())
        self.recent: list[Any] = []
        self.watch = health_room.Watch()

    def _start(self, batch: Any) -> None:
        trainer = self.trainer
        trainer._build_for(batch)
        self.state = trainer._state = trainer._make_state(optimizer=True)
        self.one, self.many = trainer._compiled("train", self.state)
        self.state.borrow()
        self.health = jax.numpy.array([0, -1], dtype="int32")

    def epoch(self, source: Any, epoch: int) -> dict[str, float]:
        """All steps of an epoch; gives its logs."""
        logs: dict[str, Any] = {}
        source.on_epoch_begin()
        index = 0
        for batches in self._grouped(source.batches()):
            self.callbacks.on_train_batch_begin(index)
            logs = self.steps(batches)
            index += len(batches)
            self.recent.extend(batches)
            if self.watch.is_due(len(self.recent)):
                self.check(self.recent, epoch)
            self.callbacks.on_train_batch_end(index - 1, logs)
            if self.trainer.model.stop_training:
                break
        if not index:
            raise DataError(
                "There is no data to train on.", do="check that the source yields at least one batch"
            )
        source.on_epoch_end()
        self.check(self.recent, epoch)
        return _pythonic(logs)

    def _grouped(self, batches: Any) -> Any:
        """Batches one by one, or so many as one execution takes."""
        size = self.trainer.steps_per_execution
        if size == 1:
            for batch in batches:
                yield [batch]
            return
        group: list[Any] = []
        for batch in batches:
            if group and _shapes(batch) != _shapes(group[0]):
                yield from ([one] for one in group)
                group = []
            group.append(batch)
            if len(group) == size:
                yield group
                group = []
        yield from ([one] for one in group)

    def steps(self, batches: list[Any]) -> dict[str, Any]:
        """Run the compiled step on a batch, or on several stacked ones."""
        if self.state is None:
            self._start(batches[0])
        state = self.state
        assert state is not None
        batch = _with_dtypes(batches[0] if len(batches) == 1 else stack(batches))
        step = self.one if len(batches) == 1 else self.many
        with (
            health_room.whole_steps()
        ):  # Ctrl-C between giving the old values away and holding the new ones would lose both
            *groups, health, logs = step(*state.values, self.health, self.seed, batch)
            state.exchange(*groups)
            self.health = health
        return logs

    def check(self, recent: list[Any], epoch: int) -> None:
        """Stop when a loss was not finite, and say where it came from.

        Raises:
            NonFiniteError: With the layer, the step and what to do.
        """
        made, bad = (int(number) for number in np.asarray(self.health))
        if bad >= 0:
            first = made - len(recent)
            batch = recent[bad - first] if 0 <= bad - first < len(recent) else recent[-1]
            self.callbacks_know = [type(c).__name__ for c in self.callbacks.callbacks]
            if "TerminateOnNaN" not in self.callbacks_know:
                self.close()
                health_room.explain_bad_step(self.trainer, batch, step=bad, epoch=epoch)
            self.trainer.model.stop_training = True
        recent.clear()

    def close(self) -> None:
        """Write the values back into the variables."""
        if self.state is not None:
            self.state.settle()
        self.trainer._state = None


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


def _is_due(epoch: int, frequency: int | list[int]) -> bool:
    return (epoch + 1) % frequency == 0 if isinstance(frequency, int) else (epoch + 1) in frequency


def _shapes(batch: Any) -> list[Any]:
    return [None if leaf is None else np.shape(leaf) for leaf in leaves(batch)]


def _arrays(structure: Any) -> Any:
    return map_tree(
        lambda leaf: (
            None if leaf is None else leaf if isinstance(leaf, (np.ndarray, jax.Array)) else as_array(leaf)
        ),
        structure,
    )


def _with_dtypes(batch: Any) -> Any:
    return _arrays(batch)


def _pythonic(logs: dict[str, Any]) -> dict[str, Any]:
    """Logs as Python numbers, in alphabetical order as Keras has them."""
    found = {name: np.asarray(value) for name, value in logs.items()}
    return {name: float(found[name]) if found[name].ndim == 0 else found[name] for name in sorted(found)}


_ = name_outputs
