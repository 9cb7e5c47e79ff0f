"""The hostile servers do what their names say, seen with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.parse

import pytest

from tests.support.patience import PATIENCE
from tests.support.zoo import Zoo

BRIEF = 0.5


def get(
    zoo: Zoo, name: str, path: str = "/readyz", *, timeout: float = PATIENCE, limit: int = 4_000_000
) -> tuple[int, bytes]:
    """Status and (the beginning of) the body."""
    address = urllib.parse.urlsplit(zoo.url(name))
    tls = ssl.create_default_context(cadata=zoo.ca_pem.decode())
    connection = http.client.HTTPSConnection(
        address.hostname or "", address.port, context=tls, timeout=timeout
    )
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status, response.read(limit)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("html", "/readyz", 200),
        ("redirect", "/readyz", 302),
        ("empty-404", "/readyz", 404),
        ("json-but-not-kubernetes", "/api/v1/namespaces/kube-system", 200),
        ("unauthorized", "/readyz", 401),
        ("unauthorized", "/api/v1/namespaces/kube-system", 401),
        ("forbidden", "/readyz", 200),
        ("forbidden", "/api/v1/namespaces/kube-system", 403),
        ("not-ready", "/readyz", 500),
        ("junk", "/readyz", 200),
    ],
)
def test_statuses(zoo: Zoo, name: str, path: str, status: int) -> None:
    """Servers that speak HTTP answer with their status."""
    assert status == get(zoo, name, path)[0]


def test_kubernetes_answers_are_status_objects(zoo: Zoo) -> None:
    """401 and 403 come as kube-apiserver sends them."""
    body = json.loads(get(zoo, "forbidden", "/api/v1/namespaces/kube-system")[1])
    assert ("Status", "Forbidden") == (body["kind"], body["reason"])


@pytest.mark.parametrize("name", ["wrong-ca", "wrong-san", "expired-certificate"])
def test_bad_certificates(zoo: Zoo, name: str) -> None:
    """A client that verifies does not accept them."""
    with pytest.raises(ssl.SSLCertVerificationError):
        get(zoo, name)


@pytest.mark.parametrize("name", ["plain-http", "tls-junk"])
def test_no_tls(zoo: Zoo, name: str) -> None:
    """These do not speak TLS at all."""
    with pytest.raises(ssl.SSLError):
        get(zoo, name)


@pytest.mark.parametrize("name", ["black-hole", "full-backlog", "silent", "drip"])
def test_never_an_answer(zoo: Zoo, name: str) -> None:
    """These cost a caller all its patience."""
    with pytest.raises(TimeoutError):
        get(zoo, name, timeout=BRIEF if name != "drip" else BRIEF / 2)


@pytest.mark.parametrize("name", ["slam", "slam-after-tls"])
def test_slammed_door(zoo: Zoo, name: str) -> None:
    """These accept a connection and reset it."""
    with pytest.raises((ConnectionError, ssl.SSLError, http.client.HTTPException)):
        get(zoo, name)


def test_closed_port(zoo: Zoo) -> None:
    """Nobody listens there, and nobody else will get the port meanwhile."""
    address = urllib.parse.urlsplit(zoo.url("closed-port"))
    with pytest.raises(ConnectionRefusedError), socket.socket() as sock:
        sock.connect((address.hostname, address.port))


def test_endless_and_junk(zoo: Zoo) -> None:
    """More comes than any reader should take."""
    assert 1_000_000 == len(get(zoo, "endless", limit=1_000_000)[1])
    assert 2**20 == len(get(zoo, "junk")[1])
    with pytest.raises(http.client.HTTPException):
        get(zoo, "not-http")
