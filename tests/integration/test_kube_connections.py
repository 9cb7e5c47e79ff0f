"""Connections: what TLS refuses, whose credentials are sent, and what is held back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.kube import config, connection, kinds
from dpucluster.localplane.plane import ControlPlane
from tests.support import certificates, clients, loops
from tests.support.patience import PATIENCE
from tests.support.proxy import TOKEN, ApiProxy
from tests.support.zoo import Zoo


@contextlib.contextmanager
def peer(context: ssl.SSLContext) -> Iterator[str]:
    """A server that agrees on TLS, or tells why not, and says nothing more.

    In threads: asyncio's own TLS servers close without telling why.
    """

    def serve(raw: socket.socket) -> None:
        with contextlib.suppress(OSError), raw:
            tls = context.wrap_socket(raw.dup(), server_side=True, do_handshake_on_connect=False)
            with contextlib.suppress(ssl.SSLError), tls:
                tls.do_handshake()
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):  # a reset, for what was not read, might overtake the alert
                pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


async def _asked(target: connection.Connection, seconds: float = PATIENCE) -> errors.TransportError:
    async with kube_client.Client(target, timeout=seconds) as client:
        with pytest.raises(errors.TransportError) as caught:
            await client.raw("GET", "/readyz")
    return caught.value


def asked(loop: str, target: connection.Connection, seconds: float = PATIENCE) -> Exception:
    """What ``GET /readyz`` fails with, on either kind of event loop."""
    with loops.runner(loops.KINDS[loop]) as runner:
        return runner.run(_asked(target, seconds))


REFUSED = [
    ("expired-certificate", errors.TlsFailed, "not accepted: certificate has expired"),
    ("wrong-ca", errors.TlsFailed, "not accepted: unable to get local issuer certificate"),
    ("wrong-san", errors.TlsFailed, "not accepted: IP address mismatch"),
    ("plain-http", errors.TlsFailed, "does not speak TLS"),
    ("tls-junk", errors.TlsFailed, "TLS"),
    ("slam", errors.ConnectFailed, ""),
    ("closed-port", errors.ConnectFailed, "Connection refused"),
    ("not-http", errors.ConnectFailed, "did not answer as an HTTP server does"),
]


@pytest.mark.parametrize("loop", loops.KINDS)
@pytest.mark.parametrize(("name", "kind", "text"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(
    zoo: Zoo, loop: str, name: str, kind: type[errors.TransportError], text: str
) -> None:
    """Who refused what can be told from the error, on both event loops."""
    error = asked(loop, connection.Connection(zoo.url(name), zoo.ca_pem))
    assert isinstance(error, kind), error
    assert text in str(error)
    assert zoo.url(name) in str(error)


@pytest.mark.parametrize("loop", loops.KINDS)
@pytest.mark.parametrize("name", ["black-hole", "silent", "drip"])
def test_silence(zoo: Zoo, loop: str, name: str) -> None:
    """A server that says nothing, or never enough, costs the time given and no more."""
    error = asked(loop, connection.Connection(zoo.url(name), zoo.ca_pem), 0.7)
    assert isinstance(error, errors.TimedOut)
    assert "within 0.7 s" in str(error)


async def test_endless_body(zoo: Zoo) -> None:
    """A body without an end is read as far as asked for, and closed."""
    target = connection.Connection(zoo.url("endless"), zoo.ca_pem)
    async with kube_client.Client(target, timeout=PATIENCE) as client:
        reply = await client.raw("GET", "/readyz", max_bytes=5000)
    assert (5000, True) == (len(reply.body), reply.truncated)


async def test_redirects_stay_here(zoo: Zoo) -> None:
    """A redirect is an answer like any other: credentials follow nobody."""
    target = connection.Connection(zoo.url("redirect"), zoo.ca_pem)
    async with kube_client.Client(target, timeout=PATIENCE) as client:
        assert (await client.raw("GET", "/readyz")).status in {301, 302, 307, 308}


@pytest.mark.parametrize("loop", loops.KINDS)
def test_our_certificate_is_refused(loop: str) -> None:
    """A server that wants another client certificate, or any, is told apart from a bad server."""
    authority = certificates.Authority()
    server = certificates.server_context(authority.server("127.0.0.1"))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=authority.pem.decode())
    stranger = certificates.Authority("stranger").client("me")

    with peer(server) as url:
        bare = connection.Connection(url, authority.pem)
        known = dataclasses.replace(
            bare, client_cert=stranger.cert_pem, client_key=stranger.key_pem
        )
        found = [asked(loop, bare), asked(loop, known)]
    assert [errors.TlsFailed, errors.TlsFailed] == [type(error) for error in found], found
    assert all("our client certificate" in str(error) for error in found)


async def test_server_name(management: ControlPlane) -> None:
    """The certificate is checked against the given name instead of the address."""
    found = config.load(str(management.kubeconfig))
    inner = dataclasses.replace(found, tls_server_name="kubernetes.default.svc")
    async with kube_client.Client(inner) as client:
        assert 200 == (await client.raw("GET", "/readyz")).status
    other = await _asked(dataclasses.replace(found, tls_server_name="other.example"))
    assert isinstance(other, errors.TlsFailed)
    assert "Hostname mismatch" in str(other)


async def test_bad_client_key(management: ControlPlane) -> None:
    """A key that cannot be used fails the request, with the reason."""
    found = config.load(str(management.kubeconfig))
    pair = certificates.Authority().client("me")
    locked = dataclasses.replace(
        found,
        credentials=None,
        client_cert=pair.cert_pem,
        client_key=pair.encrypted_key_pem(b"secret"),
    )
    assert "pass phrase" in str(await _asked(locked))


class Renewing:
    """Credentials of which the first are not accepted."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)
        self.rejected: list[str] = []

    async def credentials(
        self, *, rejected: connection.Credentials | None = None
    ) -> connection.Credentials:
        """The first of the tokens; the next one after a rejection."""
        if rejected is not None:
            self.rejected.append(rejected.token)
            self._tokens[:-1] = self._tokens[1:-1]
        return connection.Credentials(token=self._tokens[0])


def renewing(proxy: ApiProxy, *tokens: str) -> tuple[kube_client.Client, Renewing]:
    source = Renewing(*tokens)
    return kube_client.Client(
        connection.Connection(proxy.url, proxy.ca_pem, credentials=source)
    ), source


async def test_renewed_after_a_401(proxy: ApiProxy) -> None:
    """A rejected token is renewed once, unnoticed by the caller, for reads and writes."""
    client, source = renewing(proxy, "old", TOKEN)
    async with client:
        await client.get(kinds.NAMESPACES, "default")
    assert ["old"] == source.rejected
    assert [401, 200] == [seen.status for seen in proxy.requests(path="namespaces/default")]


async def test_still_rejected(proxy: ApiProxy) -> None:
    """A second refusal is the caller's; a source without anything new costs no second request."""
    client, source = renewing(proxy, "old", "older")
    async with client:
        with pytest.raises(errors.Unauthorized):
            await client.get(kinds.NAMESPACES, "default")
        assert 2 == len(proxy.requests(path="namespaces/default"))
        with pytest.raises(errors.Unauthorized):
            await client.get(kinds.NAMESPACES, "default")
    assert ["old", "older"] == source.rejected
    assert 3 == len(proxy.requests(path="namespaces/default"))


async def test_token_is_not_told(proxy: ApiProxy) -> None:
    """A server that sends our token back does not get it into a message."""
    async with clients.through(proxy) as client:
        reply = await client.raw("GET", f"/{TOKEN}")
        with pytest.raises(errors.NotFound) as caught:
            await client.get(kinds.NAMESPACES, TOKEN)
    assert TOKEN.encode() not in reply.body
    assert TOKEN not in str(caught.value).removeprefix(f"GET namespaces {TOKEN}: ")


def held_back() -> None:
    raise errors.LeadershipLost("the Lease is not held")


async def test_fence_holds_writes_back(proxy: ApiProxy) -> None:
    """Once the guard objects no write reaches the server; reads go on."""
    async with clients.through(proxy) as client:
        fenced = client.fenced(held_back)
        await fenced.get(kinds.NAMESPACES, "default")
        writes = [
            fenced.create(kinds.NAMESPACES, {"metadata": {"name": "no"}}),
            fenced.merge_patch(kinds.NAMESPACES, "default", {}),
            fenced.apply(kinds.NAMESPACES, "default", {}),
            fenced.replace(kinds.NAMESPACES, "default", {}),
            fenced.delete(kinds.NAMESPACES, "no"),
            fenced.raw("POST", "/api/v1/namespaces", body=b"{}"),
        ]
        found = await asyncio.gather(*writes, return_exceptions=True)
    assert {errors.LeadershipLost} == {type(error) for error in found}
    assert ["GET"] == [seen.method for seen in proxy.requests()]


async def test_guard_is_asked_last(proxy: ApiProxy) -> None:
    """A write that waits for a connection asks when it has got one, not before."""
    asked_at: list[int] = []

    def guard() -> None:
        asked_at.append(sum(task.done() for task in readers))

    async with clients.through(proxy) as client:
        await client.get(kinds.NAMESPACES, "default")
        with proxy.held():
            readers = [
                asyncio.create_task(client.get(kinds.NAMESPACES, "default")) for _ in range(32)
            ]
            fenced = client.fenced(guard)
            write = asyncio.create_task(fenced.merge_patch(kinds.NAMESPACES, "default", {}))
            await _until(lambda: len(proxy.requests(path="default")) == 33)
            await asyncio.sleep(0.2)
            assert [] == asked_at
            assert 33 == len(proxy.requests(path="default"))
        await asyncio.gather(write, *readers)
    assert 2 == len(asked_at), "before it is written, and when all of it is"


async def _until(holds: Callable[[], bool]) -> None:
    await clients.eventually(holds)


async def test_observer_counts(proxy: ApiProxy) -> None:
    """Every answer is reported with its status, and every failure to get one."""
    seen: list[tuple[str, str]] = []

    def observe(method: str, server: str, code: str) -> None:
        assert proxy.url == server
        seen.append((method, code))

    async with clients.through(proxy, observe=observe) as client:
        await client.get(kinds.NAMESPACES, "default")
        with pytest.raises(errors.NotFound):
            await client.get(kinds.NAMESPACES, "no")
        proxy.refuse()
        with pytest.raises(errors.ConnectFailed):
            await client.delete(kinds.NAMESPACES, "no")
    assert [("GET", "200"), ("GET", "404"), ("DELETE", "<error>")] == seen


async def test_environment_is_not_asked(
    management: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxy variables of the environment lead nobody anywhere."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with kube_client.Client(config.load(str(management.kubeconfig))) as client:
        assert 200 == (await client.raw("GET", "/readyz")).status


async def test_proxy_of_the_kubeconfig(management: ControlPlane) -> None:
    """A proxy-url of the user's own kubeconfig is used, by CONNECT."""
    lines: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines.append(head.splitlines()[0])
        host, port = re.findall(rb"CONNECT ([^:]+):(\d+)", head)[0]
        inner, outer = await asyncio.open_connection(host.decode(), int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_pump(reader, outer), _pump(inner, writer))

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    found = config.load(str(management.kubeconfig))
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with kube_client.Client(dataclasses.replace(found, proxy_url=url)) as client:
            assert 200 == (await client.raw("GET", "/readyz")).status
    address = found.server.removeprefix("https://")
    assert [f"CONNECT {address} HTTP/1.1".encode()] == lines


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
