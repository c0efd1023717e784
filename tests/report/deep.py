"""Ledgers of deep models, written by hand: blocks with layers inside, many times over."""

from dataclasses import replace

from accounting.written import Part, dense, entry, ledger, plain
from tally.accounting import Ledger, Owner


def norm(path: str, size: int) -> Part:
    owner = Owner(path=path, type="LayerNormalization", output_shapes=((None, 8, size),))
    return owner, tuple(entry(path, name, (size,), "features") for name in ("gamma", "beta"))


def stepwise(path: str, size: int) -> Part:
    owner, weights = dense(path, size, size)
    return replace(owner, input_shapes=((None, 8, size),), output_shapes=((None, 8, size),)), weights


def holder(path: str, kind: str, size: int, **more) -> Part:
    return Owner(path=path, type=kind, output_shapes=((None, 8, size),), **more), ()


def block(path: str, size: int) -> list[Part]:
    """A block with a normalisation, an attention of two projections, a dense layer and a dropout."""
    return [
        holder(path, "Block", size, builtin=False, origin="model.py:7"),
        norm(f"{path}/norm1", size),
        holder(f"{path}/attention", "Attention", size, builtin=False),
        *(stepwise(f"{path}/attention/{name}", size) for name in ("query", "value")),
        stepwise(f"{path}/up", size),
        plain(f"{path}/dropout", "Dropout", (8, size), (8, size), rate=0.1),
    ]


def blocks(number: int, size: int = 16, name: str = "blocks/{}") -> Ledger:
    """A model with a weight of its own, an embedding, blocks that are alike, and a head tied to the embedding."""
    own = (
        Owner(path="", name="deep", type="Deep", builtin=False),
        (entry("", "position", (8, size), "positions", "features"),),
    )
    table = entry("tokens", "embeddings", (50, size), "tokens", "features")
    tied = replace(table, path="head/embeddings", owner="head", shared_with=table.path)
    parts = [part for place in range(number) for part in block(name.format(place), size)]
    return ledger(
        "deep",
        own,
        (Owner(path="tokens", type="Embedding", output_shapes=((None, 8, size),)), (table,)),
        *parts,
        (Owner(path="head", type="Head", builtin=False, output_shapes=((None, 8, 50),)), (tied,)),
    )
