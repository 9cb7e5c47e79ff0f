"""Ways to the session's management plane: past a proxy, and through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from dpucluster.kube import client as kube_client
from dpucluster.localplane.plane import ControlPlane
from tests.support import clients, planes
from tests.support.kubeapi import KubeApi
from tests.support.proxy import ApiProxy


@pytest.fixture
def api(management: ControlPlane) -> Iterator[KubeApi]:
    """Eyes and hands that nothing a test does to its proxy can hinder."""
    direct = KubeApi(management.kubeconfig)
    yield direct
    direct.close()


@pytest.fixture
def furnished(api: KubeApi, namespace: str) -> str:
    """A namespace in which the controller manager has made all it makes: nothing comes later."""
    planes.wait_furnished(api, namespace)
    return namespace


@pytest.fixture
def proxy(management: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy in front of the management plane; no fault yet."""
    with ApiProxy(management.kubeconfig) as running:
        yield running


@pytest.fixture
async def client(proxy: ApiProxy) -> AsyncIterator[kube_client.Client]:
    """The product's client; it knows only the proxy."""
    async with clients.through(proxy) as running:
        yield running
