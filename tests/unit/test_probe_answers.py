"""What answers, and their absence, say about an API server."""

from __future__ import annotations

import json
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpucluster import errors
from dpucluster.tenant import answers
from dpucluster.tenant.answers import Peer
from dpucluster.tenant.problem import Problem

PEER = Peer("https://10.0.0.1:6443", "the token of user 'admin'")
CANARY = "canary-41c9"


def status(code: int, message: str) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "message": message}).encode()


def namespace(**changes: object) -> bytes:
    metadata = {"name": "kube-system", "uid": "1234"}
    return json.dumps({"kind": "Namespace", "metadata": metadata, **changes}).encode()


def reason(found: Problem | str | None) -> str:
    return found.reason if isinstance(found, Problem) else ""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (200, ""),
        (403, ""),  # kube-system decides
        (401, "Unauthorized"),
        (429, "ApiServerNotReady"),
        (500, "ApiServerNotReady"),
        (503, "ApiServerNotReady"),
        (302, "NotKubernetes"),
        (404, "NotKubernetes"),
        (204, "NotKubernetes"),
    ],
)
def test_readyz(code: int, expected: str) -> None:
    """Each status of /readyz has one reason."""
    found = answers.from_readyz(PEER, code, b"")
    assert expected == reason(found)


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (200, namespace(), "1234"),
        (200, b"<html>", "NotKubernetes"),
        (200, namespace(kind="Pod"), "NotKubernetes"),
        (200, namespace(metadata={"name": "other", "uid": "1"}), "NotKubernetes"),
        (200, namespace(metadata={"name": "kube-system"}), "NotKubernetes"),
        (200, b"", "NotKubernetes"),
        (401, b"", "Unauthorized"),
        (403, status(403, "no"), "Forbidden"),
        (404, status(404, "not found"), "ApiServerNotReady"),
        (404, b"nginx", "NotKubernetes"),
        (301, b"", "NotKubernetes"),
        (500, b"", "ApiServerNotReady"),
        (503, b"", "ApiServerNotReady"),
        (429, b"", "ApiServerNotReady"),
    ],
)
def test_kube_system(code: int, body: bytes, expected: str) -> None:
    """Each answer to the question for kube-system has one reason, or the identity."""
    found = answers.from_kube_system(PEER, code, body)
    assert expected == (found if isinstance(found, str) else found.reason)


def test_failing_checks_are_named() -> None:
    """A server that is not ready says which of its checks fail."""
    body = b"[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac failed\n"
    found = answers.from_readyz(PEER, 500, body)
    assert found is not None
    assert "failing checks: etcd, poststarthook/rbac;" in found.message


def test_message_names_server_and_credentials() -> None:
    """Who reads it knows where and as whom."""
    found = answers.from_readyz(PEER, 401, b"")
    assert found is not None
    assert PEER.server in found.message
    assert PEER.credentials in found.message


def test_words_of_strangers_are_not_passed_on() -> None:
    """What is no Kubernetes API is not quoted; a Status is, shortened and printable."""
    for body in (f"<html>{CANARY}".encode(), json.dumps({"note": CANARY}).encode()):
        for code in (200, 302, 404, 500):
            assert CANARY not in str(answers.from_kube_system(PEER, code, body))
            assert CANARY not in str(answers.from_readyz(PEER, code, body))
    found = answers.from_kube_system(PEER, 403, status(403, "may\x1b[31m not\n" + "x" * 999))
    assert isinstance(found, Problem)
    assert "may [31m not x" in found.message
    assert found.message.isprintable()
    assert len(found.message) < 500


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConnectFailed("refused"), "Unreachable"),
        (errors.NotHttp("garbage"), "NotKubernetes"),
        (errors.TimedOut("late"), "Timeout"),
        (errors.TlsFailed("the client key is encrypted"), "KubeconfigInvalid"),
        (errors.DecodeError("odd"), "NotKubernetes"),
    ],
)
def test_errors_have_reasons(error: errors.DpuClusterError, expected: str) -> None:
    """What the client raises says what went wrong."""
    found = answers.from_error(error, PEER)
    assert expected == found.reason
    assert PEER.server in found.message


def tls_error(cause: ssl.SSLError) -> errors.TlsFailed:
    error = errors.TlsFailed("no TLS")
    error.__cause__ = cause
    return error


def test_tls_errors_are_told_apart() -> None:
    """Their certificate, ours, or no TLS at all."""
    alert, version = ssl.SSLError(1, "alert"), ssl.SSLError(1, "version")
    alert.reason, version.reason = "TLSV1_ALERT_UNKNOWN_CA", "WRONG_VERSION_NUMBER"
    causes = [ssl.SSLCertVerificationError(1, "bad"), alert, version]
    assert ["CertificateInvalid", "Unauthorized", "NotKubernetes"] == [
        answers.from_error(tls_error(cause), PEER).reason for cause in causes
    ]


@given(code=st.integers(min_value=100, max_value=599), body=st.binary(max_size=300))
def test_any_answer_has_a_verdict(code: int, body: bytes) -> None:
    """Nothing a server can send is an exception, and no message is long or unprintable."""
    for found in (
        answers.from_readyz(PEER, code, body),
        answers.from_kube_system(PEER, code, body),
    ):
        if isinstance(found, Problem):
            assert found.message.isprintable()
            assert len(found.message) < 600
    assert isinstance(answers.version(body), str)
    assert answers.count(body) is None
    assert answers.is_allowed(body) is None


def test_survey_reads_what_it_asked_for() -> None:
    """Version, count and rights, from the shapes that a real server sends."""
    assert "v1.34.4" == answers.version(b'{"major":"1","gitVersion":"v1.34.4"}')
    assert 7 == answers.count(b'{"metadata":{"remainingItemCount":6},"items":[{}]}')
    assert 0 == answers.count(b'{"metadata":{"resourceVersion":"1"},"items":[]}')
    assert answers.is_allowed(b'{"status":{"allowed":false}}') is False


COUNTS = [(-5, None), (-1, None), (0, 1), (2**31 - 2, 2**31 - 1), (2**31 - 1, None), (10**26, None)]


@pytest.mark.parametrize(("remaining", "expected"), COUNTS)
def test_count_fits_the_status(remaining: int, expected: int | None) -> None:
    """A tenant that tells an absurd number cannot make its DPUCluster's status unwritable."""
    body = json.dumps({"metadata": {"remainingItemCount": remaining}, "items": [{}]}).encode()
    assert expected == answers.count(body)


@given(st.text(max_size=100))
def test_version_is_short_and_plain(text: str) -> None:
    """What a tenant calls its version is none unless it looks like one."""
    found = answers.version(json.dumps({"gitVersion": text}).encode())
    assert found in ("", text)
    assert len(found) <= 64
    assert found.isascii()
    assert found.isprintable()


@pytest.mark.parametrize("text", ["v1.34.4", "1.30.0", "v1.30.0-eks-036c24b", "v1.27.3+k3s1"])
def test_versions_that_exist(text: str) -> None:
    """Distributions add their own suffixes."""
    assert text == answers.version(json.dumps({"gitVersion": text}).encode())


def test_deep_json_breaks_nothing() -> None:
    """A body nested 30,000 deep is no Namespace."""
    found = answers.from_kube_system(PEER, 200, b"[" * 30_000 + b"]" * 30_000)
    assert "NotKubernetes" == reason(found)
