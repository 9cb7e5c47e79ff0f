"""Where an API server is and how to authenticate there, as a value.

Pure: reading files and running programs is left to ``config``, so that ``untrusted`` can make a
connection without being able to do either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Credentials:
    """What a request proves its sender with: a bearer token, a client certificate, or both."""

    token: str = field(default="", repr=False)
    client_cert: bytes | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)


class CredentialSource(Protocol):
    """Credentials that change while the process runs."""

    async def credentials(self, *, rejected: Credentials | None = None) -> Credentials:
        """What to send now; ``rejected`` is what the server just answered 401 to.

        Raises:
            ConfigError: there are none to be had.
        """


@dataclass(frozen=True)
class StaticCredentials:
    """Credentials that stay as they are."""

    value: Credentials

    async def credentials(self, *, rejected: Credentials | None = None) -> Credentials:  # noqa: ARG002  (the protocol's signature)
        """Always the same."""
        return self.value


@dataclass(frozen=True)
class Impersonation:
    """Act as somebody else (the sender needs the right to)."""

    user: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Connection:
    """Everything a client needs to know about one API server.

    ``ca_data`` None trusts the system's authorities. ``credentials`` beats ``client_cert`` and
    ``client_key`` where both have the same thing. ``context`` and ``namespace`` only inform.
    ``untrusted``: the data came from somebody else (a Secret); nothing of it may touch a disk.
    """

    server: str
    ca_data: bytes | None = None
    client_cert: bytes | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)
    credentials: CredentialSource | None = field(default=None, repr=False)
    insecure: bool = False
    tls_server_name: str = ""
    proxy_url: str = field(default="", repr=False)  # may hold a password
    namespace: str = "default"
    context: str = ""
    impersonate: Impersonation = Impersonation()
    untrusted: bool = False
