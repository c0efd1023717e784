"""Each source's own words: what waits, what is frozen, what follows the data, and that no sentence is another's."""

import pytest

import tally
from tally.accounting import Entry, Ledger, Owner, explain
from tally.accounting.budget import read_budget
from tally.accounting.check import check
from tally.accounting.diagnose import Diagnosis, findings_of_ledger
from tally.accounting.plan import plan_ledger
from tally.accounting.reasons import follows_data
from tally.accounting.verify import verify
from tally.report import render
from tally.report.diagnosis import draw as draw_diagnosis
from tally.report.explanation import draw as draw_explanation
from tally.report.summary import summarise


def array(path: str, *shape: int, **more) -> Entry:
    return Entry(path=path, owner=path.rpartition("/")[0], shape=shape, **more)


def of(source: str, *owners: Owner, entries: tuple[Entry, ...] = ()) -> Ledger:
    return Ledger(name="net", source=source, owners=owners, entries=entries)


def norm(source: str, *names: str, shape: tuple[int, ...] = (8,)) -> Ledger:
    held = tuple(array(f"bn/{name}", *shape, state="state") for name in names)
    return of(source, Owner(path="bn", type="BatchNormalization"), entries=held)


def said(ledger: Ledger, path: str, kind: str) -> str:
    return " ".join(one.text for one in explain(ledger)[path].remarks if one.kind == kind)


def found(ledger: Ledger, code: str):
    return [one for one in findings_of_ledger(ledger) if one.code == code]


LAZY = of("PyTorch model", Owner(path="head", type="Dense", status="unbuilt", options=(("units", 3),)))
OFF = {"state": "frozen", "frozen_by": "stem"}
STEM = (array("stem/weight", 4, 2, **OFF), array("stem/bias", 4, **OFF))


# -- what waits for an input ---------------------------------------------------------------------------------------
def test_a_lazy_module_waits_for_a_first_forward_and_not_for_a_build() -> None:
    assert said(LAZY, "head", "unbuilt") == (
        "Not initialised: it has no weights yet, because the shapes of weights follow from an input, and it has seen "
        "none. Run one batch through the model: the first forward initialises lazy modules."
    )
    (finding,) = found(LAZY, "T201")
    assert finding.why.endswith("numel() of an uninitialised parameter raises an error.")
    assert finding.fix == "run one batch through the model: the first forward initialises lazy modules"


def test_no_view_of_a_lazy_module_speaks_of_a_build() -> None:
    texts = [
        render(summarise(LAZY)),
        render(draw_explanation(explain(LAZY))),
        render(
            draw_diagnosis(
                Diagnosis(name="net", findings=tuple(findings_of_ledger(LAZY)), source=LAZY.source)
            )
        ),
        *plan_ledger(LAZY).notes,
        check(LAZY, read_budget({"max_params": 5}, "here")).measured[0].unknown,
        str(verify(LAZY, "head=5").verdicts),
    ]
    assert "0 (lazy)" in texts[0]
    assert "1 layer not initialised" in texts[0]
    assert "Not initialised yet, and so not counted: head." in texts
    assert texts[-2] == "head is not initialised"
    for text in texts:
        assert not any(
            word in text for word in ("build(", "not built", "unbuilt)", "Input,", "add_weight")
        ), text


def test_two_lazy_modules_say_once_what_to_do() -> None:
    lazy = of("PyTorch model", *(Owner(path=name, type="Dense", status="unbuilt") for name in "ab"))
    assert "Not initialised either." in render(draw_explanation(explain(lazy), fold=False))


def test_what_holds_lazy_modules_says_that_some_are() -> None:
    ledger = of("PyTorch model", Owner(path="", type="Net", status="unbuilt"), *LAZY.owners)
    assert said(ledger, "", "unbuilt").startswith(
        "Not initialised: some layers inside it are not initialised, "
    )


# -- what is frozen ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("source", "switch"),
    [("PyTorch model", "requires_grad"), ("PyTorch, zip", "requires_grad"), ("Keras model", "trainable")],
)
def test_what_is_frozen_names_the_attribute_that_froze_it(source: str, switch: str) -> None:
    ledger = of(source, Owner(path="stem", type="Dense"), entries=STEM)
    assert said(ledger, "stem", "frozen") == (
        f"Frozen: 12 parameters switched off by 'stem' ({switch} = False). They are counted and used, but training "
        "leaves them as they are."
    )
    assert found(ledger, "T401")[0].what == f"12 numbers frozen: {switch} is off on 'stem'."


def test_parameters_that_are_frozen_one_by_one_are_all_named() -> None:
    alone = tuple(array(f"stem/{name}", 4, state="frozen") for name in ("weight", "bias"))
    ledger = of("PyTorch model", Owner(path="stem", type="Dense"), entries=alone)
    assert "switched off (requires_grad = False)." in said(ledger, "stem", "frozen")
    (finding,) = found(ledger, "T401")
    assert finding.what == "8 numbers frozen: requires_grad is off on 'stem/weight' and 'stem/bias'."
    assert finding.layer == "stem"


def test_packed_weights_are_said_to_be_stored_so_and_not_to_be_switched_off() -> None:
    packed = array("a/weight", 4, 2, state="frozen", dtype="q4_k", axes=("units", "features"))
    bias = array("a/bias", 4, axes=("units",))
    ledger = of("GGUF v3", Owner(path="a", type="Dense"), entries=(packed, bias))
    assert said(ledger, "a", "frozen") == (
        "8 parameters stored as q4_k, which no gradient changes. They are counted and used as they are."
    )
    assert said(ledger, "a", "state") == "Of these, 4 learned (bias) and 8 learned and then packed (weight)."
    assert not found(ledger, "T401")
    assert found(ledger, "T701")[0].what == "weight (q4_k) is stored in few bits: 8 numbers in 4 bytes."
    assert "frozen: 8 (4.00 B) stored as q4_k" in " ".join(render(summarise(ledger)).split())


def test_a_layer_with_packed_and_frozen_weights_says_both() -> None:
    packed = array("stem/packed", 4, state="frozen", dtype="qint8")
    text = said(
        of("PyTorch model", Owner(path="stem", type="Own"), entries=(*STEM, packed)), "stem", "frozen"
    )
    assert "12 parameters switched off by 'stem'" in text
    assert "4 parameters stored as qint8" in text


@pytest.mark.parametrize("dtype", ["bool", "int64", "string", "float32"])
def test_types_that_are_not_of_few_bits_are_not_said_to_be(dtype: str) -> None:
    held = array("a/mask", 4, state="state", dtype=dtype)
    assert not found(of("NumPy, npz", Owner(path="a", type="unknown"), entries=(held,)), "T701")


# -- state ---------------------------------------------------------------------------------------------------------
STATISTICS = {
    "tally model": "training updates them from each batch, no gradient ever does, so they are never trainable.",
    "PyTorch model": "each forward updates them in train() mode and leaves them in eval() mode. Buffers get no "
    "gradient, so they are never trainable.",
    "Flax NNX model": "each call with use_running_average=False updates them from its batch. Gradients are taken of "
    "parameters alone, so they are never trainable.",
    "Equinox model": "each call in training returns new ones in the state, which inference=True stops. Gradients are "
    "taken of the module, not of its state, so they are never trainable.",
    "ONNX": "training averaged them over its batches, and here they are constants.",
}


@pytest.mark.parametrize("source", STATISTICS)
@pytest.mark.parametrize(
    "names", [("mean", "var"), ("moving_mean", "moving_variance"), ("running_mean", "running_var")]
)
def test_the_averages_of_a_normalisation_follow_the_data(source: str, names: tuple[str, ...]) -> None:
    text = said(norm(source, *names), "bn", "state")
    assert text == f"{names[0]} and {names[1]} follow the data: {STATISTICS[source]}"
    assert "of state that follows the data." in found(norm(source, *names), "T404")[0].what


def test_one_average_is_said_in_the_singular() -> None:
    assert said(norm("PyTorch model", "running_mean"), "bn", "state") == (
        "running_mean follows the data: each forward updates it in train() mode and leaves it in eval() mode. Buffers "
        "get no gradient, so it is never trainable."
    )


@pytest.mark.parametrize(
    ("kind", "name", "follows"),
    [
        ("BatchNormalization", "mean", True),
        ("MyBatchNorm", "variance", True),
        ("Normalization", "mean", False),  # of what adapt() was given, once
        ("Encoder", "mean", False),
        ("Encoder", "moving_mean", True),
        ("SpectralNormalization", "vector_u", False),
    ],
)
def test_a_mean_follows_the_data_where_the_layer_normalises(kind: str, name: str, follows: bool) -> None:
    owner = Owner(path="a", type=kind)
    assert follows_data(array(f"a/{name}", 8, state="state"), owner) is follows
    assert not follows_data(array(f"a/{name}", 8), owner)


@pytest.mark.parametrize("counter", ["num_batches_tracked", "batch_counter"])
def test_a_counter_of_batches_is_said_to_be_one(counter: str) -> None:
    assert (
        said(norm("Equinox model", counter, shape=()), "bn", "state") == f"{counter} counts the batches seen."
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("PyTorch model", "register_buffer keeps table: state_dict() saves it, no gradient ever changes it."),
        ("Flax NNX model", "table is no nnx.Param: a call may change it, no gradient ever does."),
        (
            "Flax Linen model",
            "A collection beside 'params' holds table: a call may change it, no gradient ever does.",
        ),
        ("Equinox model", "The state that a call returns holds table: no gradient ever changes it."),
        ("safetensors", "table is state that is kept beside the weights: no gradient ever changes it."),
        ("ONNX", "table is state that is kept beside the weights."),
        ("tally model", "table is state the layer keeps for itself: no gradient ever changes it."),
    ],
)
def test_other_state_is_called_what_it_is(source: str, text: str) -> None:
    ledger = of(
        source, Owner(path="a", type="Own", builtin=False), entries=(array("a/table", 3, state="state"),)
    )
    assert said(ledger, "a", "state") == text
    assert found(ledger, "T404")[0].what == "table: 3 numbers of state."


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("PyTorch model", "buffers that are used like weights, but constant; not in the total."),
        (
            "Equinox model",
            "not real numbers, so eqx.is_inexact_array leaves them out of what learns; not in the total.",
        ),
        ("ONNX", "stored beside the weights, and no parameters; not in the total."),
    ],
)
def test_fixed_numbers_are_called_what_they_are(source: str, text: str) -> None:
    ledger = of(
        source, Owner(path="a", type="Own"), entries=(array("a/ids", 5, state="fixed", dtype="int32"),)
    )
    assert said(ledger, "a", "fixed") == f"5 fixed numbers (ids): {text}"


# -- what holds nothing --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("PyTorch model", "No weights: it holds no parameter and no buffer, and no module that does."),
        ("Flax NNX model", "No weights: it holds no nnx.Variable, and no module that does."),
        ("Flax Linen model", "No weights: it holds no parameter, and no module that does."),
        ("Equinox model", "No weights: none of its fields holds an array, or a module that does."),
        ("safetensors", "No weights: no array is stored for it."),
        ("Keras model", "No weights: it made none with add_weight and holds no layer that did."),
    ],
)
def test_why_a_layer_has_no_weights_and_no_more_than_was_looked_at(source: str, text: str) -> None:
    ledger = of(source, Owner(path="own", type="Own", builtin=False, status="no weights"))
    assert [one.text for one in explain(ledger)["own"].remarks] == [text]


def test_fixed_numbers_of_a_torch_module_are_to_become_parameters_of_torch() -> None:
    pool = Owner(path="pool", type="AveragePooling2D", status="no weights", options=(("pool_size", (2, 2)),))
    assert found(of("PyTorch model", pool), "T108")[0].fix == (
        "to learn them, make them nn.Parameter; to save them, call register_buffer"
    )
    assert found(of("ONNX", pool), "T108")[0].fix == ""


# -- the whole -----------------------------------------------------------------------------------------------------
def test_a_file_of_constants_says_that_nothing_in_it_trains() -> None:
    text = " ".join(render(summarise(norm("TensorFlow Lite", "mean"))).split())
    assert (
        "TensorFlow Lite holds constants, which nothing trains: trainable are those that training could"
        in text
    )
    assert "constants" not in render(summarise(norm("safetensors", "mean")))


def test_a_diagnosis_says_whose_calls_are_followed() -> None:
    def note(source: str) -> str:
        return " ".join(
            render(draw_diagnosis(Diagnosis(name="m", findings=(), followed=False, source=source))).split()
        )

    assert "Only calls of tally's own models are followed" in note("PyTorch model")
    assert "Give the model an Input" in note("tally model")
    assert tally.diagnose(LAZY, print_fn=lambda text: None).source == "PyTorch model"


def test_a_sentence_on_a_layer_is_no_finding_unless_it_is_about_sharing() -> None:
    notes = (
        "Quantised with 4 scales.",
        "2 operators share it, and it counts once: a by Gather, b by MatMul.",
    )
    assert [one.what for one in found(of("ONNX", Owner(path="a", type="Dense", notes=notes)), "T305")] == [
        notes[1]
    ]


def test_slopes_without_named_axes_are_said_without_them() -> None:
    slope = array("act/weight", 2, 1, 1, axes=("channels", "", ""))
    ledger = of("ONNX", Owner(path="act", type="PReLU"), entries=(slope,))
    assert said(ledger, "act", "weights") == (
        "weight is the slope for negative values: one for each of the 2 channels."
    )


@pytest.mark.parametrize("axes", [("units", "features"), ("features", "units")])
def test_what_fewer_units_save_is_told_in_whichever_order_the_axes_are(axes: tuple[str, ...]) -> None:
    sizes = {"units": 30, "features": 4}
    weight = array("d/weight", *(sizes[axis] for axis in axes), axes=axes)
    ledger = of(
        "PyTorch model", Owner(path="d", type="Dense"), entries=(weight, array("d/bias", 30, axes=("units",)))
    )
    measured = check(ledger, read_budget({"max_params": 100}, "here")).measured[0]
    assert measured.advice == ("20 units in place of 30 would take 50 away from d.",)


def test_gates_are_not_taken_for_units_in_advice() -> None:
    weight = array("d/weight", 16, 4, axes=("4 gates·units", "units"))
    ledger = of("PyTorch model", Owner(path="d", type="LSTM"), entries=(weight,))
    assert check(ledger, read_budget({"max_params": 60}, "here")).measured[0].advice == ()


def test_a_file_of_weights_says_what_it_does_not_tell() -> None:
    kernel = Entry(path="d/kernel", owner="d", shape=(3, 2))
    owner = Owner(path="d", type="Dense")

    def notes(source: str) -> str:
        ledger = Ledger(name="m", source=source, owners=(owner,), entries=(kernel,))
        return tally.summary(
            ledger, columns=("name", "params", "macs"), print_fn=lambda text: None
        ).to_markdown()

    for source in ("safetensors", "PyTorch, zip", "Keras weights"):
        assert f"What was read ({source}) doesn't tell which weights learn" in notes(source)
        assert "a call of your own" not in notes(source)
        assert "the file has no sizes" in notes(source)
    for source in ("tally model", "Keras", "PyTorch model", "TensorFlow SavedModel"):
        assert "doesn't tell which weights learn" not in notes(source)
    assert "a call of your own" in notes("tally model")
