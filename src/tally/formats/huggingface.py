"""A folder as the Hugging Face Hub has it: a configuration, and the weights in one file or in several."""

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tally.formats import safetensors
from tally.formats.errors import BadFileError
from tally.formats.json_text import parse_json
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.packed import unpacked
from tally.formats.shards import INDEX, Read, located, read_shards
from tally.formats.tensor import Contents, Tensor
from tally.formats.window import opened

CONFIG = "config.json"
_WHOLE = ("model.safetensors", "diffusion_pytorch_model.safetensors", "adapter_model.safetensors")
_PICKLED = ("pytorch_model.bin", "diffusion_pytorch_model.bin", "adapter_model.bin")
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<ending>\.safetensors|\.bin)")
_MOST_FILES = 10_000


def matches(path: Path) -> bool:
    """Tell whether a folder holds a configuration or an index, and weights beside; or a path is its configuration."""
    if path.name == CONFIG and path.is_file():
        path = path.parent
    return path.is_dir() and (_has(path, CONFIG) or bool(_weights(path)))


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which arrays a folder holds, with what its configuration says of them.

    Args:
        path: The folder, or the configuration in it.
        limits: How much of the files is believed.

    Raises:
        BadFileError: A file is broken or missing, or a name leads out of the folder.
    """
    folder = path.parent if path.name == CONFIG and path.is_file() else path
    config = _config(folder, limits)
    name = _weights(folder)
    if not name:
        raise BadFileError(folder, "holds no weights", do="fetch its .safetensors files, too")
    contents = _read_weights(folder, name, limits)
    tensors, notes = _tied(contents.tensors, config)
    return Contents(
        format=contents.format,
        tensors=checked(tensors, folder, limits),
        metadata={**contents.metadata, "config": config},
        files=contents.files,
        notes=(*contents.notes, *notes, *_not_unpacked(tensors, config)),
    )


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _weights(folder: Path) -> str:
    """The name of the file to read: safetensors before what was pickled, and of each a whole file before an index.

    That is the order in which transformers looks, and in which `saving` does.
    """
    names = {entry.name for _, entry in zip(range(_MOST_FILES), folder.iterdir(), strict=False)}
    for whole in (_WHOLE, _PICKLED):
        for name in (*whole, *(name + INDEX for name in whole)):
            if name in names:
                return name
    parts = sorted(name for name in names if _PART.fullmatch(name))
    if parts:
        return parts[0]
    others = sorted(name for name in names if name.endswith((".safetensors", ".safetensors" + INDEX)))
    indexes = [name for name in others if name.endswith(INDEX)]
    whole = [name.removesuffix(INDEX) for name in indexes if name.removesuffix(INDEX) in names]
    only = whole or indexes or others
    return only[0] if CONFIG in names and len(only) == 1 else ""


def _read_weights(folder: Path, name: str, limits: Limits) -> Contents:
    if (part := _PART.fullmatch(name)) is not None:
        return _joined(folder, part, limits)
    found = located(folder, name, folder)
    assert found is not None
    if name.endswith(INDEX):
        whole = read_shards(found, _reader(name.removesuffix(INDEX), folder), limits)
    else:
        whole = _reader(name, folder)(found, limits)
    whole = replace(whole, tensors=tuple(unpacked(whole.tensors, limits)))
    return safetensors.with_ties(whole) if ".safetensors" in name else whole


def _reader(name: str, folder: Path) -> Read:
    if name.endswith(".safetensors"):
        return safetensors.read_one
    if importlib.util.find_spec("tally.formats.pytorch") is None:
        raise BadFileError(folder / name, "is a file of PyTorch, which can't be read yet")
    read: Read = importlib.import_module("tally.formats.pytorch").read
    return read


def _joined(folder: Path, part: re.Match[str], limits: Limits) -> Contents:
    """All parts of a model that lie there without an index."""
    count = int(part["count"])
    if count > limits.files:
        raise BadFileError(folder / part[0], f"is one of {count:,} files, more than {limits.files:,}")
    read = _reader(part[0], folder)
    parts: list[Contents] = []
    for number in range(1, count + 1):
        name = f"{part['stem']}-{number:05}-of-{part['count']}{part['ending']}"
        found = located(folder, name, folder)
        if found is None:
            reason = f"holds {part[0]!r}, but not {name!r}"
            raise BadFileError(folder, reason, do="fetch all files of the model into one folder")
        parts.append(read(found, limits))
    tensors = unpacked([tensor for one in parts for tensor in one.tensors], limits)
    files = tuple(file for one in parts for file in one.files)
    return replace(parts[0], tensors=tuple(tensors), files=files, notes=(f"{count:,} files together.",))


def _config(folder: Path, limits: Limits) -> Mapping[str, Any]:
    if not _has(folder, CONFIG):
        return {}
    found = located(folder, CONFIG, folder)
    assert found is not None
    with opened(found) as window:
        if window.size > limits.header:
            raise window.bad(f"has {window.size:,} bytes, more than {limits.header:,}")
        said = parse_json(window.take(window.size, "the configuration"), folder / CONFIG, limits=limits)
    if not isinstance(said, dict):
        raise BadFileError(folder / CONFIG, "is no configuration: it is no JSON object")
    return cast("dict[str, Any]", said)


# -- tied arrays ---------------------------------------------------------------------------------------------------
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight", "cls.predictions.decoder.weight")
_TABLES = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "shared.weight",
)


def _tied(
    tensors: tuple[Tensor, ...], config: Mapping[str, Any]
) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """Tie the output's matrix to the table of embeddings where the configuration says so."""
    if not _says_tied(config):
        return tensors, ()
    table = next((t for t in tensors if t.name.endswith(_TABLES)), None)
    head = next((t for t in tensors if t.name in _HEADS), None)
    if table is None or (head is None and not _has_head(config)):
        return tensors, ()
    if head is None:
        return tensors, (
            f"The output layer uses the table {table.name!r} again (tie_word_embeddings), so the file has no array "
            "for it.",
        )
    is_told = head.alias_of is not None or table.alias_of is not None  # the file itself says which it has
    if is_told or (head.shape, head.dtype) != (table.shape, table.dtype):
        return tensors, ()
    note = "tie_word_embeddings: the file stores the table twice, the model has it once."
    tied = replace(head, alias_of=table.name, notes=(*head.notes, note))
    return tuple(tied if tensor is head else tensor for tensor in tensors), ()


_WITH_HEAD = (
    r"LMHead|DoubleHeads|MTModel|ForPreTraining|For(Causal|Masked|Prefix)?LM|For(Conditional|Text)Generation"
)
"""Classes of models that end in a layer with a number for each word; `BertModel` ends before it."""


def _has_head(config: Mapping[str, Any]) -> bool:
    """Whether the class of the model is one with an output layer; so it is taken where the class isn't told."""
    said = config.get("architectures")
    names = cast("list[Any]", said)[:_MOST_CLASSES] if isinstance(said, list) else []
    kinds = [name for name in names if isinstance(name, str)]
    return not kinds or any(re.search(_WITH_HEAD, kind[:_LONGEST_CLASS]) for kind in kinds)


_MOST_CLASSES, _LONGEST_CLASS = 16, 200


def _says_tied(config: Mapping[str, Any]) -> bool:
    inner = config.get("text_config")
    said: Any = config.get("tie_word_embeddings")
    if said is None and isinstance(inner, dict):
        said = cast("dict[str, Any]", inner).get("tie_word_embeddings")
    return said is True


# -- quantisation --------------------------------------------------------------------------------------------------
_UNDERSTOOD = (
    "awq",
    "bitnet",
    "bitsandbytes",
    "compressed-tensors",
    "fbgemm_fp8",
    "fp8",
    "gptq",
    "mxfp4",
    "modelopt",
)


def _not_unpacked(tensors: tuple[Tensor, ...], config: Mapping[str, Any]) -> Iterator[str]:
    """Say where the configuration tells of a quantisation that couldn't be seen in the arrays."""
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return
    method = cast("dict[str, Any]", said).get("quant_method")
    method = method if isinstance(method, str) else "a method without a name"
    if method not in _UNDERSTOOD:
        yield (
            f"Quantised by {method[:40]!r}, which isn't known here: packed arrays are counted as they are stored, "
            "and the model has more parameters than that."
        )
    elif not any(note.startswith("Quantised") for tensor in tensors for note in tensor.notes):
        yield f"The configuration says {method!r}, but no array looks quantised: each is counted as it is stored."
