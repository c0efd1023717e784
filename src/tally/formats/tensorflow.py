"""TensorFlow's SavedModels, checkpoints and frozen graphs, read without TensorFlow."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tally.formats.errors import BadFileError
from tally.formats.leveldb import is_table
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.protobuf import Message
from tally.formats.tensor import Contents, Node
from tally.formats.tensorflow_checkpoint import Checkpoint, read_index, tensors
from tally.formats.tensorflow_graph import (
    Graph,
    axes_of,
    flow_of,
    frozen,
    nodes_of,
    read_frozen,
    read_saved_model,
)
from tally.formats.tensorflow_layers import owners_of, read_layers
from tally.formats.window import opened

_GRAPH = "saved_model.pb"
_STATE = "checkpoint"
_LATEST = re.compile(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_LONGEST_STATE = 2**20


def matches(path: Path) -> bool:
    """Tell whether a path is a SavedModel, a checkpoint or its folder, or a frozen graph."""
    try:
        if path.is_dir():
            return (path / _GRAPH).is_file() or _index_in(path) is not None
        if path.suffix == ".index" or not path.exists() or re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
            index = _index_of(path)
            if not index.is_file():
                return False
            with opened(index) as window:
                return is_table(window)
        if path.name == _STATE:
            return _latest(path) is not None
        return path.is_file() and _kind(path) != ""
    except BadFileError:
        return path.suffix == ".pb"


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which variables a SavedModel or a checkpoint holds, or which constants a frozen graph.

    Args:
        path: The folder of a SavedModel or its `saved_model.pb`; a checkpoint's `.index`, its name without an ending,
            the file `checkpoint` or the folder they lie in; or a graph's `.pb`.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or there is nothing of the kind.
    """
    if path.is_dir() and (path / _GRAPH).is_file():
        return _read_saved_model(path, limits)
    if path.is_dir():
        index = _index_in(path)
        if index is None:
            raise BadFileError(path, "holds neither saved_model.pb nor the index of a checkpoint")
        return _read_checkpoint(index, limits)
    if path.name == _STATE and path.suffix == "":
        name = _latest(path)
        if name is None:
            raise BadFileError(path, "names no checkpoint")
        return _read_checkpoint(_named(path.parent, name, path), limits)
    if path.suffix == ".index" or ".data-" in path.name or not path.exists():
        return _read_checkpoint(_index_of(path), limits)
    if _kind(path) == "SavedModel":
        return _read_saved_model(path.parent, limits, path)
    return _read_frozen(path, limits)


def _kind(path: Path) -> str:
    """Tell a SavedModel from a bare graph by the first field: a version there, a node here; `""` for neither."""
    with opened(path) as window:
        for count, (number, value) in enumerate(Message(window).fields()):
            if count == 0 and number == 1 and value == 1:
                continue
            if count == 1 and number == 2 and isinstance(value, Message):
                return "SavedModel"
            if count == 0 and number == 1 and isinstance(value, Message):
                node = value.table()
                is_node = node.text(1) and re.fullmatch(r"[A-Za-z0-9_>]+", node.text(2))
                return "graph" if is_node else ""
            return ""
    return ""


def _index_of(path: Path) -> Path:
    """Return the index of a checkpoint from any of its files, or from the name that all begin with."""
    name = re.sub(r"(\.data-\d{5}-of-\d{5}|\.index)$", "", path.name)
    return path.with_name(f"{name}.index") if name else path


def _index_in(folder: Path) -> Path | None:
    """Return the index of the checkpoint in a folder: the one its state names, or else the one with the last number."""
    state = folder / _STATE
    if state.is_file() and state.stat().st_size <= _LONGEST_STATE:
        name = _latest(state)
        if name is not None:
            return _named(folder, name, state)
    found = sorted(folder.glob("*.index"), key=lambda path: (_step(path.name), path.name))
    return found[-1] if found else None


def _step(name: str) -> int:
    number = re.search(r"-(\d{1,18})\.index$", name)
    return int(number[1]) if number else -1


def _latest(state: Path) -> str | None:
    """Return the checkpoint that the file beside checkpoints names as the last."""
    with opened(state) as window:
        if window.size > _LONGEST_STATE:
            return None
        try:
            found = _LATEST.search(window.take(window.size).decode())
        except UnicodeDecodeError:
            return None
    return found[1] if found else None


def _named(folder: Path, name: str, state: Path) -> Path:
    """Return the index that a name stands for: always in this folder, wherever the name points."""
    last = re.split(r"[/\\]", name)[-1]
    if last in ("", ".", ".."):
        raise BadFileError(state, f"names the checkpoint {name[:80]!r}")
    return folder / f"{last}.index"


def _read_checkpoint(index: Path, limits: Limits) -> Contents:
    found = read_index(index, limits)
    return Contents(
        format="TensorFlow checkpoint",
        tensors=checked(tensors(found, {}), index, limits),
        files=tuple(found.files),
        notes=tuple(found.notes),
    )


def _read_saved_model(folder: Path, limits: Limits, file: Path | None = None) -> Contents:
    """Read the graph, the variables beside it, and what Keras 2 says of the layers."""
    file = file or folder / _GRAPH
    graph = read_saved_model(file, limits)
    flow = flow_of(graph)
    files = {file: None}
    metadata: dict[str, Any] = dict(graph.metadata)
    index = folder / "variables" / "variables.index"
    found = read_index(index, limits) if index.is_file() else Checkpoint()
    files.update(found.files)
    held = tensors(found, graph.trainable, graph.objects)
    program = {tensor.name: _program(found, tensor.name) for tensor in held}
    axes = axes_of(graph, flow, {program[tensor.name]: tensor.shape for tensor in held})
    # A recurrent layer's matrices hold several gates in one axis, which a product of matrices doesn't tell; nor does
    # a convolution of 1×1 tell that its channels are those that a depthwise one made.
    gated = {
        _owner(one.name) for one in held if one.name.endswith(("/recurrent_kernel", "/pointwise_kernel"))
    }
    held = [
        tensor if _owner(tensor.name) in gated else replace(tensor, axes=axes.get(program[tensor.name], ()))
        for tensor in held
    ]
    notes = [*graph.notes, *found.notes]
    said: dict[str, Mapping[str, Any]] = {}
    layers = folder / "keras_metadata.pb"
    if layers.is_file():
        said = read_layers(layers, limits)
        metadata["layers"] = {name: layer["class_name"] for name, layer in said.items()}
        files[layers] = None
    nodes: tuple[Node, ...] = owners_of(held, program, said, graph, flow)
    if not held:
        held = frozen(graph, flow)
        nodes = nodes_of(flow, [tensor.name for tensor in held])
        notes.append("It has no variables: its weights are constants of the graph.")
    return Contents(
        format="TensorFlow SavedModel",
        tensors=checked(held, file, limits),
        metadata=metadata,
        nodes=nodes,
        files=tuple(files),
        notes=tuple(notes),
    )


def _owner(name: str) -> str:
    return name.rpartition("/")[0]


def _program(found: Checkpoint, name: str) -> str:
    return found.full.get(name, name)


def _read_frozen(path: Path, limits: Limits) -> Contents:
    graph: Graph = read_frozen(path, limits)
    flow = flow_of(graph)
    held = frozen(graph, flow)
    notes = list(graph.notes)
    if graph.handles:
        notes.append(
            f"{len(graph.handles):,} variables are named whose values lie elsewhere, in a checkpoint."
        )
    return Contents(
        format="TensorFlow graph",
        tensors=checked(held, path, limits),
        nodes=nodes_of(flow, [tensor.name for tensor in held]),
        files=(path,),
        notes=tuple(notes),
    )
