"""Writes `corpus/`: small files by the libraries whose formats they are, one folder for each reader.

`python -m tests.fuzz.make_corpus` writes them anew. What `tests/formats/data` holds is not repeated here.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

CORPUS = Path(__file__).parent / "corpus"


def arrays(width: int = 3) -> dict[str, np.ndarray]:
    return {
        "model.conv.weight": np.zeros((2, 1, 3, 3), "float32"),
        "model.norm.running_mean": np.zeros(2, "float32"),
        "model.head.weight": np.zeros((width, 2), "float16"),
        "model.head.bias": np.zeros(width, "float16"),
    }


def write_safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(arrays(), folder / "net.safetensors", {"format": "pt"})
    packed = {
        "l.qweight": np.zeros((2, 8), "int32"),
        "l.qzeros": np.zeros((1, 1), "int32"),
        "l.scales": np.zeros((1, 8), "float16"),
        "l.g_idx": np.zeros(16, "int32"),
    }
    save_file(packed, folder / "packed.safetensors", {"format": "pt"})


def write_folder(folder: Path) -> None:
    from safetensors.numpy import save_file

    whole = folder / "whole"
    whole.mkdir()
    save_file(
        {"model.embed_tokens.weight": np.zeros((8, 4), "float16"), **arrays()}, whole / "model.safetensors"
    )
    config = {"architectures": ["Net"], "model_type": "net", "tie_word_embeddings": True, "hidden_size": 4}
    (whole / "config.json").write_text(json.dumps(config))
    split = folder / "split"
    split.mkdir()
    names = list(arrays())
    files = {name: f"model-0000{place // 2 + 1}-of-00002.safetensors" for place, name in enumerate(names)}
    for file in sorted(set(files.values())):
        save_file({name: array for name, array in arrays().items() if files[name] == file}, split / file)
    size = sum(array.nbytes for array in arrays().values())
    index = {"metadata": {"total_size": size}, "weight_map": files}
    (split / "model.safetensors.index.json").write_text(json.dumps(index))
    (split / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"bits": 4, "group_size": 16}})
    )


def write_gguf(folder: Path) -> None:
    from tests.formats.test_gguf import KEYS, array, file_of

    ends = [array("token_embd.weight", (2, 256), 12, 0), array("output_norm.weight", (8,), 0, 288)]
    (folder / "net.gguf").write_bytes(file_of(KEYS, ends, 288 + 32))


def network(keras: Any) -> Any:
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(2, 3, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="relu", name="head"),
        ],
        name="net",
    )
    model.compile("sgd", "mse")
    return model


def graph(keras: Any) -> Any:
    start = keras.Input((4,), name="start")
    once = keras.layers.Dense(4, name="once")
    return keras.Model(start, keras.layers.add([once(start), once(once(start))]), name="graph")


def write_keras(folder: Path) -> None:
    import keras

    network(keras).save(folder / "net.keras")
    graph(keras).save(folder / "graph.keras")
    network(keras).save_weights(folder / "net.weights.h5")
    network(keras).save(folder / "legacy.h5")
    (folder / "net.json").write_text(network(keras).to_json())


def write_hdf5(folder: Path) -> None:
    import h5py

    for name, version in (("old", "earliest"), ("new", "latest")):
        with h5py.File(folder / f"{name}.h5", "w", libver=version) as file:
            file.attrs["names"] = np.array([b"one", b"two"])
            file.attrs["text"] = "loose"
            group = file.create_group("a/b")
            group.create_dataset("plain", data=np.zeros((3, 2), "float32"))
            group.create_dataset(
                "packed", data=np.zeros((8, 8)), chunks=(4, 4), compression="gzip", shuffle=True
            )
            group["again"] = group["plain"]
            group.create_dataset("text", data="x")
            group["small"] = np.int8(3)


def write_pytorch(folder: Path) -> None:
    import collections

    import torch

    state = collections.OrderedDict((name, torch.zeros(array.shape)) for name, array in arrays().items())
    state["tied"] = state["model.head.weight"]
    everything = {
        "state_dict": state,
        "epoch": 3,
        "optimizer": torch.optim.SGD([torch.zeros(2)], 0.1).state_dict(),
    }
    torch.save(everything, folder / "net.pt")
    torch.save(everything, folder / "older.bin", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)), folder / "module.pth")


def write_numpy(folder: Path) -> None:
    np.savez(folder / "net.npz", **arrays())
    np.savez_compressed(
        folder / "packed.npz", **{"a/b": np.zeros((2, 300)), "c": np.asfortranarray(np.zeros((2, 3)))}
    )
    np.save(folder / "one.npy", np.zeros((2, 3), ">f4"))


def write_msgpack(folder: Path) -> None:
    import flax.serialization

    layer = {"kernel": np.zeros((4, 3), "float32"), "bias": np.zeros(3, "float32")}
    state = {"params": {"Dense_0": layer, "Dense_1": dict(layer)}, "step": 3, "mean": np.float32(1)}
    (folder / "net.msgpack").write_bytes(flax.serialization.to_bytes(state))


def write_ledger(folder: Path) -> None:
    from tally.readers import read

    for name in ("safetensors/net.safetensors", "keras/graph.keras"):
        ledger = read(CORPUS / name)
        (folder / f"{ledger.name}.json").write_text(ledger.to_json())


def write_configurations(folder: Path) -> None:
    from tests.fuzz.configured import MODELS

    for name, make in MODELS.items():
        (folder / f"{name}.json").write_text(make().to_json())


WRITERS = {
    "safetensors": write_safetensors,
    "huggingface": write_folder,
    "gguf": write_gguf,
    "keras": write_keras,
    "hdf5": write_hdf5,
    "pytorch": write_pytorch,
    "npz": write_numpy,
    "msgpack": write_msgpack,
    "ledger": write_ledger,
    "config": write_configurations,
}


def main() -> None:
    """Write all of them."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    for name, write in WRITERS.items():
        (CORPUS / name).mkdir(parents=True)
        write(CORPUS / name)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main()
