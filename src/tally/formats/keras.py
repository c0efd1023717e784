"""Keras's files: `.keras`, `.weights.h5` in one or in several, the older `.h5`, and an architecture alone as `.json`.

The configuration is data here (see `keras_config`), and the weights are found by their place in the file: no layer is
made, so no Lambda, no custom class and no path in a configuration can do anything.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from tally.formats import keras_shards
from tally.formats.errors import BadFileError
from tally.formats.hdf5 import Stored, Tree, as_tensor, read_tree
from tally.formats.hdf5_blocks import SIGNATURE
from tally.formats.json_text import parse_json
from tally.formats.keras_config import Architecture, Described, describe, is_configuration
from tally.formats.keras_layers import CLASSES, Weight, beside, shown_options, told_by_shapes, weights_of
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.tensor import Contents, Node, Role, Tensor
from tally.formats.window import Window, opened
from tally.formats.zip import MAGIC, Archive, directory

_CONFIG, _ABOUT, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_OPTIMIZER = {"0": "iteration", "1": "learning_rate"}
_ASIDE: dict[str, Role] = {
    "optimizer": "optimizer",
    **dict.fromkeys(("metrics", "_metrics", "compile_metrics", "_compile_metrics", "_loss_tracker"), "other"),
}
_PLANNED = "Planned by the configuration; the file holds no values."


def matches(path: Path) -> bool:
    """Tell whether a file is one of Keras's."""
    if not path.is_file():
        return False
    try:
        with opened(path) as window:
            head = window.take(min(window.size, 2**16))
            if head.startswith(MAGIC):
                return path.suffix == ".keras" or (
                    _CONFIG in (archive := directory(window)) and (_ABOUT in archive or _WEIGHTS in archive)
                )
            if head.startswith(SIGNATURE):
                return _kind_of(read_tree(window)) is not None
    except BadFileError:
        return path.suffix == ".keras"
    if keras_shards.is_index(path) and b'"weight_map"' in head:
        return True
    return path.suffix == ".json" and b'"class_name"' in head and b'"config"' in head


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which layers and weights a file of Keras holds.

    Args:
        path: The file.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or leads out of itself, or claims far more than it stores.
    """
    with opened(path) as window:
        head = window.take(min(window.size, 8))
        window.at = 0
        if head.startswith(MAGIC):
            return _read_archive(window, path, limits)
        if head == SIGNATURE:
            return _read_hdf5(window, path, limits)
        if path.suffix == ".keras":
            raise BadFileError(path, "is no zip, as a .keras file is")
        if keras_shards.is_index(path):
            return _read_several(path, limits)
        if window.size > limits.header:
            raise window.bad(f"has {window.size:,} bytes, more than a configuration may have")
        said = _configuration(window.take(window.size), path, "", limits)
    return _planned(describe(said), path, limits)


def _configuration(text: bytes | str, path: Path, place: str, limits: Limits) -> dict[str, Any]:
    said = parse_json(text, path, place, limits)
    if not is_configuration(said):
        raise BadFileError(path, "describes no model", place=place)
    return cast("dict[str, Any]", said)


# -- the forms -----------------------------------------------------------------------------------------------------
def _read_archive(window: Window, path: Path, limits: Limits) -> Contents:
    archive = directory(window, limits)
    said = _configuration(archive.read(_CONFIG), path, f"member {_CONFIG!r}", limits)
    about: Any = (
        parse_json(archive.read(_ABOUT), path, f"member {_ABOUT!r}", limits) if _ABOUT in archive else {}
    )
    found = describe(said)
    if _WEIGHTS not in archive:
        others = [name for name in archive.names if name.startswith("model.weights")]
        if others:
            raise BadFileError(path, f"keeps its weights in {others[0]!r}, a form that isn't read here")
        return _planned(found, path, limits)
    tree = read_tree(_weights(archive), limits)
    packed = archive[_WEIGHTS].packed
    contents = _with_weights("Keras", found, tree, path, limits)
    assets = [name for name in archive.names if name.startswith("assets/") and not name.endswith("/")]
    notes = (f"{len(assets):,} assets were not read.",) if assets else ()
    tensors = contents.tensors
    if packed:  # a place inside what is packed is none in the file
        tensors = tuple(replace(tensor, span=None) for tensor in tensors)
    facts = cast("dict[str, Any]", about) if isinstance(about, dict) else {}
    known = {name: value for name, value in facts.items() if isinstance(value, str) and len(value) < 200}
    return replace(
        contents, tensors=tensors, metadata={**contents.metadata, **known}, notes=(*contents.notes, *notes)
    )


def _read_several(path: Path, limits: Limits) -> Contents:
    shards = keras_shards.read_shards(path, limits)
    contents = _with_weights("Keras weights", Architecture(), shards.whole, path, limits)
    return replace(contents, files=(path, *shards.files.values()))


def _weights(archive: Archive) -> Window:
    if not archive[_WEIGHTS].packed:
        return archive.window(_WEIGHTS)
    data = archive.read(_WEIGHTS)
    return Window(io.BytesIO(data), archive.file, 0, len(data), f"member {_WEIGHTS!r}")


def _kind_of(tree: Tree) -> str | None:
    """Which of Keras's ways to lay out HDF5 it is; None where it is another program's."""
    top = tree.groups.get("", {})
    if "model_config" in top or "layer_names" in top or "layer_names0" in top:
        return "older"
    return "weights" if any(f"/{path}".endswith("/vars") for path in tree.groups) else None


def _read_hdf5(window: Window, path: Path, limits: Limits) -> Contents:
    tree = read_tree(window, limits)
    kind = _kind_of(tree)
    if kind is None:
        raise BadFileError(path, "is HDF5, but not laid out as Keras does it")
    if kind == "weights":
        return _with_weights("Keras weights", Architecture(), tree, path, limits)
    top = tree.groups[""]
    found = Architecture()
    if isinstance(text := top.get("model_config"), str):
        found = describe(_configuration(text, path, "attribute 'model_config'", limits))
    return _older(found, tree, path, limits)


# -- weights by their place, as Keras 3 keeps them -----------------------------------------------------------------
def _with_weights(form: str, found: Architecture, tree: Tree, path: Path, limits: Limits) -> Contents:
    held = _by_group(tree, path)
    layers = _with_unlisted(_located(found.layers, tree), held, tree)
    account = _Account(path)
    for layer in layers:
        arrays = held.pop(_join(layer.place, "vars"), [])
        account.add(layer, arrays)
    homes = {layer.place: layer.path for layer in layers}
    for group, arrays in held.items():  # what belongs to no layer
        account.aside(group, arrays, homes)
    return account.contents(form, found.notes, tree, limits)


def _by_group(tree: Tree, path: Path) -> dict[str, list[Stored]]:
    """The arrays of each group, in the order of their numbers."""
    held: dict[str, list[Stored]] = {}
    for array in tree.arrays.values():
        if not array.dtype:
            where = f"array {array.path[:200]!r}"
            raise BadFileError(path, "holds no numbers", place=where, do="don't trust this file")
        held.setdefault(array.path.rpartition("/")[0], []).append(array)
    for arrays in held.values():
        arrays.sort(key=lambda one: _number(one.path.rpartition("/")[2]))
    return held


def _number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() and len(name) < 10 else (2**31, name)


def _located(layers: Sequence[Described], tree: Tree) -> list[Described]:
    """The layers with the groups that are really theirs: where there is none of that name, the label tells."""
    labels: dict[tuple[str, str], str] = {}
    for group, attributes in tree.groups.items():
        place, _, last = group.rpartition("/")
        if last == "vars" and isinstance(label := attributes.get("name"), str):
            labels.setdefault((place.rpartition("/")[0], label), place)
    moved: dict[str, str] = {}
    made: list[Described] = []
    for layer in layers:
        above = layer.place
        while above and above not in moved:
            above = above.rpartition("/")[0]
        place = moved[above] + layer.place.removeprefix(above) if above else layer.place
        if _join(place, "vars") not in tree.groups:
            place = labels.get((place.rpartition("/")[0], layer.label), place)
        moved[layer.place] = place
        made.append(replace(layer, place=place))
    return made


def _with_unlisted(
    layers: Sequence[Described], held: Mapping[str, list[Stored]], tree: Tree
) -> list[Described]:
    """The layers of the configuration, and those that only the weights show: in the layers of a user, or everywhere."""
    known = {layer.place: layer for layer in layers}
    more: dict[str, list[Described]] = {}
    for group in held:
        place = group.removesuffix("vars").rstrip("/")
        if place in known or place.split("/")[0] in _ASIDE or place.endswith("seed_generator"):
            continue
        around = place
        while around and around not in known:
            around = around.rpartition("/")[0]
        above = known.get(around)
        label = tree.groups.get(group, {}).get("name")
        rest = [part for part in place.removeprefix(around).strip("/").split("/") if part]
        in_container = len(rest) > 1 and rest[-2] == "layers"
        if in_container and isinstance(label, str) and label and "/" not in label:
            rest[-1] = label
        parts = [part for number, part in enumerate(rest) if part != "layers" or number + 1 == len(rest)]
        made = Described(
            path="/".join([*([above.path] if above and above.path else []), *parts]),
            type=CLASSES.get(_without_number(place.rpartition("/")[2]), "") if place else "",
            label=label if isinstance(label, str) else "",
            place=place,
            trainable=above.trainable if above else True,
        )
        more.setdefault(around, []).append(made)
    placed = [one for layer in layers for one in (layer, *more.pop(layer.place, ()))]
    return [*placed, *(one for rest in more.values() for one in rest)]


def _without_number(name: str) -> str:
    head, _, tail = name.rpartition("_")
    return head if head and tail.isdecimal() else name


class _Account:
    """The arrays and layers of one file, as far as they are found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: list[Tensor] = []
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}
        self.guessed = self.unknown = 0

    def add(self, layer: Described, arrays: Sequence[Stored]) -> None:
        """Enter a layer with the arrays it holds itself."""
        made = [
            self.enter(
                _join(layer.path, weight.name), array, weight.role, layer.axes.get(weight.name, weight.axes)
            )
            for weight, array in zip(self.named(layer, arrays), arrays, strict=True)
        ]
        if layer.mode == "int4" and len(made) > 1:
            self.unpack(len(self.tensors) - len(made), layer)
        if layer.type == "SpectralNormalization" and made:
            inner = _join(layer.path, "layer/kernel")  # it keeps the kernel of the layer inside once more
            self.tensors[-len(made)] = replace(self.tensors[-len(made)], alias_of=inner)
        if not layer.type:
            return
        options = shown_options(layer.type, layer.options, layer.output_shapes)
        if layer.label:
            options["name"] = layer.label
        if layer.options.get("calls"):
            options["calls"] = layer.options["calls"]
        if not layer.trainable:
            options["trainable"] = False
        self.nodes.append(
            Node(
                name=layer.path,
                type=layer.type,
                tensors=tuple(made),
                options=MappingProxyType(options),
                inputs=layer.inputs,
                input_shapes=layer.input_shapes,
                output_shapes=layer.output_shapes,
            )
        )

    def unpack(self, first: int, layer: Described) -> None:
        """Give an array that holds two weights in a byte the shape of the weights it stands for."""
        packed = self.tensors[first]
        known = weights_of(layer.type, layer.options, layer.input_shapes[0] if layer.input_shapes else None)
        planned = known[0].shape if known else None
        scale = next((one for one in self.tensors[first:] if one.name.endswith("_scale")), None)
        shape = planned or (scale and (*packed.shape[:-1], scale.shape[-1] if scale.shape else 0))
        if packed.dtype == "int8" and shape and packed.shape == (*shape[:-1], -(-shape[-1] // 2)):
            note = "Two weights lie in each byte."
            notes = (*packed.notes, note)
            self.tensors[first] = replace(packed, shape=shape, dtype="int4", notes=notes, span=None)

    def named(self, layer: Described, arrays: Sequence[Stored]) -> list[Weight]:
        """What the arrays of a layer are, by its class, or else by their shapes."""
        given = layer.input_shapes[0] if layer.input_shapes else None
        known = weights_of(layer.type, layer.options, given)
        if known and len(known) > len(arrays) and not layer.options:  # made without a bias, perhaps
            known = tuple(one for one in known if one.name != "bias")
        shapes = [array.shape for array in arrays]
        if known and len(known) <= len(arrays):
            numbers = [Weight(str(number)) for number in range(len(known), len(arrays))]
            more = beside(layer.mode, known[0].name)
            return [*known, *more, *numbers[len(more) :]][: len(arrays)]
        names = told_by_shapes(shapes)
        if arrays and len(names) == len(arrays):
            self.guessed += 1
            kept = ("moving_mean", "moving_variance")
            return [Weight(name, role="state" if name in kept else "weight") for name in names]
        self.unknown += bool(arrays)
        return [Weight(array.path.rpartition("/")[2]) for array in arrays]

    def aside(self, group: str, arrays: Sequence[Stored], homes: Mapping[str, str]) -> None:
        """Enter what is no layer's: an optimizer's, a random generator's, a metric's."""
        place = group.removesuffix("vars").rstrip("/")
        head = place.split("/")[0]
        for array in arrays:
            last = array.path.rpartition("/")[2]
            if place.endswith("seed_generator"):
                around, _, generator = place.rpartition("/")
                name = _join(homes.get(around, around), f"{generator}_state")
                self.enter(name + ("" if last == "0" else f"/{last}"), array, "seed", ())
            else:
                name = _OPTIMIZER.get(last, last) if place == "optimizer" else last
                self.enter(_join(place, name), array, _ASIDE.get(head, "weight"), ())

    def enter(self, name: str, array: Stored, role: Role, axes: tuple[str, ...]) -> str:
        """Enter an array; a name that is taken gives way to the place in the file."""
        if name in self.names:
            name = array.path
        tensor = as_tensor(array, name, self.path)
        self.names[name] = array.path
        fitting = axes if len(axes) == len(array.shape) else ()
        self.tensors.append(replace(tensor, role=role, axes=fitting))
        return name

    def contents(self, form: str, notes: Sequence[str], tree: Tree | None, limits: Limits) -> Contents:
        """All that was found."""
        more = [*notes, *(tree.notes if tree else ())]
        if self.guessed:
            more.append(f"The weights of {_layers(self.guessed)} have their names from their shapes.")
        if self.unknown:
            more.append(f"The weights of {_layers(self.unknown)} are known by their shapes only.")
        known = {place: name for name, place in self.names.items()}
        tensors = [self.tied(tensor, tree, known) for tensor in self.tensors]
        names = {tensor.name for tensor in tensors}
        tensors = [t if t.alias_of in names else replace(t, alias_of=None) for t in tensors]
        return Contents(
            format=form,
            tensors=checked(tensors, self.path, limits),
            nodes=tuple({node.name: node for node in self.nodes}.values()),
            files=(self.path,),
            notes=tuple(more),
        )

    def tied(self, tensor: Tensor, tree: Tree | None, known: Mapping[str, str]) -> Tensor:
        """An array that has two names in the file counts once."""
        stored = tree.arrays.get(self.names[tensor.name]) if tree else None
        if stored is None or stored.first is None:
            return tensor
        return replace(tensor, alias_of=known.get(stored.first))


# -- weights by their names, as Keras 2 keeps them -----------------------------------------------------------------
def _older(found: Architecture, tree: Tree, path: Path, limits: Limits) -> Contents:
    prefix = "model_weights" if "model_weights" in tree.groups else ""
    account = _Account(path)
    homes = _chains(found.layers)
    held: dict[str, list[tuple[Weight, Stored]]] = {}
    for label in _listed(tree.groups.get(prefix, {}), "layer_names"):
        group = _join(prefix, label)
        for name in _listed(tree.groups.get(group, {}), "weight_names"):
            array = tree.arrays.get(_join(group, name))
            if array is None or not array.dtype:
                reason = f"names the weight {name[:200]!r}, which isn't there"
                raise BadFileError(path, reason, place=f"layer {label[:80]!r}")
            owner, last = _home(label, name, homes)
            held.setdefault(owner, []).append((Weight(last), array))
    for layer in found.layers:
        _enter_older(account, layer, held.pop(layer.path, []))
    for owner, arrays in held.items():
        _enter_older(account, Described(path=owner, type=""), arrays)
    for name in _listed(tree.groups.get("optimizer_weights", {}), "weight_names"):
        array = tree.arrays.get(_join("optimizer_weights", name))
        if array is not None and array.dtype:
            account.enter(_join("optimizer", _plain(name)), array, "optimizer", ())
    contents = account.contents("Keras, HDF5", found.notes, tree, limits)
    top = {
        name: value
        for name in ("keras_version", "backend")
        if isinstance(value := tree.groups[""].get(name), str)
    }
    return replace(contents, metadata=top)


def _enter_older(account: _Account, layer: Described, arrays: Sequence[tuple[Weight, Stored]]) -> None:
    """Enter a layer whose weights the file names itself; the class says what these are for."""
    given = layer.input_shapes[0] if layer.input_shapes else None
    known = {one.name: one for one in weights_of(layer.type, layer.options, given) or ()}
    kept = ("moving_mean", "moving_variance")
    named = [
        known.get(one.name, one._replace(role="state" if one.name in kept else "weight")) for one, _ in arrays
    ]
    account.add(layer, [])
    made = [
        account.enter(_join(layer.path, weight.name), array, weight.role, weight.axes)
        for weight, (_, array) in zip(named, arrays, strict=True)
    ]
    if layer.type and made:
        account.nodes[-1] = replace(account.nodes[-1], tensors=tuple(made))


def _listed(attributes: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts among the attributes, which is cut into several where it is long."""
    whole = attributes.get(name)
    if whole is None:
        whole = list[Any]()
        number = 0
        while isinstance(part := attributes.get(f"{name}{number}"), list):
            whole += cast("list[Any]", part)
            number += 1
    items = cast("list[Any]", whole) if isinstance(whole, list) else []
    return [item for item in items if isinstance(item, str)]


def _plain(name: str) -> str:
    """A weight's name without the number that TensorFlow puts behind it."""
    head, _, tail = name.rpartition(":")
    return head if head and tail.isdecimal() else name


def _chains(layers: Sequence[Described]) -> dict[str, str]:
    """The path of each layer by Keras's names of it and of the layers around it."""
    chains: dict[str, str] = {}
    labels: dict[str, str] = {"": ""}
    for layer in layers:
        above = layer.path.rpartition("/")[0]
        while above and above not in labels:
            above = above.rpartition("/")[0]
        labels[layer.path] = _join(labels.get(above, ""), layer.label) if layer.path else ""
        chains.setdefault(labels[layer.path], layer.path)
    return chains


def _home(label: str, name: str, homes: Mapping[str, str]) -> tuple[str, str]:
    """The layer that a weight belongs to, and what it calls it, from the name in the file."""
    parts = _plain(name).split("/")
    rest = parts[parts.index(label) + 1 :] if label in parts[:-1] else parts[-1:]
    for cut in range(len(rest) - 1, -1, -1):
        for chain in (rest[:cut], [*rest[: cut - 1], _without_number(rest[cut - 1])] if cut else []):
            owner = homes.get("/".join([label, *chain]))
            if owner is not None and (cut == 0 or chain):
                return owner, "/".join(rest[cut:]) or parts[-1]
    return "/".join([label, *rest[:-1]]), rest[-1]


# -- an architecture alone -----------------------------------------------------------------------------------------
def _planned(found: Architecture, path: Path, limits: Limits) -> Contents:
    """What a model that is only described will have: the weights whose shapes follow from its configuration."""
    account = _Account(path)
    unknown: list[str] = []
    for layer in found.layers:
        given = layer.input_shapes[0] if layer.input_shapes else None
        weights = () if layer.is_operation else weights_of(layer.type, layer.options, given)
        account.add(layer, [])
        if weights is None or any(weight.shape is None for weight in weights):
            unknown.append(_named(layer))
            continue
        names: list[str] = []
        for weight in weights:
            name = _join(layer.path, weight.name)
            if name not in account.names and weight.shape is not None:
                names.append(name)
                account.names[name] = name
                account.tensors.append(
                    Tensor(
                        name=name,
                        shape=weight.shape,
                        dtype="float32",
                        stored=0,
                        role=weight.role,
                        axes=weight.axes if len(weight.axes) == len(weight.shape) else (),
                        notes=(_PLANNED,),
                    )
                )
        account.nodes[-1] = replace(account.nodes[-1], tensors=tuple(names))
    notes = [
        *found.notes,
        "It is an architecture alone: the weights are those it will have, none has a value.",
    ]
    if unknown:
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        named = ", ".join(unknown[:_SHOWN]) + more
        notes.append(f"What {named} will hold doesn't follow from the configuration alone.")
    return account.contents("Keras configuration", notes, None, limits)


_SHOWN = 5


def _named(layer: Described) -> str:
    kind = repr(layer.type[:80])[1:-1]
    return f"{layer.path[:80]!r} ({kind})" if layer.path else f"the {kind}"


def _layers(count: int) -> str:
    return f"{count:,} layer{'s' if count > 1 else ''}"


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path and name else path or name
