"""Ways to the session's management plane, past a proxy and through it; and the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from dpucluster.kube import client as kube_client
from dpucluster.localplane.plane import ControlPlane
from tests.support import clients, planes
from tests.support.kubeapi import KubeApi
from tests.support.processes import Commands
from tests.support.proxy import ApiProxy
from tests.support.zoo import Zoo


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


@pytest.fixture(scope="module")
def zoo() -> Iterator[Zoo]:
    """Servers that are no good tenant, for all tests of a module."""
    with Zoo() as running:
        yield running


@pytest.fixture
def commands(tmp_path: Path, binaries: Mapping[str, Path]) -> Iterator[Commands]:
    """The command line with a home of its own; whatever it leaves running is ended."""
    made = Commands(tmp_path, binaries)
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)
