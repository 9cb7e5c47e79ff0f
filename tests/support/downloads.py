"""A release server on loopback that can misbehave: for the tests of the download path."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dpucluster.localplane import release


@dataclass(frozen=True)
class Answer:
    """What one path answers: ``cut_after`` bytes the connection is closed."""

    body: bytes = b""
    status: int = 200
    location: str = ""
    cut_after: int | None = None


class ReleaseServer:
    """Serves what it was told, 404 otherwise, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def env(self) -> dict[str, str]:
        """The environment that sends all downloads here."""
        return {
            release.KUBERNETES_URL_VARIABLE: self.url,
            release.ETCD_URL_VARIABLE: self.url,
        }

    def publish(self, name: str, content: bytes, *, checksum: str = "") -> release.Archive:
        """Put up the archive of one binary as its project does, with its checksum."""
        archive = release.archive(name, release.pins(), self.env())
        assert archive is not None
        body = packed(archive.member, content) if archive.member else content
        digest = checksum or hashlib.sha256(body).hexdigest()
        sums = f"{'0' * 64}  another-file\n{digest}  {archive.file}\n" if archive.member else digest
        self.answers[self.path(archive.url)] = Answer(body)
        self.answers[self.path(archive.checksums_url)] = Answer(sums.encode())
        return archive

    def path(self, url: str) -> str:
        """The path of one of this server's URLs."""
        return url.removeprefix(self.url)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                answer = server.answers.get(self.path, Answer(status=404))
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.body)))
                if answer.location:
                    self.send_header("Location", answer.location)
                self.end_headers()
                self.wfile.write(answer.body[: answer.cut_after])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Keep the test's output clean."""

        return Handler


def packed(member: str, content: bytes) -> bytes:
    """A ``.tar.gz`` that holds ``content`` as ``member`` beside other files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in (("../../outside", b"never unpacked"), (member, content)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
