"""Functions on arrays, variables and symbolic tensors, named and called as in `keras.ops`."""

# ruff: noqa: F401, F403 - importing is this file's purpose

from tally.ops import image, linalg, math, nn, numpy, operators
from tally.ops.core import *
from tally.ops.definition import op
from tally.ops.linalg import *
from tally.ops.math import *
from tally.ops.nn import *
from tally.ops.numpy import *
