"""Who runs our controllers on the rack, makes DPUClusters, and looks what becomes of them."""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dpucluster.localplane import files
from tests.e2e.outage import Probe
from tests.e2e.rack import Rack
from tests.support import audit, cluster
from tests.support.kubeapi import KubeApi

T = TypeVar("T")
Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "examples/guide/40-dpucluster-kamaji.yaml"
RBAC = ROOT / "examples/rbac.yaml"
ACCOUNT = f"system:serviceaccount:{cluster.NAMESPACE}:dpucluster"
ACCOUNT_GROUPS = ("system:serviceaccounts", f"system:serviceaccounts:{cluster.NAMESPACE}")
FLAGS = ("--kamaji-addons=", "--probe-interval=5s")
"""Tenants have no add-ons, whose images are not made here; health is looked at often."""
STOP_GRACE = 12.0
LABEL_NAME = "app.kubernetes.io/name"
LABEL_TENANT = "kamaji.clastix.io/name"


@dataclass(frozen=True)
class User:
    """The user's hands and eyes; ``api`` is the management API."""

    rack: Rack
    api: KubeApi
    figures: list[str]

    @property
    def log(self) -> Path:
        """What the controllers say."""
        return self.rack.directory / "controllers.log"

    @contextlib.contextmanager
    def controllers(self) -> Iterator[None]:
        """``dpucluster run`` with the rights of the example, and no others."""
        self.rack.plane.run(["kubectl", "apply", "--filename", str(RBAC)])
        management = self.rack.plane.management
        text = management.client_kubeconfig(
            user=ACCOUNT, groups=ACCOUNT_GROUPS, server=management.inside_server
        )
        kubeconfig = files.write(self.rack.directory / "controllers.conf", text)
        program = self.rack.controllers(
            "lifecycle", "kamaji", *FLAGS, log=self.log, kubeconfig=kubeconfig
        )
        program.start()
        try:
            yield
            program.check()
        finally:
            program.stop(grace=STOP_GRACE)

    def report(self, what: str, found: object) -> None:
        """Have a figure told at the end of the run."""
        self.figures.append(f"{what}: {found}")

    # What the user does

    def guide(self, name: str, number: int, **spec: Any) -> Object:
        """The guide's manifest with a real interface, and the virtual IP ``number``."""
        manifest: Object = yaml.safe_load(GUIDE.read_text(encoding="utf-8"))
        manifest["metadata"]["name"] = name
        manifest["spec"] |= spec
        manifest["spec"]["clusterEndpoint"]["keepalived"] |= {
            "interface": self.rack.plane.interface,
            "vip": self.rack.plane.vip(number),
        }
        return manifest

    def kubectl(self, *arguments: str, kubeconfig: Path | None = None) -> str:
        """What kubectl prints, inside; by default for the management cluster."""
        env = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
        return self.rack.plane.run(["kubectl", *arguments], **env)

    def tenant_kubeconfig(self, name: str, key: str = "admin.conf") -> Path:
        """A kubeconfig out of the cluster's Secret, unchanged, in a file."""
        secret = self.secret(name)
        text = base64.b64decode(secret["data"][key])
        return files.write(self.rack.directory / f"{name}-{key}", text)

    def probe(self, name: str) -> Probe:
        """Asks the tenant's API through its virtual IP for the length of a ``with`` block."""
        server = yaml.safe_load(self.tenant_kubeconfig(name).read_text())["clusters"][0]["cluster"]
        address, _, port = server["server"].removeprefix("https://").rpartition(":")
        authority = base64.b64decode(server["certificate-authority-data"])
        path = files.write(self.rack.directory / f"{name}-ca.crt", authority)
        return Probe(self.rack, address, int(port), path)

    # What the user sees

    def get(self, kind: str, name: str) -> Object:
        """An object in the namespace of the guide; empty when there is none."""
        said = self.kubectl(
            *("get", kind, name, f"--namespace={cluster.NAMESPACE}"),
            *("--output=json", "--ignore-not-found"),
        )
        found: Object = json.loads(said) if said else {}
        return found

    def select(self, kinds: str, selector: str) -> list[Object]:
        """Objects in the namespace of the guide."""
        said = self.kubectl(
            *("get", kinds, f"--namespace={cluster.NAMESPACE}"),
            *(f"--selector={selector}", "--output=json"),
        )
        found: list[Object] = json.loads(said)["items"]
        return found

    def running_version(self, name: str) -> str:
        """The version that Kamaji has a cluster at, once it is done with it."""
        found = self.get("tenantcontrolplanes", name)
        version = found["status"].get("kubernetesResources", {}).get("version", {})
        return str(version.get("version", "")) if version.get("status") == "Ready" else ""

    def secret(self, name: str) -> Object:
        """The admin kubeconfig of a cluster."""
        found = self.api.get("secrets", cluster.secret_name(name), cluster.NAMESPACE)
        assert found is not None, f"{name} has no Secret"
        return found

    def delete_pod(self, selector: str, node: str) -> None:
        """Delete the pod of these labels that runs on ``node``, without waiting."""
        found = [p for p in self.select("pods", selector) if p["spec"]["nodeName"] == node]
        assert 1 == len(found), f"pods on {node}: {[p['metadata']['name'] for p in found]}"
        self.kubectl(
            *("delete", "pod", found[0]["metadata"]["name"]),
            *(f"--namespace={cluster.NAMESPACE}", "--wait=false"),
        )

    def wait_for_pods(self, selector: str, count: int, timeout: float = 150.0) -> None:
        """Return when there are exactly ``count`` pods of these labels, all ready."""

        def are_well(found: list[Object]) -> bool:
            return len(found) == count and all(map(cluster.is_condition("Ready", "True"), found))

        wait(lambda: self.select("pods", selector), are_well, timeout, selector)

    def keepalived_logs(self, name: str) -> list[str]:
        """What each keepalived of a cluster has said."""
        found = self.rack.directory.glob(f"node-*/logs/*_{name}-keepalived-*/keepalived/*.log")
        return [path.read_text(encoding="utf-8") for path in found]

    def settled_holder(self, address: str) -> str:
        """The node that has the virtual IP, once everything is up and the first has taken it.

        That takes half a minute after it was up again; until then the address may move.
        """
        for selector in (f"{LABEL_NAME}=keepalived", LABEL_TENANT):
            self.wait_for_pods(selector, len(self.rack.nodes))
        first = self.rack.nodes[0].name
        wait(lambda: self.rack.holders(address), lambda h: h == [first], 60.0, address)
        return first

    def writes(self) -> dict[str, int]:
        """How often our controllers have written what, Events and Leases apart."""
        path = self.rack.plane.management.audit_log
        assert path is not None, "the rack asks for one"
        log = audit.AuditLog(path)
        made = [e for e in log.writes() if e.user == ACCOUNT]
        kinds = [f"{e.verb} {e.target.partition(' ')[0]}" for e in made]
        return collections.Counter(k for k in kinds if not k.endswith(("events", "leases")))

    def holder(self, address: str, timeout: float = 30.0) -> str:
        """The one node that has the virtual IP, as soon as there is exactly one."""
        found = wait(lambda: self.rack.holders(address), lambda h: len(h) == 1, timeout, address)
        return found[0]


def wait(read: Callable[[], T], holds: Callable[[T], bool], timeout: float, what: str) -> T:
    """What ``read`` returns as soon as ``holds`` accepts it."""
    return cluster.wait_until(read, holds, timeout=timeout, what=what)


def seconds_since(begin: float) -> str:
    """For a report."""
    return f"{time.monotonic() - begin:.1f} s"
