"""The program that decides who holds a virtual IP, under the real /bin/sh and curl."""

from __future__ import annotations

import contextlib
import http.server
import importlib.resources
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import certificates

VIP = "10.0.0.100"
"""Nobody has it here: what answers can only have been reached through the node's address."""
LIMIT = 6.0
"""keepalived's ``timeout`` for a run; see ``keepalived.CHECK_LIMIT``."""

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the status of its server, or not at all."""

    server: ApiServer

    def do_GET(self) -> None:
        """Answer, or leave the client waiting until the end of the test."""
        self.server.asked.append((self.headers["Host"], self.path))
        status = self.server.answers.pop(0) if self.server.answers else self.server.status
        if not status:
            self.server.ended.wait(30)
            return
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


class ApiServer(http.server.ThreadingHTTPServer):
    """A TLS server on a loopback address; ``status`` 0: it takes requests and never answers."""

    daemon_threads = True

    def __init__(self, authority: certificates.Authority, name: str, address: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), Handler)
        self.status = 200
        self.answers: list[int] = []
        self.asked: list[tuple[str, str]] = []
        self.ended = threading.Event()
        context = certificates.server_context(authority.server(name))
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust it hangs up: no news."""


Start = Callable[..., ApiServer]


@pytest.fixture
def authority() -> certificates.Authority:
    return certificates.Authority("tenant")


@pytest.fixture
def start(authority: certificates.Authority) -> Iterator[Start]:
    """Starts a server with a certificate for ``name`` by the tenant's authority, or another."""
    with contextlib.ExitStack() as stack:

        def serve(
            name: str = VIP,
            address: str = "127.0.0.1",
            by: certificates.Authority | None = None,
        ) -> ApiServer:
            server = ApiServer(by or authority, name, address)
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            stack.callback(thread.join, 10)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            stack.callback(server.ended.set)
            return server

        yield serve


@pytest.fixture
def check(authority: certificates.Authority, tmp_path: Path) -> Callable[..., int]:
    """Runs the program as keepalived does and returns its exit code."""
    program = tmp_path / "check-apiserver"
    found = importlib.resources.files("dpucluster.managers.kamaji") / "check-apiserver"
    program.write_bytes(found.read_bytes())
    program.chmod(0o555)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.pem)

    def run(port: int, *, node: str = "127.0.0.1", vip: str = VIP, **environment: str) -> int:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "NODE_IP": node,
            "API_PORT": str(port),
            "API_URL": f"https://{vip}:{port}/livez",
            "API_CA": str(ca),
            **environment,
        }
        done = subprocess.run(
            [program], env=environment, capture_output=True, timeout=LIMIT, check=False
        )
        assert (b"", b"") == (done.stdout, done.stderr)
        return done.returncode

    return run


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, 0), (204, 0), (401, 0), (403, 0), (301, 1), (404, 1), (429, 1), (500, 1), (503, 1)],
)
def test_answers(start: Start, check: Callable[..., int], status: int, code: int) -> None:
    """K21: Only success, or a question for credentials, is an API server at work."""
    server = start()
    server.status = status
    assert code == check(server.port)
    assert (f"{VIP}:{server.port}", "/livez") == server.asked[0]


def test_another_authority(start: Start, check: Callable[..., int]) -> None:
    """K21: A server that is not the tenant's, such as the host's own on that port, is none."""
    server = start(by=certificates.Authority("host"))
    assert 1 == check(server.port)
    assert [] == server.asked


def test_another_name(start: Start, check: Callable[..., int]) -> None:
    """K9: A certificate that does not name the virtual IP would fail with every client, too."""
    assert 1 == check(start(name="10.0.0.101").port)


def test_a_hang(start: Start, check: Callable[..., int]) -> None:
    """K21: A server that takes the request and never answers fails within keepalived's limit."""
    server = start()
    server.status = 0
    assert 1 == check(server.port)
    assert 5 == len(server.asked)


def test_a_hang_before_tls(check: Callable[..., int]) -> None:
    """K21: A port that accepts and says nothing fails within the limit, too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert 1 == check(silent.getsockname()[1])


def test_a_closed_port(check: Callable[..., int]) -> None:
    """Where nothing listens there is no API server."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        assert 1 == check(reserved.getsockname()[1])


def test_one_bad_answer(start: Start, check: Callable[..., int]) -> None:
    """One of several API servers that has just died does not take the address away."""
    server = start()
    server.answers = [500, 503]
    assert 0 == check(server.port)
    assert 3 == len(server.asked)


def test_ipv6(start: Start, check: Callable[..., int]) -> None:
    """K20: A node and a virtual IP of IPv6 are checked alike."""
    try:
        server = start(name="fd00::100", address="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert 0 == check(server.port, node="::1", vip="[fd00::100]")


def test_proxies_are_not_asked(start: Start, check: Callable[..., int]) -> None:
    """A proxy in the environment is not what the API server is reached through."""
    nowhere = "http://127.0.0.1:9"
    server = start()
    assert 0 == check(server.port, https_proxy=nowhere, HTTPS_PROXY=nowhere, ALL_PROXY=nowhere)


def test_an_authority_that_is_not_there(start: Start, check: Callable[..., int]) -> None:
    """Without the tenant's certificate nothing can be checked, so nothing is held."""
    assert 1 == check(start().port, API_CA="/nonexistent/ca.crt")


def test_tls_is_asked_for(start: Start) -> None:
    """The servers of this test are what they pretend to be: TLS with a certificate."""
    server = start()
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname=VIP)
