"""keepalived of one cluster on the nodes of a ``lan``, as the manager's objects say.

Each node has a stand-in for the tenant's API server, and the container of the DaemonSet.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from dpucluster.api.dpucluster import ClusterEndpoint, Keepalived
from dpucluster.api.meta import ObjectMeta
from dpucluster.localplane import progress
from dpucluster.localplane.kamaji import keepalived as program
from dpucluster.managers.kamaji import keepalived, kinds, plan
from dpucluster.managers.kamaji.observation import Observed
from dpucluster.managers.kamaji.options import KamajiOptions
from tests.support import build, certificates, containers, lan, processes

PORT = 31443
ROUTER_ID = 126
SETTLED = f"preempt_delay {keepalived.PREEMPT_SECONDS}"
TENANT_API = Path(__file__).with_name("tenant_api.py")


@dataclasses.dataclass(frozen=True)
class Program:
    """Where keepalived is: in an ``image``, or in directories of this machine."""

    path: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    image: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What it needs to run."""
        return {"LD_LIBRARY_PATH": ":".join(self.libraries)} if self.libraries else {}


def require() -> Program:
    """keepalived, downloaded if this machine has none; skips the test where it cannot run."""
    if lacking := lan.lacking():
        pytest.skip(f"real keepalived was NOT tested: that needs {lacking}")
    found = program.find(progress.for_stream())
    if found.root is None:
        pytest.skip(f"real keepalived was NOT tested: {found.advice}")
    if not found.root:
        return Program()
    root = Path(found.root)
    libraries = (*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu"))
    return Program((str(root / "usr/sbin"),), tuple(map(str, libraries)))


@dataclasses.dataclass(frozen=True)
class Objects:
    """What the manager makes of one cluster, on the wire."""

    pod: dict[str, Any]
    config_map: dict[str, str]


def node(name: str, *addresses: str) -> kinds.Node:
    """A control-plane node."""
    return kinds.Node(
        ObjectMeta(name=name, labels={kinds.LABELS_CONTROL_PLANE[0]: ""}),
        kinds.NodeStatus(tuple(kinds.NodeAddress("InternalIP", a) for a in addresses)),
    )


def objects(
    nodes: Sequence[kinds.Node],
    vip: str,
    *,
    interface: str = lan.INTERFACE,
    unicast: bool = False,
    replicas: int = 0,
) -> Objects:
    """ConfigMap and pod spec of keepalived on ``nodes``, the first of them the first choice."""
    ages = [f"2026-01-01T00:00:{n:02}Z" for n in range(len(nodes))]
    aged = (
        kinds.Node(
            ObjectMeta(name=n.name, labels=n.metadata.labels, creation_timestamp=a), n.status
        )
        for n, a in zip(nodes, ages, strict=True)
    )
    asked = Keepalived(vip=vip, virtual_router_id=ROUTER_ID, interface=interface)
    observed = Observed(
        build.cluster(type_="kamaji", cluster_endpoint=ClusterEndpoint(keepalived=asked)),
        KamajiOptions(keepalived_unicast=unicast, replicas=replicas),
        service=kinds.Service(
            ObjectMeta(name="c"),
            kinds.ServiceSpec(
                type="NodePort",
                ports=(kinds.ServicePort(name=kinds.API_PORT_NAME, node_port=PORT),),
            ),
        ),
        check_service=kinds.Service(
            ObjectMeta(name="c-check"),
            # leads to the node's own API server, as the Service's address does behind kube-proxy
            kinds.ServiceSpec(cluster_ip="::1" if ":" in vip else "127.0.0.1"),
        ),
        nodes=tuple(aged),
    )
    decided = plan.make(observed)
    config_map = keepalived.config_map(observed, decided)
    daemon_set = keepalived.daemon_set(observed, decided)
    assert config_map is not None, decided
    assert daemon_set is not None, decided
    data = dict(config_map.content["data"])
    # the one value that tests cannot wait for
    data[keepalived.CONFIG_KEY] = data[keepalived.CONFIG_KEY].replace(SETTLED, "preempt_delay 2")
    return Objects(daemon_set.content["spec"]["template"]["spec"], data)


def pod(
    made: Objects,
    node_name: str,
    node_ip: str,
    having: Program,
    *,
    authority: str = "",
    arguments: Sequence[str] = (),
) -> containers.Pod:
    """The pod of the DaemonSet on one node."""
    contents = {
        f"configMap/{plan.keepalived_name('c')}": made.config_map,
        "secret/c-ca": {"ca.crt": authority},
    }
    fields = {"spec.nodeName": node_name, "status.hostIP": node_ip}
    return containers.Pod(
        made.pod, fields, contents, having.path, having.variables, arguments, having.image
    )


class TenantApi:
    """The stand-in for the API server on one node."""

    def __init__(self, on: lan.Node, address: str, chain: Path) -> None:
        self._command = on.namespace.inside(
            sys.executable, "-I", str(TENANT_API), address, str(PORT), str(chain)
        )
        self._log = chain.with_name(f"api-{on.name}.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, status: int = 200) -> None:
        """Serve; ``/livez`` answers with ``status``."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*self._command, str(status)], stdout=log)

    @property
    def asked(self) -> int:
        """How often it was asked since it was started."""
        return self._log.read_bytes().count(b"asked")

    def silence(self) -> None:
        """Answer no more; connections are still accepted."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def speak(self) -> None:
        """Answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Be gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class VirtualIP:
    """keepalived and a tenant's API server on each node of ``network``."""

    def __init__(
        self, network: lan.Lan, where: Path, having: Program, *, vip: str, **options: Any
    ) -> None:
        self.network = network
        self.vip = vip.partition("/")[0]
        version = 6 if ":" in vip else 4
        authority = certificates.Authority("tenant")
        self.authority = where / "ca.crt"
        self.authority.write_bytes(authority.pem)
        pair = authority.server(self.vip)
        chain = where / "chain.pem"
        chain.write_bytes(pair.cert_pem + pair.key_pem)
        addresses = {n.name: n.address(version) for n in network.nodes}
        made = objects([node(n, a) for n, a in addresses.items()], vip, **options)
        anywhere = "::" if version == 6 else "0.0.0.0"  # noqa: S104 - in a namespace
        self.apis = {n.name: TenantApi(n, anywhere, chain) for n in network.nodes}
        self.containers = {
            n.name: containers.Container(
                pod(made, n.name, addresses[n.name], having, authority=authority.pem.decode()),
                n,
                where / n.name,
            )
            for n in network.nodes
        }

    def start(self) -> None:
        """Start everything."""
        for api in self.apis.values():
            api.start()
        for container in self.containers.values():
            container.start()

    def holders(self) -> list[str]:
        """Names of the nodes that have the address."""
        return self.network.holders(self.vip)

    def settles(self, *expected: str) -> None:
        """The address comes to be held by the ``expected`` nodes alone."""
        wanted = list(expected)
        processes.eventually(
            f"{self.vip} held by {wanted or 'nobody'}, not by {self.holders()}\n{self._logs()}",
            lambda: wanted == self.holders(),
            patience=60,
        )

    def _logs(self) -> str:
        return "\n".join(f"--- {n}\n{c.log}" for n, c in self.containers.items())

    def ask(self) -> str:
        """The status with which the tenant answers on the address, asked from another host."""
        host = f"[{self.vip}]" if ":" in self.vip else self.vip
        url = f"https://{host}:{PORT}/livez"
        curl = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
        into = self.network.switch.inside(
            *curl, "--noproxy", "*", "--max-time", "5", "--cacert", str(self.authority), url
        )
        return lan.run(into)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for container in self.containers.values():
            container.kill()
        for api in self.apis.values():
            api.kill()
