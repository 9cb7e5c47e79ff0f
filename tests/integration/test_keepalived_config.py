"""What the manager writes for keepalived, read by the real keepalived."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import containers, lan, processes, virtual_ip

NODES = tuple(
    virtual_ip.node(name, f"10.77.0.{number}", f"fd77::{number}")
    for number, name in enumerate(
        ("n1", "n1.example.com", "n10", "dpu-host-4", "ip-10-77-0-5.eu-1.compute.internal"), 11
    )
)
NAMES = tuple(node.name for node in NODES)


@pytest.fixture(scope="module")
def having() -> virtual_ip.Program:
    return virtual_ip.require()


@pytest.fixture(scope="module")
def host(having: virtual_ip.Program) -> Iterator[lan.Node]:
    """A node that has the interface."""
    assert having is not None
    with lan.Lan() as network:
        yield network.add("any", "10.77.0.11/24", "fd77::11/64")


@dataclasses.dataclass
class Runner:
    """Runs the DaemonSet's container on one node under many names."""

    host: lan.Node
    having: virtual_ip.Program
    directory: Path
    count: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def container(
        self, made: virtual_ip.Objects, name: str, *arguments: str
    ) -> containers.Container:
        """Started on the node ``name``, with more arguments."""
        pod = virtual_ip.pod(made, name, "10.77.0.11", self.having, arguments=arguments)
        directory = self.directory / str(next(self.count))
        container = containers.Container(pod, self.host, directory)
        container.start()
        return container

    def complaints(self, made: virtual_ip.Objects, *names: str) -> dict[str, str]:
        """What keepalived has to say against its configuration on nodes of these names."""
        tests = {name: self.container(made, name, "--config-test") for name in names}
        ended = {name: (test.wait(), test.log) for name, test in tests.items()}
        return {name: f"{code}: {log}" for name, (code, log) in ended.items() if code or log}

    def understood(self, made: virtual_ip.Objects, name: str) -> str:
        """What keepalived makes of its configuration, as it tells when it starts."""
        container = self.container(made, name, "--dump-conf")
        processes.eventually("the configuration is told", lambda: "sockpool" in container.log)
        container.kill()
        return container.log


@pytest.fixture
def runner(host: lan.Node, having: virtual_ip.Program, tmp_path: Path) -> Runner:
    return Runner(host, having, tmp_path)


@pytest.mark.parametrize("unicast", [False, True], ids=["multicast", "unicast"])
@pytest.mark.parametrize("vip", ["10.77.0.100", "10.77.0.100/24", "fd77::100", "fd77::100/64"])
def test_keepalived_accepts_every_configuration(vip: str, unicast: bool, runner: Runner) -> None:
    """The real keepalived has nothing to say against any configuration, on any node."""
    complaints: dict[str, str] = {}
    for count in (1, 2, 5):
        made = virtual_ip.objects(NODES[:count], vip, unicast=unicast, replicas=count)
        complaints |= runner.complaints(made, *NAMES[:count], "not-named-yet")
    assert {} == complaints


def test_keepalived_is_heard_when_it_complains(runner: Runner) -> None:
    """A check program that others may write to is told of: the tests above would see it."""
    made = copy.deepcopy(virtual_ip.objects(NODES[:2], "10.77.0.100"))
    (check,) = (volume for volume in made.pod["volumes"] if volume["name"] == "check")
    check["configMap"]["defaultMode"] = 0o777
    assert "due to insecure" in runner.complaints(made, "n1")["n1"]


def test_each_node_reads_its_own_lines(runner: Runner) -> None:
    """Priority, source and peers are those of the node, also where one name begins another."""
    made = virtual_ip.objects(NODES, "10.77.0.100", unicast=True, replicas=len(NODES))
    addresses = [f"10.77.0.{number}" for number in range(11, 16)]
    expected = {
        name: (
            str(254 - number),
            f"{addresses[number]} (from configuration)",
            [a for a in addresses if a != addresses[number]],
        )
        for number, name in enumerate(NAMES)
    }
    actual = {name: instance(runner.understood(made, name)) for name in NAMES}
    assert expected == actual


def test_a_node_that_is_not_named_yet_takes_part(runner: Runner) -> None:
    """Without a line of its own a node takes part with a priority that none of the others has."""
    made = virtual_ip.objects(NODES, "10.77.0.100", replicas=len(NODES))
    priority, _, _ = instance(runner.understood(made, "new"))
    assert "100" == priority


def instance(told: str) -> tuple[str, str, list[str]]:
    """Priority, source address and peers."""
    (priority,) = re.findall(r"^.*:    Priority = (\d+)$", told, re.MULTILINE)
    (source,) = re.findall(r"^.*Using src_ip = (.*)$", told, re.MULTILINE)
    return priority, source, re.findall(r"^.*:      (\S+) min_ttl", told, re.MULTILINE)


def test_an_interface_that_is_missing_ends_the_pod(runner: Runner) -> None:
    """On a node without the interface keepalived ends and says so, rather than wait unseen."""
    made = virtual_ip.objects(NODES[:2], "10.77.0.100", interface="eth9")
    container = runner.container(made, "n1")
    assert 2 == container.wait()
    assert "eth9 for vrrp_instance c doesn't exist" in container.log
