"""What a stack applies to its management plane besides Kamaji's own manifests. Pure."""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping
from typing import Any

from dpucluster.localplane import manifests, pki
from dpucluster.localplane.kamaji import datastore

NAMESPACE = "kamaji-system"
ACCOUNT = "kamaji"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
GROUPS = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}")
DATASTORE = "default"
"""The name that DPF's Kamaji clusters ask for."""
AUTHORITY_SECRET = "etcd-certs"  # noqa: S105 - a name
CLIENT_SECRET = "root-client-certs"  # noqa: S105 - likewise
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def account() -> dict[str, Any]:
    """Kamaji's service account."""
    return _object("v1", "ServiceAccount", ACCOUNT, namespace=NAMESPACE)


def binding() -> dict[str, Any]:
    """What lets Kamaji do what its ClusterRole says."""
    return _object(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "kamaji",
        roleRef={
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": manifests.ROLE,
        },
        subjects=[{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    )


def secrets(credentials: datastore.Credentials) -> list[dict[str, Any]]:
    """The data store's credentials."""
    authority, root = credentials.authority, credentials.root
    return [
        _secret(AUTHORITY_SECRET, "ca", authority),
        _secret(CLIENT_SECRET, "tls", root),
    ]


def data_store(endpoint: str) -> dict[str, Any]:
    """The DataStore of all tenants."""
    return _object(
        "kamaji.clastix.io/v1alpha1",
        "DataStore",
        DATASTORE,
        spec={
            "driver": "etcd",
            "endpoints": [endpoint],
            "tlsConfig": {
                "certificateAuthority": _pair(AUTHORITY_SECRET, "ca"),
                "clientCertificate": _pair(CLIENT_SECRET, "tls"),
            },
        },
    )


def node(name: str) -> dict[str, Any]:
    """A Node; its role is a label that no node may give itself."""
    machine = platform.machine()
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        CONTROL_PLANE: "",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def _pair(secret: str, stem: str) -> dict[str, Any]:
    return {
        part: {
            "secretReference": {
                "name": secret,
                "namespace": NAMESPACE,
                "keyPath": f"{stem}.{extension}",
            }
        }
        for part, extension in (("certificate", "crt"), ("privateKey", "key"))
    }


def _secret(name: str, stem: str, pair: pki.KeyPair) -> dict[str, Any]:
    data: Mapping[str, bytes] = {f"{stem}.crt": pair.certificate, f"{stem}.key": pair.key}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return _object("v1", "Secret", name, namespace=NAMESPACE, data=encoded)


def _object(
    api_version: str, kind: str, name: str, *, namespace: str = "", **fields: Any
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
