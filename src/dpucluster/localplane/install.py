"""What a management plane has beyond plain Kubernetes: our CRDs and the operator's namespace."""

from __future__ import annotations

import importlib.resources
import json
import time
from collections.abc import Sequence
from typing import Any

import yaml

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.localplane import endpoint

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ESTABLISHED_TIMEOUT = 30.0
POLL = 0.05
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""The document that clients read first, since Kubernetes 1.30."""


def crds() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions that this package carries."""
    folder = importlib.resources.files("dpucluster") / "_data" / "crds"
    texts = [
        entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    ]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def install(api: endpoint.Endpoint) -> None:
    """Apply the CRDs and the namespace, and wait until the kinds are served.

    Raises:
        PlaneError: the server refuses one, or does not serve it in time.
    """
    apply_namespace(api, contract.OPERATOR_NAMESPACE)
    install_crds(api, crds())


def install_crds(api: endpoint.Endpoint, manifests: Sequence[dict[str, Any]]) -> None:
    """Apply CRDs, and wait until the kinds are served.

    Raises:
        PlaneError: the server refuses one, or does not serve it in time.
    """
    for manifest in manifests:
        api.apply(f"{CRDS}/{manifest['metadata']['name']}", manifest)
    deadline = time.monotonic() + ESTABLISHED_TIMEOUT
    for manifest in manifests:
        path = served_path(manifest)
        while not (api.is_there(f"{path}?limit=1") and _is_told(api, manifest)):
            if time.monotonic() > deadline:
                raise errors.PlaneError(f"{path} is not served after {ESTABLISHED_TIMEOUT:.0f} s")
            time.sleep(POLL)


def _is_told(api: endpoint.Endpoint, manifest: dict[str, Any]) -> bool:
    """Whether discovery names the kind, which it does a little later than it is served.

    Clients that ask what there is (kubectl, Kamaji) do not find it before.
    """
    try:
        found = json.loads(api.get("/apis", accept=DISCOVERY).body)
    except (errors.PlaneError, ValueError):
        return False
    spec = manifest["spec"]
    return any(
        resource["resource"] == spec["names"]["plural"]
        for group in found.get("items", [])
        if group["metadata"]["name"] == spec["group"]
        for version in group["versions"]
        for resource in version.get("resources", [])
    )


def apply_namespace(api: endpoint.Endpoint, name: str) -> None:
    """Make sure that a namespace exists."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api.apply(f"/api/v1/namespaces/{name}", manifest)


def served_path(manifest: dict[str, Any]) -> str:
    """Where the API server lists the objects of a CRD."""
    spec = manifest["spec"]
    version = next(each["name"] for each in spec["versions"] if each["served"])
    return f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
