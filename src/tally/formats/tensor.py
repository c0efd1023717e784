"""What a file says of one array, and of all it holds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["weight", "state", "seed", "optimizer", "fixed", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where the bytes of an array lie.

    Args:
        file: The file that holds them; not always the one that names the array.
        start: The first byte.
        nbytes: How many.
        order: `"<"` or `">"`, the order of the bytes in an element.
        strides: Elements between neighbours along each axis; the last axis closest where None.
        filters: What they went through on the way into the file, outermost first, such as `("deflate",)`; then `start`
            and `nbytes` say where the packed bytes lie.
        inside: The first byte of the array in what is unpacked.
    """

    file: Path
    start: int
    nbytes: int
    order: Literal["<", ">"] = "<"
    strides: tuple[int, ...] | None = None
    filters: tuple[str, ...] = ()
    inside: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One array of a file, known by its header alone.

    Args:
        name: What the file calls it.
        shape: Its dimensions; of a packed or quantised array, those of the parameters that it stands for.
        dtype: The type of an element as a ledger names it, such as `"bfloat16"`; of a packed array that of one
            parameter, such as `"int4"` or `"q4_k"`.
        stored: The bytes it takes in the file, scales and padding of its own included; of a compressed one those it
            unpacks to.
        packed: The bytes it takes where it is compressed, if the file says so without a look at the data.
        role: What it is to a model, where the file says so.
        axes: A name for each dimension, where the file says so.
        span: Where its bytes lie, where they can be read without the format's own library.
        alias_of: The name of the array whose bytes these are: they are tied, and count once.
        notes: Sentences for the reader of the account.

    Example:
        >>> Tensor(name="w", shape=(4, 8), dtype="int4", stored=16).size
        32
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: int
    packed: int | None = None
    role: Role = "weight"
    axes: tuple[str, ...] = ()
    span: Span | None = None
    alias_of: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many parameters it stands for."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation or layer that a file describes beside its arrays, such as a node of an ONNX graph.

    Args:
        name: Its name, unique in the file.
        type: What it is: `"Conv"`, `"Dense"`; `""` where the file doesn't say.
        tensors: The names of the arrays it takes, in its own order.
        options: What its formula needs: kernel size, groups.
        inputs: The names of the nodes that feed it.
        input_shapes: The shape of each input, None for what is open; empty if unknown.
        output_shapes: The same of each output.
    """

    name: str
    type: str
    tensors: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    inputs: tuple[str, ...] = ()
    input_shapes: tuple[tuple[int | None, ...], ...] = ()
    output_shapes: tuple[tuple[int | None, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All that a file holds, without its data.

    Args:
        format: What it is, as a reader of the account would say it: `"safetensors"`, `"PyTorch, zip"`.
        tensors: Its arrays, in the file's order.
        metadata: What else it says: the text pairs of a header, a configuration.
        nodes: Its graph, where it has one.
        files: Every file that was looked at.
        notes: Sentences about the whole, such as what was passed over and why.
    """

    format: str
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    nodes: tuple[Node, ...] = ()
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
