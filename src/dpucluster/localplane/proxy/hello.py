"""The server name in the first bytes of a TLS connection (RFC 8446, 4.1.2; RFC 6066, 3). Pure."""

from __future__ import annotations

from dataclasses import dataclass

HANDSHAKE = 0x16
CLIENT_HELLO = 0x01
SERVER_NAME = 0
HEADER = 5
"""Bytes of a record's header."""
LONGEST = HEADER + (1 << 14)
"""Bytes of the longest record."""


def length(begin: bytes) -> int:
    """How many bytes the first record has; 0 when ``begin`` (5 bytes) is not that of TLS."""
    if len(begin) < HEADER or begin[0] != HANDSHAKE or begin[1] != 3:
        return 0
    return HEADER + int.from_bytes(begin[3:5])


def server_name(record: bytes) -> str:
    """The name that the client asks for; empty when it asks for none."""
    try:
        return _server_name(_Bytes(record))
    except _TooShort:
        return ""


class _TooShort(Exception):
    """The record ends early."""


@dataclass
class _Bytes:
    """Bytes that are taken from the front."""

    rest: bytes

    def take(self, count: int) -> bytes:
        if len(self.rest) < count:
            raise _TooShort
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def block(self, size: int) -> _Bytes:
        """What a length of ``size`` bytes is put in front of."""
        return _Bytes(self.take(self.number(size)))


def _server_name(record: _Bytes) -> str:
    record.take(HEADER)
    if record.number(1) != CLIENT_HELLO:
        return ""
    hello = record.block(3)
    hello.take(2 + 32)  # version, random
    hello.block(1)  # session
    hello.block(2)  # cipher suites
    hello.block(1)  # compression
    extensions = hello.block(2)
    while extensions.rest:
        kind = extensions.number(2)
        content = extensions.block(2)
        if kind == SERVER_NAME:
            names = content.block(2)
            names.take(1)  # the only kind there is: a host name
            return names.block(2).rest.decode("ascii", errors="replace").lower()
    return ""
