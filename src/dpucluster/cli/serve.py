"""Puts the parts of ``dpucluster run`` together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import socket
import uuid
from pathlib import Path

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.api.meta import Key
from dpucluster.dpfoperator import runner
from dpucluster.kube import client as kube_client
from dpucluster.kube import config
from dpucluster.lifecycle import census
from dpucluster.lifecycle.stage import LifecycleStage
from dpucluster.managers.kamaji.manager import KamajiManager
from dpucluster.managers.kamaji.options import KamajiOptions
from dpucluster.managers.static import StaticManager
from dpucluster.runtime import clock as clocks
from dpucluster.runtime import controller, lease, process, server
from dpucluster.runtime import log as runtime_log
from dpucluster.runtime import metrics as runtime_metrics
from dpucluster.sdk import ManagerStage, Stage, host, roles
from dpucluster.tenant import health as tenant_health

log = logging.getLogger(__name__)

SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags of ``dpucluster run``; durations in seconds."""

    roles: tuple[str, ...] = ()
    kubeconfig: str | None = None
    namespaces: tuple[str, ...] = ()
    leader_elect: bool = True
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    lease_namespace: str = ""
    metrics_bind_address: str = ":8080"
    health_probe_bind_address: str = ":8081"
    workers: int = controller.DEFAULT_WORKERS
    probe_interval: float = 30.0
    probe_timeout: float = 5.0
    probe_failure_threshold: int = 3
    kamaji: KamajiOptions = KamajiOptions()  # noqa: RUF009 - frozen
    log_format: str = "text"
    verbose: int = 0

    def __post_init__(self) -> None:
        """Refuse times between which leadership could be held twice."""
        if not self.retry_period < self.renew_deadline < self.lease_duration:
            raise errors.ConfigError(
                "leader election needs retry-period < renew-deadline < lease-duration, got "
                f"{self.retry_period:g}s, {self.renew_deadline:g}s, {self.lease_duration:g}s"
            )


def main(settings: Settings) -> None:
    """Run until a signal says to stop.

    Errors:
        The first expected error of those that ended the process, if only such did.
    """
    runtime_log.setup(settings.log_format, settings.verbose)
    try:
        process.run(functools.partial(serve, settings))
    except BaseExceptionGroup as group:
        expected, others = group.split(errors.DpuClusterError)
        if expected is None or others is not None:
            raise
        raise _first(expected) from group


def _first(group: BaseExceptionGroup[errors.DpuClusterError]) -> errors.DpuClusterError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run the roles that ``settings`` name, or those a DPFOperatorConfig switches on."""
    clock = clocks.SystemClock()
    metrics = runtime_metrics.Metrics()
    me = identity()
    connection = config.load(settings.kubeconfig)
    log.info("starting", extra={"server": connection.server, "identity": me})
    async with (
        kube_client.Client(connection, observe=metrics.request) as client,
        # connections of their own: a renewal must not wait behind a thousand other requests
        kube_client.Client(connection, observe=metrics.request) as elections,
    ):
        elect = election_factory(elections, settings, identity=me, clock=clock, metrics=metrics)
        runs = host.Host(
            client,
            stages(settings),
            election=elect,
            options=options(settings),
            clock=clock,
            metrics=metrics,
            identity=me,
        )
        checks = {"caches": runs.is_synced, "leadership": lambda: not runs.waiting()}
        beside = []
        if settings.roles:
            runs.switch(runs.managed)
        else:
            operator = runner.OperatorRunner(
                client,
                runs.clusters,
                runs,
                runs.recorder,
                election=elect(contract.COMPONENT_OPERATOR),
                singleton=Key(contract.OPERATOR_NAMESPACE, contract.OPERATOR_CONFIG_NAME),
                namespaces=settings.namespaces,
                clock=clock,
                metrics=metrics,
            )
            beside.append(operator.run)
            checks["dpfoperatorconfig"] = operator.is_synced
        async with server.Server(
            metrics,
            metrics_address=settings.metrics_bind_address,
            probes_address=settings.health_probe_bind_address,
            checks=checks,
        ):
            await runs.run(stop, *beside)


def stages(settings: Settings) -> list[Stage]:
    """The stages this process may run, managers first and the lifecycle last."""
    available: dict[str, Stage] = {
        "static": ManagerStage(contract.COMPONENT_STATIC, StaticManager()),
        "kamaji": ManagerStage(contract.COMPONENT_KAMAJI, KamajiManager(settings.kamaji)),
        "lifecycle": LifecycleStage(
            census.Census(settings.namespaces), settings.probe_failure_threshold
        ),
    }
    wanted = settings.roles or tuple(available)
    return [stage for role, stage in available.items() if role in wanted]


def options(settings: Settings) -> host.Options:
    """The host's part of the flags."""
    return host.Options(
        namespaces=settings.namespaces,
        workers=settings.workers,
        probes=tenant_health.ProbeOptions(
            interval=settings.probe_interval,
            timeout=settings.probe_timeout,
            failure_threshold=settings.probe_failure_threshold,
        ),
    )


def election_factory(
    client: kube_client.Client,
    settings: Settings,
    *,
    identity: str,
    clock: clocks.Clock,
    metrics: runtime_metrics.Metrics,
) -> host.ElectionFactory:
    """From a component's name to its election."""
    if not settings.leader_elect:
        return lambda _component: roles.Unelected()
    namespace = settings.lease_namespace or own_namespace()
    return lambda component: lease.LeaderElector(
        client,
        name=contract.lease_name(component),
        namespace=namespace,
        identity=identity,
        lease_duration=settings.lease_duration,
        renew_deadline=settings.renew_deadline,
        retry_period=settings.retry_period,
        clock=clock,
        metrics=metrics,
    )


def own_namespace() -> str:
    """The pod's namespace, else the operator's."""
    with contextlib.suppress(OSError):
        if found := SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip():
            return found
    return os.environ.get("POD_NAMESPACE") or contract.OPERATOR_NAMESPACE


def identity() -> str:
    """The pod's name where it is given, so that a restarted container goes on at once.

    Else a unique one: the host's name alone is shared by pods on the node's network.
    """
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}_{uuid.uuid4()}"
