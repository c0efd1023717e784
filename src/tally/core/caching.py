"""Compiled programs kept between runs: JAX's own cache, in a folder of the user's, of limited size.

A compiled program is code. So the folder is the user's alone, and one that somebody else can write to is not used.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import sys
import warnings
from pathlib import Path
from typing import Any

import jax

VARIABLE = "TALLY_COMPILE_CACHE"
"""The environment variable: 0, off, false or no for no cache, or a folder for another place."""
MAX_BYTES = 2 * 2**30
"""What the folder may hold; a process that starts brings it down to this, what was used least recently first."""
MIN_SECONDS = 0.05
"""How long a program must take to compile to be kept; reading one back takes a tenth of that."""
_LEAST_FREE = 2**28
"""Bytes that must be free on the disk."""

_is_decided = False


def switch_on() -> None:
    """Let JAX keep what it compiles, once per process; nothing is done where the user has set up JAX's cache.

    No failure of the cache is an error: a folder that can't be made, read or trusted means that there is none.
    """
    global _is_decided
    if _is_decided:
        return
    _is_decided = True
    config: Any = jax.config
    if config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
        return
    folder = prepare_folder()
    if folder is None:
        return
    # A program that another process is still writing, or that a full disk cut off, is compiled again without a word.
    warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache", UserWarning)
    config.update("jax_compilation_cache_dir", str(folder))
    if config.jax_persistent_cache_min_compile_time_secs == 1.0:  # as JAX sets it
        config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)


def prepare_folder() -> Path | None:
    """Make the folder of this machine's programs and bring all of them down to their size.

    Returns:
        The folder; None where there is to be no cache, or can't be one.
    """
    home = _home()
    if home is None:
        return None
    folder = home / _machine()
    try:
        for one in (home, folder):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not is_the_users_own(one):
                return None
        if _can_be_replaced(home):
            return None
        if not os.access(folder, os.W_OK) or shutil.disk_usage(folder).free < _LEAST_FREE:
            return None
        bring_down(home, MAX_BYTES)
    except OSError:
        return None
    return folder


def is_the_users_own(folder: Path) -> bool:
    """Whether a folder is one, belongs to this user, and can be written to by nobody else."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return False
    return sys.platform == "win32" or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


def _can_be_replaced(folder: Path) -> bool:
    """Whether anybody may put another folder in its place."""
    mode = folder.parent.stat().st_mode
    return sys.platform != "win32" and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def bring_down(home: Path, most: int) -> None:
    """Delete programs until no more than so many bytes are left, those not used for longest first.

    Args:
        home: The folder with a folder for each machine.
        most: Bytes.
    """
    found: list[tuple[float, int, Path]] = []
    for path in home.glob("*/*-cache"):
        with contextlib.suppress(OSError):  # another process may delete, too
            known = path.stat()
            found.append((max(known.st_atime, known.st_mtime), known.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def _home() -> Path | None:
    """Where programs of all machines are kept; None for nowhere."""
    asked = os.environ.get(VARIABLE, "").strip()
    if asked.lower() in ("0", "off", "false", "no"):
        return None
    if asked and asked.lower() not in ("1", "on", "true", "yes"):
        return Path(asked).expanduser().absolute()
    try:
        return _cache_folder() / "tally" / "compiled"
    except RuntimeError:  # there is no home folder
        return None


def _cache_folder() -> Path:
    """The user's folder for what can be made anew."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = os.environ.get("XDG_CACHE_HOME", "")
    return Path(named) if Path(named).is_absolute() else Path.home() / ".cache"


def _machine() -> str:
    """A name for machines on which a program compiled here runs: a home folder may be shared by different ones."""
    facts = [sys.platform, platform.machine(), *_processor()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _processor() -> list[str]:
    """The processor's model and what it can do."""
    try:
        lines = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
        )
    except OSError:
        return [platform.processor()]
    return [
        line
        for line in lines
        if line.split("\t")[0].strip() in ("model name", "flags", "Features", "CPU part")
    ]
