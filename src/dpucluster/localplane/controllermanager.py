"""The command line of kube-controller-manager."""

from __future__ import annotations

from pathlib import Path

from dpucluster.localplane import apiserver

USER = "system:kube-controller-manager"
CONTROLLERS = "*,-nodeipam,-cloud-node-lifecycle,-service-lb-controller,-node-route-controller"
"""All that make sense without a cloud: namespaces, garbage, service accounts, workloads …"""


NODE_GRACE = "8s"
"""How long a node may be silent: ours beat every two seconds, and nobody likes to wait."""


def command(
    binary: Path, keys: apiserver.Keys, kubeconfig: Path, *, has_nodes: bool = False
) -> list[str]:
    """The whole command line."""
    flags: dict[str, object] = {
        "kubeconfig": kubeconfig,
        "controllers": CONTROLLERS,
        "use-service-account-credentials": "true",
        "service-account-private-key-file": keys.service_accounts,
        "root-ca-file": keys.ca.certificate,
        "cluster-signing-cert-file": keys.ca.certificate,
        "cluster-signing-key-file": keys.ca.key,
        # One instance, on a port that nobody asks: no port at all.
        "leader-elect": "false",
        "secure-port": 0,
        "profiling": "false",
    }
    if has_nodes:
        flags |= {"node-monitor-grace-period": NODE_GRACE, "node-monitor-period": "1s"}
    return [str(binary), *(f"--{flag}={value}" for flag, value in flags.items())]
