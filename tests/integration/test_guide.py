"""The guide's manifests in `examples/guide`, applied as the guide says: with kubectl."""

from __future__ import annotations

import base64
import os
import pathlib
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from dpucluster.localplane import binaries, progress
from tests.support.patience import PATIENCE
from tests.support.raw_api import RawApi

GUIDE = pathlib.Path(__file__).parents[2] / "examples" / "guide"
NAMESPACE = "dpf-operator-system"
FILES = sorted(path.name for path in GUIDE.glob("*.yaml"))

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(management: Any) -> Kubectl:
    program = binaries.ensure(["kubectl"], progress=progress.Lines(sys.stderr))["kubectl"]
    RawApi(management.kubeconfig).request(
        "POST",
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
    )

    def run(*arguments: str, stdin: str = "") -> str:
        return subprocess.run(
            [program, "--kubeconfig", management.kubeconfig, *arguments],
            input=stdin, text=True, check=True, capture_output=True, timeout=PATIENCE,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout  # fmt: skip

    return run


def read(name: str) -> str:
    """The file after `envsubst`, as the guide's shell does it."""
    kubeconfig = base64.b64encode(b"kind: Config\n").decode()
    values = {"TENANT_KUBE_CONFIG": kubeconfig, "KUBECONFIG_DATA": kubeconfig}
    return string.Template((GUIDE / name).read_text()).safe_substitute(values)


def projected(stored: Any, manifest: Any) -> Any:
    """`stored` without the fields that `manifest` does not have: those are the server's."""
    if not isinstance(manifest, dict):
        return stored
    return {name: projected(stored.get(name), manifest[name]) for name in manifest}


@pytest.fixture
def applied(kubectl: Kubectl) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Applies a file of the guide and returns the object; what was applied goes again."""
    texts = []

    def apply(name: str) -> dict[str, Any]:
        texts.append(read(name))
        stored = kubectl("apply", "--validate=strict", "-o", "yaml", "-f", "-", stdin=texts[-1])
        found: dict[str, Any] = yaml.safe_load(stored)
        return found

    yield apply
    for text in texts:
        kubectl("delete", "--wait=false", "-f", "-", stdin=text)


@pytest.mark.parametrize("name", FILES)
def test_manifest_is_accepted(
    applied: Callable[[str], dict[str, Any]], kubectl: Kubectl, name: str
) -> None:
    """Strict validation accepts the manifest, all of it is stored, applying again is idle."""
    manifest = yaml.safe_load(read(name))
    stored = applied(name)
    assert manifest == projected(stored, manifest)
    again = kubectl("apply", "-f", "-", stdin=read(name))
    assert again.rstrip().endswith("unchanged")


def test_the_guide_is_whole() -> None:
    """The folder has the guide's five manifests, and the Secret's name is the DPUCluster's."""
    numbers = [name.split("-")[0] for name in FILES]
    assert ["10", "20", "30", "40", "50"] == numbers
    secret, cluster = yaml.safe_load(read(FILES[1])), yaml.safe_load(read(FILES[2]))
    assert secret["metadata"]["name"] == cluster["spec"]["kubeconfig"]
    assert secret["metadata"]["namespace"] == cluster["metadata"]["namespace"]


def test_replace_of_the_users_kamaji_manifest(
    applied: Callable[[str], dict[str, Any]], kubectl: Kubectl
) -> None:
    """`kubectl replace` of the guide's Kamaji manifest works after the manager set kubeconfig."""
    name = "40-dpucluster-kamaji.yaml"
    applied(name)
    patch = '{"spec":{"kubeconfig":"dpu-cluster-1-admin-kubeconfig"}}'
    kubectl("-n", NAMESPACE, "patch", "dpucluster", "dpu-cluster-1", "--type=merge", "-p", patch)
    assert "replaced" in kubectl("replace", "-f", "-", stdin=read(name))
