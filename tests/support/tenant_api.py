"""A small HTTPS server that stands for a tenant's API server: a process, run as a script.

::

    python tenant_api.py ADDRESS PORT CHAIN STATUS

It says ``port N`` (PORT may be 0: a free one), then answers ``/livez`` with STATUS and says
``asked`` each time.
"""

from __future__ import annotations

import http.server
import socket
import ssl
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    status = 200

    def do_GET(self) -> None:
        """Say how the server is."""
        self.send_response(self.status if self.path == "/livez" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()
        say("asked")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing of it."""


class Server(http.server.ThreadingHTTPServer):
    """Shakes hands in the thread of the connection."""

    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve one connection."""
        with self.context.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients come and go."""


def main(address: str, port: int, chain: str, status: int) -> None:
    """Serve for ever."""
    Handler.status = status
    Server.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with Server((address, port), Handler) as server:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(chain)
        say(f"port {server.server_address[1]}")
        server.serve_forever()


def say(text: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
