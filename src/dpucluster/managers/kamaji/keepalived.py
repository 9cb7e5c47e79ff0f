"""keepalived for one cluster: its configuration, and the DaemonSet that runs it. Pure."""

from __future__ import annotations

import importlib.resources
import ipaddress
from typing import Any, Final

from dpucluster.managers.kamaji import keepalived_conf, nodes
from dpucluster.managers.kamaji.endpoint import Address, Endpoint
from dpucluster.managers.kamaji.keepalived_conf import Block, Line
from dpucluster.managers.kamaji.kinds import (
    API_PORT_NAME,
    CONFIG_MAPS,
    DAEMON_SETS,
    LABEL_KAMAJI_NAME,
    SERVICES,
    ConfigMap,
    DaemonSet,
    Node,
    Service,
)
from dpucluster.managers.kamaji.observation import Observed
from dpucluster.managers.kamaji.options import KamajiOptions
from dpucluster.managers.kamaji.plan import Plan, check_name, keepalived_name
from dpucluster.sdk import LABEL_CLUSTER, Child, fingerprint

CONFIG_KEY: Final = "keepalived.conf"
CHECK_KEY: Final = "check-apiserver"
CHECK_PATH: Final = "/usr/local/libexec/dpucluster/check-apiserver"
"""keepalived runs it only when nobody but root may write to it or to the directories above. The
directory of a ConfigMap is open to all; a single file mounted out of it (``subPath``) is not."""
CONFIG_DIR: Final = "/etc/keepalived"
CA_DIR: Final = "/etc/dpucluster/tenant"
RUN_DIR: Final = "/run/keepalived"
CHECKED_FILE: Final = f"{RUN_DIR}/checked"
"""The check program makes it. keepalived takes a check that it could not start for one that has
succeeded, or goes on without one; so a pod is ready only when its check has really run."""

ALIVE: Final = f'kill -0 "$(cat {RUN_DIR}/vrrp.pid)"'
"""The process that holds addresses is alive; it ends when its configuration is no good."""

CAPABILITIES: Final = ("NET_ADMIN", "NET_RAW", "SETGID")
"""Addresses, VRRP, and ``setgroups``, which keepalived calls before each check even where nothing
is to change: without SETGID it never runs one."""

ANNOTATION_CONFIG: Final = "provisioning.dpu.nvidia.com/keepalived-config"
"""Fingerprint of what keepalived reads once: another one rolls the pods."""

HIGHEST: Final = 254
UNNAMED: Final = 100
"""keepalived's own priority of a node that the configuration does not name (yet)."""

CHECK_SECONDS: Final = 2
CHECK_LIMIT: Final = 4
"""Three tries of at most a second each, see ``check-apiserver``. While a run goes on keepalived
starts no other."""

PREEMPT_SECONDS: Final = 30
"""For so long a node must be well before it takes the address back from one that has it and is of
lower priority. Nobody misses anything meanwhile; a node whose cable was out knows of its own API
server only what was so before, until its kube-proxy has heard the rest."""

RISE: Final = 2
FALL: Final = 2

SETTLE_SECONDS: Final = 10
"""After a pod is ready it needs ``RISE`` checks, then three advertisements, before it could hold
the address; until then the next one is not touched."""

STOP_SECONDS: Final = 10
"""Seconds to hand the address over before the pod is killed; it takes one."""


def check_service(observed: Observed, plan: Plan) -> Child[Service] | None:
    """Leads to the API servers on the node where it is asked, for the check; None as above.

    By the node port it could not be told whether this very node has one: what a node sends to
    itself is handed to all of them, ``externalTrafficPolicy`` or not, and an address held where
    no API server runs is one that nobody answers.
    """
    if plan.endpoint is None or not plan.port:
        return None
    cluster = observed.cluster.metadata.name
    port = {
        "name": API_PORT_NAME,
        "protocol": "TCP",
        "port": plan.port,
        "targetPort": plan.port,
    }
    spec = {
        "type": "ClusterIP",
        "internalTrafficPolicy": "Local",
        "selector": {LABEL_KAMAJI_NAME: cluster},
        "ports": [port],
    }
    return Child(SERVICES, check_name(cluster), content={"spec": spec})


def config_map(observed: Observed, plan: Plan) -> Child[ConfigMap] | None:
    """Configuration and check program; None while there is nothing to hold or to check."""
    if plan.endpoint is None or not plan.port:
        return None
    name = observed.cluster.metadata.name
    return Child(CONFIG_MAPS, keepalived_name(name), content={"data": _data(observed, plan)})


def daemon_set(observed: Observed, plan: Plan) -> Child[DaemonSet] | None:
    """Keepalived on every node of the plan; None while there is nothing to hold or to ask."""
    checked = observed.check_service
    if plan.endpoint is None or not plan.port or checked is None or not checked.spec.cluster_ip:
        return None
    cluster = observed.cluster.metadata.name
    labels = _labels(cluster)
    content = {
        "spec": {
            "selector": {"matchLabels": labels},
            "minReadySeconds": SETTLE_SECONDS,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {ANNOTATION_CONFIG: fingerprint(_data(observed, plan))},
                },
                "spec": _pod(plan.endpoint, checked.spec.cluster_ip, observed, plan),
            },
        }
    }
    return Child(DAEMON_SETS, keepalived_name(cluster), content=content)


def _labels(cluster: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "keepalived", LABEL_CLUSTER: cluster}


def _data(observed: Observed, plan: Plan) -> dict[str, str]:
    assert plan.endpoint is not None  # noqa: S101 - both callers have looked
    text = configuration(
        observed.cluster.metadata.name,
        plan.endpoint,
        plan.placement.nodes,
        unicast=observed.options.keepalived_unicast,
    )
    return {CONFIG_KEY: text, CHECK_KEY: _check_program()}


def _check_program() -> str:
    found = importlib.resources.files("dpucluster.managers.kamaji") / CHECK_KEY
    return found.read_text(encoding="utf-8")


# The configuration


def configuration(
    cluster: str, endpoint: Endpoint, holders: tuple[Node, ...], *, unicast: bool = False
) -> str:
    """One file for all nodes: lines that begin with ``@node`` count on that node only."""
    instance: list[Line] = [
        ("state", "BACKUP"),
        ("interface", endpoint.interface),
        ("virtual_router_id", endpoint.router_id),
        *(
            (f"@{node.name}", "priority", priority)
            for node, priority in zip(holders, priorities(len(holders)), strict=True)
        ),
        ("advert_int", 1),
        ("preempt_delay", PREEMPT_SECONDS),
        *(_unicast(holders, endpoint.vip) if unicast else ()),
        Block(("virtual_ipaddress",), [(f"{endpoint.vip}/{endpoint.prefix}",)]),
        Block(("track_script",), [("check_apiserver",)]),
    ]
    return keepalived_conf.render(
        [
            Block(
                ("global_defs",),
                [
                    ("router_id", cluster),
                    ("script_user", "root"),  # the container has no right to become another
                    ("enable_script_security",),
                    ("vrrp_garp_master_refresh", 30),  # switches forget, and reboot
                ],
            ),
            Block(
                ("vrrp_script", "check_apiserver"),
                [
                    ("script", CHECK_PATH),
                    ("interval", CHECK_SECONDS),
                    ("timeout", CHECK_LIMIT),
                    ("rise", RISE),
                    ("fall", FALL),
                    ("init_fail",),  # nobody holds the address before its API server has answered
                ],
            ),
            Block(("vrrp_instance", cluster), instance),
        ]
    )


def priorities(count: int) -> list[int]:
    """One for each node, the first the highest; no two alike, none that means something else."""
    usable = (p for p in range(HIGHEST, 0, -1) if p != UNNAMED)
    return [next(usable) for _ in range(count)]


def _unicast(holders: tuple[Node, ...], vip: Address) -> list[Line]:
    """Each node's own address, and those of all others, of the virtual IP's family.

    Nothing for less than two: who has no peer announces by multicast, and is told off.
    """
    known = [(n.name, a) for n in holders if (a := _address_of(n, vip))]
    if len(known) < 2:
        return []
    sources: list[Line] = [(f"@{name}", "unicast_src_ip", address) for name, address in known]
    peers: list[Line] = [(f"@^{name}", address) for name, address in known]
    return [*sources, Block(("unicast_peer",), peers)]


def _address_of(node: Node, vip: Address) -> str:
    for text in node.addresses:
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            continue
        if found.version == vip.version:
            return str(found)
    return ""


# The pods


def _pod(endpoint: Endpoint, checked: str, observed: Observed, plan: Plan) -> dict[str, Any]:
    options = observed.options
    found: dict[str, Any] = {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": STOP_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": nodes.tolerations(),
        "containers": [_container(endpoint, checked, plan.port, options)],
        "volumes": _volumes(observed.cluster.metadata.name),
    }
    if affinity := nodes.affinity(plan.placement):
        found["affinity"] = affinity
    if endpoint.node_selector:
        found["nodeSelector"] = endpoint.node_selector
    if options.keepalived_pull_secrets:
        found["imagePullSecrets"] = [{"name": s} for s in options.keepalived_pull_secrets]
    return found


def _container(
    endpoint: Endpoint, checked: str, port: int, options: KamajiOptions
) -> dict[str, Any]:
    return {
        "name": "keepalived",
        "image": options.keepalived_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "keepalived",
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--no-syslog",
            "--vrrp",
            f"--use-file={CONFIG_DIR}/{CONFIG_KEY}",
            "--config-id=$(NODE_NAME)",
            f"--pid={RUN_DIR}/keepalived.pid",
            f"--vrrp_pid={RUN_DIR}/vrrp.pid",
        ],
        "env": [
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": _field("spec.nodeName")}},
            {"name": "API_URL", "value": f"https://{_host(endpoint.vip)}:{port}/livez"},
            {"name": "API_HERE", "value": f"{_host(ipaddress.ip_address(checked))}:{port}"},
            {"name": "API_CA", "value": f"{CA_DIR}/ca.crt"},
            {"name": "CHECKED_FILE", "value": CHECKED_FILE},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "128Mi"},
        },
        "readinessProbe": _probe(f"{ALIVE} && test -e {CHECKED_FILE}", period=2, failures=2),
        "livenessProbe": _probe(ALIVE, period=10, failures=3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
            {"name": "check", "mountPath": CHECK_PATH, "subPath": CHECK_KEY, "readOnly": True},
            {"name": "ca", "mountPath": CA_DIR, "readOnly": True},
            {"name": "run", "mountPath": RUN_DIR},
        ],
    }


def _field(path: str) -> dict[str, str]:
    return {"apiVersion": "v1", "fieldPath": path}


def _host(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _probe(script: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["/bin/sh", "-c", script]},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _volumes(cluster: str) -> list[dict[str, Any]]:
    def part(key: str, mode: int) -> dict[str, Any]:
        items = [{"key": key, "path": key}]
        return {"name": keepalived_name(cluster), "items": items, "defaultMode": mode}

    return [
        {"name": "config", "configMap": part(CONFIG_KEY, 0o444)},
        {"name": "check", "configMap": part(CHECK_KEY, 0o555)},
        {
            "name": "ca",  # of what Kamaji keeps there, the authority's certificate alone
            "secret": {
                "secretName": f"{cluster}-ca",
                "items": [{"key": "ca.crt", "path": "ca.crt"}],
                "defaultMode": 0o444,
            },
        },
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
