"""TLS contexts from certificates and keys held in memory."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from typing import Final, NoReturn

from dpucluster import errors
from dpucluster.kube import connection as connections

_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)


def certificates(data: bytes) -> list[bytes]:
    """The PEM certificates in ``data``, without the remarks between them."""
    return _CERTIFICATE.findall(data)


def is_name(name: str) -> bool:
    """Whether a server's certificate can be checked against ``name``.

    On others the libraries fail in ways of their own, and take one of dots only (aiohttp strips
    those at the end) as the wish to check no name at all.
    """
    try:
        sent = name.encode("idna")
    except UnicodeError:
        return False
    return sent.strip(b".") != b"" and b"\0" not in sent


def ssl_context(
    connection: connections.Connection, credentials: connections.Credentials | None = None
) -> ssl.SSLContext:
    """The context for ``connection``, with the client certificate of ``credentials`` or its own.

    Verifies as kubectl (Go) does: every certificate given as authority is one, also a leaf; the
    name is looked up among the alternative names only.

    Raises:
        TlsFailed: a certificate or key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])  # a gateway in front might choose HTTP/2 otherwise
    if connection.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif connection.ca_data is None:
        context.load_default_certs()
    else:
        load_authorities(context, connection.ca_data)
    own = credentials or connections.Credentials()
    cert = own.client_cert or connection.client_cert
    key = own.client_key or connection.client_key
    if cert and key:
        _load_client_certificate(context, cert, key, untrusted=connection.untrusted)
    return context


def load_authorities(context: ssl.SSLContext, data: bytes) -> None:
    """Trust the certificates in ``data``, which must hold at least one.

    Raises:
        TlsFailed: there is none, or one cannot be read.
    """
    found = certificates(data)
    if not found:
        raise errors.TlsFailed("the certificate authority holds no PEM certificate")
    try:
        context.load_verify_locations(cadata=b"\n".join(found).decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise errors.TlsFailed(f"the certificate authority cannot be read: {error}") from None


def _load_client_certificate(
    context: ssl.SSLContext, cert: bytes, key: bytes, *, untrusted: bool
) -> None:
    try:
        with _as_file(cert + b"\n" + key, untrusted=untrusted) as path:
            context.load_cert_chain(path, password=_refuse_pass_phrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = "the client key does not belong to the client certificate"
        else:
            text = "the client certificate or its key cannot be read (PEM is expected)"
        raise errors.TlsFailed(text) from None


def _refuse_pass_phrase() -> NoReturn:
    # Without a callback OpenSSL would ask on the terminal, and a controller would hang there.
    raise errors.TlsFailed("the client key is encrypted with a pass phrase; store it without one")


@contextlib.contextmanager
def _as_file(data: bytes, *, untrusted: bool) -> Iterator[str]:
    """A path under which OpenSSL can read ``data`` once.

    OpenSSL loads a client certificate from a path only. On Linux that is an anonymous file in
    memory. Where there are none (macOS), the user's own key, which lies on this disk anyway,
    passes through a private file that is removed at once; somebody else's never does.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    elif untrusted:
        raise errors.TlsFailed("client certificates out of Secrets can be used on Linux only")
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name
