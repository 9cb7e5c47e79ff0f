"""Kamaji's objects as a user writes them, and kubectl inside a stack."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from dpucluster.localplane.kamaji import stack
from tests.support.processes import eventually

VERSION = "v1.30.2"
KEEPALIVED = "registry.example/dpucluster/keepalived:2.2.7"
"""The process node makes it of this machine's own programs, a shell among them."""

CONFIG = """\
global_defs {{
  script_user root
  enable_script_security
}}
vrrp_script api {{
  script "/etc/keepalived/check.sh"
  interval 1
  timeout 2
  rise 1
  fall 2
}}
vrrp_instance tenant {{
  state BACKUP
  interface {interface}
  virtual_router_id {router}
  @node-1 priority 101
  @node-2 priority 102
  advert_int 1
  virtual_ipaddress {{
    {vip}/32
  }}
  track_script {{
    api
  }}
}}
"""
CHECK = '#!/bin/sh\nexec curl -ksS --max-time 1 -o /dev/null "https://$NODE_IP:$NODE_PORT/livez"\n'


class Namespace:
    """One namespace of a stack's management plane, by way of the real kubectl."""

    def __init__(self, kamaji: stack.KamajiStack) -> None:
        self.kamaji = kamaji
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", self.name)

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """What kubectl prints."""
        return self.kamaji.run(["kubectl", *arguments], text)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, in this namespace."""
        made = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "-n", self.name, "-f", "-", text=json.dumps(made))

    def get(self, kind: str, name: str) -> Any:
        """One object."""
        return json.loads(self.kubectl("get", kind, name, "-n", self.name, "-o", "json"))

    def pods(self, selector: str = "") -> list[Any]:
        """The pods that are there."""
        command = ("get", "pods", "-n", self.name, "-l", selector, "-o", "json")
        found: list[Any] = json.loads(self.kubectl(*command))["items"]
        return found

    def pod(self, name: str, **spec: Any) -> None:
        """Make a pod of one container; ``spec`` is the container's, but for the pod's own."""
        names = ("hostNetwork", "restartPolicy", "volumes")
        own: dict[str, Any] = {key: spec.pop(key) for key in names if key in spec}
        container: dict[str, Any] = {"name": "main", "image": KEEPALIVED, **spec}
        whole: dict[str, Any] = {
            "containers": [container],
            "terminationGracePeriodSeconds": 2,
            **own,
        }
        metadata = {"name": name}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole})

    def container(self, pod: str) -> Any:
        """The status of a pod's one container; empty while nothing is told."""
        return (self.get("pod", pod)["status"].get("containerStatuses") or [{}])[0]

    def said(self, pod: str) -> str:
        """What a pod's containers have said."""
        node = self.get("pod", pod)["spec"].get("nodeName", "node-1")
        logs = next(each.logs for each in self.kamaji.nodes if each.name == node)
        log = logs / f"{self.name}_{pod}.log"
        return log.read_text() if log.exists() else ""

    def tenant(self, name: str, vip: str, *, replicas: int = 1) -> int:
        """A Service, then a TenantControlPlane with its port and the VIP, as DPF does it."""
        port = {"name": "kube-apiserver", "port": 6443, "protocol": "TCP"}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"type": "NodePort", "ports": [port]},
            }
        )
        node_port = int(self.get("service", name)["spec"]["ports"][0]["nodePort"])
        self.apply(tenant_control_plane(name, vip, node_port, replicas))
        return node_port

    def wait_ready(self, tenant: str) -> None:
        """Wait until Kamaji says that a tenant is ready."""
        eventually(f"{tenant} is Ready", lambda: self.state(tenant) == "Ready", patience=90)

    def state(self, tenant: str) -> str:
        """What Kamaji says of a tenant."""
        status = self.get("tenantcontrolplane", tenant).get("status", {})
        version = status.get("kubernetesResources", {}).get("version", {})
        return str(version.get("status", ""))


def tenant_control_plane(name: str, vip: str, port: int, replicas: int) -> dict[str, Any]:
    """A TenantControlPlane behind a virtual IP."""
    return {
        "apiVersion": "kamaji.clastix.io/v1alpha1",
        "kind": "TenantControlPlane",
        "metadata": {"name": name},
        "spec": {
            "dataStore": "default",
            "controlPlane": {
                "deployment": {"replicas": replicas},
                "service": {"serviceType": "NodePort"},
            },
            "kubernetes": {"version": VERSION, "kubelet": {"cgroupfs": "systemd"}},
            "networkProfile": {"address": vip, "port": port},
            "addons": {},
        },
    }


def keepalived(name: str, vip: str, port: int, *, router: int = 51) -> Sequence[dict[str, Any]]:
    """A ConfigMap and a DaemonSet that hold ``vip`` while the tenant's port answers."""
    labels = {"app": name}
    config = CONFIG.format(interface="eth0", router=router, vip=vip)
    env = [
        {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for variable, path in (("NODE_NAME", "spec.nodeName"), ("NODE_IP", "status.hostIP"))
    ]
    files = {"keepalived.conf": 0o644, "check.sh": 0o755}
    container = {
        "name": "keepalived",
        "image": KEEPALIVED,
        "args": [
            *("-f", "/etc/keepalived/keepalived.conf", "--config-id=$(NODE_NAME)"),
            *("-n", "-l", "-D", "-P", "-p", "/run/keepalived.pid", "-r", "/run/vrrp.pid"),
        ],
        "command": ["keepalived"],
        "env": [*env, {"name": "NODE_PORT", "value": str(port)}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {
                "drop": ["ALL"],
                "add": ["NET_ADMIN", "NET_BROADCAST", "NET_RAW", "SETGID", "SETUID"],
            },
        },
        "readinessProbe": {
            "exec": {"command": ["/bin/sh", "-c", "test -s /run/vrrp.pid"]},
            "periodSeconds": 2,
        },
        "volumeMounts": [
            {"name": file.split(".")[0], "mountPath": f"/etc/keepalived/{file}", "subPath": file}
            for file in files
        ],
    }
    spec = {
        "hostNetwork": True,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [
            {
                "name": file.split(".")[0],
                "configMap": {
                    "name": name,
                    "defaultMode": mode,
                    "items": [{"key": file, "path": file}],
                },
            }
            for file, mode in files.items()
        ],
    }
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"keepalived.conf": config, "check.sh": CHECK},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
    )
