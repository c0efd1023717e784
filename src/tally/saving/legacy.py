"""Keras's older `.h5` files, of Keras 2 and 3: a whole model, or its weights, found by their order or by name."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tally.core.errors import SavingError
from tally.core.reading import Reading, need
from tally.core.registry import deserialize, get_registered_object, known_arguments, resolve, serialize_object
from tally.core.variable import Variable
from tally.formats.hdf5 import Tree
from tally.saving.files import made_model, replace_file, written_hdf5
from tally.saving.in_order import Group, load_groups
from tally.saving.matching import Renaming
from tally.saving.opening import array_at, opened_hdf5
from tally.saving.outcome import Report

_WEIGHTS, _OPTIMIZER, _OWN = "model_weights", "optimizer_weights", "top_level_model_weights"
_MAX_CONFIG = 64 * 2**20
_DEEPEST = 100
_LONGEST = 64_000
"""Bytes of one attribute, beyond which HDF5 wants a list to be cut."""
_FAMILIES = {
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
    "activation": "activations",
    "learning_rate": "optimizers",
    "inner_optimizer": "optimizers",
}
"""The last word of an argument's name -> where the class that it names lives; the others hold layers."""
_GONE = (
    "time_major",
    "implementation",
    "renorm",
    "fused",
    "virtual_batch_size",
    "adjustment",
    "input_length",
)
_OF_LAMBDA = ("module", "function_type", "output_shape_type", "output_shape_module", "arguments")
_OF_OPTIMIZER = ("decay", "is_legacy_optimizer", "jit_compile", "clip_threshold")


def is_legacy(tree: Tree) -> bool:
    """Whether an HDF5 file is laid out as Keras's older ones, to judge by what its groups say.

    Args:
        tree: What is in it.
    """
    top = tree.groups.get("", {})
    return "model_config" in top or _listed(top, "layer_names") is not None or _WEIGHTS in tree.groups


# -- writing -------------------------------------------------------------------------------------------------------
def save_legacy(model: Any, path: Path, *, overwrite: bool) -> None:
    """Write a model to an `.h5` file that Keras 3 reads.

    Args:
        model: A built model.
        path: Where to.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        SavingError: It can't be written, or the model holds weights whose type HDF5 doesn't know.
    """
    warnings.warn(
        f"'{path.name}' is of the older form, which keeps no files of layers and no state of random numbers; "
        "a name that ends in .keras keeps everything.",
        stacklevel=4,
    )
    described = serialize_object(model)
    said = {
        "keras_version": "3.12.0",
        "backend": "jax",
        "model_config": json.dumps({"class_name": described["class_name"], "config": described["config"]}),
    }
    compiled = described.get("compile_config")
    if compiled and model.optimizer is not None:
        optimizer = compiled.pop("optimizer")
        named = {"class_name": optimizer["class_name"], "config": optimizer["config"]}
        for kind, family in (("loss", "losses"), ("metrics", "metrics"), ("weighted_metrics", "metrics")):
            compiled[kind] = _by_class(compiled.get(kind), family)
        said["training_config"] = json.dumps({**compiled, "optimizer_config": named})
    with replace_file(path, overwrite=overwrite) as part, written_hdf5(part) as file:
        file.attrs.update(said)
        group = file.create_group(_WEIGHTS)
        group.attrs.update({name: said[name] for name in ("keras_version", "backend")})
        _write_list(group, "layer_names", [layer.name for layer in model.layers])
        for layer in sorted(model.layers, key=lambda layer: layer.name):
            _write_arrays(group.create_group(layer.name), _weights(layer))
        _write_arrays(group.create_group(_OWN), _own_weights(model))
        if compiled and model.optimizer is not None and model.optimizer.built:
            _write_arrays(file.create_group(_OPTIMIZER), model.optimizer.variables)


def _by_class(said: Any, family: str) -> Any:
    """Losses and metrics by their classes: from this form Keras 3.15 can't read `"mse"`, not even from its own file."""
    if isinstance(said, list):
        return [_by_class(one, family) for one in said]
    if isinstance(said, dict) and "class_name" not in said:
        return {key: _by_class(one, family) for key, one in said.items()}
    if not isinstance(said, str) or said in ("accuracy", "acc", "crossentropy", "ce"):
        return said
    found = resolve(family, said)
    word = getattr(found, "__name__", "")
    cls = getattr(import_module(f"tally.{family}"), "".join(map(str.title, word.split("_"))), None)
    if isinstance(cls, type):
        found = cls(name=said) if family == "metrics" else cls()
    return serialize_object(found) if hasattr(found, "get_config") else said


def _write_list(group: Any, name: str, texts: Sequence[str]) -> None:
    """A list of texts as attributes, cut where HDF5 would not take it whole."""
    import h5py

    kind = h5py.string_dtype()
    each = _LONGEST // 16  # a text in such a list is a reference of 16 bytes
    if len(texts) <= each:
        group.attrs[name] = np.array(list(texts), dtype=kind)
        return
    for number, start in enumerate(range(0, len(texts), each)):
        group.attrs[f"{name}{number}"] = np.array(list(texts[start : start + each]), dtype=kind)


def _write_arrays(group: Any, variables: Sequence[Variable]) -> None:
    names: list[str] = []
    for variable in variables:
        name, number = variable.path, 0
        while name in names:
            number += 1
            name = f"{variable.path}_{number}"
        names.append(name)
        value = variable.numpy()
        if value.dtype.isbuiltin != 1:
            raise SavingError(
                f"'{variable.path}' is {value.dtype.name}, which the older .h5 form doesn't know.",
                do="save to a name that ends in .keras",
            )
        group.create_dataset(name, data=value)
    _write_list(group, "weight_names", names)


# -- reading -------------------------------------------------------------------------------------------------------
def load_legacy(path: Path, *, compile: bool) -> Any:
    """Read a model from an `.h5` file; names, and whether code is refused, are those in scope.

    Args:
        path: The file.
        compile: Whether to compile it as it was.

    Raises:
        SavingError: It is damaged, unsafe, holds no model or names something unknown.
    """
    with opened_hdf5(path, path) as (file, tree):
        top = tree.groups.get("", {})
        config = _configuration(top.get("model_config"), path, "model_config")
        if config is None:
            raise SavingError(
                f"{path} holds weights but no model.", do="make the model, and read them with load_weights"
            )
        with Reading(config, path):
            described = _modern(config, "layers")
        with Reading(described, path):
            model = made_model(described)
        read_legacy(file, tree, model, path)
        training = _configuration(top.get("training_config"), path, "training_config")
        if compile and training is not None:
            with Reading(training, f"the training_config of {path}"):
                model.compile(**_compilation(training, model))
            _read_optimizer(file, tree, model, path)
    return model


def read_legacy(
    file: Any,
    tree: Tree,
    model: Any,
    path: Path,
    *,
    by_name: bool = False,
    skip_mismatch: bool = False,
    name_map: Renaming = None,
) -> Report:
    """Read weights of an `.h5` file into a model; all of them or, if something doesn't fit, none.

    Args:
        file: The open file.
        tree: What is in it.
        model: A built model.
        path: The file's name, for messages.
        by_name: Whether layers are found by their names, those unknown on either side left out, instead of by order.
        skip_mismatch: Leave layers that don't fit as they are.
        name_map: Names of layers in the file -> names of layers of the model; the others go by order.

    Returns:
        What was loaded and what was left out.

    Raises:
        SavingError: They don't fit.
    """
    return load_groups(
        _groups_of(model),
        _groups_in(file, tree, path),
        model,
        path,
        by_name=by_name,
        skip_mismatch=skip_mismatch,
        name_map=name_map,
    )


def _groups_of(model: Any) -> list[Group]:
    """The weights of each of a model's layers, and those of its own, in the order of these files."""
    held = [(layer.name, _weights(layer)) for layer in model.layers] + [(_OWN, _own_weights(model))]
    known = {id(variable): path for path, (variable, blocks) in model.held_arrays().items() if not blocks}
    return [
        Group(name, tuple((known.get(id(one), one.path), one) for one in variables), is_own=name == _OWN)
        for name, variables in held
        if variables
    ]


def _groups_in(file: Any, tree: Tree, path: Path) -> list[Group]:
    """The arrays of each layer in a file, looked at but not read."""
    prefix = _WEIGHTS if _WEIGHTS in tree.groups else ""
    names = _listed(tree.groups.get(prefix, {}), "layer_names")
    if names is None:
        raise SavingError(f"{path} is HDF5, but no file of Keras: it has no list of layers.")
    return [
        Group(
            name,
            tuple(
                (_label(name, one[len(f"{prefix}/{name}/".lstrip("/")) :]), array_at(file, one, path))
                for one in found
            ),
            is_own=name == _OWN,
        )
        for name in dict.fromkeys((*names, _OWN))
        if (found := _stored(tree, prefix, name))
    ]


def _label(layer: str, name: str) -> str:
    """What messages call an array: its layer and its name there, without what Keras puts around."""
    name = name.removesuffix(":0")
    if layer == _OWN or name.startswith(f"{layer}/"):
        return name
    return f"{layer}/{name.partition(f'/{layer}/')[2] or name}"


def _configuration(text: Any, path: Path, place: str) -> Any:
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > _MAX_CONFIG:
        raise SavingError(f"{place} in {path} is no text of a configuration.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SavingError(f"{place} in {path} is damaged: {error}", do="copy or download it again") from error
    if not isinstance(found, dict):
        raise SavingError(f"{place} in {path} doesn't describe a model.")
    return found


def _weights(layer: Any) -> list[Variable]:
    """A layer's weights in the order of these files."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _own_weights(model: Any) -> list[Variable]:
    """What a model holds itself, beside its layers."""
    held = {id(v) for layer in model.layers for v in layer.weights}
    return [v for v in _weights(model) if id(v) not in held]


def _listed(attributes: Mapping[str, Any], name: str) -> list[str] | None:
    """A list of texts among attributes, cut into several where it is long; None when there is none."""
    whole = attributes.get(name)
    if whole is None and isinstance(attributes.get(f"{name}0"), list):
        whole, number = [], 0
        while isinstance(part := attributes.get(f"{name}{number}"), list):
            whole += part
            number += 1
    return [item for item in whole if isinstance(item, str)] if isinstance(whole, list) else None


def _stored(tree: Tree, prefix: str, layer: str) -> list[str]:
    """The paths of a layer's arrays."""
    group = f"{prefix}/{layer}" if prefix else layer
    names = _listed(tree.groups.get(group, {}), "weight_names") or []
    return [f"{group}/{name}" for name in names]


def _read_optimizer(file: Any, tree: Tree, model: Any, path: Path) -> None:
    """Read an optimizer's state; where it doesn't fit, as that of an older optimizer may not, say so and begin anew."""
    names = _listed(tree.groups.get(_OPTIMIZER, {}), "weight_names")
    optimizer = model.optimizer
    if not names or optimizer is None:
        return
    optimizer.build(model.trainable_variables)
    arrays = [array_at(file, f"{_OPTIMIZER}/{name}", path) for name in names]
    slots = len(model.trainable_variables)
    kinds = [name.removesuffix(":0").rpartition("/")[2] for name in names]
    rest = len(names) - 1
    if slots > 1 and rest > slots and rest % slots == 0 and len(set(kinds[1 : slots + 1])) == 1:
        # Keras 2: the step, then one slot of all weights, then the next slot
        order = [1 + kind * slots + weight for weight in range(slots) for kind in range(rest // slots)]
        arrays = [arrays[0], *(arrays[i] for i in order)]
    variables = list(optimizer.variables)
    # Keras 2 keeps the rate in the configuration
    if len(variables) == len(arrays) + 1 and variables[1].shape == ():
        del variables[1]
    if [v.shape for v in variables] != [tuple(array.shape) for array in arrays]:
        warnings.warn(
            f"The state of optimizer '{optimizer.name}' in {path} was not loaded: it has {len(arrays)} arrays that "
            f"don't fit the {len(variables)} of this one. Training goes on with a fresh state.",
            stacklevel=5,
        )
        return
    for variable, value in zip(variables, [np.asarray(array) for array in arrays], strict=True):
        variable.assign(value)


# -- configurations of older forms ---------------------------------------------------------------------------------
def _modern(entry: Any, family: str, depth: int = 0) -> Any:
    """A description of an object as Keras 3 writes it.

    Args:
        entry: One of any form; what is none stays as it is.
        family: Where a class lives of which the file doesn't say it.
        depth: How deep it is nested.
    """
    if depth > _DEEPEST:
        raise SavingError("The configuration is nested too deeply.", do="don't trust this file")
    if isinstance(entry, list):
        return [_modern(item, family, depth + 1) for item in entry]
    if not isinstance(entry, dict):
        return entry
    if "class_name" not in entry or "config" not in entry:
        return {key: _modern(value, _family(key, family), depth + 1) for key, value in entry.items()}
    name, config = entry["class_name"], entry["config"]
    if entry.get("module") and not isinstance(config, dict):
        return entry
    if name in ("Model", "Functional") and isinstance(config, dict) and "layers" in config:
        return {**entry, "module": "keras", "class_name": "Functional", "config": _graph(config, depth)}
    if name == "Sequential":
        layers = config if isinstance(config, list) else need(config, "layers", list)
        kept = {} if isinstance(config, list) else dict(config)
        return {
            **entry,
            "module": "keras",
            "config": {**kept, "layers": [_modern(one, "layers", depth + 1) for one in layers]},
        }
    if isinstance(config, dict):
        config = {key: _modern(value, _family(key, family), depth + 1) for key, value in config.items()}
        config = _options(str(name), config, family)
    made = {**entry, "config": config}
    if not entry.get("module"):
        made["module"] = f"keras.{family}"
        if isinstance(name, str) and ">" in name:
            made["registered_name"] = name
            made["class_name"] = name.rpartition(">")[2]
            made["module"] = f"keras.{family}" if get_registered_object(name) is None else None
    return made


def _family(argument: Any, family: str) -> str:
    words = str(argument)
    found = next((room for last, room in _FAMILIES.items() if words.endswith(last)), None)
    return found or ("layers" if family in _FAMILIES.values() and family != "optimizers" else family)


def _options(name: str, config: dict[str, Any], family: str) -> dict[str, Any]:
    """The arguments of a class, under the names they have now."""
    policy = config.get("dtype")
    if isinstance(policy, dict) and policy.get("class_name") == "Policy":
        config["dtype"] = need(need(policy, "config", dict), "name", str)
    if family == "losses" and config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"
    if family == "optimizers":
        if "lr" in config:
            config["learning_rate"] = config.pop("lr")
        for gone in _OF_OPTIMIZER:
            if not config.get(gone) or gone == "jit_compile":
                config.pop(gone, None)
    if family != "layers":
        return config
    if name == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    if name == "Lambda":
        return _lambda(config)
    if config.get("time_major"):
        raise SavingError(f"The stored {name} takes time as its first axis, which is no longer possible.")
    known = _known(name)
    return {key: value for key, value in config.items() if key not in _GONE or known is None or key in known}


def _known(name: str) -> frozenset[str] | None:
    from tally import layers

    cls = getattr(layers, name, None)
    return known_arguments(cls) if isinstance(cls, type) else None


def _lambda(config: dict[str, Any]) -> dict[str, Any]:
    """A Lambda whose function is code or a name; neither is looked at before the file is said to be trusted."""
    function = config.get("function")
    if isinstance(function, list) and len(function) == 3:
        code = {"code": function[0], "defaults": function[1], "closure": function[2]}
        config["function"] = {"class_name": "__lambda__", "config": code}
    elif isinstance(function, str):
        named = {"class_name": "function", "config": function, "module": None, "registered_name": function}
        config["function"] = named
    arguments = config.get("arguments")
    kept = {key: value for key, value in config.items() if key not in _OF_LAMBDA}
    return {**kept, "arguments": arguments} if arguments else kept


def _graph(config: dict[str, Any], depth: int) -> dict[str, Any]:
    """A graph's layers and how they are connected."""
    layers = config.get("layers")
    if not isinstance(layers, list) or not all(isinstance(one, dict) for one in layers):
        raise SavingError("The configuration has a model whose layers are no list.")
    names = {one.get("name") for one in layers}
    made = []
    for one in layers:
        entry = _modern({k: v for k, v in one.items() if k != "inbound_nodes"}, "layers", depth + 1)
        nodes = [_node(node, names) for node in one.get("inbound_nodes", [])]
        made.append({**entry, "inbound_nodes": nodes})
    ends = {key: _alone(config.get(key)) for key in ("input_layers", "output_layers")}
    return {**config, **ends, "layers": made}


def _alone(places: Any) -> Any:
    """The place of the only input or output, which Keras 2 puts into a list."""
    is_list = isinstance(places, list) and len(places) == 1 and isinstance(places[0], list)
    return places[0] if is_list else places


def _node(node: Any, names: set[Any]) -> Any:
    """One application of a layer, which Keras 2 writes as a list of `[layer, node, tensor, arguments]`."""
    if isinstance(node, dict):
        return node
    inputs: list[Any] = []
    named: dict[str, Any] = {}

    def tensor(place: Sequence[Any]) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": list(place[:3])}}

    def argument(value: Any) -> Any:
        is_place = isinstance(value, list) and len(value) in (3, 4) and value[0] in names
        if is_place and all(isinstance(number, int) for number in value[1:3]):
            return tensor(value)
        if isinstance(value, list) and len(value) == 4 and value[0] == "_CONSTANT_VALUE":
            return value[2]
        return [argument(item) for item in value] if isinstance(value, list) else value

    for place in _places(node):
        inputs.append(tensor(place))
        if len(place) > 3 and isinstance(place[3], dict):
            named |= {key: argument(value) for key, value in place[3].items()}
    return {"args": inputs if len(inputs) == 1 else [inputs], "kwargs": named}


def _places(node: Any) -> Iterator[list[Any]]:
    if isinstance(node, list) and len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _places(item)


def _compilation(training: dict[str, Any], model: Any) -> dict[str, Any]:
    """What `compile` was given."""
    optimizer = _modern(training.get("optimizer_config"), "optimizers")
    given: dict[str, Any] = {"optimizer": deserialize(optimizer) if optimizer else None}
    given["loss"] = deserialize(_modern(training.get("loss"), "losses"))
    given["loss_weights"] = training.get("loss_weights")
    for kind in ("metrics", "weighted_metrics"):
        metrics = _metrics(training.get(kind))
        is_single = isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list)
        given[kind] = metrics[0] if is_single and len(model.outputs or [1]) == 1 else metrics
    return given


def _metrics(said: Any) -> Any:
    """Metrics by name or description; a function that Keras 2 has wrapped goes by its name."""
    if isinstance(said, list):
        return [_metrics(one) for one in said]
    if isinstance(said, dict) and "class_name" not in said:
        return {key: _metrics(one) for key, one in said.items()}
    if isinstance(said, dict) and said["class_name"] in (
        "MeanMetricWrapper",
        "SumOverBatchSizeMetricWrapper",
    ):
        inner = said.get("config", {})
        return inner.get("fn") if isinstance(inner.get("fn"), str) else inner.get("name")
    return deserialize(_modern(said, "metrics"))
