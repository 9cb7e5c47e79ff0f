"""The API server by bare HTTP: what goes over the wire is exactly what the test wrote.

Not the product's client on purpose. Tests of the schemas say what the server does with a request,
whoever sends it, down to a JSON ``0`` that a typed client would leave out.
"""

from __future__ import annotations

import base64
import http.client
import json
import pathlib
import ssl
import tempfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from tests.support.patience import PATIENCE

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

DPUCLUSTERS = "provisioning.dpu.nvidia.com/v1alpha1", "dpuclusters", "DPUCluster"
DPFOPERATORCONFIGS = "operator.dpu.nvidia.com/v1alpha1", "dpfoperatorconfigs", "DPFOperatorConfig"


class Reply(NamedTuple):
    """What the server answered."""

    status: int
    body: dict[str, Any]

    @property
    def is_accepted(self) -> bool:
        """Whether the request was carried out."""
        return self.status in (200, 201)

    @property
    def refusal(self) -> str:
        """The server's words; fails when it did not refuse the content (422)."""
        assert 422 == self.status, self.body
        return str(self.body["message"])


class RawApi:
    """Requests to the server of a kubeconfig that the local control plane wrote."""

    def __init__(self, kubeconfig: pathlib.Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._host = urllib.parse.urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        if "client-certificate-data" in user:
            self._load(user)

    def _load(self, user: Mapping[str, str]) -> None:
        with tempfile.NamedTemporaryFile() as pem:
            for field in ("client-key-data", "client-certificate-data"):
                pem.write(base64.b64decode(user[field]))
            pem.flush()
            self._tls.load_cert_chain(pem.name)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | str | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Reply:
        """One request on a connection of its own; ``body`` as text goes out as it is."""
        connection = http.client.HTTPSConnection(self._host, context=self._tls, timeout=PATIENCE)
        headers = {**self._headers, "Content-Type": content_type, "Accept": accept}
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        try:
            connection.request(method, path, text, headers)
            response = connection.getresponse()
            return Reply(response.status, json.loads(response.read()))
        finally:
            connection.close()


@dataclass(frozen=True)
class Objects:
    """The objects of one kind in one namespace."""

    api: RawApi
    namespace: str
    kind: tuple[str, str, str]

    def path(self, name: str = "", suffix: str = "") -> str:
        """The path of the collection, or of one object or subresource."""
        api_version, plural, _ = self.kind
        parts = ["/apis", api_version, "namespaces", self.namespace, plural, name, suffix]
        return "/".join(part for part in parts if part)

    def manifest(self, name: str, spec: Any, **more: Any) -> dict[str, Any]:
        """An object of the kind."""
        api_version, _, kind = self.kind
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec, **more}

    def create(self, name: str, *, dry_run: bool = False, **spec: Any) -> Reply:
        """POST an object with that spec."""
        query = "?dryRun=All" if dry_run else ""
        return self.api.request("POST", self.path() + query, self.manifest(name, spec))

    def get(self, name: str) -> Reply:
        """GET it."""
        return self.api.request("GET", self.path(name))

    def delete(self, name: str) -> Reply:
        """DELETE it."""
        return self.api.request("DELETE", self.path(name))

    def put(self, obj: Mapping[str, Any]) -> Reply:
        """Replace it by ``obj``; without a resourceVersion whatever is there, as kubectl does."""
        path = self.path(obj["metadata"]["name"])
        if "resourceVersion" not in obj["metadata"]:
            version = self.api.request("GET", path).body["metadata"]["resourceVersion"]
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
        return self.api.request("PUT", path, obj)

    def patch(self, name: str, **fields: Any) -> Reply:
        """Merge-patch top-level fields of the object."""
        return self.api.request("PATCH", self.path(name), fields, content_type=MERGE_PATCH)

    def patch_spec(self, name: str, **spec: Any) -> Reply:
        """Merge-patch fields of its spec."""
        return self.patch(name, spec=spec)

    def patch_status(self, name: str, **status: Any) -> Reply:
        """Merge-patch fields of its status."""
        body = {"status": status}
        return self.api.request("PATCH", self.path(name, "status"), body, content_type=MERGE_PATCH)


def condition(type_: str = "Created", **fields: Any) -> dict[str, Any]:
    """A valid condition; ``fields`` replace its parts, None removes one."""
    whole = {
        "type": type_,
        "status": "True",
        "reason": "Created",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}
