"""Which nodes run a control plane's API servers and its keepalived. Pure.

Both go to the same nodes. The Service hands traffic only to API servers on the node where it
arrives (``externalTrafficPolicy: Local``; otherwise clients would lose every second connection
after a node has failed), so a virtual IP must not be held where no API server runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from dpucluster.managers.kamaji.kinds import LABEL_HOSTNAME, LABELS_CONTROL_PLANE, Node
from dpucluster.managers.kamaji.options import MAX_REPLICAS, KamajiOptions

MAX_HOLDERS = 150
"""Nodes that get a priority of their own: VRRP has 254, and 100 stands for a node without one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Nodes and how many API servers run on them.

    Attributes:
        nodes: Where they may run, the ones that are there longest first.
        replicas: Of the API server.
        is_pinned: There are more nodes that fit; these are named.
        fitting: Names of all that carry the labels of the node selector.
        control_plane: Names of all that have the control-plane role.
        selector: Labels the nodes must carry.
        needs_role: Whether the control-plane role is required.
    """

    nodes: tuple[Node, ...]
    replicas: int
    is_pinned: bool
    fitting: tuple[str, ...]
    control_plane: tuple[str, ...]
    selector: Mapping[str, str]
    needs_role: bool


def place(
    nodes: Iterable[Node],
    options: KamajiOptions,
    *,
    selector: Mapping[str, str] | None = None,
    is_held: bool = False,
) -> Placement:
    """Where the control plane goes; ``is_held``: behind a virtual IP."""
    ordered = sorted(nodes, key=lambda n: (n.metadata.creation_timestamp, n.name))
    labels = selector or {}
    fitting = [n for n in ordered if labels.items() <= n.metadata.labels.items()]
    with_role = [n for n in ordered if _has_role(n)]
    needs_role = options.placement == "control-plane"
    eligible = [n for n in fitting if not needs_role or _has_role(n)]
    replicas = options.replicas or max(1, min(MAX_REPLICAS, len(eligible)))
    chosen = eligible[: min(replicas, MAX_HOLDERS)] if is_held else eligible
    return Placement(
        nodes=tuple(chosen),
        replicas=replicas,
        is_pinned=len(chosen) < len(eligible),
        fitting=tuple(n.name for n in fitting),
        control_plane=tuple(n.name for n in with_role),
        selector=labels,
        needs_role=needs_role,
    )


def affinity(placement: Placement) -> dict[str, Any]:
    """The node affinity of pods that belong there; empty when nothing is required."""
    pinned = []
    if placement.is_pinned:
        names = [n.metadata.labels.get(LABEL_HOSTNAME, n.name) for n in placement.nodes]
        pinned = [{"key": LABEL_HOSTNAME, "operator": "In", "values": names}]
    roles = [{"key": label, "operator": "Exists"} for label in LABELS_CONTROL_PLANE]
    terms = [[role, *pinned] for role in roles] if placement.needs_role else [pinned]
    if not any(terms):
        return {}
    selected = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selected}}


def tolerations() -> list[dict[str, str]]:
    """Control-plane nodes are tainted with their role."""
    return [
        {"key": label, "operator": "Exists", "effect": "NoSchedule"}
        for label in LABELS_CONTROL_PLANE
    ]


def _has_role(node: Node) -> bool:
    return any(label in node.metadata.labels for label in LABELS_CONTROL_PLANE)
