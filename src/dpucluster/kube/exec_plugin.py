"""Credential programs (client.authentication.k8s.io) of the user's own kubeconfig.

Imported by ``config`` and ``kubeconfig_file`` only: a kubeconfig from a Secret can never get here.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import os
import sys
import time
from asyncio import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from dpucluster import errors
from dpucluster.kube import connection as connections

API_VERSIONS: Final = frozenset(
    {"client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"}
)
RENEW_BEFORE: Final = 10.0
"""Seconds before the expiry at which new credentials are asked for; covers a slow request."""
MIN_INTERVAL: Final = 10.0
"""Seconds between two runs because of a 401: a user without rights must not fork all day."""
TIME_LIMIT: Final = 60.0
"""Seconds for a program that cannot ask anybody anything."""
MAX_STDERR: Final = 300
"""Characters shown of what a failing program said."""


class EnvVar(msgspec.Struct, frozen=True):
    """One of ``exec.env[]``."""

    name: str
    value: str = ""


class ExecConfig(msgspec.Struct, frozen=True, rename="camel"):
    """``users[].user.exec``."""

    api_version: str
    command: str
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: Literal["Never", "IfAvailable", "Always"] = "IfAvailable"


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: dt.datetime | None = None


class _ExecCredential(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: Literal["ExecCredential"]
    status: _Status | None = None


def cluster_info(connection: connections.Connection) -> dict[str, Any]:
    """What a program that asks for it is told about the server."""
    told: dict[str, Any] = {"server": connection.server}
    if connection.tls_server_name:
        told["tls-server-name"] = connection.tls_server_name
    if connection.insecure:
        told["insecure-skip-tls-verify"] = True
    if connection.ca_data:
        told["certificate-authority-data"] = base64.b64encode(connection.ca_data).decode()
    if connection.proxy_url:
        told["proxy-url"] = connection.proxy_url
    return told


def _now() -> float:
    return dt.datetime.now(dt.UTC).timestamp()


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@dataclass
class ExecPlugin:
    """Runs the program when its credentials are first needed, near expiry, and after a 401.

    ``beside`` is the kubeconfig's directory. Concurrent requests share one run.
    """

    config: ExecConfig
    beside: Path
    cluster: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    now: Callable[[], float] = _now
    monotonic: Callable[[], float] = time.monotonic
    on_terminal: Callable[[], bool] = _on_terminal
    _cached: connections.Credentials | None = field(default=None, init=False, repr=False)
    _expires: float | None = field(default=None, init=False)
    _ran_at: float = field(default=0.0, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def credentials(
        self, *, rejected: connections.Credentials | None = None
    ) -> connections.Credentials:
        """The credentials the program gave, or gives now.

        Raises:
            ConfigError: the program is not there, fails, or says what makes no sense.
        """
        async with self._lock:
            if self._cached is None or self._is_due(self._cached, rejected):
                status = await self._run()
                self._cached = self._from_status(status)
                at = status.expiration_timestamp
                self._expires = at.timestamp() if at else None
                self._ran_at = self.monotonic()
            return self._cached

    def _is_due(
        self, cached: connections.Credentials, rejected: connections.Credentials | None
    ) -> bool:
        if self._expires is not None and self.now() >= self._expires - RENEW_BEFORE:
            return True
        return cached == rejected and self.monotonic() - self._ran_at >= MIN_INTERVAL

    async def _run(self) -> _Status:
        interactive = self._is_interactive()
        try:
            process = await asyncio.create_subprocess_exec(
                self._command(),
                *self.config.args,
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if interactive else subprocess.PIPE,
                env=self._environment(interactive=interactive),
            )
        except OSError as error:
            hint = f": {self.config.install_hint}" if self.config.install_hint else ""
            raise self._failed(f"cannot be started ({error.strerror}){hint}") from error
        out, err = await self._output(process, None if interactive else TIME_LIMIT)
        if process.returncode != 0:
            said = (err or b"").decode("utf-8", "replace").strip()[-MAX_STDERR:]
            raise self._failed(f"ended with status {process.returncode}: {said}".rstrip(": "))
        return self._parse(out)

    async def _output(
        self, process: subprocess.Process, limit: float | None
    ) -> tuple[bytes, bytes | None]:
        try:
            async with asyncio.timeout(limit):
                return await process.communicate()
        except TimeoutError:
            raise self._failed(f"did not end within {limit:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _command(self) -> str:
        command = self.config.command
        # As kubectl: a bare name is looked up on PATH, a path starts at the kubeconfig.
        return str(self.beside / command) if os.sep in command else command

    def _is_interactive(self) -> bool:
        mode = self.config.interactive_mode
        if mode == "Always" and not self.on_terminal():
            raise self._failed("wants a terminal (interactiveMode: Always), and there is none")
        return mode != "Never" and self.on_terminal()

    def _environment(self, *, interactive: bool) -> dict[str, str]:
        spec: dict[str, Any] = {"interactive": interactive}
        if self.config.provide_cluster_info:
            spec["cluster"] = dict(self.cluster)
        version = self.config.api_version
        info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
        extra = {variable.name: variable.value for variable in self.config.env}
        told = msgspec.json.encode(info).decode()
        return {**self.env, **extra, "KUBERNETES_EXEC_INFO": told}

    def _parse(self, out: bytes) -> _Status:
        try:
            answer = msgspec.json.decode(out, type=_ExecCredential)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._failed("did not print an ExecCredential") from None
        if answer.api_version != self.config.api_version:
            raise self._failed(f"did not print one of {self.config.api_version}")
        status = answer.status or _Status()
        if bool(status.client_certificate_data) != bool(status.client_key_data):
            raise self._failed("printed half a client certificate")
        if not status.token and not status.client_certificate_data:
            raise self._failed("printed neither a token nor a client certificate")
        return status

    def _from_status(self, status: _Status) -> connections.Credentials:
        pair = status.client_certificate_data, status.client_key_data
        cert, key = (part.encode() if part else None for part in pair)
        return connections.Credentials(status.token or "", cert, key)

    def _failed(self, text: str) -> errors.ConfigError:
        return errors.ConfigError(f"the credential program {self.config.command} {text}")


def check(config: ExecConfig, where: str) -> None:
    """Refuse what could never work, before the first request.

    Raises:
        ConfigError: an unknown version of the protocol, or no command.
    """
    if config.api_version not in API_VERSIONS:
        raise errors.ConfigError(
            f"{where}: exec.apiVersion must be one of {', '.join(sorted(API_VERSIONS))}"
        )
    if not config.command:
        raise errors.ConfigError(f"{where}: exec.command is missing")
