"""The kubeconfig of a local plane: client certificate, inline, one cluster, one user."""

from __future__ import annotations

import base64

import yaml

from dpucluster.localplane import pki


def render(*, cluster: str, server: str, authority: bytes, user: str, pair: pki.KeyPair) -> str:
    """The kubeconfig as YAML; ``cluster`` names the cluster entry and the context."""
    return _render(
        cluster,
        server,
        authority,
        user,
        {
            "client-certificate-data": _inline(pair.certificate),
            "client-key-data": _inline(pair.key),
        },
    )


def render_token(*, cluster: str, server: str, authority: bytes, user: str, token: str) -> str:
    """The same with a bearer token instead of a certificate."""
    return _render(cluster, server, authority, user, {"token": token})


def _render(
    cluster: str, server: str, authority: bytes, user: str, credentials: dict[str, str]
) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster,
                "cluster": {"server": server, "certificate-authority-data": _inline(authority)},
            }
        ],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
    return yaml.safe_dump(document, sort_keys=False)


def _inline(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
