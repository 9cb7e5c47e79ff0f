"""Certificates of local planes, and their kubeconfig: what a server and a client need to see."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dpucluster.kube import untrusted
from dpucluster.localplane import kubeconfig, pki


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.Authority.create("test-ca")


def load(pair: pki.KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


def test_a_client_is_who_its_subject_says(authority: pki.Authority) -> None:
    """The user is the common name, each group an organization."""
    subject = load(authority.client("jane", ("one", "two"))).subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    assert ["jane"] == names
    assert ["one", "two"] == groups


def test_a_server_is_accepted_for_its_hosts_only(authority: pki.Authority) -> None:
    """A strict verifier accepts the chain for a name and an address, and refuses others."""
    server = load(authority.server("kube-apiserver", ["localhost", "127.0.0.1"]))
    store = verification.Store([x509.load_pem_x509_certificate(authority.certificate)])
    builder = verification.PolicyBuilder().store(store)
    for subject in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))):
        assert builder.build_server_verifier(subject).verify(server, [])
    with pytest.raises(verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("example.org")).verify(server, [])


def test_a_client_certificate_is_no_server(authority: pki.Authority) -> None:
    """Extended key usages are apart: a client's certificate cannot pose as the API server."""
    usage = load(authority.client("jane")).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert [ExtendedKeyUsageOID.CLIENT_AUTH] == list(usage.value)


def test_lifetimes_can_be_chosen(authority: pki.Authority) -> None:
    """A certificate of the past can be made, to show what expiry does."""
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    old = load(authority.client("jane", not_before=start, not_after=start + dt.timedelta(days=1)))
    assert (start, start + dt.timedelta(days=1)) == (
        old.not_valid_before_utc,
        old.not_valid_after_utc,
    )


def test_keys_fit_and_never_show(authority: pki.Authority) -> None:
    """The key is the certificate's; its text is in no representation."""
    pair = authority.client("jane")
    key = serialization.load_pem_private_key(pair.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == load(pair).public_key()
    assert "PRIVATE" not in repr(pair)
    assert "PRIVATE" not in repr(authority)


def test_the_kubeconfig_is_one_that_strangers_accept(authority: pki.Authority) -> None:
    """One cluster and one user, inline; the strict loader of Secrets takes it."""
    pair = authority.client("jane")
    text = kubeconfig.render(
        cluster="my-tenant",
        server="https://127.0.0.1:6443",
        authority=authority.certificate,
        user="jane",
        pair=pair,
    )
    parsed = untrusted.parse(text.encode(), where="here")
    assert ("my-tenant", "jane") == (parsed.cluster_name, parsed.user_name)
    assert (authority.certificate, pair.certificate, pair.key) == (
        parsed.ca_data,
        parsed.client_cert,
        parsed.client_key,
    )
    assert "file" not in text
    assert base64.b64encode(pair.key).decode() in yaml.safe_load(text)["users"][0]["user"].values()
