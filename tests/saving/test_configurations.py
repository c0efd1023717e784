"""A configuration gives a model, or one error that says where in it something is wrong; however it was changed."""

import copy
import json
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.configured import MODELS

import tally
from tally.core.errors import SavingError
from tally.models import model_from_json
from tally.saving import deserialize_keras_object as deserialize

Config = Any
CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus" / "config"
CONFIGS: dict[str, Config] = {path.stem: json.loads(path.read_text()) for path in sorted(CORPUS.iterdir())}
DROP, DEEP = object(), object()
ROOM = 300 * 2**20
"""Bytes that one example may make this process grow by; one Dense(2**40) would need a thousand times it."""


def places(config: Config) -> list[tuple[Any, ...]]:
    """The way to each value."""
    found: list[tuple[Any, ...]] = []
    waiting: list[tuple[Config, tuple[Any, ...]]] = [(config, ())]
    while waiting:
        part, way = waiting.pop()
        pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, value in pairs:
            found.append((*way, key))
            waiting.append((value, (*way, key)))
    return sorted(found, key=str)


def at(config: Config, way: tuple[Any, ...]) -> Config:
    for key in way:
        config = config[key]
    return config


def changed(config: Config, way: tuple[Any, ...], value: Any) -> Config:
    """A copy with another value at a place."""
    whole = copy.deepcopy(config)
    holder = at(whole, way[:-1])
    if value is DROP:
        del holder[way[-1]]
    elif value is DEEP:
        nest: Any = 1
        for _ in range(10_000):
            nest = [nest]
        holder[way[-1]] = nest
    else:
        holder[way[-1]] = value
    return whole


def refused(config: Config, words: str, **more: Any) -> SavingError:
    with pytest.raises(SavingError, match=words) as caught:
        deserialize(config, **more)
    assert type(caught.value) is SavingError
    return caught.value


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# -- any change ------------------------------------------------------------------------------------------------

numbers = st.sampled_from(
    [-1, 0, 1, 2, 7, 2**31, 2**40, 2**62, 2**63, 2**70, 0.5, 1e308, float("nan"), float("inf")]
)
words = st.sampled_from(["", "x", "relu", "Dense", "float32", "string", "os.system", "\x1b[31m", "é" * 500])
things = st.sampled_from(
    [
        *({"class_name": "Dense", "config": {"units": 2**40}}, {"class_name": "relu", "config": {}}),
        *({"class_name": "Adam", "config": {}}, {"class_name": ["x"], "config": 1}, {"class_name": None}),
        *(
            {"class_name": "__numpy__", "config": {"value": 1, "dtype": "U268435456"}},
            {"class_name": "__slice__"},
        ),
        {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}},
    ]
)
leaves = st.one_of(st.none(), st.booleans(), numbers, words, things)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3)
)


@st.composite
def broken(draw: st.DrawFn) -> Config:
    """The configuration of a model, with one to three changes of its structure."""
    config = CONFIGS[draw(st.sampled_from(sorted(CONFIGS)))]
    for _ in range(draw(st.integers(1, 3))):
        known = places(config)
        way = draw(st.sampled_from(known))
        kind = draw(st.sampled_from(["value", "value", "drop", "deep", "swap", "extra"]))
        if kind == "value":
            config = changed(config, way, draw(values))
        elif kind == "swap":
            config = changed(config, way, copy.deepcopy(at(config, draw(st.sampled_from(known)))))
        elif kind == "extra" and isinstance(at(config, way), dict):
            config = changed(config, way, {**at(config, way), draw(words): draw(values)})
        else:
            return changed(config, way, DEEP if kind == "deep" else DROP)
    return config


@given(broken())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_changed_configuration_gives_a_model_or_the_one_error(config: Config) -> None:
    before, said, made = peak(), None, None
    try:
        made = deserialize(config)
    except SavingError as error:
        said = error
    if said is not None:
        assert said.place
        assert said.what
        assert said.do
        assert len(str(said)) < 3000
    elif isinstance(made, tally.Model) and made.built:
        assert made.count_params() >= 0
    assert peak() - before < ROOM


@pytest.mark.parametrize("name", MODELS)
def test_the_configurations_that_are_broken_are_whole_to_begin_with(name: str) -> None:
    assert deserialize(CONFIGS[name]).count_params() == MODELS[name]().count_params()


@pytest.mark.parametrize(
    "family", ["optimizers", "losses", "metrics", "initializers", "regularizers", "constraints"]
)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"class_name": "Nope", "config": {}},
        {"class_name": 3, "config": {}},
        {"class_name": "Nope"},
        {"class_name": "Dense", "config": {"units": -1}},
        {"class_name": "Nope", "config": {}, "module": ["x"]},
    ],
)
def test_each_family_refuses_with_an_error_of_values(family: str, config: Config) -> None:
    with pytest.raises(SavingError) as caught:
        getattr(tally, family).deserialize(config)
    assert caught.value.place


@pytest.mark.parametrize(
    ("name", "option"), [("shaped", "output_size"), ("repeated", "count")], ids=["windows", "blocks"]
)
def test_steps_that_a_configuration_asks_for_are_counted_before_they_are_taken(
    name: str, option: str
) -> None:
    config = CONFIGS[name]
    way = next(way for way in places(config) if way[-1] == option)
    error = refused(changed(config, way, 2**40), f"can't have {option}=1099511627776")
    assert error.place.endswith(option)
    assert "give at most" in error.do


# -- what it says ----------------------------------------------------------------------------------------------

UNITS = ("config", "layers", 1, "config", "units")


@pytest.mark.parametrize(
    ("name", "way", "value", "place", "words"),
    [
        ("stack", UNITS, -3, "config.layers[1].config.units", "can't have units=-3"),
        ("stack", UNITS, "x", "config.layers[1].config.units", "can't have units='x'"),
        ("stack", UNITS, DROP, "config.layers[1].config", "missing .* 'units'"),
        ("stack", (*UNITS[:-1], "unitz"), 3, "config.layers[1].config.unitz", "Did you mean 'units'"),
        ("stack", (*UNITS[:-1], "kernel_initializer", "config", "seed"), "x", None, "A seed can't be 'x'"),
        (
            "stack",
            ("config", "layers", 0, "config", "batch_shape"),
            [None, float("nan")],
            None,
            "nan is no size",
        ),
        ("stack", ("config", "layers", 2), 3, "config.layers[2]", "a whole number where an object"),
        ("stack", ("config", "layers"), {}, "config.layers", "an object as 'layers', where a list"),
        ("stack", ("compile_config", "loss"), "nope", "compile_config.loss", "'nope' is not a known name"),
        ("stack", ("compile_config", "optimizer", "config", "learning_rate"), "a", None, "learning rate"),
        (
            "branches",
            ("config", "layers", 2, "inbound_nodes", 0),
            7,
            "config.layers[2].inbound_nodes[0]",
            "number",
        ),
        ("branches", ("config", "layers", 0, "name"), "x", None, "waits for a tensor of '(left|right)'"),
        (
            "branches",
            ("config", "output_layers"),
            [["a", 0, 9]],
            None,
            "tensor 9 of 'a', which is never made",
        ),
        ("stack", UNITS, DEEP, None, "more than 100 objects inside each other"),
    ],
)
def test_the_error_says_where_and_what(
    name: str, way: tuple[Any, ...], value: Any, place: str | None, words: str
) -> None:
    error = refused(changed(CONFIGS[name], way, value), words)
    assert error.place == place if place else error.place
    assert error.place[:100] in error.where


def test_the_error_of_a_file_names_the_file(tmp_path: Path) -> None:
    import zipfile

    model = MODELS["stack"]()
    model.save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad,
    ):
        for name in good.namelist():
            text = (
                json.dumps(changed(CONFIGS["stack"], UNITS, -3)) if name == "config.json" else good.read(name)
            )
            bad.writestr(name, text)
    with pytest.raises(SavingError) as caught:
        tally.saving.load_model(tmp_path / "bad.keras")
    assert str(caught.value) == (
        "The configuration describes nothing that can be made: Dense 'dense' can't have units=-3.\n"
        f"  where: config.layers[1].config.units in {tmp_path / 'bad.keras'}\n"
        "  do: give a whole number of at least 1"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "3", "null", '{"a": 1, "a": 2}', "[" * 100_000, "9" * 10_000]
)
def test_a_text_that_describes_no_model_is_refused(text: str) -> None:
    for given_text in (text, text.encode()):
        with pytest.raises(SavingError):
            model_from_json(given_text)


@pytest.mark.parametrize("thing", [None, 3, {"class_name": "Sequential"}, b"\xff\xfe"])
def test_what_is_no_text_is_refused(thing: Any) -> None:
    with pytest.raises(SavingError):
        model_from_json(thing)


def test_a_use_that_waits_for_itself_or_for_nothing_is_refused() -> None:
    way = ("config", "layers", 2, "inbound_nodes", 0, "args", 0)
    known = at(CONFIGS["branches"], ("config", "layers", 2, "name"))
    for history in (
        [known, 0, 0],
        ["nobody", 0, 0],
        ["left", 7, 0],
        ["left", 0, -1],
        ["left", 0],
        "left",
        None,
    ):
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": history}}
        refused(changed(CONFIGS["branches"], way, tensor), "never made|belongs")


def test_layers_are_connected_in_steps_that_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from tally.models import graph_config

    pushed: list[int] = []
    push = graph_config.heappush
    monkeypatch.setattr(graph_config, "heappush", lambda heap, item: pushed.append(item) or push(heap, item))
    x = y = tally.Input((2,))
    for _ in range(40):
        y = tally.layers.ReLU()(y)
    config = json.loads(tally.Model(x, y).to_json())
    config["config"]["layers"].reverse()
    assert len(deserialize(config).layers) == 41
    assert len(pushed) == 39


# -- classes of the user's -------------------------------------------------------------------------------------


class Careless(tally.Layer):
    """Reads what isn't there."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(config["depth"])


class Touchy(tally.Layer):
    """Takes an even number only, and says so in an error of its own."""

    def __init__(self, size: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size % 2:
            raise OddError(f"{size} is odd")


class OddError(Exception):
    pass


@pytest.mark.parametrize(
    ("cls", "cause", "words"), [(Careless, KeyError, "'depth'"), (Touchy, OddError, "OddError: 3 is odd")]
)
def test_an_error_of_a_users_class_is_shown_with_its_line(cls: type, cause: type, words: str) -> None:
    config = changed(
        CONFIGS["stack"], ("config", "layers", 1), {"class_name": cls.__name__, "config": {"size": 3}}
    )
    error = refused(config, words, custom_objects={cls.__name__: cls})
    assert error.__cause__ is not None
    assert type(error.__cause__) is cause
    frames = traceback.extract_tb(error.__cause__.__traceback__)
    line = next(frame.lineno for frame in reversed(frames) if frame.filename == __file__)
    assert f"test_configurations.py:{line}" in str(error)
    assert error.place.startswith("config.layers[1]")


def test_the_place_is_told_through_a_users_from_config() -> None:
    class Holder(tally.Layer):
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            deserialize(dict(config["inner"]))
            return cls()

    inner = {"class_name": "Dense", "config": {"units": -3}}
    config = changed(
        CONFIGS["stack"], ("config", "layers", 1), {"class_name": "Holder", "config": {"inner": inner}}
    )
    error = refused(config, "units=-3", custom_objects={"Holder": Holder})
    assert error.place == "config.layers[1].config.inner.config.units"
