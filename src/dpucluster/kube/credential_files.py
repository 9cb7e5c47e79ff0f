"""Credentials in files that somebody else replaces: service account tokens, renewed certificates.

Trusted: the paths come from the user's own kubeconfig or from the Pod.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dpucluster import errors
from dpucluster.kube import connection as connections

REREAD_AFTER: Final = 60.0
"""Seconds. The kubelet replaces a token when a fifth of its life is left, ten minutes at least."""


@dataclass
class CredentialFiles:
    """Reads the files now, again every minute, and when the server refused what they held.

    ``given`` are the credentials that are no files; a file beats what is given.
    """

    given: connections.Credentials = field(default_factory=connections.Credentials)
    token: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    monotonic: Callable[[], float] = time.monotonic
    _read: connections.Credentials | None = field(default=None, init=False, repr=False)
    _read_at: float = field(default=0.0, init=False)

    async def credentials(
        self, *, rejected: connections.Credentials | None = None
    ) -> connections.Credentials:
        """What the files hold, at most a minute old.

        Raises:
            ConfigError: a file cannot be read.
        """
        now = self.monotonic()
        stale = self._read is None or now - self._read_at >= REREAD_AFTER
        if stale or self._read == rejected:
            try:
                self._read = await asyncio.to_thread(self._read_files)
            except errors.ConfigError:
                # A file that is being replaced: what was read before may still be good.
                if self._read is None or rejected is not None:
                    raise
            self._read_at = now
        return self._read or self.given

    def _read_files(self) -> connections.Credentials:
        found = self.given
        if self.token is not None:
            token = read(self.token).decode("utf-8", "replace").strip()
            if not token.isascii() or not token.isprintable() or not token:
                raise errors.ConfigError(f"{self.token} holds no token")
            found = dataclasses.replace(found, token=token)
        if self.client_cert is not None:
            found = dataclasses.replace(found, client_cert=read(self.client_cert))
        if self.client_key is not None:
            found = dataclasses.replace(found, client_key=read(self.client_key))
        return found


def read(path: Path) -> bytes:
    """The content of a file the configuration names.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"cannot read {path}: {error.strerror}") from error
