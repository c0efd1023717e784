"""Scripts written for Keras or TensorFlow, run as they stand: their imports are answered by this library.

What they may rely on, and what differs from TensorFlow:

- Imports of `keras` and `tensorflow` in the user's own files are answered here; an installed package that imports them
  finds what is really installed, or nothing.
- A name that is not here stops the script with an error that names it, the script's line and the nearest equivalent.
- Tensors are JAX arrays. They gain `.numpy()`, `.get_shape()`, `.set_shape()`, and a `.shape` that also answers
  `as_list()` when the user's own file asks; they print as JAX prints them. `==` compares the values of variables.
- Computation is in 32 bits unless 64 are asked for: NumPy's float64 arrays become float32, and 64-bit integers are held
  in 32 bits as long as their values fit.
- Random numbers are JAX's: seeds make a run repeatable, but the numbers are not those TensorFlow draws.
- `tf.GradientTape` tells what TensorFlow's tells, but for the slope at a kink, such as that of `tf.maximum(x, 0.)`
  at 0, which is JAX's.
- `tf.function` gives the function back; what it prints, it prints each time.
"""

from tally.compat.install import Installed, install

__all__ = ["Installed", "install"]
