"""Neural networks on JAX with Keras's programming model, in which every parameter is accounted for and explained.

Names are loaded when first used, so that `import tally` is quick and what needs no JAX never waits for it.
"""

import gc
import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = (
    *(
        "accounting",
        "activations",
        "applications",
        "backend",
        "callbacks",
        "compat",
        "config",
        "constraints",
        "datasets",
    ),
    *(
        "dtype_policies",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "mixed_precision",
        "models",
        "ops",
        "optimizers",
        "random",
    ),
    *("readers", "regularizers", "report", "saving", "training", "tree", "utils"),
)
_NAMES = {
    "Functional": "tally.models",
    "Initializer": "tally.initializers",
    "Input": "tally.layers",
    "InputSpec": "tally.layers",
    "KerasTensor": "tally.core.symbol",
    "Layer": "tally.layers",
    "Ledger": "tally.accounting.ledger",
    "Loss": "tally.losses",
    "Metric": "tally.metrics",
    "Model": "tally.models",
    "Optimizer": "tally.optimizers",
    "Regularizer": "tally.regularizers",
    "Sequential": "tally.models",
    "Variable": "tally.core.variable",
    "DTypePolicy": "tally.core.dtype",
    "account": "tally.models.ledger",
    "check": "tally.models.verbs.check",
    "diagnose": "tally.models.verbs.diagnose",
    "diff": "tally.models.verbs.diff",
    "explain": "tally.models.verbs.explain",
    "name_scope": "tally.core.variable",
    "plan": "tally.models.verbs.plan",
    "summary": "tally.models.verbs.summary",
    "verify": "tally.models.verbs.verify",
    "what_if": "tally.models.verbs.what_if",
}

if TYPE_CHECKING:
    from tally import (
        accounting,
        activations,
        applications,
        backend,
        callbacks,
        compat,
        config,
        constraints,
        datasets,
        dtype_policies,
        initializers,
        layers,
        losses,
        metrics,
        mixed_precision,
        models,
        ops,
        optimizers,
        random,
        readers,
        regularizers,
        report,
        saving,
        training,
        tree,
        utils,
    )
    from tally.accounting.ledger import Ledger
    from tally.core.dtype import DTypePolicy
    from tally.core.symbol import KerasTensor
    from tally.core.variable import Variable, name_scope
    from tally.initializers import Initializer
    from tally.layers import Input, InputSpec, Layer
    from tally.losses import Loss
    from tally.metrics import Metric
    from tally.models import Functional, Model, Sequential
    from tally.models.ledger import account
    from tally.models.verbs.check import check
    from tally.models.verbs.diagnose import diagnose
    from tally.models.verbs.diff import diff
    from tally.models.verbs.explain import explain
    from tally.models.verbs.plan import plan
    from tally.models.verbs.summary import summary
    from tally.models.verbs.verify import verify
    from tally.models.verbs.what_if import what_if
    from tally.optimizers import Optimizer
    from tally.regularizers import Regularizer


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return _load(f"tally.{name}")
    if name in _NAMES:
        value = getattr(_load(_NAMES[name]), name)
        globals()[name] = value
        return value
    import difflib

    close = difflib.get_close_matches(name, [*_ROOMS, *_NAMES], n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise AttributeError(f"tally has no '{name}'.{hint}")


def _load(module: str) -> ModuleType:
    """Import a module. What an import makes stays, so Python's collector needn't look for garbage meanwhile.

    It would look through everything JAX has made, 60 ms for nothing: more than importing all of a model's rooms takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if was_on:
            gc.enable()


def __dir__() -> list[str]:
    return sorted([*_ROOMS, *_NAMES, "__version__"])


__all__ = [*_ROOMS, *_NAMES]  # pyright: ignore[reportUnsupportedDunderAll] - they stand above, in TYPE_CHECKING
