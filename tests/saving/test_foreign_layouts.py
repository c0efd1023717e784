"""Weights that other libraries hold fused, apart or the other way round: they compute the same here."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tally
from saving.test_foreign import assert_close, numbers, shuffled
from tally.core.errors import SavingError
from tally.formats import tensorflow

L = tally.layers
nn = torch.nn


# -- attention in one matrix ---------------------------------------------------------------------------------------
class Conv1D(nn.Module):
    """GPT-2's linear layer: its matrix has the inputs first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(inputs, outputs)), nn.Parameter(torch.ones(outputs))

    def forward(self, x: Any) -> Any:
        return x @ self.weight + self.bias


def attend(q: Any, k: Any, v: Any) -> Any:
    found = nn.functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
    return found.transpose(1, 2).flatten(2)


class GPT2Attention(nn.Module):
    def __init__(self, linear: Any) -> None:
        super().__init__()
        self.c_attn, self.c_proj = linear(8, 24), linear(8, 8)

    def forward(self, x: Any) -> Any:
        return self.c_proj(attend(*(part.unflatten(2, (2, 4)) for part in self.c_attn(x).split(8, 2))))


class NeoXAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query_key_value, self.dense = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        """Each head has its query, key and value side by side."""
        return self.dense(attend(*self.query_key_value(x).unflatten(2, (2, 12)).split(4, 3)))


class Block(nn.Module):
    def __init__(self, attention: Any, linear: Any, names: tuple[str, str]) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(8), attention, nn.LayerNorm(8)
        self.mlp = nn.ModuleDict({names[0]: linear(8, 32), names[1]: linear(32, 8)})

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        first, second = self.mlp.values()
        return x + second(torch.relu(first(self.ln_2(x))))


def fused(kind: str) -> Any:
    def block() -> Any:
        if kind == "neox":
            return Block(NeoXAttention(), nn.Linear, ("dense_h_to_4h", "dense_4h_to_h"))
        linear = Conv1D if kind == "gpt2" else nn.Linear
        return Block(GPT2Attention(linear), linear, ("c_fc", "c_proj"))

    return shuffled(nn.Sequential(block(), block()))


def transformer(heads: tuple[int, int] = (2, 2)) -> Any:
    inputs = x = tally.Input((6, 8))
    for count in heads:
        y = L.LayerNormalization(epsilon=1e-5)(x)
        x = x + L.MultiHeadAttention(count, 8 // count)(y, y)
        y = L.Dense(32, "relu")(L.LayerNormalization(epsilon=1e-5)(x))
        x = x + L.Dense(8)(y)
    return tally.Model(inputs, x)


@pytest.mark.parametrize("kind", ["gpt2", "nanogpt", "neox"])
def test_attention_in_one_matrix_computes_the_same(kind: str, tmp_path: Path) -> None:
    module, model = fused(kind), transformer()
    x = numbers(2, 6, 8)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    for source in (module, tmp_path / "m.pt"):
        for weight in model.weights:
            weight.assign(np.zeros(weight.shape))
        report = model.load_weights(source)
        assert_close(model(x), module(torch.tensor(x)))
        assert not report.left
    (query,) = (one for one in report.matched if one.path == "multi_head_attention/query_dense/kernel")
    assert (
        query.done
        == {
            "gpt2": ("split in 3",),
            "nanogpt": ("split in 3", "transposed"),
            "neox": ("split in 3 in each of 2 heads", "transposed"),
        }[kind]
    )


def test_heads_that_are_not_the_same_everywhere_are_not_guessed() -> None:
    module, model = fused("neox"), transformer((2, 4))
    before = model.get_weights()
    with pytest.raises(SavingError, match="don't fit"):
        model.load_weights(module)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


# -- Flax's cells --------------------------------------------------------------------------------------------------
def values(tree: Any) -> Any:
    """The same tree with numbers that all differ."""
    import jax

    generator = np.random.default_rng(0)
    return jax.tree.map(lambda one: generator.uniform(-0.9, 0.9, one.shape).astype("float32"), tree)


CELLS = {
    "LSTMCell": L.LSTM,
    "OptimizedLSTMCell": L.LSTM,
    "GRUCell": L.GRU,
    "SimpleCell": L.SimpleRNN,
}


@pytest.mark.parametrize("name", CELLS)
def test_the_cells_of_linen_compute_the_same(name: str) -> None:
    linen = pytest.importorskip("flax.linen")
    import jax

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.RNN(getattr(linen, name)(5))(x)
            return linen.Dense(2)(linen.RNN(getattr(linen, name)(3))(x))

    x = numbers(2, 6, 4)
    variables = values(Net().init(jax.random.key(0), x))
    make = CELLS[name]
    model = tally.Sequential(
        [tally.Input((6, 4)), *(make(n, return_sequences=True) for n in (5, 3)), L.Dense(2)]
    )
    report = model.load_weights(variables)
    np.testing.assert_allclose(
        np.asarray(model(x)), np.asarray(Net().apply(variables, x)), rtol=1e-5, atol=1e-5
    )
    assert not report.left


@pytest.mark.parametrize("name", CELLS)
def test_the_cells_of_nnx_compute_the_same(name: str) -> None:
    nnx = pytest.importorskip("flax.nnx")
    import jax

    module = nnx.RNN(getattr(nnx, name)(4, 3, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    generator = np.random.default_rng(0)
    state = jax.tree.map(
        lambda one: generator.uniform(-0.9, 0.9, one.shape).astype("float32"), nnx.state(module, nnx.Param)
    )
    nnx.update(module, state)
    model = tally.Sequential([tally.Input((6, 4)), CELLS[name](3, return_sequences=True)])
    x = numbers(2, 6, 4)
    for source in (nnx.state(module), nnx.to_pure_dict(nnx.state(module))):
        for weight in model.weights:
            weight.assign(np.zeros(weight.shape))
        model.load_weights(source)
        np.testing.assert_allclose(np.asarray(model(x)), np.asarray(module(x)), rtol=1e-5, atol=1e-5)


def test_a_gru_that_resets_before_takes_none_of_flax() -> None:
    linen = pytest.importorskip("flax.linen")
    import jax

    variables = linen.RNN(linen.GRUCell(3)).init(jax.random.key(0), numbers(2, 6, 4))
    model = tally.Sequential([tally.Input((6, 4)), L.GRU(3, reset_after=False)])
    with pytest.raises(SavingError, match="don't fit"):
        model.load_weights(variables)


# -- slopes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("slopes", [1, 3])
def test_slopes_compute_the_same(slopes: int, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.PReLU(slopes), nn.Flatten(), nn.Linear(75, 4), nn.PReLU(4))
    shuffled(module)
    shared = [1, 2] if slopes > 1 else [1, 2, 3]
    model = tally.Sequential(
        [
            tally.Input((5, 5, 2)),
            L.Conv2D(3, 1),
            L.PReLU(shared_axes=shared),
            L.Flatten(),
            L.Dense(4),
            L.PReLU(),
        ]
    )
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    x = numbers(2, 5, 5, 2)
    for source in (module, tmp_path / "m.safetensors"):
        model.load_weights(source)
        assert_close(model(x), module(torch.tensor(np.moveaxis(x, -1, 1).copy())))


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_the_slope_of_flax_computes_the_same(library: str) -> None:
    linen, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx")
    x = numbers(2, 4)
    module = nnx.PReLU(0.25)
    source = {"params": {"negative_slope": np.float32(0.25)}} if library == "linen" else nnx.state(module)
    want = linen.PReLU().apply(source, x) if library == "linen" else module(x)
    model = tally.Sequential([tally.Input((4,)), L.PReLU(shared_axes=[1])])
    model.load_weights(source)
    np.testing.assert_allclose(np.asarray(model(x)), np.asarray(want), rtol=1e-5, atol=1e-5)


# -- TensorFlow ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("archive", "name"), [("trained", "model-1"), ("trained", ""), ("exported", "")])
def test_a_checkpoint_of_tensorflow_gives_its_values(archive: str, name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parents[1] / "formats" / "data" / f"{archive}.zip") as packed:
        packed.extractall(tmp_path)
    model = tally.Sequential(
        [
            tally.Input((6, 6, 2)),
            L.Conv2D(4, 3, name="stem"),
            L.BatchNormalization(name="norm"),
            L.DepthwiseConv2D(3, name="deep"),
            L.Flatten(),
            L.Dense(3, name="head"),
        ]
    )
    report = model.load_weights(tmp_path / name)
    assert report.ways == {"name": 10}
    held = {tensor.name: tensor.span for tensor in tensorflow.read(tmp_path / name).tensors}
    for variable in model.weights:
        span = held[f"tiny/{variable.path}"]
        assert span is not None
        data = span.file.read_bytes()[span.start : span.start + span.nbytes]
        np.testing.assert_array_equal(np.asarray(variable.value).ravel(), np.frombuffer(data, "<f4"))
