"""A folder of the Hub: its configuration, its files, what is tied in it, and what its packed arrays stand for."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tally.formats import huggingface, safetensors
from tally.formats.errors import BadFileError
from tally.formats.tensor import Contents, Tensor
from tally.saving.safetensors import located

Arrays = dict[str, np.ndarray]
TABLE = {
    "model.embed_tokens.weight": np.zeros((10, 4), "float16"),
    "model.norm.weight": np.zeros(4, "float16"),
}


def folder_of(path: Path, arrays: Arrays, config: Any = None, name: str = "model.safetensors") -> Path:
    path.mkdir(exist_ok=True)
    save_file(arrays, path / name)
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def named(contents: Contents) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in contents.tensors}


def test_the_folder_and_the_configuration_say_the_same(tmp_path):
    folder_of(tmp_path, TABLE, {"model_type": "llama"})
    assert huggingface.matches(tmp_path)
    assert huggingface.matches(tmp_path / "config.json")
    assert huggingface.read(tmp_path) == huggingface.read(tmp_path / "config.json")
    assert huggingface.read(tmp_path).metadata["config"] == {"model_type": "llama"}


def test_a_folder_of_other_things_is_none(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    save_file(TABLE, tmp_path / "run_1.safetensors")
    assert not huggingface.matches(tmp_path)


def test_parts_without_an_index_are_read_as_one(tmp_path):
    folder_of(tmp_path, {"a": np.zeros(2)}, {}, "model-00001-of-00002.safetensors")
    with pytest.raises(BadFileError, match=r"not 'model-00002-of-00002\.safetensors'"):
        huggingface.read(tmp_path)
    folder_of(tmp_path, {"b": np.zeros(3)}, {}, "model-00002-of-00002.safetensors")
    assert list(named(huggingface.read(tmp_path))) == ["a", "b"]


@pytest.mark.parametrize("name", ["model.safetensors", "weights.safetensors"])
def test_a_whole_file_is_read_before_the_index_beside_it(tmp_path, name):
    folder_of(tmp_path, {"split": np.zeros(2)}, {}, "first.safetensors")
    (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": {"split": "first.safetensors"}}))
    assert list(named(huggingface.read(tmp_path))) == ["split"]
    save_file({"whole": np.zeros(3)}, tmp_path / name)
    assert list(named(huggingface.read(tmp_path))) == ["whole"]
    assert located(tmp_path / name) == tmp_path / name  # saving chooses the same


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"a": ' + "[" * 200 + "]" * 200 + "}"])
def test_a_configuration_that_is_none_is_refused(tmp_path, text):
    folder_of(tmp_path, TABLE, text)
    with pytest.raises(BadFileError, match=r"config\.json"):
        huggingface.read(tmp_path)


def test_a_folder_without_weights_says_so(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadFileError, match="holds no weights"):
        huggingface.read(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    save_file(TABLE, tmp_path / "elsewhere.safetensors")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "m" / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(BadFileError, match="link"):
        huggingface.read(tmp_path / "m")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_the_links_of_the_hubs_own_cache_are_followed(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file(TABLE, blobs / "1234")
    (blobs / "5678").write_text("{}")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1234")
    (snapshot / "config.json").symlink_to("../../blobs/5678")
    assert len(huggingface.read(snapshot).tensors) == 2
    (blobs / "1234").unlink()
    (blobs / "1234").symlink_to("/etc/passwd")
    with pytest.raises(BadFileError, match="link"):
        huggingface.read(snapshot)


# -- tied ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "config", [{"tie_word_embeddings": True}, {"text_config": {"tie_word_embeddings": True}}]
)
def test_a_table_that_is_stored_twice_counts_once(tmp_path, config):
    folder_of(tmp_path, {**TABLE, "lm_head.weight": np.zeros((10, 4), "float16")}, config)
    assert named(huggingface.read(tmp_path))["lm_head.weight"].alias_of == "model.embed_tokens.weight"


@pytest.mark.parametrize(("config", "shape"), [({}, (10, 4)), ({"tie_word_embeddings": True}, (11, 4))])
def test_what_is_not_tied_counts_twice(tmp_path, config, shape):
    folder_of(tmp_path, {**TABLE, "lm_head.weight": np.zeros(shape, "float16")}, config)
    assert named(huggingface.read(tmp_path))["lm_head.weight"].alias_of is None


def test_a_head_that_the_file_leaves_out_is_told(tmp_path):
    folder_of(tmp_path, TABLE, {"tie_word_embeddings": True})
    assert "uses the table 'model.embed_tokens.weight' again" in huggingface.read(tmp_path).notes[0]


@pytest.mark.parametrize(
    ("name", "has_head"),
    [
        ("BertModel", False),
        ("BertForSequenceClassification", False),
        ("BertForMaskedLM", True),
        ("GPT2LMHeadModel", True),
        ("T5ForConditionalGeneration", True),
    ],
)
def test_only_a_model_with_an_output_layer_is_said_to_use_the_table_again(tmp_path, name, has_head):
    folder_of(tmp_path, TABLE, {"tie_word_embeddings": True, "architectures": [name]})
    assert bool(huggingface.read(tmp_path).notes) == has_head


@pytest.mark.parametrize("config", [{}, {"tie_word_embeddings": True}])
def test_the_header_says_which_of_two_tied_arrays_the_file_has(tmp_path, config):
    folder_of(tmp_path, {}, config)
    said = {"format": "pt", "model.embed_tokens.weight": "lm_head.weight"}
    save_file({"lm_head.weight": np.zeros((10, 4), "float16")}, tmp_path / "model.safetensors", metadata=said)
    found = {one.name: one.alias_of for one in huggingface.read(tmp_path).tensors}
    assert found == {"lm_head.weight": None, "model.embed_tokens.weight": "lm_head.weight"}


# -- quantised -----------------------------------------------------------------------------------------------------
def packed_rows(method: str, width: int) -> Arrays:
    features, units, groups = 128, 64, 4
    whole = (features * width // 32, units) if method == "gptq" else (features, units * width // 32)
    return {
        "q.qweight": np.zeros(whole, "int32"),
        "q.qzeros": np.zeros((groups, units * width // 32), "int32"),
        "q.scales": np.zeros((groups, units), "float16"),
        "q.g_idx": np.zeros(features, "int32"),
    }


@pytest.mark.parametrize(
    ("method", "width"), [("gptq", 4), ("gptq", 8), ("gptq", 3), ("gptq", 2), ("awq", 4)]
)
def test_weights_packed_in_whole_numbers_count_as_what_they_stand_for(tmp_path, method, width):
    found = named(huggingface.read(folder_of(tmp_path, packed_rows(method, width), {})))
    weight = found["q.qweight"]
    assert (weight.shape, weight.dtype, weight.axes) == ((128, 64), f"int{width}", ("features", "units"))
    assert weight.stored == 128 * 64 * width // 8
    assert {found[f"q.{name}"].role for name in ("qzeros", "scales", "g_idx")} == {"fixed"}


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes_with_4_bits(tmp_path, kind):
    state = np.frombuffer(json.dumps({"shape": [64, 128], "blocksize": 64}).encode(), "uint8")
    arrays = {
        "q.weight": np.zeros((64 * 128 // 2, 1), "uint8"),
        "q.weight.absmax": np.zeros(128, "uint8"),
        "q.weight.quant_map": np.zeros(16, "float32"),
        "q.weight.nested_absmax": np.zeros(1, "float32"),
        "q.weight.nested_quant_map": np.zeros(256, "float32"),
        f"q.weight.quant_state.bitsandbytes__{kind}": state,
        "q.bias": np.zeros(64, "float16"),
    }
    found = named(huggingface.read(folder_of(tmp_path, arrays, {})))
    assert (found["q.weight"].shape, found["q.weight"].dtype, found["q.weight"].stored) == (
        (64, 128),
        kind,
        4096,
    )
    assert [name for name, tensor in found.items() if tensor.role == "weight"] == ["q.bias", "q.weight"]


@pytest.mark.parametrize("text", [b"[]", b'{"shape": 3}', b'{"shape": [-1]}', b"\xff", b"[" * 5000])
def test_a_description_that_is_none_is_refused(tmp_path, text):
    name = "q.weight.quant_state.bitsandbytes__nf4"
    arrays = {"q.weight": np.zeros((8, 1), "uint8"), name: np.frombuffer(text, "uint8")}
    with pytest.raises(BadFileError, match="quant_state"):
        huggingface.read(folder_of(tmp_path, arrays, {}))


def test_bitsandbytes_with_8_bits(tmp_path):
    arrays = {
        "q.weight": np.zeros((6, 4), "int8"),
        "q.SCB": np.zeros(6, "float32"),
        "q.weight_format": np.zeros((), "uint8"),
    }
    found = named(huggingface.read(folder_of(tmp_path, arrays, {})))
    assert (found["q.weight"].size, found["q.SCB"].role, found["q.weight_format"].role) == (
        24,
        "fixed",
        "fixed",
    )


def test_compressed_tensors(tmp_path):
    arrays = {
        "q.weight_packed": np.zeros((6, 5), "int32"),
        "q.weight_scale": np.zeros((6, 1), "float16"),
        "q.weight_shape": np.array([6, 36], "int64"),
        "f.weight_packed": np.zeros((6, 8), "uint8"),
        "f.weight_scale": np.zeros((6, 1), "float16"),
        "f.weight_global_scale": np.zeros(1, "float32"),
    }
    found = named(huggingface.read(folder_of(tmp_path, arrays, {})))
    assert (found["q.weight_packed"].shape, found["q.weight_packed"].dtype) == ((6, 36), "int4")
    assert (found["f.weight_packed"].shape, found["f.weight_packed"].dtype) == ((6, 16), "float4_e2m1fn")
    assert {tensor.role for name, tensor in found.items() if "packed" not in name} == {"fixed"}


def write_types(path: Path, arrays: dict[str, tuple[str, list[int], int]]) -> None:
    """Types that NumPy has not."""
    header: dict[str, Any] = {}
    at = 0
    for name, (kind, shape, nbytes) in arrays.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))


def test_fractions_of_8_bits_with_scales(tmp_path):
    path = tmp_path / "m.safetensors"
    kinds = {"q.weight": ("F8_E4M3", [8, 4], 32), "q.weight_scale_inv": ("F32", [1, 1], 4)}
    write_types(path, {**kinds, "n.weight": ("F8_E5M2", [2, 2], 4)})
    found = named(safetensors.read(path))
    assert (found["q.weight"].size, found["q.weight_scale_inv"].role) == (32, "fixed")
    assert [bool(found[name].notes) for name in ("q.weight", "n.weight")] == [True, False]


def test_mxfp4_blocks_count_as_what_they_stand_for(tmp_path):
    arrays = {"e.up_blocks": np.zeros((2, 64, 3, 16), "uint8"), "e.up_scales": np.zeros((2, 64, 3), "uint8")}
    found = named(huggingface.read(folder_of(tmp_path, arrays, {})))
    assert (found["e.up_blocks"].shape, found["e.up_blocks"].stored) == ((2, 64, 96), 2 * 64 * 48)
    assert found["e.up_scales"].role == "fixed"


def test_bitnet_has_four_in_a_byte(tmp_path):
    arrays = {"q.weight": np.zeros((2, 4), "uint8"), "q.weight_scale": np.zeros(1, "float32")}
    assert named(huggingface.read(folder_of(tmp_path, arrays, {})))["q.weight"].shape == (8, 4)


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ({"quant_method": "hqq"}, "Quantised by 'hqq', which isn't known here"),
        ({"quant_method": "gptq"}, "The configuration says 'gptq', but no array looks quantised"),
        ({}, "Quantised by 'a method without a name'"),
    ],
)
def test_what_could_not_be_unpacked_is_told(tmp_path, said, note):
    contents = huggingface.read(folder_of(tmp_path, TABLE, {"quantization_config": said}))
    assert contents.notes[-1].startswith(note)


def test_arrays_that_only_look_packed_stay_as_they_are(tmp_path):
    arrays = {
        "a.qweight": np.zeros((4, 5), "int32"),
        "a.scales": np.zeros((2, 7), "float16"),
        "a.qzeros": np.zeros((2, 1), "int32"),
        "b.weight_packed": np.zeros((4, 5), "int32"),
        "c_blocks": np.zeros((2, 3, 15), "uint8"),
        "c_scales": np.zeros((2, 3), "uint8"),
    }
    found = named(huggingface.read(folder_of(tmp_path, arrays, {})))
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: a.shape for name, a in arrays.items()
    }
