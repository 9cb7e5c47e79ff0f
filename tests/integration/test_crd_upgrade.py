"""Our DPUCluster schema is applied in place over NVIDIA's, with objects there that break ours."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support import raw_api
from tests.support.raw_api import Objects, RawApi

ROOT = pathlib.Path(__file__).parents[2]
OURS = ROOT / "deploy/crds/provisioning.dpu.nvidia.com_dpuclusters.yaml"
NVIDIA = ROOT / "tests/support/nvidia_v2410_dpuclusters.yaml"
LABEL = {"labels": {"edited": "yes"}}


@pytest.fixture
def clusters(management: Any, namespace: str) -> Objects:
    return Objects(RawApi(management.kubeconfig), namespace, raw_api.DPUCLUSTERS)


def install(clusters: Objects, file: pathlib.Path) -> None:
    """Put the CRD of `file` in the place of what is there, as `kubectl replace` does."""
    crd = yaml.safe_load(file.read_text())
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    there = clusters.api.request("GET", path).body
    crd["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
    reply = clusters.api.request("PUT", path, crd)
    assert 200 == reply.status, reply.body


def wait_for(clusters: Objects, *, accepts_bad_type: bool) -> None:
    """Until the server serves by the schema that was installed last."""
    deadline = time.monotonic() + 30
    while (
        accepts_bad_type
        != clusters.create("probe", dry_run=True, type="xstatic", version="").is_accepted
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def nvidias_schema(clusters: Objects) -> Iterator[None]:
    """NVIDIA's v24.10 schema inside the block, ours applied over it after."""
    install(clusters, NVIDIA)
    try:
        wait_for(clusters, accepts_bad_type=True)
        yield
    finally:
        install(clusters, OURS)
        wait_for(clusters, accepts_bad_type=False)


def test_bad_type_stays_editable(clusters: Objects) -> None:
    """An object with a type that only NVIDIA's accepts can be edited; new ones are refused."""
    with nvidias_schema(clusters):
        assert clusters.create("old", type="my-kamaji-x", version="v1.30.2").is_accepted
    assert clusters.patch("old", metadata=LABEL).is_accepted
    assert clusters.patch_status("old", phase="NotReady", version="v1.30.2").is_accepted
    assert clusters.patch_spec("old", maxNodes=7).is_accepted
    assert clusters.put(clusters.get("old").body).is_accepted
    assert "spec.type" in clusters.create("new", type="my-kamaji-x").refusal
    assert "spec.type" in clusters.patch_spec("old", type="my-kamaji-y").refusal
    assert clusters.delete("old").is_accepted


def test_foreign_kamaji_kubeconfig_stays_editable(clusters: Objects) -> None:
    """A Kamaji cluster with another Secret name keeps it and can be edited, or corrected."""
    with nvidias_schema(clusters):
        created = clusters.create("old", type="kamaji", version="v1.30.2", kubeconfig="foreign")
        assert created.is_accepted
    assert clusters.patch("old", metadata=LABEL).is_accepted
    assert clusters.patch_status("old", phase="NotReady").is_accepted
    assert clusters.patch_spec("old", maxNodes=7).is_accepted
    assert "kubeconfig is immutable" in clusters.patch_spec("old", kubeconfig="other").refusal
    assert clusters.patch_spec("old", kubeconfig=None).is_accepted
    assert "leave kubeconfig out" in clusters.patch_spec("old", kubeconfig="foreign").refusal
    assert clusters.patch_spec("old", kubeconfig="old-admin-kubeconfig").is_accepted


def test_doubled_condition_stays_editable(clusters: Objects) -> None:
    """An object with a condition that stands twice can be edited, and then is held to one."""
    doubled = [raw_api.condition("Created"), raw_api.condition("Created", status="False")]
    with nvidias_schema(clusters):
        clusters.create("old", type="static", version="v1.30.2")
        assert clusters.patch_status("old", conditions=doubled).is_accepted
    assert clusters.patch("old", metadata=LABEL).is_accepted
    assert clusters.patch_status("old", phase="NotReady").is_accepted
    assert clusters.patch_status("old", conditions=doubled[:1]).is_accepted
    assert "status.conditions[1]" in clusters.patch_status("old", conditions=doubled).refusal


def test_nvidias_faults_are_in_the_fixture(clusters: Objects) -> None:
    """The schema we call NVIDIA's has the holes ours closes, or nothing is proved here."""
    with nvidias_schema(clusters):
        assert "spec.version: Required" in clusters.create("a", type="static").refusal
        clusters.create("a", type="static", version="", kubeconfig="first")
        assert "kubeconfig is immutable" in clusters.patch_spec("a", kubeconfig="other").refusal
        assert clusters.patch_spec("a", kubeconfig=None).is_accepted
        assert clusters.patch_spec("a", kubeconfig="other").is_accepted
        assert clusters.patch_spec("a", type="kamaji").is_accepted
