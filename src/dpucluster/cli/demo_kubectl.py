"""kubectl as the demo uses it: real, on the management plane, among the manifests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import files, process

TIMEOUT = 60.0
"""Seconds for one call; a third of a second is usual."""
POLL = 0.02


class Kubectl:
    """Runs kubectl where the manifests are.

    Attributes:
        manifests: What was applied, as files.
    """

    def __init__(self, binary: Path, kubeconfig: Path, directory: Path) -> None:
        self.manifests = files.make_private_directory(directory / "guide")
        self._binary = binary
        self._kubeconfig = kubeconfig
        self._directory = directory

    def write_manifest(self, name: str, text: str) -> None:
        """Put a manifest where kubectl runs."""
        files.write(self.manifests / name, text)

    async def run(self, arguments: Sequence[str]) -> str:
        """Run it; what it prints.

        Raises:
            LocalPlaneError: it failed; with what it said.
        """
        call = process.Program(
            f"kubectl {' '.join(arguments)}",
            [str(self._binary), *arguments],
            log=self._directory / "kubectl.log",
            cwd=self.manifests,
            env={
                "KUBECONFIG": str(self._kubeconfig),
                "HOME": str(self._directory),  # its cache of what the server offers
            },
        )
        call.start()
        try:
            await _ended(call)
        finally:
            call.kill()
        if call.exit_code != 0:
            raise errors.LocalPlaneError(call.obituary())
        return "\n".join(line.strip() for line in call.tail().splitlines())


async def _ended(call: process.Program) -> None:
    deadline = time.monotonic() + TIMEOUT
    while call.is_running:
        if time.monotonic() > deadline:
            raise errors.LocalPlaneError(f"{call.name} did not end within {TIMEOUT:.0f} s")
        await asyncio.sleep(POLL)
