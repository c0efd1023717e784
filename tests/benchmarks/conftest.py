"""The benchmarks are found from wherever the tests are started."""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).parent.parent.parent)
if _ROOT not in sys.path:
    sys.path.append(_ROOT)
