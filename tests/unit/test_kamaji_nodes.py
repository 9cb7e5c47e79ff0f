"""Where API servers and keepalived run."""

from __future__ import annotations

from typing import Any

import pytest

from dpucluster.managers.kamaji import keepalived, kinds, nodes
from dpucluster.managers.kamaji.nodes import Placement
from dpucluster.managers.kamaji.options import KamajiOptions
from tests.support import kamaji


def place(count: int, *, held: bool = True, **options: Any) -> Placement:
    return nodes.place(kamaji.nodes(count), KamajiOptions(**options), is_held=held)


@pytest.mark.parametrize(
    ("count", "wanted"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 3), (9, 3), (200, 3)]
)
def test_replicas_suit_the_nodes(count: int, wanted: int) -> None:
    """K27: As many API servers as there are nodes for them, three at most, one at least."""
    assert wanted == place(count).replicas


def test_replicas_by_option() -> None:
    """K27: Who names a number gets it, also on fewer nodes."""
    assert 5 == place(2, replicas=5).replicas


@pytest.mark.parametrize(
    ("count", "options", "held", "pinned"),
    [
        (3, {}, True, ()),
        (5, {}, True, ("n1", "n2", "n3")),
        (5, {"replicas": 5}, True, ()),
        (5, {"replicas": 1}, True, ("n1",)),
        (5, {}, False, ()),
    ],
)
def test_no_node_holds_the_address_without_an_api_server(
    count: int, options: dict[str, Any], held: bool, pinned: tuple[str, ...]
) -> None:
    """K22: With more nodes than API servers both are pinned to the same ones, by name."""
    found = place(count, held=held, **options)
    assert bool(pinned) is found.is_pinned
    if pinned:
        assert pinned == tuple(n.name for n in found.nodes)
    terms = nodes.affinity(found)["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    values = [
        e.get("values") for term in terms["nodeSelectorTerms"] for e in term["matchExpressions"]
    ]
    assert [list(pinned)] * 2 == [v for v in values if v] if pinned else not any(values)


def test_the_choice_stands() -> None:
    """The nodes that are there longest are chosen: a new one moves nothing."""
    old = [kamaji.node(name, created=f"2026-01-0{i}T00:00:00Z") for i, name in enumerate("zyx", 1)]
    new = kamaji.node("a", created="2026-01-09T00:00:00Z")
    for found in ([*old, new], [new, *reversed(old)]):
        placed = nodes.place(found, KamajiOptions(), is_held=True)
        assert ["z", "y", "x"] == [n.name for n in placed.nodes]


def test_a_role_is_needed() -> None:
    """Only nodes with the control-plane role are taken, under its old name, too; or any."""
    found = [
        kamaji.node("new"),
        kamaji.node("old", roles=("node-role.kubernetes.io/master",)),
        kamaji.node("worker", roles=()),
    ]
    placed = nodes.place(found, KamajiOptions(), is_held=True)
    assert ["new", "old"] == [n.name for n in placed.nodes]
    keys = [
        [e["key"] for e in term["matchExpressions"]]
        for term in nodes.affinity(placed)["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"]
    ]
    assert [[label] for label in kinds.LABELS_CONTROL_PLANE] == keys
    anywhere = nodes.place(found, KamajiOptions(placement="any"), is_held=True)
    assert ["new", "old", "worker"] == [n.name for n in anywhere.nodes]
    assert {} == nodes.affinity(anywhere)


def test_a_selector_narrows_the_choice() -> None:
    """Every label of the selector must be there with its value; both sets are remembered."""
    found = [
        kamaji.node("a", zone="1", rack="x"),
        kamaji.node("b", zone="1"),
        kamaji.node("w", roles=(), zone="1", rack="x"),
    ]
    placed = nodes.place(found, KamajiOptions(), selector={"zone": "1", "rack": "x"}, is_held=True)
    assert ["a"] == [n.name for n in placed.nodes]
    assert (("a", "w"), ("a", "b")) == (placed.fitting, placed.control_plane)


def test_pins_are_host_names() -> None:
    """Affinity compares the label kubernetes.io/hostname, which need not be the node's name."""
    found = [kamaji.node(n, host=f"{n}.example.com") for n in ("a", "b")]
    placed = nodes.place(found, KamajiOptions(replicas=1, placement="any"), is_held=True)
    (term,) = nodes.affinity(placed)["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert ["a.example.com"] == term["matchExpressions"][0]["values"]


def test_no_affinity_to_the_named_node_of_nobody() -> None:
    """Without any node that fits nothing is pinned: a node may still come."""
    placed = nodes.place([], KamajiOptions(placement="any"), is_held=True)
    assert () == placed.nodes
    assert {} == nodes.affinity(placed)


def test_priorities() -> None:
    """K20: Distinct for as many nodes as there may be, falling, none 0, 255 or the unnamed 100."""
    found = keepalived.priorities(nodes.MAX_HOLDERS)
    assert sorted(set(found), reverse=True) == found
    assert not {0, 100, 255} & set(found)
    assert all(0 < p < 255 for p in found)


def test_more_nodes_than_priorities() -> None:
    """K20: However many API servers are asked for, each holder has a priority of its own."""
    placed = place(200, replicas=200)
    assert nodes.MAX_HOLDERS == len(placed.nodes) == len(keepalived.priorities(len(placed.nodes)))
    assert placed.is_pinned


def test_addresses_of_a_node() -> None:
    """Internal addresses come first, names are none."""
    found = kinds.Node(
        kamaji.node("a").metadata,
        kinds.NodeStatus(
            (
                kinds.NodeAddress("ExternalIP", "192.0.2.1"),
                kinds.NodeAddress("Hostname", "a"),
                kinds.NodeAddress("InternalIP", "10.0.0.1"),
            )
        ),
    )
    assert ("10.0.0.1", "192.0.2.1") == found.addresses
