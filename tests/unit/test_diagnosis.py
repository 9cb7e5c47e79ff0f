"""What is said of a kubeconfig Secret without connecting."""

from __future__ import annotations

import base64
import datetime as dt
import json
import ssl
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st

from dpucluster import errors
from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.kube import kinds
from dpucluster.tenant import credentials
from dpucluster.tenant import diagnosis as tenant_diagnosis
from dpucluster.tenant.diagnosis import Diagnosis, Facts
from tests.support import certificates
from tests.support import kubeconfigs as kc

CLUSTER = Key("dpf", "dpu-1")
NAME = "dpu-1-admin-kubeconfig"
NOW = dt.datetime.now(dt.UTC) - dt.timedelta(days=10)
"""The authorities of tests end 30 days from today, which would be a warning of its own."""


@pytest.fixture(scope="module")
def authority() -> certificates.Authority:
    return certificates.Authority()


@pytest.fixture(scope="module")
def admin(authority: certificates.Authority) -> certificates.Pair:
    return authority.client("admin", "system:masters", starts=-20, ends=365)


@pytest.fixture
def config(authority: certificates.Authority, admin: certificates.Pair) -> kc.Kubeconfig:
    """A good one."""
    return kc.build(
        "https://10.0.0.1:6443",
        authority.pem,
        name=CLUSTER.name,
        cert_pem=admin.cert_pem,
        key_pem=admin.key_pem,
    )


def secret(**data: kc.Kubeconfig | bytes) -> kinds.Secret:
    """A Secret; a keyword's ``__`` stands for ``-``, ``_`` for ``.``."""
    encoded = {
        key.replace("__", "-").replace("_", "."): base64.b64encode(
            value if isinstance(value, bytes) else kc.text(value)
        ).decode()
        for key, value in data.items()
    }
    return kinds.Secret(ObjectMeta(name=NAME, namespace=CLUSTER.namespace), data=encoded)


def diagnose(found: kinds.Secret | None, **changes: Any) -> Diagnosis:
    arguments = {"cluster": CLUSTER, "cluster_type": "static", "secret_name": NAME, "now": NOW}
    return tenant_diagnosis.diagnose(found, **{**arguments, **changes})


def reason(found: Diagnosis) -> str:
    return found.problem.reason if found.problem else ""


def message(found: Diagnosis) -> str:
    return found.problem.message if found.problem else ""


def warnings(found: Diagnosis) -> list[str]:
    return [warning.reason for warning in found.warnings]


def test_good_kubeconfig_has_facts_and_nothing_else(config: kc.Kubeconfig) -> None:
    """A usable Secret gives no problem, no warning, and says whose certificate it holds."""
    found = diagnose(secret(admin_conf=config))
    assert (None, ()) == (found.problem, found.warnings)
    assert found.facts is not None
    assert "https://10.0.0.1:6443" == found.facts.server
    assert "certificate" == found.facts.authentication
    assert "CN=admin,O=system:masters" == found.facts.subject
    assert found.kubeconfig is not None
    assert f"Secret dpf/{NAME}, key admin.conf" == found.where


def test_secret_material_is_never_shown(config: kc.Kubeconfig) -> None:
    """Neither the diagnosis nor its parts show a key, whoever prints them."""
    found = diagnose(secret(admin_conf=config))
    assert "PRIVATE KEY" not in repr(found)
    assert kc.user(config)["client-key-data"][40:80] not in repr(found)


def test_nothing_named() -> None:
    """An empty spec.kubeconfig of a static cluster says what to create."""
    found = diagnose(None, secret_name="")
    assert "EmptyKubeconfig" == reason(found)
    assert "admin.conf" in message(found)
    assert found.is_absent


def test_nothing_named_by_a_manager_yet() -> None:
    """Of another type it is the manager's turn, not the user's."""
    found = diagnose(None, secret_name="", cluster_type="kamaji")
    assert "cluster manager of type 'kamaji'" in message(found)


def test_no_such_secret() -> None:
    """A Secret that is not there is named."""
    found = diagnose(None)
    assert "SecretNotFound" == reason(found)
    assert f"dpf/{NAME}" in message(found)
    assert found.is_absent


def test_key_missing_tells_which_keys_there_are(config: kc.Kubeconfig) -> None:
    """Somebody who used the key ``value`` reads that; a hundred keys are not all listed."""
    found = diagnose(secret(value=config))
    assert "KubeconfigKeyMissing" == reason(found)
    assert "it has value" in message(found)
    many = diagnose(secret(**{f"k{i:03}": b"x" for i in range(100)}))
    assert "k004, …" in message(many)
    assert "it is empty" in message(diagnose(secret()))


@pytest.mark.parametrize(
    ("cluster_type", "used"),
    [
        ("static", "admin.conf"),
        ("kamaji", "super-admin.conf"),
        ("example.com/other", "admin.conf"),
    ],
)
def test_which_key_is_preferred(config: kc.Kubeconfig, cluster_type: str, used: str) -> None:
    """Kamaji grants admin.conf its rights late, everybody else has it."""
    both = secret(admin_conf=config, super__admin_conf=config)
    assert diagnose(both, cluster_type=cluster_type).where.endswith(f"key {used}")
    only = secret(super__admin_conf=config)
    assert reason(diagnose(only, cluster_type=cluster_type)) == ""


def test_key_of_another_certificate(config: kc.Kubeconfig, authority: Any, admin: Any) -> None:
    """Certificate and key from two kubeconfigs are told apart before anybody connects."""
    kc.hold(config, admin.cert_pem, authority.client("other").key_pem)
    found = diagnose(secret(admin_conf=config))
    assert "KubeconfigInvalid" == reason(found)
    assert "not the key of client-certificate-data" in message(found)


def test_encrypted_key(config: kc.Kubeconfig, admin: certificates.Pair) -> None:
    """A key with a pass phrase is refused in both of its forms."""
    for key in (admin.encrypted_key_pem(b"pw"), admin.legacy_encrypted_key_pem(b"pw")):
        kc.hold(config, admin.cert_pem, key)
        found = diagnose(secret(admin_conf=config))
        assert "KubeconfigInvalid" == reason(found)
        assert "client-key-data" in message(found)


def test_reader_itself_refuses_encrypted_keys(admin: certificates.Pair) -> None:
    """The second line of defence does not depend on the loader's look at the PEM header."""
    with pytest.raises(errors.KubeconfigError, match="pass phrase"):
        credentials.read_client(admin.cert_pem, admin.encrypted_key_pem(b"pw"), "here")


def test_chain_is_judged_by_its_first_certificate(
    config: kc.Kubeconfig, authority: certificates.Authority, admin: certificates.Pair
) -> None:
    """Intermediate certificates after the client's own are no other identity."""
    kc.hold(config, admin.cert_pem + authority.pem, admin.key_pem)
    found = diagnose(secret(admin_conf=config))
    assert found.facts is not None
    assert "CN=admin,O=system:masters" == found.facts.subject


def test_rsa_keys_are_read(authority: certificates.Authority) -> None:
    """RSA keys are what kubeadm and Kamaji make; one that is not the certificate's is refused."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    with pytest.raises(errors.KubeconfigError, match="not the key of"):
        credentials.read_client(authority.client("x").cert_pem, key, "here")


def test_expired_credentials(config: kc.Kubeconfig, admin: certificates.Pair) -> None:
    """From the moment a certificate ends it is a problem; facts and kubeconfig stay there."""
    ends = admin.certificate.not_valid_after_utc
    before = diagnose(secret(admin_conf=config), now=ends - dt.timedelta(seconds=1))
    after = diagnose(secret(admin_conf=config), now=ends)
    assert ("", "CredentialsExpired") == (reason(before), reason(after))
    assert after.facts is not None
    assert after.kubeconfig is not None
    assert f"{ends:%Y-%m-%d}" in message(after)


def test_not_yet_valid_is_for_ready_to_tell(config: kc.Kubeconfig, admin: Any) -> None:
    """The Secret is fine; the credentials cannot be used yet."""
    begins = admin.certificate.not_valid_before_utc
    early = begins - dt.timedelta(hours=1)
    found = diagnose(secret(admin_conf=config), now=early)
    assert found.problem is None
    unusable = tenant_diagnosis.validity(found, early)
    assert unusable is not None
    assert "CredentialsNotYetValid" == unusable.reason
    assert tenant_diagnosis.validity(found, begins) is None


def test_expiry_is_announced_thirty_days_ahead(config: kc.Kubeconfig, admin: Any) -> None:
    """The warning comes with the day, and goes when the credentials have expired."""
    ends = admin.certificate.not_valid_after_utc
    found = diagnose(secret(admin_conf=config))
    near = tenant_diagnosis.reassess(found, ends - dt.timedelta(days=30))
    assert ["CredentialsExpireSoon"] == warnings(near)
    assert f"{ends:%Y-%m-%d}" in near.warnings[0].message
    assert [] == warnings(tenant_diagnosis.reassess(near, ends))
    assert found == tenant_diagnosis.reassess(near, NOW)


def test_authority_that_ends_soon(config: kc.Kubeconfig) -> None:
    """The server's own certificate can live no longer than its authority."""
    found = diagnose(secret(admin_conf=config), now=dt.datetime.now(dt.UTC))
    assert ["CredentialsExpireSoon"] == warnings(found)
    assert "certificate authority" in found.warnings[0].message


def test_next_change_is_when_the_verdict_changes(config: kc.Kubeconfig, admin: Any) -> None:
    """Nobody polls for an expiry: the moments are known."""
    found = diagnose(secret(admin_conf=config))
    moment, seen = NOW, []
    while (change := tenant_diagnosis.next_change(found, moment)) is not None:
        seen.append(change)
        moment = change
    assert sorted(seen) == seen
    assert found.facts is not None
    month = dt.timedelta(days=30)
    ends = admin.certificate.not_valid_after_utc
    assert [found.facts.ca_not_after - month, ends - month, ends] == seen


def test_bearer_token(config: kc.Kubeconfig) -> None:
    """A token works, and is warned of; one that is a JWT says whose and until when."""
    ends = NOW + dt.timedelta(days=100)
    claims = {"sub": "system:serviceaccount:a:b", "exp": ends.timestamp()}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    kc.login(config, token=f"e30.{payload}.c2ln")
    found = diagnose(secret(admin_conf=config))
    assert ["BearerToken"] == warnings(found)
    assert found.facts is not None
    assert ("token", claims["sub"]) == (found.facts.authentication, found.facts.subject)
    assert "CredentialsExpired" == reason(tenant_diagnosis.reassess(found, ends))


def test_name_of_the_cluster_entry(config: kc.Kubeconfig) -> None:
    """DPF deploys under the name of the cluster entry."""
    found = diagnose(secret(admin_conf=config), cluster=Key("dpf", "another"))
    assert ["ClusterNameMismatch"] == warnings(found)


@given(st.binary(max_size=400))
def test_any_bytes_are_diagnosed(data: bytes) -> None:
    """Whatever a Secret holds, the answer is a problem with a reason, never an exception."""
    found = diagnose(secret(admin_conf=data))
    assert reason(found).startswith("Kubeconfig")


@given(st.text(max_size=300))
def test_any_token_is_read(token: str) -> None:
    """A token that is no JWT says nothing, and breaks nothing."""
    assert isinstance(credentials.read_token(token), credentials.Holder)


@given(
    claims=st.dictionaries(st.sampled_from(["exp", "nbf"]), st.integers() | st.floats(width=64)),
    now=st.integers(0, 40_000).map(lambda days: NOW + dt.timedelta(days=days)),
)
@example({"exp": -62135596800}, NOW)
@example({"exp": 253402300799, "nbf": -62135596800}, NOW)
def test_any_times_of_a_token_can_be_followed(claims: dict[str, float], now: dt.datetime) -> None:
    """Whatever times a JWT names, the moments at which the verdict changes can be calculated."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    holder = credentials.read_token(f"a.{payload}.c")
    assert_can_be_followed(holder, credentials.LATEST, now)


DATES = [b"00010101000000Z", b"19491231235959Z", b"20991231235959Z", b"99991231235959Z"]


@pytest.mark.parametrize("begins", DATES)
@pytest.mark.parametrize("ends", DATES)
def test_any_dates_of_a_certificate_can_be_followed(
    authority: certificates.Authority, begins: bytes, ends: bytes
) -> None:
    """A certificate's dates may be of any century, too; 9999 means never."""
    made = authority.client("x", starts=40_000, ends=50_000)
    der = made.certificate.public_bytes(serialization.Encoding.DER)
    own = [
        moment.strftime("%Y%m%d%H%M%SZ").encode()
        for moment in (
            made.certificate.not_valid_before_utc,
            made.certificate.not_valid_after_utc,
        )
    ]
    changed = der.replace(own[0], begins).replace(own[1], ends)
    assert der != changed
    pem = ssl.DER_cert_to_PEM_cert(changed).encode()
    holder = credentials.read_client(pem, made.key_pem, "here")
    assert_can_be_followed(holder, credentials.read_authority(pem, "here"), NOW)


def assert_can_be_followed(
    holder: credentials.Holder, ca_not_after: dt.datetime, now: dt.datetime
) -> None:
    """Go through all moments at which something changes, as a watcher does."""
    facts = Facts("s", "c", "u", "token", "", holder.not_before, holder.not_after, ca_not_after)
    found, moment = Diagnosis(facts=facts), now
    while (change := tenant_diagnosis.next_change(found, moment)) is not None:
        assert (change - moment).total_seconds() > 0
        moment = change
        found = tenant_diagnosis.reassess(found, moment)


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=3))
def test_any_claims_are_read(value: object) -> None:
    """A JWT is somebody else's JSON: times may be anything."""
    payload = base64.urlsafe_b64encode(json.dumps({"exp": value, "sub": value}).encode()).decode()
    assert isinstance(credentials.read_token(f"a.{payload}.c"), credentials.Holder)
