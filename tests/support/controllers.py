"""``dpucluster run`` as a process of its own, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.support.patience import PATIENCE


class Controllers:
    """One process of controllers; ends with the ``with`` block, however that ends."""

    def __init__(self, kubeconfig: Path | str, log: Path, *args: str, **environment: str) -> None:
        self.log = log
        self._command = [
            sys.executable,
            "-m",
            "dpucluster",
            "run",
            *args,
            "--kubeconfig",
            str(kubeconfig),
            "--metrics-bind-address=0",
        ]
        if not any(a.startswith("--health-probe") for a in args):
            self._command.append("--health-probe-bind-address=0")
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise

    def start(self) -> None:
        """Start a new process; its log is appended to."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, env=self._environment
            )

    @property
    def pid(self) -> int:
        """Of the process started last."""
        return self._running().pid

    @property
    def text(self) -> str:
        """Everything logged so far."""
        return self.log.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP freezes it, SIGCONT wakes it."""
        self._running().send_signal(number)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._running().kill()
        self._running().wait()

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self._running().terminate()
        return self._running().wait(PATIENCE)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code once it has ended by itself."""
        return self._running().wait(timeout)

    def restart(self) -> None:
        """Kill it and start another."""
        self.kill()
        self.start()

    def wait_log(self, text: str, *, timeout: float = PATIENCE, times: int = 1) -> None:
        """Return when ``text`` was logged ``times``."""
        end = time.monotonic() + timeout
        while self.text.count(text) < times:
            if self._running().poll() is not None or time.monotonic() > end:
                message = f"{text!r} was not logged {times} times:\n{self.text[-3000:]}"
                raise AssertionError(message)
            time.sleep(0.05)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process


def http_get(url: str) -> tuple[int, str]:
    """Status and body; 0 while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a local address
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def wait_http(url: str, status: int = 200, *, timeout: float = PATIENCE) -> Any:
    """The body as soon as ``url`` answers with ``status``."""
    end = time.monotonic() + timeout
    while True:
        seen, body = http_get(url)
        if seen == status:
            return body
        if time.monotonic() > end:
            raise AssertionError(f"{url} answers {seen}: {body}")
        time.sleep(0.1)
