"""The one error of every reader: which file, which place in it, and what is wrong there."""

from os import PathLike, fspath


class BadFileError(ValueError):
    """A file is broken, hostile, or of a form that isn't understood; nothing of it was executed or kept.

    Args:
        file: The file.
        reason: What is wrong, as a clause that follows the place: `"claims 2,000 bytes, where 100 are left"`.
        place: Where in the file: `"byte 8"`, `"tensor 'head.weight'"`, `"member 'data.pkl', byte 312"`.
        do: What to do about it.

    Example:
        >>> print(BadFileError("w.safetensors", "is longer than the file", place="byte 0", do="download it again"))
        w.safetensors, byte 0: is longer than the file.
          do: download it again
    """

    def __init__(self, file: str | PathLike[str], reason: str, *, place: str = "", do: str = "") -> None:
        self.file, self.place, self.reason, self.do = str(fspath(file)), place, reason, do
        where = ", ".join(filter(None, (_shown(self.file), _shown(place))))
        text = f"{where}: {_shown(reason).rstrip('.')}."
        super().__init__(f"{text}\n  do: {do}" if do else text)

    def __reduce__(self) -> tuple[object, ...]:
        """Let it pass between processes, with its parts."""
        return _again, (self.file, self.reason, self.place, self.do)


def _again(file: str, reason: str, place: str, do: str) -> BadFileError:
    return BadFileError(file, reason, place=place, do=do)


def _shown(text: str, longest: int = 400) -> str:
    """A text of a file as a terminal may see it: no control characters, and not without end."""
    kept = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:longest])
    return kept if len(text) <= longest else f"{kept}..."
