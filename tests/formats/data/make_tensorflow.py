"""Writes the TensorFlow files beside it with TensorFlow 2.21 and Keras 3.15, which a test would wait for too long.

`float.tflite`, `half.tflite` and `int8.tflite` are one Keras model converted three ways; `exported.zip` is that model
as a SavedModel, `trained.zip` its checkpoint after one step of Adam, `sessions.zip` a checkpoint written by a session
of TensorFlow 1, `frozen.pb` the same graph with constants for variables.
"""

import os
import zipfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

HERE, SCRATCH = Path(__file__).parent, Path("build/tensorflow")
old = tf.compat.v1


def packed(name: str, folder: Path) -> None:
    with zipfile.ZipFile(HERE / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.writestr(
                    zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes(), 8, 9
                )


def model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 2), batch_size=1),
            keras.layers.Conv2D(4, 3, name="stem"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.DepthwiseConv2D(3, name="deep"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="head"),
        ],
        name="tiny",
    )


def batches() -> object:
    return ([np.random.default_rng(n).random((1, 6, 6, 2), "float32")] for n in range(2))


def convert(folder: Path, name: str, **options: object) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    for option, value in options.items():
        setattr(converter, option, value)
    (HERE / f"{name}.tflite").write_bytes(converter.convert())


def sessions() -> None:
    folder = SCRATCH / "sessions"
    with old.Graph().as_default() as graph, old.Session() as session:
        x = old.placeholder(tf.float32, (None, 3), name="x")
        kernel, bias = old.get_variable("dense/kernel", (3, 4)), old.get_variable("dense/bias", (4,))
        parts = old.get_variable("parts", (10, 4), partitioner=old.fixed_size_partitioner(3))
        mean = old.get_variable("norm/moving_mean", (4,), trainable=False)
        y = tf.nn.bias_add(tf.matmul(x, kernel), bias) + mean + tf.reduce_sum(tf.convert_to_tensor(parts))
        old.train.AdamOptimizer().minimize(tf.reduce_mean(y))
        session.run(old.global_variables_initializer())
        old.train.Saver().save(session, str(folder / "model.ckpt"), global_step=7, write_meta_graph=False)
        fixed = old.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), [y.op.name])
        (HERE / "frozen.pb").write_bytes(fixed.SerializeToString())
    packed("sessions", folder)


if __name__ == "__main__":
    keras.utils.set_random_seed(1)
    tiny, smaller = model(), [tf.lite.Optimize.DEFAULT]
    chance = np.random.default_rng(3)
    # Biases that are all zero would be left out, or kept as one.
    tiny.set_weights([chance.uniform(0.5, 1.5, one.shape) for one in tiny.get_weights()])
    tiny.export(SCRATCH / "exported", verbose=False)
    packed("exported", SCRATCH / "exported")
    convert(SCRATCH / "exported", "float")
    convert(
        SCRATCH / "exported",
        "half",
        optimizations=smaller,
        target_spec=tf.lite.TargetSpec(supported_types=[tf.float16]),
    )
    convert(SCRATCH / "exported", "int8", optimizations=smaller, representative_dataset=batches)
    tiny.compile("adam", "mse")
    tiny.fit(np.zeros((1, 6, 6, 2)), np.zeros((1, 3)), verbose=0)
    checkpoint = tf.train.Checkpoint(model=tiny, step=tf.Variable(3, dtype="int64"))
    checkpoint.save(str(SCRATCH / "trained" / "model"))
    packed("trained", SCRATCH / "trained")
    sessions()
