"""The corpus of bad Secrets, judged without a network: the same reasons as end to end."""

from __future__ import annotations

import base64
import datetime as dt
import re

import pytest

from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.kube import kinds
from dpucluster.tenant import diagnosis
from tests.support import certificates, corpus, kubeconfigs

CLUSTER = Key("dpf-operator-system", "bad")
INTERNALS = re.compile(r"0x[0-9a-f]{6,}|Traceback|_ssl\.c|\[Errno|<class|object at|\bNoneType\b")


def made() -> list[corpus.Case]:
    authority = certificates.Authority("tenant-ca")
    pair = authority.client("kubernetes-admin", "system:masters")
    good = kubeconfigs.build(
        "https://127.0.0.1:6443", authority.pem, cert_pem=pair.cert_pem, key_pem=pair.key_pem
    )
    ground = corpus.Ground(good, lambda _name: "https://127.0.0.1:7443", authority.pem)
    return corpus.cases(ground)


CASES = made()


def judge(case: corpus.Case) -> diagnosis.Diagnosis:
    data = case.data
    secret = None
    if data is not None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        metadata = ObjectMeta(name=case.name, namespace=CLUSTER.namespace)
        secret = kinds.Secret(metadata, data=encoded)
    return diagnosis.diagnose(
        secret,
        cluster=CLUSTER,
        cluster_type="static",
        secret_name=case.name if case.named else "",
        now=dt.datetime.now(dt.UTC),
    )


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.condition == "Created"], ids=lambda c: c.name
)
def test_bad_secrets_have_their_reason(case: corpus.Case) -> None:
    """Each is told by its reason, where it is, which field, and without a secret."""
    problem = judge(case).problem
    assert problem is not None
    assert case.reason == problem.reason, problem.message
    assert [] == [hint for hint in case.hints if hint not in problem.message], problem.message
    assert [] == [canary for canary in case.canaries if canary in problem.message]
    assert None is INTERNALS.search(problem.message), problem.message
    assert 1000 > len(problem.message)


@pytest.mark.parametrize("case", [c for c in CASES if c.condition == "Ready"], ids=lambda c: c.name)
def test_what_only_the_server_can_tell(case: corpus.Case) -> None:
    """A kubeconfig whose only fault is its server is no bad Secret."""
    assert None is judge(case).problem


def test_the_corpus_is_large() -> None:
    """No case stands twice, and there are many."""
    assert len(CASES) == len({case.name for case in CASES})
    assert 100 <= len(CASES)
