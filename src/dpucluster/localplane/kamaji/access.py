"""A tenant's kubeconfig as it is good for outside."""

from __future__ import annotations

import base64
import http
import json
from collections.abc import Mapping
from typing import Any

import yaml

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.localplane import endpoint


def secret_name(name: str) -> str:
    """The Secret in which Kamaji keeps the kubeconfigs of a tenant's administrator."""
    return f"{name}-admin-kubeconfig"


def fetch(api: endpoint.Endpoint, *, namespace: str, name: str, port: int) -> str:
    """The administrator's kubeconfig of a tenant, by way of ``port`` of the loopback interface.

    Raises:
        PlaneError: there is none (yet).
    """
    answer = api.get(f"/api/v1/namespaces/{namespace}/secrets/{secret_name(name)}")
    secret = json.loads(answer.body) if answer.status == http.HTTPStatus.OK else {}
    return kubeconfig(secret, namespace=namespace, name=name, port=port)


def kubeconfig(secret: Mapping[str, Any], *, namespace: str, name: str, port: int) -> str:
    """The administrator's kubeconfig, by way of ``port`` of the loopback interface.

    Certificates are checked as inside: the server is asked for under the name of its Service.

    Raises:
        PlaneError: the Secret holds none (yet).
    """
    data = secret.get("data") or {}
    keys = (contract.KEY_SUPER_ADMIN_CONF, contract.KEY_ADMIN_CONF)
    key = next((key for key in keys if key in data), None)
    if key is None:
        raise errors.PlaneError(
            f"the tenant {namespace}/{name} has no administrator's kubeconfig yet"
        )
    document = yaml.safe_load(base64.b64decode(data[key]))
    for cluster in document["clusters"]:
        cluster["cluster"] |= {
            "server": f"https://127.0.0.1:{port}",
            "tls-server-name": f"{name}.{namespace}.svc",
        }
    return yaml.safe_dump(document, sort_keys=False)
