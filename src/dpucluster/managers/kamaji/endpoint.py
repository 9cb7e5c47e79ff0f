"""The virtual IP that a DPUCluster asks for: whether it can be, and who else wants it. Pure.

Every value here ends up in a configuration file of keepalived, so nothing passes that could be
more than one word of it.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from dpucluster.managers.kamaji.kinds import Node
from dpucluster.sdk import (
    TYPE_KAMAJI,
    ClusterEndpoint,
    DPUCluster,
    Keepalived,
    Key,
    Problem,
)

INTERFACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
"""Names of interfaces as distributions give them; Linux allows 15 bytes of nearly everything, and
keepalived's configuration gives some of it another meaning."""

LABEL_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

INVALID: Final = "InvalidEndpoint"
CONFLICT: Final = "EndpointConflict"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """A virtual IP that keepalived can hold."""

    vip: Address
    prefix: int
    interface: str
    router_id: int
    node_selector: dict[str, str]


def wanted(cluster: DPUCluster) -> Keepalived | None:
    """What the spec asks for, or None."""
    endpoint: ClusterEndpoint | None = cluster.spec.cluster_endpoint
    return endpoint.keepalived if endpoint is not None else None


def read(keepalived: Keepalived, nodes: Iterable[Node], *, held: str = "") -> Endpoint | Problem:
    """The endpoint, or what is wrong with it and what to do.

    ``held`` is the virtual IP that the cluster has: the node that holds it may list it as its own.
    """
    vip = _vip(keepalived.vip)
    if isinstance(vip, str):
        return Problem(INVALID, f"spec.clusterEndpoint.keepalived.vip {vip}")
    if not INTERFACE.fullmatch(keepalived.interface):
        return Problem(
            INVALID,
            f"spec.clusterEndpoint.keepalived.interface {_shown(keepalived.interface)} is no name "
            "of a network interface: 1 to 15 letters, digits, '.', '_' and '-'",
        )
    bad = [k for k, v in keepalived.node_selector.items() if not _is_label(k, v)]
    if bad:
        return Problem(
            INVALID,
            f"spec.clusterEndpoint.keepalived.nodeSelector has {_shown(min(bad))}, which with its "
            "value is no label that a node can carry",
        )
    owner = next((n.name for n in nodes if str(vip.ip) in n.addresses), None)
    if owner is not None and held != str(vip.ip):
        return Problem(
            INVALID,
            f"spec.clusterEndpoint.keepalived.vip {vip.ip} is the address of node {owner}; reserve "
            "one that nothing else has",
        )
    return Endpoint(
        vip.ip,
        vip.network.prefixlen,
        keepalived.interface,
        keepalived.virtual_router_id,
        dict(keepalived.node_selector),
    )


def claims(cluster: DPUCluster) -> list[Key]:
    """What a cluster claims for itself alone, as keys of an index; nothing when it is no use."""
    keepalived = wanted(cluster)
    if cluster.spec.type != TYPE_KAMAJI or keepalived is None:
        return []
    vip = _vip(keepalived.vip)
    found = [] if isinstance(vip, str) else [claim_of(str(vip.ip))]
    router = f"{keepalived.virtual_router_id} on {keepalived.interface}"
    return [*found, Key("virtualRouterID", router)]


def claim_of(vip: str) -> Key:
    """The claim to an address."""
    return Key("vip", vip)


def held(claim: Key, control_plane: Key) -> Problem:
    """The problem when another control plane serves on the address, whatever its cluster says."""
    return Problem(
        CONFLICT,
        f"{claim.namespace} {claim.name} is that of TenantControlPlane {control_plane}; choose "
        "another, or wait until it has gone",
    )


def rival(cluster: DPUCluster, others: Iterable[DPUCluster], claim: Key) -> Problem | None:
    """The problem when an older DPUCluster has the same claim; of two the older one keeps it."""
    older = [
        o for o in others if o.metadata.uid != cluster.metadata.uid and _age(o) < _age(cluster)
    ]
    if not older:
        return None
    first = min(older, key=_age)
    state = ", which is being deleted" if first.metadata.is_deleting else ""
    return Problem(
        CONFLICT,
        f"{claim.namespace} {claim.name} belongs to DPUCluster {first.key}{state}; choose another, "
        "or delete that one",
    )


def _age(cluster: DPUCluster) -> tuple[str, Key]:
    return (cluster.metadata.creation_timestamp, cluster.key)


@functools.lru_cache(maxsize=4096)
def _vip(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | str:
    """The address with its prefix; or, as the rest of a sentence, why it is none."""
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        found = None
    if found is None or "%" in text:  # a zone means something on one host only
        return f"{_shown(text)} is no IP address; write 10.0.0.100, 10.0.0.100/24 or fd00::100"
    address = found.ip
    if address.version == 6 and address.is_link_local:
        return f"{found} is link-local, which no client can use; reserve a routable address"
    is_special = address.is_multicast or address.is_unspecified or address.is_loopback
    if is_special or _is_all_hosts(found):
        return f"{found} is no address that a host can have on a network"
    return found


def _is_all_hosts(found: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> bool:
    """Whether it stands for a network or its broadcast; a network of two has neither."""
    if found.version == 6:
        return False
    network = found.network
    if network.prefixlen >= 31:
        return found.ip == ipaddress.IPv4Address("255.255.255.255")
    return found.ip in (network.network_address, network.broadcast_address)


def _is_label(key: str, value: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and not LABEL_PREFIX.fullmatch(prefix):
        return False
    return bool(LABEL_NAME.fullmatch(name)) and (not value or bool(LABEL_NAME.fullmatch(value)))


def _shown(text: str) -> str:
    """Somebody's text in a message: in quotes, in one line, not too long."""
    return ascii(text if len(text) <= 60 else text[:60] + "...")
