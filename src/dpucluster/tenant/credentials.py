"""Reads certificates, keys and tokens for what they say about themselves. Pure.

``cryptography`` costs 8 MiB and 78 ms, so it is imported by the first reader, not by this module.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
from typing import NoReturn

import msgspec

from dpucluster import errors
from dpucluster.tenant import problem

EARLIEST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LATEST = dt.datetime(9000, 1, 1, tzinfo=dt.UTC)
"""Between these two every calculation with a date goes well, and nobody needs others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """Whose credentials these are and when they are valid, as far as they tell."""

    subject: str = ""
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None


class _Claims(msgspec.Struct, frozen=True, gc=False):
    sub: str = ""
    exp: float | None = None
    nbf: float | None = None


def read_authority(ca_data: bytes, where: str) -> dt.datetime:
    """When the certificates of ``certificate-authority-data`` end.

    A bundle lives as long as its last certificate: that is how an authority is replaced.
    """
    from cryptography import x509  # noqa: PLC0415 - see the module's docstring

    try:
        bundle = x509.load_pem_x509_certificates(ca_data)
        ends = max(certificate.not_valid_after_utc for certificate in bundle)
    except ValueError as error:
        _refuse(
            f"{where}: certificate-authority-data holds no readable X.509 certificate; put the "
            "cluster's CA certificate there, as PEM in base64",
            error,
        )
    return _within(ends)


def read_client(cert: bytes, key: bytes, where: str) -> Holder:
    """The client certificate, after its key was held against it."""
    from cryptography import exceptions, x509  # noqa: PLC0415 - see the module's docstring
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - likewise

    try:
        leaf = x509.load_pem_x509_certificates(cert)[0]
        holder = Holder(
            leaf.subject.rfc4514_string(),
            _within(leaf.not_valid_before_utc),
            _within(leaf.not_valid_after_utc),
        )
        certified = leaf.public_key()
    except (ValueError, exceptions.UnsupportedAlgorithm) as error:
        _refuse(
            f"{where}: client-certificate-data holds no readable X.509 certificate; export the "
            "kubeconfig again",
            error,
        )
    try:
        # The key is only compared: testing RSA primes would cost 10 ms and more for each cluster.
        private = serialization.load_pem_private_key(
            key, password=None, unsafe_skip_rsa_key_validation=True
        )
    except TypeError as error:
        _refuse(
            f"{where}: client-key-data asks for a pass phrase, which a controller cannot enter; "
            "put the key there without encryption",
            error,
        )
    except (ValueError, exceptions.UnsupportedAlgorithm) as error:
        _refuse(
            f"{where}: client-key-data holds no readable private key; export the kubeconfig again",
            error,
        )
    if private.public_key() != certified:
        _refuse(
            f"{where}: client-key-data is not the key of client-certificate-data; take both from "
            "the same kubeconfig"
        )
    return holder


def read_token(token: str) -> Holder:
    """What a JWT says of itself; other tokens say nothing. The signature is the server's matter."""
    parts = token.split(".")
    if len(parts) != 3:
        return Holder()
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = msgspec.json.decode(payload, type=_Claims)
        return Holder(claims.sub, _moment(claims.nbf), _moment(claims.exp))
    except (binascii.Error, ValueError, OverflowError, OSError, msgspec.MsgspecError):
        return Holder()


def _moment(seconds: float | None) -> dt.datetime | None:
    """A time that a token tells; None when it tells none that could be meant."""
    if seconds is None or not EARLIEST.timestamp() <= seconds <= LATEST.timestamp():
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _within(moment: dt.datetime) -> dt.datetime:
    """A certificate's date, or the nearest that can be calculated with (9999 is: never)."""
    return min(max(moment, EARLIEST), LATEST)


def _refuse(message: str, cause: Exception | None = None) -> NoReturn:
    raise errors.KubeconfigError(problem.KUBECONFIG_INVALID, message) from cause
