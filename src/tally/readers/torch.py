"""The account of a PyTorch module: parameters, buffers, what is tied, what waits for its first input."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tally.accounting.ledger import Ledger, State
from tally.formats.tensor import Tensor
from tally.readers.hints import hints_of
from tally.readers.leaves import is_buffer, is_whole_number
from tally.readers.parts import (
    Array,
    Kind,
    Part,
    assemble,
    attributes_of,
    class_of,
    is_of,
    line_of,
    members,
    recognised,
    sizes_of,
    under,
)
from tally.readers.torch_arrays import array_of, beside, is_packed, note_of, quantised
from tally.readers.torch_kinds import ACTIVATIONS, KINDS, LISTS, TURNED_LINEAR, named_axes

_MODULE = "torch.nn.modules.module.Module"
_PARAMETER = "torch.nn.parameter.Parameter"
_EMPTY = "torch.nn.parameter.UninitializedTensorMixin"
_WRAPPINGS = {
    "torch._dynamo.eval_frame.OptimizedModule": ("_orig_mod", "torch.compile"),
    "torch.nn.parallel.data_parallel.DataParallel": ("module", "DataParallel"),
    "torch.nn.parallel.distributed.DistributedDataParallel": ("module", "DistributedDataParallel"),
}
"""Modules around a module that add nothing to it: where they keep it, and what a person calls them."""


def matches(thing: Any) -> bool:
    """Tell whether a thing is a PyTorch module; torch is not imported for that.

    Example:
        >>> matches([1, 2])
        False
    """
    return is_of(thing, _MODULE)


def read(module: Any) -> Ledger:
    """Read the account of a module, on whatever device; nothing runs and no value is read.

    Args:
        module: A `torch.nn.Module`; what `torch.compile` and `DataParallel` put around one is taken off.
    """
    inner, notes = _unwrapped(module)
    walk = _Walk(_registered(inner))
    walk.visit(inner, "", notes)
    _switch_off(walk.parts)
    return assemble(_tied(walk.parts), name=_class_name(inner), source="PyTorch model")


def _unwrapped(module: Any) -> tuple[Any, tuple[str, ...]]:
    notes: list[str] = []
    while True:
        found = next((one for name, one in _WRAPPINGS.items() if is_of(module, name)), None)
        inside = getattr(module, found[0], None) if found else None
        if found is None or not matches(inside):
            return module, tuple(notes)
        notes.append(f"Wrapped by {found[1]}, which adds no parameters; the account is of what is inside.")
        module = inside


def _registered(module: Any) -> set[int]:
    """What PyTorch knows of: all modules, and the tensors that they hold."""
    known: set[int] = set()
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if id(one) not in known:
            known.add(id(one))
            waiting.extend(child for child in one._modules.values() if child is not None)
            known.update(map(id, (*one._parameters.values(), *one._buffers.values())))
    return known


@dataclass
class _Walk:
    """One way through a module, from the outside in."""

    registered: set[int]
    parts: list[Part] = field(default_factory=lambda: list[Part]())
    places: dict[int, str] = field(default_factory=lambda: dict[int, str]())
    above: list[Any] = field(default_factory=lambda: list[Any]())

    def visit(self, module: Any, path: str, notes: tuple[str, ...] = ()) -> None:
        """List a module, what it holds itself, and the modules inside."""
        if any(module is one for one in self.above):
            return
        part = _part(module, path)
        part.notes = (*notes, *part.notes)
        part.shared_with = self.places.get(id(module))
        self.places.setdefault(id(module), path)
        self.parts.append(part)
        self.above.append(module)
        self._inside(module, part, path)
        if part.shared_with is None:
            part.arrays += self._lost(module)
        self.above.pop()

    def _inside(self, module: Any, part: Part, path: str) -> None:
        """What is inside a module: layers at places of their own, lists of arrays as arrays of the module."""
        for name, child in list(module._modules.items()):
            place = under(path, str(name).replace("/", "|"))
            if child is None or is_packed(child) or (name == "parametrizations" and _is_plain_dict(child)):
                continue
            kind = _torch_kind(child)
            if kind in ("ParameterList", "ParameterDict") and not child._modules:
                part.arrays += [
                    replace(array, name=f"{name}.{array.name}", place=f"{name}/{array.name}")
                    for array in _arrays(child)
                ]
            elif kind in LISTS and not child._parameters and not child._buffers:
                if not any(child is one for one in self.above):
                    self.above.append(child)
                    self._inside(child, part, place)
                    self.above.pop()
            else:
                self.visit(*_with_place(child, place))

    def _lost(self, module: Any) -> Iterator[Array]:
        """What would learn but isn't known to PyTorch: parameters and modules in plain lists, tensors as attributes."""
        held = {name: value for name, value in attributes_of(module).items() if name not in _OWN}
        for place, thing in members(held, _may_learn):
            if id(thing) in self.registered:
                continue
            tensors: dict[str, Any] = {"": thing}
            if matches(thing):  # as an attribute of its own it would be registered, unless somebody hid it
                tensors = dict(thing.named_parameters()) if "/" in place else {}
            for name, tensor in tensors.items():
                if id(tensor) not in self.registered and not is_of(tensor, _EMPTY):
                    self.registered.add(id(tensor))
                    whole = f"{place}.{name}".strip(".").replace("/", ".")
                    note = _IN_A_LIST if "/" in place else _AS_ATTRIBUTE
                    yield replace(array_of(whole, tensor, "untracked"), note=f"'{whole}' {note}", of=None)


_OWN = ("_parameters", "_buffers", "_modules", "_flat_weights", "_non_persistent_buffers_set")
_IN_A_LIST = (
    "is in a plain Python container, so parameters() and state_dict() leave it out. To mend it, hold it in "
    "nn.ModuleList or nn.ParameterList."
)
_AS_ATTRIBUTE = (
    "is a plain attribute that wants a gradient, so parameters() and state_dict() leave it out. To mend it, make it "
    "nn.Parameter."
)


def _may_learn(thing: Any) -> bool:
    if matches(thing) or is_of(thing, _PARAMETER):
        return True
    return is_of(thing, "torch.Tensor", "torch._tensor.Tensor") and thing.requires_grad and thing.is_leaf


def _with_place(child: Any, place: str) -> tuple[Any, str, tuple[str, ...]]:
    inner, notes = _unwrapped(child)
    return inner, place, notes


def _is_plain_dict(child: Any) -> bool:
    return _torch_kind(child) == "ModuleDict"


# -- one module ----------------------------------------------------------------------------------------------------
def _torch_kind(module: Any) -> str | None:
    """The class of `torch.nn` that a module is one of, or a quantised form of; None for any other."""
    compiled = _compiled_from(module)
    if compiled is not None:
        return compiled[1] if compiled[0].startswith("torch.nn.") else None
    for kind in type(module).__mro__:
        if kind.__module__.startswith(("torch.nn.", "torch.ao.nn.")) and kind.__name__ != "Module":
            return kind.__name__.removeprefix("Parametrized")
    return None


def _compiled_from(module: Any) -> tuple[str, str] | None:
    """The module and name of the class that `torch.jit` compiled a module from; None of any other."""
    if not is_of(module, "torch.jit.*.ScriptModule"):
        return None
    said = str(module._c._type().qualified_name()).removeprefix("__torch__.")
    home, _, name = re.sub(r"___torch_mangle_\d+\.", "", said).rpartition(".")
    return home, name


def _own_class(module: Any) -> type:
    """The class that somebody wrote: a parametrised module is of one that was made for it alone."""
    kind = class_of(module)
    return kind.__mro__[1] if "parametrizations" in module._modules and kind.__mro__[1:] else kind


def _class_name(module: Any) -> str:
    scripted = getattr(module, "original_name", None)  # by torch.jit.script
    return scripted if isinstance(scripted, str) else _own_class(module).__name__


def _part(module: Any, path: str) -> Part:
    own = _own_class(module)
    name = _torch_kind(module) or ""
    turned = is_of(module, "transformers.pytorch_utils.Conv1D")  # a linear layer, for all its name
    kind = TURNED_LINEAR if turned else KINDS.get(name)
    arrays = [*_arrays(module), *_parametrized(module), *quantised(module)]
    home = (_compiled_from(module) or (own.__module__,))[0]
    applied = ACTIVATIONS.get(own.__name__) if home == "transformers.activations" else None
    kind = kind or applied
    derived = kind is not None and bool(arrays) and home.startswith(_LIBRARIES)
    is_torch = turned or derived or applied is not None or home.startswith(("torch.nn.", "torch.ao.nn."))
    waiting = [
        name
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if is_of(tensor, _EMPTY)
    ]
    part = Part(
        path=path,
        type=kind.type if kind is not None and is_torch else _class_name(module),
        builtin=is_torch,
        name="" if path else _class_name(module),
        module=home,
        waits=bool(waiting),
        options=_options(module, kind, path, holds=bool(arrays) and not is_torch),
        origin=None if is_torch else line_of(own),
        notes=tuple(_notes(module, path, waiting, name)),
    )
    part.arrays = list(_settled(module, arrays, kind, part))
    return part


_LIBRARIES = tuple(
    f"{name}."
    for name in (
        *("bitsandbytes", "diffusers", "peft", "sentence_transformers", "timm", "torchao"),
        *("torchaudio", "torchvision", "transformers"),
    )
)
"""Libraries on PyTorch, whose layers that are made from one of its own do what that does."""


def _options(module: Any, kind: Kind | None, path: str, *, holds: bool) -> tuple[tuple[str, Any], ...]:
    """What enters a formula; sizes of the user's own class only where it holds arrays that these may explain."""
    if kind is not None:
        try:
            return kind.options_of(module)
        except AttributeError:  # a traced layer keeps only its arrays
            return ()
    if not path and _is_of_transformers(module):
        said = {name: one for name, one in attributes_of(module.config).items() if not name.startswith("_")}
        return hints_of({"config": said}).sizes
    return sizes_of(module) if holds else ()


def _is_of_transformers(module: Any) -> bool:
    return is_of(module, "transformers.*.PreTrainedModel") and hasattr(module, "config")


def _notes(module: Any, path: str, waiting: list[str], name: str) -> Iterator[str]:
    if waiting:
        yield f"{' and '.join(waiting)}: empty until the first input says their size ({type(module).__name__})."
    if not path and _is_of_transformers(module):
        said = module.config
        layers = getattr(said, "num_hidden_layers", None)
        yield (
            f"A model of Hugging Face's transformers: model_type {getattr(said, 'model_type', 'unknown')}"
            + (f", {layers} hidden layers." if isinstance(layers, int) else ".")
        )
    if "parametrizations" in module._modules:
        for weight, held in module._modules["parametrizations"]._modules.items():
            made = " and ".join(type(one).__name__.strip("_") for one in held._modules.values())
            yield f"{weight} is not stored: {made} computes it from what is."
    for hook in getattr(module, "_forward_pre_hooks", {}).values():
        if type(hook).__module__.startswith("torch.nn.utils."):  # the older way to compute a weight
            weight = getattr(hook, "name", None) or getattr(hook, "_tensor_name", "weight")
            yield f"{weight} is not stored: {type(hook).__name__} computes it from what is."
    packed = note_of(module)
    if packed is not None:
        yield packed
    if name in ("RNN", "LSTM", "GRU") and getattr(module, "num_layers", 1) > 1:
        yield f"{module.num_layers} layers, one on top of the other: each reads what the one below it gives."


def _settled(module: Any, arrays: list[Array], kind: Kind | None, part: Part) -> Iterator[Array]:
    """Arrays with the names of their axes, and buffers with their states."""
    known: Mapping[str, tuple[str, ...]] = kind.axes_of(module) if kind is not None else {}
    states: Mapping[str, State] = {}
    if not known:
        known = named_axes(_class_name(module), arrays)
    if not known:
        found = recognised((_class_name(module), part.path), arrays, "torch")
        known, states = (found.axes, found.states) if found is not None else ({}, {})
        if found is not None and part.module.startswith(_LIBRARIES):
            # As T5 has it, and who follows it.
            by_square = found.type == "Norm" and hasattr(module, "variance_epsilon")
            name = "RMSNormalization" if by_square else found.type
            if name.endswith("Normalization"):
                part.type, part.builtin = name, True
    for array in arrays:
        axes = _fitted(array, known)
        state = states.get(array.name, "state") if array.state == "state" else array.state
        if state == "state" and not axes and is_whole_number(array.dtype) and array.name not in _COUNTERS:
            state = "fixed"
        yield replace(array, axes=axes, state=state)


_COUNTERS = ("num_batches_tracked", "n_averaged")
_PIECE = re.compile(r"\..*|_(g|v|orig|mask)$")
"""What is added to a weight's name for what it is computed from, by parametrisations and by the older hooks."""


def _fitted(array: Array, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The axes of an array; of one that a weight is computed from, those of the weight that it has, too."""
    if array.axes:
        return array.axes
    weight = array.name if array.name in known else _PIECE.sub("", array.name)
    axes = known.get(array.name, known.get(weight, ()))
    if len(axes) != len(array.shape):
        return ()
    if weight == array.name:
        return axes
    return tuple("broadcast" if size == 1 else axis for axis, size in zip(axes, array.shape, strict=True))


def _arrays(module: Any) -> Iterator[Array]:
    """A module's own parameters and buffers."""
    for name, tensor in module._parameters.items():
        if tensor is not None and not is_of(tensor, _EMPTY):
            learning = tensor.requires_grad
            yield array_of(name, tensor, "trainable" if learning else "frozen")
            yield from beside(name, tensor)
    passing = module._non_persistent_buffers_set if hasattr(module, "_non_persistent_buffers_set") else ()
    for name, tensor in module._buffers.items():
        if tensor is None or is_of(tensor, _EMPTY):
            continue
        array = array_of(name, tensor, "state")
        fixed = name in passing or _is_fixed(module, name) or is_buffer(name, _as_tensor(array))
        yield replace(array, state="fixed") if fixed else array


def _is_fixed(module: Any, name: str) -> bool:
    """Whether a buffer is a constant: what quantises, what is pruned, the zeros some language models add at the end."""
    if type(module).__module__.startswith("torch.ao.") and re.fullmatch(
        r"scale|zero_point|eps|\w+_enabled", name
    ):
        return True
    pruned = name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in module._parameters
    return pruned or name == "final_logits_bias"


def _as_tensor(array: Array) -> Tensor:
    return Tensor(name=array.name, shape=array.shape, dtype=array.dtype, stored=0)


def _parametrized(module: Any) -> Iterator[Array]:
    """What a parametrised weight is computed from, as arrays of the layer itself."""
    if "parametrizations" not in module._modules or not _is_plain_dict(module._modules["parametrizations"]):
        return
    for weight, held in module._modules["parametrizations"]._modules.items():
        for array in _arrays(held):
            yield _below(array, weight, f"parametrizations/{weight}")
        for number, one in held._modules.items():
            for prefix, inner in one.named_modules():
                place = ".".join(filter(None, (number, prefix)))
                for array in _arrays(inner):
                    yield _below(array, f"{weight}.{place}", f"parametrizations/{weight}/{place}")


def _below(array: Array, name: str, place: str) -> Array:
    return replace(array, name=f"{name}.{array.name}", place=f"{place.replace('.', '/')}/{array.name}")


# -- what is one ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Extent:
    """Which bytes a tensor lies on."""

    storage: int
    start: int
    stop: int


def _extent(tensor: Any) -> _Extent | None:
    """The bytes of a tensor that lies on one stretch of memory without gaps; None for any other."""
    try:
        storage = tensor.untyped_storage()._cdata
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        reach = 1 + sum((size - 1) * step for size, step in steps)
        width, start = tensor.element_size(), tensor.storage_offset()
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):  # sparse, or a class of its own
        return None
    if reach != tensor.numel():
        return None
    return _Extent(storage, start * width, (start + reach) * width)


def _tied(parts: list[Part]) -> list[Part]:
    """Say of each array what it is one with: the same tensor, or another view of the same memory."""
    held = [array for part in parts for array in part.arrays if array.of is not None]
    extents = {id(array.of): _extent(array.of) for array in held}
    wholes = _wholes(one for one in extents.values() if one is not None)
    for part in parts:
        part.arrays = [_keyed(array, extents, wholes) for array in part.arrays]
    return parts


def _wholes(extents: Iterable[_Extent]) -> dict[_Extent, _Extent]:
    """For each stretch of memory the longest that it is a part of."""
    found: dict[_Extent, _Extent] = {}
    last: _Extent | None = None
    for one in sorted(set(extents), key=lambda one: (one.storage, one.start, -one.stop)):
        if last is None or one.storage != last.storage or one.stop > last.stop or one.start == one.stop:
            last = one
        found[one] = last
    return found


def _keyed(array: Array, extents: Mapping[int, _Extent | None], wholes: Mapping[_Extent, _Extent]) -> Array:
    if array.of is None:
        return array
    extent = extents[id(array.of)]
    if extent is None or extent.start == extent.stop:
        return replace(array, of=id(array.of))
    whole = wholes[extent]
    return replace(array, of=whole, inside=whole != extent)


def _switch_off(parts: list[Part]) -> None:
    """Mark each layer of which no parameter learns, so that who was frozen can be said at the outermost of them."""
    learning: set[str] = set()
    frozen: set[str] = set()
    for part in parts:
        for array in part.arrays:
            if array.state in ("trainable", "frozen"):
                found = learning if array.state == "trainable" else frozen
                path = part.path
                found.add(path)
                while path:
                    path = path.rpartition("/")[0]
                    found.add(path)
    for part in parts:
        part.switched_off = part.path in frozen and part.path not in learning
