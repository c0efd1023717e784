"""The account of PyTorch modules: torch's own counts, and what is tied, frozen, lazy, wrapped or lost."""

import pytest
import torch
import torchinfo
from torch import nn

import tally
from tally.accounting.explain import explain
from tally.readers import read_object


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, groups=2, bias=False),
        )
        self.flatten = nn.Flatten()
        self.head = nn.Linear(16 * 11 * 11, 10)

    def forward(self, x):
        return self.head(self.flatten(self.features(x)))


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
        self.memory = nn.LSTM(16, 8, 2, bidirectional=True)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("causal", torch.ones(4, 4), persistent=False)


MODELS = {
    "convolutional": ConvNet,
    "transformer": Reader,
    "recurrent": lambda: nn.ModuleDict(
        {"a": nn.GRU(3, 4), "b": nn.RNNCell(3, 4), "c": nn.LSTM(3, 4, proj_size=2)}
    ),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Conv1d(6, 6, 3, groups=6)),
    "norms": lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.LayerNorm((3, 4)), nn.RMSNorm(4), nn.PReLU(4)),
    "attention": lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=4, add_bias_kv=True),
    "bilinear": lambda: nn.Bilinear(3, 4, 5),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_parameters_are_those_that_torch_counts(make):
    model = make()
    ledger = read_object(model)
    assert ledger.trainable + ledger.by_state["frozen"] == sum(p.numel() for p in model.parameters())
    for owner in explain(ledger).owners:
        assert owner.formula is None or owner.formula.value == owner.count


def test_the_total_is_torchinfo_s():
    model = ConvNet()
    found = torchinfo.summary(model, (1, 1, 28, 28), verbose=0)
    assert read_object(model).trainable == found.total_params


def test_a_convolution_of_groups_says_which_channels_a_filter_sees():
    found = explain(read_object(ConvNet()), "features/4").formula
    assert found.symbols == "filters × input channels / groups × kernel height × kernel width"
    assert found.numbers == "16 × 8/2 × 3 × 3 = 576"


def test_no_axis_of_torch_s_own_layers_is_without_a_name():
    for make in (ConvNet, Reader):
        for entry in read_object(make()).counted:
            assert all(entry.axes), entry.path


def test_statistics_are_state_and_a_buffer_that_is_not_saved_is_fixed():
    states = {entry.path: entry.state for entry in read_object(ConvNet()).entries}
    assert states["features/1/running_mean"] == states["features/1/num_batches_tracked"] == "state"
    assert {e.path: e.state for e in read_object(Reader()).entries}["causal"] == "fixed"


def test_tied_weights_count_once_whether_one_parameter_or_two_views_of_its_memory():
    tied = nn.Module()
    tied.encoder, tied.decoder = nn.Linear(6, 3, bias=False), nn.Linear(3, 6, bias=False)
    tied.decoder.weight = nn.Parameter(tied.encoder.weight.detach().t())
    ledger = read_object(tied)
    assert ledger.total == 18
    assert ledger.entries[1].shared_with == "encoder/weight"
    assert {e.path: e.shared_with for e in read_object(Reader()).entries}["head/weight"] == "embedding/weight"


def test_a_part_of_a_larger_parameter_counts_there_and_neighbours_in_one_memory_count_each():
    flat = torch.zeros(10)
    held = nn.Module()
    held.first, held.second = nn.Parameter(flat[:4]), nn.Parameter(flat[4:])
    assert read_object(held).total == 10
    held.whole = nn.Parameter(flat)
    ledger = read_object(held)
    assert ledger.total == 10
    assert {entry.path: entry.shared_with for entry in ledger.entries} == {
        "first": "whole",
        "second": "whole",
        "whole": None,
    }


def test_a_module_at_two_places_is_listed_at_both_and_counted_at_the_first():
    same = nn.Linear(4, 4)
    ledger = read_object(nn.ModuleDict({"a": same, "b": same}))
    assert ledger.total == 20
    assert ledger.owner("b").shared_with == "a"


def test_what_is_frozen_is_said_of_the_outermost_module_that_is_frozen_whole():
    model = ConvNet()
    model.features.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    by = {entry.path: entry.frozen_by for entry in read_object(model).entries if entry.state == "frozen"}
    assert by["features/0/weight"] == by["features/4/weight"] == "features"
    assert by["head/bias"] is None


def test_a_lazy_module_is_unbuilt_and_says_what_it_waits_for():
    ledger = read_object(nn.Sequential(nn.LazyLinear(4), nn.LazyConv2d(2, 3)))
    assert ledger.total == 0
    assert [owner.status for owner in ledger.owners] == ["unbuilt"] * 3
    assert explain(ledger)["0"].expected == "4 × (features + 1)"
    assert "LazyLinear" in ledger.owner("0").notes[0]


def test_a_model_without_data_is_counted_like_any():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100_000, 100_000), nn.Linear(2, 2))
    assert read_object(model).total == 10_000_100_006


def test_what_a_weight_is_computed_from_is_counted_and_said():
    ledger = read_object(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    assert {entry.path: entry.axes for entry in ledger.entries} == {
        "bias": ("units",),
        "parametrizations/weight/original0": ("units", "broadcast"),
        "parametrizations/weight/original1": ("units", "features"),
    }
    assert ledger.owners[0].type == "Dense"
    assert "WeightNorm" in ledger.owners[0].notes[0]
    spectral = read_object(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)))
    assert (spectral.trainable, spectral.by_state["state"]) == (15, 7)


def test_lists_of_parameters_belong_to_the_module_that_holds_them():
    held = nn.Module()
    held.scales = nn.ParameterList([torch.ones(2), torch.ones(3)])
    held.named = nn.ParameterDict({"a": torch.ones(4)})
    assert [(e.path, e.owner) for e in read_object(held).entries] == [
        ("scales/0", ""),
        ("scales/1", ""),
        ("named/a", ""),
    ]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapping_is_taken_off_and_said(wrap):
    ledger = read_object(wrap(ConvNet()))
    assert ledger.name == "ConvNet"
    assert "adds no parameters" in ledger.owners[0].notes[0]
    assert [entry.path for entry in ledger.entries] == [e.path for e in read_object(ConvNet()).entries]


def test_what_a_plain_list_hides_from_torch_is_untracked():
    model = nn.Module()
    model.layers = [nn.Linear(2, 2)]
    model.scale = torch.ones(3, requires_grad=True)
    ledger = read_object(model)
    assert ledger.total == sum(p.numel() for p in model.parameters()) == 0
    assert {entry.path: entry.size for entry in ledger.entries} == {
        "layers.0.weight": 4,
        "layers.0.bias": 2,
        "scale": 3,
    }
    assert {entry.state for entry in ledger.entries} == {"untracked"}
    assert "nn.ModuleList" in ledger.entries[0].note


def test_a_class_of_the_user_s_own_says_where_it_is_written():
    owner = read_object(ConvNet()).owners[0]
    assert owner.origin is not None
    assert owner.origin.startswith("tests/readers/test_live_torch.py:")
    assert (owner.type, owner.builtin) == ("ConvNet", False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized tensor:UserWarning")
def test_a_quantised_layer_counts_the_parameters_it_stands_for():
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4)), {nn.Linear})
    ledger = read_object(quantised)
    weight = ledger.entries[0]
    assert (ledger.total, weight.dtype, weight.nbytes, weight.axes) == (
        36,
        "qint8",
        32,
        ("units", "features"),
    )
    assert weight.state == "frozen"


def test_a_difference_from_the_same_model_of_tally_s_is_one_of_words_alone():
    theirs = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5408, 10))
    ours = tally.Sequential(
        [
            tally.Input((28, 28, 1)),
            tally.layers.Conv2D(8, 3),
            tally.layers.ReLU(),
            tally.layers.Flatten(),
            tally.layers.Dense(10),
        ]
    )
    found = tally.diff(theirs, ours, print_fn=lambda text: None)
    assert {change.kind for change in found.changes} == {"renamed", "reconfigured"}
    assert all(change.amount.total == 0 for change in found.changes)


def test_a_network_is_told_in_the_words_of_torch():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(5)
    )
    model[0].requires_grad_(False)
    told: list[str] = []
    for verb in (tally.summary, tally.explain, tally.diagnose, tally.plan):
        verb(model, print_fn=lambda text: told.append(" ".join(text.split())))
    text = " ".join(told)
    assert "switched off by '0' (requires_grad = False)" in text
    assert "80 numbers frozen: requires_grad is off on '0'." in text
    assert "the first forward initialises lazy modules" in text
    assert "running_mean and running_var follow the data: each forward updates them in train() mode" in text
    for word in (
        "trainable = False",
        "trainable is off",
        "build",
        "add_weight",
        "an Input,",
        "trainable_variables",
    ):
        assert word not in text.replace("unbuilt", ""), word  # the name of the finding T201


def test_every_verb_takes_a_module():
    quiet = {"print_fn": lambda text: None}
    model = nn.Sequential(nn.Linear(3, 2))
    assert tally.account(model).total == 8
    assert tally.explain(model, **quiet).total == 8
    assert tally.check(model, max_params=8, **quiet).holds
    assert tally.verify(model, {"total": 8}, **quiet)
    assert tally.plan(model, **quiet).parameters == 8 * 4  # bytes
    assert tally.summary(model, **quiet).total == 8


def test_transformers_models_say_what_they_are():
    transformers = pytest.importorskip("transformers", reason="needs Hugging Face's transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_embd=32, n_head=4, vocab_size=64, n_positions=16, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config)
    ledger = read_object(model)
    assert ledger.trainable == sum(p.numel() for p in model.parameters())
    assert "model_type gpt2, 2 hidden layers" in ledger.owners[0].notes[0]
    entries = {entry.path: entry for entry in ledger.entries}
    assert entries["lm_head/weight"].shared_with == "transformer/wte/weight"
    assert entries["transformer/h/0/attn/c_attn/weight"].axes == ("features", "units")
