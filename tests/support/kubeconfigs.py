"""Kubeconfigs of tests: one cluster, one user, everything inline."""

from __future__ import annotations

import base64
from typing import Any

Kubeconfig = dict[str, Any]


def build(
    server: str,
    ca_pem: bytes,
    *,
    name: str = "tenant",
    cert_pem: bytes = b"",
    key_pem: bytes = b"",
    token: str = "",
) -> Kubeconfig:
    """A kubeconfig with a client certificate, or a token."""
    user: dict[str, str] = {}
    if cert_pem:
        user["client-certificate-data"] = base64.b64encode(cert_pem).decode()
    if key_pem:
        user["client-key-data"] = base64.b64encode(key_pem).decode()
    if token:
        user["token"] = token
    authority = base64.b64encode(ca_pem).decode()
    cluster = {"server": server, "certificate-authority-data": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": f"{name}-admin", "user": user}],
        "contexts": [
            {"name": f"{name}-admin@{name}", "context": {"cluster": name, "user": f"{name}-admin"}}
        ],
        "current-context": f"{name}-admin@{name}",
    }
