"""What a decoder keeps of the tokens it has read: its keys and values, by the sizes that its configuration says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tally.accounting.ledger import Ledger, bits


@dataclass(frozen=True, slots=True)
class KeyValueCache:
    """The sizes of a cache of keys and values.

    Args:
        layers: How many layers have one.
        heads: How many heads of keys a layer has.
        key_size: The numbers of a key.
        value_size: The numbers of a value.
        dtype: The type of one.
        context: The most tokens the model reads; None where that isn't said.

    Example:
        >>> KeyValueCache(32, 8, 128, 128, "bfloat16", 8192).per_token
        131072
    """

    layers: int
    heads: int
    key_size: int
    value_size: int
    dtype: str
    context: int | None = None

    @property
    def per_token(self) -> int:
        """Bytes for each token of each sequence."""
        return self.layers * self.heads * (self.key_size + self.value_size) * bits(self.dtype) // 8


def cache_of(ledger: Ledger, dtype: str) -> KeyValueCache | None:
    """Find the cache of a decoder whose configuration says its sizes; None for any other model.

    Args:
        ledger: A model whose outermost owner has the options of a Hugging Face configuration or the keys of GGUF.
        dtype: What keys and values are computed in.

    Example:
        >>> from tally.accounting.ledger import Owner
        >>> sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
        >>> model = Owner(path="", type="LlamaForCausalLM", options=tuple(sizes.items()))
        >>> cache_of(Ledger(name="m", source="safetensors", owners=(model,)), "bfloat16").per_token
        128
    """
    model = next((owner for owner in ledger.owners if owner.path == ""), None)
    if model is None or not (
        model.type.endswith(("ForCausalLM", "LMHeadModel")) or ledger.source.startswith("GGUF")
    ):
        return None
    said = dict(model.options)
    if said.keys() & _OTHERWISE or said.get("is_encoder_decoder"):
        return None
    layers, heads = _first(said, "num_hidden_layers", "n_layer", "block_count"), _first(said, *_HEADS)
    width = _first(said, "hidden_size", "n_embd", "embedding_length")
    if layers is None or heads is None or width is None:
        return None
    size = _first(said, "head_dim", "attention.key_length") or width // heads
    return KeyValueCache(
        layers=layers,
        heads=_first(said, "num_key_value_heads", "n_head_kv", "attention.head_count_kv") or heads,
        key_size=size,
        value_size=_first(said, "attention.value_length") or size,
        dtype=dtype,
        context=_first(said, "max_position_embeddings", "n_positions", "context_length"),
    )


_HEADS = ("num_attention_heads", "n_head", "attention.head_count")
_OTHERWISE = frozenset(
    ("kv_lora_rank", "attention.kv_lora_rank", "state_size", "ssm.state_size", "attn_layer_period")
)
"""What only models have that keep something else than keys and values in each layer."""


def _first(said: Mapping[str, Any], *names: str) -> int | None:
    found = (said.get(name) for name in names)
    return next((value for value in found if type(value) is int and value > 0), None)
