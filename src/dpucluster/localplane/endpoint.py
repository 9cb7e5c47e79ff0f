"""The few requests that bring a plane up, blocking and without an event loop.

Everything else talks to a plane through ``dpucluster.kube``, which starts no loop of its own and
therefore cannot be used by the synchronous code that starts processes.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from dpucluster import errors

FIELD_MANAGER = "dpucluster-localplane"
TIMEOUT = 10.0
"""Seconds for one request: a server on the same machine is starting up when it needs longer."""
JSON = "application/json"


class Answer(NamedTuple):
    """What the server said."""

    status: int
    body: bytes


class Endpoint:
    """An API server on this machine, spoken to as its administrator."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._host = host
        self._port = port
        self._context = context

    def get(self, path: str, *, accept: str = JSON, timeout: float = TIMEOUT) -> Answer:
        """GET ``path``; a status is no error."""
        return self._request("GET", path, accept=accept, timeout=timeout)

    def is_there(self, path: str, *, timeout: float = TIMEOUT) -> bool:
        """Whether GET ``path`` answers 200, now."""
        try:
            return self.get(path, timeout=timeout).status == http.HTTPStatus.OK
        except errors.PlaneError:
            return False

    def apply(self, path: str, manifest: Mapping[str, Any]) -> None:
        """Server-side apply ``manifest`` to ``path``.

        Raises:
            PlaneError: the server is not reachable or refuses it.
        """
        answer = self._request(
            "PATCH",
            f"{path}?fieldManager={FIELD_MANAGER}&force=true",
            body=json.dumps(manifest).encode(),
            content_type="application/apply-patch+yaml",
        )
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            text = answer.body.decode(errors="replace")
            raise errors.PlaneError(f"apply {path}: HTTP {answer.status}: {text}")

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        accept: str = JSON,
        content_type: str = JSON,
        timeout: float = TIMEOUT,
    ) -> Answer:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout, context=self._context
        )
        try:
            headers = {"Accept": accept, "Content-Type": content_type}
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise errors.PlaneError(
                f"{method} https://{self._host}:{self._port}{path}: {error}"
            ) from error
        finally:
            connection.close()
