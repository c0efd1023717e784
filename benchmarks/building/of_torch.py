"""The models of `benchmarks/build.py` in PyTorch, made on the device `meta`, which holds no values."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.building.sizes import EPSILON, EXPERTS, GPT3, STAGES, Sizes


class Expert(nn.Module):
    """A pair of layers, wide and narrow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        """Widen and narrow."""
        return self.narrow(functional.gelu(self.wide(x)))


class Mixture(nn.Module):
    """Experts as modules, each weighed by a gate."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList([Expert(width) for _ in range(experts)])

    def forward(self, x: Any) -> Any:
        """The weighed sum of what the experts say."""
        gates = self.gate(x).softmax(-1).split(1, -1)
        return sum(expert(x) * gate for expert, gate in zip(self.experts, gates, strict=True))


class Stacked(nn.Module):
    """The same experts, their weights in one array each."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.wide = nn.Parameter(torch.empty(experts, width, 4 * width))
        self.wide_bias = nn.Parameter(torch.zeros(experts, 4 * width))
        self.narrow = nn.Parameter(torch.empty(experts, 4 * width, width))
        self.narrow_bias = nn.Parameter(torch.zeros(experts, width))

    def forward(self, x: Any) -> Any:
        """The weighed sum of what the experts say."""
        hidden = functional.gelu(torch.einsum("btd,edf->btef", x, self.wide) + self.wide_bias)
        made = torch.einsum("btef,efd->bted", hidden, self.narrow) + self.narrow_bias
        return torch.einsum("bted,bte->btd", made, self.gate(x).softmax(-1))


class Block(nn.Module):
    """A block of a decoder."""

    def __init__(self, sizes: Sizes, thinks: nn.Module) -> None:
        super().__init__()
        self.before_attention, self.before_thinking = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.attention = nn.MultiheadAttention(sizes.width, sizes.heads, batch_first=True)
        self.thinks = thinks

    def forward(self, x: Any, mask: Any) -> Any:
        """Attend, then think, each added to what came in."""
        y = self.before_attention(x)
        x = x + self.attention(y, y, y, attn_mask=mask, is_causal=True, need_weights=False)[0]
        return x + self.thinks(self.before_thinking(x))


class Decoder(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self, sizes: Sizes, kind: str) -> None:
        super().__init__()
        self.words, self.places = (
            nn.Embedding(sizes.words, sizes.width),
            nn.Embedding(sizes.length, sizes.width),
        )
        self.blocks = nn.ModuleList([Block(sizes, _thinks(sizes, kind)) for _ in range(sizes.blocks)])
        self.last = nn.LayerNorm(sizes.width)

    def forward(self, tokens: Any) -> Any:
        """Logits of the next words."""
        length = tokens.shape[1]
        x = self.words(tokens) + self.places(torch.arange(length, device=tokens.device))
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        for block in self.blocks:
            x = block(x, mask)
        return functional.linear(self.last(x), self.words.weight)


def _thinks(sizes: Sizes, kind: str) -> nn.Module:
    if not sizes.experts:
        return Expert(sizes.width)
    return {"stacked": Stacked, "each": Mixture}[kind](sizes.width, sizes.experts)


class Convolution(nn.Sequential):
    """A convolution and its normalisation."""

    def __init__(self, inside: int, outside: int, size: int, strides: int) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, size, strides, padding=size // 2), nn.BatchNorm2d(outside, eps=EPSILON)
        )


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, and add the input, itself convolved where the shape changes."""

    def __init__(self, inside: int, filters: int, strides: int, widens: bool) -> None:
        super().__init__()
        self.shortcut = Convolution(inside, 4 * filters, 1, strides) if widens else None
        self.narrow = Convolution(inside, filters, 1, strides)
        self.convolve = Convolution(filters, filters, 3, 1)
        self.widen = Convolution(filters, 4 * filters, 1, 1)
        self.activate = nn.ReLU()

    def forward(self, x: Any) -> Any:
        """Add what is computed to what came in."""
        y = self.activate(self.convolve(self.activate(self.narrow(x))))
        return self.activate(self.widen(y) + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nn.Module):
    """ResNet-50 with the biases that Keras gives its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.activate, self.pool = (
            Convolution(3, 64, 7, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        blocks, inside = [], 64
        for stage, (count, filters) in enumerate(STAGES):
            for block in range(count):
                strides = 2 if block == 0 and stage > 0 else 1
                blocks.append(Bottleneck(inside, filters, strides, block == 0))
                inside = 4 * filters
        self.blocks = nn.Sequential(*blocks)
        self.average, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(inside, 1000)

    def forward(self, x: Any) -> Any:
        """Probabilities of the classes."""
        x = self.blocks(self.pool(self.activate(self.first(x))))
        return self.head(self.average(x).flatten(1)).softmax(-1)


def _on_meta(make: Callable[[], nn.Module], shape: tuple[int, ...], dtype: Any) -> Any:
    with torch.device("meta"):
        return make(), torch.empty(shape, dtype=dtype)


def resnet50() -> Any:
    """ResNet-50."""
    return _on_meta(ResNet50, (1, 3, 224, 224), torch.float32)


def gpt3() -> Any:
    """GPT-3's shape."""
    return _on_meta(lambda: Decoder(GPT3, ""), (1, GPT3.length), torch.long)


def stacked_experts() -> Any:
    """A trillion parameters in stacked experts."""
    return _on_meta(lambda: Decoder(EXPERTS, "stacked"), (1, EXPERTS.length), torch.long)


def single_experts() -> Any:
    """A trillion parameters in experts that are modules."""
    return _on_meta(lambda: Decoder(EXPERTS, "each"), (1, EXPERTS.length), torch.long)


def account(made: Any) -> tuple[int, str]:
    """Parameters that learn, and the modules by name: all that PyTorch itself has to say."""
    model, _ = made
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad), repr(model)
