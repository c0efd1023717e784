"""One file from one address, over http, https or from this machine: within a size, resumed, compared with its hash."""

import base64
import os
import re
import socket
import ssl
import stat
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from tally.core.errors import ArgumentError, DataError
from tally.downloads.part import Part, part_of

if TYPE_CHECKING:
    from tally.downloads.cache import Pin

_ATTEMPTS = 5
"""How often a download that breaks off is taken up again, as long as each attempt brings something."""
_BROKEN = (
    *(urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError, socket.gaierror),
)
"""What the library raises where the network or the server fails; a full disk is something else."""
_PIECE = 2**20
_WAITING = 60
"""Seconds without a byte after which a server is given up."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file comes from.

    Args:
        address: The address, as a server is asked for it: without a name and a password.
        shown: The same for people to see: without what follows a question mark, either.
        login: The name and the password, as a server wants them told; `""` where there are none.
    """

    address: str
    shown: str
    login: str = ""

    @classmethod
    def of(cls, origin: str | None) -> "Source":
        """Take an address apart.

        Raises:
            ArgumentError: It is none of http, https or file.
        """
        try:
            parts = urllib.parse.urlsplit(origin or "")
            usable = parts.scheme in ("http", "https") and parts.hostname
        except ValueError:
            parts, usable = urllib.parse.urlsplit(""), None
        if origin is None or not (usable or (parts.scheme == "file" and parts.netloc in ("", "localhost"))):
            raise ArgumentError(
                f"get_file can't download from origin={origin!r}.", do="pass an http, https or file address"
            )
        user, _, host = parts.netloc.rpartition("@")
        plain = urllib.parse.unquote_to_bytes(user)
        login = f"Basic {base64.b64encode(plain).decode()}" if user else ""
        return cls(urllib.parse.urlunsplit(parts._replace(netloc=host)), _shown(origin), login)

    @property
    def local(self) -> Path | None:
        """The path, where it is a file of this machine."""
        parts = urllib.parse.urlsplit(self.address)
        return Path(urllib.request.url2pathname(parts.path)) if parts.scheme == "file" else None


def _shown(address: str) -> str:
    """An address without what nobody else should see."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fetch(source: Source, path: Path, pin: "Pin | None", size_limit: int) -> None:
    """Bring a file to a path, where it appears as a whole or not at all.

    Args:
        source: Where from.
        path: Where to; what is there stays until then.
        pin: The hash that it must have.
        size_limit: Bytes that it may have.

    Raises:
        DataError: It can't be had, is too large, or is another.
    """
    try:
        with part_of(path, source.address) as part:
            resumed = part.size > 0 and bool(part.mark or pin)
            if not resumed:
                part.begin("")
            try:
                _bring(source, part, pin, size_limit)
                if pin is not None and resumed and pin.of(part.path) != pin.digits:
                    part.begin("")  # what was there may have been the part of another file
                    _bring(source, part, pin, size_limit)
                _compare(source, part, pin, path)
            except BaseException:  # broken off from the keyboard, too
                if part.size == 0 or not (part.mark or pin) or source.local:
                    part.drop()
                raise
            part.finish(path)
    except OSError as error:
        raise DataError(
            f"{source.shown} could not be kept as {path}: {error.strerror or error}.",
            do="make room, or pass a folder that can be written to as cache_dir",
        ) from error


def _bring(source: Source, part: Part, pin: "Pin | None", size_limit: int) -> None:
    """Fill the part until it is whole, taking it up again where it breaks off."""
    if source.local is not None:
        return _copy_local(source, source.local, part, size_limit)
    show = _Progress(source)
    for attempt in range(1, _ATTEMPTS + 1):
        before, total, broken = part.size, None, None
        try:
            total = _request(source, part, size_limit, show)
        except _BROKEN as error:
            broken = error
        if broken is None and total in (None, part.size):
            return show.end()
        goes_on = attempt < _ATTEMPTS and part.size > before and (part.mark or pin)
        if not goes_on or isinstance(broken, urllib.error.HTTPError):
            show.end()
            _fail(source, broken or f"it broke off after {part.size:,} of {total:,} bytes")
    return None


def _fail(source: Source, error: Exception | str) -> NoReturn:
    inner = getattr(error, "reason", None) if not isinstance(error, urllib.error.HTTPError) else None
    why = str(inner or error)[:400]
    raise DataError(
        f"{source.shown} could not be downloaded: {why.rstrip('.')}.",
        do="check the address and the network, and try again: what came so far is kept where that is safe",
    ) from (error if isinstance(error, Exception) else None)


def _copy_local(source: Source, local: Path, part: Part, size_limit: int) -> None:
    """Copy a file of this machine; a pipe or a device is none."""
    try:
        handle = os.open(local, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        _fail(source, error)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise DataError(f"{source.shown} could not be downloaded: it is no file.", do="check the address")
        part.begin("")
        _copy(file, part, source, size_limit, None)


def _request(source: Source, part: Part, size_limit: int, show: "_Progress") -> int | None:
    """Ask for what is missing and write it; gives the size of the whole, None where the server doesn't say."""
    headers = {"Accept-Encoding": "identity"}
    if have := part.size:
        headers["Range"] = f"bytes={have}-"
        if part.mark:
            headers["If-Range"] = part.mark
    request = urllib.request.Request(source.address, headers=headers)
    if source.login:
        # For this server, not for where it leads.
        request.add_unredirected_header("Authorization", source.login)
    try:
        response = _opener().open(request, timeout=_WAITING)
    except ValueError as error:  # an address that leads nowhere, such as that of a redirect
        raise HTTPException(str(error)) from None
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:
                raise
            whole = _total(error.headers, None)
        if whole == have:
            return whole
        part.begin("")  # longer than the file is: it was another one
        return have + 1 if whole is None else whole
    with response:
        total = _place(source, part, response)
        if total is not None and total > size_limit:
            _too_large(source, part, size_limit)
        show.begin(total)
        _copy(response, part, source, size_limit, show)
        if total is not None and part.size > total:
            part.begin("")
            raise HTTPException(f"the server sent more than the {total:,} bytes it spoke of")
        return total


def _place(source: Source, part: Part, response: Any) -> int | None:
    """Put the part where the answer goes on: at its end, or at the start where the server sends the whole."""
    headers: Message = response.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DataError(
            f"{source.shown} could not be downloaded: it comes packed, which wasn't asked for.",
            do="check the address",
        )
    have, mark = part.size, _mark(headers)
    found = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", headers.get("Content-Range", ""))
    goes_on = response.status == 206 and found is not None and int(found[1]) == have and mark == part.mark
    if goes_on:
        part.file.seek(have)
        return _total(headers, have)
    if response.status == 206:  # a piece of something else; the next attempt asks for the whole
        part.begin("")
        raise HTTPException("the server sent another piece than was asked for")
    part.begin(mark)
    return _total(headers, 0)


def _mark(headers: Message) -> str:
    """What the server calls this version, where it promises that every byte of it is the same."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _total(headers: Message, have: int | None) -> int | None:
    """Bytes of the whole file; None where the answer doesn't say."""
    ranged = re.fullmatch(r"bytes .*/(\d{1,19})", headers.get("Content-Range", ""))
    if ranged:
        return int(ranged[1])
    length = headers.get("Content-Length", "")
    return have + int(length) if have is not None and re.fullmatch(r"\d{1,19}", length) else None


def _copy(stream: IO[bytes], part: Part, source: Source, size_limit: int, show: "_Progress | None") -> None:
    size = part.file.tell()
    while chunk := stream.read(_PIECE):
        size += len(chunk)
        if size > size_limit:
            _too_large(source, part, size_limit)
        part.file.write(chunk)
        if show is not None:
            show.at(size)
    part.file.flush()


def _too_large(source: Source, part: Part, size_limit: int) -> NoReturn:
    part.begin("")
    raise DataError(
        f"{source.shown} has more than {size_limit:,} bytes.", do="pass a larger size_limit if that is right"
    )


def _compare(source: Source, part: Part, pin: "Pin | None", path: Path) -> None:
    part.file.flush()
    if pin is None or (found := pin.of(part.path)) == pin.digits:
        return
    part.begin("")
    kept = f"; {path} is left as it was" if path.exists() else ""
    raise DataError(
        f"{source.shown} is not the expected file: its {pin.algorithm} hash is {found}, not {pin.digits}{kept}.",
        do="check the address and the hash; the file may have been replaced",
    )


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Goes where a server sends it, as long as that is another web server, and no less safe."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Close the answer, which the base class leaves open, where the address is none."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError as error:
            fp.close()
            raise urllib.error.URLError(f"it leads on to no address: {error}") from None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urllib.parse.urlsplit(req.full_url).scheme, urllib.parse.urlsplit(newurl).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            fp.close()
            raise urllib.error.URLError(
                f"it leads on to {_shown(newurl)[:200]!r}, which is no {before} address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """What opens addresses of the web, and of nothing else: no ftp, no file, no data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler, _SameScheme),
        *(
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor,
            urllib.request.UnknownHandler,
        ),
    ):
        opener.add_handler(handler())
    return opener


class _Progress:
    """How far a download is: a line that grows on a terminal, one sentence elsewhere."""

    def __init__(self, source: Source) -> None:
        self.name, self.total, self.shown = source.shown, None, 0.0
        self.terminal, self.begun = sys.stderr.isatty(), False

    def begin(self, total: int | None) -> None:
        """Say what is downloaded."""
        self.total = total
        if not self.begun and not self.terminal:
            size = f" ({_megabytes(total)} MB)" if total is not None else ""
            print(f"Downloading {self.name}{size}", file=sys.stderr)
        self.begun = True

    def at(self, size: int) -> None:
        """Say how much is there, ten times a second at most."""
        now = time.monotonic()
        if self.terminal and (now - self.shown > 0.1 or size == self.total):
            self.shown = now
            known = (
                f" of {_megabytes(self.total)} MB, {size / max(self.total, 1):.0%}" if self.total else " MB"
            )
            print(f"\r{self.name}: {_megabytes(size)}{known}", end="\x1b[K", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self.terminal and self.begun:
            print(file=sys.stderr)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
