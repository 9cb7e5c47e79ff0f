"""``dpucluster up --with-kamaji`` without any privilege, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dpucluster.localplane import state
from tests.support import processes
from tests.support.kamaji_namespace import KEEPALIVED
from tests.support.processes import Commands, eventually

pytestmark = pytest.mark.timeout(300)

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "sleeper"},
    "spec": {
        "containers": [
            {"name": "main", "image": KEEPALIVED, "command": ["sh", "-c", "sleep 1000 & wait"]}
        ]
    },
}
NO_CAPABILITIES = ("setpriv", "--inh-caps=-all", "--bounding-set=-all,+setfcap")
"""Root without its power; SETFCAP, because the kernel lets nobody else give root a new meaning."""


@pytest.fixture
def commands(
    tmp_path: Path, binaries: Mapping[str, Path], kamaji_binaries: Mapping[str, Path]
) -> Iterator[Commands]:
    del kamaji_binaries  # must be there
    made = Commands(tmp_path, binaries)
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("there is no setpriv to drop root's capabilities")
        made.prefix = NO_CAPABILITIES
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def test_up_and_killed(commands: Commands, binaries: Mapping[str, Path]) -> None:
    """Nodes, Kamaji and a pod run for anybody; with the supervisor all of it ends at once."""
    done = commands.run("up", "--with-kamaji", "--detach", "--no-controllers")
    assert 0 == done.returncode, done.stderr
    kept = state.State("default", commands.env)
    conf = kept.directory / "management" / "kubeconfig"
    assert str(conf) in done.stdout

    def kubectl(*arguments: str, text: str = "") -> str:
        command = [str(binaries["kubectl"]), "--kubeconfig", str(conf), *arguments]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=True
        ).stdout

    kubectl("apply", "-f", "-", text=json.dumps(POD))
    eventually("the pod runs", lambda: "Running" in kubectl("get", "pod", "sleeper"))
    assert "default" in kubectl("get", "datastores")
    told = commands.run("tenant", "nobody")
    assert "error: the tenant default/nobody has no administrator's kubeconfig yet" in told.stderr
    assert kept.supervisor is not None
    everything = processes.descendants(kept.supervisor.pid)
    assert any("sleep 1000" in line for line in everything.values()), everything
    os.kill(kept.supervisor.pid, signal.SIGKILL)
    eventually(
        "no process is left",
        lambda: not everything.keys() & processes.running().keys(),
        patience=10,
    )
    commands.wait_gone()
    assert str(commands.directory) not in Path("/proc/self/mounts").read_text()


def test_a_plane_without_kamaji_is_told(commands: Commands) -> None:
    """Who asks for a tenant of a plane that does not run gets to know what to run."""
    told = commands.run("tenant", "one")
    assert 1 == told.returncode
    assert "dpucluster up --with-kamaji --detach" in told.stderr
