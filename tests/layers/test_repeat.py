"""A repeated block computes what the stack of its blocks computes, in one loop, and the account names each block."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from tally import layers
from tally.accounting.schema import schema_text
from tally.core.errors import ArgumentError, NonFiniteError, ShapeError, TallyError
from tally.layers import Repeat
from tally.tracing.following import bodies

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(4, 6)).astype("float32")
SEQUENCE = CHANCE.normal(size=(3, 5, 4)).astype("float32")
WORDS = np.array([[1, 2, 3, 0, 0], [4, 1, 0, 0, 0], [1, 2, 3, 4, 1]])


def dense_block() -> Any:
    return tally.Sequential(
        [layers.Dense(6, activation="tanh"), layers.Dropout(0.4), layers.LayerNormalization()]
    )


def graph_block() -> Any:
    x = tally.Input((6,))
    y = layers.BatchNormalization()(layers.Dense(6, use_bias=False, kernel_regularizer="l2")(x))
    return tally.Model(x, layers.Add()([x, layers.Activation("tanh")(y)]))


def normalised_block() -> Any:
    return tally.Sequential([layers.Dense(6, use_bias=False), layers.BatchNormalization(momentum=0.5)])


class Residual(layers.Layer):
    """A block that builds its layers when it is called, and adds losses."""

    def __init__(self, width: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.norm = layers.LayerNormalization()
        self.dense = layers.Dense(width, kernel_initializer="he_normal", activity_regularizer="l2")

    def call(self, x: Any, scale: Any = 1.0) -> Any:
        y = self.dense(self.norm(x))
        self.add_loss(1e-2 * jnp.mean(y**2))
        return x + scale * y


class Attentive(layers.Layer):
    """A block that takes a mask for its attention."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 2)

    def call(self, x: Any, attention_mask: Any = None) -> Any:
        return x + self.attention(x, x, attention_mask=attention_mask)


BLOCKS = {"dense": dense_block, "graph": graph_block, "normalised": normalised_block, "own": Residual}
some_blocks = pytest.mark.parametrize("make", [graph_block, Residual])
each_block = pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS)


def both(make: Callable[[], Any], count: int = 3, **options: Any) -> tuple[Any, Any]:
    """A model with a repeated block and the stack that it stands for, each made after the same seed."""
    tally.utils.set_random_seed(7)
    ours = tally.Sequential([tally.Input((6,)), Repeat(make, count, **options), layers.Dense(2)])
    tally.utils.set_random_seed(7)
    stack = tally.Sequential([tally.Input((6,)), *[make() for _ in range(count)], layers.Dense(2)])
    return ours, stack


def training_step(model: Any, x: Any = X) -> dict[str, Any]:
    """What one training call computes under `jit`: outputs, loss, gradients and new state."""

    def weigh(weights: Any, state: Any) -> Any:
        outputs, new, losses = model.stateless_call(weights, state, x, training=True, return_losses=True)
        return jnp.mean(outputs**2) + sum(jnp.sum(loss) for loss in losses), (outputs, new)

    weights = [v.raw for v in model.trainable_variables]
    state = [v.raw for v in model.non_trainable_variables]
    (loss, (outputs, new)), gradients = jax.jit(jax.value_and_grad(weigh, has_aux=True))(weights, state)
    return {"outputs": outputs, "loss": loss, "gradients": gradients, "state": new}


def by_block(values: list[Any], count: int, after: int) -> list[Any]:
    """Arrays with a first axis of blocks in the order of a stack; the last ones belong to no block."""
    stop = len(values) - after
    return [value[i] for i in range(count) for value in values[:stop]] + list(values[stop:])


def count_equations(jaxpr: Any) -> int:
    """All equations, those inside others included."""
    inner = [one for equation in jaxpr.eqns for one in bodies(equation)]
    return len(jaxpr.eqns) + sum(map(count_equations, inner))


def names(model: Any) -> list[str]:
    """The primitives of a training call and its gradients."""
    weights = [v.raw for v in model.trainable_variables]
    state = [v.raw for v in model.non_trainable_variables]

    def weigh(weights: Any) -> Any:
        return jnp.sum(model.stateless_call(weights, state, X, training=True)[0])

    return [equation.primitive.name for equation in jax.make_jaxpr(jax.grad(weigh))(weights).eqns]


# -- the same numbers ------------------------------------------------------------------------------------------------
@each_block
@pytest.mark.parametrize("form", ["function", "layer"])
def test_same_seed_gives_the_weights_of_the_stack(make: Any, form: str) -> None:
    tally.utils.set_random_seed(7)
    ours = tally.Sequential([tally.Input((6,)), Repeat(make if form == "function" else make(), 3)])
    tally.utils.set_random_seed(7)
    stack = tally.Sequential([tally.Input((6,)), *[make() for _ in range(3)]])
    for index, block in enumerate(stack.layers):
        for mine, other in zip(ours.layers[-1].get_block_weights(index), block.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_what_is_drawn_after_the_blocks_is_that_of_the_stack() -> None:
    ours, stack = both(dense_block)
    np.testing.assert_array_equal(ours.layers[-1].get_weights()[0], stack.layers[-1].get_weights()[0])


@pytest.mark.parametrize(
    ("make", "options"),
    [
        *((make, {"remat": remat}) for make in BLOCKS.values() for remat in (False, True)),
        (Residual, {"remat": "dots_saveable"}),
        (dense_block, {"unroll": True}),
    ],
)
def test_a_training_step_equals_that_of_the_stack(make: Any, options: dict[str, Any]) -> None:
    ours, stack = both(make, **options)
    mine, other = training_step(ours), training_step(stack)
    assert_close(mine["outputs"], other["outputs"])
    assert_close(mine["loss"], other["loss"])
    assert_close(by_block(mine["gradients"], 3, after=2), other["gradients"])
    assert_close(by_block(mine["state"], 3, after=0), other["state"])


@some_blocks
def test_without_compilation_the_blocks_run_one_after_another(make: Any) -> None:
    ours, stack = both(make)
    for training in (False, True):
        assert_close(ours(X, training=training), stack(X, training=training))
        assert_close(sum(map(jnp.sum, ours.losses)), sum(map(jnp.sum, stack.losses)))


@some_blocks
def test_fit_moves_the_weights_as_in_the_stack(make: Any) -> None:
    weights = []
    for model in both(make):
        model.compile(tally.optimizers.Adam(0.01, global_clipnorm=1.0), "mse")
        model.fit(X, X[:, :2], batch_size=2, epochs=2, shuffle=False, verbose=0)
        weights.append(model)
    ours, stack = weights
    for index, block in enumerate(stack.layers[:-1]):
        assert_close(ours.layers[0].get_block_weights(index), block.get_weights(), 1e-4)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: tally.optimizers.SGD(0.1, clipnorm=0.01),
        lambda: tally.optimizers.Lamb(0.01),
        lambda: tally.optimizers.Adafactor(0.01),
        lambda: tally.optimizers.Muon(0.01),
        lambda: tally.optimizers.AdamW(0.01, use_ema=True, gradient_accumulation_steps=2),
    ],
    ids=["clipnorm", "Lamb", "Adafactor", "Muon", "accumulating"],
)
def test_optimizers_treat_each_block_by_itself(optimizer: Any) -> None:
    moved = []
    for model in both(lambda: layers.Dense(6, "tanh")):
        rule, weights = optimizer(), [v.raw for v in model.trainable_variables]
        rule.build(model.trainable_variables)
        state = [v.raw for v in rule.variables]
        gradients = [jnp.sin(7 * weight + 1) for weight in weights]
        for _ in range(2):
            weights, state = rule.stateless_apply(state, gradients, weights)
        moved.append(weights)
    assert_close(by_block(moved[0], 3, after=2), moved[1])


def test_constraints_hold_in_each_block() -> None:
    def make() -> Any:
        return layers.Dense(6, kernel_constraint=tally.constraints.MaxNorm(0.3, axis=[0, 1]))

    ours, stack = both(make)
    for model in (ours, stack):
        model.compile(tally.optimizers.SGD(0.1), "mse")
        model.fit(X, X[:, :2], batch_size=4, verbose=0)
    for index, block in enumerate(stack.layers[:-1]):
        assert_close(ours.layers[0].get_block_weights(index), block.get_weights())


def test_dropout_differs_between_blocks() -> None:
    layer = Repeat(lambda: layers.Dropout(0.5), 8)
    run = jax.jit(lambda state, x: layer.stateless_call([], state, x, training=True)[0])
    layer.build((1, 64))
    kept = run([v.raw for v in layer.non_trainable_variables], jnp.ones((1, 64)))
    assert np.count_nonzero(kept) < 8  # 64 / 2 ** 8 where each block drops others, 32 where all drop the same


def test_draws_without_a_seed_differ_between_blocks() -> None:
    class Noise(layers.Layer):
        def call(self, x: Any) -> Any:
            return x + tally.random.normal((4,))

    model = tally.Sequential([tally.Input((4,)), Repeat(Noise(), 2)])
    model.compile(loss="mse")
    noise = model.predict(np.zeros((1, 4)), verbose=0)
    single = tally.Sequential([tally.Input((4,)), Repeat(Noise(), 1)])
    single.compile(loss="mse")
    assert np.std(noise) > 0
    text = str(jax.make_jaxpr(lambda x: model.stateless_call([], [], x)[0])(jnp.zeros((1, 4))))
    assert "random_fold_in" in text  # each round folds its number into the key


def test_a_fixed_seed_is_the_same_in_each_block_as_in_the_stack() -> None:
    layer = Repeat(lambda: layers.Dropout(0.5, seed=3), 2)
    one = layers.Dropout(0.5, seed=3)
    x = np.ones((2, 50), "float32")
    np.testing.assert_allclose(layer(x, training=True), 2 * one(x, training=True))


def test_users_initializers_are_called_for_each_block() -> None:
    calls = []

    def start(shape: Any, dtype: Any = None) -> Any:
        calls.append(shape)
        return np.full(shape, len(calls))

    layer = Repeat(lambda: layers.Dense(2, use_bias=False, kernel_initializer=start), 3)
    layer.build((None, 2))
    assert [float(kernel[0, 0]) for kernel in layer.get_weights()[0]] == [1, 2, 3]
    assert calls == [(2, 2)] * 3


# -- one loop --------------------------------------------------------------------------------------------------------
@each_block
def test_the_traced_step_is_as_long_for_many_blocks_as_for_few(make: Any) -> None:
    lengths = []
    for count in (3, 9):
        model, _ = both(make, count)
        optimizer = tally.optimizers.Adam(weight_decay=0.1)
        optimizer.build(model.trainable_variables)
        groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)

        def step(weights: Any, state: Any, slots: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            def weigh(weights: Any) -> Any:
                outputs, new, losses = model.stateless_call(
                    weights, state, X, training=True, return_losses=True
                )
                return jnp.mean(outputs**2) + sum(map(jnp.sum, losses)), new

            gradients, new = jax.grad(weigh, has_aux=True)(weights)
            return new, optimizer.stateless_apply(slots, gradients, weights)

        values = [[jax.ShapeDtypeStruct(v.shape, v.dtype) for v in group] for group in groups]
        lengths.append(count_equations(jax.make_jaxpr(step)(*values).jaxpr))
    assert lengths[0] == lengths[1]


def test_the_blocks_are_one_loop_forwards_and_one_backwards() -> None:
    ours, stack = both(normalised_block)
    assert names(ours).count("scan") == 2
    assert names(stack).count("scan") == 0


def test_the_block_is_followed_once() -> None:
    calls = []

    class Told(Residual):
        def call(self, x: Any) -> Any:
            calls.append(x.shape)
            return super().call(x)

    layer = Repeat(Told(), 12)
    layer.build((None, 6))
    del calls[:]
    jax.jit(lambda values, x: layer.stateless_call(values, [], x)[0])([v.raw for v in layer.weights], X)
    assert calls == [(4, 6)]


def test_rematerialised_blocks_keep_only_what_goes_from_one_to_the_next() -> None:
    kept = {}
    for remat in (False, True):
        model, _ = both(lambda: tally.Sequential([layers.Dense(6, "tanh") for _ in range(4)]), 5, remat=remat)
        weights = [v.raw for v in model.trainable_variables]

        def weigh(weights: Any, model: Any = model) -> Any:
            return jnp.sum(model.stateless_call(weights, [], X)[0])

        jaxpr = jax.make_jaxpr(jax.grad(weigh))(weights).jaxpr
        forward = next(equation for equation in jaxpr.eqns if equation.primitive.name == "scan")
        kept[remat] = sum(var.aval.size for var in forward.outvars if var.aval.shape[:1] == (5,))
    assert kept[True] == 5 * X.size < kept[False]


# -- what a block may be ---------------------------------------------------------------------------------------------
def test_masks_travel_from_block_to_block() -> None:
    outputs = []
    for repeated in (True, False):
        tally.utils.set_random_seed(3)
        embedding = layers.Embedding(5, 4, mask_zero=True)
        blocks = (
            [Repeat(layers.LSTM(4, return_sequences=True), 3)]
            if repeated
            else [layers.LSTM(4, return_sequences=True) for _ in range(3)]
        )
        model = tally.Sequential([tally.Input((5,), dtype="int32"), embedding, *blocks, layers.GRU(2)])
        outputs.append((model(WORDS), model.predict(WORDS, verbose=0)))
    assert_close(outputs[0], outputs[1])
    assert_close(outputs[0][0], outputs[0][1])


def test_a_mask_that_is_passed_by_name_is_that_of_the_input() -> None:
    layer = Repeat(layers.LSTM(4, return_sequences=True), 2)
    mask = np.array([[True] * 3 + [False] * 2] * 3)
    hidden = np.where(mask[..., None], SEQUENCE, 99)
    assert_close(layer(SEQUENCE, mask=mask)[:, :3], layer(hidden, mask=mask)[:, :3])
    x = jnp.asarray(SEQUENCE)
    layer(x, mask=mask)
    assert tally.core.masks.get_mask(x) is None


@pytest.mark.filterwarnings("ignore:.*doesn't pass it on")
def test_a_block_that_passes_no_mask_on_ends_it_after_the_first() -> None:
    class Ends(layers.Layer):
        def call(self, x: Any, mask: Any = None) -> Any:
            return x + (0.0 if mask is None else 1.0)

    def run(x: Any) -> Any:
        x = layers.Masking(9.0)(x)
        return Repeat(Ends(), 3)(x)

    assert_close(run(SEQUENCE), SEQUENCE + 1)
    assert_close(jax.jit(run)(SEQUENCE), SEQUENCE + 1)


def test_further_arguments_are_the_same_for_every_block() -> None:
    layer = Repeat(Attentive(), 3)
    causal = np.tril(np.ones((5, 5), bool))[None]
    outputs = layer(SEQUENCE, attention_mask=causal)
    blocks = [Attentive() for _ in range(3)]
    x = SEQUENCE
    for index, block in enumerate(blocks):
        block(SEQUENCE)
        block.set_weights(layer.get_block_weights(index))
        x = block(x, attention_mask=causal)
    assert_close(outputs, x)
    compiled = jax.jit(lambda x, mask: layer(x, attention_mask=mask))
    assert_close(compiled(SEQUENCE, causal), x)
    symbolic = layer(tally.Input((5, 4)), attention_mask=tally.Input((5, 5), dtype="bool"))
    assert symbolic.shape == (None, 5, 4)


def test_inputs_may_be_several_arrays() -> None:
    class Swap(layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.dense = layers.Dense(6)

        def call(self, pair: Any) -> Any:
            a, b = pair
            return b, a + self.dense(b)

    layer = Repeat(Swap(), 3)
    a, b = layer((X, 2 * X))
    compiled = jax.jit(lambda x, y: layer((x, y)))(X, 2 * X)
    assert_close((a, b), compiled)
    assert a.shape == b.shape == X.shape


def test_losses_are_summed_over_blocks() -> None:
    layer = Repeat(Residual(), 4)
    layer(X)
    first = float(sum(layer.losses))
    values = [v.raw for v in layer.trainable_variables]
    _, _, losses = jax.jit(lambda values, x: layer.stateless_call(values, [], x, return_losses=True))(
        values, X
    )
    assert len(losses) == 2
    assert float(sum(losses)) == pytest.approx(first, rel=1e-5)
    layer(X)
    assert float(sum(layer.losses)) == pytest.approx(first, rel=1e-5)


def test_blocks_in_blocks() -> None:
    ours = Repeat(
        lambda: tally.Sequential([Repeat(lambda: layers.Dense(6, "tanh"), 2), layers.Dropout(0.5)]), 3
    )
    tally.utils.set_random_seed(5)
    model = tally.Sequential([tally.Input((6,)), Repeat(lambda: Repeat(dense_block, 2), 3)])
    tally.utils.set_random_seed(5)
    stack = tally.Sequential([tally.Input((6,)), *[dense_block() for _ in range(6)]])
    assert [w.shape for w in model.get_weights()][:2] == [(3, 2, 6, 6), (3, 2, 6)]
    mine, other = training_step(model), training_step(stack)
    assert_close(mine["outputs"], other["outputs"])
    flat = [g.reshape(6, *g.shape[2:]) for g in mine["gradients"]]
    assert_close(by_block(flat, 6, after=0), other["gradients"])
    assert_close(model(X, training=True), stack(X, training=True))
    entries = tally.account(model).entries
    assert entries[0].path == "repeat/block_0/block_0/dense/kernel"
    assert tally.account(model).total == model.count_params() == stack.count_params()
    assert ours(X).shape == X.shape


def test_a_mixed_policy_of_the_block_is_that_of_the_layer() -> None:
    layer = Repeat(lambda: layers.Dense(6, dtype="mixed_bfloat16"), 3)
    assert layer(tally.Input((6,))).dtype == "bfloat16"
    assert {v.dtype for v in layer.weights} == {"float32"}
    assert jax.jit(layer)(X).dtype == "bfloat16"


def test_vmap_goes_over_models() -> None:
    layer = Repeat(lambda: layers.Dense(6, "tanh"), 3)
    layer.build((None, 6))
    values = [jnp.stack([v.raw, 2 * v.raw]) for v in layer.weights]
    both = jax.vmap(lambda values: layer.stateless_call(values, [], X)[0])(values)
    assert_close(both[0], layer(X))


def test_a_class_is_called_for_its_block() -> None:
    assert Repeat(Residual, 2)(X).shape == X.shape


def test_the_layer_that_is_given_stays_free() -> None:
    block = layers.Dense(6)
    Repeat(block, 3)(X)
    assert not block.built
    model = graph_block()
    before = model.get_weights()
    repeated = Repeat(model, 2)
    repeated(X)
    assert_close(model.get_weights(), before)
    model(X)
    assert_close(repeated.get_block_weights(0), before)  # drawn from the same keys


# -- the contract of layers ------------------------------------------------------------------------------------------
@each_block
def test_weights_are_planned_for_a_symbol_and_counted(make: Any) -> None:
    layer = Repeat(make, 3)
    outputs = layer(tally.Input((6,)))
    assert outputs.shape == (None, 6)
    assert layer.compute_output_shape((None, 6)) == (None, 6)
    assert all(v.is_planned for v in layer.weights)
    assert layer.count_params() == sum(np.size(w) for w in layer.get_weights()) == 3 * _size(make)


def _size(make: Any) -> int:
    block = make()
    block(X)
    return block.count_params()


@each_block
def test_a_configuration_makes_an_equal_layer(make: Any) -> None:
    layer = Repeat(make, 3, frozen=[0], remat=True, unroll=3, name="blocks")
    layer.build((None, 6))
    config = json.loads(json.dumps(layer.get_config()))
    with tally.saving.custom_object_scope({"Residual": Residual}):
        copy = Repeat.from_config(config)
        copy.build((None, 6))
        assert json.loads(json.dumps(copy.get_config())) == config
    copy.set_weights(layer.get_weights())
    assert_close(copy(X), layer(X))


@some_blocks
def test_files_bring_the_model_back(make: Any, tmp_path: Any) -> None:
    model, _ = both(make)
    model.compile("adam", "mse")
    model.fit(X, X[:, :2], verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    read = tally.models.load_model(tmp_path / "model.keras", custom_objects={"Residual": Residual})
    assert_close(read(X), model(X))
    assert_close(read.optimizer.variables[2].numpy(), model.optimizer.variables[2].numpy())
    other, _ = both(make)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_close(other(X), model(X))


def test_a_model_with_blocks_can_be_cloned() -> None:
    model, _ = both(Residual)
    clone = tally.models.clone_model(model)
    assert clone.count_params() == model.count_params()
    assert np.any(clone.get_weights()[2] != model.get_weights()[2])


def test_weights_of_a_block_can_be_read_and_set() -> None:
    layer = Repeat(layers.Dense(6), 3)
    layer.build((None, 6))
    layer.set_block_weights(1, [np.eye(6), np.ones(6)])
    kernels, biases = layer.get_weights()
    assert_close(kernels[1], np.eye(6))
    assert_close(biases, np.stack([np.zeros(6), np.ones(6), np.zeros(6)]))
    assert_close(layer.get_block_weights(-2), [np.eye(6), np.ones(6)])
    with pytest.raises(ShapeError, match="nothing was changed"):
        layer.set_block_weights(1, [np.eye(6)])


# -- frozen blocks ---------------------------------------------------------------------------------------------------
def test_frozen_blocks_stay_and_the_others_learn() -> None:
    model, _ = both(normalised_block, 4, frozen=range(2))
    before = [model.layers[0].get_block_weights(i) for i in range(4)]
    model.compile(tally.optimizers.AdamW(0.1, weight_decay=0.5), "mse")
    model.fit(X, X[:, :2], verbose=0)
    after = [model.layers[0].get_block_weights(i) for i in range(4)]
    for index in range(4):
        same = [np.array_equal(a, b) for a, b in zip(before[index], after[index], strict=True)]
        assert all(same) if index < 2 else not any(same)


def test_the_account_tells_which_blocks_are_frozen() -> None:
    model, _ = both(lambda: layers.Dense(6), 3, frozen=[1])
    ledger = tally.account(model)
    states = {entry.path: entry.state for entry in ledger.entries if entry.name == "kernel"}
    assert states == {
        "repeat/block_0/kernel": "trainable",
        "repeat/block_1/kernel": "frozen",
        "repeat/block_2/kernel": "trainable",
        "dense/kernel": "trainable",
    }
    assert next(e for e in ledger.entries if e.state == "frozen").frozen_by == "repeat/block_1"
    assert ledger.trainable == 2 * 42 + 14


def test_blocks_are_frozen_and_thawed_later_with_their_values() -> None:
    model, stack = both(dense_block, 4)
    blocks = model.layers[0]
    before = [blocks.get_block_weights(i) for i in range(4)]
    blocks.frozen = [0, -1]
    assert blocks.frozen == [0, 3]
    assert [v.shape for v in blocks.weights[:3]] == [(1, 6, 6), (2, 6, 6), (1, 6, 6)]
    assert_close([blocks.get_block_weights(i) for i in range(4)], before)
    assert_close(training_step(model)["outputs"], training_step(stack)["outputs"])
    assert sum(v.count for v in model.trainable_variables) == 2 * 54 + 14
    blocks.frozen = []
    assert blocks.frozen == []
    assert sum(v.count for v in model.trainable_variables) == 4 * 54 + 14


def test_files_do_not_depend_on_what_is_frozen(tmp_path: Any) -> None:
    model, _ = both(dense_block, 4)
    model.save_weights(tmp_path / "all.weights.h5")
    tally.utils.set_random_seed(9)
    other = tally.Sequential([tally.Input((6,)), Repeat(dense_block, 4, frozen=[0, 1]), layers.Dense(2)])
    other.load_weights(tmp_path / "all.weights.h5")
    assert_close(other(X), model(X))
    other.save_weights(tmp_path / "apart.weights.h5")
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    model.load_weights(tmp_path / "apart.weights.h5")
    assert_close(other(X), model(X))


def test_trainable_reaches_all_blocks() -> None:
    model, _ = both(normalised_block, 3)
    blocks = model.layers[0]
    blocks.trainable = False
    assert len(model.trainable_variables) == 2
    assert {e.state for e in tally.account(model).entries if "block" in e.path} == {"frozen", "state"}
    blocks.trainable = True
    assert len(model.trainable_variables) == 5
    whole = Repeat(normalised_block, 3, trainable=False)
    whole.build((None, 6))
    assert whole.trainable_variables == []
    before = whole.get_weights()
    whole(X, training=True)
    assert_close(whole.get_weights(), before)  # frozen statistics stay


# -- the account -----------------------------------------------------------------------------------------------------
@each_block
def test_the_account_is_that_of_the_stack(make: Any) -> None:
    ours, stack = (tally.account(model) for model in both(make))
    assert (ours.total, ours.trainable) == (stack.total, stack.trainable)
    mine = [(e.name, e.shape, e.axes, e.state, e.count) for e in ours.entries]
    assert mine == [(e.name, e.shape, e.axes, e.state, e.count) for e in stack.entries]
    assert len({e.path for e in ours.entries}) == len(ours.entries)
    assert ours.entries[0].path.startswith("repeat/block_0/")


def test_the_account_knows_the_shapes_inside() -> None:
    ledger = tally.account(both(Residual, 4)[0])
    shapes = {owner.output_shapes for owner in ledger.owners if owner.path.startswith("repeat")}
    assert shapes == {((None, 6),)}


def test_the_ledger_is_valid_and_comes_back() -> None:
    ledger = tally.account(both(graph_block)[0])
    jsonschema.Draft202012Validator(json.loads(schema_text())).validate(json.loads(ledger.to_json()))
    assert tally.Ledger.from_json(ledger.to_json()) == ledger


@some_blocks
def test_multiply_adds_are_those_of_the_stack(make: Any) -> None:
    plans = [tally.plan(model, batch_size=4, device="gpu", print_fn=lambda _: None) for model in both(make)]
    ours, stack = plans
    assert (ours.multiply_adds, ours.count) == (stack.multiply_adds, stack.count)
    mine = {layer.path: layer.multiply_adds for layer in ours.layers}
    inside = [
        sum(n or 0 for path, n in mine.items() if path.startswith(f"repeat/block_{i}")) for i in range(3)
    ]
    assert inside == [36] * 3
    forward = [plan.flops_forward for plan in plans]
    assert forward[0] == pytest.approx(forward[1], rel=0.02)


def test_summary_folds_the_blocks() -> None:
    text: list[str] = []
    tally.summary(both(dense_block, 12)[0], expand_nested=True, print_fn=text.append)
    assert any("12" in line and "block" in line for line in text[0].splitlines())
    assert f"{12 * 54:,}" in text[0]


def test_a_finding_points_at_the_blocks_line() -> None:
    class Wasteful(layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.used, self.unused = layers.Dense(6), layers.Dense(6)

        def build(self, shape: Any) -> None:
            self.used.build(shape)
            self.unused.build(shape)

        def call(self, x: Any) -> Any:
            return self.used(x)

    model = tally.Sequential([tally.Input((6,)), Repeat(Wasteful(), 4)])
    found = tally.diagnose(model, print_fn=lambda _: None).findings
    (finding,) = [one for one in found if one.code == "T301"]
    assert finding.layer == "repeat/block_0/unused"
    assert finding.count == 4 * 42
    assert "test_repeat.py" in str(finding.where)


@each_block
def test_nothing_is_found_in_correct_blocks(make: Any) -> None:
    model, _ = both(make)
    found = tally.diagnose(model, print_fn=lambda _: None).findings
    assert not [one for one in found if one.severity in ("error", "warning")]


def test_a_bad_number_is_traced_to_the_layer_in_the_block() -> None:
    class Root(layers.Layer):
        def call(self, x: Any) -> Any:
            return jnp.sqrt(x)

    model = tally.Sequential([tally.Input((6,)), layers.Dense(6), Repeat(Root(name="root"), 2)])
    model.compile("sgd", "mse")
    with pytest.raises(NonFiniteError, match="Root 'root' gave NaN"):
        model.fit(X, X, verbose=0)


# -- what is refused -------------------------------------------------------------------------------------------------
def test_a_block_that_changes_the_shape_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        tally.Sequential([tally.Input((6,)), Repeat(layers.Dense(8, name="wide"), 3, name="blocks")])
    assert "Dense 'wide' gives float32[None,8] for float32[None,6], so it can't be repeated 3 times." in str(
        caught.value
    )
    assert "test_repeat.py" in str(caught.value)
    assert "do: let the block end with the shape and dtype it begins with" in str(caught.value)


def test_a_block_that_changes_the_dtype_is_refused() -> None:
    with pytest.raises(ShapeError, match="gives float16"):
        Repeat(lambda: layers.Lambda(lambda x: x.astype("float16")), 2)(X)


def test_a_block_that_gives_nothing_is_refused() -> None:
    class Forgets(layers.Layer):
        def call(self, x: Any) -> Any:
            del x

    with pytest.raises(ShapeError, match=r"gives None for float32\[4,6\]"):
        Repeat(Forgets(), 2)(X)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_a_count_below_one_is_refused(count: Any) -> None:
    with pytest.raises(ArgumentError, match="count="):
        Repeat(layers.Dense(6), count)


def test_shared_layers_are_refused() -> None:
    shared = layers.Dense(6, name="shared")
    with pytest.raises(ArgumentError, match="would share Dense 'shared' among its 3 blocks") as caught:
        Repeat(lambda: tally.Sequential([shared, layers.ReLU()]), 3)
    assert "make it inside the function" in str(caught.value)


def test_what_is_no_layer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="was given a int"):
        Repeat(3, 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="which is a list and no layer"):
        Repeat(lambda: [], 3)  # type: ignore[arg-type,return-value]


def test_a_layer_that_cannot_be_copied_says_what_to_pass() -> None:
    class Own(layers.Layer):
        def __init__(self, thing: Any, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.thing = thing

        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ArgumentError, match="can't copy Own 'own'") as caught:
        Repeat(Own(object()), 2)
    assert "pass a function that makes the block" in str(caught.value)
    assert Repeat(lambda: Own(object()), 2)(X).shape == X.shape


def test_a_weight_that_comes_later_is_refused() -> None:
    layer = Repeat(layers.Dense(6), 2)
    layer.build((None, 6))
    layer.block.enable_lora(2)
    with pytest.raises(TallyError, match="got the weight 'lora_kernel_a' after it had been repeated 2 times"):
        layer(X)


def test_low_rank_weights_from_the_constructor_belong_to_each_block() -> None:
    model, stack = both(lambda: layers.Dense(6, lora_rank=2))
    assert [v.shape for v in model.layers[0].trainable_variables] == [(3, 6), (3, 6, 2), (3, 2, 6)]
    assert_close(model(X), stack(X))
    assert tally.account(model).trainable == tally.account(stack).trainable


def test_a_variable_that_no_block_holds_is_not_changed_by_them() -> None:
    counter = tally.Variable(0.0, name="counter", trainable=False)

    class Counts(layers.Layer):
        def call(self, x: Any) -> Any:
            counter.assign_add(1.0)
            return x

    with pytest.raises(TallyError, match="changes 'counter', which it doesn't hold"):
        Repeat(lambda: Counts(), 2)(tally.Input((6,)))


def test_a_block_can_not_be_read_or_called_by_itself() -> None:
    layer = Repeat(layers.Dense(6), 3)
    layer(X)
    with pytest.raises(TallyError, match="stands for a weight of 3 blocks and can't be read as one"):
        layer.block(X)


def test_unknown_blocks_and_policies_are_refused() -> None:
    with pytest.raises(ArgumentError, match="has the blocks 0 to 2, so 3 can't be frozen"):
        Repeat(layers.Dense(6), 3, frozen=[3])
    with pytest.raises(ArgumentError, match="remat='dots'"):
        Repeat(layers.Dense(6), 3, remat="dots")
