"""The way into a world, seen from outside: one port for everybody, one socket for ourselves."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import files, plane, ports, process, stack, world
from dpucluster.localplane.kamaji import addresses
from dpucluster.localplane.proxy import plan as plans

BACKLOG = 128
READY_TIMEOUT = 30.0
POLL = 0.02
CONTROL = "gate.sock"


class Gate:
    """The gateway's process and its sockets; the place where a management plane runs.

    The port is open, and so nobody else's, from construction to ``close``.

    Attributes:
        address: Where the management API server listens inside.
        port: Of the loopback interface outside.
    """

    def __init__(self, inside: world.World, directory: Path, port: int = 0) -> None:
        self.address = addresses.GATEWAY
        self._world = inside
        self._directory = files.make_private_directory(directory)
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        self._kubeconfig = directory / "gateway.conf"
        plan = files.write(directory / "plan.json", json.dumps(dataclasses.asdict(self._plan())))
        self._process = world.Inside(
            "the gateway",
            [sys.executable, "-m", "dpucluster.localplane.proxy", str(plan)],
            inside,
            log=directory / "gateway.log",
            cwd=directory,
            env=stack.python_environment(),
            descriptors=(self._socket.fileno(),),
        )

    def _plan(self) -> plans.Plan:
        return plans.Plan(
            front=self._socket.fileno(),
            control=str(self._directory / CONTROL),
            management=f"{self.address}:{plane.INSIDE_PORT}",
            kubeconfig=str(self._kubeconfig),
            hosts=str(self._world.hosts),
            balancers=addresses.BALANCERS,
        )

    def program(
        self, name: str, command: Sequence[str], *, log: Path, cwd: Path
    ) -> process.Program:
        """A program that runs inside."""
        return world.Inside(name, command, self._world, log=log, cwd=cwd)

    @property
    def process(self) -> process.Program:
        """The gateway."""
        return self._process

    def start(self, kubeconfig: str) -> None:
        """Open the gate; ``kubeconfig`` is the gateway's own.

        Raises:
            PlaneError: it does not open.
        """
        files.write(self._kubeconfig, kubeconfig)
        control = self._directory / CONTROL
        control.unlink(missing_ok=True)
        self._process.start()
        deadline = time.monotonic() + READY_TIMEOUT
        while not control.exists():
            self._process.check()
            if time.monotonic() > deadline:
                raise errors.PlaneError(f"the gateway does not open\n{self._process.tail()}")
            time.sleep(POLL)

    def connect(self, host: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A connection to an address inside.

        Raises:
            OSError: there is none; as from any ``connect``.
        """
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            # By the descriptor, because the directory's own path may be too long for a socket.
            connection.connect(f"/proc/self/fd/{directory}/{CONTROL}")
            connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode())
            _await_answer(connection, f"{host}:{port}")
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(directory)
        return connection

    def close(self) -> None:
        """Close the gate and give the port back."""
        self._process.kill()
        self._socket.close()


def _await_answer(connection: socket.socket, target: str) -> None:
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        if not (byte := connection.recv(1)):
            raise ConnectionRefusedError(f"{target} cannot be reached")
        answer += byte


def _listen(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((ports.LOOPBACK, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise errors.PlaneError(f"port {port} of {ports.LOOPBACK}: {error.strerror}") from error
    return sock
