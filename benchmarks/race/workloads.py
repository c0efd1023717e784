"""What the contestants train: each model's data, initial weights, batch, steps and tolerance, in numpy."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.race.weights import Drawer, Weights

Data = tuple[np.ndarray, np.ndarray]

LEARNING_RATE = 1e-3
EPSILON = 1e-7
"""Adam's, in every contestant: Keras's default, not optax's or PyTorch's 1e-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One model with all that its training takes.

    Args:
        name: The word on the command line.
        title: What the model is, in a sentence without its full stop.
        batch: Examples per step.
        steps: Steps per epoch; one epoch is timed as a whole.
        tolerance: How far the loss of an epoch may be from the first contestant's, as a part of the first epoch's loss.
        draw_data: From a generator and a number of examples to inputs and integer targets.
        draw_weights: Fills a `Drawer` with the model's weights.
    """

    name: str
    title: str
    batch: int
    steps: int
    tolerance: float
    draw_data: Callable[[np.random.Generator, int], Data]
    draw_weights: Callable[[Drawer], None]

    def data(self) -> Data:
        """Inputs and targets of an epoch: the same bits wherever they are drawn."""
        return self.draw_data(np.random.default_rng(self._seed), self.batch * self.steps)

    def weights(self) -> Weights:
        """Initial weights by path, in Keras's layout."""
        drawer = Drawer(self._seed + 1)
        self.draw_weights(drawer)
        return drawer.weights

    @property
    def parameters(self) -> int:
        """Scalars in all weights, running statistics included."""
        return sum(array.size for array in self.weights().values())

    @property
    def _seed(self) -> int:
        return zlib.crc32(self.name.encode())


# -- data that can be learnt -------------------------------------------------------------------------------------


def images(*shape: int, classes: int = 10) -> Callable[[np.random.Generator, int], Data]:
    """Noise around one pattern for each class, of a shape without the batch; a mean over places tells classes too.

    One target in ten is drawn at random: a loss that fell to nothing would no longer tell contestants apart, and would
    end in numbers so small that processors take longer for them.
    """

    def draw(random: np.random.Generator, examples: int) -> Data:
        patterns = random.standard_normal((classes, *shape), np.float32)
        patterns += random.standard_normal((classes, *(1 for _ in shape[:-1]), shape[-1]), np.float32)
        kinds, other = (random.integers(0, classes, examples).astype(np.int32) for _ in range(2))
        targets = np.where(random.random(examples) < 0.1, other, kinds)
        return patterns[kinds] + random.standard_normal((examples, *shape), np.float32), targets

    return draw


def sentences(words: int, length: int) -> Callable[[np.random.Generator, int], Data]:
    """Words that follow each other by a fixed rule nine times in ten; the target is the next word at every place."""

    def draw(random: np.random.Generator, examples: int) -> Data:
        follower = random.permutation(words)
        tokens = np.empty((examples, length + 1), np.int32)
        tokens[:, 0] = random.integers(0, words, examples)
        for place in range(length):
            kept = random.random(examples) < 0.9
            tokens[:, place + 1] = np.where(
                kept, follower[tokens[:, place]], random.integers(0, words, examples)
            )
        return tokens[:, :-1].copy(), tokens[:, 1:].copy()

    return draw


# -- weights ---------------------------------------------------------------------------------------------------------

CIFAR_FILTERS = ((3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128))
"""Input channels and filters of each convolution of the `cifar` model."""
MOBILE_BLOCKS = ((24, 144, 24, 1), (24, 144, 32, 2))
"""Input channels, expanded channels, output channels and stride of each inverted residual of the `mobilenet` model."""
WORDS, LENGTH, WIDTH, HEADS, BLOCKS = 1000, 64, 128, 4, 4
"""The `transformer`: vocabulary, tokens in a sequence, width, heads, blocks."""


def _mnist(draw: Drawer) -> None:
    draw.convolution("conv1", 3, 1, 32)
    draw.convolution("conv2", 3, 32, 64)
    draw.dense("head", 1600, 10)


def _cifar(draw: Drawer) -> None:
    for number, (inputs, filters) in enumerate(CIFAR_FILTERS, 1):
        draw.convolution(f"conv{number}", 3, inputs, filters, bias=False)
        draw.batch_normalization(f"norm{number}", filters)
    draw.dense("head", 128, 10)


def _separable(draw: Drawer) -> None:
    for number in (1, 2):
        draw.separable(f"separable{number}", 3, 64, 64)
        draw.batch_normalization(f"norm{number}", 64)
    draw.convolution("shortcut", 1, 64, 64)
    draw.dense("head", 64, 10)


def _mobilenet(draw: Drawer) -> None:
    for number, (inputs, expanded, outputs, _stride) in enumerate(MOBILE_BLOCKS, 1):
        draw.convolution(f"expand{number}", 1, inputs, expanded, bias=False)
        draw.batch_normalization(f"expand_norm{number}", expanded)
        draw.depthwise(f"depthwise{number}", 3, expanded)
        draw.batch_normalization(f"depthwise_norm{number}", expanded)
        draw.convolution(f"project{number}", 1, expanded, outputs, bias=False)
        draw.batch_normalization(f"project_norm{number}", outputs)
    draw.dense("head", MOBILE_BLOCKS[-1][2], 10)


def _mlp(draw: Drawer) -> None:
    draw.dense("hidden1", 784, 512)
    draw.dense("hidden2", 512, 512)
    draw.dense("head", 512, 10)


def _transformer(draw: Drawer) -> None:
    draw.embedding("embed/token", WORDS, WIDTH)
    draw.embedding("embed/position", LENGTH, WIDTH)
    for number in range(1, BLOCKS + 1):
        draw.layer_normalization(f"before_attention{number}", WIDTH)
        draw.attention(f"attention{number}", WIDTH, HEADS)
        draw.layer_normalization(f"before_dense{number}", WIDTH)
        draw.dense(f"wide{number}", WIDTH, 4 * WIDTH)
        draw.dense(f"narrow{number}", 4 * WIDTH, WIDTH)
    draw.layer_normalization("before_head", WIDTH)
    draw.dense("head", WIDTH, WORDS, bias=False)


def _lstm(draw: Drawer) -> None:
    draw.lstm("lstm", 32, 64)
    draw.dense("head", 64, 10)


def _tiny(draw: Drawer) -> None:
    draw.dense("head", 4, 8)


# -- the workloads ---------------------------------------------------------------------------------------------------

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(
            name="mnist",
            title="convnet for digits: 3×3 convolutions of 32 and 64 filters, each with ReLU and 2×2 max pooling,"
            " dropout, softmax",
            batch=128,
            steps=40,
            tolerance=0.05,
            draw_data=images(28, 28, 1),
            draw_weights=_mnist,
        ),
        Workload(
            name="cifar",
            title="CNN on 32×32×3: twice 3×3 convolution, batch normalisation, ReLU at 32, 64 and 128 filters",
            batch=64,
            steps=6,
            tolerance=0.05,
            draw_data=images(32, 32, 3),
            draw_weights=_cifar,
        ),
        Workload(
            name="separable",
            title="Xception block on 32×32×64: two separable 3×3 convolutions, 3×3 max pooling, strided shortcut",
            batch=64,
            steps=5,
            tolerance=0.05,
            draw_data=images(32, 32, 64),
            draw_weights=_separable,
        ),
        Workload(
            name="mobilenet",
            title="two inverted residuals on 32×32×24, six times as wide inside, stride 1 and 2",
            batch=64,
            steps=4,
            tolerance=0.05,
            draw_data=images(32, 32, 24),
            draw_weights=_mobilenet,
        ),
        Workload(
            name="mlp",
            title="784-512-512-10 with ReLU",
            batch=128,
            steps=100,
            tolerance=0.05,
            draw_data=images(784),
            draw_weights=_mlp,
        ),
        Workload(
            name="transformer",
            title="language model: 4 blocks, width 128, 4 heads, 64 tokens of 1,000",
            batch=16,
            steps=10,
            tolerance=0.05,
            draw_data=sentences(WORDS, LENGTH),
            draw_weights=_transformer,
        ),
        Workload(
            name="lstm",
            title="LSTM of 64 units on sequences of 50 steps by 32 features",
            batch=32,
            steps=40,
            tolerance=0.05,
            draw_data=images(50, 32),
            draw_weights=_lstm,
        ),
        Workload(
            name="tiny",
            title="one dense layer of 8 units on 4 features: what a step costs when there is nothing to compute",
            batch=32,
            steps=1000,
            tolerance=0.05,
            draw_data=images(4, classes=8),
            draw_weights=_tiny,
        ),
    )
}
