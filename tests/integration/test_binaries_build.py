"""``go build`` with a recorded ``go``, and several processes that want the same binary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dpucluster import errors
from dpucluster.localplane import binaries, cache, progress, release
from tests.support.patience import PATIENCE

FAKE_GO = """#!/bin/sh
if [ "$1" = version ]; then echo "go version ${FAKE_VERSION:-go1.99.1} linux/amd64"; exit; fi
test -f go.mod && test -f go.sum || exit 9
echo "$@" >> "$FAKE_LOG/arguments"
env | grep ^GO | sort > "$FAKE_LOG/environment"
if [ -n "$FAKE_ERROR" ]; then echo "$FAKE_ERROR" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
printf half-made > "$2"
if [ -n "$FAKE_HANG" ]; then
  sleep 600 &   # a compiler
  echo "$$ $!" > "$FAKE_LOG/pids.new"; mv "$FAKE_LOG/pids.new" "$FAKE_LOG/pids"
  wait
fi
until [ -z "$FAKE_GATE" ] || [ -e "$FAKE_GATE" ]; do sleep 0.05; done
printf '#!/bin/sh\\necho built\\n' > "$2"
"""

ENSURE = """
import sys
from dpucluster.localplane import binaries, progress
print(binaries.ensure([sys.argv[1]], progress=progress.for_stream())[sys.argv[1]])
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment without downloads, whose ``go`` is the recorded one."""
    (tmp_path / "bin").mkdir()
    go = tmp_path / "bin" / "go"
    go.write_text(FAKE_GO)
    go.chmod(0o755)
    return {
        "HOME": str(tmp_path),
        "PATH": f"{go.parent}:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FAKE_LOG": str(tmp_path),
        release.KUBERNETES_URL_VARIABLE: release.OFF,
        release.ETCD_URL_VARIABLE: release.OFF,
    }


def ensure(name: str, env: dict[str, str]) -> Path:
    return binaries.ensure([name], progress=progress.Silent(), env=env)[name]


def start(name: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Another process that wants ``name``."""
    return subprocess.Popen(
        [sys.executable, "-c", ENSURE, name],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "not noticed in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def partial(env: dict[str, str]) -> list[Path]:
    return list(cache.of(release.pins(), env).folder.parent.glob("*.partial"))


def test_kubernetes_is_built_as_pinned(env: dict[str, str], tmp_path: Path) -> None:
    """Go gets the pinned module read-only, the version stamp, and the user's own settings."""
    env |= {"GOFLAGS": "-buildvcs=auto", "GOWORK": "/a/go.work", "GOPROXY": "https://p.example"}
    path = ensure("kube-apiserver", env)
    arguments = (tmp_path / "arguments").read_text()
    version = binaries.kubernetes_version()
    assert "built\n" == subprocess.run([path], capture_output=True, text=True, check=True).stdout
    assert arguments.startswith("build -mod=readonly -buildvcs=false -trimpath -ldflags -s -w -X")
    assert f"version.gitVersion={version} " in arguments
    assert arguments.endswith(" k8s.io/kubernetes/cmd/kube-apiserver\n")
    settings = (tmp_path / "environment").read_text().splitlines()
    assert "GOFLAGS=-buildvcs=auto" in settings
    assert "GOPROXY=https://p.example" in settings
    assert "GOWORK=off" in settings
    assert partial(env) == []


def test_missing_go_is_told(env: dict[str, str], tmp_path: Path) -> None:
    """Without go the message says which one to install, and the other way out."""
    with pytest.raises(errors.BinaryError, match=r"go is not on PATH: install Go 1\.\d+.*"):
        ensure("etcd", env | {"PATH": str(tmp_path)})


def test_old_go_is_told(env: dict[str, str]) -> None:
    """A Go that is too old is told before anything is compiled."""
    with pytest.raises(errors.BinaryError, match=r"or later is needed.*go1\.18\.1"):
        ensure("etcd", env | {"FAKE_VERSION": "go1.18.1"})


def test_failed_build_is_told(env: dict[str, str]) -> None:
    """The end of go's output is in the message; the half-made binary is nowhere."""
    with pytest.raises(errors.BinaryError, match=r"(?s)exit code 1.*GOPROXY.*dial tcp"):
        ensure("etcd", env | {"FAKE_ERROR": "Get https://p.example: dial tcp: no route to host"})
    assert binaries.locate(["etcd"], env) == {}
    assert partial(env) == []


def test_two_processes_build_once(env: dict[str, str], tmp_path: Path) -> None:
    """The second process says that it waits for the first, and takes what that one made."""
    gate = tmp_path / "gate"
    first = start("etcd", env | {"FAKE_GATE": str(gate)})
    wait_for((tmp_path / "arguments").exists)
    second = start("etcd", env)
    assert second.stderr is not None
    told = second.stderr.readline()
    gate.touch()
    answers = [process.communicate(timeout=PATIENCE) for process in (first, second)]
    assert [0, 0] == [first.returncode, second.returncode]
    assert answers[0][0] == answers[1][0]
    assert f"waiting for process {first.pid}, which gets the control-plane" in told
    assert len((tmp_path / "arguments").read_text().splitlines()) == 1


def test_killed_build_leaves_nothing(env: dict[str, str], tmp_path: Path) -> None:
    """After kill -9 no compiler runs on, nothing half-made is found, and the next run cleans up."""
    process = start("etcd", env | {"FAKE_HANG": "1"})
    wait_for((tmp_path / "pids").exists)
    children = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(is_alive(pid) for pid in children)

    process.kill()
    process.communicate(timeout=PATIENCE)

    wait_for(lambda: not any(is_alive(pid) for pid in children))
    assert binaries.locate(["etcd"], env) == {}
    assert len(partial(env)) == 1
    assert ensure("etcd", env).read_text().endswith("echo built\n")
    assert partial(env) == []


def test_interrupted_build_cleans_up_itself(env: dict[str, str], tmp_path: Path) -> None:
    """After Ctrl-C no compiler runs on and nothing at all is left."""
    process = start("etcd", env | {"FAKE_HANG": "1"})
    wait_for((tmp_path / "pids").exists)
    children = [int(pid) for pid in (tmp_path / "pids").read_text().split()]

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)

    assert process.returncode != 0
    wait_for(lambda: not any(is_alive(pid) for pid in children))
    assert binaries.locate(["etcd"], env) == {}
    assert partial(env) == []


def test_waiting_process_takes_over_from_a_killed_one(env: dict[str, str], tmp_path: Path) -> None:
    """When the builder dies, the one that waits for it builds."""
    first = start("etcd", env | {"FAKE_HANG": "1"})
    wait_for((tmp_path / "pids").exists)
    second = start("etcd", env)
    assert second.stderr is not None
    assert "waiting for process" in second.stderr.readline()
    first.kill()
    first.communicate(timeout=PATIENCE)
    output, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert Path(output.strip()).read_text().endswith("echo built\n")


def test_work_of_dead_processes_on_other_versions_is_removed(env: dict[str, str]) -> None:
    """What a killed process left for another version goes, too, unless somebody works on it."""
    root = cache.of(release.pins(), env).folder.parent
    (root / "v1.2.3-linux-amd64.abc.partial").mkdir(parents=True)
    ensure("etcd", env)
    assert partial(env) == []
