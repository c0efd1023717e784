"""Quantised weights as files hold them: several numbers in one element, with scales beside them.

An array of packed numbers is recognised by what stands beside it: `qweight` by its `scales`, `weight` by its
`quant_state`. It becomes the array of the parameters that it stands for; what stands beside it is fixed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from tally.formats.errors import BadFileError
from tally.formats.json_text import is_whole, parse_json
from tally.formats.limits import LIMITS, Limits
from tally.formats.tensor import Tensor
from tally.formats.window import opened

_LARGEST_NOTE = 65_536
"""Bytes of the longest description that lies among the arrays; a few hundred are usual."""


def unpacked(tensors: Sequence[Tensor], limits: Limits = LIMITS) -> list[Tensor]:
    """Return the arrays with packed ones as the parameters they stand for, and their scales as fixed.

    Args:
        tensors: The arrays of a model, all of them: what stands beside an array may be in another file.
        limits: How much of a description that lies among the arrays is believed.

    Raises:
        BadFileError: A description that lies among the arrays is broken.

    Example:
        >>> packed = Tensor(name="q.qweight", shape=(512, 11008), dtype="int32", stored=4 * 512 * 11008)
        >>> zeros = Tensor(name="q.qzeros", shape=(32, 1376), dtype="int32", stored=4 * 32 * 1376)
        >>> scales = Tensor(name="q.scales", shape=(32, 11008), dtype="float16", stored=2 * 32 * 11008)
        >>> weight, *beside = unpacked([packed, zeros, scales])
        >>> weight.shape, weight.dtype, [tensor.role for tensor in beside]
        ((4096, 11008), 'int4', ['fixed', 'fixed'])
    """
    known = {tensor.name: tensor for tensor in tensors}
    changed: dict[str, Tensor] = {}
    for tensor in tensors:
        stem, _, last = tensor.name.rpartition(".")
        forms = (_blocks,) if last.endswith("_blocks") else _FORMS.get(last, ())
        for form in forms:
            found = form(tensor, stem, known, limits)
            if found:
                changed |= {one.name: one for one in found}
                break
    return [changed.get(tensor.name, tensor) for tensor in tensors]


Known = Mapping[str, Tensor]
Form = Callable[[Tensor, str, Known, Limits], list[Tensor]]


def _is_matrix(*tensors: Tensor | None) -> bool:
    return all(tensor is not None and len(tensor.shape) == 2 for tensor in tensors)


def _fixed(known: Known, *names: str) -> list[Tensor]:
    return [replace(known[name], role="fixed") for name in names if name in known]


def _beside(known: Known, stem: str, *names: str) -> list[Tensor]:
    return _fixed(known, *(f"{stem}.{name}" if stem else name for name in names))


def _packed_rows(packed: Tensor, stem: str, known: Known, _: Limits) -> list[Tensor]:
    """GPTQ and AWQ: int32, packed along what is read or along what is made; the scales have a column for each unit."""
    scales, zeros = (known.get(f"{stem}.{name}") for name in ("scales", "qzeros"))
    if scales is None or zeros is None or not _is_matrix(packed, scales, zeros) or packed.dtype != "int32":
        return []
    rows, columns = packed.shape
    units = scales.shape[1]
    if not units or not zeros.shape[1] or zeros.shape[1] * 32 % units:
        return []
    width = zeros.shape[1] * 32 // units
    if not 1 <= width <= 8:
        return []
    if columns == units and rows * 32 % width == 0:
        shape, method = (rows * 32 // width, units), "GPTQ"
    elif columns * 32 == units * width:
        shape, method = (rows, units), "AWQ"
    else:
        return []
    note = f"Quantised to {width} bits ({method}): {32 // width} parameters in each number of 32 bits."
    if 32 % width:
        note = f"Quantised to {width} bits ({method}), packed into numbers of 32 bits."
    weight = replace(packed, shape=shape, dtype=f"int{width}", axes=("features", "units"), notes=(note,))
    return [weight, *_beside(known, stem, "scales", "qzeros", "g_idx")]


def _bits_and_bytes(packed: Tensor, stem: str, known: Known, limits: Limits) -> list[Tensor]:
    """bitsandbytes: two numbers in a byte, their shape in a description beside; or a byte each with row scales."""
    row_scales = known.get(f"{stem}.SCB")
    if row_scales is not None and packed.dtype in ("int8", "uint8"):
        note = "Quantised to 8 bits (bitsandbytes): a scale for each row."
        return [replace(packed, dtype="int8", notes=(note,)), *_beside(known, stem, "SCB", "weight_format")]
    for kind in ("nf4", "fp4"):
        described = known.get(f"{packed.name}.quant_state.bitsandbytes__{kind}")
        if described is not None and packed.dtype in ("uint8", "int8", "float16", "bfloat16", "float32"):
            shape = _described_shape(described, limits)
            if -(-math.prod(shape) // 2) != packed.stored:
                shape = (packed.stored * 2,)
            note = f"Quantised to 4 bits (bitsandbytes, {kind}): two parameters in each byte."
            names = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
            beside = _fixed(known, described.name, *(f"{packed.name}.{name}" for name in names))
            return [replace(packed, shape=shape, dtype=kind, notes=(note,)), *beside]
    return []


def _described_shape(described: Tensor, limits: Limits) -> tuple[int, ...]:
    """The shape in a description that lies among the arrays as text."""
    span = described.span
    if span is None or not 0 < span.nbytes <= _LARGEST_NOTE or described.dtype not in ("uint8", "int8"):
        return ()
    with opened(span.file) as window:
        window.go_to(span.start)
        text = window.take(span.nbytes, "a description")
    said = parse_json(text, span.file, f"tensor {described.name[:80]!r}", limits)
    shape = cast("dict[str, Any]", said).get("shape") if isinstance(said, dict) else None
    if not isinstance(shape, list) or not all(map(is_whole, cast("list[Any]", shape))):
        raise BadFileError(span.file, "describes no shape", place=f"tensor {described.name[:80]!r}")
    return tuple(cast("list[int]", shape))


def _compressed(packed: Tensor, stem: str, known: Known, _: Limits) -> list[Tensor]:
    """compressed-tensors: whole numbers in int32 with the shape beside, or two fractions of 4 bits in a byte."""
    scale = known.get(f"{stem}.weight_scale")
    if scale is None or len(packed.shape) < 2:
        return []
    names = ("weight_scale", "weight_global_scale", "weight_zero_point", "weight_g_idx", "weight_shape")
    beside = _beside(known, stem, *names, "input_global_scale", "input_scale")
    *above, columns = packed.shape
    if packed.dtype == "uint8":
        note = "Quantised to 4 bits (compressed-tensors): two parameters in each byte."
        weight = replace(packed, shape=(*above, columns * 2), dtype="float4_e2m1fn", notes=(note,))
        return [weight, *beside]
    shape = _numbers(known.get(f"{stem}.weight_shape"))
    if packed.dtype != "int32" or len(shape) != 2 or list(shape[:-1]) != above or not columns or not shape[1]:
        return []
    width = next((bits for bits in range(1, 9) if -(-shape[1] // (32 // bits)) == columns), 0)
    if not width:
        return []
    note = (
        f"Quantised to {width} bits (compressed-tensors): {32 // width} parameters in each number of 32 bits."
    )
    return [replace(packed, shape=shape, dtype=f"int{width}", notes=(note,)), *beside]


def _numbers(tensor: Tensor | None) -> tuple[int, ...]:
    """A few whole numbers that lie among the arrays: a shape."""
    if tensor is None or tensor.span is None or tensor.dtype != "int64" or not 0 < tensor.size <= 8:
        return ()
    with opened(tensor.span.file) as window:
        window.go_to(tensor.span.start)
        return tuple(window.number("<Q", "a shape") for _ in range(tensor.size))


def _scaled(weight: Tensor, stem: str, known: Known, _: Limits) -> list[Tensor]:
    """A byte for each parameter, with scales beside; of BitNet four parameters in each."""
    beside = _beside(known, stem, *_SCALES)
    if not beside or len(weight.shape) < 2:
        return []
    if weight.dtype == "uint8" and f"{stem}.weight_scale" in known:
        rows, *rest = weight.shape
        note = "Quantised to 2 bits (BitNet): four parameters in each byte."
        return [replace(weight, shape=(rows * 4, *rest), dtype="int2", notes=(note,)), *beside]
    if not weight.dtype.startswith(("float8", "int8", "float4", "float6")):
        return []
    return [replace(weight, notes=("Quantised to 8 bits, with scales of its own.",)), *beside]


_SCALES = ("weight_scale_inv", "weight_scale", "weight_zero_point", "input_scale", "activation_scale")


def _blocks(packed: Tensor, stem: str, known: Known, _: Limits) -> list[Tensor]:
    """MXFP4: blocks of 16 bytes, two numbers in each, and a scale for each block."""
    name = packed.name.removesuffix("_blocks")
    scales = known.get(f"{name}_scales")
    del stem
    if scales is None or packed.dtype != "uint8" or len(packed.shape) < 3 or packed.shape[-1] != 16:
        return []
    if scales.shape != packed.shape[:-1]:
        return []
    *above, blocks, inside = packed.shape
    note = "Quantised to 4 bits (MXFP4): two parameters in each byte, 32 share a scale."
    weight = replace(packed, shape=(*above, blocks * inside * 2), dtype="mxfp4", notes=(note,))
    return [weight, replace(scales, role="fixed")]


_FORMS: dict[str, tuple[Form, ...]] = {
    "qweight": (_packed_rows,),
    "weight": (_bits_and_bytes, _scaled),
    "weight_packed": (_compressed,),
}
"""What the last part of a name may mean."""
