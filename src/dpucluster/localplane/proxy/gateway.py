"""The process at the edge of a world: the way in, its load balancers, its names.

Outside, one port of the loopback interface leads in. Who connects with TLS and asks for no server
name (an address has none) reaches the management API; who asks for ``<name>.<namespace>.svc``
reaches the tenant control plane of that name, by the address that the tenant itself announces. So
everybody's kubectl reaches every tenant by ``tls-server-name``, through one port that never
changes, and certificates are checked as ever: nothing is decrypted here.

The supervisor also comes in by a socket of its own, asking ``CONNECT host:port`` as of any proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from pathlib import Path

from dpucluster import errors
from dpucluster.api.meta import Key
from dpucluster.kube import client as kube_client
from dpucluster.localplane.proxy import follower, forwarder, hello, routes, services
from dpucluster.localplane.proxy import plan as plans
from dpucluster.runtime import informer

log = logging.getLogger(__name__)

HELLO_TIMEOUT = 10.0
"""Seconds for the first bytes of a connection."""
CONNECT_TIMEOUT = 10.0
LOCALHOST = "127.0.0.1 localhost\n"


class Gateway:
    """Everything above."""

    def __init__(self, plan: plans.Plan, client: kube_client.Client) -> None:
        self._plan = plan
        self._client = client
        self._follower = follower.Follower(client, balancers=True)
        self._tenants = informer.Informer(client, services.TENANTS, optional=True)
        self._hosts = ""

    async def run(self) -> None:
        """Serve until cancelled."""
        front = socket.socket(fileno=self._plan.front)
        async with (
            await asyncio.start_server(self._enter, sock=front),
            await asyncio.start_unix_server(self._serve_control, short(self._plan.control)),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._tenants.run())
            group.create_task(self._follower.run(self._follow_services))

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from outside."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                begin = await reader.readexactly(hello.HEADER)
                begin += await reader.readexactly(max(hello.length(begin) - hello.HEADER, 0))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            forwarder.reset(writer)
            return
        target = self._target(hello.server_name(begin))
        await self._lead(target, reader, writer, first=begin)

    async def _serve_control(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection of the supervisor's."""
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target = request.split()[:2]
            if method == "CONNECT":
                await self._lead(target, reader, writer, answer=b"HTTP/1.1 200 OK\r\n\r\n")
                return
        forwarder.reset(writer)

    async def _lead(
        self,
        target: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        first: bytes = b"",
        answer: bytes = b"",
    ) -> None:
        host, _, port = target.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                ends = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, TimeoutError, ValueError):
            forwarder.reset(writer)
            return
        writer.write(answer)
        ends[1].write(first)
        await forwarder.join((reader, writer), ends)

    def _target(self, name: str) -> str:
        """Where who asks for ``name`` is led; nowhere (an empty string) for an unknown tenant."""
        if not name.endswith((".svc", ".svc.cluster.local")):
            return self._plan.management
        service_name, namespace = name.split(".")[:2]
        key = Key(namespace, service_name)
        if (tenant := self._tenants.get(key)) is not None and tenant.status.control_plane_endpoint:
            return tenant.status.control_plane_endpoint
        service = self._follower.services.get(key)
        if service is None or not service.spec.ports:
            return ""
        return f"{service.spec.cluster_ip}:{service.spec.ports[0].port}"

    async def _follow_services(self) -> None:
        self._write_hosts()
        await self._balance()

    def _write_hosts(self) -> None:
        known = routes.names(self._follower.services.values())
        lines = (f"{address} {' '.join(aliases)}\n" for address, aliases in sorted(known.items()))
        text = LOCALHOST + "".join(lines)
        if text != self._hosts:
            # In place: the file itself is mounted in many places.
            Path(self._plan.hosts).write_text(text, encoding="utf-8")
            self._hosts = text

    async def _balance(self) -> None:
        """Give every load balancer that has no address one."""
        pool = map(str, ipaddress.ip_network(self._plan.balancers).hosts())
        for key, address in routes.without_address(self._follower.services.values(), pool).items():
            status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}
            try:
                await self._client.merge_patch(
                    services.SERVICES,
                    key.name,
                    {"status": status},
                    key.namespace,
                    subresource="status",
                )
            except errors.ApiError as error:
                log.warning("no address given", extra={"service": str(key), "error": str(error)})


def short(path: str) -> str:
    """A path to the same place that is short enough for a socket, and as good for as long as we.

    The directory stays open for that.
    """
    directory, name = os.path.split(path)
    return f"/proc/self/fd/{os.open(directory, os.O_PATH | os.O_DIRECTORY)}/{name}"
