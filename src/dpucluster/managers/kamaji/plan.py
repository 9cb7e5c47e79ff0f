"""What follows from the spec, the nodes and what is there already. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import re
from typing import Final

from dpucluster.managers.kamaji import endpoint, nodes, versions
from dpucluster.managers.kamaji.endpoint import Endpoint
from dpucluster.managers.kamaji.nodes import Placement
from dpucluster.managers.kamaji.observation import Observed, Slot
from dpucluster.managers.kamaji.versions import VersionPlan
from dpucluster.sdk import Keepalived, Problem

NODE_PORT: Final = "NodePort"
LOAD_BALANCER: Final = "LoadBalancer"
API_PORT: Final = 6443

MAX_SERVICE_NAME: Final = 63

NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""DNS-1035: the name becomes that of a Service, and Kamaji's webhook asks for the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for one cluster.

    Attributes:
        endpoint: The virtual IP that is asked for and can be.
        endpoint_problem: Why it cannot be.
        placement: Where the control plane and keepalived run.
        version: What is asked of Kamaji.
        service_type: ``NodePort`` behind a virtual IP, else ``LoadBalancer``.
        address: Of the API server; empty while there is none.
        port: Of the API server; 0 while there is none.
        spec_problem: What only an edit of the spec can mend.
    """

    endpoint: Endpoint | None
    endpoint_problem: Problem | None
    placement: Placement
    version: VersionPlan
    service_type: str
    address: str
    port: int
    spec_problem: Problem | None

    @property
    def can_go_on(self) -> bool:
        """Whether anything may be made: a version that is none holds up a new one only."""
        is_version = self.spec_problem is not None and self.spec_problem == self.version.problem
        return self.spec_problem is None or (is_version and bool(self.version.text))


def secret_name(cluster: str) -> str:
    """The Secret that Kamaji writes the admin kubeconfig to."""
    return f"{cluster}-admin-kubeconfig"


def keepalived_name(cluster: str) -> str:
    """ConfigMap and DaemonSet of the virtual IP."""
    return f"{cluster}-keepalived"


def check_name(cluster: str) -> str:
    """The Service that keepalived's check uses; no longer than a Service's name may be."""
    name = keepalived_name(cluster)
    if len(name) <= MAX_SERVICE_NAME:
        return name
    digest = hashlib.sha256(cluster.encode()).hexdigest()[:8]
    ending = f"-{digest}-keepalived"
    return cluster[: MAX_SERVICE_NAME - len(ending)] + ending


def make(observed: Observed) -> Plan:
    """The plan for what was observed."""
    asked = endpoint.wanted(observed.cluster)
    usable, problem = _endpoint(observed, asked)
    service_type = NODE_PORT if asked is not None else LOAD_BALANCER
    control_plane = observed.control_plane
    asked_before = control_plane.version if control_plane else ""
    version = versions.plan(
        observed.cluster.spec.version or asked_before or observed.options.default_version,
        asked=asked_before,
        installed=control_plane.installed if control_plane else "",
    )
    return Plan(
        endpoint=usable,
        endpoint_problem=problem,
        placement=nodes.place(
            observed.nodes,
            observed.options,
            selector=asked.node_selector if asked else None,
            is_held=asked is not None,
        ),
        version=version,
        service_type=service_type,
        address=str(usable.vip) if usable else _load_balancer_address(observed, service_type),
        port=_port(observed, service_type),
        spec_problem=_spec_problem(observed, version),
    )


def _endpoint(
    observed: Observed, asked: Keepalived | None
) -> tuple[Endpoint | None, Problem | None]:
    if asked is None:
        return None, None
    control_plane = observed.control_plane
    found = endpoint.read(
        asked, observed.nodes, held=control_plane.address if control_plane is not None else ""
    )
    if isinstance(found, Problem):
        return None, found
    return (None, observed.rival) if observed.rival is not None else (found, None)


def _load_balancer_address(observed: Observed, service_type: str) -> str:
    if service_type != LOAD_BALANCER or observed.service is None:
        return ""
    ingress = observed.service.status.load_balancer.ingress
    return next((i.ip for i in ingress if _is_address(i.ip)), "")


def _port(observed: Observed, service_type: str) -> int:
    """Behind a virtual IP the node port, which is kept for life; else what was chosen first."""
    control_plane = observed.control_plane
    if (
        control_plane is not None
        and control_plane.port
        and (service_type == LOAD_BALANCER or control_plane.service_type == NODE_PORT)
    ):
        return control_plane.port
    if service_type == LOAD_BALANCER:
        return API_PORT
    is_foreign = Slot.SERVICE in observed.refusals
    if observed.service is None or is_foreign or observed.service.spec.type != NODE_PORT:
        return 0
    return observed.service.api_port.node_port if observed.service.api_port else 0


def _spec_problem(observed: Observed, version: VersionPlan) -> Problem | None:
    cluster = observed.cluster
    if not NAME.fullmatch(cluster.metadata.name):
        text = (
            f"the name {cluster.metadata.name!r} cannot be that of a Service, which it becomes: "
            "small letters, digits and '-', starting with a letter, 63 at most; create the "
            "DPUCluster under another name"
        )
        return Problem(versions.INVALID_SPEC, text)
    expected = secret_name(cluster.metadata.name)
    if cluster.spec.kubeconfig not in ("", expected):
        text = (
            f"spec.kubeconfig names the Secret {cluster.spec.kubeconfig[:80]!a}, but Kamaji "
            f"writes {expected}; create the DPUCluster without spec.kubeconfig"
        )
        return Problem(versions.INVALID_SPEC, text)
    if version.problem is not None and version.problem.reason == versions.INVALID_SPEC:
        return version.problem
    return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
