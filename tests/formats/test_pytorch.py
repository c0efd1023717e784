"""PyTorch's files in all their forms: what the account says of each tensor and module."""

import collections
import copy
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tally.formats import pytorch
from tally.formats.errors import BadFileError
from tally.formats.tensor import Contents, Tensor
from tally.formats.window import Window

FORMS = {"zip": True, "older": False}
each_form = pytest.mark.parametrize("form", FORMS)


def save(value: Any, path: Path, form: str = "zip") -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=FORMS[form])
    return path


def read(value: Any, folder: Path, form: str = "zip") -> Contents:
    assert pytorch.matches(save(value, folder / "m.pt", form))
    return pytorch.read(folder / "m.pt")


def by_name(found: Contents) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in found.tensors}


def network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, groups=1), torch.nn.BatchNorm2d(4), torch.nn.Flatten()
    )


@each_form
def test_a_state_dict_has_torchs_names_shapes_types_and_bytes(form: str, tmp_path: Path) -> None:
    state = network().state_dict()
    found = read(state, tmp_path, form)
    data = (tmp_path / "m.pt").read_bytes()
    assert [t.name for t in found.tensors] == list(state)
    for tensor in found.tensors:
        there = state[tensor.name]
        assert (tensor.shape, tensor.dtype) == (tuple(there.shape), str(there.dtype).removeprefix("torch."))
        assert tensor.span is not None
        piece = data[tensor.span.start : tensor.span.start + tensor.span.nbytes]
        assert piece == there.numpy().tobytes()
    roles = {t.name: t.role for t in found.tensors}
    assert roles["0.weight"] == "weight"
    assert roles["1.running_mean"] == roles["1.num_batches_tracked"] == "state"
    assert found.metadata["module_versions"] == {"": 1, "0": 1, "1": 2, "2": 1}
    assert not found.notes


DTYPES = [
    *(
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.complex64,
        torch.complex128,
        torch.bool,
    ),
    *(
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ),
    *(
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2fnuz,
        torch.float8_e8m0fnu,
    ),
]


@each_form
def test_every_type_of_element_is_known(form: str, tmp_path: Path) -> None:
    found = read([torch.zeros(2, 3, dtype=dtype) for dtype in DTYPES], tmp_path, form)
    assert [(t.dtype, t.shape, t.stored) for t in found.tensors] == [
        (str(dtype).removeprefix("torch."), (2, 3), 6 * dtype.itemsize) for dtype in DTYPES
    ]


def test_two_elements_in_a_byte_count_as_two(tmp_path: Path) -> None:
    packed = torch.zeros(2, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    tensor = read({"x": packed}, tmp_path).tensors[0]
    assert (tensor.shape, tensor.dtype, tensor.stored) == ((2, 8), "float4_e2m1fn", 8)


@pytest.mark.filterwarnings("ignore")  # quantised tensors are on their way out of PyTorch
def test_quantised_tensors_count_as_parameters_and_their_scales_as_fixed(tmp_path: Path) -> None:
    scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([0, 0])
    quantised = {
        "whole": torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.quint8),
        "rows": torch.quantize_per_channel(torch.ones(2, 3), scales, zeros, 0, torch.qint8),
        "half": torch.quantize_per_channel(torch.ones(2, 4), scales, zeros.float(), 0, torch.quint4x2),
    }
    found = by_name(read(quantised, tmp_path))
    assert (found["whole"].shape, found["whole"].dtype, found["whole"].stored) == ((2, 3), "quint8", 6)
    assert "one scale, 0.1" in found["whole"].notes[0]
    assert (found["rows"].role, found["rows.scales"].role, found["rows.scales"].shape) == (
        "weight",
        "fixed",
        (2,),
    )
    assert (found["half"].dtype, found["half"].size, found["half"].stored) == ("quint4", 8, 4)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_meta_and_numpy_tensors_say_what_they_are(tmp_path: Path) -> None:
    others = {
        "coo": torch.eye(3).to_sparse(),
        "csr": torch.eye(3).to_sparse_csr(),
        "meta": torch.empty(3, 4, device="meta"),
        "numpy": np.ones((2, 3), "f4"),
        "scalar": np.float64(2),
    }
    found = by_name(read(others, tmp_path))
    assert (found["coo"].shape, found["coo"].stored) == ((3, 3), 3 * 4 + 2 * 3 * 8)
    assert "3 of its elements are stored" in found["csr"].notes[0]
    assert (found["meta"].shape, found["meta"].stored) == ((3, 4), 0)
    assert (found["numpy"].shape, found["numpy"].dtype, found["scalar"].shape) == ((2, 3), "float32", ())


@each_form
def test_tied_overlapping_and_expanded_views_are_told_apart(form: str, tmp_path: Path) -> None:
    base = torch.arange(12.0)
    views = {
        "a": base.reshape(3, 4),
        "b": base.reshape(3, 4).T,
        "c": base[2:6],
        "d": torch.zeros(1).expand(1000),
        "e": base.reshape(3, 4)[:, :2],
    }
    found = by_name(read(views, tmp_path, form))
    assert (found["b"].alias_of, found["b"].shape) == ("a", (4, 3))
    assert found["c"].alias_of is None
    assert "Shares 16 bytes with 'a'" in found["c"].notes[0]
    assert (found["d"].stored, found["d"].size) == (4, 1000)
    assert "1 stored elements stand for 1,000" in found["d"].notes[0]
    assert found["e"].span is not None
    assert found["e"].span.strides == (4, 1)
    assert "lie between those of 'a'" in found["e"].notes[0]


def test_a_small_view_of_a_large_storage_says_what_lies_unused(tmp_path: Path) -> None:
    found = read({"x": torch.zeros(1000)[:10]}, tmp_path)
    assert "3,960 bytes that no array shows" in found.notes[0]


def test_a_checkpoint_keeps_weights_apart_from_what_training_needs(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    checkpoint = {
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "ema_model": copy.deepcopy(model.state_dict()),
        "hyper_parameters": {"lr": 0.1, "layers": [1, 2]},
        "epoch": 3,
        "best": torch.tensor(0.5),
        "rng_state": torch.get_rng_state(),
    }
    found = read(checkpoint, tmp_path)
    weights = {t.name: t.size for t in found.tensors if t.role in ("weight", "state")}
    assert weights == {name: value.numel() for name, value in model.state_dict().items()}
    roles = {name: tensor.role for name, tensor in by_name(found).items()}
    assert roles["optimizer_states.0.state.0.exp_avg"] == "optimizer"
    assert (roles["ema_model.0.weight"], roles["best"], roles["rng_state"]) == ("other", "other", "seed")
    assert found.metadata["epoch"] == 3
    assert found.metadata["hyper_parameters"] == {"lr": 0.1, "layers": (1, 2)}
    assert found.notes == ("Its weights stand under 'state_dict'.",)


class Owned(torch.nn.Module):
    """A module with what a tree can hold: a shared layer, a tied weight, a frozen one, buffers, a lazy layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(5, 2)
        self.head = torch.nn.Linear(2, 5, bias=False)
        self.head.weight = self.table.weight
        self.again = self.conv = torch.nn.Conv2d(4, 8, 3, groups=2)
        self.conv.bias.requires_grad_(False)
        self.register_buffer("mask", torch.ones(2), persistent=False)
        self.register_buffer("positions", torch.ones(2))
        self.lazy = torch.nn.LazyLinear(3)
        self.parent = [self]


@each_form
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_whole_module_gives_its_tree(form: str, tmp_path: Path) -> None:
    found = read(Owned(), tmp_path, form)
    nodes, tensors = {node.name: node for node in found.nodes}, by_name(found)
    conv = nodes["again"]
    assert (conv.type, conv.options["module"]) == ("Conv2d", "torch.nn.modules.conv")
    assert (conv.options["kernel_size"], conv.options["groups"], conv.options["frozen"]) == (
        (3, 3),
        2,
        ("bias",),
    )
    assert conv.tensors == ("again.weight", "again.bias")
    assert nodes["conv"].options["shared_with"] == "again"
    assert tensors["conv.weight"].alias_of == "again.weight"
    assert tensors["head.weight"].alias_of == "table.weight"
    assert (tensors["mask"].role, tensors["positions"].role) == ("fixed", "state")
    assert "a state_dict leaves it out" in tensors["mask"].notes[0]
    assert not tensors["positions"].notes
    assert any("lazy.weight is lazy" in note for note in found.notes)
    assert any("test_pytorch.Owned" in note for note in found.notes)
    parameters = [p for p in Owned().parameters() if not torch.nn.parameter.is_lazy(p)]
    assert sum(t.size for t in found.tensors if t.alias_of is None) == sum(p.numel() for p in parameters) + 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_gives_its_modules_without_its_code(tmp_path: Path) -> None:
    torch.jit.script(network()).save(str(tmp_path / "m.pt"))
    found = pytorch.read(tmp_path / "m.pt")
    state = network().state_dict()
    assert found.format == "TorchScript"
    assert {t.name: t.shape for t in found.tensors} == {
        name: tuple(value.shape) for name, value in state.items()
    }
    assert [(node.name, node.type) for node in found.nodes] == [
        *(("", "Sequential"), ("0", "Conv2d"), ("1", "BatchNorm2d"), ("2", "Flatten")),
    ]
    kept = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert {t.name for t in found.tensors if t.role == "state"} == kept


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    save({"a": torch.zeros(2)}, tmp_path / "one.bin")
    save({"b": torch.zeros(3)}, tmp_path / "two.bin", "older")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.bin", "b": "two.bin"}}))
    assert pytorch.matches(index)
    assert {t.name: t.size for t in pytorch.read(index).tensors} == {"a": 2, "b": 3}
    for wrong in ({"a": "../one.bin"}, {"a": "three.bin"}, {"a": index.name}, {"a": 1}):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(BadFileError):
            pytorch.read(index)


def test_a_single_tensor_and_a_list_have_names(tmp_path: Path) -> None:
    assert [t.name for t in read(torch.zeros(2), tmp_path).tensors] == ["tensor"]
    assert [t.name for t in read([torch.zeros(2), (torch.zeros(1),)], tmp_path).tensors] == ["0", "1.0"]


def test_a_pickle_without_tensors_says_so(tmp_path: Path) -> None:
    assert read({"epoch": 3}, tmp_path).notes == ("It holds no arrays.",)


def test_a_pickle_alone_gives_its_numpy_arrays(tmp_path: Path) -> None:
    for protocol in range(2, 6):
        (tmp_path / "p.pt").write_bytes(pickle.dumps({"x": np.zeros((3, 2))}, protocol))
        assert pytorch.matches(tmp_path / "p.pt")
        assert [(t.name, t.shape) for t in pytorch.read(tmp_path / "p.pt").tensors] == [("x", (3, 2))]


def test_other_files_are_not_taken_for_pytorchs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    (tmp_path / "b.bin").write_bytes(b"anything else")
    for name in ("a.npz", "b.bin", "missing.pt", "."):
        assert not pytorch.matches(tmp_path / name)


def test_the_oldest_form_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.pt", "w") as file:
        file.addfile(tarfile.TarInfo("sys_info"), io.BytesIO())
    assert pytorch.matches(tmp_path / "m.pt")
    with pytest.raises(BadFileError, match=r"before version 0\.1\.10"):
        pytorch.read(tmp_path / "m.pt")


class Made:
    """Pickles as a call."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.given


def test_every_function_that_makes_a_tensor_is_known(tmp_path: Path) -> None:
    utils, vector = torch._utils, Vector("0", 6)
    none = collections.OrderedDict[str, Any]()
    made = {
        "device": Made(
            utils._rebuild_device_tensor_from_numpy, np.ones((2, 3), "f4"), torch.bfloat16, "xla:0", True
        ),
        "other": Made(utils._rebuild_device_tensor_from_cpu_tensor, vector, torch.float16, "xla:0", True),
        "old": Made(utils._rebuild_tensor, Storage("0", 6), 0, (2, 3), (3, 1)),
        "parameter": Made(utils._rebuild_parameter_with_state, vector, True, none, {"a": 1}),
        "class": Made(
            torch._tensor._rebuild_from_type_v2, utils._rebuild_parameter, Planned, (vector, True, none), {}
        ),
        "wrapper": Made(
            *(
                utils._rebuild_wrapper_subclass,
                Planned,
                torch.int8,
                torch.Size([2, 3]),
                (3, 1),
                0,
                None,
                "cpu",
                False,
            )
        ),
    }
    path = tmp_path / "m.bin"
    write_with_holes(path, {"0": 6}, made)
    found = {t.name: (t.shape, t.dtype, t.alias_of) for t in pytorch.read(path).tensors}
    assert found == {
        "device": ((2, 3), "bfloat16", None),
        "other": ((6,), "float32", None),
        "old": ((2, 3), "float32", "other"),
        "parameter": ((6,), "float32", "other"),
        "class": ((6,), "float32", "other"),
        "wrapper": ((2, 3), "int8", None),
    }


class Planned:
    """A class that a tensor is said to be of."""


class Storage:
    """So many numbers, of which none exists."""

    def __init__(self, key: str, count: int) -> None:
        self.key, self.count = key, count


class Vector(Storage):
    """Pickles as a tensor of all numbers of a storage."""

    def __reduce__(self) -> tuple[Any, ...]:
        given = (Storage(self.key, self.count), 0, (self.count,), (1,), False, collections.OrderedDict())
        return torch._utils._rebuild_tensor_v2, given


class Pickler(pickle.Pickler):
    """Gives the identity of storages, as `torch.save` does."""

    def persistent_id(self, obj: Any) -> Any:
        return (
            ("storage", torch.FloatStorage, obj.key, "cpu", obj.count, None) if type(obj) is Storage else None
        )


def write_with_holes(path: Path, counts: dict[str, int], value: Any = None) -> None:
    """Write the older form with storages that are holes: they take no room on the disk."""
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, file, 2)
        Pickler(file, 2).dump(value or {key: Vector(key, count) for key, count in counts.items()})
        pickle.dump(list(counts), file, 2)
        for count in counts.values():
            file.write(struct.pack("<q", count))
            file.seek(4 * count, io.SEEK_CUR)
        file.truncate()


def test_storages_of_many_gigabytes_are_skipped_and_not_read(tmp_path: Path, monkeypatch) -> None:
    counts = {"a": 2_500_000_000, "b": 3, "c": 2_500_000_000}
    write_with_holes(tmp_path / "m.bin", counts)
    assert (tmp_path / "m.bin").stat().st_size > 20 * 10**9
    taken: list[int] = []
    take = Window.take

    def counting(window: Window, count: int, what: str = "") -> bytes:
        taken.append(count)
        return take(window, count, what)

    monkeypatch.setattr(Window, "take", counting)
    assert {t.name: t.size for t in pytorch.read(tmp_path / "m.bin").tensors} == counts
    assert sum(taken) < 400_000
