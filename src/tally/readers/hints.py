"""What a file says of the model as a whole that names and shapes don't: its heads, its kind of normalisation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What a configuration says of every layer of a kind.

    Args:
        kind: What the model is called: a class, or an architecture.
        rms: Whether a normalisation is by the root mean square; None where nothing says so.
        heads: How many heads an attention has.
        key_heads: How many of them have keys and values of their own.
        sizes: The whole numbers and switches of the configuration.
    """

    kind: str = "Model"
    rms: bool | None = None
    heads: int | None = None
    key_heads: int | None = None
    sizes: tuple[tuple[str, Any], ...] = ()


def hints_of(metadata: Mapping[str, Any]) -> Hints:
    """Read the hints in what a file says besides its arrays: a `config`, or the keys of GGUF.

    Example:
        >>> found = hints_of({"config": {"rms_norm_eps": 1e-6, "num_attention_heads": 8, "model_type": "llama"}})
        >>> found.kind, found.rms, found.heads
        ('llama', True, 8)
    """
    config = metadata.get("config")
    if not isinstance(config, Mapping):
        return _of_keys(metadata)
    said = cast("Mapping[str, Any]", config)
    kinds = said.get("architectures")
    kind = cast("list[Any]", kinds)[0] if isinstance(kinds, list) and kinds else said.get("model_type")
    return Hints(
        kind=kind if isinstance(kind, str) and kind else "Model",
        rms=_is_rms(said),
        heads=_count(said, "num_attention_heads", "n_head", "n_heads"),
        key_heads=_count(said, "num_key_value_heads", "n_head_kv", "num_kv_heads"),
        sizes=tuple(_plain(said)),
    )


def _of_keys(metadata: Mapping[str, Any]) -> Hints:
    kind = metadata.get("general.architecture")
    if not isinstance(kind, str) or not kind:
        return Hints()
    said = {
        key.removeprefix(f"{kind}."): value for key, value in metadata.items() if key.startswith(f"{kind}.")
    }
    return Hints(
        kind=kind,
        rms=True
        if "attention.layer_norm_rms_epsilon" in said
        else False
        if "attention.layer_norm_epsilon" in said
        else None,
        heads=_count(said, "attention.head_count"),
        key_heads=_count(said, "attention.head_count_kv"),
        sizes=tuple(_plain(said)),
    )


def _is_rms(said: Mapping[str, Any]) -> bool | None:
    if "rms_norm_eps" in said or "rms_norm_epsilon" in said:
        return True
    return False if {"layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon"} & said.keys() else None


def _count(said: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = said.get(name)
        if type(value) is int and 0 < value < 2**31:
            return value
    return None


_MOST = 100


def _plain(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The numbers and switches, in order; texts and lists say nothing of sizes."""
    found = 0
    for name, value in said.items():
        if type(value) in (int, bool) and found < _MOST and abs(value) < 2**63:
            found += 1
            yield name, value
