"""Certificates and keys of a control plane: one authority, one kind of key throughout.

ECDSA P-256, but for what Kamaji reads, which knows only RSA.

What is here makes good credentials only; a client's lifetime can be chosen, so that rotation and
expiry can be shown on a real server.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = dt.timedelta(days=3650)
"""As kubeadm's: a kept plane must not expire under its user."""
LEAF_LIFETIME = dt.timedelta(days=365)
"""As kubeadm's; leaves are made anew at each start."""
BACKDATED = dt.timedelta(minutes=5)
"""Certificates begin a little in the past, for clocks that differ."""


class KeyKind(enum.Enum):
    """What keys are made of."""

    ECDSA = "P-256"
    RSA = "2048 bits"


_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its unencrypted key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign.

    Attributes:
        pair: Its own certificate and key.
    """

    pair: KeyPair

    @classmethod
    def create(cls, name: str, kind: KeyKind = KeyKind.ECDSA) -> Authority:
        """A new authority; ``name`` is its common name. What it signs has keys of its kind."""
        key = _new_key(kind)
        subject = _name(name, ())
        builder = (
            _builder(subject, subject, key, _now() - BACKDATED, _now() + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        return cls(_pair(builder.sign(key, hashes.SHA256()), key))

    @property
    def certificate(self) -> bytes:
        """Its certificate, PEM: what clients are told to trust."""
        return self.pair.certificate

    def client(
        self,
        user: str,
        groups: Sequence[str] = (),
        *,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
    ) -> KeyPair:
        """A client certificate: Kubernetes reads the user and the groups out of its subject."""
        return self._leaf(
            _name(user, groups),
            (ExtendedKeyUsageOID.CLIENT_AUTH,),
            not_before=not_before,
            not_after=not_after,
        )

    def server(self, name: str, hosts: Sequence[str], *, dials: bool = False) -> KeyPair:
        """A server certificate for ``hosts``, names or addresses.

        ``dials``: the server also shows it where it is a client, as etcd does to itself.
        """
        alternatives = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
        if dials:
            purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        return self._leaf(_name(name, ()), purposes, alternatives)

    def _leaf(
        self,
        subject: x509.Name,
        purposes: Sequence[x509.ObjectIdentifier],
        *extensions: x509.ExtensionType,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
    ) -> KeyPair:
        issuer = x509.load_pem_x509_certificate(self.pair.certificate)
        issuer_key = serialization.load_pem_private_key(self.pair.key, None)
        assert isinstance(issuer_key, _Key)  # noqa: S101 - made above
        is_rsa = isinstance(issuer_key, rsa.RSAPrivateKey)
        key = _new_key(KeyKind.RSA if is_rsa else KeyKind.ECDSA)
        builder = (
            _builder(
                subject,
                issuer.subject,
                key,
                not_before or _now() - BACKDATED,
                not_after or _now() + LEAF_LIFETIME,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def signing_key() -> bytes:
    """A private key (PEM) for the tokens of service accounts."""
    return _key_pem(_new_key(KeyKind.ECDSA))


def _new_key(kind: KeyKind) -> _Key:
    if kind is KeyKind.RSA:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: _Key,
    not_before: dt.datetime,
    not_after: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: _Key) -> KeyPair:
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def _key_pem(key: _Key) -> bytes:
    # SEC 1 and PKCS#1, not PKCS#8: the API server's token signer reads both, Kamaji only these.
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
