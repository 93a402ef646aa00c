"""Downloads that arrive whole or not at all; several mirrors, resumption, one download for all processes.

A file is received into NAME.part beside its target, checked, and moved to its name in one step: what bears
the name has been checked. A part, whoever left it, is only ever continued and then checked as a whole.
Neither this module nor `published` imports TensorFlow; opening a gs:// address does.

What a server may do is limited. Only https is spoken, and http with this machine (ZOO_ALLOW_HTTP=1: with any
host); no redirect leads from https to http. A server that is silent, or that sends less than `MIN_SPEED`, is
left for the next mirror. Its words reach a terminal without control characters, and its files are never
executable and never writable by others.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from filelock import FileLock
from rich import progress
from rich.console import Console

from tf_gan_zoo.files import put  # of the package itself, TensorFlow would come along

#: Seconds until a connection is given up, and until a silent one is.
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0
#: Attempts in a row that bring nothing new before the next mirror is asked, and the first pause between them.
ATTEMPTS, BACKOFF = 4, 0.5
#: Bytes per second, over `SLOW_SECONDS`, below which a server is left for the next mirror.
MIN_SPEED, SLOW_SECONDS = 1024, 60.0
#: No file of unknown size may grow beyond this many bytes.
MAX_SIZE = 4 << 30
SCHEMES = ("http", "https", "file", "gs", "hf")
PART = ".part"
_CHUNK = 1 << 15
_HTTPError = (requests.RequestException, urllib3.exceptions.HTTPError)
_RETRY_STATUS = {408, 425, 429}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+|\*)$")


class WeightsError(ValueError):
    """Weights are missing, damaged or made for another config; the model is left as it was."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))  # messages quote servers, manifests and files


class FetchError(WeightsError):
    """A file could not be had from any of its addresses."""


class _Failed(Exception):
    """One attempt at one mirror failed; `retry` says whether another may succeed."""

    def __init__(self, reason: str, retry: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry


def printable(text: str) -> str:
    """The text with control characters, which could move a terminal's cursor, written as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def is_offline() -> bool:
    """Whether ZOO_OFFLINE forbids the network."""
    return _is_set("ZOO_OFFLINE")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no")


def fetch(
    target: Path, addresses: Sequence[str], *, sha256: str | None = None, size: int | None = None,
    max_size: int = MAX_SIZE,
) -> Path:  # fmt: skip
    """Makes `target` hold the file that the addresses offer, and returns it.

    With a digest a target that is intact is left as it is; without one it is fetched anew.

    Args:
        target: where the file shall be. Its folder is for this file alone: FOLDER.lock beside it keeps
            processes apart.
        addresses: http(s)://, file://, gs:// or hf:// addresses, asked in this order.
        sha256: hexadecimal digest.
        size: bytes; more are never written.
        max_size: the bound if `size` is unknown.

    Raises:
        FetchError: if no address gave the file (each is named with its reason), or the disk refused it.
    """
    job = _Job(target, sha256, size, size or max_size)
    try:
        target.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with lock(target.parent):
            target.parent.mkdir(exist_ok=True, mode=0o755)
            _require_plain(target, job.part)
            if not (sha256 and is_intact(target, sha256)):
                _from_mirrors(job, addresses)
    except OSError as error:
        raise FetchError(
            f"cannot write {target}: {error}. Free space on the disk, or set ZOO_CACHE to a folder that you "
            "can write."
        ) from error
    return target


def _require_plain(target: Path, part: Path) -> None:
    """Refuses a name pipe, device or folder where a file shall be; a link in the part's place is removed.

    Raises:
        FetchError: if something else than a file stands there.
    """
    if part.is_symlink():
        part.unlink()
    for path in (target, part):
        if path.exists() and not path.is_file():
            raise FetchError(f"{path} is in the way: expected a file or nothing there. Remove it.")


def lock(folder: Path, timeout: float = -1) -> FileLock:
    """Keeps other processes from a folder. The lock file stays: removing it would let two in."""
    return FileLock(folder.with_name(f"{folder.name}.lock"), timeout=timeout)


def digest(path: Path) -> str:
    """The file's SHA-256 digest in hexadecimal."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def is_intact(path: Path, sha256: str) -> bool:
    """Whether the file is there with that digest."""
    return path.is_file() and digest(path) == sha256


def scheme(address: str) -> str:
    """ "https" of "https://host/file"; empty for a path."""
    head, separator, _ = address.partition("://")
    return head.lower() if separator and head.isalnum() else ""


@dataclass
class _Job:
    """One file on its way."""

    target: Path
    sha256: str | None
    size: int | None
    max_size: int
    etag: str | None = None
    #: The part holds bytes of an earlier run or another mirror, which may be the ones that are wrong.
    inherited: bool = False
    report: Callable[[int], None] = lambda received: None

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + PART)

    def received(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def is_complete(self) -> bool:
        return self.size is not None and self.received() == self.size

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.inherited = False

    def start_mirror(self) -> None:
        """Keeps the part of a file whose digest will tell; without one only this mirror may continue it."""
        self.etag = None
        if self.sha256 is None or self.received() > self.max_size:
            self.drop()
        self.inherited = self.received() > 0

    def write(self, chunks: Iterable[bytes], start: int) -> None:
        """Writes chunks into the part from byte `start` on, which is 0 or the part's end."""
        self.inherited = self.inherited and start > 0
        received = start
        with _open_part(self.part, truncate=not start) as file:
            file.seek(start)
            for chunk in chunks:
                received += len(chunk)
                if received > self.max_size:
                    break
                file.write(chunk)
                self.report(received)
        if received > self.max_size:
            self.drop()
            raise _Failed(f"it sends more than the expected {self.max_size:,} bytes")
        if self.size is not None and received < self.size:
            raise _Failed(f"it ended after {received:,} of {self.size:,} bytes", retry=True)

    def finish(self) -> None:
        """Checks the part and gives it its name."""
        came = digest(self.part) if self.sha256 else None
        if came != self.sha256:
            inherited = self.inherited
            self.drop()
            raise _Failed(f"wrong content: expected SHA-256 {self.sha256}, got {came}", retry=inherited)
        put(self.part, self.target)


def _open_part(path: Path, truncate: bool) -> IO[bytes]:
    """The part for writing: no link is followed, no pipe waited for, and only the owner may write."""
    flags = os.O_RDWR | os.O_CREAT | (os.O_TRUNC if truncate else 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o644)
    if os.name == "posix":
        os.fchmod(handle, os.fstat(handle).st_mode & 0o644)
    return open(handle, "r+b")


def _from_mirrors(job: _Job, addresses: Sequence[str]) -> None:
    failures = []
    with _progress_bar(job):
        for address in addresses:
            try:
                return _from_mirror(job, address)
            except _Failed as failed:
                failures.append(f"{address}: {failed}")
    digest_note = f" with SHA-256 {job.sha256}" if job.sha256 else ""
    raise FetchError(
        f"could not fetch {job.target.name}: {'; '.join(failures) or 'it has no address'}. "
        "Check the connection and try again (what arrived is kept and continued), name another mirror in "
        f"ZOO_WEIGHTS_URL, or put the file{digest_note} at {job.target}."
    )


def _from_mirror(job: _Job, address: str) -> None:
    """Attempts until the file is there; only those that bring nothing new are counted."""
    job.start_mirror()
    most, fruitless = job.received(), 0
    while True:
        try:
            if not job.is_complete():
                _receive(job, address)
            return job.finish()
        except _Failed as failed:
            grown, most = job.received() > most, max(most, job.received())
            fruitless = 1 if grown else fruitless + 1
            if not failed.retry or fruitless >= ATTEMPTS:
                raise
            time.sleep(BACKOFF * 2 ** (fruitless - 1))


def _receive(job: _Job, address: str) -> None:
    kind = scheme(address)
    if kind in ("http", "https"):
        _receive_http(job, address)
    elif kind in _OPENERS:
        job.write(_chunks(_OPENERS[kind], address), 0)
    else:
        raise _Failed(f"expected an address with one of {', '.join(SCHEMES)}, got {kind or address!r}")


def _receive_http(job: _Job, address: str) -> None:
    # Without a digest only an unchanged ETag tells that the rest belongs to the part.
    offset = job.received() if job.sha256 or job.etag else 0
    headers = {"Accept-Encoding": "identity"}  # digests and ranges are those of the file itself
    if offset:
        headers["Range"] = f"bytes={offset}-"
    if offset and not job.sha256:
        headers["If-Range"] = job.etag
    try:
        with _answer(address, headers) as response:
            start = _first_byte(job, response, offset)
            job.etag = _strong_etag(response)
            job.write(_body(response, job.size and job.size - start), start)
    except _HTTPError as error:
        if not job.is_complete():  # a wrong length makes the end look like an error; the digest decides
            raise _Failed(_reason(error), retry=_may_pass(error)) from None
    except ValueError as error:  # addresses, redirects and headers that do not parse
        raise _Failed(f"{type(error).__name__}: {error}") from None


class _Session(requests.Session):
    """A session that looks at each redirect before it follows it."""

    def get_redirect_target(self, response: requests.Response) -> str | None:
        target = super().get_redirect_target(response)
        if target:
            _require_secure(urljoin(response.url, target), came_from=response.url)
        return target


def _require_secure(address: str, came_from: str = "") -> None:
    """Lets https pass, and http with this machine or by ZOO_ALLOW_HTTP; never http after https."""
    if scheme(address) == "https":
        return
    if scheme(came_from) == "https":
        raise _Failed(f"it redirects from https to {address}, which is refused")
    if scheme(address) != "http":
        raise _Failed(f"it redirects to {address}, which is refused")
    if not (_is_loopback(urlsplit(address).hostname or "") or _is_set("ZOO_ALLOW_HTTP")):
        raise _Failed("plain http is refused: use https, or set ZOO_ALLOW_HTTP=1 if you trust the network")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _answer(address: str, headers: dict[str, str]) -> requests.Response:
    """The server's answer, its body not yet read; a server that drips its headers is not waited for."""
    _require_secure(address)
    outcome: list[requests.Response | BaseException] = []

    def ask() -> None:
        try:
            timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
            outcome.append(_Session().get(address, headers=headers, stream=True, timeout=timeout))
        except BaseException as error:  # raised again below, in the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT + READ_TIMEOUT + SLOW_SECONDS)
    if not outcome:
        raise _Failed("its answer did not begin in time")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _strong_etag(response: requests.Response) -> str | None:
    """The tag of just these bytes; a weak one does not promise them."""
    etag = response.headers.get("ETag", "")
    return None if etag.startswith("W/") else etag or None


def _body(response: requests.Response, missing: int | None) -> Iterator[bytes]:
    """The answer's bytes as they come; first what is missing, lest a wrong length hide the last of it."""
    since, received = time.monotonic(), 0
    while chunk := response.raw.read1(min(_CHUNK, missing or _CHUNK), decode_content=True):
        missing, received = missing and missing - len(chunk), received + len(chunk)
        yield chunk
        passed = time.monotonic() - since
        if passed >= SLOW_SECONDS:
            if received < MIN_SPEED * passed:
                raise _Failed(f"it sent {received:,} bytes in {passed:.0f} seconds, which is too slow")
            since, received = time.monotonic(), 0


def _first_byte(job: _Job, response: requests.Response, offset: int) -> int:
    """Where the answer's bytes belong: at the part's end, or at 0 if the server ignores ranges."""
    status = response.status_code
    if status == 200:
        return 0
    if status == 206:
        if not job.sha256 and response.headers.get("ETag", job.etag) != job.etag:
            job.drop()
            raise _Failed("it continues with another version of the file", retry=True)
        return _checked_range(job, response.headers.get("Content-Range", ""), offset)
    if status == 416:
        job.drop()
        raise _Failed("it has no bytes beyond those that arrived, which are not the file", retry=True)
    raise _Failed(f"HTTP {status} {response.reason}", retry=status >= 500 or status in _RETRY_STATUS)


def _checked_range(job: _Job, header: str, offset: int) -> int:
    match = _CONTENT_RANGE.match(header)
    if not offset or not match or int(match[1]) != offset:
        job.drop()
        raise _Failed(f"asked for bytes from {offset:,} on, got Content-Range {header!r}", retry=offset > 0)
    if job.size is not None and match[2] not in ("*", str(job.size)):
        raise _Failed(f"its file has {int(match[2]):,} bytes, expected {job.size:,}")
    return offset


def _may_pass(error: Exception) -> bool:
    passing = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.ProtocolError,
               urllib3.exceptions.TimeoutError)  # fmt: skip
    return isinstance(error, passing) and not isinstance(error, requests.exceptions.SSLError)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT:g} seconds"
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return f"it was silent for {READ_TIMEOUT:g} seconds"
    cause = error.args[0] if error.args else error
    return f"{type(error).__name__}: {getattr(cause, 'reason', cause)}"


def _chunks(open_file: Callable[[str], IO[bytes]], address: str) -> Iterator[bytes]:
    """The chunks of a file that opens like a local one; what goes wrong in reading is its mirror's fault."""
    try:
        with open_file(address) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except _Failed:
        raise
    except Exception as error:  # each library has its own
        raise _Failed(f"{type(error).__name__}: {error}") from None


def _open_local(address: str) -> IO[bytes]:
    path = url2pathname(urlsplit(address).path)
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise _Failed("it is a folder, pipe or device, not a file")
    return open(path, "rb")


def _open_gs(address: str) -> IO[bytes]:
    from tf_gan_zoo import _quiet

    _quiet.import_tensorflow()
    import tensorflow as tf

    return tf.io.gfile.GFile(address, "rb")


def _open_hf(address: str) -> IO[bytes]:
    repository, file, revision = _split_hf(address)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise _Failed("hf:// needs huggingface_hub: pip install 'tf_gan_zoo[hf]'") from None
    return open(hf_hub_download(repo_id=repository, filename=file, revision=revision), "rb")


def _split_hf(address: str) -> tuple[str, str, str | None]:
    """(repository, file, revision) of hf://owner/repo/file[@revision] or hf://owner/repo[@revision]/file."""
    owner, _, rest = unquote(address.partition("://")[2]).partition("/")
    repo, _, file = rest.partition("/")
    repo, _, of_repo = repo.partition("@")
    file, _, of_file = file.partition("@")
    if not (owner and repo and file):
        raise _Failed("expected hf://owner/repo/file or hf://owner/repo/file@revision")
    return f"{owner}/{repo}", file, of_file or of_repo or None


_OPENERS = {"file": _open_local, "gs": _open_gs, "hf": _open_hf}


@contextlib.contextmanager
def _progress_bar(job: _Job) -> Iterator[None]:
    """A bar on the error stream, if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn(),
        progress.TransferSpeedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(job.target.name, total=job.size)
        job.report = lambda received: bar.update(task, completed=received)
        yield
