"""The account of models of Hugging Face's transformers: their own counts, what is tied, and every axis named."""

import pytest
import torch

import tally
from tally.accounting.explain import explain
from tally.readers import read_object

transformers = pytest.importorskip("transformers", reason="needs Hugging Face's transformers")

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 8,
}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
PICTURE = {"image_size": 8, "patch_size": 4}
KINDS = {
    "BertForMaskedLM": {"BertConfig": SMALL},
    "GPT2LMHeadModel": {
        "GPT2Config": {"n_layer": 2, "n_embd": 16, "n_head": 4, "vocab_size": 40, "n_positions": 8, **ENDS}
    },
    "LlamaForCausalLM": {"LlamaConfig": {**SMALL, "num_key_value_heads": 2}},
    "MixtralForCausalLM": {"MixtralConfig": {**SMALL, "num_key_value_heads": 2, "num_local_experts": 3}},
    "T5ForConditionalGeneration": {
        "T5Config": {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "vocab_size": 40}
    },
    "ViTForImageClassification": {
        "ViTConfig": {**{k: v for k, v in SMALL.items() if k != "vocab_size"}, **PICTURE}
    },
}


def made(name):
    ((config, sizes),) = KINDS[name].items()
    return getattr(transformers, name)(getattr(transformers, config)(**sizes))


@pytest.mark.parametrize("name", KINDS)
def test_the_parameters_are_those_that_the_model_counts(name):
    model = made(name)
    ledger = read_object(model)
    assert ledger.total == ledger.trainable == model.num_parameters()
    for owner in explain(ledger).owners:
        assert owner.formula is None or owner.formula.value == owner.count
    assert [entry.path for entry in ledger.counted if not all(entry.axes)] == (
        ["cls/predictions/bias"] if name.startswith("Bert") else []
    )


@pytest.mark.parametrize(
    ("name", "kind", "total"),
    [("BertModel", "BertConfig", 109_482_240), ("GPT2LMHeadModel", "GPT2Config", 124_439_808)],
)
def test_a_model_of_its_real_size_is_counted_without_its_numbers(name, kind, total):
    with torch.device("meta"):
        model = getattr(transformers, name)(getattr(transformers, kind)())
    assert read_object(model).total == model.num_parameters() == total


@pytest.mark.parametrize(
    ("name", "tied", "to"),
    [
        ("GPT2LMHeadModel", ["lm_head/weight"], "transformer/wte/weight"),
        (
            "T5ForConditionalGeneration",
            ["encoder/embed_tokens/weight", "decoder/embed_tokens/weight", "lm_head/weight"],
            "shared/weight",
        ),
        ("LlamaForCausalLM", [], ""),
    ],
)
def test_tied_weights_count_once_and_say_with_what(name, tied, to):
    shared = {e.path: e.shared_with for e in read_object(made(name)).entries if e.shared_with}
    assert shared == dict.fromkeys(tied, to)


def test_the_normalisations_of_the_library_are_explained_as_what_they_are():
    for name, place in (
        ("LlamaForCausalLM", "model/norm"),
        ("T5ForConditionalGeneration", "encoder/final_layer_norm"),
    ):
        ledger = read_object(made(name))
        assert ledger.owner(place).type == "RMSNormalization"
        assert explain(ledger, place).formula.symbols == "channels"


def test_gpt_2_s_linear_layer_has_its_matrix_the_other_way_round():
    found = explain(read_object(made("GPT2LMHeadModel")), "transformer/h/0/attn/c_attn").formula
    assert found.numbers == "48 × (16 + 1) = 816"


def test_experts_and_their_router_say_which_axis_is_the_experts():
    axes = {entry.path: entry.axes for entry in read_object(made("MixtralForCausalLM")).entries}
    inside = "model/layers/0/mlp"
    assert axes[f"{inside}/gate/weight"] == ("experts", "features")
    assert axes[f"{inside}/experts/gate_up_proj"] == ("experts", "2 projections·units", "features")
    assert axes[f"{inside}/experts/down_proj"] == ("experts", "features", "units")


def test_the_tokens_and_positions_that_a_vision_transformer_learns_have_named_axes():
    axes = {
        entry.name: entry.axes
        for entry in read_object(made("ViTForImageClassification")).owned_by("vit/embeddings")
    }
    assert axes == {
        "cls_token": ("broadcast", "broadcast", "features"),
        "position_embeddings": ("broadcast", "positions", "features"),
    }


def test_a_model_says_what_it_is_and_keeps_what_its_configuration_hides_to_itself():
    owner = read_object(made("LlamaForCausalLM")).owner("")
    assert "model_type llama, 2 hidden layers" in owner.notes[0]
    assert owner.option("num_key_value_heads") == 2
    assert not any(name.startswith("_") for name, _ in owner.options)


def test_a_frozen_base_with_a_new_head_trains_the_head_alone():
    model = made("BertForMaskedLM")
    model.bert.requires_grad_(False)
    ledger = read_object(model)
    assert ledger.trainable == model.num_parameters(only_trainable=True)
    assert {entry.frozen_by for entry in ledger.under("bert") if entry.state == "frozen"} <= {"bert"}


def test_every_verb_takes_a_model_and_calls_nothing():
    quiet = {"print_fn": lambda text: None}
    model = made("LlamaForCausalLM")
    model.forward = None
    total = model.num_parameters()
    assert tally.summary(model, **quiet).total == total
    assert tally.explain(model, **quiet).total == total
    assert tally.diagnose(model, **quiet).holds
    assert tally.check(model, max_params=total, **quiet).holds
    fixed = sum(buffer.numel() for buffer in model.buffers())
    assert tally.plan(model, **quiet).parameters == (total + fixed) * 4  # bytes


def test_weights_that_bitsandbytes_packed_count_as_those_they_stand_for():
    packed = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    model = torch.nn.Sequential(
        packed.nn.Linear4bit(64, 32), packed.nn.Linear8bitLt(64, 32, has_fp16_weights=False)
    )
    before = read_object(model)
    after = read_object(model.to("cpu"))
    assert before.total == after.total == 2 * 65 * 32
    assert [(entry.dtype, entry.nbytes) for entry in after.counted if entry.name == "weight"] == [
        ("fp4", 1024),
        ("int8", 2048),
    ]
    assert "two parameters in each byte" in after.owner("0").notes[0]
