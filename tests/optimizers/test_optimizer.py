"""What every optimizer does around its rule: state, compiled steps, learning rate, configuration, errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tally
from tally import optimizers
from tally.core.errors import ArgumentError, SavingError, ShapeError
from tally.core.registry import custom_object_scope
from tally.core.variable import Values, substitute


def weights() -> list[tally.Variable]:
    return [
        tally.Variable(np.arange(6, dtype="float32").reshape(2, 3), name="kernel"),
        tally.Variable(np.ones(3, "float32"), name="bias"),
    ]


def ones(scale: float = 1.0) -> list[np.ndarray]:
    return [np.full((2, 3), scale, "float32"), np.full((3,), scale, "float32")]


def numbers(variables: list[tally.Variable]) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


def scaled() -> optimizers.Optimizer:
    return optimizers.LossScaleOptimizer(optimizers.SGD(1.0), 16.0)


def assert_equal(ours: list[Any], expected: list[Any]) -> None:
    for our, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(np.asarray(our), np.asarray(other), rtol=1e-6, atol=1e-6)


# -- steps -------------------------------------------------------------------------------------------------
def test_a_step_inside_a_compiled_function_equals_one_outside() -> None:
    def made() -> tuple[optimizers.Optimizer, list[tally.Variable]]:
        variables = weights()
        variables[0].constraint = lambda value: jnp.clip(value, 0, 3)
        optimizer = optimizers.Adam(
            0.1,
            use_ema=True,
            ema_overwrite_frequency=2,
            gradient_accumulation_steps=2,
            clipnorm=1,
            weight_decay=0.1,
        )
        optimizer.build(variables)
        return optimizer, variables

    outside, expected = made()
    inside, variables = made()
    held = [*variables, *inside.variables]

    @jax.jit
    def step(values: list[jax.Array], gradients: list[jax.Array]) -> list[jax.Array]:
        with substitute(Values(zip(held, values, strict=True))) as now:
            inside.apply(gradients, variables)
            return [now[variable] for variable in held]

    values = [variable.raw for variable in held]
    for number in range(5):
        outside.apply(ones(number), expected)
        values = step(values, ones(number))
    assert_equal(values, [*expected, *outside.variables])


def test_stateless_steps_equal_stateful_ones_and_change_nothing() -> None:
    stateful, stateless, expected, variables = (
        optimizers.Nadam(0.1),
        optimizers.Nadam(0.1),
        weights(),
        weights(),
    )
    stateless.build(variables)
    values, state = [v.value for v in variables], [v.value for v in stateless.variables]
    for _ in range(3):
        stateful.apply(ones(), expected)
        values, state = stateless.stateless_apply(state, ones(), values)
    assert_equal([*values, *state], [*expected, *stateful.variables])
    assert_equal(variables, weights())


def test_pairs_of_gradient_and_variable_are_applied() -> None:
    variables, optimizer = weights(), optimizers.SGD(1.0)
    count = optimizer.apply_gradients(zip(ones(), variables, strict=True))
    assert int(count) == int(optimizer.iterations) == 1
    np.testing.assert_array_equal(variables[1].numpy(), [0, 0, 0])


def test_a_step_is_compiled_once_and_again_only_for_another_option() -> None:
    traced = []

    class Counted(optimizers.SGD):
        def rule(self, *arguments: Any) -> Any:
            traced.append(1)
            return super().rule(*arguments)

    optimizer, variables = Counted(1.0, momentum=0.5), weights()[1:]
    for rate in (1.0, 0.5, 0.25):
        optimizer.learning_rate = rate
        optimizer.apply(ones()[1:], variables)
    assert len(traced) == 1
    optimizer.clipvalue = 0.1
    before = variables[0].numpy()
    optimizer.momentum = 0.0
    optimizer.apply(ones()[1:], variables)
    assert len(traced) == 2
    np.testing.assert_allclose(before - variables[0].numpy(), 0.025, rtol=1e-5)


def test_constraints_hold_after_every_step() -> None:
    variables = weights()
    variables[0].constraint = lambda value: jnp.maximum(value, 0)
    optimizers.SGD(10.0).apply(ones(), variables)
    assert variables[0].numpy().min() == 0
    assert variables[1].numpy().max() == -9


def test_accumulated_gradients_make_one_update_by_their_mean() -> None:
    variables, once = weights(), weights()
    optimizer = optimizers.Adam(0.1, gradient_accumulation_steps=3)
    for scale in (1.0, 2.0, 6.0):
        assert_equal(variables, weights())
        optimizer.apply(ones(scale), variables)
    optimizers.Adam(0.1).apply(ones(3.0), once)
    assert_equal(variables, once)
    assert int(optimizer.iterations) == 1


def test_averages_replace_the_variables_when_training_ends() -> None:
    variables, optimizer = weights(), optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply(ones(), variables)
    np.testing.assert_array_equal(variables[1].numpy(), [-1, -1, -1])
    optimizer.finalize_variable_values(variables)
    np.testing.assert_array_equal(variables[1].numpy(), [-0.5, -0.5, -0.5])


def test_a_variable_that_is_not_passed_stays_as_it_is_with_its_state() -> None:
    variables, optimizer = weights(), optimizers.Adam(0.1)
    optimizer.build(variables)
    optimizer.apply(ones()[1:], variables[1:])
    assert_equal(variables[:1], weights()[:1])
    assert not optimizer.variables[2].numpy().any()
    assert optimizer.variables[4].numpy().all()


def test_a_missing_gradient_leaves_its_variable_with_a_warning() -> None:
    variables = weights()
    with pytest.warns(UserWarning, match="No gradient reaches kernel"):
        optimizers.SGD(1.0).apply([None, ones()[1]], variables)
    assert_equal(variables, [weights()[0], np.zeros(3)])


def test_no_gradients_at_all_do_nothing() -> None:
    optimizer = optimizers.SGD()
    optimizer.apply([], [])
    assert int(optimizer.iterations) == 0


def test_the_loss_is_scaled_as_the_gradients_are_scaled_back() -> None:
    variables, optimizer = weights(), optimizers.SGD(1.0, loss_scale_factor=4.0)
    assert optimizer.scale_loss(2.0) == 8.0
    optimizer.apply(ones(4.0), variables)
    np.testing.assert_array_equal(variables[1].numpy(), [0, 0, 0])


def test_a_loss_scale_is_halved_and_nothing_else_changed_by_an_infinite_gradient() -> None:
    variables, optimizer = weights(), scaled()
    assert optimizer.scale_loss(1.0) == 16.0
    optimizer.apply([np.full((2, 3), np.inf, "float32"), ones()[1]], variables)
    assert_equal(variables, weights())
    assert float(optimizer.scale_loss(1.0)) == 8.0
    assert int(optimizer.iterations) == 0


# -- state -------------------------------------------------------------------------------------------------
def test_building_allocates_nothing() -> None:
    optimizer = optimizers.Adam(use_ema=True)
    optimizer.build([tally.Variable(jnp.zeros, shape=(1_000_000, 1_000_000), name="huge")])
    assert all(variable.is_planned for variable in optimizer.variables)


def test_state_survives_a_store_of_arrays() -> None:
    variables, optimizer = weights(), optimizers.Adam(0.1)
    optimizer.apply(ones(), variables)
    store: dict[str, np.ndarray] = {}
    optimizer.save_own_variables(store)
    other = optimizers.Adam()
    other.build(weights())
    other.load_own_variables(store)
    assert_equal(other.variables, optimizer.variables)


def test_a_store_of_another_size_is_not_read() -> None:
    optimizer = optimizers.Adam()
    with pytest.warns(UserWarning, match="it has 2 variables, the file 1"):
        optimizer.load_own_variables({"0": np.int32(5)})
    assert int(optimizer.iterations) == 0


def test_weights_are_set_in_the_order_of_variables() -> None:
    optimizer = optimizers.SGD()
    optimizer.build(weights())
    optimizer.set_weights([7, 0.5])
    assert (int(optimizer.iterations), float(optimizer.learning_rate)) == (7, 0.5)


# -- the learning rate -------------------------------------------------------------------------------------
def test_the_learning_rate_is_read_and_set_as_a_number() -> None:
    optimizer = optimizers.Adam(0.25)
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 1e-4
    assert optimizer.get_config()["learning_rate"] == 1e-4


def test_a_schedule_takes_the_place_of_a_number() -> None:
    optimizer = optimizers.SGD(0.5)
    optimizer.learning_rate = optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    variables = weights()
    for _ in range(2):
        optimizer.apply(ones(), variables)
    assert [variable.name for variable in optimizer.variables] == ["iteration"]
    np.testing.assert_allclose(variables[1].numpy(), [-0.5] * 3)


# -- optax -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "transformation",
    [
        optax.adam(0.1),
        optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, momentum=0.9)),
        optax.contrib.schedule_free_adamw(0.1),
        optax.chain(optax.add_noise(0.1, 0.5, 3), optax.scale(-0.1)),
    ],
    ids=["adam", "chain", "schedule free", "noise"],
)
def test_an_optax_transformation_is_used_as_it_is(transformation: optax.GradientTransformation) -> None:
    variables, optimizer = weights(), optimizers.get(transformation)
    assert optimizer is not None
    params = {variable.path: variable.value for variable in variables}
    state = transformation.init(params)
    for scale in (1.0, 2.0, 3.0):
        gradients = dict(zip(("kernel", "bias"), map(jnp.asarray, ones(scale)), strict=True))
        updates, state = transformation.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        optimizer.apply(ones(scale), variables)
    assert_equal(variables, [params[variable.path] for variable in variables])


def test_the_state_of_a_transformation_is_planned_and_named_by_its_place() -> None:
    optimizer = optimizers.OptaxOptimizer(optax.adam(0.1), name="optax")
    optimizer.build(weights())
    assert all(variable.is_planned for variable in optimizer.variables)
    assert [variable.path for variable in optimizer.variables] == [
        "optax/iteration",
        "optax/0_count",
        "optax/0_mu_bias",
        "optax/0_mu_kernel",
        "optax/0_nu_bias",
        "optax/0_nu_kernel",
    ]


def test_the_learning_rate_of_injected_hyperparameters_is_read_and_set() -> None:
    optimizer, variables = optimizers.get(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)), weights()
    assert optimizer is not None
    optimizer.build(variables)
    assert float(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = 1.0
    optimizer.apply(ones(), variables)
    np.testing.assert_array_equal(variables[1].numpy(), [0, 0, 0])


def test_a_learning_rate_inside_a_transformation_is_out_of_reach() -> None:
    with pytest.raises(AttributeError, match="inject_hyperparams"):
        optimizers.OptaxOptimizer(optax.sgd(0.1)).learning_rate = 0.5


def test_clipping_and_accumulation_go_around_a_transformation() -> None:
    variables = weights()
    optimizer = optimizers.OptaxOptimizer(optax.sgd(1.0), clipvalue=0.5, gradient_accumulation_steps=2)
    for _ in range(2):
        optimizer.apply(ones(), variables)
    np.testing.assert_array_equal(variables[1].numpy(), [0.5, 0.5, 0.5])


def test_a_transformation_has_no_configuration() -> None:
    with pytest.raises(SavingError, match="made of functions"):
        optimizers.serialize(optimizers.OptaxOptimizer(optax.sgd(0.1)))


@pytest.mark.parametrize("make", [optimizers.Adam, optimizers.Ftrl, optimizers.ScheduleFreeAdamW])
def test_every_optimizer_is_an_optax_transformation(make: Any) -> None:
    variables, transformation = weights(), make(0.1).as_optax()
    params = {"dense": {variable.name: variable.value for variable in variables}}
    state, optimizer = jax.jit(transformation.init)(params), make(0.1)
    for scale in (1.0, 2.0):
        gradients = {"dense": dict(zip(("kernel", "bias"), map(jnp.asarray, ones(scale)), strict=True))}
        updates, state = jax.jit(transformation.update)(gradients, state, params)
        params = optax.apply_updates(params, updates)
        optimizer.apply(ones(scale), variables)
    assert_equal([params["dense"]["kernel"], params["dense"]["bias"]], variables)


# -- written by users --------------------------------------------------------------------------------------
def test_an_optimizer_written_for_keras_works() -> None:
    class Momentum(optimizers.Optimizer):
        def __init__(self, keep: float = 0.5, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.keep = keep

        def build(self, variables: Any) -> None:
            super().build(variables)
            self.moments = [
                self.add_variable_from_reference(reference_variable=v, name="m") for v in variables
            ]
            self.total = self.add_variable(shape=(), initializer="zeros", name="total")

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            moment = self.moments[self._get_variable_index(variable)]
            self.assign(moment, moment * self.keep + gradient)
            self.assign_sub(variable, learning_rate * moment)
            self.assign_add(self.total, jnp.sum(gradient))

    variables, optimizer = weights(), Momentum(learning_rate=1.0)
    for _ in range(2):
        optimizer.apply(ones(), variables)
    np.testing.assert_allclose(variables[1].numpy(), [-1.5] * 3)
    assert float(optimizer.total) == 18
    assert optimizer.get_config()["keep"] == 0.5


# -- names and errors --------------------------------------------------------------------------------------
@pytest.mark.parametrize("identifier", ["adam", "Adam", "ADAM", optimizers.Adam, optimizers.Adam(), None])
def test_get_takes_names_classes_and_optimizers(identifier: Any) -> None:
    found = optimizers.get(identifier)
    assert found is None if identifier is None else isinstance(found, optimizers.Adam)


def test_get_takes_a_configuration() -> None:
    found = optimizers.get({"class_name": "rmsprop", "config": {"rho": 0.5}})
    assert isinstance(found, optimizers.RMSprop)
    assert found.rho == 0.5


def test_get_finds_a_registered_optimizer() -> None:
    class Mine(optimizers.SGD):
        pass

    with custom_object_scope({"Mine": Mine}):
        assert isinstance(optimizers.get("Mine"), Mine)


def test_an_unknown_name_gets_the_closest_suggested() -> None:
    with pytest.raises(ArgumentError, match=r"There is no optimizer 'adm'\. Did you mean 'adam'\?"):
        optimizers.get("adm")


def test_what_is_no_optimizer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="3 is not an optimizer"):
        optimizers.get(3)


def test_an_unknown_argument_gets_the_closest_suggested() -> None:
    with pytest.raises(ArgumentError, match=r"Adam has no argument 'beta1'\. Did you mean 'beta_1'\?"):
        optimizers.Adam(beta1=0.5)  # pyright: ignore[reportCallIssue]


def test_a_wrong_number_of_gradients_is_named() -> None:
    with pytest.raises(ArgumentError, match="given 1 gradients for 2 variables"):
        optimizers.SGD(name="sgd").apply(ones()[:1], weights())


def test_a_gradient_of_another_shape_names_its_variable() -> None:
    with pytest.raises(ShapeError, match=r"The gradient of 'bias' has shape \(4,\); the variable has \(3,\)"):
        optimizers.SGD().apply([ones()[0], np.ones(4, "float32")], weights())


def test_gradients_that_are_all_missing_are_refused() -> None:
    with pytest.raises(ArgumentError, match="no gradient for any variable"):
        optimizers.SGD().apply([None, None], weights())


def test_a_variable_the_optimizer_was_not_built_with_is_named() -> None:
    optimizer = optimizers.SGD()
    optimizer.build(weights()[:1])
    with pytest.raises(ArgumentError, match="not built with the variable 'bias'"):
        optimizer.apply(ones()[1:], weights()[1:])


def test_gradients_alone_need_a_built_optimizer() -> None:
    with pytest.raises(ArgumentError, match="is not built"):
        optimizers.SGD().apply(ones())


def test_excluding_from_decay_comes_before_building() -> None:
    optimizer = optimizers.AdamW()
    optimizer.build(weights())
    with pytest.raises(ArgumentError, match="after the optimizer was built"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.SGD(clipnorm=1.0, clipvalue=1.0), "Only one of"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=1), "must be 2 or more"),
        (lambda: optimizers.SGD(ema_momentum=1.5), "between 0 and 1"),
        (lambda: optimizers.SGD(ema_overwrite_frequency=0), "must be 1 or more"),
        (lambda: optimizers.SGD(momentum=2.0), "between 0 and 1"),
        (lambda: optimizers.SGD("fast"), "The learning rate can't be 'fast'"),
        (lambda: optimizers.AdamW(weight_decay=None), "needs a weight_decay"),
        (lambda: optimizers.Lion(beta_1=0.0), "above 0"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-1.0), "l1_.* must be 0 or more"),
        (lambda: optimizers.OptaxOptimizer(optax.sgd(0.1), weight_decay=0.1), "decays weights itself"),
        (lambda: optimizers.MultiOptimizer(optimizers.OptimizerMap(scaled())), "can't stand inside"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_two_patterns_for_one_path_are_refused() -> None:
    by_path = optimizers.OptimizerMap(optimizers.SGD(), {"a.*": optimizers.Adam(), ".*b": optimizers.Lion()})
    with pytest.raises(ArgumentError, match="'ab' is matched by"):
        by_path["ab"]
    assert isinstance(by_path["c"], optimizers.SGD)
