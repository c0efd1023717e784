"""What a plan says: parts that add up, figures by hand, the same model under another policy, what fits a memory."""

import json
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tally
from tally import layers
from tally.accounting.ledger import Entry, Ledger, Owner
from tally.accounting.plan import RESERVE, Plan, plan_ledger, solve, under
from tally.core.errors import ArgumentError


def quietly(subject, **options) -> Plan:
    return tally.plan(subject, **{"device": "gpu", "print_fn": lambda text: None, **options})


def convnet() -> tally.Model:
    return tally.Sequential(
        [
            tally.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="first"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu", name="second"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(10, activation="softmax", name="head"),
        ],
        name="convnet",
    )


# -- a model -----------------------------------------------------------------------------------------------------------
def test_the_figures_of_the_seeds_convnet():
    found = quietly(convnet(), batch_size=64)
    assert (found.count, found.multiply_adds) == (34_826, 2_440_960)
    assert found.parameters == 34_826 * 4 + 8  # and the two words of the dropout's seed
    assert found.gradients == 34_826 * 4
    assert found.optimizer == 2 * 34_826 * 4 + 8  # two slots for each, the count of steps, the rate
    assert found.batch == 64 * 28 * 28 * 4
    # Twice the multiply-adds, and one for each bias, each activation, each maximum but the first of four.
    assert 2 * 64 * 2_440_960 < found.flops_forward < 1.05 * 2 * 64 * 2_440_960
    assert 1.8 < found.flops_backward / found.flops_forward < 2.1
    assert found.layer("second").multiply_adds == 2_230_272
    assert (
        found.layer("first").flops_backward < found.layer("first").flops_forward * 1.3
    )  # no gradient of the image
    assert found.layer("second").outputs == 64 * 11 * 11 * 64 * 4
    assert found.layer("drop").multiply_adds == 0


def test_the_layers_add_up_to_the_model():
    found = quietly(convnet(), batch_size=8)
    assert sum(layer.parameters for layer in found.layers) == found.count
    assert sum(layer.multiply_adds for layer in found.layers) == found.multiply_adds
    assert sum(layer.flops_forward for layer in found.layers) == found.flops_forward
    assert sum(layer.flops_backward for layer in found.layers) == found.flops_backward
    assert found.flops == found.flops_forward + found.flops_backward + found.flops_update


def test_a_step_is_planned_near_what_the_compiler_says_and_what_a_run_takes():
    found = tally.plan(convnet(), batch_size=64, compare=True, print_fn=lambda text: None)
    print(f"FLOPs off by {found.flops_error:+.2%}, the peak by {found.peak_error:+.1%}")
    assert abs(found.flops_error) < 0.005
    assert found.compiled.flops_optimised == pytest.approx(found.flops, rel=0.1)
    assert abs(found.peak_error) < 0.25
    if sys.platform.startswith("linux"):  # how far a process grew is read from /proc
        error = found.peak / found.compiled.measured - 1
        print(f"a run takes {found.compiled.measured:,} bytes: {error:+.1%}")
        assert abs(error) < 0.4


def test_a_mixed_policy_halves_the_activations_and_not_the_weights():
    model = convnet()
    whole, half = quietly(model), quietly(model, policy="mixed_bfloat16")
    assert half.activations == pytest.approx(whole.activations / 2, rel=0.1)
    assert (half.parameters, half.gradients, half.optimizer) == (
        whole.parameters,
        whole.gradients,
        whole.optimizer,
    )
    assert half.policy == "mixed_bfloat16"
    short = quietly(model, policy="bfloat16")
    assert short.gradients == whole.gradients / 2
    assert model.dtype_policy.name == "float32"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


def test_a_model_made_under_a_policy_is_planned_as_one_that_is_planned_under_it():
    def small(dtype: str | None = None) -> tally.Model:
        options = {} if dtype is None else {"dtype": dtype}
        stack = [
            tally.Input((16,)),
            layers.Dense(32, activation="relu", **options),
            layers.Dense(4, **options),
        ]
        return tally.Sequential(stack, name="small")

    planned = quietly(small(), policy="bfloat16")
    made = quietly(small("bfloat16"))
    assert (planned.parameters, planned.gradients, planned.optimizer) == (
        made.parameters,
        made.gradients,
        made.optimizer,
    )


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [("sgd", 0), ("adam", 2), ("adamw", 2), ("rmsprop", 1), ("adagrad", 1), ("lion", 1), ("nadam", 2)],
)
def test_each_optimizer_remembers_what_it_itself_plans(optimizer, slots):
    model = tally.Sequential([tally.Input((100,)), layers.Dense(10)])
    found = quietly(model, optimizer=optimizer)
    assert found.optimizer == pytest.approx(slots * 1010 * 4, abs=16)
    assert quietly(tally.account(model), optimizer=optimizer).optimizer == found.optimizer


def test_the_compiled_optimizer_is_planned_and_left_as_it_is():
    model = tally.Sequential([tally.Input((4,)), layers.Dense(3)])
    model.compile(tally.optimizers.SGD(momentum=0.9), "mse")
    found = quietly(model)
    assert (found.optimizer_name, found.optimizer) == ("SGD", 15 * 4 + 8)
    assert not model.optimizer.built
    assert not [note for note in found.notes if "loss" in note]
    model.fit(np.zeros((4, 4), "float32"), np.zeros((4, 3), "float32"), verbose=0)
    assert quietly(model).optimizer == found.optimizer


def test_frozen_layers_have_no_gradients_and_no_slots():
    model = convnet()
    model.get_layer("first").trainable = model.get_layer("second").trainable = False
    found = quietly(model)
    assert found.gradients == 16_010 * 4
    assert found.optimizer == 2 * 16_010 * 4 + 8
    assert found.layer("second").flops_backward == 0
    assert found.activations < quietly(convnet()).activations


def test_with_nothing_to_train_prediction_is_planned():
    found = quietly(tally.Sequential([tally.Input((8,)), layers.ReLU()]))
    assert (found.training, found.step, found.gradients, found.optimizer_name) == (False, None, 0, None)
    assert "Nothing is trainable" in found.notes[0]


def test_prediction_alone_takes_less():
    both, alone = quietly(convnet()), quietly(convnet(), training=False)
    assert alone.peak == both.prediction.peak < both.peak
    assert (alone.flops_backward, alone.rematerialised) == (None, None)


def test_rematerialisation_trades_memory_for_work():
    model = tally.Sequential([tally.Input((64,)), *(layers.Dense(64, activation="tanh") for _ in range(12))])
    found = quietly(model, batch_size=512)
    assert found.activations_rematerialised < 0.65 * found.activations


def test_a_model_of_a_trillion_parameters_is_planned_without_allocating():
    class Block(layers.Layer):
        def __init__(self, width, **options):
            super().__init__(**options)
            self.attend = layers.MultiHeadAttention(64, width // 64)
            self.up, self.down = layers.Dense(4 * width, activation="gelu"), layers.Dense(width)

        def call(self, x):
            x = x + self.attend(x, x)
            return x + self.down(self.up(x))

    tokens = tally.Input((2048,), dtype="int32")
    x = layers.Embedding(50_000, 204_800)(tokens)
    for _ in range(2):
        x = Block(204_800)(x)
    model = tally.Model(tokens, x)
    held = len(jax.live_arrays())
    found = quietly(model, batch_size=8, policy="mixed_bfloat16", memory="80GB")
    assert found.count > 10**12
    assert found.peak > 14e12  # 4 bytes a weight, 8 for the optimizer, 2 for the gradient
    assert (found.fits, found.largest_batch) == (False, 0)
    assert len(jax.live_arrays()) <= held
    assert all(variable.is_planned for variable in model.variables)


def test_a_plan_changes_nothing_of_the_model_or_of_the_process():
    def draw() -> tuple[float, str]:
        layer = layers.Dense(3)
        layer.build((None, 2))
        return float(np.sum(layer.kernel.numpy())), layer.name

    tally.utils.set_random_seed(3)
    model = convnet()
    expected = draw()
    tally.utils.set_random_seed(3)
    tally.core.naming.reset_names()
    model = convnet()
    quietly(model, memory="1GB", policy="mixed_bfloat16")
    assert draw() == expected


# -- what fits ---------------------------------------------------------------------------------------------------------
def test_the_largest_batch_fits_and_one_more_does_not():
    model, memory = convnet(), 50_000_000
    found = quietly(model, memory=memory)
    room = memory * (1 - RESERVE)
    assert found.fits
    assert quietly(model, batch_size=found.largest_batch).peak <= room
    assert quietly(model, batch_size=found.largest_batch + 1).peak > room
    assert found.fixed + found.per_example * found.largest_batch == pytest.approx(room, rel=0.05)


def test_a_memory_too_small_for_the_weights_is_an_answer_and_no_error():
    found = quietly(convnet(), memory="100kB")
    assert (found.fits, found.largest_batch) == (False, 0)


def test_a_model_made_for_batches_of_one_size_is_planned_for_that():
    model = tally.Sequential([tally.Input(batch_shape=(4, 8)), layers.Dense(3)])
    found = quietly(model, batch_size=64, memory="1MB")
    assert (found.batch_size, found.largest_batch) == (4, 4)
    assert "batches of 4" in found.notes[0]


@given(st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**6))
@settings(max_examples=50)
def test_two_sizes_tell_what_is_fixed_and_what_each_example_adds(size, fixed, each):
    found = solve((size, fixed + each * size), (2 * size, fixed + each * 2 * size))
    assert found == (fixed, each)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch_size": 0}, "A batch can't have 0 examples"),
        ({"batch_size": 2.5}, "A batch can't have 2.5 examples"),
        ({"device": "abacus"}, "There is no device 'abacus'"),
        ({"policy": "mixed_float31"}, "mixed_float31"),
        ({"memory": "a lot"}, "memory can't be read"),
        ({"optimizer": "adem"}, "adam"),
        ({"compare": True, "device": "tpu"}, "compiler for the tpu"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(options, told):
    with pytest.raises(ArgumentError, match=told):
        quietly(tally.Sequential([tally.Input((4,)), layers.Dense(3)]), **options)


# -- a ledger alone ----------------------------------------------------------------------------------------------------
def test_a_ledger_is_planned_as_far_as_it_goes():
    model = convnet()
    live, alone = quietly(model), quietly(tally.account(model))
    assert (alone.followed, alone.flops, alone.intensity) == (False, None, None)
    assert (alone.parameters, alone.gradients, alone.optimizer) == (
        live.parameters,
        live.gradients,
        live.optimizer,
    )
    assert alone.multiply_adds == live.multiply_adds
    outputs = 26 * 26 * 32 + 13 * 13 * 32 + 11 * 11 * 64 + 5 * 5 * 64 + 1600 + 1600 + 10
    assert alone.activations == 32 * 4 * outputs
    assert "No call could be followed" in alone.notes[0]


def test_a_ledger_under_another_policy():
    ledger = tally.account(convnet())
    assert quietly(ledger, policy="mixed_bfloat16").activations == quietly(ledger).activations / 2
    assert quietly(ledger, policy="mixed_bfloat16").gradients == 34_826 * 4
    assert quietly(ledger, policy="bfloat16").gradients == 34_826 * 2
    assert {entry.dtype for entry in under(ledger, "float16").entries} == {"float16", "uint32"}
    assert under(ledger, None) is ledger


def test_shared_weights_are_stored_once_and_integers_keep_their_size():
    kernel = Entry(path="a/kernel", owner="a", shape=(10, 5), axes=("features", "units"))
    again = Entry(path="b/kernel", owner="b", shape=(10, 5), shared_with="a/kernel")
    packed = Entry(path="b/packed", owner="b", shape=(9,), dtype="int4", state="frozen")
    owners = (Owner(path="a", type="Dense"), Owner(path="b", type="Dense"))
    ledger = Ledger(name="m", owners=owners, entries=(kernel, again, packed))
    found = plan_ledger(ledger, policy="bfloat16")
    assert (found.parameters, found.gradients) == (100 + 5, 100)


def test_layers_that_are_not_built_are_named():
    found = quietly(tally.Sequential([layers.Dense(3, name="head")]))
    assert "Not built yet, and so not counted: head." in found.notes
    assert found.multiply_adds is None


def test_a_model_that_was_only_called_on_arrays_is_followed():
    class Own(tally.Model):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(3)

        def call(self, x):
            return self.head(x)

    model = Own()
    model(np.ones((16, 4), "float32"))
    found = quietly(model, batch_size=8)
    assert (found.batch_size, found.batch, found.multiply_adds) == (8, 8 * 4 * 4, 12)
    assert found.layer("head").flops_forward == 8 * (2 * 12 + 3)


# -- as data -----------------------------------------------------------------------------------------------------------
def test_a_plan_is_short_to_look_at_and_whole_as_json():
    found = quietly(tally.Sequential([tally.Input((4,)), layers.Dense(3)], name="small"))
    assert repr(found) == f"<Plan of 'small': training with batches of 32, {found.peak:,} bytes at the peak>"
    written = json.loads(found.to_json())
    assert (written["schema_version"], written["kind"], written["name"]) == (1, "plan", "small")
    assert written["step"] == {"activations": found.activations, "peak": found.peak}
    assert [layer["path"] for layer in written["layers"]] == ["", "dense"]
    assert (
        found.to_json()
        == quietly(tally.Sequential([tally.Input((4,)), layers.Dense(3)], name="small")).to_json()
    )


def test_asking_for_a_layer_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError):
        quietly(convnet()).layer("nowhere")
