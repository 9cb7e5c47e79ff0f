"""The etcd that Kamaji's tenants store in: TLS, client certificates, users.

RSA keys throughout, because Kamaji reads no others.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpucluster import errors
from dpucluster.localplane import apiserver, files, pki, world
from dpucluster.localplane.kamaji import addresses, gate

PORT = 2379
READY_TIMEOUT = 30.0
STOP_GRACE = 5.0
POLL = 0.05
ROOT = "root"
"""etcd's name for the user who may do everything; ours shows it in its certificate."""
ENABLED = "auth-enabled"
"""A file that says that the users are there."""


@dataclass(frozen=True)
class Credentials:
    """What Kamaji is given: it makes tenants' certificates and users with it."""

    authority: pki.KeyPair
    root: pki.KeyPair


class DataStore:
    """The etcd of all tenants, inside a world."""

    def __init__(
        self,
        binary: Path,
        directory: Path,
        inside: world.World,
        way_in: gate.Gate,
        *,
        durable: bool = False,
    ) -> None:
        self._directory = files.make_private_directory(directory)
        self._gate = way_in
        self._ready = directory / ENABLED
        keys = files.make_private_directory(directory / "pki")
        authority, ca = apiserver.kept_authority(keys, "datastore", pki.KeyKind.RSA)
        server = authority.server("etcd", (addresses.GATEWAY, "localhost"), dials=True)
        self.credentials = Credentials(authority.pair, authority.client(ROOT))
        self._files = apiserver.write_pair(keys, "root", self.credentials.root)
        self._ca = ca.certificate
        shown = apiserver.write_pair(keys, "server", server)
        self.program = world.Inside(
            "the tenants' etcd",
            [str(binary), *_flags(ca.certificate, shown, durable=durable)],
            inside,
            log=directory / "etcd.log",
            cwd=directory,
        )

    @property
    def endpoint(self) -> str:
        """Where it listens inside."""
        return f"{addresses.GATEWAY}:{PORT}"

    def start(self) -> None:
        """Start it without waiting."""
        self.program.start()

    def wait_ready(self) -> None:
        """Wait until it answers, and give it users if it has none.

        Raises:
            PlaneError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_healthy():
            self.program.check()
            if time.monotonic() > deadline:
                raise errors.PlaneError(
                    f"{self.program.name} did not answer\n{self.program.tail()}"
                )
            time.sleep(POLL)
        if not self._ready.exists():
            self._add_users()
            files.write(self._ready, "")

    def stop(self) -> None:
        """End it; what was written is kept."""
        self.program.stop(grace=STOP_GRACE)

    def _is_healthy(self) -> bool:
        try:
            # Not /health, which asks what nobody without a user may ask.
            return self._request("GET", "/version") == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def _add_users(self) -> None:
        """Switch on authentication; what a half-done earlier run did is no obstacle."""
        for path, body in (
            ("role/add", {"name": ROOT}),
            ("user/add", {"name": ROOT, "options": {"no_password": True}}),
            ("user/grant", {"user": ROOT, "role": ROOT}),
            ("enable", {}),
        ):
            status = self._request("POST", f"/v3/auth/{path}", body)
        if status != http.HTTPStatus.OK:
            raise errors.PlaneError(f"{self.program.name} does not switch on users: HTTP {status}")

    def _request(self, method: str, path: str, body: Any = None) -> int:
        context = ssl.create_default_context(cafile=str(self._ca))
        context.load_cert_chain(self._files.certificate, self._files.key)
        connection = http.client.HTTPConnection(addresses.GATEWAY, PORT)
        plain = self._gate.connect(addresses.GATEWAY, PORT)
        connection.sock = context.wrap_socket(plain, server_hostname=addresses.GATEWAY)
        try:
            connection.request(method, path, body=json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


def _flags(ca: Path, server: apiserver.PairFiles, *, durable: bool) -> list[str]:
    client, peer = f"https://{addresses.GATEWAY}:{PORT}", f"http://127.0.0.1:{PORT + 1}"
    return [
        "--name=datastore",
        "--data-dir=data",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=datastore={peer}",
        f"--trusted-ca-file={ca}",
        "--client-cert-auth=true",
        f"--cert-file={server.certificate}",
        f"--key-file={server.key}",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",  # Kamaji switches off that of its API servers
        "--log-level=warn",
        *([] if durable else ["--unsafe-no-fsync"]),
    ]
