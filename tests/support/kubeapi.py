"""A synchronous look at an API server that shares no code with the product.

What observes must not be what is tested. One connection for each call would cost a TLS
handshake, so idle ones are kept, and made again when the server has closed them. Threads may
share a ``KubeApi``.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import pathlib
import ssl
import urllib.parse
from collections.abc import Mapping
from typing import Any

import yaml

from tests.support import certificates
from tests.support.patience import PATIENCE

Object = dict[str, Any]

TIMEOUT = PATIENCE
JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"

PATHS = {
    "namespaces": "/api/v1/namespaces",
    "nodes": "/api/v1/nodes",
    "secrets": "/api/v1/namespaces/{}/secrets",
    "serviceaccounts": "/api/v1/namespaces/{}/serviceaccounts",
    "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "services": "/api/v1/namespaces/{}/services",
    "pods": "/api/v1/namespaces/{}/pods",
    "resourcequotas": "/api/v1/namespaces/{}/resourcequotas",
    "daemonsets": "/apis/apps/v1/namespaces/{}/daemonsets",
    "tenantcontrolplanes": "/apis/kamaji.clastix.io/v1alpha1/namespaces/{}/tenantcontrolplanes",
    "datastores": "/apis/kamaji.clastix.io/v1alpha1/datastores",
    "admissionpolicies": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "admissionbindings": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "events": "/apis/events.k8s.io/v1/namespaces/{}/events",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "dpuclusters": "/apis/provisioning.dpu.nvidia.com/v1alpha1/namespaces/{}/dpuclusters",
    "dpus": "/apis/provisioning.dpu.nvidia.com/v1alpha1/namespaces/{}/dpus",
    "dpfoperatorconfigs": "/apis/operator.dpu.nvidia.com/v1alpha1/namespaces/{}/dpfoperatorconfigs",
    "crds": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}


class Refused(AssertionError):
    """The server answered with something else than success."""

    def __init__(self, what: str, status: int, body: str) -> None:
        super().__init__(f"{what}: {status}: {body[:500]}")
        self.status = status
        self.body = body


class KubeApi:
    """One API server seen through one kubeconfig (inline data, one cluster, one user)."""

    def __init__(self, kubeconfig: pathlib.Path | str) -> None:
        content = yaml.safe_load(pathlib.Path(kubeconfig).read_text())
        cluster = content["clusters"][0]["cluster"]
        user = content["users"][0]["user"]
        self.server: str = cluster["server"]
        self._address = urllib.parse.urlsplit(self.server)
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=ca)
        self._token: str = user.get("token", "")
        if "client-certificate-data" in user:
            cert = base64.b64decode(user["client-certificate-data"])
            certificates.load_pair(self._tls, cert, base64.b64decode(user["client-key-data"]))
        self._idle: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = JSON
    ) -> tuple[int, str]:
        """Status and text of the answer, whatever it is."""
        try:
            return self._request(method, path, body, content_type)
        except (http.client.HTTPException, OSError):
            self.close()  # kept alive too long, or the server was restarted: once more
            return self._request(method, path, body, content_type)

    def get(self, plural: str, name: str, namespace: str = "") -> Object | None:
        """The object, or None when there is none."""
        status, text = self.request("GET", path_of(plural, namespace, name))
        return None if status == 404 else self._object("GET", plural, name, status, text)

    def list(self, plural: str, namespace: str = "", query: str = "") -> list[Object]:
        """All objects of a namespace."""
        path = path_of(plural, namespace) + (f"?{query}" if query else "")
        found = self._object("LIST", plural, namespace, *self.request("GET", path))
        return list(found["items"])

    def create(self, plural: str, obj: Mapping[str, Any]) -> Object:
        """Create ``obj`` in the namespace it names."""
        meta = obj["metadata"]
        path = path_of(plural, meta.get("namespace", ""))
        return self._object("POST", plural, meta["name"], *self.request("POST", path, obj))

    def apply(self, plural: str, obj: Mapping[str, Any], subresource: str = "") -> Object:
        """Server-side apply as the field manager ``test``, with force."""
        meta = obj["metadata"]
        path = path_of(plural, meta.get("namespace", ""), meta["name"], subresource)
        answer = self.request("PATCH", path + "?fieldManager=test&force=true", obj, APPLY)
        return self._object("APPLY", plural, meta["name"], *answer)

    def patch(
        self,
        plural: str,
        name: str,
        namespace: str,
        patch: Mapping[str, Any],
        subresource: str = "",
    ) -> Object:
        """JSON merge patch."""
        path = path_of(plural, namespace, name, subresource)
        return self._object("PATCH", plural, name, *self.request("PATCH", path, patch, MERGE))

    def delete(self, plural: str, name: str, namespace: str = "") -> bool:
        """Ask for deletion; whether the object was there."""
        status, text = self.request("DELETE", path_of(plural, namespace, name))
        if status == 404:
            return False
        self._object("DELETE", plural, name, status, text)
        return True

    def _object(self, verb: str, plural: str, name: str, status: int, text: str) -> Object:
        if status >= 300:
            raise Refused(f"{verb} {plural} {name}", status, text)
        found: Object = json.loads(text)
        return found

    def _request(self, method: str, path: str, body: Any, content_type: str) -> tuple[int, str]:
        headers = {"Content-Type": content_type, "Accept": JSON, "User-Agent": "test-observer"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, body=data, headers=headers)
            with connection.getresponse() as response:
                answer = response.status, response.read().decode()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def _connection(self) -> http.client.HTTPSConnection:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return http.client.HTTPSConnection(
            self._address.hostname or "", self._address.port, context=self._tls, timeout=TIMEOUT
        )


def path_of(plural: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The path of a collection, an object, or a part of it (all namespaces: ``namespace=""``)."""
    path = PATHS[plural]
    if "{}" in path:
        path = path.format(namespace) if namespace else path.replace("/namespaces/{}", "")
    return "/".join(part for part in (path, name, subresource) if part)
