"""The manifests that the demo applies: the guide's own, and its Secret in broken forms. Pure."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import ssl
from collections.abc import Iterable, Mapping

import yaml

from dpucluster.api import contract
from dpucluster.api.meta import Key

CONFIG = "10-dpfoperatorconfig.yaml"
SECRET = "20-secret.yaml"  # noqa: S105 - the name of a file
CLUSTER = "30-dpucluster-static.yaml"
KAMAJI_CLUSTER = "40-dpucluster-kamaji.yaml"
PLACEHOLDER = "${TENANT_KUBE_CONFIG}"
"""What the guide's shell puts the kubeconfig in place of."""

DPUCLUSTER = Key(contract.OPERATOR_NAMESPACE, "dpu-cluster-1")
"""The DPUCluster of ``CLUSTER``."""
SECRET_NAME = "dpu-cluster-1-admin-kubeconfig"  # noqa: S105 - a name
"""The Secret of ``SECRET``, which ``CLUSTER`` names."""


def guide(name: str) -> str:
    """A manifest as the guide prints it."""
    folder = importlib.resources.files("dpucluster") / "_data" / "guide"
    return (folder / name).read_text(encoding="utf-8")


def secret(kubeconfig: str) -> str:
    """The guide's Secret with ``kubeconfig`` in it."""
    encoded = base64.b64encode(kubeconfig.encode()).decode()
    return guide(SECRET).replace(PLACEHOLDER, encoded)


def kamaji_cluster(interface: str, vip: str) -> str:
    """The guide's Kamaji cluster with a real interface and address in place of its own words."""
    placed = {
        "interface: interface_one": f"interface: {interface}",
        "vip: dpucluster_vip": f"vip: {vip}",
    }
    text = guide(KAMAJI_CLUSTER)
    for words, real in placed.items():
        text = text.replace(words, real)
    return text


def without_key(manifest: str) -> str:
    """The Secret ``manifest`` with the kubeconfig under a key that nobody looks for."""
    return manifest.replace(f"{contract.KEY_ADMIN_CONF}:", "config:")


def with_program(kubeconfig: str) -> str:
    """``kubeconfig`` with a program that would get the credentials, instead of credentials."""
    document = yaml.safe_load(kubeconfig)
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "get-credentials",
        "interactiveMode": "Never",
    }
    for user in document["users"]:
        user["user"] = {"exec": program}
    return yaml.safe_dump(document, sort_keys=False)


def credential(kubeconfig: str) -> str:
    """How an API server's audit log calls the client certificate of ``kubeconfig``."""
    (user,) = yaml.safe_load(kubeconfig)["users"]
    pem = base64.b64decode(user["user"]["client-certificate-data"]).decode()
    return f"X509SHA256={hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()}"


def times_probed(audit_log: Iterable[str], credential_id: str) -> int:
    """How often the controllers have probed with that certificate, by the server's audit log."""
    return sum(
        _is_probe(json.loads(line))
        for line in audit_log
        # The last line may still be being written.
        if credential_id in line and line.endswith("\n")
    )


def _is_probe(event: Mapping[str, str]) -> bool:
    return event["requestURI"] == "/readyz" and event["userAgent"].startswith("dpucluster/")
