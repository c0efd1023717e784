"""From names and shapes to layers: real modules of PyTorch and Flax are recognised, doubt is said, nothing is lost."""

import flax.linen as nn
import jax
import pytest
import torch
from flax.traverse_util import flatten_dict
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import parametrizations as P

from tally.accounting.explain import explain
from tally.accounting.ledger import Ledger
from tally.formats.tensor import Contents, Node, Role, Tensor
from tally.readers import account, read, read_object


def tensor(
    name: str, *shape: int, dtype: str = "float32", role: Role = "weight", tied: str | None = None
) -> Tensor:
    size = 1
    for length in shape:
        size *= length
    return Tensor(name=name, shape=shape, dtype=dtype, stored=4 * size, role=role, alias_of=tied)


def of(*tensors: Tensor, layout: str = "", **metadata: object) -> Ledger:
    return account(Contents(format="test", tensors=tensors, metadata=metadata), layout=layout, name="m")


def of_module(module: torch.nn.Module) -> Ledger:
    held = {f"it.{name}": array for name, array in module.state_dict().items()}
    dtypes = {name: str(array.dtype).removeprefix("torch.") for name, array in held.items()}
    tensors = [tensor(name, *array.shape, dtype=dtypes[name]) for name, array in held.items()]
    return of(*tensors, tensor("other.weight", 3, 3, 3, 3), layout="torch")


@pytest.mark.parametrize(
    ("module", "kind", "formula"),
    [
        (torch.nn.Conv2d(3, 8, 5), "Conv2D", "8 × (3·5·5 + 1) = 608"),
        (torch.nn.Conv1d(3, 8, 5), "Conv1D", "8 × (3·5 + 1) = 128"),
        (torch.nn.Conv3d(3, 8, (1, 2, 3)), "Conv3D", "8 × (3·1·2·3 + 1) = 152"),
        (torch.nn.ConvTranspose2d(3, 8, 5), "Conv2DTranspose", "8 × (3·5·5 + 1) = 608"),
        (torch.nn.Linear(10, 5), "Dense", "5 × (10 + 1) = 55"),
        (torch.nn.BatchNorm2d(8), "BatchNormalization", "4 × 8 + 1 = 33"),
        (torch.nn.LSTM(6, 4), "LSTM", "4 × 4 × (6 + 4 + 2) = 192"),
        (torch.nn.GRU(6, 4, bias=False), "GRU", "3 × 4 × (6 + 4) = 120"),
        (torch.nn.RNN(6, 4), "SimpleRNN", "4 × (6 + 4 + 2) = 48"),
        (torch.nn.LSTM(6, 8, proj_size=3), "LSTM", None),
        (torch.nn.GRUCell(6, 4), "GRUCell", "3 × 4 × (6 + 4 + 2) = 144"),
        (torch.nn.MultiheadAttention(8, 2), "MultiHeadAttention", "3 × 8 × (8 + 1) + 8 × (8 + 1) = 288"),
        (torch.nn.MultiheadAttention(8, 2, kdim=6, vdim=4, add_bias_kv=True), "MultiHeadAttention", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else "",
)
def test_layers_of_pytorch_are_recognised(module, kind, formula):
    ledger = of_module(module)
    assert ledger.owner("it").type == kind
    entries = ledger.under("it")
    assert sum(entry.count for entry in entries) == sum(
        array.numel() for array in module.state_dict().values()
    )
    buffers = {name for name, _ in module.named_buffers()}
    assert {entry.path.removeprefix("it/") for entry in entries if entry.state == "state"} == buffers
    assert all(all(entry.axes) for entry in entries if len(entry.shape) > 1)
    if formula is not None:
        assert explain(ledger)["it"].formula.numbers == formula


@pytest.mark.parametrize(
    ("arrays", "kind", "told"),
    [
        ({"it.weight": (5, 10)}, "unknown", "A linear layer without a bias, or a table"),
        ({"norm1.weight": (8,), "norm1.bias": (8,)}, "Norm", "layer, a group and an instance"),
        ({"norm.weight": (8,)}, "Norm", "by the root mean square, or by mean and variance"),
        ({"it.weight": (8, 3, 5, 5)}, "Conv2D", "a transposed convolution looks the same"),
        ({"it.weight": (8, 1, 5, 5), "it.bias": (8,)}, "Conv2D", "or the convolution is depthwise"),
        ({"it.strange": (8, 3)}, "unknown", "counted by its shapes alone"),
    ],
)
def test_what_is_not_certain_is_said(arrays, kind, told):
    ledger = of(*(tensor(name, *shape) for name, shape in arrays.items()))
    owner = ledger.owner(next(iter(arrays)).split(".")[0])
    assert owner.type == kind
    assert told in " ".join(owner.notes)


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ({"embed_tokens.weight": (10, 4)}, "Embedding"),
        ({"wte.weight": (10, 4)}, "Embedding"),
        ({"token_embd.weight": (10, 4)}, "Embedding"),
        ({"q_proj.weight": (10, 4)}, "Dense"),
        ({"embed_out.weight": (10, 4)}, "Dense"),
        ({"lm_head.weight": (10, 4)}, "Dense"),
        ({"layer_norm.weight": (4,), "layer_norm.bias": (4,)}, "LayerNormalization"),
        ({"GroupNorm_0.scale": (4,), "GroupNorm_0.bias": (4,)}, "GroupNormalization"),
        ({"act.weight": (4,)}, "PReLU"),
        ({"dw.kernel": (3, 3, 4, 2), "dw.bias": (8,)}, "DepthwiseConv2D"),
        ({"depthwise.kernel": (3, 3, 4, 1)}, "DepthwiseConv2D"),
        ({"conv.depthwise_weights": (3, 3, 4, 1)}, "DepthwiseConv2D"),
        ({"logits.weights": (4, 8), "logits.biases": (8,)}, "Dense"),
        ({"up_conv2d_transpose.kernel": (3, 3, 4, 1), "up_conv2d_transpose.bias": (4,)}, "Conv2DTranspose"),
        ({"conv.weight": (8, 3, 5, 5), "bn.weight": (8,), "bn.bias": (8,)}, "Conv2D"),
        ({"dense.kernel": (10, 4)}, "Dense"),
        ({"embeddings.embeddings": (10, 4)}, "Embedding"),
        ({"conv.kernel": (3, 3, 2, 8), "conv.bias": (8,)}, "Conv2D"),
        ({"linear.w": (10, 4), "linear.b": (4,)}, "Dense"),
        ({"ffn_up_exps.weight": (8, 10, 4)}, "Dense"),
        (
            {"separable.depthwise_kernel": (3, 3, 2, 1), "separable.pointwise_kernel": (1, 1, 2, 4)},
            "SeparableConv2D",
        ),
        (
            {"lstm_cell.kernel": (3, 8), "lstm_cell.recurrent_kernel": (2, 8), "lstm_cell.bias": (8,)},
            "LSTMCell",
        ),
        ({"gru.kernel": (3, 6), "gru.recurrent_kernel": (2, 6), "gru.bias": (2, 6)}, "GRUCell"),
    ],
)
def test_names_and_shapes_tell_a_layer(arrays, kind):
    ledger = of(*(tensor(name, *shape) for name, shape in arrays.items()))
    owner = ledger.owner(next(iter(arrays)).split(".")[0])
    assert (owner.type, owner.notes) == (kind, ())


@pytest.mark.parametrize(
    ("make", "by"),
    [
        (lambda: P.weight_norm(torch.nn.Conv2d(3, 8, 3)), "WeightNorm"),
        (lambda: P.weight_norm(torch.nn.Linear(3, 8), dim=None), "WeightNorm"),
        (lambda: P.spectral_norm(torch.nn.Linear(8, 4, bias=False)), "SpectralNorm"),
        (lambda: P.orthogonal(torch.nn.Linear(4, 4)), ""),
    ],
)
def test_a_weight_that_is_computed_is_accounted_for_as_the_module_itself_is(make, by, tmp_path):
    module = torch.nn.ModuleDict({"head": make()})
    torch.save(module.state_dict(), tmp_path / "m.pt")
    found, live = read(tmp_path / "m.pt"), read_object(module)
    assert found.total == live.total
    assert (found.owner("head").type, found.owner("head").builtin) == (live.owner("head").type, True)
    said = f"weight is not stored: {by} computes it from what is."
    assert (said in found.owner("head").notes) == bool(by)
    for one in live.entries:
        (other,) = (entry for entry in found.entries if entry.path == one.path)
        assert (other.name, other.state) == (one.name, one.state)
        assert other.axes == one.axes or one.state == "state"


def test_the_older_hooks_say_that_they_compute_a_weight():
    arrays = {"weight_orig": (3, 4), "weight_u": (3,), "weight_v": (4,), "bias": (3,)}
    spectral = of(*(tensor(f"lin.{name}", *shape) for name, shape in arrays.items()))
    weighted = of(tensor("lin.weight_v", 3, 4), tensor("lin.weight_g", 3, 1), tensor("lin.bias", 3))
    for ledger, by, total in ((spectral, "SpectralNorm", 22), (weighted, "WeightNorm", 18)):
        assert ledger.owner("lin").notes == (f"weight is not stored: {by} computes it from what is.",)
        assert (ledger.owner("lin").type, ledger.total) == ("Dense", total)


def test_a_depthwise_kernel_of_one_filter_says_what_else_it_may_be():
    ledger = of(tensor("deep.kernel", 3, 3, 4, 1), tensor("deep.bias", 4), layout="keras")
    deep = ledger.owner("deep")
    assert deep.type == "DepthwiseConv2D"
    assert "a transposed one" in deep.notes[0]
    assert ledger.entries[0].axes == ("kernel height", "kernel width", "input channels", "depth multiplier")


def test_texts_are_no_parameters():
    ledger = of(tensor("table.words", 5, dtype="string"), tensor("table.weight", 2, 3))
    (words,) = (entry for entry in ledger.entries if entry.name == "words")
    assert (words.state, ledger.total) == ("fixed", 6)
    assert (
        "'words' holds no numbers but string, so it adds no parameters to the total."
        in ledger.owner("table").notes
    )


def test_the_layout_names_the_axes():
    kernel = tensor("conv.weight", 8, 5, 6, 3)
    sides = ("kernel height", "kernel width")
    assert of(kernel, layout="torch").entries[0].axes == ("filters", "input channels", *sides)
    assert of(kernel, layout="mlx").entries[0].axes == ("filters", *sides, "input channels")
    assert of(kernel, layout="keras").entries[0].axes == (*sides, "input channels", "filters")


def test_a_file_may_name_the_axes_itself():
    named = Tensor(name="w.weight", shape=(2, 3), dtype="int4", stored=3, axes=("rows", "columns"))
    assert of(named).entries[0].axes == ("rows", "columns")


def test_the_linear_layer_of_gpt_2_lies_the_other_way_round():
    ledger = of(tensor("h.0.attn.c_attn.weight", 4, 12), tensor("h.0.attn.c_attn.bias", 12), layout="torch")
    assert ledger.entries[0].axes == ("features", "units")


# -- blocks --------------------------------------------------------------------------------------------------------
def llama(layers: int, **more: tuple[int, ...]) -> list[Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (100, 16), "lm_head.weight": (100, 16)}
    for place in range(layers):
        inside = {"self_attn.q_proj": (16, 16), "self_attn.k_proj": (4, 16), "self_attn.v_proj": (4, 16)}
        inside |= {
            "self_attn.o_proj": (16, 16),
            "mlp.up_proj": (32, 16),
            "mlp.down_proj": (16, 32),
            "input_layernorm": (16,),
        }
        shapes |= {f"model.layers.{place}.{name}.weight": shape for name, shape in inside.items()}
    return [tensor(name, *shape) for name, shape in {**shapes, **more}.items()]


def test_a_transformer_has_its_blocks_and_heads():
    config = {
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "architectures": ["Llama"],
    }
    ledger = of(*llama(11), config=config)
    attention = ledger.owner("model/layers/0/self_attn")
    assert attention.type == "GroupedQueryAttention"
    assert attention.options == (("num_query_heads", 4), ("num_key_value_heads", 1))
    assert ledger.owner("model/layers/0/input_layernorm").type == "RMSNormalization"
    assert [owner.path for owner in ledger.children()] == [
        "model/embed_tokens",
        *(f"model/layers/{place}" for place in range(11)),
        "lm_head",
    ]
    assert ledger.owner("").type == "Llama"


def test_what_came_by_the_alphabet_is_put_in_the_usual_order():
    ledger = of(*sorted(llama(12), key=lambda one: one.name))
    outermost = [owner.path for owner in ledger.children()]
    assert outermost == ["model/embed_tokens", *(f"model/layers/{place}" for place in range(12)), "lm_head"]
    inside = [owner.path.rpartition("/")[2] for owner in ledger.children("model/layers/3")]
    assert inside == ["input_layernorm", "self_attn", "mlp"]


def test_heads_apart_in_keras_and_flax_are_named():
    shapes = {"query": (8, 2, 4), "key": (8, 2, 4), "value": (8, 2, 4), "out": (2, 4, 8)}
    ledger = of(*(tensor(f"attention/{name}/kernel", *shape) for name, shape in shapes.items()))
    assert ledger.owner("attention").type == "MultiHeadAttention"
    axes = {entry.owner: entry.axes for entry in ledger.entries}
    assert axes["attention/query"] == ("features", "heads", "key size")
    assert axes["attention/out"] == ("heads", "key size", "features")


class _Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x))
        x = nn.MultiHeadDotProductAttention(2)(x.reshape(x.shape[0], -1, 4))
        x = nn.LayerNorm()(nn.RNN(nn.GRUCell(3))(x))
        return nn.Embed(7, 3).attend(nn.Dense(3)(x))


def test_a_flax_model_is_recognised_throughout():
    held = jax.eval_shape(_Net().init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 1), "float32"))
    flat = flatten_dict(held, sep="/")
    ledger = of(*(tensor(name, *array.shape) for name, array in flat.items()), layout="keras")
    assert {owner.path: owner.type for owner in ledger.children()} == {
        "Conv_0": "Conv2D",
        "BatchNorm_0": "BatchNormalization",
        "MultiHeadDotProductAttention_0": "MultiHeadAttention",
        "GRUCell_0": "GRUCell",
        "LayerNorm_0": "LayerNormalization",
        "Dense_0": "Dense",
        "Embed_0": "Embedding",
    }
    assert ledger.total == sum(array.size for array in flat.values())
    assert ledger.by_state["state"] == 8
    assert all(all(entry.axes) for entry in ledger.entries)


# -- states --------------------------------------------------------------------------------------------------------
def test_roles_become_states():
    roles: list[Role] = ["weight", "state", "fixed", "other", "optimizer", "seed"]
    ledger = of(*(tensor(f"a.{role}", 2, role=role) for role in roles))
    states = {entry.name: entry.state for entry in ledger.entries}
    assert states == {
        "weight": "trainable",
        "state": "state",
        "fixed": "fixed",
        "other": "fixed",
        "optimizer": "optimizer",
        "seed": "seed",
    }


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "state"),
    [
        ("a.weight", (3, 4), "bfloat16", "trainable"),
        ("a.weight", (3, 4), "q4_k", "frozen"),
        ("a.weight", (3, 4), "float8_e4m3fn", "frozen"),
        ("a.position_ids", (1, 4), "int64", "fixed"),
        ("a.numbers", (1, 4), "int64", "fixed"),
        ("a.inv_freq", (4,), "float32", "fixed"),
        ("attn.bias", (1, 1, 4, 4), "float32", "fixed"),
        ("attn.bias", (1, 1, 4, 4), "bool", "fixed"),
    ],
)
def test_what_a_gradient_cannot_change_is_not_trainable(name, shape, dtype, state):
    assert of(tensor(name, *shape, dtype=dtype)).entries[0].state == state


def test_packed_arrays_count_as_parameters_and_take_their_own_bytes():
    packed = Tensor(name="q.qweight", shape=(8, 4), dtype="int4", stored=20, axes=("features", "units"))
    scales = Tensor(name="q.qweight.scales", shape=(2, 4), dtype="float16", stored=16, role="fixed")
    ledger = of(packed, scales)
    assert (ledger.total, ledger.nbytes) == (32, 20)
    assert [(entry.path, entry.owner) for entry in ledger.entries] == [
        ("q/qweight", "q"),
        ("q/qweight.scales", "q"),
    ]


def test_types_that_say_no_size_have_the_bytes_of_the_file():
    odd = Tensor(name="a.w", shape=(0,), dtype="strange", stored=0)
    assert of(odd).entries[0].nbytes == 0


# -- ties ----------------------------------------------------------------------------------------------------------
def test_tied_arrays_count_once_and_say_where():
    ledger = of(
        tensor("a.weight", 3), tensor("b.weight", 3, tied="a.weight"), tensor("c.weight", 3, tied="b.weight")
    )
    assert ledger.total == 3
    assert [entry.shared_with for entry in ledger.entries] == [None, "a/weight", "a/weight"]


def test_a_ring_of_ties_still_counts_once():
    ledger = of(tensor("a.w", 3, tied="b.w"), tensor("b.w", 3, tied="a.w"), tensor("c.w", 4, tied="c.w"))
    assert ledger.total == 7


# -- names ---------------------------------------------------------------------------------------------------------
@given(st.lists(st.text("ab.0/|\x1b\ud800", max_size=8), unique=True, max_size=12))
def test_any_names_make_a_ledger_that_loses_nothing(names):
    ledger = of(*(tensor(name, place + 1) for place, name in enumerate(names)))
    assert sorted(entry.size for entry in ledger.entries) == list(range(1, len(names) + 1))
    assert all(entry.path.isprintable() for entry in ledger.entries)
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_a_name_of_a_thousand_parts_is_kept_shallow():
    ledger = of(tensor(".".join("a" * 1000), 2), tensor(".".join("a" * 999) + ".b", 3))
    assert ledger.total == 5
    assert Ledger.from_json(ledger.to_json()).total == 5


def test_training_and_layers_may_use_one_name():
    ledger = of(tensor("a.w", 2), tensor("a/w", 3, role="optimizer"))
    assert [(entry.path, entry.owner) for entry in ledger.entries] == [("a/w", "a"), ("optimizer/a/w", "")]


def test_what_the_file_says_is_switched_off_is_frozen_by_the_outermost_layer_that_is() -> None:
    def kernel(name: str) -> Tensor:
        return Tensor(name=name, shape=(3, 2), dtype="float32", stored=24)

    nodes = (
        Node(name="", type="Sequential"),
        Node(name="base", type="Sequential", options={"trainable": False}),
        Node(name="base/first", type="Dense", tensors=("base/first/kernel",), options={"trainable": False}),
        Node(
            name="head", type="Dense", tensors=("head/kernel", "head/bias"), options={"frozen": ("kernel",)}
        ),
    )
    bias = Tensor(name="head/bias", shape=(2,), dtype="float32", stored=8)
    arrays = (kernel("base/first/kernel"), kernel("head/kernel"), bias)
    ledger = account(Contents(format="Keras", tensors=arrays, nodes=nodes), layout="keras", name="m")
    found = {entry.path: (entry.state, entry.frozen_by) for entry in ledger.entries}
    assert found == {
        "base/first/kernel": ("frozen", "base"),
        "head/kernel": ("frozen", "head"),
        "head/bias": ("trainable", None),
    }
    assert "trainable" not in dict(ledger.owner("base/first").options)


def test_what_is_only_planned_takes_the_bytes_of_its_elements() -> None:
    planned = Tensor(name="dense/kernel", shape=(3, 2), dtype="float16", stored=0)
    ledger = account(Contents(format="Keras JSON", tensors=(planned,)), layout="keras", name="m")
    assert ledger.nbytes == 12
