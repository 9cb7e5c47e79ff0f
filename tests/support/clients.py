"""The product's client led through a proxy, and waiting inside of coroutine tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dpucluster.kube import client as kube_client
from dpucluster.kube import connection
from tests.support.patience import PATIENCE
from tests.support.proxy import TOKEN, ApiProxy


def through(proxy: ApiProxy, **options: Any) -> kube_client.Client:
    """A client that knows only the proxy (``options``: those of ``Client``)."""
    secret = connection.Credentials(token=TOKEN)
    found = connection.Connection(
        server=proxy.url,
        ca_data=proxy.ca_pem,
        credentials=connection.StaticCredentials(secret),
    )
    return kube_client.Client(found, **options)


async def eventually(holds: Callable[[], bool], within: float = PATIENCE, what: str = "") -> None:
    """Return as soon as ``holds``; what is asked about changes without telling us."""
    end = asyncio.get_running_loop().time() + within
    while not holds():
        assert asyncio.get_running_loop().time() < end, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.02)
