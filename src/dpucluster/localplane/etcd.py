"""One etcd, shared by all API servers of a plane, each under a prefix of its own.

It listens on a Unix socket in a private directory and on nothing else: no port to be taken, and
no other user of the machine can read Secrets past the API server.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import files, process

SOCKET = "etcd.sock:0"
"""Relative to the working directory, for a socket's path has at most 107 bytes; etcd wants
``host:port`` in every address."""
PEER_SOCKET = "peer.sock:0"
SPACE_NEEDED = 192 * files.MEBIBYTE
"""etcd allocates two log segments of 64 MiB at once, and ends with a stack trace if it cannot."""
READY_TIMEOUT = 30.0
STOP_GRACE = 5.0
POLL = 0.02


class Etcd:
    """The storage of a plane, and of its tenants.

    Args:
        binary: The program.
        directory: Its data, log and sockets; API servers run in it, to find the socket.
        durable: Whether what is written must survive a power cut (slower).
    """

    def __init__(self, binary: Path, directory: Path, *, durable: bool = False) -> None:
        self.directory = files.make_private_directory(directory)
        self.program = process.Program(
            "etcd",
            [str(binary), *_flags(durable=durable)],
            log=directory / "etcd.log",
            cwd=directory,
        )

    @property
    def endpoint(self) -> str:
        """What an API server that runs in ``directory`` is told."""
        return f"unix://{SOCKET}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            PlaneError: the disk is full, or etcd ended; with the reason.
        """
        if (free := files.free_space(self.directory)) < SPACE_NEEDED:
            raise errors.PlaneError(
                f"the disk of {self.directory} is full: etcd needs {SPACE_NEEDED >> 20} MiB, "
                f"{free >> 20} MiB are free"
            )
        for name in (SOCKET, PEER_SOCKET):
            (self.directory / name).unlink(missing_ok=True)
        self.program.start()
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_healthy():
            self.program.check()
            if time.monotonic() > deadline:
                self.program.kill()
                raise errors.PlaneError(
                    f"etcd did not answer within {READY_TIMEOUT:.0f} s\n{self.program.tail()}"
                )
            time.sleep(POLL)

    def stop(self) -> None:
        """End it; what was written is kept."""
        self.program.stop(grace=STOP_GRACE)

    def _is_healthy(self) -> bool:
        connection = _SocketConnection(self.directory)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, directory: Path) -> None:
        super().__init__("localhost", timeout=2.0)
        self._directory = directory

    def connect(self) -> None:
        descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            # By the descriptor, because the directory's own path may be too long for a socket.
            self.sock.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
        finally:
            os.close(descriptor)


def _flags(*, durable: bool) -> list[str]:
    client, peer = f"unix://{SOCKET}", f"unix://{PEER_SOCKET}"
    return [
        "--name=plane",
        "--data-dir=data",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=plane={peer}",
        "--log-level=warn",
        *([] if durable else ["--unsafe-no-fsync"]),
    ]
