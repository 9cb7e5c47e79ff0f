"""``dpucluster testenv`` and the guard of its command: signals, exit codes, and no remains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from dpucluster.localplane import process, scratch, testenv
from tests.support import processes
from tests.support.patience import PATIENCE
from tests.support.processes import Commands, eventually


@pytest.fixture
def marker() -> str:
    """Occurs in the command lines of one test only."""
    return f"marker-{uuid.uuid4().hex}"


def sleeper(marker: str) -> str:
    """A command that only ends when it is killed, and can be found."""
    return f"{sys.executable} -c 'import time; time.sleep(3600)' {marker}"


def test_the_command_sees_its_planes(commands: Commands) -> None:
    """KUBECONFIG, TENANT_n_KUBECONFIG and kubectl; its exit code; no file or process is left."""
    script = """
        echo $KUBECONFIG $TENANT_1_KUBECONFIG $TENANT_2_KUBECONFIG
        kubectl get namespace dpf-operator-system -o name
        for each in $KUBECONFIG $TENANT_1_KUBECONFIG $TENANT_2_KUBECONFIG; do
            export KUBECONFIG=$each
            kubectl config view -o 'jsonpath={.clusters[*].name}{"\\n"}'
            kubectl get namespace kube-system -o 'jsonpath={.metadata.uid}{"\\n"}'
        done
        exit 7
    """
    done = commands.run("testenv", "--tenants", "2", "--no-controllers", "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    paths, namespace, *clusters = done.stdout.splitlines()
    assert len(set(paths.split())) == 3
    assert not any(Path(path).exists() for path in paths.split())
    assert namespace == "namespace/dpf-operator-system"
    assert ["management", "tenant-1", "tenant-2"] == clusters[::2]
    assert len(set(clusters[1::2])) == 3
    assert list((commands.directory / "tmp").iterdir()) == []
    commands.wait_gone()


def test_a_command_that_is_not_there_starts_nothing(commands: Commands) -> None:
    """The answer comes before any plane, as 127; what lies beside kubectl is there."""
    done = commands.run("testenv", "--", "no-such-program", "--flag")
    assert (127, "error: there is no program 'no-such-program'\n") == (done.returncode, done.stderr)
    assert testenv.has_program("kubectl", {"PATH": "", "HOME": "/nowhere"})
    assert testenv.has_program("sh", commands.env)
    assert not testenv.has_program("/nowhere/sh", commands.env)


def test_killed_with_its_command_running(commands: Commands, marker: str) -> None:
    """SIGKILL of testenv ends planes, controllers, the command and what the command started."""
    began = commands.directory / "began"
    script = f"(setsid {sleeper(marker)} &) ; {sleeper(marker)} & touch {began}; wait"
    running = commands.start("testenv", "--", "sh", "-c", script)
    eventually("the command runs", began.exists)
    assert any("dpucluster run" in line for line in commands.processes().values())
    running.kill()
    eventually(
        "nothing is left",
        lambda: not commands.processes() and not processes.related_to(marker),
    )
    running.communicate()
    left = list((commands.directory / "tmp").iterdir())
    assert len(left) == 1
    old = time.time() - 2 * scratch.SETTLED
    os.utime(left[0] / scratch.LOCK, (old, old))
    scratch.sweep(commands.directory / "tmp")
    assert list((commands.directory / "tmp").iterdir()) == []


def test_sigterm_reaches_the_command(commands: Commands, marker: str) -> None:
    """The command may tidy up and choose the exit code; daemons it leaves are ended."""
    began = commands.directory / "began"
    script = f"(setsid {sleeper(marker)} &); trap 'exit 9' TERM; {sleeper(marker)} &"
    script += f" touch {began}; wait"
    running = commands.start("testenv", "--no-controllers", "--", "sh", "-c", script)
    eventually("the command runs", began.exists)
    running.terminate()
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 9, err
    assert processes.related_to(marker) == {}
    commands.wait_gone()
    assert list((commands.directory / "tmp").iterdir()) == []


def test_a_broken_plane_is_told_while_the_command_runs(commands: Commands) -> None:
    """A command may outlive its plane, but never without a word about it."""
    began, gate = commands.directory / "began", commands.directory / "gate"
    script = f"touch {began}; until [ -e {gate} ]; do sleep 0.1; done; exit 3"
    running = commands.start("testenv", "--no-controllers", "--", "sh", "-c", script)
    eventually("the command runs", began.exists)
    (etcd,) = [
        pid for pid, line in commands.processes().items() if line.split()[0].endswith("/etcd")
    ]
    os.kill(etcd, signal.SIGKILL)
    assert running.stderr is not None
    assert any("warning: etcd was killed by SIGKILL" in line for line in running.stderr)
    gate.touch()
    running.communicate(timeout=PATIENCE)
    assert running.returncode == 3


def guard(command: str) -> subprocess.Popen[bytes]:
    return process.guarded(["sh", "-c", command], env=dict(os.environ), own_group=True)


@pytest.mark.parametrize(
    ("command", "code"), [("exit 5", 5), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("true", 0)]
)
def test_the_guard_passes_the_exit_code_on(command: str, code: int) -> None:
    """As shells do: the code, or 128 + n for signal n."""
    assert code == guard(command).wait(PATIENCE)


def test_a_program_that_is_not_there() -> None:
    """127, as shells answer."""
    assert process.guarded(["/no/such"], env={}, own_group=True).wait(PATIENCE) == 127


def test_the_guard_ends_what_the_command_leaves_behind(marker: str) -> None:
    """A daemon with a session of its own, started by a process that ended, is found."""
    guarded = guard(f"(setsid sh -c '({sleeper(marker).replace(chr(39), chr(34))} &)' &); sleep 1")
    assert guarded.wait(PATIENCE) == 0
    assert processes.related_to(marker) == {}


def test_the_guard_passes_signals_on(marker: str, tmp_path: Path) -> None:
    """SIGUSR1 arrives as SIGINT; a command that ignores SIGTERM is ended by SIGUSR2."""
    began, heard = tmp_path / "began", tmp_path / "heard"
    stubborn = guard(
        f"trap '' TERM; trap 'touch {heard}' INT; {sleeper(marker)} & touch {began};"
        "while :; do wait; done"
    )
    eventually("the command runs", began.exists)
    stubborn.send_signal(signal.SIGTERM)
    stubborn.send_signal(signal.SIGUSR1)
    eventually("the command has heard SIGINT", heard.exists)
    assert stubborn.poll() is None
    stubborn.send_signal(signal.SIGUSR2)
    assert stubborn.wait(PATIENCE) == 137
    assert processes.related_to(marker) == {}
