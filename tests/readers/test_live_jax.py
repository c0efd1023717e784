"""The account of Flax and Equinox modules and of trees of arrays, counted as these count themselves."""

from typing import NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from tally.accounting.explain import explain
from tally.readers import UnreadableError, is_live_model, read_object

KEY = jax.random.key(0)


def size_of(tree) -> int:
    return sum(array.size for array in jax.tree.leaves(tree))


# -- NNX -----------------------------------------------------------------------------------------------------------
class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.tied = None
        self.embed = nnx.Embed(50, 8, rngs=rngs)
        self.conv = nnx.Conv(3, 8, (3, 3), feature_group_count=1, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)


def test_nnx_counts_are_those_of_its_own_state():
    model = Net(nnx.Rngs(0))
    ledger = read_object(model)
    assert ledger.trainable == size_of(nnx.state(model, nnx.Param))
    assert ledger.by_state["state"] == size_of(nnx.state(model, nnx.BatchStat))
    assert {entry.state for entry in ledger.owned_by("drop")} == {"seed"}
    for owner in explain(ledger).owners:
        assert owner.formula is None or owner.formula.value == owner.count


def test_nnx_averages_are_said_to_follow_the_data():
    states = {entry.name: entry.state for entry in read_object(Net(nnx.Rngs(0))).owned_by("norm")}
    assert states == {"scale": "trainable", "bias": "trainable", "mean": "state", "var": "state"}
    texts = [remark.text for remark in explain(read_object(Net(nnx.Rngs(0))))["norm"].remarks]
    assert any(text.startswith("mean and var follow the data: each call with use_running") for text in texts)


class Linears(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.second = nnx.Linear(3, 40, rngs=rngs), nnx.Linear(40, 30, rngs=rngs)

    def __call__(self, x):
        return self.second(self.first(x))


def test_the_total_is_the_one_that_nnx_tabulates():
    model = Linears(nnx.Rngs(0))
    assert f"{read_object(model).total:,}" in nnx.tabulate(model, jnp.ones((1, 3)))


def test_nnx_layers_and_axes_are_known():
    ledger = read_object(Net(nnx.Rngs(0)))
    kinds = {owner.path: owner.type for owner in ledger.owners if owner.path.count("/") == 0}
    assert kinds == {
        "": "Net",
        "embed": "Embedding",
        "conv": "Conv2D",
        "norm": "BatchNormalization",
        "drop": "Dropout",
        "attention": "MultiHeadAttention",
    }
    assert all(all(entry.axes) for entry in ledger.counted)


def test_a_variable_in_two_places_of_nnx_counts_in_the_layer_that_works_with_it():
    model = Net(nnx.Rngs(0))
    model.tied = nnx.data(model.embed.embedding)
    ledger = read_object(model)
    assert {entry.path: entry.shared_with for entry in ledger.entries}["tied"] == "embed/embedding"
    assert ledger.trainable == size_of(nnx.state(model, nnx.Param))


# -- Linen ---------------------------------------------------------------------------------------------------------
class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(8)(x))


class Tower(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3))(x).mean((1, 2))
        return nn.Dense(10)(Block()(Block()(x)))


@pytest.fixture(scope="module")
def shapes():
    return jax.eval_shape(Tower().init, KEY, jnp.ones((1, 8, 8, 3)))


def test_linen_with_its_variables_in_a_tuple_or_bound(shapes):
    for given in ((Tower(), shapes), Tower().bind(shapes)):
        ledger = read_object(given)
        assert ledger.trainable == size_of(shapes["params"])
        assert ledger.by_state["state"] == size_of(shapes["batch_stats"])
        assert (ledger.owners[0].type, ledger.owner("Block_0").type) == (
            "Tower",
            "Block",
        )
        assert ledger.owner("Conv_0").type == "Conv2D"
        assert ledger.owner("Block_0/BatchNorm_0").type == "BatchNormalization"


def test_linen_alone_says_what_to_give():
    with pytest.raises(UnreadableError, match="holds no parameters itself") as caught:
        read_object(Tower())
    assert "(module, variables)" in caught.value.do


def test_a_training_state_keeps_the_optimizer_apart(shapes):
    state = jax.eval_shape(
        lambda params: TrainState.create(apply_fn=None, params=params, tx=optax.adam(1e-3)), shapes["params"]
    )
    ledger = read_object(state)
    assert ledger.total == size_of(shapes["params"])
    assert ledger.optimizer == size_of(state.opt_state) + 1


# -- Equinox -------------------------------------------------------------------------------------------------------
class Small(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    cell: eqx.nn.GRUCell
    layers: list
    scale: jax.Array
    width: int = eqx.field(static=True)

    def __init__(self, key) -> None:
        self.conv = eqx.nn.Conv2d(4, 8, 3, groups=2, key=key)
        self.norm = eqx.nn.BatchNorm(8, "batch", mode="batch")
        self.cell = eqx.nn.GRUCell(3, 4, key=key)
        self.layers = [eqx.nn.Linear(2, 2, key=key), jax.nn.relu]
        self.scale, self.width = jnp.ones(4), 8


@pytest.mark.parametrize(
    "make", [lambda: eqx.nn.MLP(3, 2, 8, 2, key=KEY), lambda: eqx.nn.MultiheadAttention(2, 8, key=KEY)]
)
def test_equinox_counts_are_those_of_its_filter(make):
    model = make()
    assert read_object(model).total == size_of(eqx.filter(model, eqx.is_array))


def test_equinox_state_stands_in_its_layer_and_static_fields_are_no_weights():
    model, state = eqx.nn.make_with_state(Small)(KEY)
    ledger = read_object((model, state))
    assert ledger.trainable == size_of(eqx.filter(model, eqx.is_array))
    assert {e.state for e in ledger.owned_by("norm")} == {"trainable", "state"}
    assert ledger.by_state["state"] == 17
    assert explain(ledger, "conv").formula.numbers == "8 × (3·3·4/2 + 1) = 152"


def test_the_averages_of_equinox_have_names_and_the_axis_of_their_layer():
    model, state = eqx.nn.make_with_state(Small)(KEY)
    ledger = read_object((model, state))
    kept = {
        entry.name: (entry.path, entry.axes) for entry in ledger.owned_by("norm") if entry.state == "state"
    }
    assert kept == {
        "batch_counter": ("norm/batch_counter", ()),
        "mean": ("norm/batch_state_index/0", ("channels",)),
        "var": ("norm/batch_state_index/1", ("channels",)),
    }
    found = state.get(model.norm.batch_state_index)
    assert [float(array[0]) for array in found] == [0.0, 1.0]  # before any batch: no mean, a variance of one
    texts = [remark.text for remark in explain(ledger)["norm"].remarks]
    assert any(
        text.startswith("mean and var follow the data: each call in training returns") for text in texts
    )
    assert "batch_counter counts the batches seen." in " ".join(texts)


def test_an_array_in_two_fields_of_equinox_counts_once():
    linear = eqx.nn.Linear(4, 4, use_bias=False, key=KEY)
    pair = eqx.nn.Sequential([linear, linear])
    assert read_object(pair).total == 16


def test_a_module_in_two_fields_of_equinox_is_listed_at_both_and_counted_at_the_first():
    linear = eqx.nn.Linear(4, 4, key=KEY)
    ledger = read_object(eqx.nn.Sequential([linear, linear]))
    assert ledger.owner("layers/1").shared_with == "layers/0"
    assert ledger.owner("layers/0").shared_with is None


# -- trees ---------------------------------------------------------------------------------------------------------
class Pair(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray


def test_a_tree_of_containers_has_paths_by_key():
    tree = {
        "layers": [Pair(np.zeros((5, 10)), np.zeros(5)), Pair(np.zeros((2, 5)), np.zeros(2))],
        "name": "x",
    }
    ledger = read_object(tree)
    assert [entry.path for entry in ledger.entries] == [
        "layers/0/weight",
        "layers/0/bias",
        "layers/1/weight",
        "layers/1/bias",
    ]
    assert [owner.type for owner in ledger.owners if owner.path] == ["Dense", "Dense"]


def test_arrays_that_nothing_is_known_of_are_said_to_be_counted_by_shape():
    ledger = read_object({"thing": {"stuff": np.zeros((2, 3, 4))}})
    assert "counted by its shapes alone" in ledger.owner("thing").notes[0]


def test_an_array_in_two_places_of_a_tree_counts_once():
    table = np.zeros((5, 3))
    ledger = read_object({"embed": {"embedding": table}, "head": {"kernel": table}})
    assert ledger.total == 15


def test_a_tree_that_contains_itself_ends():
    tree: dict = {"w": np.zeros(3)}
    tree["again"] = tree
    assert read_object({"a": {"kernel": np.zeros((2, 2))}}).total == 4
    assert read_object(tree).total == 3


@pytest.mark.parametrize("thing", [3, "text", None, [1, 2], {}, np.zeros(3), object(), print, np])
def test_what_holds_no_arrays_is_no_model(thing):
    assert not is_live_model(thing)
    with pytest.raises(UnreadableError):
        read_object(thing)
