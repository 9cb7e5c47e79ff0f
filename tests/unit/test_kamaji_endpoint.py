"""The virtual IP that is asked for: what passes, and who has it when two want it."""

from __future__ import annotations

import ipaddress
import itertools

import pytest

from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Key
from dpucluster.managers.kamaji import endpoint
from dpucluster.managers.kamaji.endpoint import Endpoint
from dpucluster.sdk import Problem
from tests.support import build, kamaji

NODES = kamaji.nodes(2)


def read(**changes: object) -> Endpoint | Problem:
    return endpoint.read(kamaji.keepalived(**changes), NODES)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(
    ("text", "address", "prefix"),
    [
        ("10.0.0.100", "10.0.0.100", 32),
        ("10.0.0.100/24", "10.0.0.100", 24),
        ("fd00::100", "fd00::100", 128),
        ("fd00:0:0:0:0:0:0:100/64", "fd00::100", 64),
        ("FD00::AB", "fd00::ab", 128),
        ("::ffff:10.0.0.100", "::ffff:10.0.0.100", 128),
    ],
)
def test_addresses(text: str, address: str, prefix: int) -> None:
    """K19: IPv4 and IPv6 pass, with a prefix length or without, and are written in one way."""
    found = read(vip=text)
    assert isinstance(found, Endpoint)
    assert (ipaddress.ip_address(address), prefix) == (found.vip, found.prefix)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no IP address"),
        ("example.com", "'example.com' is no IP address"),
        ("10.0.0.256", "is no IP address"),
        ("010.0.0.1", "is no IP address"),
        ("10.0.0.100/33", "is no IP address"),
        ("10.0.0.100/255.255.255.0/1", "is no IP address"),
        (" 10.0.0.100", "is no IP address"),
        ("10.0.0.100\n", r"'10.0.0.100\n' is no IP address"),
        ("10.0.0.100 dev lo", "is no IP address"),
        ("10.0.0.100}", "is no IP address"),
        ("x" * 4000, "xxx...' is no IP address"),
        ("fe80::1", "is link-local"),
        ("fe80::1/64", "is link-local"),
        ("fe80::1%eth0", "is no IP address"),
        ("fd00::1%eth0", "is no IP address"),
        ("fd00::1%;reboot\n", r"'fd00::1%;reboot\n' is no IP address"),
        ("224.0.0.18", "is no address that a host can have"),
        ("ff02::12", "is no address that a host can have"),
        ("0.0.0.0", "is no address that a host can have"),  # noqa: S104 - bound by nobody
        ("::", "is no address that a host can have"),
        ("127.0.0.1", "is no address that a host can have"),
        ("::1", "is no address that a host can have"),
        ("10.0.0.2", "10.0.0.2 is the address of node n2"),
        ("fd00::1/64", "fd00::1 is the address of node n1"),
        ("255.255.255.255", "is no address that a host can have"),
        ("10.0.0.0/24", "10.0.0.0/24 is no address that a host can have"),
        ("10.0.0.255/24", "10.0.0.255/24 is no address that a host can have"),
    ],
)
def test_no_addresses(text: str, why: str) -> None:
    """What no host can hold as a virtual IP is refused in one printable line that names it."""
    found = read(vip=text)
    assert isinstance(found, Problem)
    assert endpoint.INVALID == found.reason
    assert why in found.message
    assert found.message.isprintable()
    assert len(found.message) < 300


@pytest.mark.parametrize(
    "prefix", ["10.0.0.100/31", "10.0.0.101/31", "10.0.0.100/32", "fd00::/127"]
)
def test_networks_without_broadcast(prefix: str) -> None:
    """In a point-to-point network, and alone, every address is one of a host."""
    assert isinstance(read(vip=prefix), Endpoint)


@pytest.mark.parametrize("name", ["eth0", "ens1f0np0", "bond0.100", "br-dpu", "tmfifo_net0", "a"])
def test_interfaces(name: str) -> None:
    """Names as distributions and drivers give them pass."""
    found = read(interface=name)
    assert isinstance(found, Endpoint)
    assert name == found.interface


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-i",
        ".",
        "..",
        "a/b",
        "eth0 lo",
        "eth0\n",
        "sixteen-letters-",
        "é",
        "a{",
        "$x",
        "!a",
        "#",
    ],
)
def test_no_interfaces(name: str) -> None:
    """K19: What Linux or keepalived would not take as one name is refused."""
    found = read(interface=name)
    assert isinstance(found, Problem)
    assert "interface" in found.message
    assert found.message.isprintable()


@pytest.mark.parametrize(
    ("key", "value", "passes"),
    [
        ("kubernetes.io/os", "linux", True),
        ("node-role.kubernetes.io/control-plane", "", True),
        ("zone", "A_1.b-c", True),
        ("", "x", False),
        ("/a", "x", False),
        ("a/", "x", False),
        ("a/b/c", "x", False),
        ("a b", "x", False),
        ("a", "-x", False),
        ("a", "x" * 64, False),
        ("a" * 64, "x", False),
        ("a", 'x"}', False),
        ("a\n", "x", False),
        ("A.example.com/b", "x", False),
    ],
)
def test_selectors(key: str, value: str, passes: bool) -> None:
    """A label that no node can carry is refused by name."""
    found = read(node_selector={"good": "one", key: value})
    assert passes is isinstance(found, Endpoint)
    if isinstance(found, Problem):
        assert ascii(key)[:40] in found.message


# Who has it

OLD = kamaji.cluster("old", uid="1", created="2026-01-01T00:00:00Z")
YOUNG = kamaji.cluster("young", uid="2", created="2026-01-01T00:00:01Z")
SAME_VIP = Key("vip", "10.0.0.100")


def test_claims() -> None:
    """K23: An address in any spelling, and a router id on an interface, belong to one cluster."""
    claimed = endpoint.claims(OLD)
    assert [SAME_VIP, Key("virtualRouterID", "51 on eth0")] == claimed
    spelled = kamaji.cluster(endpoint=kamaji.keepalived(vip="10.0.0.100/24"))
    assert claimed == endpoint.claims(spelled)


def test_nothing_is_claimed_by_others() -> None:
    """A cluster of another type, or without a virtual IP, claims nothing; a bad VIP no address."""
    held = kamaji.cluster()
    static = build.cluster(cluster_endpoint=held.spec.cluster_endpoint)
    assert [] == endpoint.claims(static)
    assert [] == endpoint.claims(kamaji.cluster(held=False))
    bad = kamaji.cluster(endpoint=kamaji.keepalived(vip="x"))
    assert ["virtualRouterID"] == [claim.namespace for claim in endpoint.claims(bad)]


def test_the_older_one_keeps_it() -> None:
    """K23: The younger is told who has it; the older one, and a cluster alone, are left alone."""
    problem = endpoint.rival(YOUNG, [OLD, YOUNG], SAME_VIP)
    assert problem is not None
    assert endpoint.CONFLICT == problem.reason
    assert "vip 10.0.0.100 belongs to DPUCluster ns/old; choose another" in problem.message
    assert endpoint.rival(OLD, [OLD, YOUNG], SAME_VIP) is None
    assert endpoint.rival(OLD, [OLD], SAME_VIP) is None


def test_one_that_goes_still_has_it() -> None:
    """While the older one is being deleted its keepalived may still run."""
    going = kamaji.cluster("old", uid="1", created="2026-01-01T00:00:00Z", deleting=True)
    problem = endpoint.rival(YOUNG, [going, YOUNG], SAME_VIP)
    assert problem is not None
    assert "ns/old, which is being deleted;" in problem.message


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_decision_rests_on_no_order(order: tuple[int, ...]) -> None:
    """Of clusters made in the same second exactly one has it, whoever asks, in whatever order."""
    made: list[DPUCluster] = [kamaji.cluster(name, uid=name) for name in ("a", "b", "c")]
    shuffled = [made[i] for i in order]
    problems = [endpoint.rival(one, shuffled, SAME_VIP) for one in made]
    assert problems[0] is None
    assert all(p is not None and "ns/a" in p.message for p in problems[1:])
