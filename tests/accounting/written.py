"""Ledgers written by hand: the models of well-known questions, and one for each thing a ledger can say."""

from dataclasses import replace
from typing import Any

from tally.accounting import Entry, Ledger, Owner

Part = tuple[Owner, tuple[Entry, ...]]
IMAGE = ("kernel height", "kernel width", "input channels", "filters")


def ledger(name: str, *parts: Part) -> Ledger:
    owners = tuple(owner for owner, _ in parts)
    return Ledger(name=name, owners=owners, entries=tuple(entry for _, entries in parts for entry in entries))


def entry(owner: str, name: str, shape: tuple[int, ...], *axes: str, **more: Any) -> Entry:
    return Entry(path=f"{owner}/{name}".lstrip("/"), owner=owner, name=name, shape=shape, axes=axes, **more)


def conv2d(
    path: str, before: tuple, filters: int, kernel: int, after: tuple, bias: bool = True, **options: Any
) -> Part:
    entries = [entry(path, "kernel", (kernel, kernel, before[-1], filters), *IMAGE)]
    if bias:
        entries.append(entry(path, "bias", (filters,), "filters"))
    settings = {
        "filters": filters,
        "kernel_size": (kernel, kernel),
        "strides": (1, 1),
        "padding": "valid",
        **options,
    }
    owner = Owner(
        path=path,
        type="Conv2D",
        input_shapes=((None, *before),),
        output_shapes=((None, *after),),
        options=tuple(settings.items()),
    )
    return owner, tuple(entries)


def dense(path: str, features: int, units: int) -> Part:
    owner = Owner(
        path=path,
        type="Dense",
        input_shapes=((None, features),),
        output_shapes=((None, units),),
        options=(("units", units),),
    )
    kernel = entry(path, "kernel", (features, units), "features", "units")
    return owner, (kernel, entry(path, "bias", (units,), "units"))


def plain(path: str, kind: str, before: tuple, after: tuple, **options: Any) -> Part:
    owner = Owner(
        path=path,
        type=kind,
        status="no weights",
        input_shapes=((None, *before),),
        output_shapes=((None, *after),),
        options=tuple(options.items()),
    )
    return owner, ()


def max_pooling(path: str, before: tuple, after: tuple) -> Part:
    return plain(path, "MaxPooling2D", before, after, pool_size=(2, 2), strides=(2, 2), padding="valid")


def batch_normalization(path: str, channels: int) -> Part:
    owner = Owner(path=path, type="BatchNormalization", output_shapes=((None, 8, 8, channels),))
    weights = tuple(entry(path, name, (channels,), "channels") for name in ("gamma", "beta"))
    moving = ("moving_mean", "moving_variance")
    return owner, (*weights, *(entry(path, name, (channels,), "channels", state="state") for name in moving))


def frozen(part: Part, by: str) -> Part:
    """Switch a part off: what was trainable is frozen."""
    owner, entries = part
    return owner, tuple(
        replace(e, state="frozen", frozen_by=by) if e.state == "trainable" else e for e in entries
    )


def again(part: Part, path: str) -> Part:
    """List a part a second time, sharing what is counted at its first."""
    owner, entries = part
    copies = tuple(replace(e, path=f"{path}/{e.name}", owner=path, shared_with=e.path) for e in entries)
    return replace(owner, path=path, shared_with=owner.path), copies


def mnist() -> Ledger:
    return ledger(
        "mnist",
        conv2d("conv2d", (28, 28, 1), 32, 3, (26, 26, 32)),
        max_pooling("max_pooling2d", (26, 26, 32), (13, 13, 32)),
        conv2d("conv2d_1", (13, 13, 32), 64, 3, (11, 11, 64)),
        max_pooling("max_pooling2d_1", (11, 11, 64), (5, 5, 64)),
        plain("flatten", "Flatten", (5, 5, 64), (1600,)),
        plain("dropout", "Dropout", (1600,), (1600,), rate=0.5),
        dense("dense", 1600, 10),
    )


def naive_linear() -> Ledger:
    """A custom layer that makes its weights in `call`."""
    owner = Owner(
        path="naive_linear",
        type="NaiveLinear",
        builtin=False,
        status="no weights",
        input_shapes=((None, 10),),
        output_shapes=((None, 5),),
        options=(("units", 5),),
        origin="model.py:15",
    )
    lost = (
        entry("naive_linear", "w", (10, 5), state="untracked", origin="model.py:10"),
        entry("naive_linear", "b", (5,), state="untracked", origin="model.py:11"),
    )
    return ledger("naive", (owner, lost))


def correct_linear() -> Ledger:
    """The same layer with its weights made in `build`, their axes unnamed."""
    owner = replace(
        naive_linear().owners[0], path="linear", name="linear", type="CorrectLinear", status="built"
    )
    return ledger("correct", (owner, (entry("linear", "w", (10, 5)), entry("linear", "b", (5,)))))


def unbuilt() -> Ledger:
    waiting = Owner(
        path="conv2d_1",
        type="Conv2D",
        status="unbuilt",
        options=(("filters", 32), ("kernel_size", (3, 3)), ("use_bias", True)),
    )
    head = Owner(path="dense", type="Dense", status="unbuilt", options=(("units", 10), ("use_bias", False)))
    return ledger("half", conv2d("conv2d", (28, 28, 1), 32, 3, (26, 26, 32)), (waiting, ()), (head, ()))


def siamese() -> Ledger:
    """A graph that branches, with one layer used twice and a merge."""
    tower = conv2d("tower", (28, 28, 1), 32, 3, (26, 26, 32))
    left, right = (
        plain("left", "InputLayer", (28, 28, 1), (28, 28, 1)),
        plain("right", "InputLayer", (28, 28, 1), (28, 28, 1)),
    )
    merge = plain("concatenate", "Concatenate", (26, 26, 32), (26, 26, 64))
    merge = (replace(merge[0], input_shapes=merge[0].input_shapes * 2), ())
    parts = (
        left,
        right,
        _fed(tower, "left"),
        _fed(again(tower, "tower_1"), "right"),
        _fed(merge, "tower", "tower_1"),
    )
    return ledger("siamese", *parts)


def transfer() -> Ledger:
    """A frozen backbone with batch normalisation, a trainable head, dropout's seed, an optimizer."""
    backbone = (Owner(path="backbone", type="Functional", output_shapes=((None, 26, 26, 32),)), ())
    inside = (
        conv2d("backbone/conv2d", (28, 28, 3), 32, 3, (26, 26, 32)),
        batch_normalization("backbone/norm", 32),
    )
    drop = plain("dropout", "Dropout", (32,), (32,))
    seed = (entry("dropout", "seed", (2,), dtype="uint32", state="seed"),)
    head, weights = dense("dense", 32, 10)
    half = tuple(replace(weight, dtype="bfloat16") for weight in weights)
    momentum = tuple(
        replace(weight, path=f"optimizer/{weight.path}", state="optimizer", dtype="float32")
        for weight in weights
    )
    return ledger(
        "transfer",
        backbone,
        *(frozen(part, "backbone") for part in inside),
        plain("pool", "GlobalAveragePooling2D", (26, 26, 32), (32,)),
        (drop[0], seed),
        (head, half + momentum),
    )


def _fed(part: Part, *inputs: str) -> Part:
    return replace(part[0], inputs=inputs), part[1]
