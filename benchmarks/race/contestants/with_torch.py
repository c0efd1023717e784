"""PyTorch, eager or compiled: modules, the usual training loop, weights brought into its layout."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.race.gate import Gate
from benchmarks.race.weights import Weights
from benchmarks.race.workloads import (
    BLOCKS,
    CIFAR_FILTERS,
    EPSILON,
    HEADS,
    LEARNING_RATE,
    LENGTH,
    MOBILE_BLOCKS,
    WIDTH,
    WORDS,
    Data,
    Workload,
)


class Racer:
    """A PyTorch module with a loop over batches."""

    def __init__(self, workload: Workload, data: Data, weights: Weights, *, compiled: bool = False) -> None:
        self._batch, self._softmax = workload.batch, workload.name == "mnist"
        self._inputs, self._targets = _inputs(data[0]), torch.from_numpy(data[1]).long()
        module: nn.Module = MODULES[workload.name]()
        load(module, weights)
        if data[0].ndim == 4:
            module = module.to(memory_format=torch.channels_last)
        self._model: Any = torch.compile(module) if compiled else module
        self._optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, eps=EPSILON, fused=True)

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What the model predicts for one batch."""
        self._model.eval()
        with torch.inference_mode():
            return self._answer(_inputs(inputs)).numpy()

    def first_step(self) -> None:
        """One step on the first batch, compilation included."""
        self._model.train()
        self._step(self._inputs[: self._batch], self._targets[: self._batch])

    def train(self, gate: Gate) -> None:
        """Epochs as long as the gate opens."""
        starts = range(0, len(self._inputs), self._batch)
        while gate.wait():
            gate.begin()
            self._model.train()
            total = 0.0
            for start in starts:
                rows = slice(start, start + self._batch)
                total += self._step(self._inputs[rows], self._targets[rows])
            gate.end(total / len(starts))

    def predict(self, gate: Gate) -> None:
        """The whole data, batch by batch and back in numpy, as long as the gate opens."""
        while gate.wait():
            gate.begin()
            self._model.eval()
            with torch.inference_mode():
                torch.cat([self._answer(rows) for rows in self._inputs.split(self._batch)]).numpy()
            gate.end()

    def _step(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        self._optimizer.zero_grad()
        outputs = self._model(inputs)
        loss = F.cross_entropy(outputs.flatten(0, -2), targets.flatten())
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def _answer(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self._model(inputs)
        return outputs.softmax(-1) if self._softmax else outputs


def _inputs(array: np.ndarray) -> torch.Tensor:
    """A tensor on the array's memory; of images a view with the channels second, which is `channels_last`."""
    tensor = torch.from_numpy(array)
    if array.ndim == 4:
        return tensor.permute(0, 3, 1, 2)
    return tensor.long() if array.dtype == np.int32 else tensor


# -- modules; the attributes bear the names of the weights -----------------------------------------------------------


def _normalization(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Mnist(nn.Module):
    """The convnet for digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(1600, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.head(self.dropout(x.permute(0, 2, 3, 1).flatten(1)))


class Cifar(nn.Module):
    """Convolutions with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inputs, filters) in enumerate(CIFAR_FILTERS, 1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, filters, 3, padding=1, bias=False))
            self.add_module(f"norm{number}", _normalization(filters))
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        for number in range(1, len(CIFAR_FILTERS) + 1):
            x = F.relu(getattr(self, f"norm{number}")(getattr(self, f"conv{number}")(x)))
            if number in (2, 4):
                x = F.max_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


class _SeparableConv(nn.Module):
    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, filters, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


class Separable(nn.Module):
    """The Xception block."""

    def __init__(self) -> None:
        super().__init__()
        self.separable1, self.separable2 = _SeparableConv(64, 64), _SeparableConv(64, 64)
        self.norm1, self.norm2 = _normalization(64), _normalization(64)
        self.shortcut, self.head = nn.Conv2d(64, 64, 1, stride=2), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        y = F.relu(self.norm1(self.separable1(x)))
        y = F.relu(self.norm2(self.separable2(y)))
        y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=-torch.inf), 3, stride=2)
        return self.head((y + self.shortcut(x)).mean((2, 3)))


class Mobilenet(nn.Module):
    """Two inverted residuals."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inputs, expanded, outputs, stride) in enumerate(MOBILE_BLOCKS, 1):
            self.add_module(f"expand{number}", nn.Conv2d(inputs, expanded, 1, bias=False))
            self.add_module(f"expand_norm{number}", _normalization(expanded))
            depthwise = nn.Conv2d(
                expanded, expanded, 3, stride=stride, padding=stride % 2, groups=expanded, bias=False
            )
            self.add_module(f"depthwise{number}", depthwise)
            self.add_module(f"depthwise_norm{number}", _normalization(expanded))
            self.add_module(f"project{number}", nn.Conv2d(expanded, outputs, 1, bias=False))
            self.add_module(f"project_norm{number}", _normalization(outputs))
        self.head = nn.Linear(MOBILE_BLOCKS[-1][2], 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        for number, (inputs, _, outputs, stride) in enumerate(MOBILE_BLOCKS, 1):
            part = {
                name: getattr(self, f"{name}{number}")
                for name in (
                    "expand",
                    "expand_norm",
                    "depthwise",
                    "depthwise_norm",
                    "project",
                    "project_norm",
                )
            }
            y = F.relu6(part["expand_norm"](part["expand"](x)))
            if stride == 2:  # Keras pads an even side at its end only
                y = F.pad(y, (0, 1, 0, 1))
            y = F.relu6(part["depthwise_norm"](part["depthwise"](y)))
            y = part["project_norm"](part["project"](y))
            x = x + y if stride == 1 and inputs == outputs else y
        return self.head(x.mean((2, 3)))


class Mlp(nn.Module):
    """Dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden1, self.hidden2 = nn.Linear(784, 512), nn.Linear(512, 512)
        self.head = nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.head(F.relu(self.hidden2(F.relu(self.hidden1(x)))))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.attention_output = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part(x).view(batch, length, HEADS, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attention_output(y.transpose(1, 2).reshape(batch, length, width))


class _Embed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.token(tokens) + self.position(torch.arange(LENGTH))


class Transformer(nn.Module):
    """The language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = _Embed()
        for number in range(1, BLOCKS + 1):
            self.add_module(f"before_attention{number}", nn.LayerNorm(WIDTH))
            self.add_module(f"attention{number}", _Attention())
            self.add_module(f"before_dense{number}", nn.LayerNorm(WIDTH))
            self.add_module(f"wide{number}", nn.Linear(WIDTH, 4 * WIDTH))
            self.add_module(f"narrow{number}", nn.Linear(4 * WIDTH, WIDTH))
        self.before_head, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = self.embed(tokens)
        for number in range(1, BLOCKS + 1):
            x = x + getattr(self, f"attention{number}")(getattr(self, f"before_attention{number}")(x))
            y = getattr(self, f"wide{number}")(getattr(self, f"before_dense{number}")(x))
            x = x + getattr(self, f"narrow{number}")(F.gelu(y))
        return self.head(self.before_head(x))


class Lstm(nn.Module):
    """A recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(32, 64, batch_first=True), nn.Linear(64, 10)
        self.lstm.bias_hh_l0.requires_grad_(False)  # a second bias, which nobody else has, stays zero

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.head(self.lstm(x)[0][:, -1])


class Tiny(nn.Module):
    """One dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.head(x)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "mnist": Mnist,
    "cifar": Cifar,
    "separable": Separable,
    "mobilenet": Mobilenet,
    "mlp": Mlp,
    "transformer": Transformer,
    "lstm": Lstm,
    "tiny": Tiny,
}


# -- weights ---------------------------------------------------------------------------------------------------------

_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "embeddings": "weight",
    "depthwise_kernel": "depthwise.weight",
    "pointwise_kernel": "pointwise.weight",
    "lstm_cell/kernel": "weight_ih_l0",
    "lstm_cell/recurrent_kernel": "weight_hh_l0",
    "lstm_cell/bias": "bias_ih_l0",
}


def load(module: nn.Module, weights: Weights) -> None:
    """Fill a module with weights in Keras's layout.

    Args:
        module: Its attributes bear the names of the layers.
        weights: Arrays by path.

    Raises:
        RuntimeError: Some weight has no place, or some place no weight.
    """
    state: dict[str, torch.Tensor] = {}
    for path, array in weights.items():
        layer, _, name = path.partition("/lstm_cell/")
        if name:
            layer, name = layer, f"lstm_cell/{name}"
        else:
            layer, _, name = path.rpartition("/")
        state[f"{layer.replace('/', '.')}.{_NAMES.get(name, name)}"] = torch.from_numpy(_turned(path, array))
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked") or name.endswith("bias_hh_l0"):
            state[name] = torch.zeros_like(tensor)
    module.load_state_dict(state)


def _turned(path: str, array: np.ndarray) -> np.ndarray:
    """One weight in PyTorch's layout: what is summed over comes last."""
    if "attention" in path and path.endswith("kernel"):
        matrix = array.reshape(-1, WIDTH) if "attention_output" in path else array.reshape(WIDTH, -1)
        return np.ascontiguousarray(matrix.T)
    if "attention" in path and path.endswith("bias"):
        return array.reshape(-1)
    if not path.endswith("kernel"):
        return array
    if array.ndim == 2:
        return np.ascontiguousarray(array.T)
    if "depthwise" in path:
        return np.ascontiguousarray(array.transpose(2, 3, 0, 1))
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
