"""The layer: lazy build, phases, losses, freezing, errors that say where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally import layers
from tally.core.errors import ShapeError, TallyError


def test_a_symbolic_call_builds_and_gives_the_output_shape():
    layer = layers.Dense(5)
    output = layer(tally.Input((10,)))
    assert output.shape == (None, 5)
    assert all(variable.is_planned for variable in layer.weights)


def test_an_explicit_build_makes_the_weights():
    layer = layers.Dense(5)
    layer.build((None, 10))
    assert layer.built
    assert layer.count_params() == 55


def test_counting_before_the_build_says_what_to_do():
    with pytest.raises(ValueError, match="has not seen an input shape") as caught:
        layers.Dense(5, name="head").count_params()
    assert "test_layer.py" in str(caught.value)
    assert "call build(input_shape)" in str(caught.value)


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(3)
        self.drop = layers.Dropout(0.5)

    def call(self, x):
        return self.drop(self.inner(x))


def test_the_training_phase_reaches_layers_through_calls_that_do_not_name_it():
    block = Block()
    x = np.ones((64, 3), "float32")
    assert not np.any(np.asarray(block(x)) == 0)
    assert np.any(np.asarray(tally.Sequential([block])(x, training=True)) == 0)


def test_freezing_reaches_everything_below_and_can_be_undone():
    block = Block()
    block.build((None, 3))
    block.trainable = False
    assert block.trainable_variables == []
    assert not block.inner.trainable
    assert len(block.non_trainable_weights) == 2
    block.trainable = True
    assert len(block.trainable_variables) == 2


def test_freezing_before_the_build_holds():
    block = Block()
    block.trainable = False
    block.build((None, 3))
    assert block.trainable_variables == []


def test_batch_statistics_stay_state_when_a_layer_is_unfrozen():
    layer = layers.BatchNormalization()
    layer.build((None, 4))
    layer.trainable = False
    layer.trainable = True
    assert [v.name for v in layer.trainable_variables] == ["gamma", "beta"]


def test_losses_are_those_of_the_last_call_and_of_regularizers():
    class Penalty(layers.Layer):
        def call(self, x):
            self.add_loss(jnp.sum(x))
            return x

    model = tally.Sequential([tally.Input((2,)), layers.Dense(2, kernel_regularizer="l2"), Penalty()])
    model(np.ones((1, 2), "float32"))
    model(np.ones((1, 2), "float32"))
    assert len(model.losses) == 2
    kernel = model.layers[0].kernel.numpy()
    assert float(model.losses[1]) == pytest.approx(0.01 * (kernel**2).sum(), rel=1e-5)


def test_an_activity_regularizer_adds_to_the_losses():
    layer = layers.Dense(2, activity_regularizer=tally.regularizers.L1(0.5))
    output = layer(np.ones((3, 2), "float32"))
    assert float(layer.losses[0]) == pytest.approx(0.5 * float(jnp.abs(output).sum()) / 3, rel=1e-5)


def test_mixed_precision_computes_short_and_stores_long():
    layer = layers.Dense(3, dtype="mixed_bfloat16")
    assert layer(np.ones((2, 4), "float32")).dtype == "bfloat16"
    assert layer.kernel.dtype == "float32"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_dtype_holds_for_weights_and_output(dtype):
    layer = layers.Dense(3, dtype=dtype)
    assert layer(np.ones((2, 4), "float32")).dtype == dtype
    assert layer.kernel.dtype == dtype


def test_a_stateless_call_is_pure_and_differentiable():
    layer = layers.BatchNormalization()
    layer.build((None, 3))
    state = [v.value for v in layer.non_trainable_variables]
    x = jnp.arange(12.0).reshape(4, 3)

    def loss(trainable):
        y, new = layer.stateless_call(trainable, state, x, training=True)
        return (y**2).sum(), new

    trainable = [v.value for v in layer.trainable_variables]
    grads, new = jax.jit(jax.grad(loss, has_aux=True))(trainable)
    assert np.any(np.asarray(new[0]) != 0)
    assert np.all(layer.moving_mean.numpy() == 0)
    assert grads[0].shape == (3,)


def test_a_wrong_number_of_channels_is_told_whole():
    layer = layers.Conv2D(8, 3, name="stem")
    layer.build((None, 28, 28, 3))
    with pytest.raises(ShapeError) as caught:
        layer(np.zeros((32, 28, 28, 5), "float32"))
    made = layer.made_at
    assert str(caught.value) == (
        "Conv2D 'stem' takes 3 input channels, but was given 5.\n"
        f"  where: made at {made}; called with float32[32,28,28,5]\n"
        "  do: feed 3 input channels on the last axis, or make another Conv2D for this input"
    )


def test_an_error_inside_call_keeps_its_type_and_gains_the_path_of_layers():
    class Bad(layers.Layer):
        def call(self, x):
            raise KeyError("mine")

    class Outer(layers.Layer):
        def __init__(self):
            super().__init__(name="outer")
            self.bad = Bad(name="bad")

        def call(self, x):
            return self.bad(x)

    with pytest.raises(KeyError) as caught:
        Outer()(np.ones((2, 3), "float32"))
    notes = [note for note in caught.value.__notes__ if note.startswith("in ")]
    assert notes[0].startswith("in Bad 'bad', made at ")
    assert "called with float32[2,3]" in notes[0]
    assert "raised at" in notes[0]
    assert notes[1].startswith("in Outer 'outer'")


def test_forgetting_super_init_is_told_at_the_first_use():
    class Forgot(layers.Layer):
        def __init__(self):
            self.dense = layers.Dense(2)

    with pytest.raises(TallyError, match=r"call super\(\).__init__"):
        Forgot()


def test_an_unknown_argument_is_told_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"has no argument 'kernal_size'\. Did you mean 'kernel_size'"):
        layers.Conv2D(3, 3, kernal_size=3)


def test_a_variable_in_a_jax_function_is_told_how_to_be_passed():
    class Exponential(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(3,))

        def call(self, x):
            return x * jnp.exp(self.w)

    with pytest.raises(ValueError, match="__jax_array__") as caught:
        Exponential()(np.ones((2, 3), "float32"))
    assert any("self.kernel.value" in note for note in caught.value.__notes__)


def test_an_unknown_name_is_told_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"'rleu' is not a known name in tally\.activations\. Did you mean"):
        layers.Dense(3, activation="rleu")


def test_a_mask_travels_to_the_layer_that_uses_it():
    class Seen(layers.Layer):
        def call(self, x, mask=None):
            self.mask = mask is not None
            return x

    seen = Seen()
    model = tally.Sequential([layers.Embedding(5, 3, mask_zero=True), layers.Dropout(0.1), seen])
    model(np.array([[1, 0]]))
    assert seen.mask


def test_the_config_of_a_users_layer_needs_no_code():
    class Mine(layers.Layer):
        def __init__(self, units, scale=2.0, **kwargs):
            super().__init__(**kwargs)
            self.units = units

    config = Mine(4, name="mine").get_config()
    assert config["units"] == 4
    assert config["scale"] == 2.0
    again = Mine.from_config(config)
    assert (again.units, again.name) == (4, "mine")


def test_set_weights_changes_nothing_when_one_does_not_fit():
    layer = layers.Dense(2)
    layer.build((None, 3))
    before = layer.get_weights()
    with pytest.raises(ShapeError, match="was given \\(3,\\)"):
        layer.set_weights([np.ones((3, 2)), np.ones(3)])
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])


def test_a_phase_may_be_passed_by_position():
    x = np.ones((64, 8), "float32")
    dropout = layers.Dropout(0.5)
    assert float(jnp.mean(dropout(x, True) == 0)) > 0.2
    assert not (dropout(x, False) == 0).any()
