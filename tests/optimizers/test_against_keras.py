"""Every optimizer takes the same steps as its Keras counterpart, and plans the same state."""

import copy
from typing import Any

import keras
import numpy as np
import pytest

import tally
from tally import optimizers

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras's `numpy()`

SHAPES = {"kernel": (3, 4), "bias": (4,), "cube": (2, 3, 2)}
SCHEDULE = {
    "class_name": "ExponentialDecay",
    "module": "keras.optimizers.schedules",
    "config": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5},
    "registered_name": None,
}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.8, "rho": 0.7}),
    ("RMSprop", {"momentum": 0.8, "centered": True, "epsilon": 1e-3}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_1": 0.5}),
    ("Adam", {"epsilon": 0.1, "weight_decay": 0.01}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.2, "amsgrad": True}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Nadam", {"weight_decay": 0.01}),
    ("Nadam", {"gradient_accumulation_steps": 2}),
    ("Adagrad", {}),
    ("Adagrad", {"initial_accumulator_value": 0.5}),
    ("Adadelta", {}),
    ("Lion", {}),
    ("Lion", {"weight_decay": 0.1}),
    ("Ftrl", {}),
    ("Ftrl", {"l1_regularization_strength": 0.3, "l2_regularization_strength": 0.1, "beta": 0.2}),
    ("Ftrl", {"l2_shrinkage_regularization_strength": 0.2, "learning_rate_power": -0.7}),
    ("Adafactor", {}),
    ("Adafactor", {"relative_step": False, "clip_threshold": 0.5}),
    ("Lamb", {}),
    ("Lamb", {"weight_decay": 0.1}),
    ("Muon", {}),
    ("Muon", {"nesterov": False, "rms_rate": None, "exclude_layers": ["cube"], "adam_lr_ratio": 0.5}),
    ("ScheduleFreeAdamW", {}),
    ("ScheduleFreeAdamW", {"warmup_steps": 4}),
    *[
        (name, shared)
        for name in ("SGD", "Adam")
        for shared in (
            {"learning_rate": SCHEDULE},
            {"clipnorm": 0.5},
            {"clipvalue": 0.3},
            {"global_clipnorm": 0.5},
            {"use_ema": True, "ema_momentum": 0.7},
            {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 3},
            {"loss_scale_factor": 8.0},
            {"gradient_accumulation_steps": 3},
            {
                "gradient_accumulation_steps": 2,
                "learning_rate": SCHEDULE,
                "clipnorm": 0.3,
                "weight_decay": 0.1,
            },
            {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 2},
        )
    ],
]


def variables(library: Any) -> list[Any]:
    generator = np.random.default_rng(7)
    return [
        library.Variable(generator.normal(size=shape).astype("float32"), name=name)
        for name, shape in SHAPES.items()
    ]


def gradients(steps: int = 6) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(11)
    return [
        [generator.normal(size=shape).astype("float32") for shape in SHAPES.values()] for _ in range(steps)
    ]


def pair(name: str, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """The same optimizer twice: Keras's and ours."""
    arguments = {"learning_rate": 0.05, **arguments}
    theirs = getattr(keras.optimizers, name).from_config(copy.deepcopy(arguments))
    return theirs, getattr(optimizers, name).from_config(arguments)


def words(case: Any) -> str:
    return case if isinstance(case, str) else "-".join(case)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=words)
def test_steps_and_state_equal_those_of_keras(name: str, arguments: dict[str, Any]) -> None:
    theirs, ours = pair(name, arguments)
    their_variables, our_variables = variables(keras), variables(tally)
    for step in gradients():
        theirs.apply(step, their_variables)
        ours.apply(step, our_variables)
        for their, our in zip(their_variables, our_variables, strict=True):
            np.testing.assert_allclose(our.numpy(), their.numpy(), rtol=2e-5, atol=2e-6, err_msg=our.path)
    for their, our in zip(theirs.variables, ours.variables, strict=True):
        np.testing.assert_allclose(our.numpy(), their.numpy(), rtol=2e-5, atol=2e-6, err_msg=our.path)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=words)
def test_planned_state_has_keras_order_shapes_and_names(name: str, arguments: dict[str, Any]) -> None:
    theirs, ours = pair(name, {**arguments, "name": "optimizer"})
    theirs.build(variables(keras))
    ours.build(variables(tally))
    assert [(v.shape, v.dtype) for v in ours.variables] == [
        (tuple(v.shape), v.dtype) for v in theirs.variables
    ]
    if name not in ("Adafactor", "Nadam"):  # Keras gives several of their variables one name
        assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]
    assert all(v.is_planned for v in ours.variables)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=words)
def test_keras_reads_our_configuration(name: str, arguments: dict[str, Any]) -> None:
    theirs, ours = pair(name, {**arguments, "name": "optimizer"})
    read = keras.saving.deserialize_keras_object(optimizers.serialize(ours))
    assert read.get_config() == theirs.get_config()


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=words)
def test_our_configuration_has_the_content_of_keras(name: str, arguments: dict[str, Any]) -> None:
    theirs, ours = pair(name, {**arguments, "name": "optimizer"})
    read = optimizers.deserialize(keras.saving.serialize_keras_object(theirs))
    assert read.get_config() == ours.get_config()
    assert set(ours.get_config()) == set(theirs.get_config())


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_defaults_are_those_of_keras(name: str) -> None:
    ours = getattr(optimizers, name)(name="optimizer").get_config()
    expected = getattr(keras.optimizers, name)(name="optimizer").get_config()
    assert ours == {**expected, "learning_rate": pytest.approx(expected["learning_rate"])}


def test_variables_without_decay_equal_those_of_keras() -> None:
    theirs, ours = pair("AdamW", {"weight_decay": 0.5})
    their_variables, our_variables = variables(keras), variables(tally)
    theirs.exclude_from_weight_decay(var_list=their_variables[2:], var_names=["bias"])
    ours.exclude_from_weight_decay(var_list=our_variables[2:], var_names=["bias"])
    for step in gradients(3):
        theirs.apply(step, their_variables)
        ours.apply(step, our_variables)
    for their, our in zip(their_variables, our_variables, strict=True):
        np.testing.assert_allclose(our.numpy(), their.numpy(), rtol=1e-5, atol=1e-6)


def test_loss_scaling_equals_that_of_keras_with_gradients_that_are_not_finite() -> None:
    theirs = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05), 64.0, dynamic_growth_steps=2)
    ours = optimizers.LossScaleOptimizer(optimizers.Adam(0.05), 64.0, dynamic_growth_steps=2)
    their_variables, our_variables = variables(keras), variables(tally)
    theirs.build(their_variables)
    ours.build(our_variables)
    values, state = [v.value for v in their_variables], [v.value for v in theirs.variables]
    for number, step in enumerate(gradients()):
        if number in (2, 5):
            step[1][0] = np.inf
        values, state = theirs.stateless_apply(state, step, values)
        ours.apply(step, our_variables)
        for their, our in zip([*values, *state], [*our_variables, *ours.variables], strict=True):
            np.testing.assert_allclose(our.numpy(), their, rtol=1e-5, atol=1e-6, err_msg=our.path)


def test_several_optimizers_at_once_equal_those_of_keras() -> None:
    def made(library: Any) -> Any:
        by_path = library.OptimizerMap(library.SGD(0.1), {"bi.*": library.Adam(0.05)})
        return library.MultiOptimizer(by_path, loss_scale_factor=4.0)

    theirs, ours = made(keras.optimizers), made(optimizers)
    their_variables, our_variables = variables(keras), variables(tally)
    for step in gradients(4):
        theirs.apply(step, their_variables)
        ours.apply(step, our_variables)
    for their, our in zip(
        [*their_variables, *theirs.variables], [*our_variables, *ours.variables], strict=True
    ):
        np.testing.assert_allclose(our.numpy(), their.numpy(), rtol=1e-5, atol=1e-6, err_msg=our.path)


def test_configurations_of_loss_scaling_survive_both_ways() -> None:
    theirs = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.5, name="a"), 8.0, name="outer")
    ours = optimizers.LossScaleOptimizer(optimizers.Adam(0.5, name="a"), 8.0, name="outer")
    assert keras.optimizers.deserialize(optimizers.serialize(ours)).get_config() == theirs.get_config()
    assert optimizers.deserialize(keras.optimizers.serialize(theirs)).get_config() == ours.get_config()


def test_configurations_of_several_optimizers_survive_both_ways() -> None:
    def made(library: Any) -> Any:
        by_path = library.OptimizerMap(library.SGD(0.5, name="a"), {"x.*": library.Adam(0.25, name="b")})
        return library.MultiOptimizer(by_path, name="outer")

    theirs, ours = made(keras.optimizers), made(optimizers)
    assert keras.optimizers.deserialize(optimizers.serialize(ours)).get_config() == theirs.get_config()
    assert optimizers.deserialize(keras.optimizers.serialize(theirs)).get_config() == ours.get_config()


def test_training_in_bfloat16_follows_keras() -> None:
    theirs, ours = pair("Adam", {"amsgrad": True})
    their = keras.Variable(np.ones((3,), "float32"), dtype="bfloat16", name="kernel")
    our = tally.Variable(np.ones((3,), "float32"), dtype="bfloat16", name="kernel")
    for number in range(3):
        gradient = np.full((3,), 0.5 - number, "float32")
        theirs.apply([gradient], [their])
        ours.apply([gradient], [our])
    assert {v.dtype for v in ours.variables[2:]} == {"bfloat16"}
    np.testing.assert_allclose(
        np.asarray(our.value, "float32"), np.asarray(their.value, "float32"), rtol=1e-2
    )
