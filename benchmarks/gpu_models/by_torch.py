"""The models as PyTorch modules, trained eagerly or through `torch.compile`, as PyTorch's guides advise."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.gpu_models.running import Contestant, LeftOut, timed
from benchmarks.gpu_models.sizes import DECAY, MOMENTUM, RATES, Data, Gpt, Mnist, ResNet, Task, Vit


class Digits(nn.Module):
    """The convolutional network for digits."""

    def __init__(self, sizes: Mnist) -> None:
        super().__init__()
        one, two = sizes.filters
        side = ((sizes.side - 2) // 2 - 2) // 2
        self.first, self.second = nn.Conv2d(1, one, 3), nn.Conv2d(one, two, 3)
        self.head = nn.Linear(side**2 * two, sizes.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = x.float() / 255
        for convolution in (self.first, self.second):
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return self.head(F.dropout(x.flatten(1), 0.5, self.training))


def _convolve(taken: int, made: int, size: int, strides: int = 1) -> nn.Sequential:
    """A convolution and its normalisation."""
    convolution = nn.Conv2d(taken, made, size, strides, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(made, eps=1e-5, momentum=0.1))


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, and add the input, itself convolved where the shape changes."""

    def __init__(self, channels: int, inner: int, strides: int, *, first: bool) -> None:
        super().__init__()
        self.shortcut = _convolve(channels, 4 * inner, 1, strides) if first else nn.Identity()
        self.narrow, self.middle = _convolve(channels, inner, 1), _convolve(inner, inner, 3, strides)
        self.wide = _convolve(inner, 4 * inner, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        return F.relu(self.wide(F.relu(self.middle(F.relu(self.narrow(x))))) + self.shortcut(x))


class Residual(nn.Module):
    """ResNet."""

    def __init__(self, sizes: ResNet) -> None:
        super().__init__()
        channels, blocks = sizes.filters, []
        self.stem = _convolve(3, channels, 7, 2)
        for stage, count in enumerate(sizes.stages):
            inner = sizes.filters * 2**stage
            for number in range(count):
                strides = 2 if stage and not number else 1
                blocks.append(Bottleneck(channels, inner, strides, first=number == 0))
                channels = 4 * inner
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(channels, sizes.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = F.relu(self.stem(x.to(torch.bfloat16) * (1 / 127.5) - 1))
        x = self.blocks(F.max_pool2d(x, 3, 2, padding=1))
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    """A transformer's block, with one product for query, key and value."""

    def __init__(self, sizes: Vit | Gpt, epsilon: float) -> None:
        super().__init__()
        width, self.heads, self.causal = sizes.width, sizes.heads, isinstance(sizes, Gpt)
        self.before_attention = nn.LayerNorm(width, eps=epsilon)
        self.asked, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.before_dense = nn.LayerNorm(width, eps=epsilon)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, places, width = x.shape
        asked = self.asked(x).view(batch, places, 3, self.heads, width // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.output(attended.transpose(1, 2).reshape(batch, places, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention and two dense layers, each added to what it was given."""
        x = x + self._attend(self.before_attention(x))
        y = F.gelu(self.wide(self.before_dense(x)), approximate="tanh" if self.causal else "none")
        return x + self.narrow(y)


class Vision(nn.Module):
    """A vision transformer."""

    def __init__(self, sizes: Vit) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.places = nn.Parameter(0.02 * torch.randn(1, sizes.places, sizes.width))
        self.blocks = nn.Sequential(*(Block(sizes, 1e-6) for _ in range(sizes.depth)))
        self.last, self.head = nn.LayerNorm(sizes.width, eps=1e-6), nn.Linear(sizes.width, sizes.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.patches(x.to(torch.bfloat16) * (1 / 127.5) - 1).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1), x], dim=1) + self.places.to(x.dtype)
        return self.head(self.last(self.blocks(x))[:, 0])


class Language(nn.Module):
    """GPT-2."""

    def __init__(self, sizes: Gpt) -> None:
        super().__init__()
        self.words = nn.Embedding(sizes.words, sizes.width)
        self.places = nn.Embedding(sizes.length, sizes.width)
        self.blocks = nn.Sequential(*(Block(sizes, 1e-5) for _ in range(sizes.depth)))
        self.last = nn.LayerNorm(sizes.width, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        places = torch.arange(x.shape[1], device=x.device)
        x = (self.words(x) + self.places(places)).to(torch.bfloat16)
        return F.linear(self.last(self.blocks(x)), self.words.weight)


def _start(module: nn.Module) -> None:
    """Draw weights from the distributions that Keras's layers draw from."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d | nn.Linear):
        # Three projections in one kernel are each drawn for their own size.
        parts = module.weight.chunk(3) if module.weight.shape[0] == 3 * module.weight.shape[1] else ()
        for part in parts or (module.weight,):
            nn.init.xavier_uniform_(part)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def find_device(*, dry: bool) -> torch.device:
    """The GPU; in a dry run without one the CPU.

    Raises:
        LeftOut: PyTorch sees no GPU.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if not dry:
        raise LeftOut("PyTorch sees no GPU: it was installed without CUDA")
    return torch.device("cpu")


def settle() -> None:
    """Let products of float32 run in TF32, as JAX and TensorFlow do by themselves."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def sync(device: torch.device) -> Callable[[], None]:
    """What waits for the device."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def peak(device: torch.device) -> Callable[[], int | None]:
    """What tells the most bytes in use, where they are counted."""
    return torch.cuda.max_memory_allocated if device.type == "cuda" else lambda: None


def eagerly(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """PyTorch step by step."""
    del group
    return _contestant(task, data, find_device(dry=dry), compiled=False)


def compiled(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """PyTorch through `torch.compile`."""
    del group
    return _contestant(task, data, find_device(dry=dry), compiled=True)


def _contestant(task: Task, data: Data, device: torch.device, *, compiled: bool) -> Contestant:
    settle()
    torch.manual_seed(0)
    kinds: dict[type, Any] = {Mnist: Digits, ResNet: Residual, Vit: Vision, Gpt: Language}
    model = kinds[type(task.model)](task.model)
    model.apply(_start)
    is_image = not isinstance(task.model, Gpt)
    layout = {"memory_format": torch.channels_last} if is_image else {}
    model = model.to(device, **layout).train()
    rate = RATES[task.optimizer]
    optimizer: torch.optim.Optimizer = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), rate, MOMENTUM, fused=True),
        "adam": lambda: torch.optim.Adam(model.parameters(), rate, eps=1e-7, fused=True),
        "adamw": lambda: torch.optim.AdamW(
            model.parameters(), rate, eps=1e-7, weight_decay=DECAY, fused=True
        ),
    }[task.optimizer]()
    # Where steps are short the guides advise CUDA graphs, which this mode makes.
    mode = "reduce-overhead" if isinstance(task.model, Mnist) and device.type == "cuda" else None
    called = torch.compile(model, mode=mode) if compiled else model
    batches = _batches(task, data, device, is_image=is_image)
    is_mixed = task.policy == "mixed_bfloat16"

    def run() -> Any:
        loss = None
        for x, y in batches:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16) if is_mixed else nullcontext():
                logits = called(x)
                loss = F.cross_entropy(logits.flatten(0, -2).float(), y.flatten())
            loss.backward()
            optimizer.step()
        return loss

    def train() -> tuple[float, float]:
        seconds, loss = timed(sync(device), run)
        return seconds, float(loss)

    return Contestant(train, peak(device), {"torch": torch.__version__})


def _batches(task: Task, data: Data, device: torch.device, *, is_image: bool) -> list[Any]:
    """The data on the device, cut into batches; images keep their channels last in memory."""
    x, y = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in data)
    x = x.permute(0, 3, 1, 2) if is_image else x
    return list(zip(x.split(task.batch), y.long().split(task.batch), strict=True))
