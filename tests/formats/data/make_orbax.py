"""Writes `orbax.zip` with Orbax 0.12 and Flax 0.12: a training state of 20 layers in one store, three steps kept."""

import shutil
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp

HERE, SCRATCH = Path(__file__).parent, Path("build/orbax").absolute()


def state() -> dict[str, object]:
    params = {
        f"layer_{n}": {"kernel": jnp.ones((4, n + 1)), "bias": jnp.ones(n + 1, jnp.bfloat16)}
        for n in range(20)
    }
    statistics = {"norm": {"mean": jnp.ones(3), "var": jnp.ones(3)}}
    optimizer = optax.adam(0.1).init(params)
    return {
        "step": 3,
        "params": params,
        "batch_stats": statistics,
        "opt_state": optimizer,
        "dropout": jax.random.key(0),
    }


if __name__ == "__main__":
    shutil.rmtree(SCRATCH, ignore_errors=True)
    with ocp.CheckpointManager(SCRATCH) as manager:
        for step in (1, 2, 10):
            manager.save(step, args=ocp.args.StandardSave(state()))
    with zipfile.ZipFile(HERE / "orbax.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(SCRATCH.rglob("*")):
            if path.is_file() and (path.relative_to(SCRATCH).parts[0] == "10" or path.name == "_METADATA"):
                name = path.relative_to(SCRATCH).as_posix()
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
