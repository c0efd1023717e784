"""Many small batches in one compiled call: the same numbers, and only where nobody could tell the difference."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally import layers
from tally.callbacks import Callback, CallbackList, ProgbarLogger
from tally.kernels.convolution import convolve
from tally.kernels.native import library
from tally.training import grouping, reading
from tally.training.grouping import Joining, filled_up, work_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(46, 6)).astype("float32")
Y = RNG.normal(size=(46, 2)).astype("float32")


class Listening(Callback):
    """Wants to hear of each batch, so that each has a call of its own."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Any]] = []

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.heard.append((batch, logs))

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self.heard.append((batch, None if logs is None else logs.get("outputs")))


class Counting(Listening):
    """Is content to hear of some."""

    takes_some = True


class Noise(layers.Layer):
    """Adds noise, also when nothing is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = tally.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        return x + tally.random.normal(x.shape, seed=self.seeds)


class Number(layers.Layer):
    """Adds the number of the call, which it counts in a weight."""

    def build(self, input_shape: Any) -> None:
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        self.calls.assign_add(1.0)
        return x + self.calls.value


class AcrossTheBatch(layers.Layer):
    """Looks at the other examples of the batch, and at their number."""

    def call(self, x: Any) -> Any:
        return (x - x.mean(axis=0)) * x.shape[0]


def dense(*more: layers.Layer) -> Any:
    tally.utils.set_random_seed(3)
    model = tally.Sequential([tally.Input((6,)), *more, layers.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def two_outputs() -> Any:
    tally.utils.set_random_seed(3)
    x = tally.Input((6,))
    model = tally.Model(x, {"a": layers.Dense(2)(x), "b": layers.Activation("gelu")(x)})
    model.compile("sgd", {"a": "mse"})
    return model


MODELS = {
    "dense": lambda: dense(layers.Dense(5, activation="tanh"), layers.BatchNormalization(), layers.Softmax()),
    "recurrent": lambda: dense(layers.Reshape((3, 2)), layers.LSTM(3)),
    "convolution": lambda: dense(layers.Reshape((2, 3, 1)), layers.Conv2D(3, 2), layers.Flatten()),
    "attention": lambda: dense(layers.Reshape((3, 2)), SelfAttention(), layers.Flatten()),
    "random": lambda: dense(Noise()),
    "with state": lambda: dense(Number()),
    "across the batch": lambda: dense(AcrossTheBatch()),
    "two outputs": two_outputs,
}


class SelfAttention(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 2)

    def call(self, x: Any) -> Any:
        return self.attention(x, x)


def predicted(model: Any, x: Any = X, batch_size: int = 4, **options: Any) -> Any:
    return model.predict(x, batch_size=batch_size, verbose=0, **options)


def assert_same(first: Any, second: Any) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), first, second)


# -- the same numbers --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_batch_by_batch(name: str, calls: list[str]) -> None:
    together = predicted(MODELS[name]())
    assert calls == ["predict"] * 2  # 11 batches of 4, and one of 2
    alone = predicted(MODELS[name](), callbacks=[Listening()])
    assert calls == ["predict"] * (2 + 12)
    assert_same(together, alone)
    assert jax.tree.leaves(together)[0].shape == (46, 2)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "two outputs"])
def test_measures_are_those_of_batch_by_batch(name: str, calls: list[str]) -> None:
    first, second = MODELS[name](), MODELS[name]()
    weights = np.random.default_rng(1).uniform(size=46).astype("float32")
    together = first.evaluate(X, Y, batch_size=4, verbose=0, sample_weight=weights)
    assert calls == ["test"] * 2
    told = Listening()
    alone = second.evaluate(X, Y, batch_size=4, verbose=0, sample_weight=weights, callbacks=[told])
    assert len(told.heard) == 12
    assert together == pytest.approx(alone, rel=1e-6)  # a loop may be compiled with other roundings
    assert_same(first.get_weights(), second.get_weights())


@pytest.mark.parametrize("batches", [2, 4, 5, 8, 9])
def test_a_call_that_is_not_full_gives_what_there_is(
    batches: int, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    monkeypatch.setattr(grouping, "MOST", 4)
    model = dense()
    made = predicted(model, X[: 4 * batches])
    assert calls == ["predict"] * -(-batches // 4)
    assert made.shape == (4 * batches, 2)
    assert made.flags.writeable
    np.testing.assert_allclose(made, model.predict_on_batch(X[: 4 * batches]), rtol=1e-5, atol=1e-6)


def test_the_model_sees_batches_of_the_size_that_was_asked_for() -> None:
    sizes: list[int] = []

    class Seeing(layers.Layer):
        def call(self, x: Any) -> Any:
            sizes.append(x.shape[0])
            return x

    model = dense(Seeing())
    sizes.clear()
    predicted(model)
    assert sizes == [4, 2]  # each is followed once
    predicted(model, X[:4])
    predicted(model, callbacks=[Listening()])
    assert sizes == [4, 2]


def test_a_step_is_followed_anew_where_jax_is_told_to_compute_otherwise() -> None:
    followed: list[int] = []

    class Seeing(layers.Layer):
        def call(self, x: Any) -> Any:
            followed.append(1)
            return x

    model = dense(Seeing())
    predicted(model, X[:44])
    before = len(followed)
    with jax.default_matmul_precision("highest"):
        predicted(model, X[:44])
    assert len(followed) == before + 1


# -- where each batch has a call of its own ----------------------------------------------------------------------------
def test_who_listens_hears_of_each_batch_with_its_outputs() -> None:
    told = Listening()
    whole = predicted(dense(), callbacks=[told])
    assert [number for number, _ in told.heard] == list(range(12))
    assert_same(np.concatenate([np.asarray(outputs) for _, outputs in told.heard]), whole)


def test_who_only_counts_hears_of_the_last_batch_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "MOST", 8)
    counting, measuring = Counting(), Counting()
    model = dense()
    predicted(model, callbacks=[counting])
    assert counting.heard == [(7, None), (11, None)]
    found = model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[measuring], return_dict=True)
    assert [number for number, _ in measuring.heard] == [7, 11]
    assert measuring.heard[-1][1] == pytest.approx(found)


def test_a_progress_bar_is_content_with_some(capsys: Any, calls: list[str]) -> None:
    dense().predict(X, batch_size=4)
    assert "12/12" in capsys.readouterr().out
    assert calls == ["predict"] * 2


def test_a_list_of_callbacks_knows_whether_each_batch_is_wanted() -> None:
    class Own(CallbackList):
        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None: ...

    class Other(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...

    assert not CallbackList([]).wants_each("predict")
    assert not CallbackList([ProgbarLogger(), Counting(), Other()]).wants_each("predict")
    assert CallbackList([ProgbarLogger(), Listening()]).wants_each("test")
    assert Own([]).wants_each("predict")
    assert not Own([]).wants_each("test")


def test_what_comes_by_itself_is_drawn_a_batch_at_a_time(calls: list[str]) -> None:
    drawn: list[int] = []

    def batches() -> Iterator[Any]:
        for number in range(6):
            assert len(calls) == max(0, number)  # each is used before the next is asked for
            drawn.append(number)
            yield X[:4]

    assert predicted(dense(), batches(), batch_size=None).shape == (24, 2)  # type: ignore[arg-type]
    assert len(drawn) == 6


def test_few_batches_are_not_worth_room_for_many(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading._FILLED == 16
    model = dense()
    predicted(model, X[:28])  # 7 batches, where there would be room for 128
    assert calls == ["predict"] * 7
    calls.clear()
    predicted(model, X[:32])
    assert calls == ["predict"]


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": False}])
def test_steps_that_are_not_compiled_are_made_one_by_one(options: Any) -> None:
    sizes: list[Any] = []

    class Seeing(layers.Layer):
        def call(self, x: Any) -> Any:
            sizes.append(x.shape[0])
            return x

    model = dense(Seeing())
    model.compile("sgd", "mse", **options)
    sizes.clear()
    predicted(model)
    assert sizes == [4] * 11 + [2]


def test_a_model_with_effects_has_a_call_for_each_batch(calls: list[str]) -> None:
    seen: list[float] = []

    class Telling(layers.Layer):
        def call(self, x: Any) -> Any:
            jax.debug.callback(lambda value: seen.append(float(value)), x[0, 0])
            return x

    predicted(dense(Telling()))
    jax.effects_barrier()
    assert calls == ["predict"] * 12
    assert sorted(seen) == sorted(X[::4, 0].tolist())


# -- how many ----------------------------------------------------------------------------------------------------------
def size_for(function: Any, batch: Any) -> int:
    joining = Joining(
        lambda *given: ([], {}, function(given[-1])), "predict", ([], [], np.int32(0), np.uint32(0), batch)
    )
    return joining.best_size if joining.is_possible else 1


def test_inputs_and_outputs_stay_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = np.ones((4, 6), "float32")
    assert size_for(lambda x: x, batch) == grouping.MOST
    monkeypatch.setattr(grouping, "BYTES", 10 * 2 * batch.nbytes)
    assert size_for(lambda x: x, batch) == 8
    monkeypatch.setattr(grouping, "BYTES", batch.nbytes)
    assert size_for(lambda x: x, batch) == 1


def test_work_stays_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = np.ones((4, 6), "float32")
    monkeypatch.setattr(grouping, "WORK", 5 * 2 * 4 * 6 * 6)
    assert size_for(lambda x: x @ np.ones((6, 6), "float32"), batch) == 4
    assert size_for(lambda x: jax.lax.while_loop(lambda y: y.sum() < 99, lambda y: y + 1, x), batch) == 1


def test_outputs_without_an_axis_of_examples_are_not_put_together() -> None:
    batch = np.ones((4, 6), "float32")
    assert size_for(lambda x: {"a": x, "b": x.sum()}, batch) == 1
    assert size_for(lambda x: jax.random.split(jax.random.key(0), len(x)), batch) == 1


@pytest.mark.parametrize(
    ("function", "work"),
    [
        (lambda x: x @ x, 2 * 8**3),
        (lambda x: jnp.tanh(x), 10 * 8 * 8),
        (lambda x: jax.jit(lambda y: y @ y)(x), 2 * 8**3),
        (lambda x: jax.lax.scan(lambda y, _: (y @ y, None), x, None, length=5)[0], 5 * 2 * 8**3),
        (lambda x: jax.lax.cond(True, lambda y: y @ y, lambda y: y, x), 2 * 8**3),
        (lambda x: jax.pure_callback(lambda y: y, x, x), np.inf),
    ],
)
def test_work_is_told_from_what_a_function_does(function: Any, work: float) -> None:
    found = work_of(jax.make_jaxpr(function)(jnp.ones((8, 8))).jaxpr)
    assert found == pytest.approx(work, abs=20)


def test_the_work_of_a_convolution_in_c_is_its_multiplications_and_xlas_is_kept_out_of_loops(
    monkeypatch,
) -> None:
    def ours(x: Any, kernel: Any) -> Any:
        return convolve(x, kernel, strides=(1, 1), padding="valid", dilation=(1, 1))

    def plain(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def work(function: Any) -> float:
        return work_of(jax.make_jaxpr(function)(jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 5))).jaxpr)

    monkeypatch.setattr(library, "is_there", lambda: True)
    assert work(ours) == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert work(plain) == math.inf
    monkeypatch.setattr(library, "is_there", lambda: False)
    assert work(ours) == math.inf


def test_stacks_are_filled_up_to_the_room_there_is() -> None:
    given = {"a": np.ones((2, 3), "int32"), "b": np.ones((2,), "float32")}
    filled = filled_up(given, 4)
    assert filled["a"].shape == (4, 3)
    assert filled["a"].dtype == "int32"
    np.testing.assert_array_equal(filled["b"], [1, 1, 0, 0])
    assert filled_up(given, 2)["a"] is given["a"]
