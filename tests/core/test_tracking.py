"""Layers and variables are found wherever a user puts them."""

import collections
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

import tally
from tally import layers
from tally.core.variable import Variable


@dataclass
class Parts:
    first: object = None
    rest: list = field(default_factory=list)


Pair = collections.namedtuple("Pair", "left right")


class Defaults(dict):
    pass


HOLDERS = {
    "attribute": lambda dense: dense(),
    "list": lambda dense: [dense()],
    "tuple": lambda dense: (dense(), 3, "words"),
    "dict": lambda dense: {"a": dense(), 4: None},
    "dict subclass": lambda dense: Defaults(a=dense()),
    "set": lambda dense: {dense(), dense()},
    "deque": lambda dense: collections.deque([dense()]),
    "ordered dict": lambda dense: collections.OrderedDict(a=dense()),
    "named tuple": lambda dense: Pair(dense(), dense()),
    "dataclass": lambda dense: Parts(dense(), [dense()]),
    "namespace": lambda dense: SimpleNamespace(a=dense()),
    "nested": lambda dense: [{"a": (dense(), collections.deque([Parts(SimpleNamespace(b={dense()}))]))}],
}


class Holder(layers.Layer):
    def __init__(self, make):
        super().__init__()
        self.made = []

        def dense():
            self.made.append(None)
            made.append(layers.Dense(2))
            return made[-1]

        made = []
        self.held = make(dense)
        self.order = None
        object.__setattr__(self, "_all", lambda: made)

    def call(self, x):
        for layer in self._all():
            x = layer(x)
        return x


@pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
def test_every_container_is_seen_into(make):
    layer = Holder(make)
    layer(np.ones((1, 2), "float32"))
    assert layer.count_params() == 6 * len(layer._all())
    assert set(layer._flatten_layers(include_self=False)) == set(layer._all())


def test_containers_may_be_filled_later():
    layer = Holder(lambda dense: [])
    added = layers.Dense(2)
    added.build((None, 2))
    layer.held.append({"later": added})
    assert layer.weights == added.weights
    assert [place for place, _ in layer._children()] == ["held/0/later"]


def test_variables_assigned_as_attributes_and_in_containers_are_weights():
    class Scale(layers.Layer):
        def __init__(self):
            super().__init__()
            self.factor = Variable(np.ones(3, "float32"), name="factor")
            self.shifts = {"a": [Variable(np.zeros(2, "float32"), trainable=False)]}

    layer = Scale()
    assert [v.count for v in layer.trainable_variables] == [3]
    assert [v.count for v in layer.non_trainable_variables] == [2]


def test_an_exchanged_weight_is_no_longer_counted_and_a_tied_one_counts_once():
    first, second = layers.Dense(3), layers.Dense(3)
    first.build((None, 3))
    second.build((None, 3))
    second.kernel = first.kernel
    both = Holder(lambda dense: [])
    both.held.extend([first, second])
    assert len(both.weights) == 3
    assert sum(v.count for v in both.weights) == 9 + 3 + 3


def test_a_layer_that_holds_its_holder_does_not_loop():
    outer, inner = Holder(lambda dense: []), Holder(lambda dense: [])
    outer.inner, inner.outer = inner, outer
    assert outer.weights == []
    assert outer._flatten_layers() == [outer, inner]


def test_paths_by_place_are_the_same_for_the_same_code_built_twice():
    def build():
        return tally.Sequential(
            [tally.Input((4,)), layers.Dense(3), layers.Dense(2), layers.Dense(1, name="head")]
        )

    first, second = build(), build()
    assert first.layers[0].name != second.layers[0].name
    places = [[entry.path for entry in tally.account(model).entries] for model in (first, second)]
    assert places[0] == places[1]
    assert places[0] == [
        f"{place}/{name}" for place in ("dense", "dense_1", "head") for name in ("kernel", "bias")
    ]
