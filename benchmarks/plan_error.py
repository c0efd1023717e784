"""How far the planned memory and FLOPs of training steps are from the compiler's own figures, and from a run.

Run it as `python -m benchmarks.plan_error [NAME ...] [--batch-size N ...] [--json FILE]`; every step is compiled and,
on the CPU under Linux, run. A loop's FLOPs the compiler counts once, so the recurrent models are off there by design.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tally
from tally import layers


def stack(shape: tuple[int, ...], *parts: Any, dtype: str = "float32") -> tally.Model:
    """Layers one after another on inputs of a shape."""
    return tally.Sequential([tally.Input(shape, dtype=dtype), *parts])


def convolution(filters: int, size: int = 3, **options: Any) -> layers.Layer:
    """A convolution as most of these models have it."""
    return layers.Conv2D(filters, size, **{"padding": "same", "activation": "relu", **options})


def mlp() -> tally.Model:
    """Dense layers: weights outweigh activations."""
    hidden = [layers.Dense(512, activation="relu") for _ in range(2)]
    return stack((784,), *hidden, layers.Dense(10, activation="softmax"))


def convnet() -> tally.Model:
    """The small network for digits: poolings whose gradients the CPU finds with whole numbers."""
    first = [convolution(32, padding="valid"), layers.MaxPooling2D(2)]
    second = [convolution(64, padding="valid"), layers.MaxPooling2D(2)]
    return stack((28, 28, 1), *first, *second, layers.Flatten(), layers.Dropout(0.5), layers.Dense(10))


def residual() -> tally.Model:
    """Residual blocks with batch normalisation."""
    inputs = tally.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(convolution(16, use_bias=False, activation=None)(inputs)))
    for filters, strides in ((16, 1), (16, 1), (32, 2), (32, 1)):
        y = convolution(filters, strides=strides, use_bias=False, activation=None)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(convolution(filters, use_bias=False, activation=None)(y))
        x = x if strides == 1 else convolution(filters, 1, strides=strides, activation=None)(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    return tally.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def transformer(blocks: int = 2, steps: int = 64, width: int = 64, words: int = 256) -> tally.Model:
    """A small language model."""
    inputs = tally.Input((steps,), dtype="int32")
    x = layers.Embedding(words, width)(inputs)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4)(y, y, use_causal_mask=True)])
        y = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(y)])
    return tally.Model(inputs, layers.Dense(words)(layers.LayerNormalization()(x)))


def lstm() -> tally.Model:
    """Two recurrent layers on words."""
    cells = [layers.LSTM(64, return_sequences=True), layers.LSTM(64)]
    return stack((50,), layers.Embedding(1000, 64), *cells, layers.Dense(1), dtype="int32")


def depthwise() -> tally.Model:
    """Depthwise and 1×1 convolutions."""
    parts: list[Any] = [convolution(16, strides=2)]
    for filters in (32, 64):
        parts += [layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization(), layers.ReLU(6.0)]
        parts += [layers.Conv2D(filters, 1), layers.BatchNormalization(), layers.ReLU(6.0)]
    return stack((32, 32, 3), *parts, layers.GlobalAveragePooling2D(), layers.Dense(10))


def unet() -> tally.Model:
    """Down and up again, with what was skipped put beside."""
    inputs = x = tally.Input((32, 32, 3))
    skipped = []
    for filters in (16, 32):
        x = convolution(filters)(convolution(filters)(x))
        skipped.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = convolution(64)(x)
    for filters in (32, 16):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = convolution(filters)(layers.Concatenate()([x, skipped.pop()]))
    return tally.Model(inputs, convolution(2, 1, activation="softmax")(x))


def vgg() -> tally.Model:
    """Convolutions in pairs, average pooling, a wide head."""
    parts = [
        part
        for filters in (32, 64, 128)
        for part in (convolution(filters), convolution(filters), layers.AveragePooling2D(2))
    ]
    return stack((32, 32, 3), *parts, layers.Flatten(), layers.Dense(256, "relu"), layers.Dense(10))


def language() -> tally.Model:
    """A language model with more words than width."""
    return transformer(3, 32, 128, 1000)


def text() -> tally.Model:
    """Convolutions over words."""
    parts = [layers.Conv1D(64, 5, activation="relu"), layers.GlobalMaxPooling1D(), layers.Dense(64, "relu")]
    return stack((100,), layers.Embedding(5000, 64), *parts, layers.Dense(1), dtype="int32")


def gru() -> tally.Model:
    """Recurrent layers in both directions."""
    both = layers.Bidirectional(layers.GRU(32, return_sequences=True))
    return stack((40, 16), both, layers.GRU(32), layers.Dense(5))


def wide() -> tally.Model:
    """Wide dense layers with a normalisation between."""
    parts = [layers.Dense(1024, "gelu"), layers.LayerNormalization(), layers.Dense(1024, "silu")]
    return stack((64,), *parts, layers.Dropout(0.1), layers.Dense(3))


def autoencoder() -> tally.Model:
    """Strided convolutions and transposed ones."""
    down = [convolution(16, strides=2), convolution(32, strides=2), layers.Flatten(), layers.Dense(16)]
    up: list[Any] = [layers.Dense(7 * 7 * 32, "relu"), layers.Reshape((7, 7, 32))]
    options = {"strides": 2, "padding": "same", "activation": "sigmoid"}
    return stack(
        (28, 28, 1), *down, *up, *(layers.Conv2DTranspose(filters, 3, **options) for filters in (16, 1))
    )


CALIBRATED: tuple[Callable[[], tally.Model], ...] = (mlp, convnet, residual, transformer, lstm, depthwise)
OTHERS: tuple[Callable[[], tally.Model], ...] = (unet, vgg, language, text, gru, wide, autoencoder)


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to compare; all unless given")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the records")
    options = parser.parse_args()
    print(
        f"{'model':<13}{'batch':>6}{'planned MB':>12}{'compiler':>12}{'off':>8}{'a run':>10}{'off':>8}{'FLOPs off':>12}"
    )
    errors, measured, records = [], [], []
    for make in (*CALIBRATED, *OTHERS):
        if options.names and make.__name__ not in options.names:
            continue
        for batch in options.batch_size:
            found = tally.plan(make(), batch_size=batch, compare=True, print_fn=lambda text: None)
            errors.append(abs(found.peak_error or 0))
            if found.compiled is not None and found.compiled.measured:
                measured.append(abs((found.peak or 0) / found.compiled.measured - 1))
            print(_row(make.__name__, found))
            records.append(_record(make.__name__, found))
    for what, errors_of in (("the compiler's", errors), ("a run's", measured)):
        if errors_of:
            mean, most = sum(errors_of) / len(errors_of), max(errors_of)
            print(f"The planned peak is off {what} by {mean:.1%} on average, by {most:.1%} at most.")
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


def _record(name: str, found: Any) -> dict[str, Any]:
    return {
        **{"model": name, "batch_size": found.batch_size, "planned_bytes": found.peak},
        **{"compiler_bytes": found.compiled.peak, "off_compiler": found.peak_error},
        "run_bytes": found.compiled.measured,
        "off_run": found.peak / found.compiled.measured - 1 if found.compiled.measured else None,
        "flops_off": found.flops_error,
    }


def _row(name: str, found: Any) -> str:
    compiled, peak = found.compiled, found.peak
    run = compiled.measured
    measured = f"{run / 1e6:>10.2f}{peak / run - 1:>+8.1%}" if run else f"{'':>18}"
    figures = f"{peak / 1e6:>12.2f}{compiled.peak / 1e6:>12.2f}{found.peak_error:>+8.1%}"
    return f"{name:<13}{found.batch_size:>6}{figures}{measured}{found.flops_error:>+12.2%}"


if __name__ == "__main__":
    main()
