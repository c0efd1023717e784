"""`python -m tests.accuracy [word]`: prints the accuracy table; exits 0 only if every case comes out right."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.insert(0, str(Path(__file__).parent.parent))  # where pytest finds the tests' other packages, too

from .score import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
