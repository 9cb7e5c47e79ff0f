"""Plays Kamaji's part and that of the kubelets, on a real API server, where neither runs.

It does what the real Kamaji does to the objects our manager reads, in its order: it takes the
Service over, writes the admin Secret in two steps, and says how the control plane is. How the
manager gets on with the real one is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dpucluster.localplane import install as localplane_install
from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster
from tests.support.kubeapi import KubeApi, Refused

Object = dict[str, Any]

ROLE = "node-role.kubernetes.io/control-plane"
NODES = ("n1", "n2", "n3")
FINALIZER = "finalizer.kamaji.clastix.io"
OURS = "labelSelector=dpu.nvidia.com/cluster"
PAUSE = 0.05
PASSING = frozenset({404, 409, 429, 503})
"""What was there a moment ago is gone or has changed, or the kind is just being (un)installed."""


def install(server: ControlPlane, crds: Sequence[Object]) -> None:
    """Kamaji's kinds, nodes and a DataStore."""
    with contextlib.closing(KubeApi(server.kubeconfig)) as api:
        for number, name in enumerate(NODES, 1):
            add_node(api, name, f"10.8.0.{number}")
        localplane_install.install_crds(server.endpoint, crds)
        add_data_store(api)


def add_node(api: KubeApi, name: str, address: str, **labels: str) -> None:
    """A control-plane node that nobody runs."""
    metadata = {"name": name, "labels": {ROLE: "", "kubernetes.io/hostname": name, **labels}}
    api.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    addresses = [{"type": "InternalIP", "address": address}]
    api.patch("nodes", name, "", {"status": {"addresses": addresses}}, "status")


def add_data_store(api: KubeApi, name: str = "default") -> None:
    """A DataStore to which nobody connects."""
    reference = {"secretReference": {"name": "etcd", "namespace": "default", "keyPath": "x"}}
    tls = {
        "certificateAuthority": {"certificate": reference, "privateKey": reference},
        "clientCertificate": {"certificate": reference, "privateKey": reference},
    }
    spec = {"driver": "etcd", "endpoints": ["127.0.0.1:2379"], "tlsConfig": tls}
    api.create(
        "datastores",
        {
            "apiVersion": "kamaji.clastix.io/v1alpha1",
            "kind": "DataStore",
            "metadata": {"name": name},
            "spec": spec,
        },
    )


class KamajiPart:
    """Kamaji in one namespace; ``kubeconfig`` leads to the API server that all tenants share."""

    def __init__(self, api: KubeApi, namespace: str, kubeconfig: str) -> None:
        self.api = api
        self.namespace = namespace
        self._kubeconfig = kubeconfig.encode()

    # One step at a time

    def control_plane(self, name: str, timeout: float = 15.0) -> Object:
        """The TenantControlPlane as soon as it is there."""
        return cluster.wait_for(
            self.api,
            name,
            lambda obj: obj is not None,
            namespace=self.namespace,
            plural="tenantcontrolplanes",
            timeout=timeout,
        )

    def bring_up(self, name: str) -> None:
        """Everything, until pods and control plane are up."""
        self._complete(self.control_plane(name))

    def _complete(self, made: Object) -> None:
        name = made["metadata"]["name"]
        self.take_service(made)
        self.write_secret(made, "admin.conf")
        self.write_secret(made, "admin.conf", "super-admin.conf")
        if any(d["metadata"]["name"] == f"{name}-keepalived" for d in self._daemon_sets()):
            self.run_pods(name)
        self.say(name, "Ready", made["spec"]["kubernetes"]["version"])

    def _daemon_sets(self) -> list[Object]:
        return self.api.list("daemonsets", self.namespace, OURS)

    def take_service(self, made: Object) -> None:
        """As Kamaji does: selector and ports become its own, it becomes the controller."""
        name, port = made["metadata"]["name"], made["spec"]["networkProfile"]["port"]
        found = self.api.get("services", name, self.namespace) or {"metadata": {}}
        owners = found["metadata"].get("ownerReferences", [])
        others = [o for o in owners if not o.get("controller")]
        ports = [{"name": "kube-apiserver", "protocol": "TCP", "port": port, "targetPort": port}]
        if made["spec"]["controlPlane"]["service"]["serviceType"] == "NodePort":
            ports[0]["nodePort"] = port
        patch = {
            "metadata": {"ownerReferences": [*others, controller(made)]},
            "spec": {"selector": {"kamaji.clastix.io/name": name}, "ports": ports},
        }
        self.api.patch("services", name, self.namespace, patch)

    def write_secret(self, made: Object, *keys: str) -> None:
        """The admin Secret with exactly these keys."""
        name = cluster.secret_name(made["metadata"]["name"])
        secret = cluster.raw_secret(name, self.namespace, dict.fromkeys(keys, self._kubeconfig))
        secret["metadata"]["ownerReferences"] = [controller(made)]
        if self.api.get("secrets", name, self.namespace) is None:
            self.api.create("secrets", secret)
        else:
            self.api.patch("secrets", name, self.namespace, {"data": secret["data"]})

    def say(self, name: str, state: str, version: str = "") -> None:
        """How the control plane is; ``version``: the one that is up."""
        told = {"status": state} | ({"version": version} if version else {})
        status = {"kubernetesResources": {"version": told}}
        self.api.patch("tenantcontrolplanes", name, self.namespace, {"status": status}, "status")

    def run_pods(self, name: str, *, ready: int | None = None) -> None:
        """The keepalived pods of that cluster are up; ``ready``: so many of three."""
        desired = len(NODES)
        found = self.api.get("daemonsets", f"{name}-keepalived", self.namespace)
        generation = found["metadata"]["generation"] if found is not None else 0
        status = {
            "desiredNumberScheduled": desired,
            "currentNumberScheduled": desired,
            "numberMisscheduled": 0,
            "numberReady": desired if ready is None else ready,
            "updatedNumberScheduled": desired,
            "observedGeneration": generation,
        }
        patch = {"status": status}
        self.api.patch("daemonsets", f"{name}-keepalived", self.namespace, patch, "status")

    # All by itself

    @contextlib.contextmanager
    def at_work(self, concerned: Callable[[str], bool] = lambda _: True) -> Iterator[None]:
        """Brings up, in a thread, every control plane whose name is ``concerned``, and its pods."""
        ended = threading.Event()
        failures: list[BaseException] = []
        work = threading.Thread(target=self._work, args=(ended, concerned, failures))
        work.start()
        try:
            yield
        finally:
            ended.set()
            work.join()
        assert not failures, failures

    def _work(
        self,
        ended: threading.Event,
        concerned: Callable[[str], bool],
        failures: list[BaseException],
    ) -> None:
        while not ended.wait(PAUSE):
            try:
                self._step(concerned)
            except Refused as refused:
                if refused.status not in PASSING:
                    failures.append(refused)
                    return
            except BaseException as error:  # noqa: BLE001 - told at the end of the test
                failures.append(error)
                return

    def _step(self, concerned: Callable[[str], bool]) -> None:
        for made in self.api.list("tenantcontrolplanes", self.namespace, OURS):
            name = made["metadata"]["name"]
            if concerned(name) and not made["metadata"].get("deletionTimestamp") and behind(made):
                self._complete(made)
        for found in self._daemon_sets():
            name = found["metadata"]["name"].removesuffix("-keepalived")
            status, generation = found["status"], found["metadata"]["generation"]
            is_seen = status.get("observedGeneration", 0) >= generation
            if concerned(name) and not (is_seen and status.get("numberReady")):
                self.run_pods(name)


def behind(made: Object) -> bool:
    """Whether Kamaji has something to do."""
    told = made.get("status", {}).get("kubernetesResources", {}).get("version", {})
    return bool(told.get("version") != made["spec"]["kubernetes"]["version"])


def controller(made: Object) -> Object:
    """The owner reference by which something belongs to a control plane."""
    return {
        "apiVersion": made["apiVersion"],
        "kind": made["kind"],
        "name": made["metadata"]["name"],
        "uid": made["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
