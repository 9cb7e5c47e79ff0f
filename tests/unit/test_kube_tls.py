"""TLS contexts out of memory."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from dpucluster import errors
from dpucluster.kube import connection as connections
from dpucluster.kube import tls
from tests.support import certificates

AUTHORITY = certificates.Authority()
PAIR = AUTHORITY.client("admin")
SERVER = "https://a:6443"


def context(**fields: Any) -> ssl.SSLContext:
    given: dict[str, Any] = {"server": SERVER, "ca_data": AUTHORITY.pem, **fields}
    return tls.ssl_context(connections.Connection(**given))


def refused(**fields: Any) -> str:
    with pytest.raises(errors.TlsFailed) as caught:
        context(**fields)
    return str(caught.value)


NAMES = ["a", "a.", "A_b-c.example", "127.0.0.1", "::1", "fe80::1%eth0", "\u00fc.example"]
NO_NAMES = ["", ".", "..", ".a", "a..b", "a" * 64, "\u3002", "a\0b", "\ud800", "XN--\u00fc"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names(name: str) -> None:
    """A certificate can be checked against any DNS name and address."""
    assert tls.is_name(name)


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_no_names(name: str) -> None:
    """What the libraries would choke on, or take for no name at all, is none."""
    assert not tls.is_name(name)


def test_verifies() -> None:
    """The server's certificate and name are verified against the given authority only."""
    made = context()
    assert (ssl.CERT_REQUIRED, True) == (made.verify_mode, made.check_hostname)
    assert 1 == made.cert_store_stats()["x509_ca"]


def test_insecure() -> None:
    """Only who asks for it goes unverified."""
    made = context(insecure=True, ca_data=None)
    assert (ssl.CERT_NONE, False) == (made.verify_mode, made.check_hostname)


def test_remarks_in_the_authority() -> None:
    """Text around the certificates, in any encoding, does no harm."""
    data = b"# Caf\xc3\xa9 \xff\n" + AUTHORITY.pem + b"\nbetween\n" + certificates.Authority().pem
    assert 2 == context(ca_data=data).cert_store_stats()["x509_ca"]


@pytest.mark.parametrize("data", [b"", b"x", PAIR.key_pem, AUTHORITY.pem[:-60]])
def test_no_authority(data: bytes) -> None:
    """An authority without a certificate is an error, not a context that trusts nobody."""
    assert "holds no PEM certificate" in refused(ca_data=data)


def test_broken_authority() -> None:
    """A certificate that only looks like one is an error."""
    broken = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"
    assert "cannot be read" in refused(ca_data=broken)


def test_client_certificate_leaves_no_trace(tmp_path: Path, monkeypatch: Any) -> None:
    """The key is loaded from memory: nothing is written to a directory, no descriptor stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = set(Path("/proc/self/fd").iterdir())
    context(client_cert=PAIR.cert_pem, client_key=PAIR.key_pem)
    assert [] == list(tmp_path.iterdir())
    assert before == set(Path("/proc/self/fd").iterdir())


def test_credentials_beat_the_connection() -> None:
    """What a credential program gives is used instead of what the connection holds."""
    connection = connections.Connection(
        SERVER, AUTHORITY.pem, client_cert=b"junk", client_key=b"junk"
    )
    own = connections.Credentials(client_cert=PAIR.cert_pem, client_key=PAIR.key_pem)
    assert tls.ssl_context(connection, own) is not None


def test_key_of_another() -> None:
    """A key that does not belong to the certificate is told."""
    other = AUTHORITY.client("other")
    text = refused(client_cert=PAIR.cert_pem, client_key=other.key_pem)
    assert "does not belong" in text


@pytest.mark.parametrize("legacy", [True, False])
def test_pass_phrase(legacy: bool) -> None:
    """An encrypted key is refused at once; nobody is asked on the terminal."""
    make = PAIR.legacy_encrypted_key_pem if legacy else PAIR.encrypted_key_pem
    assert "pass phrase" in refused(client_cert=PAIR.cert_pem, client_key=make(b"secret"))


@pytest.mark.parametrize(("cert", "key"), [(b"x", PAIR.key_pem), (PAIR.cert_pem, b"x")])
def test_junk(cert: bytes, key: bytes) -> None:
    """Neither junk is quoted."""
    text = refused(client_cert=cert, client_key=key)
    assert "cannot be read (PEM is expected)" in text


def test_without_memory_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there are none, somebody else's key is refused, the user's own is not."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pair = {"client_cert": PAIR.cert_pem, "client_key": PAIR.key_pem}
    assert "on Linux only" in refused(**pair, untrusted=True)
    assert context(**pair) is not None
    assert [] == list(tmp_path.iterdir())
