"""The proxy's way to the real server, and the words it uses when it answers instead of it."""

from __future__ import annotations

import base64
import json
import pathlib
import ssl
from dataclasses import dataclass

import aiohttp
import yaml

from tests.support import certificates

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Upstream:
    """Where the real server is, and the credentials the proxy holds for it."""

    server: str
    ca: bytes
    cert: bytes
    key: bytes
    token: str

    @classmethod
    def read(cls, path: pathlib.Path) -> Upstream:
        """Out of a kubeconfig with one cluster, one user and inline data."""
        content = yaml.safe_load(path.read_text())
        cluster = content["clusters"][0]["cluster"]
        user = content["users"][0]["user"]
        return cls(
            server=cluster["server"].rstrip("/"),
            ca=base64.b64decode(cluster["certificate-authority-data"]),
            cert=base64.b64decode(user.get("client-certificate-data", "")),
            key=base64.b64decode(user.get("client-key-data", "")),
            token=user.get("token", ""),
        )

    def session(self, *, with_credentials: bool) -> aiohttp.ClientSession:
        """A session to the server; without credentials the caller's own decide."""
        tls = ssl.create_default_context(cadata=self.ca.decode())
        headers = {}
        if with_credentials and self.cert:
            certificates.load_pair(tls, self.cert, self.key)
        elif with_credentials and self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            headers=headers,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**21,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
        )


def status(code: int) -> bytes:
    """A Status object as the server sends it with ``code``."""
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "reason": REASONS[code],
        "message": f"the proxy was told to answer {code}",
        "code": code,
    }
    return json.dumps(body).encode()


def error_event(code: int) -> bytes:
    """A line of a watch stream that ends it."""
    return b'{"type":"ERROR","object":' + status(code) + b"}\n"
