"""Kubeconfigs of tests: one cluster, one user, everything inline."""

from __future__ import annotations

import base64
import copy
from typing import Any

import yaml

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


def text(config: Kubeconfig) -> bytes:
    """The kubeconfig as YAML."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()


def user(config: Kubeconfig) -> dict[str, Any]:
    """The only user's fields."""
    found: dict[str, Any] = config["users"][0]["user"]
    return found


def cluster(config: Kubeconfig) -> dict[str, Any]:
    """The only cluster's fields."""
    found: dict[str, Any] = config["clusters"][0]["cluster"]
    return found


def context(config: Kubeconfig) -> dict[str, Any]:
    """The only context's fields."""
    found: dict[str, Any] = config["contexts"][0]["context"]
    return found


def twice(config: Kubeconfig, field: str) -> None:
    """Give a list a second entry."""
    config[field].append({**copy.deepcopy(config[field][0]), "name": "second"})


def login(config: Kubeconfig, **fields: Any) -> None:
    """Make these the only fields of the user."""
    found = user(config)
    found.clear()
    found.update(fields)


def hold(config: Kubeconfig, cert_pem: bytes, key_pem: bytes) -> None:
    """Let the user hold this certificate and key."""
    login(
        config,
        **{
            "client-certificate-data": base64.b64encode(cert_pem).decode(),
            "client-key-data": base64.b64encode(key_pem).decode(),
        },
    )


def broken(pem: bytes) -> bytes:
    """The first line, something that is no certificate, and the last line."""
    lines = pem.splitlines()
    return b"\n".join([lines[0], base64.b64encode(b"no certificate"), lines[-1], b""])
