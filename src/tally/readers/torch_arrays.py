"""Tensors of PyTorch as arrays of a ledger: plain ones, packed ones, and what a quantised layer keeps in an object."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tally.accounting.ledger import State, learns
from tally.readers.parts import Array, dtype_of, is_of

_QUANTISED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.", "torch.ao.nn.sparse.quantized.")
_PACKED = tuple(
    f"torch.ao.nn.quantized.*.{name}"
    for name in ("LinearPackedParams", "EmbeddingPackedParams", "PackedParameter")
)
_FEW_BITS, _EIGHT_BITS = "bitsandbytes.*.Params4bit", "bitsandbytes.*.Int8Params"
_BESIDE = {"absmax": "absmax", "code": "quant_map"}
"""What `bitsandbytes` keeps beside numbers of four bits, and what it is called in a state dict."""


def array_of(name: str, tensor: Any, state: State) -> Array:
    """A tensor as an array; one that stands for more numbers than it has elements, as those it stands for.

    Args:
        name: What its module calls it.
        tensor: The tensor, on whatever device.
        state: What training does with it; what is packed is frozen.
    """
    shape, dtype, stored = tuple(tensor.shape), dtype_of(tensor) or "float32", None
    packing = _packing(tensor)
    if packing is not None:
        shape, dtype = tuple(packing.shape), str(packing.quant_type)
    elif hasattr(tensor, "__tensor_flatten__"):  # packed or quantised: it holds tensors of its own
        inner = [getattr(tensor, one) for one in tensor.__tensor_flatten__()[0]]
        stored = sum(one.numel() * one.element_size() for one in inner)
    if not learns(dtype) and state == "trainable":
        state = "frozen"
    return Array(name=name, shape=shape, dtype=dtype, state=state, of=tensor, stored=stored)


def _packing(tensor: Any) -> Any:
    """What says how `bitsandbytes` packed a tensor into four bits; None of any other, and before it did."""
    return getattr(tensor, "quant_state", None) if is_of(tensor, _FEW_BITS) else None


def beside(name: str, tensor: Any) -> Iterator[Array]:
    """The scales and tables that `bitsandbytes` keeps beside a tensor, as fixed arrays.

    Args:
        name: What its module calls the tensor.
        tensor: The tensor.
    """
    held: dict[str, Any] = {}
    packing = _packing(tensor)
    if packing is not None:
        held = {word: getattr(packing, one, None) for one, word in _BESIDE.items()}
        nested: Any = getattr(packing, "state2", None)
        held |= {f"nested_{word}": getattr(nested, one, None) for one, word in _BESIDE.items()}
    elif is_of(tensor, _EIGHT_BITS):
        held = {"SCB": getattr(tensor, "SCB", None)}
    for word, one in held.items():
        if one is not None:
            yield replace(array_of(f"{name}.{word}", one, "fixed"), of=None)


def is_quantised(module: Any) -> bool:
    """Tell whether a module is a quantised form that PyTorch has of one of its layers."""
    return f"{type(module).__module__}.".startswith(_QUANTISED)


def is_packed(module: Any) -> bool:
    """Tell whether a module is only the place where a quantised layer keeps its weights."""
    return is_of(module, *_PACKED)


def quantised(module: Any) -> Iterator[Array]:
    """The weights and biases of a quantised layer, which keeps them in an object of its own and gives them when asked.

    Args:
        module: Any module; of one that isn't quantised there are none.
    """
    if not is_quantised(module):
        return
    given: dict[str, Any] = {}
    for name in ("weight", "bias"):
        # The second of recurrent ones.
        one, several = (getattr(module, ask, None) for ask in (name, f"get_{name}"))
        if name not in module._parameters and callable(one):
            given[name] = one()
        elif callable(several):
            found: Any = several()
            given |= found
    for name, tensor in given.items():
        if tensor is not None:
            yield replace(array_of(name, tensor, "frozen"), of=None)


def note_of(module: Any) -> str | None:
    """Say how the weights of a module are quantised; None where they aren't."""
    if is_quantised(module):
        return f"Quantised ({type(module).__name__}): its weights stay as they are."
    weight: Any = dict(module._parameters.items()).get("weight")
    packing = _packing(weight)
    if packing is not None:
        return f"Quantised to 4 bits (bitsandbytes, {packing.quant_type}): two parameters in each byte."
    if is_of(weight, _EIGHT_BITS) and not learns(dtype_of(weight) or "float32"):
        return "Quantised to 8 bits (bitsandbytes): a scale for each row."
    return None
