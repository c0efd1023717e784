"""`python -m tests.fuzz`: breaks files by chance and reads them; exits 0 only if nothing failed."""

import argparse
import os
import secrets
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent.parent))  # where pytest finds the tests' other packages, too

from .run import chosen, run, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for all readers together (10)")
    parser.add_argument("--inputs", type=int, default=10**9, help="for each reader at most")
    parser.add_argument(
        "--only", action="append", default=[], metavar="FORMAT", help="a reader by name; may be repeated"
    )
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="the same one breaks the same files"
    )
    options = parser.parse_args()
    readers = chosen(options.only)
    print(
        f"seed {options.seed}, {options.minutes * 60 / len(readers):.0f} s for each of {len(readers)} readers",
        flush=True,
    )
    scores = []
    for reader in readers:
        scores.append(run(reader, options.seed, options.inputs, options.minutes * 60 / len(readers)))
        print(f"{reader.name}: {scores[-1].tried:,} inputs, {len(scores[-1].failures)} failures", flush=True)
    print("", *table(scores), sep="\n")
    return int(any(score.failures for score in scores))


if __name__ == "__main__":
    sys.exit(main())
