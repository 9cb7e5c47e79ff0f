"""Every bad Secret of the corpus, from its bytes to its reason, without a controller."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from typing import Any

import pytest
import yaml

from dpucluster.api.meta import Key, ObjectMeta
from dpucluster.kube import kinds
from dpucluster.localplane import plane
from dpucluster.runtime import clock as clocks
from dpucluster.tenant import diagnosis as tenant_diagnosis
from dpucluster.tenant.connection import TenantConnection
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import ProbeOptions, ProbeResult
from dpucluster.tenant.problem import Problem
from tests.support import corpus
from tests.support import kubeconfigs as kc
from tests.support import zoo as animals
from tests.support.patience import PATIENCE


@pytest.fixture
def ground(zoo: animals.Zoo, shared_tenant: plane.ControlPlane) -> corpus.Ground:
    good = yaml.safe_load(shared_tenant.client_kubeconfig())
    return corpus.Ground(good, zoo.url, zoo.ca_pem)


def diagnose(case: corpus.Case) -> Diagnosis:
    secret, name = None, "no-such-secret" if case.named else ""
    if case.data is not None:
        data = {key: base64.b64encode(value).decode() for key, value in case.data.items()}
        secret, name = kinds.Secret(ObjectMeta(name="s", namespace="ns"), data=data), "s"
    return tenant_diagnosis.diagnose(
        secret,
        cluster=Key("ns", "dpu-1"),
        cluster_type="static",
        secret_name=name,
        now=clocks.SYSTEM.now(),
    )


async def verdict(case: corpus.Case) -> tuple[str, Problem | None]:
    """Which condition tells, and what."""
    found = await asyncio.to_thread(diagnose, case)
    if found.problem is not None:
        return "Created", found.problem
    is_silent = case.reason == "Timeout"  # all others answer, however long a busy machine takes
    return "Ready", (await probe(found, 5.0 if is_silent else PATIENCE)).problem


async def probe(found: Diagnosis, seconds: float) -> ProbeResult:
    connection = TenantConnection(found, options=ProbeOptions(timeout=seconds), clock=clocks.SYSTEM)
    try:
        return await connection.probe()
    finally:
        await connection.aclose()


async def test_every_bad_secret_has_its_reason(ground: corpus.Ground) -> None:
    """All side by side: the right condition, reason and hints, and no secret."""
    cases = corpus.cases(ground)
    assert len(cases) >= 40
    verdicts = await asyncio.wait_for(asyncio.gather(*map(verdict, cases)), PATIENCE)
    wrong = [
        f"{case.name}: {condition} {problem}"
        for case, (condition, problem) in zip(cases, verdicts, strict=True)
        if not is_right(case, condition, problem)
    ]
    assert [] == wrong


def is_right(case: corpus.Case, condition: str, problem: Problem | None) -> bool:
    if problem is None or (condition, problem.reason) != (case.condition, case.reason):
        return False
    leaks = [c for c in (*case.canaries, animals.CANARY) if c in problem.message]
    missing = [hint for hint in case.hints if hint not in problem.message]
    return not leaks and not missing and problem.message.isprintable()


async def test_good_secret_is_good(ground: corpus.Ground) -> None:
    """The Secret that all cases are made from works."""
    data = corpus.good_secret(ground)
    assert ("Ready", None) == await verdict(corpus.Case("good", "", "", data))


async def test_names_that_hang_delay_nobody(
    ground: corpus.Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that never answers costs its own cluster its time limit, and nobody else's."""
    release, asked, lookup = threading.Event(), [], socket.getaddrinfo

    def stuck(host: Any, *args: Any, **options: Any) -> Any:
        if str(host).endswith("silent.example"):
            asked.append(host)
            release.wait(PATIENCE)
            raise socket.gaierror(socket.EAI_AGAIN, "no name server")
        return lookup(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    good = tenant_of(ground, kc.cluster(ground.good)["server"].replace("127.0.0.1", "localhost"))
    silent = [tenant_of(ground, f"https://t{n}.silent.example:6443") for n in range(50)]
    waiting = [asyncio.create_task(probe(found, seconds=4)) for found in silent]
    try:
        await asyncio.sleep(0)
        assert (await probe(good, seconds=PATIENCE)).ok
        results = await asyncio.gather(*waiting)
        reasons = {result.problem.reason for result in results if result.problem}
        assert {"Timeout"} == reasons
        assert 50 == len(asked)
    finally:
        release.set()


def tenant_of(ground: corpus.Ground, server: str) -> Diagnosis:
    """The good kubeconfig with another address."""
    config = {**ground.good, "clusters": [dict(ground.good["clusters"][0])]}
    config["clusters"][0]["cluster"] = {**kc.cluster(ground.good), "server": server}
    found = diagnose(corpus.Case("", "", "", {"admin.conf": kc.text(config)}))
    assert found.problem is None
    return found
