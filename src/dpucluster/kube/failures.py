"""Answers that are no success, and errors of the libraries below, as this project's exceptions.

Pure. A message says what was tried, on what, and what came back; for TLS it says which side's
certificate was refused and why, since that is what a user can act on.
"""

from __future__ import annotations

import errno
import os
import ssl
import string
from collections.abc import Mapping
from typing import Final

import aiohttp

from dpucluster import errors
from dpucluster.kube import wire

MAX_TEXT: Final = 300
"""Characters shown of an answer that is no Status: enough to recognise a proxy's error page."""

_BY_STATUS: Final[Mapping[int, type[errors.ApiError]]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    422: errors.Invalid,
    429: errors.TooManyRequests,
}

_NO_TLS: Final = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
)
"""Reasons OpenSSL gives when what answers speaks something else than TLS."""

_CUT: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})
"""What the system says of a peer that hung up; which of them is chance."""


def from_answer(
    what: str, status: int, body: bytes, *, retry_after: float | None = None
) -> errors.ApiError:
    """The exception for an answer with ``status``."""
    told = wire.decode_status(body)
    if told is None:
        return _api_error(what, status, "", _excerpt(body), retry_after)
    if retry_after is None and told.details and told.details.retry_after_seconds:
        retry_after = float(told.details.retry_after_seconds)
    return _api_error(what, status, told.reason or "", told.message or "", retry_after)


def from_status(what: str, status: wire.Status) -> errors.ApiError:
    """The exception for a Status that ended a watch."""
    return _api_error(what, status.code or 500, status.reason or "", status.message or "", None)


def _api_error(
    what: str, status: int, reason: str, message: str, retry_after: float | None
) -> errors.ApiError:
    kind = _BY_STATUS.get(status, errors.ServerError if status >= 500 else errors.ApiError)
    if status == 409 and reason == "AlreadyExists":
        kind = errors.AlreadyExists
    told = ": ".join(t for t in (reason or f"HTTP {status}", message) if t)
    return kind(f"{what}: {told}", status=status, reason=reason, retry_after=retry_after)


def _excerpt(body: bytes) -> str:
    text = body[: 4 * MAX_TEXT].decode("utf-8", "replace")
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:MAX_TEXT].strip(string.whitespace)


def timed_out(what: str, server: str, seconds: float) -> errors.TimedOut:
    """The exception for an answer that did not come."""
    return errors.TimedOut(f"{what}: no answer from {server} within {seconds:g} s")


def from_library(what: str, server: str, error: Exception) -> errors.TransportError:
    """The exception for what aiohttp, ssl or the socket raised."""
    tls = _ssl_error(error)
    if tls is not None:
        return errors.TlsFailed(f"{what}: {_tls_text(server, tls)}")
    # aiohttp raises it when an answer cannot be parsed (failing statuses do not come this way),
    # and for a proxy that answered, as HTTP servers do, with a refusal
    is_no_http = isinstance(error, aiohttp.ClientResponseError) and not isinstance(
        error, aiohttp.ClientHttpProxyError
    )
    kind = errors.NotHttp if is_no_http else errors.ConnectFailed
    return kind(f"{what}: {_connect_text(server, error)}")


def _ssl_error(error: BaseException | None) -> ssl.SSLError | ssl.CertificateError | None:
    """The TLS error that is the cause; a peer's alert comes wrapped in several layers."""
    seen = 0
    while error is not None and seen < 8:
        # aiohttp's own TLS errors are SSLErrors, too, without what OpenSSL says: look inside first
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if isinstance(error, ssl.SSLError) and not isinstance(inner, OSError):
            return error
        error = inner if isinstance(inner, OSError) else error.__cause__ or error.__context__
        seen += 1
    return None


def _tls_text(server: str, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.verify_message or str(error)).rstrip(".")
        return f"the certificate of {server} is not accepted: {reason}"
    reason = error.reason or ""
    if reason in _NO_TLS:
        return f"{server} does not speak TLS (is it a plain HTTP port?)"
    if "ALERT" in reason:
        told = reason.replace("_", " ").lower()
        return f"{server} refused the TLS connection or our client certificate: {told}"
    return f"TLS with {server} failed: {reason.replace('_', ' ').lower() or error.strerror}"


def _connect_text(server: str, error: Exception) -> str:
    if _is_cut(error):
        # one text for all the ways to see it, or a condition's message would change by chance
        return f"{server} closed the connection without an answer (a plain HTTP port does so)"
    match error:
        case aiohttp.ClientConnectorDNSError():
            text = f"the name of {server} cannot be resolved: {_cause(error)}"
        case aiohttp.ClientHttpProxyError():
            text = f"the proxy on the way to {server} answered HTTP {error.status}"
        case aiohttp.ClientProxyConnectionError():
            text = f"the proxy on the way to {server} cannot be reached: {_cause(error)}"
        case aiohttp.ClientConnectorError():
            text = f"cannot connect to {server}: {_cause(error)}"
        case aiohttp.ClientResponseError():
            text = f"{server} did not answer as an HTTP server does"
        case aiohttp.ClientPayloadError():
            text = f"the answer of {server} was cut off"
        case UnicodeError():
            text = f"{server} or its proxy has no valid host name"
        case aiohttp.InvalidURL():
            text = f"{server} is no URL that could be connected to"
        case _:
            text = f"the connection to {server} failed: {str(error) or type(error).__name__}"
    return text


def _is_cut(error: Exception) -> bool:
    """Whether the peer hung up, while TLS was being agreed or before an answer."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    cut = (ConnectionResetError, BrokenPipeError, aiohttp.ServerDisconnectedError)
    return isinstance(inner, cut) or getattr(inner, "errno", None) in _CUT


def _cause(error: aiohttp.ClientConnectorError) -> str:
    inner = error.os_error
    # asyncio writes "Connect call failed (address)" where the system has a reason
    told = os.strerror(inner.errno) if inner.errno and inner.errno > 0 else inner.strerror
    return told or str(inner) or type(inner).__name__
