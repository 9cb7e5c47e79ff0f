"""One probe, carried out: by HTTP, by a connection, or by a program in the container."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import Callable, Sequence

from dpucluster.localplane.node import pods, probes

CommandIn = Callable[[Sequence[str]], list[str]]
"""From a command to the command line that runs it in the container."""
WELL = range(200, 400)


class Prober:
    """Probes one container.

    ``command_in`` leads into the container; ``address`` is the pod's.
    """

    def __init__(self, container: pods.Container, address: str, command_in: CommandIn) -> None:
        self._container = container
        self._address = address
        self._command_in = command_in
        self._context = ssl.create_default_context()
        # As kubelet: it asks whether the server answers, not who it is.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    async def is_well(self, probe: pods.Probe) -> bool:
        """Carry out ``probe``; whether it succeeded in time."""
        with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(probe.timeout_seconds):
                return await self._ask(probe)
        return False

    async def _ask(self, probe: pods.Probe) -> bool:
        if probe.http_get is not None:
            return await self._get(probe.http_get) in WELL
        if (socket := probe.tcp_socket) is not None:
            port = probes.port_number(self._container, socket.port)
            _, writer = await asyncio.open_connection(socket.host or self._address, port)
            writer.close()
            return True
        if probe.exec_ is not None:
            return await self._execute(probe.exec_.command) == 0
        return True

    async def _get(self, get: pods.HttpGet) -> int:
        host = get.host or self._address
        port = probes.port_number(self._container, get.port)
        context = self._context if get.scheme == "HTTPS" else None
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/dpucluster"}
            headers |= {each.name: each.value for each in get.http_headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"GET {get.path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            line = await reader.readline()
            return int(line.split()[1]) if line.startswith(b"HTTP/") else 0
        finally:
            writer.transport.abort()

    async def _execute(self, command: Sequence[str]) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command_in(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
