"""TCP ports that are bound before they are named, so that nobody can take them in between."""

from __future__ import annotations

import errno
import socket

from dpucluster import errors

LOOPBACK = "127.0.0.1"


class Reservation:
    """A port of the loopback interface, held for as long as this object is open.

    The socket is bound and never listens: clients are refused, other processes cannot bind, and
    only a server that asks for ``SO_REUSEPORT`` (``kube-apiserver --permit-port-sharing``) can
    listen. So a server keeps its port while it is stopped.
    """

    def __init__(self, port: int = 0) -> None:
        """Take ``port``, or any free one for 0.

        Raises:
            PlaneError: the port is taken.
        """
        self._socket = socket.socket()
        try:
            self._bind(port)
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def _bind(self, port: int) -> None:
        sock, level = self._socket, socket.SOL_SOCKET
        # Connections of an earlier server, still in TIME_WAIT, are no reason to refuse …
        sock.setsockopt(level, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise errors.PlaneError(f"port {port} of {LOOPBACK} is taken") from error
            raise errors.PlaneError(f"port {port} of {LOOPBACK}: {error.strerror}") from error
        # … but from here on another reservation is: only a server that shares may come.
        sock.setsockopt(level, socket.SO_REUSEADDR, 0)
        sock.setsockopt(level, socket.SO_REUSEPORT, 1)

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()
