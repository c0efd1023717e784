"""`diagnose`: mistakes that make a model's numbers other than they look, each with its line and its remedy."""

import os
import sys
from collections.abc import Callable
from typing import Any

from tally.accounting.diagnose import Diagnosis, arranged, findings_of_ledger
from tally.accounting.finding import Finding
from tally.accounting.ledger import Ledger
from tally.core.errors import TallyError, raised_at
from tally.core.layer import Layer
from tally.models.ledger import survey
from tally.models.verbs.show import show
from tally.models.verbs.subject import opened
from tally.readers import is_live_model
from tally.tracing.diagnose import CHEAP, THOROUGH, Search, search
from tally.tracing.study import Study


def diagnose(
    subject: Any, x: Any = None, y: Any = None, print_fn: Callable[..., Any] | None = None
) -> Diagnosis:
    """Look for mistakes by following what a model computes, print what was found, and return it.

    The model is followed, not run, and left as it was. Only with `x` is one batch of at most 64 examples computed.

    Args:
        subject: A model or layer, a `Ledger`, the path of a file, or a function without arguments that makes a model:
            then an error in making it is a finding, too, where it has a code.
        x: Inputs of one batch, as for `fit`.
        y: The targets that belong to them.
        print_fn: What is called with the text; printing unless given.

    Returns:
        The findings: errors, then warnings, then notes.

    Example:
        >>> inputs = tally.Input((4,))
        >>> model = tally.Model(inputs, tally.layers.Dense(1, activation="softmax", name="head")(inputs))
        >>> [found.code for found in tally.diagnose(model, print_fn=lambda text: None).errors]
        ['T501']
    """
    from tally.report.diagnosis import draw

    diagnosis = find(subject, x, y)
    show(draw(diagnosis), print_fn)
    return diagnosis


def find(subject: Any, x: Any = None, y: Any = None, searches: tuple[Search, ...] = THOROUGH) -> Diagnosis:
    """Look for mistakes without printing anything; see `diagnose`."""
    if callable(subject) and not isinstance(subject, Layer) and not is_live_model(subject):
        try:
            subject = subject()
        except TallyError as error:
            if error.code is None:
                raise
            return Diagnosis(name=getattr(subject, "__name__", "model"), findings=(_of_error(error),))
        if isinstance(subject, tuple):
            subject, x, y = (*subject, None, None)[:3]
    found = opened(subject)
    if isinstance(found, Ledger):
        findings = arranged(findings_of_ledger(found), found)
        return Diagnosis(name=found.name, findings=findings, followed=False, source=found.source)
    inputs = _inputs(x)
    if inputs is not None and not all(layer.built for layer in found._flatten_layers()):
        found.compute_output_spec(*_symbols(inputs))  # as `fit` would
    ledger, layers, entries = survey(found)
    study = Study(found, ledger, layers, entries, x, y, inputs)
    findings = arranged(search(study, searches), ledger)
    return Diagnosis(name=ledger.name, findings=findings, followed=bool(study.flows))


def look_once(model: Any, source: Any) -> None:
    """Tell errors and warnings before the first step of a compiled model: what can be found without any value.

    It is said on standard error, once for each `compile`; `TALLY_DIAGNOSE=0` in the environment turns it off.

    Args:
        model: The model that `fit` is about to train.
        source: Where its batches come from.
    """
    trainer = model._trainer
    if trainer.looked_at == trainer.compiled_number or os.environ.get("TALLY_DIAGNOSE") == "0":
        return
    trainer.looked_at = trainer.compiled_number
    try:
        x, y, _ = source.peek()
        diagnosis = find(model, x, y, CHEAP)
    except Exception:  # training must not fail where only the search for mistakes does
        return
    if not diagnosis.holds:
        from tally.report.diagnosis import draw

        show(draw(diagnosis, notes=False), lambda text: print(text, file=sys.stderr))


def _inputs(x: Any) -> Any:
    """The arguments of a call on a batch, shapes in place of arrays."""
    if x is None:
        return None
    import jax
    import numpy as np

    from tally.core.symbol import map_tree

    def spec(leaf: Any) -> Any:
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        return jax.ShapeDtypeStruct(tuple(array.shape), jax.dtypes.canonicalize_dtype(array.dtype))

    return (map_tree(lambda leaf: None if leaf is None else spec(leaf), x),), {}


def _symbols(inputs: Any) -> Any:
    """Symbolic tensors in place of shapes, the batch open."""
    from tally.core.symbol import KerasTensor, map_tree

    (x,), _ = inputs
    return (map_tree(lambda s: None if s is None else KerasTensor((None, *s.shape[1:]), s.dtype.name), x),)


def _of_error(error: TallyError) -> Finding:
    return Finding(
        code=error.code or "T603",
        layer="",
        what=error.what,
        why=error.where,
        fix=error.do,
        where=raised_at(error),
    )
