"""PyTorch modules in other forms: compiled, traced, quantised, parametrised, with adapters beside a frozen base."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import tally
from tally.accounting.explain import explain
from tally.readers import read_object

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


FORMS = {
    "scripted": lambda: torch.jit.script(Net()),
    "traced": lambda: torch.jit.trace(Net().eval(), torch.zeros(1, 3, 4, 4)),
    "graph": lambda: torch.fx.symbolic_trace(Net()),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_a_form_of_a_module_has_the_entries_and_the_layers_of_the_module(make):
    found, plain = read_object(make()), read_object(Net())
    assert [(e.path, e.shape, e.axes, e.state) for e in found.entries] == [
        (e.path, e.shape, e.axes, e.state) for e in plain.entries
    ]
    assert [(o.path, o.type, o.builtin) for o in found.owners] == [
        (o.path, o.type, o.builtin) for o in plain.owners
    ]
    assert explain(found, "head").formula.numbers == "4 × (8 + 1) = 36"


def test_a_quantised_recurrent_layer_counts_the_parameters_it_stands_for():
    plain = nn.Sequential(nn.LSTM(4, 5, 2, bidirectional=True), nn.GRU(10, 3), nn.LSTMCell(3, 4))
    kinds = {nn.LSTM, nn.GRU, nn.LSTMCell}
    ledger = read_object(torch.ao.quantization.quantize_dynamic(plain, kinds))
    assert ledger.total == sum(p.numel() for p in plain.parameters())
    assert all(all(entry.axes) for entry in ledger.counted)
    assert [owner.path for owner in ledger.owners] == ["", "0", "1", "2"]
    assert {e.dtype for e in ledger.entries if e.name.startswith("weight")} == {"qint8"}


def test_what_a_quantised_layer_scales_by_is_no_parameter():
    quantised = torch.ao.nn.quantized
    ledger = read_object(
        nn.Sequential(
            quantised.Linear(4, 3), quantised.Embedding(6, 2), quantised.Quantize(1.0, 0, torch.quint8)
        )
    )
    assert ledger.total == 4 * 3 + 3 + 6 * 2
    assert {e.name: e.state for e in ledger.owned_by("2")} == {"scale": "fixed", "zero_point": "fixed"}
    assert [owner.path for owner in ledger.owners] == ["", "0", "1", "2"]


def test_the_older_hooks_name_what_a_weight_is_computed_from():
    ledger = read_object(nn.utils.weight_norm(nn.Linear(3, 8)))
    assert {e.name: e.axes for e in ledger.entries} == {
        "bias": ("units",),
        "weight_g": ("units", "broadcast"),
        "weight_v": ("units", "features"),
    }
    assert ledger.owner("").notes == ("weight is not stored: WeightNorm computes it from what is.",)
    assert read_object(nn.utils.spectral_norm(nn.Linear(3, 8))).trainable == 32


def test_what_was_pruned_counts_as_before_and_its_mask_is_fixed():
    ledger = read_object(prune.l1_unstructured(nn.Linear(3, 8), "weight", 0.5))
    assert ledger.total == 32
    assert {e.name: e.state for e in ledger.entries}["weight_mask"] == "fixed"


def test_a_weight_norm_along_the_kernel_of_a_grouped_convolution_is_explained():
    model = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 4, groups=4), dim=2)
    found = explain(read_object(model))
    assert found.total == sum(p.numel() for p in model.parameters()) == 8 + 4 + 8 * 2 * 4


class Adapted(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(8, 2, bias=False), nn.Linear(2, 4, bias=False)


def test_an_adapter_beside_a_frozen_base_is_all_that_learns():
    ledger = read_object(nn.Sequential(Adapted(nn.Linear(8, 4))))
    assert (ledger.trainable, ledger.by_state["frozen"]) == (24, 36)
    assert {e.frozen_by for e in ledger.entries if e.state == "frozen"} == {"0/base_layer"}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_a_diagnosis_calls_no_module(make):
    assert tally.diagnose(make(), print_fn=lambda text: None).holds
