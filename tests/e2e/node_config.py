"""What the daemons of a container node are told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpucluster.localplane.node import network
from tests.e2e import images

SOCKET = "/run/containerd/containerd.sock"
CLUSTER_PODS = "10.89.0.0/16"
HEARTBEAT = 2
"""Seconds; the controller manager of the stack has little patience."""


@dataclass(frozen=True)
class Place:
    """Where a node keeps its files, and how it is called.

    Attributes:
        plan: Names and addresses.
        directory: All files.
        cgroup: What its pods are in.
        snapshotter: How containerd makes root file systems.
    """

    plan: network.Plan
    directory: Path
    cgroup: str
    snapshotter: str


def containerd(place: Place, *, runc: Path, plugins: Path) -> str:
    """The configuration of containerd 1.6."""
    directory = place.directory
    return f"""\
version = 2
root = "{directory}/containerd"
state = "/run/containerd/state"

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.k8s.io/{images.PAUSE}"
disable_apparmor = true
netns_mounts_under_state_dir = true
# a sandbox's -998 needs a capability that root in a container does not have
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{place.snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{directory}/cni"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{directory}/registries"
"""


def registries(url: str) -> str:
    """Every image, whatever its name, comes from the registry at ``url``."""
    return f'server = "{url}"\n\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n'


def cni(place: Place) -> dict[str, Any]:
    """Pods hang on a bridge of the node's; what leaves it has the node's address."""
    bridge = {
        "type": "bridge",
        "bridge": network.POD_BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{place.directory}/addresses",
            "ranges": [[{"subnet": place.plan.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def kubelet(place: Place) -> dict[str, Any]:
    """The configuration of kubelet."""
    directory = place.directory
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{directory}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{directory}/serving.crt",
        "tlsPrivateKeyFile": f"{directory}/serving.key",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "resolvConf": f"{directory}/resolv.conf",
        "volumePluginDir": f"{directory}/volume-plugins",
        "podLogsDir": f"{directory}/logs",
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
        "nodeStatusUpdateFrequency": f"{HEARTBEAT}s",
        "nodeLeaseDurationSeconds": 4 * HEARTBEAT,
        "syncFrequency": "10s",
    }


def kube_proxy(place: Place) -> dict[str, Any]:
    """The configuration of kube-proxy."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": f"{place.directory}/proxy.conf"},
        "clusterCIDR": CLUSTER_PODS,
        "hostnameOverride": place.plan.name,
        "bindAddress": "0.0.0.0",  # noqa: S104 - in a network namespace
        "iptables": {"minSyncPeriod": "100ms"},
        "oomScoreAdj": 0,
        # these are the machine's, and may only be read in a network namespace
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
