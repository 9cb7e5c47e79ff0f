"""A read-only registry of images over HTTP. Run as a script: ``registry.py STORE ADDRESS PORT``.

Kamaji has its API server pulled at every start, so it is not enough to put images into a node.
Standard library only: it runs in a network namespace, by itself.
"""

from __future__ import annotations

import functools
import http.server
import sys
from http import HTTPStatus
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BLOB = "application/octet-stream"
CHUNK = 1 << 20


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ``GET`` and ``HEAD`` of manifests and blobs; images are found by repository alone."""

    protocol_version = "HTTP/1.1"

    def __init__(self, store: Path, *arguments: object) -> None:
        self._store = store
        super().__init__(*arguments)  # type: ignore[arg-type]  # what the server hands over

    def do_GET(self) -> None:
        """The head and the content."""
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts == ["v2"]:
            self._head(HTTPStatus.OK, 0, BLOB)
            return
        kind, reference = parts[-2:] if len(parts) > 3 else ("", "")
        digest = self._digest("/".join(parts[1:-2]), reference)
        blob = self._store / "blobs" / digest
        if not digest or kind not in {"manifests", "blobs"} or not blob.is_file():
            self._head(HTTPStatus.NOT_FOUND, 0, BLOB)
            return
        media_type = MANIFEST if kind == "manifests" else BLOB
        self._head(HTTPStatus.OK, blob.stat().st_size, media_type, f"sha256:{digest}")
        if self.command == "GET":
            with blob.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    self.wfile.write(chunk)

    def do_HEAD(self) -> None:
        """The head alone."""
        self.do_GET()

    def _digest(self, repository: str, reference: str) -> str:
        """The hexadecimal digest that a tag or a digest stands for; empty when there is none."""
        if not reference.startswith("sha256:"):
            tag = self._store / "tags" / repository / reference
            reference = tag.read_text(encoding="utf-8") if tag.is_file() else ""
        digest = reference.removeprefix("sha256:")
        return digest if digest.isalnum() else ""

    def _head(self, status: HTTPStatus, size: int, media_type: str, digest: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(size))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()


def main() -> None:
    """Serve until killed."""
    store, address, port = sys.argv[1:]
    handler = functools.partial(Handler, Path(store))
    http.server.ThreadingHTTPServer((address, int(port)), handler).serve_forever()


if __name__ == "__main__":
    main()
