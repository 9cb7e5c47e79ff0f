"""Time, writes, CPU and memory of many static clusters, and the ratio to the floor.

    python -m tests.bench [--clusters 1000] [--rounds 3]

The controllers and the floor take turns on one API server, each round on fresh objects, so that
a slow machine slows both. What is timed begins when the controllers may begin (they hold their
Leases and their caches are complete) and ends when the last cluster is Ready.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dpucluster.localplane import binaries, etcd, install, plane, progress
from tests.support.adopted import Adopted
from tests.support.audit import AuditLog
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi

MIB = 1 << 20
POLL = 0.1
AGENT = "dpucluster/"


@dataclasses.dataclass(frozen=True)
class Figures:
    """One round of the controllers."""

    seconds: float
    cpu: float
    rss_idle: float
    rss: float
    writes: float
    events: float
    refused: int


@dataclasses.dataclass(frozen=True)
class Planes:
    """Where it happens."""

    management: plane.ControlPlane
    tenant: plane.ControlPlane
    api: KubeApi
    directory: Path


@contextlib.contextmanager
def planes() -> Iterator[Planes]:
    """A management plane and one tenant, gone afterwards."""
    found = binaries.ensure(progress=progress.for_stream())
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        directory = Path(scratch)
        storage = etcd.Etcd(found["etcd"], directory / "etcd")
        storage.start()
        stack.callback(storage.stop)

        def started(name: str, *, audit: bool) -> plane.ControlPlane:
            where = directory / name
            server = plane.ControlPlane(
                name, binaries=found, storage=storage, directory=where, audit=audit
            )
            return stack.enter_context(server)

        management = started("management", audit=True)
        tenant = started("tenant", audit=False)
        install.install(management.endpoint)
        api = stack.enter_context(contextlib.closing(KubeApi(management.kubeconfig)))
        yield Planes(management, tenant, api, directory)


def create(where: Planes, namespace: str, count: int) -> Adopted:
    """The namespace, the Secrets and the DPUClusters of one round, as users would make them."""
    install.apply_namespace(where.management.endpoint, namespace)
    clusters = Adopted(where.api, namespace, where.tenant, count)
    clusters.create()
    return clusters


def floor(where: Planes, namespace: str, count: int) -> float:
    """Seconds a bare client takes for the same writes, in a process of its own."""
    create(where, namespace, count)
    command = [sys.executable, "-m", "tests.bench.floor", str(where.management.kubeconfig)]
    done = subprocess.run([*command, namespace], check=True, capture_output=True, text=True)
    return float(done.stdout)


def controllers(where: Planes, namespace: str, count: int) -> Figures:
    """One round of ``dpucluster run lifecycle static``."""
    assert where.management.audit_log is not None
    audit, progress = (AuditLog(where.management.audit_log) for _ in range(2))
    clusters = create(where, namespace, count)
    audit.mark()
    progress.mark()
    log = where.directory / f"{namespace}.log"
    roles = ("lifecycle", "static", f"--namespace={namespace}")
    with Controllers(where.management.kubeconfig, log, *roles) as running:
        running.wait_log("became leader")
        started, cpu, idle = time.monotonic(), cpu_seconds(running.pid), rss_mib(running.pid)
        wait_ready(progress, clusters, running)
        seconds = time.monotonic() - started
        cpu = cpu_seconds(running.pid) - cpu
        rss = rss_mib(running.pid)
    done = [e for e in audit.writes(user_agent=AGENT) if e.namespace == namespace]
    on_clusters = sum(e.resource == "dpuclusters" for e in done)
    told = sum(e.resource == "events" for e in done)
    refused = sum(e.status >= 400 for e in done)
    return Figures(seconds, cpu, idle, rss, on_clusters / count, told / count, refused)


def wait_ready(audit: AuditLog, clusters: Adopted, running: Controllers) -> None:
    """Return when all are Ready.

    The audit log is read until as many writes as that takes were made, each line of it once, the
    objects only then: to read a thousand of either again and again would take a core of its own,
    and the floor is measured with nobody looking.
    """
    until = time.monotonic() + 600
    needed = 2 * clusters.count
    seen = 0
    while seen < needed and time.monotonic() < until:
        time.sleep(POLL)
        seen += sum(
            e.is_write
            and e.resource == "dpuclusters"
            and e.namespace == clusters.namespace
            and e.subresource == "status"
            for e in audit.fresh()
        )
    if seen < needed:
        raise SystemExit(f"not Ready in time: {running.text[-2000:]}")
    clusters.wait_ready(timeout=600)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Resident memory of the process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    floors: list[float] = []
    figures: list[Figures] = []
    with planes() as where:
        for n in range(options.rounds):
            floors.append(floor(where, f"floor-{n}", options.clusters))
            figures.append(controllers(where, f"controllers-{n}", options.clusters))
            print(f"round {n + 1}: floor {floors[-1]:.1f} s, {figures[-1]}", flush=True)
    report(options.clusters, floors, figures)


def report(count: int, floors: list[float], figures: list[Figures]) -> None:
    """Medians, and the ratio round by round."""
    ratios = [f.seconds / bare for f, bare in zip(figures, floors, strict=True)]

    def median(field: str) -> float:
        return float(statistics.median(getattr(f, field) for f in figures))

    print(f"{count} static clusters, medians of {len(figures)} rounds")
    print(f"  floor, a bare client         {statistics.median(floors):8.1f} s")
    print(f"  controllers, first to last   {median('seconds'):8.1f} s")
    print(f"  ratio to the floor           {statistics.median(ratios):8.2f}   goal 1.30")
    print(f"  writes per cluster           {median('writes'):8.2f}   budget 3")
    print(f"  Events per cluster           {median('events'):8.2f}")
    print(f"  refused writes               {median('refused'):8.0f}")
    print(f"  CPU of the controllers       {median('cpu'):8.1f} s")
    print(f"  memory, caches filled        {median('rss_idle'):8.0f} MiB")
    print(f"  memory, all Ready            {median('rss'):8.0f} MiB, budget 100")


if __name__ == "__main__":
    main()
