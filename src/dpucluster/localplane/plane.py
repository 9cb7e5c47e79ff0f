"""A Kubernetes control plane on this machine: a management plane or a tenant.

An API server (RBAC, Node authorization, service accounts, client certificates, the default
admission plugins) on an etcd that it may share with others, and a controller manager when asked
for. Several planes run side by side: nothing is shared but the machine.

Everything blocks except the asynchronous context manager. Processes are started from the main
thread only (see ``process``).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from dpucluster import errors
from dpucluster.kube import config as kube_config
from dpucluster.kube import connection as kube_connection
from dpucluster.localplane import (
    apiserver,
    controllermanager,
    endpoint,
    etcd,
    files,
    kubeconfig,
    ports,
    process,
)

ADMIN = "kubernetes-admin"
ADMIN_GROUPS = ("system:masters",)
READY_TIMEOUT = 120.0
"""Seconds; 4 are usual, but a machine that also compiles takes many times that."""
POLL = 0.05
STOP_GRACE = 10.0
INSIDE_PORT = 6443
"""Of an API server with a network of its own."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def endpoint_of(directory: Path, port: int) -> endpoint.Endpoint:
    """The API server of the plane whose files are in ``directory``, as its administrator."""
    keys = directory / "pki"
    context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
    return endpoint.Endpoint(ports.LOOPBACK, port, context)


class Site(Protocol):
    """A place with a network of its own, in which the programs of a plane can run."""

    address: str
    """Where the API server listens in there."""
    port: int
    """Of the loopback interface out here; leads to it."""

    def program(
        self, name: str, command: Sequence[str], *, log: Path, cwd: Path
    ) -> process.Program:
        """A program that runs in there."""


class ControlPlane:
    """One control plane.

    Use it as a (synchronous or asynchronous) context manager, or ``start`` and ``close``; between
    these it can be stopped, frozen and started again, always on the same port.

    Attributes:
        name: Names the cluster entry of the kubeconfig, and the prefix in etcd.
        directory: All its files.
        kubeconfig: The administrator's kubeconfig, a file.
        audit_log: The audit log (JSON lines, level Metadata), if there is one.
        authority: Signs the certificates of the server and of its users.
    """

    def __init__(
        self,
        name: str,
        *,
        binaries: Mapping[str, Path],
        storage: etcd.Etcd,
        directory: Path,
        port: int = 0,
        audit: bool = False,
        durable: bool = False,
        site: Site | None = None,
    ) -> None:
        """Prepare keys, certificates and files, and take the port; nothing runs yet.

        Args:
            name: As of a DNS label.
            binaries: ``kube-apiserver`` and, when it is wanted, ``kube-controller-manager``.
            storage: The etcd, to be started by the caller.
            directory: Where files go; what an earlier plane left there is taken up.
            port: Of the API server; 0 is any that is free.
            audit: Whether to write ``audit_log``.
            durable: Whether the plane ends gently, for state that is kept.
            site: Where it runs, if not simply here; its port is the one to use then.

        Raises:
            PlaneError: the port is taken, or a file cannot be written.
        """
        if not NAME.fullmatch(name):
            raise errors.PlaneError(f"{name!r} is no name for a plane: write it as a DNS label")
        self.name = name
        self.directory = files.make_private_directory(directory)
        self.audit_log = directory / "audit.log" if audit else None
        self.kubeconfig = directory / "kubeconfig"
        self._grace = STOP_GRACE if durable else 0.0
        self._storage = storage
        self._site = site
        self._reservation = ports.Reservation(port) if site is None else None
        address = ports.LOOPBACK if site is None else site.address
        try:
            self._keys = apiserver.prepare(directory / "pki", name, address)
            self.authority = self._keys.authority
            files.write(self.kubeconfig, self.client_kubeconfig())
            self.endpoint = endpoint_of(directory, self.port)
            self.api_server = self._api_server(binaries["kube-apiserver"])
            self.controller_manager = self._controller_manager(binaries)
        except BaseException:
            self._let_go()
            raise

    @property
    def port(self) -> int:
        """The port of the API server on the loopback interface."""
        if self._site is not None:
            return self._site.port
        assert self._reservation is not None  # noqa: S101 - taken where there is no site
        return self._reservation.port

    @property
    def server(self) -> str:
        """The address of the API server."""
        return f"https://{ports.LOOPBACK}:{self.port}"

    @property
    def inside_server(self) -> str:
        """The address of the API server where it runs."""
        return f"https://{self._site.address}:{INSIDE_PORT}" if self._site else self.server

    @property
    def connection(self) -> kube_connection.Connection:
        """For ``kube.client.Client``, as administrator."""
        return kube_config.load(str(self.kubeconfig), env={})

    @property
    def programs(self) -> tuple[process.Program, ...]:
        """What of it has been started."""
        return tuple(p for p in (self.api_server, self.controller_manager) if p.pid)

    def client_kubeconfig(
        self,
        *,
        user: str = ADMIN,
        groups: Sequence[str] = ADMIN_GROUPS,
        cluster: str = "",
        server: str = "",
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
    ) -> str:
        """A kubeconfig with a new client certificate.

        ``cluster`` names the cluster entry, ``server`` is the address if not that from here.
        """
        return kubeconfig.render(
            cluster=cluster or self.name,
            server=server or self.server,
            authority=self.authority.certificate,
            user=user,
            pair=self.authority.client(user, groups, not_before=not_before, not_after=not_after),
        )

    def start(self) -> None:
        """Start the API server and wait until it is ready.

        Raises:
            PlaneError: it ended, or was not ready in time; with the end of its log.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the API server without waiting; several planes start faster that way."""
        self.api_server.start()

    def wait_ready(
        self, timeout: float = READY_TIMEOUT, *, tick: Callable[[], object] = lambda: None
    ) -> None:
        """Wait for ``/readyz`` and the first namespaces; ``tick`` is called all the while."""
        deadline = time.monotonic() + timeout
        for path in ("/readyz", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/default"):
            while not self.endpoint.is_there(path):
                self.api_server.check()
                if time.monotonic() > deadline:
                    raise errors.PlaneError(
                        f"{self.api_server.name} did not answer {path} within {timeout:.0f} s; "
                        f"the end of {self.api_server.log}:\n{self.api_server.tail()}"
                    )
                tick()
                time.sleep(POLL)

    def start_controller_manager(self) -> None:
        """Start the controller manager; the API server must be ready, or it ends at once.

        Install the custom resources first: the garbage collector looks for new kinds only every
        30 s.
        """
        self.controller_manager.start()

    def stop(self) -> None:
        """End all its processes; the port stays taken, and ``start`` brings it back."""
        self.controller_manager.kill()
        self.api_server.stop(grace=self._grace)

    def kill(self) -> None:
        """End all its processes at once."""
        self.controller_manager.kill()
        self.api_server.kill()

    def restart(self) -> None:
        """Stop and start the API server, and the controller manager if it ran."""
        had_controllers = self.controller_manager.is_running
        self.stop()
        self.start()
        if had_controllers:
            self.start_controller_manager()

    def freeze(self) -> None:
        """Stop the API server where it stands: connections are accepted and nothing answers."""
        self.api_server.freeze()

    def thaw(self) -> None:
        """Let a frozen API server go on."""
        self.api_server.thaw()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen for the length of a ``with`` block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def check(self) -> None:
        """Raise ``PlaneError`` if a process that was started is gone."""
        for program in self.programs:
            program.check()

    def close(self) -> None:
        """Stop, and give the port back."""
        self.stop()
        self._let_go()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            self.launch()
            await asyncio.to_thread(self.wait_ready)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def _let_go(self) -> None:
        if self._reservation is not None:
            self._reservation.close()

    def _program(
        self, name: str, command: Sequence[str], *, log: Path, cwd: Path
    ) -> process.Program:
        if self._site is not None:
            return self._site.program(name, command, log=log, cwd=cwd)
        return process.Program(name, command, log=log, cwd=cwd)

    def _api_server(self, binary: Path) -> process.Program:
        command = apiserver.command(
            binary,
            self._keys,
            port=self.port if self._site is None else INSIDE_PORT,
            address=ports.LOOPBACK if self._site is None else self._site.address,
            etcd_servers=self._storage.endpoint,
            etcd_prefix=f"/{self.name}",
            audit_log=self.audit_log,
        )
        return self._program(
            f"kube-apiserver of {self.name}",
            command,
            log=self.directory / "kube-apiserver.log",
            cwd=self._storage.directory,
        )

    def _controller_manager(self, binaries: Mapping[str, Path]) -> process.Program:
        conf = files.write(
            self.directory / "controller-manager.conf",
            self.client_kubeconfig(
                user=controllermanager.USER, groups=(), server=self.inside_server
            ),
        )
        return self._program(
            f"kube-controller-manager of {self.name}",
            controllermanager.command(
                binaries.get("kube-controller-manager", Path("kube-controller-manager")),
                self._keys,
                conf,
                has_nodes=self._site is not None,
            ),
            log=self.directory / "kube-controller-manager.log",
            cwd=self.directory,
        )
