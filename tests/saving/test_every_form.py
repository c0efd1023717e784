"""In each form a file that doesn't fit names every weight, says which rename fits, and changes nothing."""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tally
from models.cases import CASES, both
from tally.core.errors import SavingError
from tally.models.verbs.loading import LoadingReport

L = tally.layers
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's variables
    pytest.mark.filterwarnings("ignore:.*is of the older form:UserWarning"),
    pytest.mark.filterwarnings("ignore:The state of optimizer:UserWarning"),
]


@tally.saving.register_keras_serializable("mismatch")
class Net(tally.Model):
    """Layers side by side, so that the shape of each says which it is; a file has each by its attribute."""

    def __init__(self, units: dict[str, int], **options: Any) -> None:
        super().__init__(name="net", **options)
        self.units, self.order = dict(units), list(units)
        for name, size in units.items():
            setattr(self, name, L.Dense(size, name=name))

    def call(self, x: Any) -> Any:
        return [getattr(self, name)(x) for name in self.order]


def held(units: dict[str, int], seed: int) -> Any:
    tally.utils.set_random_seed(seed)
    model = Net(units)
    model.build((None, 4))
    return ready(model)


def graph(units: dict[str, int], seed: int) -> Any:
    tally.utils.set_random_seed(seed)
    return ready(of_graph(tally, units))


def of_graph(lib: Any, units: dict[str, int]) -> Any:
    x = lib.Input((4,))
    return lib.Model(x, [lib.layers.Dense(size, name=name)(x) for name, size in units.items()], name="net")


def ready(model: Any) -> Any:
    """With an optimizer that has its state."""
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def by_weights(name: str) -> Callable[[Any, Path], Any]:
    def save(model: Any, folder: Path) -> Any:
        model.save_weights(folder / name)
        return folder / name

    return save


def by_model(name: str) -> Callable[[Any, Path], Any]:
    def save(model: Any, folder: Path) -> Any:
        model.save(folder / name)
        return folder / name

    return save


def by_orbax(model: Any, folder: Path) -> Any:
    with model.checkpoints(folder / "run") as checkpoints:
        checkpoints.save(model, 1)
    return folder / "run"


def as_state(model: Any, folder: Path) -> Any:
    """A PyTorch module's state: other names of weights, kernels the other way round."""
    return {
        f"{layer}.{'weight' if word == 'kernel' else word}": np.asarray(variable).T
        for variable in model.weights
        for layer, word in [variable.path.split("/")[-2:]]
    }


def by_keras(model: Any, folder: Path) -> Any:
    theirs = of_graph(keras, {layer.name: layer.units for layer in model.layers if hasattr(layer, "units")})
    theirs.compile("adam", "mse")
    theirs.optimizer.build(theirs.trainable_variables)
    theirs.set_weights(model.get_weights())
    theirs.save_weights(folder / "theirs.weights.h5")
    return folder / "theirs.weights.h5"


@dataclass(frozen=True)
class Form:
    """How a model is made and stored.

    Args:
        save: Stores it, and gives what `load_weights` takes.
        make: Makes the model.
        order: Whether layers go by their place or shape, so that another name of a layer is no misfit.
    """

    save: Callable[[Any, Path], Any]
    make: Callable[[dict[str, int], int], Any] = held
    order: bool = False


FORMS = {
    ".weights.h5": Form(by_weights("m.weights.h5")),
    ".keras": Form(by_model("m.keras")),
    ".weights.json": Form(by_weights("m.weights.json")),
    ".safetensors": Form(by_weights("m.safetensors")),
    "orbax": Form(by_orbax),
    ".h5": Form(by_model("m.h5"), graph, order=True),
    "Keras's": Form(by_keras, graph, order=True),
    "a graph's .weights.h5": Form(by_weights("m.weights.h5"), graph, order=True),
    "PyTorch's": Form(as_state, order=True),
}
FULL = {"stem": 3, "body": 5, "head": 7}
PART = {"stem": 3, "body": 5}
WIDE = {"stem": 3, "body": 5, "head": 8}
MISFITS = {  # what is stored, what loads it, the weights of the model and those of the file that are told
    "missing": (PART, FULL, {"head/kernel (4, 7)", "head/bias (7,)"}, set()),
    "extra": (FULL, PART, set(), {(4, 7), (7,)}),
    "misshapen": (FULL, WIDE, {"head/kernel", "head/bias"}, {(4, 7), (7,), (4, 8), (8,)}),
    "all": (
        {"stem": 3, "body": 5, "other": 2},
        {"stem": 3, "body": 6, "head": 7},
        {"body/kernel", "body/bias", "head/kernel", "head/bias"},
        {(4, 2), (2,), (4, 5), (5,), (4, 6), (6,), (4, 7), (7,)},
    ),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def bits(model: Any) -> list[np.ndarray]:
    return [np.asarray(one) for one in (*model.variables, *model.optimizer.variables)]


def assert_equal(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(
            mine.view(np.uint8) if mine.ndim else mine, theirs.view(np.uint8) if theirs.ndim else theirs
        )


def refused(model: Any, source: Any, **options: Any) -> str:
    before = bits(model)
    with pytest.raises(SavingError) as caught:
        model.load_weights(source, **options)
    assert_equal(bits(model), before)
    return str(caught.value)


def kernels(model: Any) -> dict[str, np.ndarray]:
    return {layer.name: np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}


@each_form
@pytest.mark.parametrize("misfit", MISFITS)
def test_every_weight_is_named_and_nothing_changes(form: Form, misfit: str, tmp_path: Path) -> None:
    stored, wanted, paths, shapes = MISFITS[misfit]
    source = form.save(form.make(stored, 0), tmp_path)
    text = refused(form.make(wanted, 1), source)
    lines = text.splitlines()
    assert "don't fit 'net': " in lines[0]
    assert re.fullmatch(r"  do: .*; nothing was changed", lines[-1])
    for path in paths:
        assert any(path in line for line in lines[1:-1]), text
    for shape in shapes:
        turned = shape[::-1] if form.save is as_state else shape
        assert any(str(shape) in line or str(turned) in line for line in lines[1:-1]), text
    assert "stem" not in text  # which fits


@pytest.mark.slow
@each_form
@pytest.mark.parametrize("misfit", MISFITS)
def test_what_fits_can_be_loaded_and_the_rest_is_reported(form: Form, misfit: str, tmp_path: Path) -> None:
    stored, wanted, _, _ = MISFITS[misfit]
    first, model = form.make(stored, 0), form.make(wanted, 1)
    before, source = kernels(model), form.save(first, tmp_path)
    with pytest.warns(UserWarning, match="Left as they were or not used: "):
        report = model.load_weights(source, skip_mismatch=True)
    fits = {name for name in wanted if stored.get(name) == wanted[name]}
    for name, kernel in kernels(model).items():
        np.testing.assert_array_equal(kernel, kernels(first)[name] if name in fits else before[name])
    weights = {f"{name}/{word}" for name in wanted for word in ("kernel", "bias")}
    assert isinstance(report, LoadingReport)
    assert {one.path for one in report.matched} & weights == {path for path in weights if path[:4] in fits}
    assert {one.name for one in report.missing} == {path for path in weights if path[:4] not in fits}
    spare = {(4, size) for name, size in stored.items() if name not in wanted}
    told = {tuple(sorted(one.shape, key=lambda size: size != 4)) for one in report.left if not one.harmless}
    whys = " ".join(one.why for one in report.missing)
    assert all(shape in told or str(shape) in whys for shape in spare)


@each_form
def test_the_rename_that_is_suggested_fits(form: Form, tmp_path: Path) -> None:
    stored, wanted = {"stem": 3, "body": 5, "classifier": 7}, {"stem": 3, "body": 5, "classify": 7}
    first, model = form.make(stored, 0), form.make(wanted, 1)
    source = form.save(first, tmp_path)
    renames = None
    if not form.order:
        text = refused(model, source)
        told = re.search(r"name_map=({.*?})", text)
        assert told is not None, text
        renames = ast.literal_eval(told[1])
        assert renames == {"classifier": "classify"}
    report = model.load_weights(source, name_map=renames)
    assert repr(report) == "<LoadingReport: 6 of 6 weights set>" or form.save is by_orbax
    assert_equal(list(kernels(model).values()), list(kernels(first).values()))


@pytest.mark.parametrize("name", [name for name in FORMS if name not in ("orbax", "PyTorch's")])
def test_what_is_too_much_can_be_left_out_as_the_error_says(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    source = form.save(form.make(FULL, 0), tmp_path)
    model = form.make(PART, 1)
    told = re.search(r"name_map=({.*?}) to leave out what is too much", refused(model, source))
    assert told is not None
    report = model.load_weights(source, name_map=ast.literal_eval(told[1]))
    assert {one.why for one in report.left} == {"left out by name_map"}


@each_form
def test_what_is_mapped_to_none_is_left_out(form: Form, tmp_path: Path) -> None:
    first, model = form.make(FULL, 0), form.make(PART, 1)
    source = form.save(first, tmp_path)
    has_places = form in (FORMS["Keras's"], FORMS["a graph's .weights.h5"])
    if form.save is by_orbax:  # whose optimizer has a state for what is left out
        with pytest.warns(UserWarning, match="the model's optimizer has another state"):
            report = model.load_weights(source, name_map={"head": None})
    else:
        report = model.load_weights(source, name_map={"layers/dense_2" if has_places else "head": None})
    assert_equal(list(kernels(model).values()), list(kernels(first).values())[:2])
    told = {tuple(sorted(one.shape)) for one in report.left if one.why == "left out by name_map"}
    assert told == {(4, 7), (7,)}
    assert report.missing == ()


def stack(sizes: list[int], seed: int) -> Any:
    tally.utils.set_random_seed(seed)
    layers = [L.Dense(size, name=f"dense_{place}" if place else "dense") for place, size in enumerate(sizes)]
    return tally.Sequential([tally.Input((4,)), *layers], name="net")


@pytest.mark.parametrize("name", [".weights.h5", ".keras", ".weights.json", ".safetensors", "orbax", ".h5"])
@pytest.mark.parametrize("sizes", [[4, 7], [4, 4, 7], [4, 4, 4, 7]])
def test_what_was_shifted_is_to_be_shifted_back(name: str, sizes: list[int], tmp_path: Path) -> None:
    first, model = stack([4, *sizes], 0), stack([4, 7], 1)
    source = FORMS[name].save(first, tmp_path)
    with pytest.raises(SavingError) as caught:
        model.load_weights(source)
    text = str(caught.value)
    told = re.search(r"pass name_map=({.*?}) if they are the same, and None leaves out", text)
    assert told is not None, text
    renames = ast.literal_eval(told[1])
    places = [f"dense_{place}" for place in range(1, len(sizes) + 1)]
    prefix = "layers/" if name in (".weights.h5", ".keras", ".weights.json") else ""
    assert renames == {prefix + places[-1]: "dense_1"} | {prefix + one: None for one in places[:-1]}
    report = model.load_weights(source, name_map=renames)
    np.testing.assert_array_equal(model.layers[-1].kernel, first.layers[-1].kernel)
    np.testing.assert_array_equal(model.layers[-2].kernel, first.layers[-len(sizes) - 1].kernel)
    assert report.missing == ()
    assert all(one.harmless for one in report.left)


def test_the_shift_of_the_first_layer(tmp_path: Path) -> None:
    stack([4, 7], 0).save_weights(tmp_path / "m.safetensors")
    with pytest.raises(
        SavingError, match=r"name_map={'dense_1': 'dense', 'dense': None} if they are the same"
    ):
        stack([7], 1).load_weights(tmp_path / "m.safetensors")


@each_form
def test_the_function_returns_what_the_method_does(form: Form, tmp_path: Path) -> None:
    source = form.save(form.make(FULL, 0), tmp_path)
    one = form.make(FULL, 1).load_weights(source)
    other = tally.saving.load_weights(form.make(FULL, 1), source)
    assert type(one) is type(other) is LoadingReport
    assert one.matched[:6] == other.matched[:6]  # behind them an optimizer's, whose names follow the process
    assert one.left == other.left == one.missing == other.missing == ()
    assert "Every weight is set" in str(one)


@each_form
def test_an_optimizer_that_was_not_built_stays_so(form: Form, tmp_path: Path) -> None:
    source = form.save(form.make(FULL, 0), tmp_path)
    model = form.make(WIDE, 1)
    model.compile("adam", "mse")
    refused(model, source)
    assert not model.optimizer.built


@pytest.mark.parametrize("name", ["inner.weights.h5", "inner.weights.json"])
def test_paths_of_the_model_and_places_of_the_file_may_be_mixed(name: str, tmp_path: Path) -> None:
    def make(units: dict[str, int], seed: int) -> Any:
        tally.utils.set_random_seed(seed)
        x = tally.Input((4,))
        inner = tally.Sequential([tally.Input((4,)), L.Dense(4, name="low")], name="inner")
        return tally.Model(x, [inner(x), *(L.Dense(size, name=word)(x) for word, size in units.items())])

    first, model = make({"a": 3, "b": 5}, 0), make({"b": 5, "a": 3}, 1)
    first.save_weights(tmp_path / name)
    for renames in (
        {"layers/dense": "a", "layers/dense_1": "b"},
        {"layers/dense": "layers/dense_1", "layers/dense_1": "layers/dense"},
        {"layers/dense/vars/0": "a/kernel", "layers/dense/vars/1": "a/bias", "layers/dense_1": "b"},
        lambda place: (
            place.replace("dense/", "dense#/").replace("dense_1", "dense").replace("dense#", "dense_1")
            if "sequential" not in place
            else None
        ),
    ):
        model.set_weights([0 * value for value in model.get_weights()])
        model.load_weights(tmp_path / name, name_map=renames)
        np.testing.assert_array_equal(model.get_layer("b").kernel, first.get_layer("b").kernel)
        np.testing.assert_array_equal(model.get_layer("a").kernel, first.get_layer("a").kernel)
    with pytest.raises(
        SavingError, match=r"both 'layers/dense/vars/0' and 'layers/dense_1/vars/0' in .* become"
    ):
        model.load_weights(tmp_path / name, name_map={"layers/dense": "layers/dense_1"})


@pytest.mark.parametrize("form", [FORMS[".safetensors"], FORMS["a graph's .weights.h5"]])
def test_two_that_were_exchanged_are_to_be_exchanged_again(form: Form, tmp_path: Path) -> None:
    first, model = form.make({"stem": 2, "x": 3, "y": 5}, 0), form.make({"stem": 2, "x": 5, "y": 3}, 1)
    source = form.save(first, tmp_path)
    text = refused(model, source)
    told = re.search(r"name_map=({.*?})", text)
    assert told is not None, text
    model.load_weights(source, name_map=ast.literal_eval(told[1]))
    by_units = {layer.units: layer for layer in first.layers if hasattr(layer, "units")}
    for layer in model.layers:
        if hasattr(layer, "units"):
            np.testing.assert_array_equal(layer.kernel, by_units[layer.units].kernel)


def test_layers_of_an_older_file_are_found_by_the_names_they_are_given(tmp_path: Path) -> None:
    first, model = graph({"a": 3, "b": 5}, 0), graph({"x": 5, "y": 3}, 1)
    first.save(tmp_path / "m.h5")
    text = refused(model, tmp_path / "m.h5")
    assert "pass name_map={'a': 'y'} if they are the same" in text  # then the other goes where it fits
    model.load_weights(tmp_path / "m.h5", name_map={"a": "y"})
    np.testing.assert_array_equal(model.get_layer("x").kernel, first.get_layer("b").kernel)
    report = model.load_weights(tmp_path / "m.h5", name_map={"a": "y", "b": "x"})
    assert {one.path: one.sources for one in report.matched}["y/kernel"] == ("a/kernel",)
    np.testing.assert_array_equal(model.get_layer("y").kernel, first.get_layer("a").kernel)
    text = refused(graph({"b": 5, "a": 3}, 1), tmp_path / "m.h5")
    assert "pass by_name=True, since the layers have the same names" in text
    again = graph({"b": 5, "a": 3}, 1)
    again.load_weights(tmp_path / "m.h5", by_name=True)
    np.testing.assert_array_equal(again.get_layer("a").kernel, first.get_layer("a").kernel)


def test_by_name_tells_what_it_left_out_and_refuses_to_load_nothing(tmp_path: Path) -> None:
    graph({"stem": 3, "classifier": 7}, 0).save(tmp_path / "m.h5")
    report = graph({"stem": 3, "top": 2}, 1).load_weights(tmp_path / "m.h5", by_name=True)
    assert [one.name for one in report.missing] == ["top/kernel", "top/bias"]
    assert [one.name for one in report.left] == ["classifier/kernel", "classifier/bias"]
    text = refused(graph({"classify": 7}, 1), tmp_path / "m.h5", by_name=True)
    assert "pass name_map={'classifier': 'classify'} if they are the same" in text
    told = {"classifier": "classify"}
    report = graph({"classify": 7}, 1).load_weights(tmp_path / "m.h5", by_name=True, name_map=told)
    assert [one.path for one in report.matched] == ["classify/kernel", "classify/bias"]


def test_a_file_with_a_layer_too_many_in_the_middle_says_which(tmp_path: Path) -> None:
    graph({"a": 3, "b": 5, "c": 7}, 0).save(tmp_path / "m.h5")
    text = refused(graph({"one": 3, "two": 7}, 1), tmp_path / "m.h5")
    assert text.replace(str(tmp_path), "").startswith(
        "The weights in /m.h5 don't fit 'net': the file has 2 that the model hasn't.\n"
        "  where: b/kernel (4, 5) is only in the file\n"
        "         b/bias (5,) is only in the file\n"
    )


class Own(L.Layer):
    """A layer that stores its weights in a form of its own, and finds out late that one doesn't fit."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(2,))
        self.shift = self.add_weight(name="shift", shape=(3,))

    def call(self, x: Any) -> Any:
        return x

    def save_own_variables(self, store: Any) -> None:
        store["scale"], store["shift"] = self.scale.numpy(), self.shift.numpy()[:2]

    def load_own_variables(self, store: Any) -> None:
        self.scale.assign(store["scale"])
        self.shift.assign(store["shift"])


def test_a_layer_that_loads_itself_and_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    def make(*layers: Any) -> Any:
        return ready(tally.Sequential([tally.Input((4,)), L.Dense(2), *layers], name="net"))

    make(Own(name="own")).save_weights(tmp_path / "m.weights.h5")
    model = make(Own(name="own"))
    before = bits(model)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        model.load_weights(tmp_path / "m.weights.h5")
    assert_equal(bits(model), before)
    make().save_weights(tmp_path / "m.weights.h5")
    assert "scale (2,) is missing" in refused(model, tmp_path / "m.weights.h5")


def test_the_state_of_another_optimizer_is_left_and_told(tmp_path: Path) -> None:
    first, model = held(FULL, 0), held(WIDE, 1)
    first.save_weights(tmp_path / "m.weights.h5")
    before = [np.asarray(one) for one in model.optimizer.variables]
    with pytest.warns(UserWarning) as caught:  # noqa: PT030
        report = model.load_weights(tmp_path / "m.weights.h5", skip_mismatch=True)
    assert len(caught) == 2
    assert {Path(one.filename).name for one in caught} == {"test_every_form.py"}
    assert report.notes[0].startswith("The state of optimizer 'adam")
    assert report.notes[0] in str(caught[0].message)
    assert_equal([np.asarray(one) for one in model.optimizer.variables], before)


class Tracked(keras.Model):
    """A model of Keras that keeps figures, random numbers and optimizers beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop = keras.layers.Dense(3), keras.layers.Dropout(0.5)
        self.figure, self.figures = keras.metrics.Mean(), [keras.metrics.AUC()]
        self.seed, self.second_optimizer = keras.random.SeedGenerator(1), keras.optimizers.Adam()

    def call(self, x: Any) -> Any:
        return self.drop(self.a(x))


def test_what_keras_stores_beside_layers_is_not_too_many(tmp_path: Path) -> None:
    theirs = Tracked()
    theirs(np.ones((1, 4)))
    theirs.second_optimizer.build(theirs.trainable_variables)
    theirs.compile("adam", "mse", metrics=["mae"])
    theirs.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)  # pyright: ignore
    theirs.save_weights(tmp_path / "m.weights.h5")

    class Bare(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a = L.Dense(3)

        def call(self, x: Any) -> Any:
            return self.a(x)

    model = Bare()
    model.build((None, 4))
    report = model.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(model.a.kernel, theirs.a.kernel)
    assert report.left == report.missing == ()


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_the_same_model_has_none_too_many(name: str, tmp_path: Path) -> None:
    theirs, ours, _, _ = both(name)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    report = tally.models.clone_model(ours).load_weights(tmp_path / "theirs.weights.h5")
    assert report.left == report.missing == ()
