"""What lies where a model should: nothing, a pointer to a file kept elsewhere, or a web page."""

ENOUGH = 256
"""How many first bytes tell it."""


def mistaken(start: bytes) -> tuple[str, str] | None:
    """Tell what was stored in place of a model, and what to do; None if it is none of these.

    Args:
        start: The first bytes of the file, `ENOUGH` of them.

    Example:
        >>> mistaken(b"version https://git-lfs.github.com/spec/v1")
        ('is a pointer of Git LFS, not the file itself', 'fetch the file: git lfs pull')
        >>> mistaken(b"PK") is None
        True
    """
    if not start:
        return "is empty", "fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a model", "look at it: it may say why the file was not sent"
    return None
