"""How values are stored: equal ones under two names."""

from collections.abc import Iterator

import numpy as np

from tally.accounting.finding import Finding
from tally.accounting.words import listed, plural
from tally.core.variable import Variable
from tally.tracing.study import Study

_LEAST = 16
"""Fewer numbers may be equal by chance."""


def find(study: Study) -> Iterator[Finding]:
    """Find weights with equal values that are not one weight (T702); values that aren't drawn yet are left alone."""
    alike: dict[tuple[object, ...], list[Variable]] = {}
    for variable in study.entries:
        if variable.count >= _LEAST and not variable.is_planned and not variable.is_seed:
            value = np.asarray(variable.raw)
            sample = value.ravel()[:_LEAST]
            if np.ptp(sample.astype(np.float64)):
                alike.setdefault((value.shape, value.dtype.name, sample.tobytes()), []).append(variable)
    for variables in alike.values():
        first = np.asarray(variables[0].raw)
        same = [v for v in variables if np.array_equal(np.asarray(v.raw), first)]
        if len(same) > 1:
            names = tuple(study.entries[v] for v in same)
            yield Finding(
                code="T702",
                layer=names[0].rpartition("/")[0],
                what=f"{listed(list(names))} hold the same {plural(same[0].count, 'value')}, but are "
                f"{len(same)} weights.",
                why="They count and are saved once each, and training lets them part.",
                fix="if they are meant to be one, use one layer or one weight in both places",
                where=same[1].origin,
                names=names,
                count=same[0].count * (len(same) - 1),
            )
