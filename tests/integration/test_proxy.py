"""The proxy that makes the faults of other tests, in front of the real API server."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster, journal
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE
from tests.support.proxy import ApiProxy
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
def api(proxy: ApiProxy, tmp_path: pathlib.Path) -> Iterator[KubeApi]:
    seen = KubeApi(proxy.write_kubeconfig(tmp_path / "proxied"))
    yield seen
    seen.close()


@contextlib.contextmanager
def watch(proxy: ApiProxy, path: str = "/api/v1/namespaces") -> Iterator[http.client.HTTPResponse]:
    """A watch of its own connection; reading it returns at the latest after ``PATIENCE``."""
    tls = ssl.create_default_context(cadata=proxy.ca_pem.decode())
    port = int(proxy.url.rsplit(":", 1)[1])
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=PATIENCE)
    token = proxy.kubeconfig()["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    connection.request("GET", f"{path}?watch=true&allowWatchBookmarks=true", headers=headers)
    with contextlib.closing(connection), connection.getresponse() as response:
        yield response


class Call(threading.Thread):
    """One request in another thread, on a connection of its own."""

    def __init__(self, api: KubeApi) -> None:
        super().__init__(daemon=True)
        self._api = api
        self.start()

    def run(self) -> None:
        """Ask."""
        self._api.list("namespaces")

    def is_done(self, within: float) -> bool:
        """Whether the answer came."""
        self.join(within)
        return not self.is_alive()


def read_on(response: http.client.HTTPResponse) -> None:
    """Read until the end of the stream."""
    while response.read1(65536):
        pass


def first_event(response: http.client.HTTPResponse) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(response.readline())
    return event


def test_forwards_with_its_own_credentials(proxy: ApiProxy, api: KubeApi) -> None:
    """Whoever shows the proxy's token acts as the user of the upstream kubeconfig."""
    names = [n["metadata"]["name"] for n in api.list("namespaces")]
    assert "kube-system" in names
    assert {("GET", "/api/v1/namespaces", 200): 1} == journal.table(proxy.requests())


def test_passes_other_credentials_on(proxy: ApiProxy, tmp_path: pathlib.Path) -> None:
    """Another token is the server's to judge, and it does not become the proxy's user."""
    path = tmp_path / "stranger"
    path.write_text(json.dumps(proxy.kubeconfig(token="nobody-knows-me")))
    stranger = KubeApi(path)
    status, _ = stranger.request("GET", "/api/v1/namespaces")
    stranger.close()
    assert 401 == status


def test_streams_watches_and_cuts_them(proxy: ApiProxy) -> None:
    """Events arrive at once, and a cut watch breaks off instead of ending in order."""
    with watch(proxy) as response:
        assert "ADDED" == first_event(response)["type"]
        assert 1 == proxy.open_watches
        assert 1 == proxy.cut_watches(half_line=True)
        with pytest.raises((http.client.IncompleteRead, OSError)):
            read_on(response)


def test_ends_watches_with_an_error_event(proxy: ApiProxy) -> None:
    """A watch can be ended as the server does it when a resourceVersion is too old."""
    with watch(proxy, "/api/v1/nodes") as response:
        cluster.wait_until(lambda: proxy.open_watches, lambda n: n == 1)
        proxy.end_watches(error=410)
        lines = response.read().splitlines()
    last = json.loads(lines[-1])
    assert ("ERROR", 410, "Expired") == (
        last["type"],
        last["object"]["code"],
        last["object"]["reason"],
    )


def test_answers_only_what_matches(proxy: ApiProxy, api: KubeApi) -> None:
    """A fault hits the next N requests that match, and no other ones."""
    proxy.answer(429, times=2, method="GET", path="/secrets$", retry_after=1)
    assert 200 == api.request("GET", "/api/v1/namespaces")[0]
    statuses = [api.request("GET", "/api/v1/namespaces/default/secrets")[0] for _ in range(3)]
    assert [429, 429, 200] == statuses


def test_error_event_is_a_watch(proxy: ApiProxy) -> None:
    """The next watch can be answered by an ERROR event instead of the server."""
    proxy.error_event(410)
    with watch(proxy) as response:
        assert "ERROR" == first_event(response)["type"]


def test_loses_a_reply(proxy: ApiProxy, api: KubeApi) -> None:
    """The server has done what was asked, the caller does not hear of it."""
    name = f"lost-{time.time_ns()}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    proxy.lose_reply(method="POST")
    status, text = api.request("POST", "/api/v1/namespaces", body)  # tried again by the observer
    assert (409, "AlreadyExists") == (status, json.loads(text)["reason"])
    api.delete("namespaces", name)


def test_freezes_existing_connections_only(proxy: ApiProxy, api: KubeApi) -> None:
    """A half-open connection says nothing more; a new one works."""
    with watch(proxy) as response:
        first_event(response)
        api.list("namespaces")
        proxy.freeze()
        frozen = Call(api)
        cluster.wait_until(lambda: len(proxy.requests(watch=False)), lambda n: n == 2)
        assert not frozen.is_done(0.5)
        assert Call(api).is_done(PATIENCE)
        proxy.clear()
        assert frozen.is_done(PATIENCE)


def test_refuses_and_accepts_again(proxy: ApiProxy, api: KubeApi) -> None:
    """A refused connection is refused at once; later the same port answers again."""
    api.list("namespaces")
    proxy.refuse()
    with pytest.raises(OSError, match="refused"):
        api.request("GET", "/readyz")
    proxy.accept()
    assert (200, "ok") == api.request("GET", "/readyz")


def test_holds_everything_until_released(proxy: ApiProxy, api: KubeApi) -> None:
    """Nothing is forwarded while the gate is held; everything is when it opens."""
    with proxy.held():
        call = Call(api)
        cluster.wait_until(lambda: len(proxy.requests()), bool)
        assert not call.is_done(0.5)
        assert {("GET", "/api/v1/namespaces", journal.PENDING): 1} == journal.table(
            proxy.requests()
        )
    assert call.is_done(PATIENCE)


def test_trickles(proxy: ApiProxy, api: KubeApi) -> None:
    """A slow connection delivers everything, slowly."""
    whole = api.request("GET", "/api/v1/namespaces/kube-system")[1]
    proxy.trickle(len(whole) / 0.5)
    started = time.monotonic()
    assert whole == api.request("GET", "/api/v1/namespaces/kube-system")[1]
    assert 0.3 < time.monotonic() - started


def test_counts_bursts(proxy: ApiProxy, api: KubeApi) -> None:
    """The peak is the greatest number of requests within a window."""
    for _ in range(5):
        api.request("GET", "/readyz")
    assert 5 == journal.peak(proxy.requests(path="^/readyz$"), window=PATIENCE)
    assert [] == proxy.requests(path="^/readyz$", since=journal.now())


def test_bytes_pass_through_with_client_certificates(
    management: ControlPlane, tmp_path: pathlib.Path
) -> None:
    """The proxy of bytes leaves TLS alone: server and client see each other's certificates."""
    direct = KubeApi(management.kubeconfig)
    host, _, port = direct.server.removeprefix("https://").partition(":")
    with TcpProxy(host, int(port)) as proxy:
        path = tmp_path / "through"
        path.write_text(management.kubeconfig.read_text().replace(direct.server, proxy.url))
        api = KubeApi(path)
        assert (200, "ok") == api.request("GET", "/readyz")
        proxy.cut()
        assert (200, "ok") == api.request("GET", "/readyz")
        proxy.refuse()
        with pytest.raises(OSError, match="refused"):
            api.request("GET", "/readyz")
        proxy.accept()
        assert (200, "ok") == api.request("GET", "/readyz")
        api.close()
        assert 3 == len(proxy.accepted)


def test_bytes_freeze_and_thaw(management: ControlPlane) -> None:
    """A frozen proxy accepts and stays silent; what waited is delivered after the thaw."""
    direct = KubeApi(management.kubeconfig)
    host, _, port = direct.server.removeprefix("https://").partition(":")
    with TcpProxy(host, int(port)) as proxy:
        proxy.freeze()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.5) as sock:
            sock.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            with pytest.raises(TimeoutError):
                sock.recv(1)
            proxy.thaw()
            sock.settimeout(PATIENCE)
            assert b"HTTP/1.0 400 Bad Request" == sock.recv(1000).split(b"\r\n")[0]
