"""From the arrays of a file to a ledger: layers from the names' parts, each recognised or said not to be."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tally.accounting.ledger import Entry, Ledger, Owner, State, bits, learns
from tally.formats.tensor import Contents, Tensor
from tally.readers.blocks import recognise_block
from tally.readers.branch import (
    Branch,
    arrange,
    holder_of_blocks,
    home_of,
    is_number,
    mark_blocks,
    places_of,
    without_collections,
)
from tally.readers.graph import USED, Given, as_layer, describe
from tally.readers.hints import hints_of
from tally.readers.leaves import (
    Group,
    Layer,
    holds_numbers,
    is_buffer,
    is_of_parametrisation,
    is_whole_number,
    plain,
    recognise,
)


def account(contents: Contents, *, layout: str = "", name: str) -> Ledger:
    """Give account of what a file holds.

    Args:
        contents: What it says of its arrays and, perhaps, of its layers.
        layout: How the axes of a kernel lie: `"torch"` (filters first), `"keras"` (filters last), `"mlx"` (filters
            first, channels last); `""` goes by the names.
        name: What the model is to be called.

    Example:
        >>> weight = Tensor(name="head.weight", shape=(5, 10), dtype="float16", stored=100)
        >>> bias = Tensor(name="head.bias", shape=(5,), dtype="float16", stored=10)
        >>> ledger = account(Contents(format="safetensors", tensors=(weight, bias)), layout="torch", name="tiny")
        >>> [(entry.path, entry.axes) for entry in ledger.entries]
        [('head/weight', ('units', 'features')), ('head/bias', ('units',))]
        >>> ledger.owner("head").type, ledger.total, ledger.nbytes
        ('Dense', 55, 110)
    """
    return _Account(contents, layout, name).ledger()


class _Account:
    """One file on its way to a ledger."""

    def __init__(self, contents: Contents, layout: str, name: str) -> None:
        self.contents, self.layout, self.name = contents, layout, name
        self.hints = hints_of(contents.metadata)
        self.aside = _aside(contents)
        held = [tensor for tensor in contents.tensors if tensor.name not in self.aside]
        described = describe(contents, without_collections(places_of(held)))
        held = [tensor for tensor in held if tensor.name not in described.left_out]
        self.places = {
            name: place for name, place in described.places.items() if name not in described.left_out
        }
        self.root = Branch("")
        for parts, given in described.layers.items():
            self.root.at(parts).given = given
        arrays = set(self.places.values())
        for tensor in held:
            above, last = home_of(self.places[tensor.name])
            if tensor.role == "fixed" and tuple(above) in arrays:  # `weight.absmax` belongs to `weight`
                above, last = above[:-1], f"{above[-1]}.{last}"
            self.root.at(above).arrays[last] = tensor
        mark_blocks(self.root)
        names = [tensor.name for tensor in held]
        if not described.layers:
            arrange(self.root, shuffled=names == sorted(names) or contents.format == "safetensors")
        self.switched_off = {
            "/".join(parts) for parts, given in described.layers.items() if "*" in given.frozen
        }
        self.layers = self._recognised()
        self.opened = set(_opened(self.root))

    def ledger(self) -> Ledger:
        """The owners and their entries, in the order of the tree; what belongs to the training comes last."""
        owners: list[Owner] = []
        entries: list[Entry] = []
        for branch in self.root.walk():
            if branch is self.root or self._is_owner(branch):
                owners.append(self._owner(branch))
                entries += self._entries(branch)
        entries += self._aside()
        return Ledger(
            name=owners[0].name,
            source=self.contents.format,
            owners=tuple(owners),
            entries=tuple(_tied(entries, self.contents.tensors, self._paths(entries))),
        )

    # -- which layers there are ------------------------------------------------------------------------------------
    def _recognised(self) -> dict[str, Layer]:
        """What each place was recognised as; from the inside out, since a block is known by its layers."""
        found: dict[str, Layer] = {}
        for branch in reversed(list(self.root.walk())):
            layer = self._leaf(branch)
            if branch.children:
                inside = {
                    name: found[child.path] for name, child in branch.children.items() if child.path in found
                }
                layer = recognise_block(inside, layer, self.hints)
            if branch.given is not None:
                layer = as_layer(branch.given, layer)
            if layer is not None:
                found[branch.path] = layer
        return found

    def _leaf(self, branch: Branch) -> Layer | None:
        arrays = {
            name: array
            for name, array in branch.arrays.items()
            if not is_buffer(name, array) and not is_of_parametrisation(name)
        }
        if not arrays:
            return None
        wide = any(len(array.shape) > 2 for array in arrays.values())
        above = branch.path.rpartition("/")[0]
        return recognise(
            Group(
                path=branch.path,
                arrays=arrays,
                layout=self.layout,
                follows=self._channels_after(branch) if wide else None,
                rms=self.hints.rms,
                beside=self._around(above).keys() if wide else (),
            )
        )

    def _channels_after(self, branch: Branch) -> int | None:
        """The channels of the normalisation that belongs to a convolution by its name: `bn1` to `conv1`."""
        above, _, last = branch.path.rpartition("/")
        around = self._around(above)
        names = [
            re.sub(r"(?i)conv(?:olution)?(?:[123]d)?", word, last) for word in ("bn", "norm", "batch_norm")
        ]
        names = [name for name in names if name != last]
        if is_number(last) and len(last) < _DIGITS:
            names.append(str(int(last) + 1))
        for name in names:
            for array in around[name].arrays.values() if name in around else ():
                if len(array.shape) == 1:
                    return array.shape[0]
        return None

    def _around(self, path: str) -> Mapping[str, Branch]:
        return self.root.at(path.split("/") if path else ()).children

    def _is_owner(self, branch: Branch) -> bool:
        """A list, a wrapping around one layer, and what holds the whole model are only parts of names."""
        if branch.arrays or branch.given is not None:
            return True
        wraps = len(branch.children) == 1
        return not (branch.is_list or wraps or branch.path in self.opened) or branch.path in self.layers

    # -- owners and entries ----------------------------------------------------------------------------------------
    def _owner(self, branch: Branch) -> Owner:
        layer, given = self.layers.get(branch.path), branch.given
        if branch is self.root:
            return self._model(given)
        notes = tuple(dict.fromkeys(_notes(branch)))
        if layer is None:
            unknown = () if branch.children and not _has_weights(branch) else (_SHAPE_ONLY,)
            kind = "Block" if branch.children else "unknown"
            return Owner(path=branch.path, type=kind, builtin=False, notes=(*notes, *unknown))
        bare = given is not None and not branch.children
        bare = bare and all(array.role == "seed" for array in branch.arrays.values())
        used = (USED.format(given.uses),) if given is not None and given.uses > 1 else ()
        return Owner(
            path=branch.path,
            name=given.name if given is not None else "",
            type=layer.type,
            builtin=layer.known,
            status="no weights" if bare else "built",
            options=layer.options,
            notes=(*notes, *layer.notes, *used),
            input_shapes=given.input_shapes if given is not None else (),
            output_shapes=given.output_shapes if given is not None else (),
            inputs=given.inputs if given is not None else (),
        )

    def _model(self, given: Given | None) -> Owner:
        """The model itself: what the file says of it, or its configuration."""
        said = given if given is not None and given.type else None
        said = said or Given(type=self.hints.kind, options=self.hints.sizes, known=False)
        return Owner(
            path="",
            name=said.name or self.name,
            type=said.type,
            builtin=said.known,
            options=said.options,
            notes=(*self.contents.notes, *_of_no_numbers(self.root)),
            input_shapes=said.input_shapes,
            output_shapes=said.output_shapes,
        )

    def _entries(self, branch: Branch) -> Iterator[Entry]:
        layer = self.layers.get(branch.path)
        for name, array in sorted(branch.arrays.items(), key=lambda item: _rank(plain(item[0]))):
            path = f"{branch.path}/{name}" if branch.path else name
            axes = array.axes or (layer.axes.get(plain(name), ()) if layer is not None else ())
            called = name.removeprefix("parametrizations/").replace("/", ".")
            entry = _entry(path, branch.path, called, array, axes, self._state(name, array, layer))
            switch = self._switch(branch, name) if entry.state == "trainable" else None
            yield entry if switch is None else replace(entry, state="frozen", frozen_by=switch)

    def _switch(self, branch: Branch, name: str) -> str | None:
        """The outermost layer that the file says doesn't learn, around an array; its own, if that is one of some."""
        parts = branch.path.split("/") if branch.path else []
        for size in range(len(parts) + 1):
            path = "/".join(parts[:size])
            if path in self.switched_off:
                return path
        return branch.path if branch.given is not None and name in branch.given.frozen else None

    def _state(self, name: str, array: Tensor, layer: Layer | None) -> State:
        if array.role in ("fixed", "other") or not holds_numbers(array.dtype):
            return "fixed"
        if array.role in ("state", "seed"):
            return array.role
        if is_of_parametrisation(name) and name.endswith("/base"):  # the start that an orthogonal one keeps
            return "state"
        if layer is not None and plain(name) in layer.states:
            return layer.states[plain(name)]
        if is_buffer(name, array):
            return "fixed"
        known = bool(array.axes) or (layer is not None and plain(name) in layer.axes)
        if is_whole_number(array.dtype) and not known:
            return "fixed"
        return "trainable" if learns(array.dtype) else "frozen"

    def _aside(self) -> Iterator[Entry]:
        """What an optimizer keeps, and the states of random generators: under the model itself."""
        taken = {"/".join(parts) for parts in self.places.values()}
        aside = [tensor for tensor in self.contents.tensors if tensor.name in self.aside]
        for tensor, parts in zip(aside, places_of(aside).values(), strict=True):
            path = "/".join(parts)
            while path in taken:
                path = f"{tensor.role}/{path}"
            taken.add(path)
            state: State = tensor.role if tensor.role in ("optimizer", "seed") else "fixed"
            yield _entry(path, "", parts[-1], tensor, tensor.axes, state)

    def _paths(self, entries: list[Entry]) -> dict[str, str]:
        """The path of the entry of each array, by the name it has in the file."""
        aside = [tensor.name for tensor in self.contents.tensors if tensor.name in self.aside]
        paths = {name: "/".join(parts) for name, parts in self.places.items()}
        return paths | dict(
            zip(aside, (entry.path for entry in entries[len(entries) - len(aside) :]), strict=True)
        )


def _aside(contents: Contents) -> set[str]:
    """The names of what no layer has: an optimizer's arrays, metrics' sums, the model's own random generators."""
    layers = {node.name for node in contents.nodes}
    return {
        tensor.name
        for tensor in contents.tensors
        if tensor.role == "optimizer"
        or (tensor.role == "other" and not _METRICS.isdisjoint(tensor.name.split("/")[:-1]))
        or (tensor.role == "seed" and (not layers or tensor.name.rpartition("/")[0] not in layers))
    }


_METRICS = frozenset(("metrics", "_metrics", "compile_metrics", "_compile_metrics", "_loss_tracker"))
"""Where Keras keeps what a metric has summed up."""
_DIGITS = 9
"""Of a place in a list; a number of more is none."""
_SHAPE_ONLY = "Not recognised by its names and shapes: counted by its shapes alone."


def _notes(branch: Branch) -> Iterator[str]:
    """What is said of the arrays right there."""
    for array in branch.arrays.values():
        yield from array.notes
    yield from _of_no_numbers(branch)


def _of_no_numbers(branch: Branch) -> Iterator[str]:
    """Say of arrays that hold texts or the like that they count as no parameters."""
    for name, array in branch.arrays.items():
        if not holds_numbers(array.dtype):
            yield f"'{name}' holds no numbers but {array.dtype}, so it adds no parameters to the total."


def _rank(name: str) -> int:
    """Where an array of a layer stands: what multiplies first, then what is added, what is kept last."""
    return next((rank for rank, pattern in enumerate(_CUSTOM) if re.match(pattern, name)), len(_CUSTOM))


_CUSTOM = (
    "(in_proj_)?weight|q?weight|(depthwise_|pointwise_)?kernel|gamma|scale$|embedding",
    "recurrent",
    "(in_proj_)?bias|beta",
    ".*mean",
    ".*var",
)


def _has_weights(branch: Branch) -> bool:
    return any(array.role == "weight" for array in branch.arrays.values())


def _opened(root: Branch) -> Iterator[str]:
    """The paths of what the whole model is in, from the outside."""
    here = holder_of_blocks(root)
    while here is not None:
        yield here.path
        here = holder_of_blocks(here)


def _entry(path: str, owner: str, name: str, array: Tensor, axes: tuple[str, ...], state: State) -> Entry:
    elements = _bytes(array)
    return Entry(
        path=path,
        owner=owner,
        name=name,
        shape=array.shape,
        axes=axes if len(axes) == len(array.shape) else (),
        dtype=array.dtype,
        state=state,
        stored=None if _is_told_by_its_type(array, elements) else array.stored,
    )


def _is_told_by_its_type(array: Tensor, elements: int | None) -> bool:
    """Whether an array takes the bytes of its elements; nothing is stored of what is only planned."""
    return elements is not None and array.stored in (elements, 0)


def _bytes(array: Tensor) -> int | None:
    """What its elements take; None where the name of their type doesn't say."""
    try:
        return -(-array.size * bits(array.dtype) // 8)
    except ValueError:
        return None


def _tied(entries: list[Entry], tensors: tuple[Tensor, ...], paths: Mapping[str, str]) -> Iterator[Entry]:
    """Say of each array that is another's where its scalars are counted."""
    ties = {tensor.name: tensor.alias_of for tensor in tensors if tensor.alias_of is not None}
    homes = {paths[name]: paths[_home(name, ties)] for name in ties}
    for entry in entries:
        home = homes.get(entry.path, entry.path)
        yield entry if home == entry.path else replace(entry, shared_with=home)


def _home(name: str, ties: Mapping[str, str]) -> str:
    """Follow ties to the array that is nobody's; of a ring the first by name counts."""
    seen: dict[str, None] = {}
    while name in ties and name not in seen:
        seen[name] = None
        name = ties[name]
    if name not in ties:
        return name
    ring = list(seen)
    return min(ring[ring.index(name) :])
