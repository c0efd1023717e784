"""What to write instead of the names of Keras and TensorFlow that have no counterpart here."""

_RUN = "nothing to run: tally computes as the line is reached, and x.numpy() is the value"
_SEQUENCES = "pad to one length with NumPy, and mask with keras.layers.Masking or Embedding(mask_zero=True)"
_FILES = "read files with Python or NumPy and feed arrays: tf.data.Dataset.from_tensor_slices(arrays)"
_DEVICES = "devices are JAX's: jax.devices(), and jax.sharding to spread a model"
_GRADIENTS = (
    "give the function to JAX: value, gradients = jax.value_and_grad(loss)(values); a model as a pure function is "
    "model.stateless_call(trainable values, other values, x); or train with compile and fit"
)
_FIXED = "write the layer with build and call, or take the nearest of keras.layers"

INSTEAD = {
    "tensorflow.Session": _RUN,
    "tensorflow.InteractiveSession": _RUN,
    "tensorflow.global_variables_initializer": "nothing to call: variables draw their first values by themselves",
    "tensorflow.placeholder": "pass arrays to the function, or keras.Input(shape) to a model",
    "tensorflow.get_variable": "tf.Variable(...), or self.add_weight(...) in a layer's build",
    "tensorflow.variable_scope": "variables belong to layers; write a keras.layers.Layer",
    "tensorflow.layers": "keras.layers",
    "tensorflow.contrib": "keras.layers and keras.optimizers; contrib was dropped by TensorFlow 2, too",
    "tensorflow.app": "argparse, and call main() yourself",
    "tensorflow.flags": "argparse",
    "tensorflow.logging": "the module logging, or tf.get_logger()",
    "tensorflow.gfile": _FILES,
    "tensorflow.random_normal": "tf.random.normal",
    "tensorflow.random_uniform": "tf.random.uniform",
    "tensorflow.truncated_normal": "tf.random.truncated_normal",
    "tensorflow.set_random_seed": "tf.random.set_seed",
    "tensorflow.to_float": "tf.cast(x, tf.float32)",
    "tensorflow.to_int32": "tf.cast(x, tf.int32)",
    "tensorflow.log": "tf.math.log",
    "tensorflow.div": "tf.math.divide",
    "tensorflow.assign": "variable.assign(value)",
    "tensorflow.summary": "keras.callbacks.CSVLogger, or tensorboardX in a callback of your own",
    "tensorflow.train.Checkpoint": "model.save_weights(path) and model.load_weights(path)",
    "tensorflow.train.CheckpointManager": "keras.callbacks.ModelCheckpoint",
    "tensorflow.train": "keras.optimizers, and model.save_weights for checkpoints",
    "tensorflow.saved_model": "model.save('model.keras') and keras.models.load_model",
    "tensorflow.lite": "no counterpart: save the model as .keras and convert it where TensorFlow is installed",
    "tensorflow.distribute": _DEVICES,
    "tensorflow.tpu": _DEVICES,
    "tensorflow.gradients": _GRADIENTS,
    "tensorflow.hessians": "jax.hessian",
    "tensorflow.autodiff": "jax.jvp",
    "tensorflow.recompute_grad": "jax.checkpoint",
    "tensorflow.io": _FILES,
    "tensorflow.image.decode_image": _FILES,
    "tensorflow.image.decode_jpeg": _FILES,
    "tensorflow.image.decode_png": _FILES,
    "tensorflow.data.TextLineDataset": _FILES,
    "tensorflow.data.TFRecordDataset": _FILES,
    "tensorflow.data.FixedLengthRecordDataset": _FILES,
    "tensorflow.strings": "Python's own strings, before the model",
    "tensorflow.lookup": "a Python dict, before the model",
    "tensorflow.feature_column": "columns as arrays; keras.layers.Normalization, CategoryEncoding, Discretization",
    "tensorflow.estimator": "keras.Model with compile and fit",
    "tensorflow.ragged": _SEQUENCES,
    "tensorflow.RaggedTensor": _SEQUENCES,
    "tensorflow.sparse": "dense arrays; keras.layers.Embedding where a row is looked up",
    "tensorflow.SparseTensor": "dense arrays; keras.layers.Embedding where a row is looked up",
    "tensorflow.IndexedSlices": "gradients are dense here",
    "tensorflow.TensorArray": "a Python list and tf.stack, or keras.ops.scan",
    "tensorflow.scan": "keras.ops.scan",
    "tensorflow.foldl": "keras.ops.scan",
    "tensorflow.foldr": "keras.ops.scan(reverse=True)",
    "tensorflow.py_function": "call the Python function before the model",
    "tensorflow.numpy_function": "call the NumPy function before the model",
    "tensorflow.experimental.numpy": "jax.numpy",
    "tensorflow.signal": "keras.ops.fft, rfft, stft and istft, which take real and imaginary part",
    "tensorflow.sets": "NumPy's set routines, before the model",
    "tensorflow.quantization": "keras.dtype_policies for shorter types",
    "tensorflow.compat.v1": "TensorFlow 1's sessions and placeholders have no counterpart; write it with keras.Model",
    "tensorflow.python": "tensorflow.keras, without python",
    "tensorflow.config.set_visible_devices": "the environment variable JAX_PLATFORMS=cpu, set before the start",
    "tensorflow.config.threading": "the number of threads is XLA's; limit the process, for instance with taskset",
    "tensorflow.config.optimizer": "nothing to call: XLA compiles every step",
    "tensorflow.debugging": "assert, or tally's own errors: a loss that is not finite stops fit at its step",
    "tensorflow.profiler": "jax.profiler",
    "tensorflow.math.confusion_matrix": "NumPy: np.add.at(matrix, (labels, predictions), 1)",
    "keras.losses.Reduction": "reduction='none', 'sum' or 'sum_over_batch_size', as a word",
    "keras.callbacks.TensorBoard": "keras.callbacks.CSVLogger",
    "keras.callbacks.RemoteMonitor": "keras.callbacks.LambdaCallback",
    "keras.utils.plot_model": "model.summary(), or tally.explain(model)",
    "keras.utils.model_to_dot": "model.summary(), or tally.explain(model)",
    "keras.utils.pad_sequences": _SEQUENCES,
    "keras.utils.image_dataset_from_directory": "read the images with Pillow and NumPy, and feed arrays",
    "keras.utils.text_dataset_from_directory": "read the texts with Python, and feed numbers",
    "keras.preprocessing.image.ImageDataGenerator": "arrays or a keras.utils.PyDataset that gives batches",
    "keras.preprocessing.text": "Python's own strings and a dict from words to numbers",
    "keras.preprocessing.sequence.pad_sequences": _SEQUENCES,
    "keras.preprocessing": "NumPy, before the model",
    "keras.layers.TextVectorization": "Python's own strings and a dict from words to numbers, then Embedding",
    "keras.layers.StringLookup": "a Python dict, before the model",
    "keras.layers.IntegerLookup": "a Python dict, before the model",
    "keras.layers.Hashing": "Python's hash, before the model",
    "keras.layers.ConvLSTM1D": _FIXED,
    "keras.layers.ConvLSTM2D": _FIXED,
    "keras.layers.ConvLSTM3D": _FIXED,
    "keras.layers.LocallyConnected1D": _FIXED,
    "keras.layers.LocallyConnected2D": _FIXED,
    "keras.layers.CuDNNLSTM": "keras.layers.LSTM",
    "keras.layers.CuDNNGRU": "keras.layers.GRU",
    "keras.layers.ThresholdedReLU": "keras.layers.ReLU(threshold=...)",
    "keras.layers.experimental": "keras.layers, without experimental",
    "keras.optimizers.legacy": "keras.optimizers, without legacy",
    "keras.optimizers.experimental": "keras.optimizers, without experimental",
    "keras.mixed_precision.experimental": "keras.mixed_precision.set_global_policy",
    "keras.mixed_precision.LossScaleOptimizer": "keras.optimizers.LossScaleOptimizer",
    "keras.wrappers": "scikit-learn's own wrapper functions around a model's fit and predict",
    "keras.estimator": "keras.Model with compile and fit",
    "keras.distribution": _DEVICES,
    "keras.src": "the public names of keras",
    "keras.legacy": "the public names of keras",
    "keras.backend.placeholder": "keras.Input(shape)",
    "keras.backend.function": "keras.Model(inputs, outputs), and call it",
    "keras.backend.gradients": _GRADIENTS,
    "keras.backend.get_session": _RUN,
    "keras.backend.set_session": _RUN,
    "keras.backend.learning_phase": "the argument training of call",
    "keras.backend.set_learning_phase": "the argument training of call: model(x, training=False)",
    "keras.backend.rnn": "keras.layers.RNN with a cell, or keras.ops.scan",
    "keras.backend.tf": "import tensorflow as tf",
}
"""Dotted name, for itself and all below it -> what to write."""


def advice(path: str) -> str:
    """What to write instead of a name, or nothing where nobody knows.

    Args:
        path: The full dotted name; `tensorflow.keras.x` counts as `keras.x`.

    Example:
        >>> advice("tensorflow.random_normal")
        'write tf.random.normal'
    """
    if path.startswith("tensorflow.keras."):
        path = path.removeprefix("tensorflow.")
    while path:
        if path in INSTEAD:
            found = INSTEAD[path]
            return f"write {found}" if found.startswith(("tf.", "keras.", "jax.")) else found
        path = path.rpartition(".")[0]
    return ""
