"""What the search for mistakes looks at: a model, its ledger, and its runs in both phases, followed once each."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tally.accounting.ledger import Ledger
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.tracing.flow import Flow, carry
from tally.tracing.following import Use, follow

_BATCH = 58
"""Stands for the batch: a size that few weights begin with, and that halves."""


@dataclass
class Study:
    """A model under study.

    Attributes:
        root: The layer or model.
        ledger: Its account.
        layers: Each layer's path in the ledger.
        entries: The path of each variable's entry.
        x: One batch of inputs, if there is one.
        y: The targets that belong to it.
        inputs: Arguments to follow a call with, shapes in place of arrays; those of an earlier call unless given.
    """

    root: Layer
    ledger: Ledger
    layers: dict[Layer, str]
    entries: dict[Variable, str]
    x: Any = None
    y: Any = None
    inputs: Any = None

    @cached_property
    def training(self) -> Flow | None:
        """What flows in the training phase; None where no call can be followed."""
        return self._flow(training=True)

    @cached_property
    def predicting(self) -> Flow | None:
        """What flows in the inference phase."""
        return self._flow(training=False)

    def _flow(self, *, training: bool) -> Flow | None:
        try:
            run = follow(self.root, training=training, batch=_BATCH, inputs=self.inputs)
            return None if run is None else carry(run)
        # A call that can't be followed for made-up sizes tells by its own error when it is used.
        except Exception:
            return None

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The flows that there are."""
        return tuple(flow for flow in (self.training, self.predicting) if flow is not None)

    @cached_property
    def trainer(self) -> Any:
        """How the model is trained; None for a layer, and for a model that isn't compiled."""
        trainer = getattr(self.root, "_trainer", None)
        return trainer if trainer is not None and trainer.compiled else None

    def path(self, layer: Layer | None) -> str:
        """A layer's path; the root's for one that the ledger doesn't list."""
        return self.layers.get(layer, "") if layer is not None else ""

    def told(self, layer: Layer) -> str:
        """A layer in words, such as `Dense 'head'`."""
        return f"{type(layer).__name__} '{self.path(layer) or layer.name}'"

    def uses(self, layer: Layer) -> list[Use]:
        """The calls of a layer in a run of each phase."""
        return self._uses.get(layer, [])

    @cached_property
    def _uses(self) -> dict[Layer, list[Use]]:
        found: dict[Layer, list[Use]] = defaultdict(list)
        for use in (use for flow in self.flows for use in flow.run.uses):
            found[use.layer].append(use)
        return dict(found)
