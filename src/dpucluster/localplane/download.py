"""Official archives over HTTP, taken only when their published checksum agrees.

What cannot be had (no route, 404, a cut or stalled connection, nothing that looks like a
checksum) is a :class:`Missed`: the caller builds instead. A file whose checksum is *wrong* is an
error and nothing is built in its place: somebody or something changes files on the way, and the
user should know before going on.

Standard library only; proxies are taken from the environment as urllib does.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import queue
import shutil
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, NamedTuple

import dpucluster
from dpucluster import errors
from dpucluster.localplane import progress as progress_
from dpucluster.localplane import release

_CHUNK = 1 << 18
_MAX_CHECKSUMS = 1 << 18
_TICK = 0.2


@dataclass(frozen=True)
class Patience:
    """How long a network is waited for, in seconds."""

    answer: float = 8.0
    """For the whole small checksum file, name look-up included: longer is as good as no route."""
    connect: float = 5.0
    """For one address; the first of several may be a black hole."""
    stall: float = 20.0
    """Without a byte of the archive."""
    archive: float = 900.0
    """For one archive: by then a build would have ended."""


class Missed(NamedTuple):
    """A download that cannot be had, and why (for a person)."""

    reason: str


class _Unavailable(Exception):
    """Carries why there is no download up to ``fetch``; never leaves this module."""

    def __init__(self, reason: str, *, host_is_down: bool) -> None:
        super().__init__(reason)
        self.host_is_down = host_is_down


class Downloader:
    """Downloads of one run. A host that does not answer is asked once, not for each binary."""

    def __init__(
        self,
        progress: progress_.Progress,
        patience: Patience = Patience(),
    ) -> None:
        self._progress = progress
        self._patience = patience
        self._down: dict[str, str] = {}
        self._opener = urllib.request.build_opener(_NoDowngrade)

    def is_down(self, archive: release.Archive) -> bool:
        """Whether the archive's host has already failed to answer in this run."""
        return archive.base in self._down

    def fetch(self, archive: release.Archive, target: Path) -> Missed | None:
        """Write the archive's binary to ``target``; ``None`` when it is there.

        Raises:
            BinaryError: the checksum is wrong, or the archive does not hold the binary.
            OSError: the disk, not the network.
        """
        if archive.base in self._down:
            return Missed(self._down[archive.base])
        loaded = target.with_name(f"{target.name}.download")
        try:
            published = self._published(archive)
            found = self._load(archive.url, loaded)
        except _Unavailable as exc:
            loaded.unlink(missing_ok=True)
            if exc.host_is_down:
                self._down[archive.base] = str(exc)
            return Missed(str(exc))
        if found != published:
            loaded.unlink()
            raise errors.BinaryError(_wrong(archive, found, published))
        _unpack(archive, loaded, target)
        return None

    def _published(self, archive: release.Archive) -> str:
        text = self._within(lambda: self._small(archive.checksums_url), archive.checksums_url)
        digest = release.published_digest(text, archive.file)
        if digest is None:  # a login page of a network, for example
            raise _Unavailable(
                f"{archive.checksums_url} has no checksum of {archive.file}", host_is_down=False
            )
        return digest

    def _small(self, url: str) -> str:
        with _network(url), self._open(url, self._patience.connect) as response:
            body: bytes = response.read(_MAX_CHECKSUMS)
            return body.decode("utf-8", errors="replace")

    def _load(self, url: str, target: Path) -> str:
        """Write ``url`` to ``target``; the SHA-256 of what came."""
        digest = hashlib.sha256()
        done, deadline = 0, time.monotonic() + self._patience.archive
        with _network(url):
            response = self._open(url, self._patience.stall)
        with response, target.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            while True:
                with _network(url):
                    chunk = response.read1(_CHUNK)
                if not chunk:
                    break
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                self._progress.tick(_megabytes(done, total))
                if time.monotonic() > deadline:
                    raise _Unavailable(f"{url} is too slow", host_is_down=True)
        if done < total:
            raise _Unavailable(
                f"{url}: connection cut after {_megabytes(done, total)}", host_is_down=False
            )
        return digest.hexdigest()

    def _open(self, url: str, timeout: float) -> http.client.HTTPResponse:
        request = urllib.request.Request(  # noqa: S310 - release.archive() lets only http(s) through
            url, headers={"User-Agent": f"dpucluster/{dpucluster.__version__}"}
        )
        response: http.client.HTTPResponse = self._opener.open(request, timeout=timeout)
        return response

    def _within(self, call: Callable[[], str], url: str) -> str:
        """Run ``call`` in a thread, for no longer than an answer may take.

        Socket timeouts are per address and per read, and name look-up has none at all.
        """
        box: queue.SimpleQueue[str | _Unavailable] = queue.SimpleQueue()

        def run() -> None:
            try:
                box.put(call())
            except _Unavailable as exc:
                box.put(exc)

        threading.Thread(target=run, name="checksum", daemon=True).start()
        deadline = time.monotonic() + self._patience.answer
        while time.monotonic() < deadline:
            self._progress.tick()
            try:
                result = box.get(timeout=_TICK)
            except queue.Empty:
                continue
            if isinstance(result, _Unavailable):
                raise result
            return result
        raise _Unavailable(
            f"no answer from {_host(url)} within {self._patience.answer:.0f} s", host_is_down=True
        )


@contextlib.contextmanager
def _network(url: str) -> Iterator[None]:
    """Tell failures of the network, which are no error here, from failures of the disk."""
    try:
        yield
    except urllib.error.HTTPError as exc:
        exc.close()
        raise _Unavailable(f"{url} answers {exc.code} {exc.reason}", host_is_down=False) from exc
    except urllib.error.URLError as exc:
        raise _Unavailable(
            f"{_host(url)} cannot be reached: {exc.reason}", host_is_down=True
        ) from exc
    except OSError as exc:
        raise _Unavailable(f"{url}: {exc}", host_is_down=isinstance(exc, TimeoutError)) from exc
    except http.client.HTTPException as exc:
        raise _Unavailable(f"{url}: {exc!r}", host_is_down=False) from exc


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to https, or from http to http."""

    def redirect_request(  # noqa: PLR0917 - urllib's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse what would give up the protection the checksum came with."""
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("https", req.type):
            fp.close()
            raise urllib.error.URLError(f"redirected to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type] # typeshed: HTTPMessage


def _unpack(archive: release.Archive, loaded: Path, target: Path) -> None:
    """Take the one binary out of a checked download; nothing else in it is touched."""
    if not archive.member:
        loaded.replace(target)
        return
    try:
        with tarfile.open(loaded) as tar, target.open("wb") as file:
            source = tar.extractfile(archive.member)
            if source is not None:  # None: a directory
                with source:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as exc:
        raise errors.BinaryError(_strange(archive)) from exc
    if source is None:
        raise errors.BinaryError(_strange(archive))
    loaded.unlink()


def _strange(archive: release.Archive) -> str:
    return (
        f"{archive.url} has the published checksum and holds no {archive.member}: unset"
        f" {archive.variable}, or set it to {release.OFF!r} to build from source"
    )


def _wrong(archive: release.Archive, found: str, published: str) -> str:
    return (
        f"{archive.url} was refused: its SHA-256 is {found}, published is {published}."
        " Something between here and there changes files. Try again, from another network or"
        f" mirror ({archive.variable}), or set {archive.variable}={release.OFF} to build from"
        " source"
    )


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _megabytes(done: int, total: int) -> str:
    return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
