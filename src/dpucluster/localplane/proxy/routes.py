"""Where a node listens for Services, and where each connection leads. Pure.

Traffic policies hold as in kube-proxy. ``externalTrafficPolicy: Local``: what comes from outside to
a node port goes to the node's own endpoints only, what comes from the node itself to all.
``internalTrafficPolicy: Local``: a cluster IP leads to the node's own endpoints only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dpucluster.api.meta import Key
from dpucluster.localplane.proxy import services

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - inside a network namespace
"""Of node ports: also those that somebody else, like keepalived, puts on the node later."""


class Listen(NamedTuple):
    """Where to listen."""

    address: str
    port: int


class Backend(NamedTuple):
    """An endpoint."""

    address: str
    port: int


@dataclass(frozen=True)
class Route:
    """Where connections lead.

    Attributes:
        backends: All endpoints that are ready.
        local: Those of this node if outsiders may reach no others, else None.
    """

    backends: tuple[Backend, ...]
    local: tuple[Backend, ...] | None = None

    def choices(self, *, from_outside: bool) -> tuple[Backend, ...]:
        """Where a connection may go."""
        return self.local if self.local is not None and from_outside else self.backends


def table(
    known: Iterable[services.Service],
    slices: Mapping[Key, Sequence[services.EndpointSlice]],
    node: str,
    *,
    node_ports: bool = True,
    balancers: bool = False,
) -> dict[Listen, Route]:
    """Everything to listen on; Services without an endpoint refuse, as kube-proxy makes them."""
    made: dict[Listen, Route] = {}
    for service in known:
        for port in service.spec.ports:
            if port.protocol != "TCP":
                continue
            ready = _ready(slices.get(service.metadata.key, ()), port)
            if not ready:
                continue
            everywhere = Route(tuple(backend for backend, _ in ready))
            inner = _inner(service, ready, node)
            if service.spec.cluster_ip not in ("", "None") and inner.backends:
                made[Listen(service.spec.cluster_ip, port.port)] = inner
            if balancers:
                for address in service.addresses:
                    made[Listen(address, port.port)] = everywhere
            if node_ports and port.node_port:
                made[Listen(ANY_ADDRESS, port.node_port)] = _outer(service, ready, node)
    return made


def names(known: Iterable[services.Service]) -> dict[str, list[str]]:
    """Cluster IPs, and the names by which programs look for them."""
    found: dict[str, list[str]] = {}
    for service in known:
        name, namespace = service.metadata.name, service.metadata.namespace
        if service.spec.cluster_ip not in ("", "None"):
            short = f"{name}.{namespace}"
            found[service.spec.cluster_ip] = [f"{short}.svc.cluster.local", f"{short}.svc", short]
    return found


def without_address(known: Iterable[services.Service], pool: Iterable[str]) -> dict[Key, str]:
    """An address for each load balancer that has none yet."""
    wanting = [each for each in known if each.spec.type == "LoadBalancer"]
    taken = {address for each in wanting for address in each.addresses}
    free = (address for address in pool if address not in taken)
    bare = (
        each.metadata.key
        for each in wanting
        if not each.addresses and each.spec.load_balancer_class is None
    )
    return dict(zip(bare, free, strict=False))


def slices_by_service(
    known: Iterable[services.EndpointSlice],
) -> dict[Key, list[services.EndpointSlice]]:
    """The slices of each Service."""
    found: dict[Key, list[services.EndpointSlice]] = {}
    for each in known:
        if name := each.metadata.labels.get(services.SERVICE_NAME):
            found.setdefault(Key(each.metadata.namespace, name), []).append(each)
    return found


def _ready(
    slices: Sequence[services.EndpointSlice], port: services.ServicePort
) -> list[tuple[Backend, str]]:
    """The endpoints that are ready for ``port``, and their nodes."""
    return sorted(
        (Backend(address, target.port), endpoint.node_name or "")
        for each in slices
        for target in each.ports or ()
        if (target.name or "") == port.name and target.port is not None
        for endpoint in each.endpoints or ()
        if endpoint.conditions.ready is not False
        for address in endpoint.addresses
    )


def _inner(service: services.Service, ready: Sequence[tuple[Backend, str]], node: str) -> Route:
    is_local = service.spec.internal_traffic_policy == "Local"
    return Route(tuple(backend for backend, where in ready if not is_local or where == node))


def _outer(service: services.Service, ready: Sequence[tuple[Backend, str]], node: str) -> Route:
    backends = tuple(backend for backend, _ in ready)
    if service.spec.external_traffic_policy != "Local":
        return Route(backends)
    return Route(backends, tuple(backend for backend, where in ready if where == node))
