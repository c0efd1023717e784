"""The ledger as JSON keeps to its published schema, comes back as it was, and is refused where it is none."""

import json
import math
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tally
from accounting import written
from tally import layers
from tally.accounting.ledger import SCHEMA_VERSION, STATES, Entry, Ledger, Owner, Status
from tally.accounting.schema import schema_text

SCHEMA: dict[str, Any] = json.loads(schema_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
NUMBERS = st.integers() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | NAMES,
    lambda inside: st.lists(inside, max_size=3).map(tuple),
    max_leaves=6,
)
SHAPES = st.lists(st.none() | st.integers(0, 2**40), max_size=3).map(tuple)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Ledgers with everything in them that a ledger can hold."""
    paths = draw(st.lists(NAMES, unique=True, min_size=1, max_size=4))
    owners = tuple(
        Owner(
            path=path,
            type=draw(NAMES),
            name=draw(NAMES),
            module=draw(NAMES),
            builtin=draw(st.booleans()),
            status=draw(st.sampled_from(get_args(Status))),
            input_shapes=tuple(draw(st.lists(SHAPES, max_size=2))),
            options=tuple(draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))),
            origin=draw(st.none() | NAMES),
            shared_with=draw(st.none() | st.sampled_from(paths)),
            inputs=tuple(draw(st.lists(NAMES, max_size=2))),
            notes=tuple(draw(st.lists(NAMES, max_size=2))),
            constants=tuple(
                draw(st.lists(st.tuples(NAMES, st.integers(0), VALUES, st.booleans()), max_size=2))
            ),
            multiply_adds=draw(st.none() | st.integers(0)),
        )
        for path in paths
    )
    entries = tuple(
        Entry(
            path=f"{draw(NAMES)}/{number}",
            owner=draw(st.sampled_from(paths)),
            shape=tuple(draw(st.lists(st.integers(0, 2**63 - 1), max_size=3))),
            dtype=draw(st.sampled_from(["float32", "int4", "bool", "float8_e4m3fn"])),
            state=draw(st.sampled_from(STATES)),
            frozen_at=draw(st.none() | NAMES),
            note=draw(st.none() | NAMES),
        )
        for number in range(draw(st.integers(0, 4)))
    )
    return Ledger(name=draw(NAMES), source=draw(NAMES), owners=owners, entries=entries)


def document(**changes: Any) -> dict[str, Any]:
    """A small ledger as plain data."""
    owner = {"path": "d", "type": "Dense", "options": [["units", 3]]}
    entry = {"path": "d/kernel", "owner": "d", "shape": [4, 3]}
    head = {"schema_version": 1, "name": "m", "source": "by hand", "owners": [owner], "entries": [entry]}
    return head | changes


# -- the published schema ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "name"), [(Owner, "owner"), (Entry, "entry")])
def test_the_schema_has_the_fields_of_the_ledger(kind: type, name: str) -> None:
    published = SCHEMA["$defs"][name]
    assert list(published["properties"]) == [field.name for field in fields(kind)]
    assert published["required"] == [field.name for field in fields(kind) if field.default is MISSING]
    for field in fields(kind):
        told = published["properties"][field.name]
        assert len(told["description"]) > 10
        if field.default is not MISSING:
            default = told["default"]
            assert (tuple(default) if isinstance(default, list) else default) == field.default
    assert published["additionalProperties"] is False


def test_the_schema_has_the_states_and_the_version_of_the_ledger() -> None:
    assert SCHEMA["$defs"]["entry"]["properties"]["state"]["enum"] == list(STATES)
    assert SCHEMA["$defs"]["owner"]["properties"]["status"]["enum"] == list(get_args(Status))
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert SCHEMA["$id"] == "urn:tally-nn:ledger:1"
    assert list(SCHEMA["properties"]) == [*json.loads(written.mnist().to_json())]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_version_that_never_was_has_no_schema() -> None:
    with pytest.raises(ValueError, match="There is no version 7"):
        schema_text(7)


# -- every ledger keeps to it ------------------------------------------------------------------------------------------
def transformer() -> tally.Model:
    tokens = tally.Input((5,), dtype="int32")
    x = layers.Embedding(50, 8)(tokens)
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    return tally.Model(tokens, layers.Dense(3)(x))


def compiled() -> tally.Model:
    model = tally.Sequential(
        [tally.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dropout(0.5)]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def shared() -> tally.Model:
    left, right, dense = tally.Input((4,)), tally.Input((4,)), layers.Dense(3)
    return tally.Model([left, right], layers.Concatenate()([dense(left), dense(right)]))


class Careless(tally.Layer):
    def call(self, x):
        return x @ tally.random.normal((4, 3))


def untracked() -> tally.Layer:
    layer = Careless()
    layer(tally.ops.zeros((1, 4)))
    return layer


LIVE = {
    "transformer": transformer,
    "compiled": compiled,
    "shared": shared,
    "untracked": untracked,
    "unbuilt": lambda: tally.Sequential([layers.Conv2D(8, 3), layers.Dense(3)]),
    "half": lambda: tally.Sequential([tally.Input((4,)), layers.Dense(3, dtype="bfloat16")]),
    "odd options": lambda: layers.ReLU(max_value=math.inf, negative_slope=0.1),
}


def written_ledgers() -> list[Ledger]:
    quantized = Entry(path="d/kernel", owner="d", shape=(3, 2), dtype="int4", state="frozen")
    makers = ("mnist", "naive_linear", "correct_linear", "unbuilt", "siamese", "transfer")
    found: list[Ledger] = [getattr(written, name)() for name in makers]
    return [*found, Ledger(name="int4", owners=(Owner(path="d", type="Dense"),), entries=(quantized,))]


def check_kept(ledger: Ledger) -> None:
    text = ledger.to_json()
    VALIDATOR.validate(json.loads(text))
    read = Ledger.from_json(text)
    assert read == ledger
    assert repr(read) == repr(ledger)  # which tells 1 from True and from 1.0
    assert read.to_json() == text
    assert hash(read) == hash(ledger)


@pytest.mark.parametrize("name", LIVE)
def test_a_live_models_ledger_keeps_to_the_schema(name: str) -> None:
    check_kept(tally.account(LIVE[name]()))


@pytest.mark.parametrize("ledger", written_ledgers(), ids=lambda ledger: ledger.name)
def test_a_written_ledger_keeps_to_the_schema(ledger: Ledger) -> None:
    check_kept(ledger)


@pytest.mark.parametrize("name", ["VGG16", "ResNet50", "MobileNetV2", "Xception"])
def test_an_applications_ledger_keeps_to_the_schema(name: str) -> None:
    check_kept(tally.account(getattr(tally.applications, name)(weights=None)))


@settings(max_examples=60, deadline=None)
@given(ledgers())
@example(
    Ledger(
        name='\u2028\x00é層\\"',
        owners=(
            Owner(
                path="d",
                type="D",
                options=(("a", -0.0), ("b", (1, True, 1.0)), ("c", 10**300), ("d", ())),
            ),
        ),
    )
)
def test_any_ledger_comes_back_as_it_was(ledger: Ledger) -> None:
    check_kept(ledger)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_has_no_sign_for_come_back(number: float) -> None:
    ledger = Ledger(name="m", owners=(Owner(path="d", type="D", options=(("a", (number, 1)),)),))
    text = ledger.to_json()
    VALIDATOR.validate(json.loads(text, parse_constant=pytest.fail))
    ((_, (read, _)),) = Ledger.from_json(text).owners[0].options
    assert repr(read) == repr(number)


def test_half_a_surrogate_pair_can_be_written_to_a_file() -> None:
    ledger = Ledger(name="\udcff.py")
    assert Ledger.from_json(ledger.to_json().encode("utf-8").decode("utf-8")) == ledger


def test_lines_and_levels_are_for_the_eye_alone() -> None:
    ledger = written.transfer()
    assert "\n" not in ledger.to_json()
    assert Ledger.from_json("\ufeff" + ledger.to_json(indent=2)) == ledger


@pytest.mark.parametrize("value", [{1, 2}, b"abc", {"a": 1}, object()])
def test_what_is_no_plain_value_is_refused_when_it_is_written(value: Any) -> None:
    owner = Owner(path="d", type="D", options=(("fine", 1), ("odd", (value,))))
    with pytest.raises(ValueError, match=r"can't hold owners\[0\]\.options\[1\]\[1\]\[0\]: it is of type"):
        Ledger(name="m", owners=(owner,)).to_json()


SCRIPT = """
import tally
from tally import layers

def make():
    image = tally.Input((8, 8, 3))
    left, right = layers.Conv2D(4, 3)(image), layers.Conv2D(4, 3)(image)
    merged = tally.ops.relu(layers.Concatenate()([left, right]))
    return tally.Model(image, layers.Dense(2)(layers.Dropout(0.5)(layers.Flatten()(merged))))

print(tally.account(make()).to_json(indent=1))
"""


def test_the_same_program_writes_the_same_bytes(tmp_path) -> None:
    (tmp_path / "model.py").write_text(SCRIPT)
    texts = [
        subprocess.run(
            [sys.executable, "model.py"], cwd=tmp_path, capture_output=True, check=True, env=os_environ(seed)
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert Ledger.from_json(texts[0].decode()).total == 2 * 112 + 2 * (6 * 6 * 8 + 1)


def os_environ(seed: str) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONHASHSEED": seed}


def test_in_one_process_only_counted_names_differ() -> None:
    first, second = (tally.account(shared()) for _ in range(2))
    assert [owner.path for owner in first.owners] == [owner.path for owner in second.owners]
    assert first.entries == second.entries
    assert [owner.name for owner in first.owners] != [owner.name for owner in second.owners]


# -- what is no ledger is refused --------------------------------------------------------------------------------------
REFUSED = {
    "": "it is not JSON, expecting value at line 1, column 1.",
    "{": "it is not JSON, expecting property name enclosed in double quotes at line 1, column 2.",
    "[" * 100_000: "its lists and objects are nested too deep.",
    '{"a": NaN}': 'NaN is no JSON; it is written as {"float": "nan"}.',
    '{"a": -Infinity}': '-Infinity is no JSON; it is written as {"float": "-inf"}.',
    '{"a": 1, "a": 2}': "an object has the key 'a' twice.",
    "1e400": "the number '1e400' is too large.",
    "1" * 5000: "a number has 5,000 digits, and may have 1,000.",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Ledger.from_json(text)
    assert str(caught.value) == f"This is no ledger: {REFUSED[text]}"


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ([], "A ledger of schema version 1 is an object, but this is a list."),
        (None, "A ledger of schema version 1 is an object, but this is null."),
        ({"name": "m"}, "A ledger of schema version 1 was expected, but this has none."),
        (document(schema_version=True), "A ledger of schema version 1 was expected, but this has true."),
        (document(schema_version=1.0), "A ledger of schema version 1 was expected, but this has 1.0."),
        (document(kind="diff"), "A ledger of schema version 1 was expected, but this is of kind 'diff'."),
        (
            document(schema_version=2, what="is new"),
            "This ledger has schema version 2, and this tally reads schema version 1: read it with a newer tally.",
        ),
    ],
)
def test_another_document_is_told_from_a_ledger(read: Any, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        Ledger.from_json(json.dumps(read))
    assert str(caught.value) == told


OWNER, ENTRY = document()["owners"][0], document()["entries"][0]


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ({"schema_version": 1}, "the document has no 'name'."),
        (document(owner=[]), "the document has 'owner', which is unknown. Did you mean 'owners'?"),
        (document(owners={}), "owners is {}, and must be a list."),
        (document(owners=[3]), "owners[0] is 3, and must be an object."),
        (
            document(owners=[OWNER | {"statu": 1}]),
            "owners[0] has 'statu', which is unknown. Did you mean 'status'?",
        ),
        (
            document(owners=[OWNER | {"status": "buildt"}]),
            "owners[0].status is 'buildt', which is none of built, unbuilt, no weights. Did you mean 'built'?",
        ),
        (document(owners=[OWNER | {"builtin": 1}]), "owners[0].builtin is 1, and must be true or false."),
        (document(owners=[OWNER | {"origin": 1}]), "owners[0].origin is 1, and must be text or null."),
        (
            document(owners=[OWNER | {"options": [["a"]]}]),
            "owners[0].options[0] has 1 items, and must have 2.",
        ),
        (
            document(owners=[OWNER | {"options": [["a", {"b": 1}]]}]),
            "owners[0].options[0][1] has 'b', which is unknown.",
        ),
        (
            document(owners=[OWNER | {"options": [["a", {"float": "big"}]]}]),
            "owners[0].options[0][1].float is 'big', which is none of inf, -inf, nan.",
        ),
        (
            document(owners=[OWNER | {"constants": [["a", -1, None, True]]}]),
            "owners[0].constants[0][1] is -1, and must be at least 0.",
        ),
        (document(owners=[OWNER, OWNER]), "in owners[1], the path 'd' is listed twice."),
        (document(entries=[ENTRY, ENTRY]), "in entries[1], the path 'd/kernel' is listed twice."),
        (document(entries=[{"path": "a", "owner": "d"}]), "entries[0] has no 'shape'."),
        (document(entries=[ENTRY | {"shape": 3}]), "entries[0].shape is 3, and must be a list."),
        (document(entries=[ENTRY | {"shape": [-1]}]), "entries[0].shape[0] is -1, and must be at least 0."),
        (
            document(entries=[ENTRY | {"shape": [True]}]),
            "entries[0].shape[0] is true, and must be a whole number.",
        ),
        (
            document(entries=[ENTRY | {"shape": [2.0]}]),
            "entries[0].shape[0] is 2.0, and must be a whole number.",
        ),
        (
            document(entries=[ENTRY | {"shape": [None]}]),
            "entries[0].shape[0] is null, and must be a whole number.",
        ),
        (
            document(entries=[ENTRY | {"shape": [1] * 65}]),
            "entries[0].shape has 65 items, and may have 64 at most.",
        ),
        (
            document(entries=[ENTRY | {"shape": [2**63]}]),
            "entries[0].shape[0] is 9223372036854775808, and must be at most 9,223,372,036,854,775,807.",
        ),
        (
            document(entries=[ENTRY | {"axes": ["a"]}]),
            "in entries[0], 'd/kernel' has 2 dimensions, but 1 names of axes: ('a',).",
        ),
        (
            document(entries=[ENTRY | {"shared_with": "x"}]),
            "entries[0] is shared with 'x', which is not in it.",
        ),
    ],
)
def test_a_ledger_with_a_fault_is_refused_with_its_place(read: Any, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        Ledger.from_json(json.dumps(read))
    assert str(caught.value) == f"This is no ledger: {told}"


def test_lists_in_lists_end_somewhere() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ValueError, match="is nested too deep"):
        Ledger.from_json(json.dumps(document(owners=[OWNER | {"options": [["a", deep]]}])))


def test_layers_in_layers_end_somewhere() -> None:
    with pytest.raises(ValueError, match="has more than 100 parts"):
        Ledger.from_json(json.dumps(document(owners=[OWNER | {"path": "a/" * 100 + "a"}], entries=[])))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=4), inside, max_size=3),
    max_leaves=8,
)


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A ledger's document in which something was put in another's place, left out, or added."""
    read = json.loads(written.transfer().to_json())
    read["owners"].append(dict(document()["owners"][0]))
    place: Any = read
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    what = draw(st.sampled_from(["other", "gone", "more"]))
    if what == "gone":
        del place[key]
    elif what == "more" and isinstance(place, dict):
        place[draw(st.text(max_size=3))] = draw(JSON)
    else:
        place[key] = draw(JSON)
    return read


@settings(max_examples=150, deadline=None)
@given(spoilt() | JSON)
def test_a_ledger_that_is_read_keeps_to_the_schema_and_any_other_is_a_value_error(read: Any) -> None:
    try:
        ledger = Ledger.from_json(json.dumps(read))
    except ValueError:
        return
    VALIDATOR.validate(read)
    assert Ledger.from_json(ledger.to_json()) == ledger
