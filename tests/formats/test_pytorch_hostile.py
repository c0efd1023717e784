"""PyTorch's files that are broken, or made to take over who loads them: accounted for as far as they are sound."""

import collections
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from formats.harm import flips, survives, truncations
from formats.test_pytorch import Owned, each_form, network, read, save
from tally.formats import pytorch
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.tensor import Contents

GLOBAL = "Names 1 thing that would be imported if it were unpickled: __builtin__.eval. Here nothing was."


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def altered(path: Path, **change: bytes | None) -> Path:
    """The zip with members replaced, or left out; `_` in a name stands for what can't be in a word."""
    known = members(path)
    with zipfile.ZipFile(path, "w") as new:
        for name, data in known.items():
            other = change.get(name.partition("/")[2].replace("/", "_").replace(".", "_"), data)
            if other is not None:
                new.writestr(name, other)
    return path


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"K\x00K\x02K\x03\x86", b"K\x02K\x02K\x03\x86", "reaches out of its storage"),
        (b"K\x00K\x02K\x03\x86", b"K\x00K\x09K\x03\x86", "reaches out of its storage"),
        (b"K\x03K\x01\x86", b"K\x09K\x01\x86", "reaches out of its storage"),
        (b"K\x03K\x01\x86", b"J\xff\xff\xff\xffK\x01\x86", "at element 0"),
        (b"K\x03K\x01\x86", b"K\x01\x85", "don't fit together"),
        (b"K\x03K\x01\x86", b"]", "don't fit together"),
        (b"FloatStorage", b"FlashStorage", "isn't known"),
        (b"FloatStorage", b"ShortStorage", "but the pickle says"),
    ],
)
def test_a_tensor_that_reaches_out_of_its_storage_is_refused(
    old: bytes, new: bytes, why: str, tmp_path: Path
) -> None:
    path = save({"x": torch.zeros(2, 3)}, tmp_path / "m.pt")
    data = pickletools.optimize(members(path)["m/data.pkl"])
    assert old in data
    altered(path, data_pkl=data.replace(old, new, 1))
    with pytest.raises(BadFileError, match=why):
        pytorch.read(path)


def test_a_storage_that_is_missing_or_of_another_size_is_refused(tmp_path: Path) -> None:
    """CVE-2026-24747: fewer bytes than the pickle claims, and memory beyond them was read and written."""
    path = save({"x": torch.zeros(2, 3)}, tmp_path / "m.pt")
    altered(path, data_0=bytes(20))
    with pytest.raises(BadFileError, match="20 bytes, but the pickle says 6 of float32"):
        pytorch.read(path)
    altered(path, data_0=None)
    with pytest.raises(BadFileError, match="isn't there"):
        pytorch.read(path)


def test_items_set_in_what_is_no_dictionary_are_refused(tmp_path: Path) -> None:
    """CVE-2026-24747: the restricted unpickler stored items in whatever lay on its stack."""
    path = save({"x": torch.zeros(2, 3)}, tmp_path / "m.pt")
    altered(path, data_pkl=b"\x80\x02](K\x01K\x02u.")
    with pytest.raises(BadFileError, match="stores under a key in a list"):
        pytorch.read(path)


class Hostile:
    """A pickle of this would make a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.folder / 'owned')!r}, 'w')",)


@each_form
def test_a_file_that_would_run_code_is_accounted_for_and_named(form: str, tmp_path: Path) -> None:
    """CVE-2025-32434: code ran though only weights were asked for. Here there is nothing that could run it."""
    found = read({"x": torch.zeros(3), "evil": Hostile(tmp_path)}, tmp_path, form)
    assert [t.name for t in found.tensors] == ["x"]
    assert found.notes == (GLOBAL,)
    assert not (tmp_path / "owned").exists()


def test_code_in_a_torchscript_archive_is_only_searched_for_names(tmp_path: Path) -> None:
    """CVE-2025-32434 again: loading with `weights_only` ran an archive of TorchScript."""
    path = save({"x": torch.zeros(3)}, tmp_path / "m.pt")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("m/constants.pkl", b"\x80\x02).")
        file.writestr("m/code/__torch__.py", f"open({str(tmp_path / 'owned')!r}, 'w')")
    assert pytorch.read(path).format == "TorchScript"
    assert not (tmp_path / "owned").exists()


def test_parts_that_hold_each_other_many_times_have_an_end(tmp_path: Path) -> None:
    full: Any = {"t": torch.zeros(1)}
    empty: Any = {}
    for _ in range(40):
        full, empty = {"a": full, "b": full}, {"a": empty, "b": empty}
    with pytest.raises(BadFileError, match="repeats its own parts"):
        read(full, tmp_path)
    assert read(empty, tmp_path).notes == ("It holds no arrays.",)


def test_names_depth_and_count_have_limits(tmp_path: Path) -> None:
    deep: Any = torch.zeros(1)
    for _ in range(120):
        deep = [deep]
    assert "nested deeper than 100" in read(deep, tmp_path).notes[0]
    with pytest.raises(BadFileError, match="a name of"):
        read({"n" * 5_000: torch.zeros(1)}, tmp_path)
    zero = torch.zeros(1)
    with pytest.raises(BadFileError, match="names more than 40 arrays"):
        pytorch.read(save([zero] * 60, tmp_path / "m.pt"), Limits(tensors=40))


def test_one_storage_of_two_lengths_is_refused(tmp_path: Path) -> None:
    path = save({"x": torch.zeros(3), "y": torch.ones(3)}, tmp_path / "m.pt", "older")
    data = path.read_bytes()
    keys = [key for key in set(_words(data)) if len(key) > 6 and key.isdigit()]
    path.write_bytes(data.replace(keys[0], keys[1]))
    with pytest.raises(BadFileError):
        pytorch.read(path)


def _words(data: bytes) -> list[bytes]:
    import re

    return re.findall(rb"\d+", data)


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="named twice"):
        read({"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1)}, tmp_path)


def test_an_ordered_dictionary_is_read_however_python_wrote_it(tmp_path: Path) -> None:
    path = save(collections.OrderedDict(x=torch.zeros(2, 3)), tmp_path / "m.pt")
    assert [t.name for t in pytorch.read(path).tensors] == ["x"]


@each_form
def test_broken_files_give_one_error(form: str, tmp_path: Path) -> None:
    whole = save({"model": network().state_dict(), "epoch": 3}, tmp_path / "m.pt", form).read_bytes()
    broken = [*truncations(whole, 9), *flips(whole, 3, 400)]
    found = [survives(pytorch.read, data, tmp_path, "b.pt") for data in broken]
    assert sum(isinstance(one, BadFileError) for one in found) > 300
    assert any(isinstance(one, Contents) for one in found)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_broken_tree_of_modules_gives_one_error(tmp_path: Path) -> None:
    whole = save(Owned(), tmp_path / "m.pt").read_bytes()
    cut = whole.find(b"data/0")
    for data in flips(whole[:cut], 5, 400):
        survives(pytorch.read, data + whole[cut:], tmp_path, "b.pt")
