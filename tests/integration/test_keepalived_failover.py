"""The virtual IP of two nodes, held by real keepalived as the DaemonSet runs it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import containers, lan, processes, virtual_ip

FIRST, SECOND = "n1", "dpu-host-2.example.com"
RIGHTS = {"NET_ADMIN": 12, "NET_RAW": 13, "SETGID": 6}
"""Capabilities, and the kernel's numbers for them."""
TRIES = 5
RUNS = 4
"""Runs of the check that take longer than a node waits for the other's announcement."""

IPV4: dict[str, Any] = {"vip": "10.77.0.100"}
UNICAST: dict[str, Any] = {"vip": "10.77.0.100/24", "unicast": True}
IPV6: dict[str, Any] = {"vip": "fd77::100/64"}
ALL = pytest.mark.parametrize(
    "pair", [IPV4, UNICAST, IPV6], ids=["ipv4", "unicast", "ipv6"], indirect=True
)
ONE = pytest.mark.parametrize("pair", [IPV4], ids=["ipv4"], indirect=True)


@pytest.fixture(scope="module")
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[virtual_ip.VirtualIP]:
    """Two nodes that run; a test begins and ends with the address on the first."""
    having = virtual_ip.require()
    directory = tmp_path_factory.mktemp("pair")
    with lan.Lan("10.77.0.1/24", "fd77::1/64") as network:
        network.add(FIRST, "10.77.0.11/24", "fd77::11/64")
        network.add(SECOND, "10.77.0.12/24", "fd77::12/64")
        with virtual_ip.VirtualIP(network, directory, having, **request.param) as running:
            running.start()
            running.settles(FIRST)
            yield running


@ALL
def test_the_first_node_holds_the_address(pair: virtual_ip.VirtualIP) -> None:
    """The node with the highest priority holds it, and the tenant answers there to others."""
    pair.settles(FIRST)
    assert "200" == pair.ask()


@ALL
def test_a_pod_that_ends_hands_the_address_over(pair: virtual_ip.VirtualIP) -> None:
    """A pod that is deleted leaves nothing behind; the other node takes over, until it is back."""
    pair.settles(FIRST)
    pair.containers[FIRST].terminate()
    assert FIRST not in pair.holders()
    pair.settles(SECOND)
    assert "200" == pair.ask()
    pair.containers[FIRST].start()
    pair.settles(FIRST)


@ONE
def test_a_silent_api_server_loses_the_address(pair: virtual_ip.VirtualIP) -> None:
    """Where the API server takes connections and answers none, the address cannot be."""
    pair.settles(FIRST)
    pair.apis[FIRST].silence()
    pair.settles(SECOND)
    assert "200" == pair.ask()
    pair.apis[FIRST].speak()
    pair.settles(FIRST)


@ONE
def test_a_cut_link_loses_the_address(pair: virtual_ip.VirtualIP) -> None:
    """A node that is cut off gives the address up, and takes it again once it is connected."""
    first, _ = pair.network.nodes
    pair.settles(FIRST)
    pair.network.cut(first)
    pair.settles(SECOND)
    assert "200" == pair.ask()
    pair.network.mend(first)
    pair.settles(FIRST)


@ONE
def test_a_lost_interface_comes_back(pair: virtual_ip.VirtualIP) -> None:
    """An interface that is removed and made again is used again, without a restart."""
    first, _ = pair.network.nodes
    pair.settles(FIRST)
    first.unplug()
    pair.settles(SECOND)
    first.plug(pair.network.switch)
    pair.settles(FIRST)


@ONE
def test_what_a_killed_pod_left_is_cleared(pair: virtual_ip.VirtualIP) -> None:
    """A killed keepalived leaves its address on the host; the next one removes it first of all."""
    pair.settles(FIRST)
    pair.containers[FIRST].kill()
    pair.settles(FIRST, SECOND)
    pair.apis[FIRST].silence()  # so that it is not just taken over again
    pair.containers[FIRST].start()
    pair.settles(SECOND)
    pair.apis[FIRST].speak()
    pair.settles(FIRST)


@ONE
def test_nobody_holds_the_address_before_an_api_server_answers(pair: virtual_ip.VirtualIP) -> None:
    """While no API server is well the address is nowhere, though all pods are ready."""
    for container in pair.containers.values():
        container.terminate()
    for api in pair.apis.values():
        api.kill()
        api.start(status=500)
    for container in pair.containers.values():
        container.start()
    for api in pair.apis.values():
        processes.eventually("it was asked", lambda api=api: api.asked >= TRIES * RUNS)  # type: ignore[misc]
    assert [] == pair.holders()
    assert {FIRST: 0, SECOND: 0} == {
        name: container.probe("readinessProbe") for name, container in pair.containers.items()
    }
    for api in pair.apis.values():
        api.kill()
        api.start(status=401)
    pair.settles(FIRST)


@ONE
def test_keepalived_has_no_right_but_three(pair: virtual_ip.VirtualIP) -> None:
    """All its processes have three capabilities, and no way to get more."""
    wanted = sum(1 << number for number in RIGHTS.values())
    expected = {"CapEff": wanted, "CapPrm": wanted, "CapBnd": wanted, "NoNewPrivs": 1}
    found = pair.containers[FIRST].processes()
    assert 2 <= len(found)
    assert [expected] * len(found) == [status(pid, *expected) for pid in found]


def status(pid: int, *fields: str) -> dict[str, int]:
    """Rights of a process, as the kernel tells."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return {name: int(told[name].strip(), 16) for name in fields}


@ONE
def test_both_probes_pass(pair: virtual_ip.VirtualIP) -> None:
    """A pod that runs is alive and ready."""
    probes = ("livenessProbe", "readinessProbe")
    assert [0, 0] == [pair.containers[FIRST].probe(probe) for probe in probes]


@ONE
def test_a_pod_whose_check_never_runs_is_not_ready(
    pair: virtual_ip.VirtualIP, tmp_path: Path
) -> None:
    """A check that keepalived may not start counts as a success with it, and not with the probe."""
    first, _ = pair.network.nodes
    pod = pair.containers[FIRST].pod
    spec: dict[str, Any] = copy.deepcopy(dict(pod.spec))
    spec["containers"][0]["securityContext"]["capabilities"]["add"].remove("SETGID")
    pair.containers[FIRST].terminate()
    lesser = containers.Container(dataclasses.replace(pod, spec=spec), first, tmp_path / "lesser")
    lesser.start()
    processes.eventually("it takes it for a success", lambda: "succeeded" in lesser.log)
    probes = ("livenessProbe", "readinessProbe")
    assert [True, False] == [lesser.probe(probe) == 0 for probe in probes]
    lesser.terminate()
    pair.containers[FIRST].start()
    pair.settles(FIRST)
