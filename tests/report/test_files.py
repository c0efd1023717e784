"""What a reader sees of files: golden texts of the views most asked for, drawn by the command."""

from pathlib import Path

import pytest

from tally.accounting.cache import cache_of
from tally.accounting.ledger import Entry, Ledger, Owner
from tally.accounting.plan import OPTIMIZERS, plan_ledger, slots_of
from tally.cli.main import main
from tally.report import render
from tally.report.plan import draw

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
VIEWS = {
    "file_summary_keras": "summary keras/net.keras --width 80",
    "file_summary_checkpoint": "summary pytorch/net.pt --width 80",
    "file_explanation_gguf": "explain gguf/net.gguf",
    "file_plan_weights": "plan safetensors/net.safetensors --memory 300B",
    "file_plan_configuration": "plan keras/net.json --memory 8GB",
    "file_diff_formats": "diff keras/net.keras safetensors/net.safetensors",
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_a_file(name, golden, monkeypatch, capsys) -> None:
    monkeypatch.chdir(CORPUS)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(VIEWS[name].split()) in (0, 1)
    golden(name, capsys.readouterr().out.rstrip("\n"))


def decoder(**more: int) -> Ledger:
    sizes = {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096, **more}
    model = Owner(path="", type="LlamaForCausalLM", builtin=False, options=tuple(sizes.items()))
    table = Entry(path="embed/weight", owner="embed", shape=(100, 4096), dtype="bfloat16")
    owners = (model, Owner(path="embed", type="Embedding"))
    return Ledger(name="llama", source="safetensors", owners=owners, entries=(table,))


def test_a_plan_of_a_decoder_tells_what_a_token_costs() -> None:
    ledger = decoder(num_key_value_heads=8, max_position_embeddings=8192)
    text = " ".join(render(draw(plan_ledger(ledger, batch_size=4, training=False))).split())
    assert "32 layers × 8 key heads × 2 × 128 numbers in bfloat16 = 131,072 bytes for each token" in text
    assert "a sequence takes 1.00 GiB, and a batch of 4 takes 4.00 GiB" in text


@pytest.mark.parametrize("other", ["kv_lora_rank", "is_encoder_decoder"])
def test_a_model_that_keeps_something_else_has_no_such_cache(other) -> None:
    assert cache_of(decoder(), "bfloat16") is not None
    assert cache_of(decoder(**{other: 1}), "bfloat16") is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_would_remember_is_what_the_optimizer_itself_remembers(name) -> None:
    import tally

    optimizers = tally.optimizers
    makers = {
        "SGD": lambda: optimizers.SGD(),
        "SGD with momentum": lambda: optimizers.SGD(momentum=0.9),
        "Lion": lambda: optimizers.Lion(),
        "Adam, AdamW": lambda: optimizers.AdamW(),
    }
    ledger = decoder()
    found = tally.plan(ledger, optimizer=makers[name](), print_fn=lambda text: None)
    assert dict(found.optimizers)[name] == found.optimizer
    assert plan_ledger(ledger, slots=slots_of(ledger, OPTIMIZERS[name])).optimizer == found.optimizer


def test_what_is_known_fits_or_not_and_by_how_much() -> None:
    ledger = decoder()  # 819,200 bytes of weights, as many of gradients, and for Adam twice that and 8
    known = 4 * 819_200 + 8
    found = plan_ledger(ledger, slots=slots_of(ledger, 2), memory=4_000_000)
    assert (found.peak, found.fits, found.spare()) == (known, True, 3_600_000 - known)
    found = plan_ledger(ledger, slots=slots_of(ledger, 2), memory=3_000_000)
    assert (found.fits, found.spare()) == (False, 2_700_000 - known)
    assert found.prediction is not None
    assert found.spare(found.prediction) == 2_700_000 - 819_200


def test_a_frozen_layer_of_a_file_says_that_its_line_is_not_recorded(tmp_path, capsys) -> None:
    import tally

    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3, name="base"), tally.layers.Dense(2)])
    model.layers[0].trainable = False
    model.save(tmp_path / "m.keras")
    assert main(["summary", str(tmp_path / "m.keras")]) == 0
    assert "On which line 'base' was frozen is not recorded." in capsys.readouterr().out
