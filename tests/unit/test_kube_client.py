"""The client without a server: what its makings cost and share."""

from __future__ import annotations

import pytest

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import connection, kinds, transport

SERVER = "https://a:6443"


def refuse() -> None:
    raise errors.LeadershipLost("the Lease is not held")


class Special(kube_client.Client):
    """A client of a kind of its own."""


async def test_fenced_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fenced twin is one more reference to the same connections: it may be made for each look."""
    original = Special(connection.Connection(SERVER))
    monkeypatch.delattr(transport, "Transport")
    twin = original.fenced(refuse)
    assert (Special, original.connection) == (type(twin), twin.connection)


async def test_twins_close_together() -> None:
    """When the original is closed each of its twins says so."""
    original = kube_client.Client(connection.Connection(SERVER))
    twin = original.fenced(refuse)
    again = twin.fenced(lambda: None)
    await original.aclose()
    for either in (original, twin, again):
        with pytest.raises(errors.ConnectFailed, match="is closed"):
            await either.get(kinds.NAMESPACES, "default")
