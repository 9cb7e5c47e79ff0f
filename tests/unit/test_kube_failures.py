"""Answers and library errors as exceptions of this project."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import aiohttp
import multidict
import pytest
import yarl

from dpucluster import errors
from dpucluster.kube import failures

WHAT = "PATCH dpuclusters n/a"
SERVER = "https://a:6443"
NO_HEADERS: multidict.CIMultiDict[str] = multidict.CIMultiDict()


def status(**fields: Any) -> bytes:
    return json.dumps({"kind": "Status", "status": "Failure", **fields}).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (503, "ServiceUnavailable", errors.ServerError),
        (418, "", errors.ApiError),
    ],
)
def test_statuses(code: int, reason: str, kind: type[errors.ApiError]) -> None:
    """Each status has its exception, which says what was tried and what the server said."""
    error = failures.from_answer(WHAT, code, status(reason=reason, message="because"))
    assert kind is type(error)
    assert (code, reason) == (error.status, error.reason)
    assert f"{WHAT}: {reason or 'HTTP 418'}: because" == str(error)


def test_retry_after() -> None:
    """The header wins; without one the Status says how long to wait."""
    body = status(reason="TooManyRequests", details={"retryAfterSeconds": 3})
    assert 3.0 == failures.from_answer(WHAT, 429, body).retry_after
    assert 1.0 == failures.from_answer(WHAT, 429, body, retry_after=1.0).retry_after


def test_foreign_page() -> None:
    """A proxy's page is shown on one line, shortened, without control characters."""
    page = b"<html>\n\x1b[31m" + b"x " * 5000 + b"\xff"
    text = str(failures.from_answer(WHAT, 502, page))
    assert text.startswith(f"{WHAT}: HTTP 502: <html> [31mx x")
    assert len(text) < 400
    assert text.isprintable()


def test_empty_answer() -> None:
    """Nothing is said about nothing."""
    assert f"{WHAT}: HTTP 500" == str(failures.from_answer(WHAT, 500, b""))


def verify_error(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.verify_message = message
    return error


def connector_error(cause: OSError) -> aiohttp.ClientConnectorError:
    key = aiohttp.client_reqrep.ConnectionKey("a", 6443, is_ssl=True, ssl=True, proxy=None,
                                              proxy_auth=None, proxy_headers_hash=None)  # fmt: skip
    return aiohttp.ClientConnectorError(key, cause)


def dns_error(cause: OSError) -> aiohttp.ClientConnectorDNSError:
    return aiohttp.ClientConnectorDNSError(connector_error(cause)._conn_key, cause)


def test_who_speaks_http() -> None:
    """An answer that cannot be parsed is told apart from a proxy that refuses, which is HTTP."""
    request = aiohttp.RequestInfo(yarl.URL(SERVER), "GET", multidict.CIMultiDictProxy(NO_HEADERS))
    garbage = aiohttp.ClientResponseError(request, (), status=400, message="Bad status line")
    refused = aiohttp.ClientHttpProxyError(request, (), status=407, message="Who are you?")
    assert errors.NotHttp is type(failures.from_library(WHAT, SERVER, garbage))
    error = failures.from_library(WHAT, SERVER, refused)
    assert errors.ConnectFailed is type(error)
    assert "the proxy on the way to https://a:6443 answered HTTP 407" in str(error)


def test_certificate() -> None:
    """A certificate that is not accepted is told with OpenSSL's reason."""
    error = failures.from_library(WHAT, SERVER, connector_error(verify_error("expired")))
    assert isinstance(error, errors.TlsFailed)
    assert f"{WHAT}: the certificate of {SERVER} is not accepted: expired" == str(error)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("WRONG_VERSION_NUMBER", "plain HTTP port"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "our client certificate: tlsv13 alert certificate"),
        ("NO_SHARED_CIPHER", "no shared cipher"),
    ],
)
def test_handshake(reason: str, text: str) -> None:
    """Who refused whom can be told from the message, however deep the cause is wrapped."""
    cause = ssl.SSLError(1, f"[SSL: {reason}]")
    cause.reason = reason
    outer = aiohttp.ClientOSError(1, "wrapped")
    outer.__cause__ = cause
    error = failures.from_library(WHAT, SERVER, outer)
    assert isinstance(error, errors.TlsFailed)
    assert text in str(error)


CLOSED = f"{SERVER} closed the connection without an answer (a plain HTTP port does so)"


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (connector_error(OSError(111, "Connect call failed")), "Connection refused"),
        (connector_error(ConnectionResetError()), CLOSED),
        (connector_error(OSError(104, "Connection reset by peer")), CLOSED),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), CLOSED),
        (ConnectionResetError("Cannot write to closing transport"), CLOSED),
        (aiohttp.ServerDisconnectedError(), CLOSED),
        (aiohttp.ClientPayloadError(), "was cut off"),
        (aiohttp.InvalidURL("x"), "no URL"),
        (OSError("odd"), "failed: odd"),
        (UnicodeError("label empty or too long"), "no valid host name"),
        (dns_error(socket.gaierror(-2, "Name not known")), "cannot be resolved: Name not known"),
    ],
    ids=str,
)
def test_connections(cause: Exception, text: str) -> None:
    """Everything else that breaks a connection names the server and the cause."""
    error = failures.from_library(WHAT, SERVER, cause)
    assert errors.ConnectFailed is type(error)
    assert SERVER in str(error)
    assert text in str(error)
