"""Certificates of test servers: also the bad ones that ``localplane.pki`` would never make.

Serial numbers are random, keys are ECDSA P-256; nothing is written to disk except the one file
that ``ssl`` insists on for a server's chain, which lives for the length of a call.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def cert_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key as PEM (PKCS#8, not encrypted)."""
        return self._key_bytes(serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def encrypted_key_pem(self, password: bytes) -> bytes:
        """The key as PEM that asks for a pass phrase (PKCS#8)."""
        return self._key_bytes(
            serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(password)
        )

    def legacy_encrypted_key_pem(self, password: bytes) -> bytes:
        """The same in OpenSSL's older form (``Proc-Type: 4,ENCRYPTED``)."""
        return self._key_bytes(
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(password),
        )

    def _key_bytes(
        self,
        form: serialization.PrivateFormat,
        encryption: serialization.KeySerializationEncryption,
    ) -> bytes:
        return self.key.private_bytes(serialization.Encoding.PEM, form, encryption)


class Authority:
    """A certificate authority in memory."""

    def __init__(self, name: str = "test-ca") -> None:
        self.pair = _make(name, issuer=None, is_ca=True)

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self.pair.cert_pem

    def server(self, *hosts: str, starts: float = -1, ends: float = 30) -> Pair:
        """A server certificate for ``hosts``, valid from ``starts`` to ``ends`` days from now."""
        return _make(hosts[0], issuer=self.pair, hosts=hosts, starts=starts, ends=ends)

    def client(self, user: str, *groups: str, starts: float = -1, ends: float = 30) -> Pair:
        """A client certificate for ``user``, member of ``groups``."""
        return _make(user, issuer=self.pair, groups=groups, starts=starts, ends=ends)


def server_context(pair: Pair) -> ssl.SSLContext:
    """TLS for a server that shows ``pair``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, pair.cert_pem, pair.key_pem)
    return context


def load_pair(context: ssl.SSLContext, cert_pem: bytes, key_pem: bytes) -> None:
    """Give ``context`` a certificate and key from memory."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(cert_pem + b"\n" + key_pem)
        file.flush()
        context.load_cert_chain(file.name)


def _make(
    name: str,
    *,
    issuer: Pair | None,
    is_ca: bool = False,
    hosts: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    starts: float = -1,
    ends: float = 30,
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = _subject(name, groups)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + DAY * starts)
        .not_valid_after(now + DAY * ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    for extension, critical in _extensions(key, issuer, is_ca=is_ca, hosts=hosts):
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer else key
    return Pair(builder.sign(signer, hashes.SHA256()), key)


def _subject(name: str, groups: tuple[str, ...]) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _extensions(
    key: ec.EllipticCurvePrivateKey, issuer: Pair | None, *, is_ca: bool, hosts: tuple[str, ...]
) -> list[tuple[Any, bool]]:
    signer = issuer.key if issuer else key
    found: list[tuple[Any, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        (_key_usage(is_ca=is_ca), True),
    ]
    if not is_ca:
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        found.append((x509.ExtendedKeyUsage([usage]), False))
    if hosts:
        found.append((x509.SubjectAlternativeName([_general_name(h) for h in hosts]), False))
    return found


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
