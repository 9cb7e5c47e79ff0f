"""Kamaji's controllers as a process: no webhooks, no cert-manager, no telemetry, no leader."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import apiserver, files, pki, process, world
from dpucluster.localplane.kamaji import gate, objects

PROBES_PORT = 8081
READY_TIMEOUT = 60.0
POLL = 0.05
STOP_GRACE = 5.0
MIGRATE_IMAGE = "docker.io/clastix/kamaji:{version}"
PARALLEL = 4
"""Tenants that Kamaji looks at side by side."""


class Kamaji:
    """Kamaji's process; may be killed and started again."""

    def __init__(
        self,
        binary: Path,
        version: str,
        directory: Path,
        inside: world.World,
        way_in: gate.Gate,
    ) -> None:
        self._directory = files.make_private_directory(directory)
        self._gate = way_in
        self._kubeconfig = directory / "kubeconfig"
        # Where the library beneath looks for the certificate of webhooks, which it always serves.
        self._certificates = directory / "k8s-webhook-server" / "serving-certs"
        self.program: process.Program = world.Inside(
            "kamaji",
            [str(binary), "manager", *self._flags(version)],
            inside,
            log=directory / "kamaji.log",
            cwd=directory,
            env={
                "HOME": str(directory),
                "KUBECONFIG": str(self._kubeconfig),
                "PATH": "/usr/bin:/bin",
                "TMPDIR": str(directory),
            },
        )

    def prepare(self, kubeconfig: str) -> None:
        """Write what it reads; ``kubeconfig`` is its own."""
        files.write(self._kubeconfig, kubeconfig)
        self._certificates.mkdir(parents=True, exist_ok=True)
        authority = pki.Authority.create("kamaji-webhook-ca")
        files.write(self._certificates / "ca.crt", authority.certificate)
        host = f"kamaji-webhook-service.{objects.NAMESPACE}.svc"
        apiserver.write_pair(self._certificates, "tls", authority.server("kamaji", (host,)))

    def start(self) -> None:
        """Start it without waiting; its DataStore must be there."""
        self.program.start()

    def wait_ready(self, tick: Callable[[], object] = lambda: None) -> None:
        """Wait until it works.

        Raises:
            PlaneError: it ended, or was not ready in time; with the end of its log.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_ready():
            self.program.check()
            if time.monotonic() > deadline:
                raise errors.PlaneError(f"kamaji is not ready in time\n{self.program.tail()}")
            tick()
            time.sleep(POLL)

    def kill(self) -> None:
        """End it at once."""
        self.program.kill()

    def restart(self) -> None:
        """End it if it runs, start it, and wait until it works."""
        self.program.stop(grace=STOP_GRACE)
        self.start()
        self.wait_ready()

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", PROBES_PORT)
        try:
            connection.sock = self._gate.connect("127.0.0.1", PROBES_PORT)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _flags(self, version: str) -> list[str]:
        return [
            f"--datastore={objects.DATASTORE}",
            "--disable-telemetry",
            f"--health-probe-bind-address=127.0.0.1:{PROBES_PORT}",
            "--leader-elect=false",
            f"--max-concurrent-tcp-reconciles={PARALLEL}",
            "--metrics-bind-address=127.0.0.1:8080",
            f"--migrate-image={MIGRATE_IMAGE.format(version=version)}",
            f"--pod-namespace={objects.NAMESPACE}",
            f"--serviceaccount-name={objects.ACCOUNT}",
            f"--tmp-directory={self._directory / 'work'}",
            f"--webhook-ca-path={self._certificates / 'ca.crt'}",
        ]
