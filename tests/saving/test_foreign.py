"""Weights of other libraries in models of this one: the same outputs, each step told, nothing ambiguous let through."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model

import tally
from tally.core.errors import SavingError
from tally.formats.errors import BadFileError

L = tally.layers
nn = torch.nn


def shuffled(module: Any, seed: int = 0) -> Any:
    """A module with weights that differ from each other, statistics included, that is not training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.6 + 0.2)
                value[::2] *= -1 if value.ndim > 1 else 1
    return module.eval()


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def channels_first(x: np.ndarray) -> Any:
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def assert_close(one: Any, other: Any) -> None:
    np.testing.assert_allclose(np.asarray(one), other.detach().numpy(), rtol=1e-5, atol=1e-5)


# -- the same outputs ----------------------------------------------------------------------------------------------
def perceptron() -> tuple[Any, Any]:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    model = tally.Sequential([tally.Input((4,)), L.Dense(8, "relu"), L.Dense(8, "relu"), L.Dense(3)])
    return shuffled(module), model


class Convnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 8, 3, groups=4)
        self.grouped = nn.Conv2d(8, 6, 1, groups=2)
        self.up = nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.head = nn.Linear(4 * 6 * 5, 7)
        self.last = nn.BatchNorm1d(7)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.up(self.grouped(self.depthwise(x))[:, :, :2, :3])
        return self.last(self.head(torch.flatten(x, 1)))


def convnet() -> tuple[Any, Any]:
    inputs = tally.Input((7, 8, 3))
    x = L.BatchNormalization(epsilon=1e-5)(L.Conv2D(4, 3, use_bias=False)(inputs))
    x = L.DepthwiseConv2D(3, depth_multiplier=2)(L.ReLU()(x))
    x = L.Conv2D(6, 1, groups=2)(x)[:, :2, :3]
    x = L.Flatten()(L.Conv2DTranspose(5, 2, strides=2)(x))
    x = L.BatchNormalization(epsilon=1e-5)(L.Dense(7)(L.Dropout(0.5)(x)))
    return shuffled(Convnet()), tally.Model(inputs, x)


def test_a_perceptron_computes_the_same() -> None:
    module, model = perceptron()
    report = model.load_weights(module)
    x = numbers(5, 4)
    assert_close(model(x), module(torch.tensor(x)))
    assert report.ways == {"order": 6}
    assert report.matched[0].done == ("transposed",)


def test_a_convnet_computes_the_same() -> None:
    module, model = convnet()
    report = model.load_weights(module)
    x = numbers(2, 7, 8, 3)
    assert_close(model.predict(x, verbose=0), module(channels_first(x)))
    (head,) = (match for match in report.matched if match.path == "dense/kernel")
    assert head.done == ("transposed", "rows from channels first to channels last")
    assert [one.harmless for one in report.left] == [True, True]


def test_a_normalisation_behind_a_flattening_is_reordered_too() -> None:
    module = shuffled(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 5)))
    model = tally.Sequential(
        [tally.Input((2, 2, 3)), L.Flatten(), L.BatchNormalization(epsilon=1e-5), L.Dense(5)]
    )
    model.load_weights(module)
    x = numbers(2, 2, 2, 3)
    assert_close(model.predict(x, verbose=0), module(channels_first(x)))


def test_the_flattening_of_a_model_of_ones_own_is_found() -> None:
    class Net(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.flatten, self.head = L.Flatten(), L.Dense(5)

        def call(self, x: Any) -> Any:
            return self.head(self.flatten(x))

    module, model = shuffled(nn.Sequential(nn.Flatten(), nn.Linear(12, 5))), Net()
    x = numbers(2, 2, 2, 3)
    model(x)
    model.load_weights(module)
    assert_close(model(x), module(channels_first(x)))


@pytest.mark.parametrize(
    ("sides", "kind"), [(1, "Conv1d"), (3, "Conv3d"), (1, "ConvTranspose1d"), (3, "ConvTranspose3d")]
)
def test_convolutions_of_other_ranks_compute_the_same(sides: int, kind: str) -> None:
    module = shuffled(getattr(nn, kind)(3, 4, 2))
    name = f"Conv{sides}D" + ("Transpose" if "Transpose" in kind else "")
    model = tally.Sequential([tally.Input((*(5,) * sides, 3)), getattr(L, name)(4, 2)])
    model.load_weights(nn.Sequential(module))
    x = numbers(2, *(5,) * sides, 3)
    np.testing.assert_allclose(
        np.asarray(model(x)),
        np.moveaxis(module(channels_first(x)).detach().numpy(), 1, -1),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_separable_convolution_takes_two() -> None:
    module = shuffled(nn.Sequential(nn.Conv2d(3, 6, 2, groups=3, bias=False), nn.Conv2d(6, 4, 1)))
    model = tally.Sequential([tally.Input((5, 5, 3)), L.SeparableConv2D(4, 2, depth_multiplier=2)])
    model.load_weights(module)
    x = numbers(2, 5, 5, 3)
    want = np.moveaxis(module(channels_first(x)).detach().numpy(), 1, -1)
    np.testing.assert_allclose(np.asarray(model(x)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent_layers_compute_the_same(kind: str, bias: bool) -> None:
    module = shuffled(getattr(nn, kind)(4, 3, num_layers=2, batch_first=True, bias=bias))
    make: Callable[..., Any] = {"LSTM": L.LSTM, "GRU": L.GRU, "RNN": L.SimpleRNN}[kind]
    model = tally.Sequential(
        [tally.Input((6, 4)), *(make(3, return_sequences=True, use_bias=bias) for _ in range(2))]
    )
    report = model.load_weights(module)
    x = numbers(2, 6, 4)
    assert_close(model(x), module(torch.tensor(x))[0])
    biases = [match for match in report.matched if match.path.endswith("bias")]
    assert len(biases) == (2 if bias else 0)
    assert all(len(match.sources) == 2 for match in biases)


def test_a_recurrent_layer_in_both_directions_computes_the_same() -> None:
    module = shuffled(nn.LSTM(4, 4, batch_first=True, bidirectional=True))
    model = tally.Sequential([tally.Input((6, 4)), L.Bidirectional(L.LSTM(4, return_sequences=True))])
    model.load_weights(module)
    x = numbers(2, 6, 4)
    assert_close(model(x), module(torch.tensor(x))[0])


def test_a_gru_of_one_bias_says_why_it_takes_none_of_two() -> None:
    model = tally.Sequential([tally.Input((6, 4)), L.GRU(3, reset_after=False, name="gate")])
    with pytest.raises(SavingError, match="nothing fits"):
        model.load_weights(shuffled(nn.GRU(4, 3)))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(block, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, 11)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder(self.embed(x)))


def encoder() -> tuple[Any, Any]:
    def norm() -> Any:
        return L.LayerNormalization(epsilon=1e-5)

    inputs = tally.Input((6,), dtype="int32")
    x = L.Embedding(11, 8)(inputs)
    for _ in range(2):
        x = norm()(x + L.MultiHeadAttention(2, 4)(x, x))
        x = norm()(x + L.Dense(8)(L.Dense(16, "relu")(x)))
    return shuffled(Encoder()), tally.Model(inputs, L.Dense(11)(norm()(x)))


def test_a_transformer_computes_the_same() -> None:
    module, model = encoder()
    report = model.load_weights(module)
    x = np.arange(12).reshape(2, 6) % 11
    assert_close(model(x), module(torch.tensor(x)))
    (query,) = (match for match in report.matched if match.path == "multi_head_attention/query_dense/kernel")
    assert query.sources == ("encoder.layers.0.self_attn.in_proj_weight",)
    assert query.done == ("split in 3", "transposed")
    assert not report.missing
    assert not report.left


def test_projections_of_their_own_go_by_their_names(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k_proj, self.v_proj, self.q_proj, self.o_proj = (nn.Linear(8, 8) for _ in range(4))

        def forward(self, x: Any) -> Any:
            q, k, v = (
                f(x).reshape(2, 6, 2, 4).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj)
            )
            attended = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.o_proj(attended.transpose(1, 2).reshape(2, 6, 8))

    module = shuffled(Attention())
    inputs = tally.Input((6, 8))
    model = tally.Model(inputs, L.MultiHeadAttention(2, 4)(inputs, inputs))
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    x = numbers(2, 6, 8)
    for source in (module, tmp_path / "a.safetensors"):
        for weight in model.weights:
            weight.assign(np.zeros(weight.shape))
        model.load_weights(source)
        assert_close(model(x), module(torch.tensor(x)))


# -- kinds of sources ----------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("form", ["state dict", "zip", "old", "checkpoint", "bin folder", "jit"])
def test_every_form_of_pytorch_gives_the_same_weights(tmp_path: Path, form: str, monkeypatch: Any) -> None:
    module, model = convnet()
    path: Any = tmp_path / "m.pt"
    if form == "state dict":
        path = module.state_dict()
    elif form == "zip":
        torch.save(module.state_dict(), path)
    elif form == "old":
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    elif form == "checkpoint":
        optimizer = torch.optim.Adam(module.parameters())
        torch.save({"epoch": 3, "state_dict": module.state_dict(), "optimizer": optimizer.state_dict()}, path)
    elif form == "bin folder":
        torch.save(module.state_dict(), tmp_path / "pytorch_model.bin")
        (tmp_path / "config.json").write_text('{"model_type": "own"}')
        path = tmp_path
    else:
        torch.jit.trace(module, torch.zeros(1, 3, 7, 8)).save(path)
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("something was unpickled"))
    model.load_weights(path)
    x = numbers(2, 7, 8, 3)
    assert_close(model.predict(x, verbose=0), module(channels_first(x)))


def test_a_view_with_strides_is_read_in_its_order(tmp_path: Path) -> None:
    weight = torch.arange(12.0).reshape(4, 3).t()
    torch.save({"d.weight": weight, "d.bias": torch.arange(20.0)[5:14:3]}, tmp_path / "m.pt")
    model = tally.Sequential([tally.Input((4,)), L.Dense(3)])
    model.load_weights(tmp_path / "m.pt")
    np.testing.assert_array_equal(model.get_weights()[0], weight.numpy().T)
    np.testing.assert_array_equal(model.get_weights()[1], [5, 8, 11])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_short_types_are_read_exactly(tmp_path: Path, dtype: Any) -> None:
    state = {"d.weight": (torch.arange(12.0).reshape(3, 4) / 4).to(dtype), "d.bias": torch.ones(3).to(dtype)}
    torch.save(state, tmp_path / "m.pt")
    save_file(state, tmp_path / "m.safetensors")
    for source in (state, tmp_path / "m.pt", tmp_path / "m.safetensors"):
        model = tally.Sequential([tally.Input((4,)), L.Dense(3)])
        model.load_weights(source)
        np.testing.assert_array_equal(model.get_weights()[0], state["d.weight"].float().numpy().T)


def test_a_hub_folder_in_several_files_is_read(tmp_path: Path) -> None:
    import json

    module, model = perceptron()
    state = module.state_dict()
    placed = {name: f"model-0000{1 + (place > 2)}-of-00002.safetensors" for place, name in enumerate(state)}
    for file in set(placed.values()):
        save_file({name: state[name] for name in state if placed[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    (tmp_path / "config.json").write_text("{}")
    model.load_weights(tmp_path)
    x = numbers(5, 4)
    assert_close(model(x), module(torch.tensor(x)))


def test_a_keras_model_computes_the_same() -> None:
    keras = pytest.importorskip("keras")

    def make(lib: Any) -> Any:
        layers = lib.layers
        inputs = lib.Input((6, 6, 3))
        x = layers.BatchNormalization()(layers.SeparableConv2D(4, 3)(inputs))
        x = layers.Reshape((4, 16))(layers.Conv2DTranspose(4, 1)(x))
        x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(x, x))
        x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
        return lib.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.GRU(3, return_sequences=True)(x))))

    other, model = make(keras), make(tally)
    generator = np.random.default_rng(0)
    for variable in other.weights:
        variable.assign(generator.uniform(0.1, 0.9, variable.shape))
    report = model.load_weights(other)
    x = numbers(2, 6, 6, 3)
    np.testing.assert_allclose(np.asarray(model(x)), np.asarray(other(x)), rtol=1e-5, atol=1e-5)
    assert not report.notes


def test_flax_parameters_compute_the_same(tmp_path: Path) -> None:
    linen = pytest.importorskip("flax.linen")
    import jax
    from safetensors.flax import save_file as save_flax

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.BatchNorm(use_running_average=True)(linen.Conv(4, (3, 3), padding="VALID")(x))
            x = linen.ConvTranspose(5, (2, 2), strides=(2, 2), padding="VALID")(x)
            x = linen.Conv(10, (2, 2), feature_group_count=5, padding="VALID")(x)
            return linen.Dense(3)(linen.LayerNorm()(x).reshape(x.shape[0], -1))

    x = numbers(2, 5, 6, 3)
    variables = Net().init(jax.random.key(0), x)
    variables = jax.tree.map(lambda value: value + 0.1, variables)
    model = tally.Sequential(
        [
            tally.Input((5, 6, 3)),
            L.Conv2D(4, 3),
            L.BatchNormalization(epsilon=1e-5),
            L.Conv2DTranspose(5, 2, strides=2),
            L.DepthwiseConv2D(2, depth_multiplier=2),
            L.LayerNormalization(epsilon=1e-6),
            L.Flatten(),
            L.Dense(3),
        ]
    )
    flat = {"/".join(key.key for key in path): value for path, value in jax.tree.leaves_with_path(variables)}
    save_flax(flat, tmp_path / "m.safetensors")
    for source in (variables, tmp_path / "m.safetensors"):
        model.load_weights(source)
        want = np.asarray(Net().apply(variables, x))
        np.testing.assert_allclose(np.asarray(model(x, training=False)), want, rtol=1e-5, atol=1e-5)


# -- what is not certain -------------------------------------------------------------------------------------------
def state_of(**shapes: tuple[int, ...]) -> dict[str, Any]:
    return {
        f"{name.replace('__', '.')}": torch.full(shape, float(i))
        for i, (name, shape) in enumerate(shapes.items())
    }


def untouched(model: Any, source: Any, match: str, **options: Any) -> str:
    before = model.get_weights()
    with pytest.raises(SavingError, match=match) as caught:
        model.load_weights(source, **options)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    return str(caught.value)


def branches() -> Any:
    inputs = tally.Input((4,))
    return tally.Model(
        inputs,
        L.Dense(4, name="left", use_bias=False)(inputs) + L.Dense(4, name="right", use_bias=False)(inputs),
        name="net",
    )


def test_layers_that_could_be_exchanged_are_not_guessed(tmp_path: Path) -> None:
    state = state_of(decoder__weight=(4, 4), encoder__weight=(4, 4))
    save_file(state, tmp_path / "m.safetensors")
    model = branches()
    text = untouched(model, tmp_path / "m.safetensors", "2 would fit, and names don't tell which")
    assert text.replace(str(tmp_path), "") == (
        "The weights in /m.safetensors don't fit 'net': 2 of its 2 weights got nothing, and 2 of the source go "
        "nowhere.\n"
        "  where: left/kernel (4, 4): 2 would fit, and names don't tell which: decoder, encoder\n"
        "         right/kernel (4, 4): 2 would fit, and names don't tell which: decoder, encoder\n"
        "         decoder.weight (4, 4): fits left, right; names don't tell which\n"
        "         encoder.weight (4, 4): fits left, right; names don't tell which\n"
        "  do: pass name_map={'decoder': 'left', ...} to say what belongs where; or pass skip_mismatch=True to "
        "load what fits; nothing was changed"
    )
    report = model.load_weights(tmp_path / "m.safetensors", name_map={"decoder": "right", "encoder": "left"})
    assert [(match.path, match.sources, match.by) for match in report.matched] == [
        ("left/kernel", ("encoder.weight",), "name"),
        ("right/kernel", ("decoder.weight",), "name"),
    ]
    np.testing.assert_array_equal(model.get_layer("left").kernel.numpy(), np.ones((4, 4)))


def test_names_that_are_the_same_count_more_than_order() -> None:
    model = branches()
    model.load_weights(state_of(right__weight=(4, 4), left__weight=(4, 4)))
    np.testing.assert_array_equal(model.get_layer("left").kernel.numpy(), np.ones((4, 4)))
    model.load_weights(state_of(net__right__weight=(4, 4), net__left__weight=(4, 4)))
    np.testing.assert_array_equal(model.get_layer("left").kernel.numpy(), np.ones((4, 4)))


def test_numbers_in_names_say_the_order(tmp_path: Path) -> None:
    save_file(state_of(**{f"fc{i}__weight": (4, 4) for i in (10, 9, 2)}), tmp_path / "m.safetensors")
    model = tally.Sequential([tally.Input((4,)), *(L.Dense(4, use_bias=False) for _ in range(3))])
    report = model.load_weights(tmp_path / "m.safetensors")
    assert [match.sources[0] for match in report.matched] == ["fc2.weight", "fc9.weight", "fc10.weight"]
    assert report.ways == {"order": 3}


def test_a_shortcut_is_not_taken_for_the_convolution_beside_it() -> None:
    inputs = tally.Input((5, 5, 4))
    short = L.Conv2D(4, 1)(inputs)  # as Keras has it, first
    model = tally.Model(inputs, short + L.Conv2D(4, 1)(L.Conv2D(4, 3, padding="same")(inputs)))
    block = nn.ModuleDict(
        {"conv1": nn.Conv2d(4, 4, 3), "conv2": nn.Conv2d(4, 4, 1), "downsample": nn.Conv2d(4, 4, 1)}
    )
    untouched(model, nn.ModuleDict({"layer1": block}), "names don't tell which")


def test_a_square_matrix_among_others_that_lie_otherwise_is_refused() -> None:
    model = tally.Sequential([tally.Input((4,)), L.Dense(4, name="a"), L.Dense(6, name="b")])
    state = state_of(a__weight=(4, 4), a__bias=(4,), b__weight=(4, 6), b__bias=(6,))  # as GPT-2 has them
    untouched(model, state, "a is square, and b isn't transposed, so it may lie either way")


def test_a_layer_of_the_same_name_that_does_not_fit_says_why() -> None:
    model = tally.Sequential([tally.Input((4,)), L.Dense(5, name="head")])
    untouched(
        model,
        state_of(head__weight=(3, 4), head__bias=(3,)),
        r"head has its name, but its weight is \(3, 4\)",
    )


def test_what_fits_is_loaded_where_that_is_wanted() -> None:
    model = tally.Sequential([tally.Input((4,)), L.Dense(3, name="body"), L.Dense(9, name="head")])
    state = state_of(body__weight=(3, 4), body__bias=(3,), head__weight=(2, 3), head__bias=(2,))
    before = model.get_weights()
    with pytest.warns(UserWarning, match=r"head/kernel \(3, 9\): head has its name"):
        report = model.load_weights(state, skip_mismatch=True)
    np.testing.assert_array_equal(model.get_weights()[0], np.zeros((4, 3)))
    np.testing.assert_array_equal(model.get_weights()[2], before[2])
    assert [one.name for one in report.missing] == ["head/kernel", "head/bias"]


def test_automatic_names_are_no_names() -> None:
    keras = pytest.importorskip("keras")
    for _ in range(3):  # so that Keras's numbers are others
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)])
    model = tally.Sequential([tally.Input((4,)), L.Dense(4), L.Dense(4)])
    model.load_weights(other)
    for one, two in zip(model.get_weights(), other.weights, strict=True):
        np.testing.assert_array_equal(one, np.asarray(two.value))


def test_tied_weights_are_found_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight

    module = Tied()
    model = tally.Sequential([tally.Input((3,), dtype="int32"), L.Embedding(9, 4)])
    torch.save(module.state_dict(), tmp_path / "m.pt")
    save_model(module, tmp_path / "m.safetensors")
    for source in (module, tmp_path / "m.pt", tmp_path / "m.safetensors"):
        model.load_weights(source)
        np.testing.assert_array_equal(model.get_weights()[0], module.embed.weight.detach().numpy())


def test_another_epsilon_is_told() -> None:
    module = shuffled(nn.Sequential(nn.BatchNorm1d(4, eps=1e-4)))
    model = tally.Sequential([tally.Input((4,)), L.BatchNormalization()])
    (note,) = model.load_weights(module).notes
    assert "epsilon is 0.001 here and 0.0001 in the source; make it with epsilon=0.0001" in note
    (note,) = model.load_weights(module.state_dict()).notes
    assert "1e-05 in the source, unless it was made with another" in note


def test_the_report_prints_well() -> None:
    model = tally.Sequential([tally.Input((4,)), L.Dense(3), L.BatchNormalization(epsilon=1e-5)], name="net")
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    rule = "─" * 82
    assert str(model.load_weights(module)).splitlines() == [
        'Weights of "net" from the module Sequential                           6 of 6 weights set',
        "",
        "Set                                  Shape   From            Changed     Found by",
        rule,
        "dense/kernel                         (4, 3)  0.weight        transposed  the order",
        "dense/bias                           (3,)    0.bias                      the order",
        "batch_normalization/gamma            (3,)    1.weight                    the order",
        "batch_normalization/beta             (3,)    1.bias                      the order",
        "batch_normalization/moving_mean      (3,)    1.running_mean              the order",
        "batch_normalization/moving_variance  (3,)    1.running_var               the order",
        rule,
        "",
        "Not needed             Shape  Why",
        rule[:48],
        "1.num_batches_tracked  ()     needed by no layer",
        rule[:48],
        "",
        "· Every weight is set, and nothing that a layer could take is left over.",
    ]


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    model = branches()
    untouched(model, 3, "can't be loaded from a int")
    untouched(model, tmp_path / "none.pt", "There is no file at")
    (tmp_path / "m.pt").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(BadFileError):
        model.load_weights(tmp_path / "m.pt")


def compressed(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The same archive, its members packed."""
    packed = path.with_name(f"packed_{path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return packed


@pytest.mark.parametrize("form", ["pt", "npz"])
def test_a_compressed_archive_gives_the_same_weights(tmp_path: Path, form: str) -> None:
    module, model = perceptron()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    state["2.weight"] = (
        torch.arange(96.0).reshape(8, 12)[:, 2:10] / 100
    )  # a view inside of a storage, with strides
    module.load_state_dict(state)
    path = tmp_path / f"a.{form}"
    if form == "pt":
        torch.save(state, path)
        path = compressed(path)
    else:
        np.savez_compressed(path, **{name: np.asfortranarray(value) for name, value in state.items()})
    model.load_weights(path)
    x = numbers(5, 4)
    assert_close(model(x), module(torch.tensor(x)))


def test_an_archive_packed_otherwise_says_that_it_can_not_be_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"left.weight": np.zeros((4, 4)), "right.weight": np.zeros((4, 4))})
    with pytest.raises(BadFileError, match="packed by method 14"):
        branches().load_weights(compressed(tmp_path / "a.npz", zipfile.ZIP_LZMA))


def test_a_compressed_archive_that_is_broken_changes_nothing(tmp_path: Path) -> None:
    torch.save(state_of(left__weight=(4, 4), right__weight=(4, 4)), tmp_path / "a.pt")
    path = compressed(tmp_path / "a.pt")
    with zipfile.ZipFile(path) as archive:
        (member,) = (one for one in archive.infolist() if one.filename.endswith("data/0"))
    data = bytearray(path.read_bytes())
    begin = member.header_offset + 30 + len(member.filename)
    data[begin : begin + member.compress_size] = b"\xff" * member.compress_size
    path.write_bytes(data)
    untouched(branches(), path, "can't be read from")
