"""Everything the Kamaji manager makes, word for word.

``UPDATE_GOLDEN=1 python -m pytest tests/unit/test_kamaji_golden.py`` writes the files anew; their
difference is then read by whoever reviews the change.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpucluster.managers.kamaji import keepalived, objects, plan
from dpucluster.managers.kamaji.observation import Observed
from dpucluster.sdk import Child, children
from tests.support import kamaji

GOLDEN = Path(__file__).parent / "golden" / "kamaji"
HELD = kamaji.cluster("c")
FREE = kamaji.cluster("c", held=False)
V6 = kamaji.cluster("c", endpoint=kamaji.keepalived(vip="fd00::100/64", interface="bond0.100"))
SELECTED = kamaji.cluster("c", endpoint=kamaji.keepalived(node_selector={"zone": "1"}))


def held(of: Any = HELD, **changes: Any) -> Observed:
    """Behind a virtual IP, once the API server has given a node port."""
    services = {"service": kamaji.service(of), "check_service": kamaji.check_service(of)}
    return kamaji.observed(of, **services, **changes)


def check(name: str, text: str) -> None:
    """The golden file of that name is exactly ``text``."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{name}; UPDATE_GOLDEN=1 writes it anew"


class Dumper(yaml.SafeDumper):
    """Writes out what occurs twice, and a text of several lines as such."""

    def ignore_aliases(self, data: object) -> bool:
        """No anchors."""
        del data
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Lines below each other."""
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


Dumper.add_representer(str, Dumper.represent_str)


def sent(child: Child[Any] | None, observed: Observed) -> str:
    """The whole object as it is created."""
    assert child is not None
    resource = child.resource
    body = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        **children._metadata(child, observed.cluster),
        **child.content,
    }
    return yaml.dump(body, Dumper=Dumper, sort_keys=False)


SERVICES = {
    "service-node-port": kamaji.observed(HELD),
    "service-load-balancer": kamaji.observed(FREE),
    "service-ipv6": kamaji.observed(V6),
    "service-made-again": held(control_plane=kamaji.control_plane(HELD)),
}


@pytest.mark.parametrize("name", SERVICES)
def test_services(name: str) -> None:
    """K6: The Service has an owner that is not its controller; its port is as its name says."""
    observed = SERVICES[name]
    check(f"{name}.yaml", sent(objects.service(observed, plan.make(observed)), observed))


def test_the_check_has_a_service() -> None:
    """K22: It leads to the API servers on the node where it is asked, and nowhere else."""
    observed = held()
    child = keepalived.check_service(observed, plan.make(observed))
    check("service-check.yaml", sent(child, observed))


CONTROL_PLANES = {
    "control-plane-vip": held(),
    "control-plane-load-balancer": kamaji.observed(
        FREE, service=kamaji.service(FREE, type_="LoadBalancer", ip="192.0.2.7")
    ),
    "control-plane-one-node": held(nodes=kamaji.nodes(1)),
    "control-plane-five-nodes": held(nodes=kamaji.nodes(5)),
    "control-plane-selected": held(
        SELECTED, nodes=(kamaji.node("n1", zone="1"), kamaji.node("n2"))
    ),
    "control-plane-options": held(
        datastore="etcd-2",
        replicas=2,
        placement="any",
        service_cidr="10.200.0.0/24",
        pod_cidr="10.201.0.0/16",
        admission_controllers=("ResourceQuota",),
        addons=(),
        registry="registry.example.com",
    ),
}


@pytest.mark.parametrize("name", CONTROL_PLANES)
def test_control_planes(name: str) -> None:
    """K27: NVIDIA's values by default, what suits the nodes, and what the options say."""
    observed = CONTROL_PLANES[name]
    check(f"{name}.yaml", sent(objects.control_plane(observed, plan.make(observed)), observed))


KEEPALIVED = {
    "multicast": held(),
    "unicast": held(keepalived_unicast=True),
    "ipv6": held(V6),
    "ipv6-unicast": held(V6, keepalived_unicast=True),
}


@pytest.mark.parametrize("name", KEEPALIVED)
def test_configurations(name: str) -> None:
    """K23: Multicast or unicast, IPv4 or IPv6: script security, checks with limits, no ties."""
    observed = KEEPALIVED[name]
    child = keepalived.config_map(observed, plan.make(observed))
    assert child is not None
    check(f"keepalived-{name}.conf", child.content["data"]["keepalived.conf"])


def test_config_map() -> None:
    """Configuration and check program, and nothing else."""
    observed = held()
    child = keepalived.config_map(observed, plan.make(observed))
    check("config-map.yaml", sent(child, observed))


DAEMON_SETS = {
    "daemon-set": held(),
    "daemon-set-ipv6": held(V6),
    "daemon-set-five-nodes": held(nodes=kamaji.nodes(5)),
    "daemon-set-options": held(
        SELECTED,
        nodes=(kamaji.node("n1", zone="1"),),
        placement="any",
        keepalived_image="registry.example.com/keepalived@sha256:" + "0" * 64,
        keepalived_pull_secrets=("pull-1", "pull-2"),
    ),
}


@pytest.mark.parametrize("name", DAEMON_SETS)
def test_daemon_sets(name: str) -> None:
    """K24: The image is an option, the rights are few, nothing is privileged."""
    observed = DAEMON_SETS[name]
    check(f"{name}.yaml", sent(keepalived.daemon_set(observed, plan.make(observed)), observed))


def template(observed: Observed) -> dict[str, Any]:
    child = keepalived.daemon_set(observed, plan.make(observed))
    assert child is not None
    found: dict[str, Any] = child.content["spec"]["template"]
    return found


def test_least_privilege() -> None:
    """K24: Not privileged, no service account token, a read-only root, few capabilities."""
    pod = template(held())["spec"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    assert "privileged" not in security
    assert (False, True) == (
        security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"],
    )  # fmt: skip
    assert ["ALL"] == security["capabilities"]["drop"]
    checks = {"SETGID"}  # keepalived sets its groups before it runs a program
    network = {"NET_ADMIN", "NET_RAW"}
    assert network | checks == set(security["capabilities"]["add"])
    assert "initContainers" not in pod
    assert {"readinessProbe", "livenessProbe", "resources"} <= container.keys()


CHANGES = {
    "the address": held(kamaji.cluster("c", endpoint=kamaji.keepalived(vip="10.0.0.101"))),
    "the interface": held(kamaji.cluster("c", endpoint=kamaji.keepalived(interface="eth1"))),
    "the router id": held(kamaji.cluster("c", endpoint=kamaji.keepalived(router=52))),
    "the nodes": held(nodes=kamaji.nodes(2)),
    "unicast": held(keepalived_unicast=True),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_rolls_the_pods(what: str) -> None:
    """K25: keepalived reads its configuration once: another one is another pod template."""
    del what
    before = template(held())["metadata"]["annotations"]
    assert all(
        before != template(changed)["metadata"]["annotations"] for changed in CHANGES.values()
    )


def test_nothing_rolls_without_a_change() -> None:
    """K25: The same plan gives the same pods, in whatever order the nodes are listed."""
    shuffled = dataclasses.replace(held(), nodes=tuple(reversed(kamaji.nodes(3))))
    assert template(held()) == template(shuffled)


def test_no_owner_is_a_controller() -> None:
    """K14: Kamaji must be able to become the controller; deletion is awaited by a finalizer."""
    child = objects.service(held(), plan.make(held()))
    (owner,) = children._metadata(child, HELD)["metadata"]["ownerReferences"]
    assert {"apiVersion", "kind", "name", "uid"} == owner.keys()
    assert "provisioning.dpu.nvidia.com/v1alpha1" == owner["apiVersion"]
