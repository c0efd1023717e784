"""What one abstract run says about a model: who computed what, on which line, and how often."""

import jax
import jax.numpy as jnp
import pytest

import tally
from tally import layers
from tally.tracing.following import follow, line_of


class Doubler(layers.Layer):
    def call(self, x):
        return jnp.tanh(x * 2)


def test_each_equation_has_its_layer_and_the_users_line():
    model = tally.Sequential([tally.Input((4,)), Doubler(name="twice"), layers.Dense(3, name="head")])
    steps = [
        step for step in follow(model).equations() if step.equation.primitive.name in ("mul", "dot_general")
    ]
    assert [step.layer.name for step in steps] == ["twice", "head"]
    assert steps[0].line.startswith("tests/tracing/test_following.py:14:")
    assert steps[1].line is None


def test_a_loop_counts_its_body_as_often_as_it_runs():
    model = tally.Sequential([tally.Input((7, 4)), layers.LSTM(5)])
    times = [
        step.times for step in follow(model).equations() if step.equation.primitive.name == "dot_general"
    ]
    assert 7 in times


def test_a_run_knows_its_variables_inputs_outputs_and_what_was_assigned():
    model = tally.Sequential([tally.Input((4,)), layers.BatchNormalization(name="norm"), layers.Dropout(0.5)])
    run = follow(model, training=True)
    assert [(spec.shape, str(spec.dtype)) for spec in run.inputs] == [((2, 4), "float32")]
    assert (run.outputs, run.losses) == (1, 0)
    assert [v.name for v in run.assigned] == ["moving_mean", "moving_variance", "seed_generator_state"]
    assert follow(model, training=False).assigned == []


def test_losses_added_in_a_call_are_outputs_of_their_own():
    model = tally.Sequential([tally.Input((4,)), layers.ActivityRegularization(l2=0.1)])
    run = follow(model, training=True)
    assert (run.outputs, run.losses) == (1, 1)
    assert model.losses == []


def test_each_use_of_a_layer_is_noted_with_its_caller_and_the_phase_fixed_by_hand():
    inputs = tally.Input((4,))
    norm = layers.BatchNormalization(name="norm")
    model = tally.Model(inputs, norm(norm(inputs), training=False), name="whole")
    uses = [use for use in follow(model, training=True).uses if use.layer is norm]
    assert [(use.caller.name, use.training) for use in uses] == [("whole", None), ("whole", False)]
    assert uses[1].inputs[0] is uses[0].outputs[0]


def test_a_layer_that_was_never_called_cannot_be_followed():
    assert follow(layers.Dense(3)) is None


def test_following_leaves_no_trace_on_a_layer():
    class Keeper(layers.Layer):
        def call(self, x):
            self.seen = x
            return x

    layer = Keeper()
    layer(jnp.ones((2, 3)))
    follow(layer)
    assert not isinstance(layer.seen, jax.core.Tracer)


@pytest.mark.parametrize("batch", [2, 64])
def test_an_unknown_batch_takes_the_size_that_was_asked_for(batch):
    model = tally.Sequential([tally.Input((4,)), layers.Dense(3)])
    assert follow(model, batch=batch).inputs[0].shape == (batch, 4)


def test_a_trace_without_columns_still_tells_lines():
    class Frame:
        file_name, line_num = __file__, 7

    class Traceback:
        frames = (Frame(),)

    class Info:
        traceback = Traceback()

    class Equation:
        source_info = Info()

    assert line_of(Equation()) == "tests/tracing/test_following.py:7"
