"""What is trained: the four tasks, their sizes, their data, and the multiply-adds of a forward pass in closed form."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Data = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Mnist:
    """The small convolutional network for digits: 3×3 convolutions, each before a pooling of 2, then a dense layer."""

    side: int = 28
    filters: tuple[int, int] = (32, 64)
    classes: int = 10

    def multiply_adds(self) -> int:
        """Of a forward pass for one image."""
        first, second = self.side - 2, (self.side - 2) // 2 - 2
        one, two = self.filters
        left = (second // 2) ** 2 * two
        return first**2 * 9 * one + second**2 * 9 * one * two + left * self.classes


@dataclass(frozen=True, slots=True)
class ResNet:
    """ResNet with bottleneck blocks, the stride in the 3×3 convolution and no biases before normalisations ("v1.5")."""

    side: int = 224
    stages: tuple[int, ...] = (3, 4, 6, 3)
    filters: int = 64
    classes: int = 1000

    def multiply_adds(self) -> int:
        """Of a forward pass for one image."""
        side, channels = -(-self.side // 2), self.filters
        total = side**2 * 49 * 3 * channels
        side = -(-side // 2)
        for stage, blocks in enumerate(self.stages):
            inner = self.filters * 2**stage
            for block in range(blocks):
                before, side = side, side if stage == 0 or block else -(-side // 2)
                total += before**2 * channels * inner + side**2 * inner * (9 * inner + 4 * inner)
                total += 0 if block else side**2 * channels * 4 * inner
                channels = 4 * inner
        return total + channels * self.classes


@dataclass(frozen=True, slots=True)
class Vit:
    """Vision transformer with a class token and learned positions, normalised before each part of a block."""

    side: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    classes: int = 1000

    @property
    def places(self) -> int:
        """Tokens of one image, the class token included."""
        return (self.side // self.patch) ** 2 + 1

    def multiply_adds(self) -> int:
        """Of a forward pass for one image."""
        patches = (self.places - 1) * self.patch**2 * 3 * self.width
        return patches + self.depth * _block(self.places, self.width) + self.width * self.classes


@dataclass(frozen=True, slots=True)
class Gpt:
    """GPT-2 small: learned positions, the output's weights those of the embedding, no dropout."""

    words: int = 50304  # GPT-2's 50,257, filled up to a multiple of 64
    length: int = 1024
    width: int = 768
    depth: int = 12
    heads: int = 12

    def multiply_adds(self) -> int:
        """Of a forward pass for one sequence; attention counts every pair of places, as is usual."""
        return self.depth * _block(self.length, self.width) + self.length * self.width * self.words


def _block(places: int, width: int) -> int:
    """Multiply-adds of a transformer's block: four projections, two products with scores, and two dense layers."""
    return 4 * places * width**2 + 2 * places**2 * width + 8 * places * width**2


Model = Mnist | ResNet | Vit | Gpt


@dataclass(frozen=True, slots=True)
class Task:
    """One model to train, in one way.

    Attributes:
        name: What `--models` calls it.
        title: What the table calls it.
        model: Its sizes.
        batch: Examples in a step.
        steps: Steps in a round, which is one pass over the data.
        policy: The dtype policy in Keras's words.
        group: How many steps one execution takes where a contestant is asked to take several.
        optimizer: `"sgd"`, `"adam"` or `"adamw"`, with the rates of `RATES`.
    """

    name: str
    title: str
    model: Any
    batch: int
    steps: int
    policy: str
    optimizer: str
    group: int = 1

    @property
    def unit(self) -> str:
        """What is counted per second."""
        return "tokens" if isinstance(self.model, Gpt) else "images"

    @property
    def units(self) -> int:
        """Images or tokens in a step."""
        return self.batch * (self.model.length if isinstance(self.model, Gpt) else 1)

    @property
    def flops(self) -> int:
        """Floating-point operations of a training step: three times a forward pass, two for each multiply-add."""
        return 3 * 2 * self.model.multiply_adds() * self.batch


RATES = {"sgd": 0.02, "adam": 1e-3, "adamw": 3e-4}
"""Optimizer -> learning rate. `sgd` has a momentum of 0.9, `adamw` a weight decay of 0.1 on all weights."""
MOMENTUM, DECAY = 0.9, 0.1


def tasks(scale: str = "full") -> list[Task]:
    """The four tasks.

    Args:
        scale: `"full"`, `"quick"` (the same models and batches, fewer steps) or `"dry"` (tiny sizes for a CPU).
    """
    if scale == "dry":
        models: tuple[Model, ...] = (
            Mnist(side=12, filters=(4, 8)),
            Gpt(words=64, length=16, width=16, depth=2, heads=2),
            Vit(side=16, patch=8, width=16, depth=2, heads=2, classes=10),
            ResNet(side=32, stages=(1, 1), filters=8, classes=10),
        )
        batches, steps, group = (8, 2, 2, 2), (4, 2, 2, 2), 2
    else:
        models = (Mnist(), Gpt(), Vit(), ResNet())
        batches, group = (128, 16, 256, 256), 32
        steps = (960, 20, 12, 16) if scale == "full" else (640, 10, 6, 8)
    names = ("mnist", "gpt", "vit", "resnet50")
    titles = ("MNIST convnet", "GPT-2 124M", "ViT-B/16", "ResNet-50")
    policies = ("float32", *["mixed_bfloat16"] * 3)
    optimizers = ("adam", "adamw", "adamw", "sgd")
    groups = (group, 1, 1, 1)
    rows = zip(names, titles, models, batches, steps, policies, optimizers, groups, strict=True)
    return [Task(*row) for row in rows]


def make_data(task: Task) -> Data:
    """Inputs and targets of one pass: images as bytes with class numbers, or words with the words that follow.

    Images are noise, each brightened by its class, so that there is something to learn; words are drawn so that small
    numbers are frequent.
    """
    generator, count, model = np.random.default_rng(0), task.batch * task.steps, task.model
    if isinstance(model, Gpt):
        words = generator.random((count, model.length + 1), "float32") ** 3 * model.words
        words = words.astype("int32")
        return np.ascontiguousarray(words[:, :-1]), np.ascontiguousarray(words[:, 1:])
    channels = 1 if isinstance(model, Mnist) else 3
    labels = generator.integers(0, model.classes, count, dtype="int32")
    images = generator.integers(0, 128, (count, model.side, model.side, channels), dtype="uint8")
    images += (labels * 127 // model.classes).astype("uint8")[:, None, None, None]
    return images, labels
