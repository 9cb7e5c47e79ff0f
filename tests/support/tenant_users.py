"""Users of a tenant whose credentials can be taken back for real, in the two ways there are.

Each has two generations of credentials, as before and after a rotation. What is taken back, the
server itself refuses from then on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from dpucluster.localplane import kubeconfig
from dpucluster.localplane.plane import ControlPlane
from tests.support.kubeapi import KubeApi, Refused, path_of

NAMESPACE = "default"


class Issuer(Protocol):
    """Gives kubeconfigs to users of one tenant, and takes them back."""

    @property
    def refusal(self) -> str:
        """The reason the product has for what was taken back."""
        ...

    def issue(self, name: str) -> str:
        """A kubeconfig that makes its holder, a new user, cluster-admin."""
        ...

    def revoke(self, name: str) -> None:
        """From now on that user's kubeconfig is refused."""
        ...

    def user(self, name: str) -> str:
        """What the server's audit log calls that user."""
        ...


@dataclass(frozen=True)
class Certificates:
    """Client certificates; they cannot be taken back, but their rights can: HTTP 403."""

    tenant: ControlPlane
    api: KubeApi
    refusal: str = "Forbidden"

    def issue(self, name: str) -> str:
        """A user of that name, bound to cluster-admin."""
        subject = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        _bind(self.api, name, subject)
        return self.tenant.client_kubeconfig(user=name, groups=())

    def revoke(self, name: str) -> None:
        """Remove the binding."""
        assert self.api.delete("clusterrolebindings", name)

    def user(self, name: str) -> str:
        """The common name."""
        return name


@dataclass(frozen=True)
class ServiceAccounts:
    """Tokens of service accounts, which end with the account: HTTP 401.

    The server believes a token it has just seen for ten seconds more.
    """

    tenant: ControlPlane
    api: KubeApi
    refusal: str = "Unauthorized"

    def issue(self, name: str) -> str:
        """A service account of that name, bound to cluster-admin, and a token of it."""
        account = {"metadata": {"name": name, "namespace": NAMESPACE}}
        self.api.create("serviceaccounts", account)
        _bind(self.api, name, {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE})
        path = path_of("serviceaccounts", NAMESPACE, name, "token")
        status, text = self.api.request("POST", path, {"spec": {"expirationSeconds": 7200}})
        if status != 201:
            raise Refused(f"token of {name}", status, text)
        return kubeconfig.render_token(
            cluster=self.tenant.name,
            server=self.tenant.server,
            authority=self.tenant.authority.certificate,
            user=name,
            token=json.loads(text)["status"]["token"],
        )

    def revoke(self, name: str) -> None:
        """Delete the account."""
        assert self.api.delete("serviceaccounts", name, NAMESPACE)

    def user(self, name: str) -> str:
        """The account's full name."""
        return f"system:serviceaccount:{NAMESPACE}:{name}"


def _bind(api: KubeApi, name: str, subject: dict[str, Any]) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
    api.create("clusterrolebindings", binding)
