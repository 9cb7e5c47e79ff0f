"""The program with which keepalived checks the API server, against real servers."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dpucluster.managers.kamaji import keepalived
from tests.support import certificates, lan, virtual_ip

PROGRAM = importlib.resources.files("dpucluster.managers.kamaji") / keepalived.CHECK_KEY
VIP = "10.77.0.100"
TIMED_OUT = 124
"""How ``timeout`` ends when it had to end the program."""

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="the check of the API server was NOT tested: no curl"
)


@pytest.fixture(scope="module")
def authority() -> certificates.Authority:
    return certificates.Authority("tenant")


class Check:
    """Runs the program as on a node whose address is 127.0.0.1."""

    def __init__(self, directory: Path, authority: certificates.Authority) -> None:
        self.directory = directory
        self.checked = directory / "checked"
        self.authority = authority
        (directory / "ca.crt").write_bytes(authority.pem)

    @contextmanager
    def server(
        self,
        status: int = 200,
        *,
        name: str = VIP,
        signer: certificates.Authority | None = None,
    ) -> Iterator[tuple[int, subprocess.Popen[str]]]:
        """A server for one test; yields its port."""
        pair = (signer or self.authority).server(name)
        chain = self.directory / "chain.pem"
        chain.write_bytes(pair.cert_pem + pair.key_pem)
        script = (sys.executable, "-I", str(virtual_ip.TENANT_API))
        with subprocess.Popen(
            [*lan.DIE_WITH_US, *script, "127.0.0.1", "0", str(chain), str(status)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline().split()[1]), process
            finally:
                process.kill()

    def run(self, port: int, **variables: str) -> int:
        """The program's exit code, within the time that keepalived gives it."""
        env = {
            "PATH": os.environ["PATH"],
            "API_HERE": f"127.0.0.1:{port}",
            "API_URL": f"https://{VIP}:{port}/livez",
            "API_CA": str(self.directory / "ca.crt"),
            "CHECKED_FILE": str(self.checked),
            **variables,
        }
        command = ["timeout", str(keepalived.CHECK_LIMIT), "sh", str(PROGRAM)]
        return subprocess.run(command, env=env, check=False).returncode


@pytest.fixture
def check(tmp_path: Path, authority: certificates.Authority) -> Check:
    return Check(tmp_path, authority)


@pytest.mark.parametrize("status", [200, 204, 401, 403])
def test_an_answer_of_the_tenant_is_a_success(status: int, check: Check) -> None:
    """Well, or asking for credentials: either way an API server is there."""
    with check.server(status) as (port, _):
        assert 0 == check.run(port)


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
def test_any_other_answer_is_none(status: int, check: Check) -> None:
    """K21: an error is not taken for an API server that is well."""
    with check.server(status) as (port, _):
        assert 1 == check.run(port)


def test_another_authoritys_server_is_refused(check: Check) -> None:
    """K9, K21: a server of the host, or of another tenant, does not count."""
    with check.server(signer=certificates.Authority("host")) as (port, _):
        assert 1 == check.run(port)


def test_a_server_without_the_address_is_refused(check: Check) -> None:
    """K9: the certificate must be good for the virtual IP, or clients could not use it."""
    with check.server(name="10.77.0.99") as (port, _):
        assert 1 == check.run(port)


def test_a_closed_port_is_a_failure(check: Check) -> None:
    """Nothing listens: the check fails."""
    with check.server() as (port, _):
        pass
    assert 1 == check.run(port)


def test_a_silent_server_cannot_hang_the_check(check: Check) -> None:
    """K21: all tries at a server that never answers end before keepalived would end them."""
    with check.server() as (port, process):
        process.send_signal(signal.SIGSTOP)
        code = check.run(port)
        process.send_signal(signal.SIGCONT)
    assert TIMED_OUT != code
    assert 1 == code


def test_no_proxy_stands_between(check: Check) -> None:
    """Proxies in the environment are for others: the check is about this node."""
    with check.server() as (port, _):
        assert 0 == check.run(port, https_proxy="http://127.0.0.1:1", ALL_PROXY="127.0.0.1:1")


def test_a_run_leaves_its_mark(check: Check) -> None:
    """That it has run can be seen afterwards, whatever came of it."""
    assert not check.checked.exists()
    check.run(1)
    assert check.checked.exists()


def test_a_mark_that_cannot_be_left_is_a_failure(check: Check) -> None:
    """Where the mark has no place the pod is not ready, and holds no address either."""
    with check.server() as (port, _):
        assert 0 != check.run(port, CHECKED_FILE=str(check.directory / "missing" / "checked"))
