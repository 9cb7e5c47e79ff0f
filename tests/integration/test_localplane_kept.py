"""``dpucluster up`` and ``down``: planes that are kept, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from dpucluster.localplane import files, ports, state
from tests.support.patience import PATIENCE
from tests.support.processes import Commands, eventually


def shell(commands: Commands, script: str) -> str:
    """Run a script as a user would, with ``dpucluster`` and ``kubectl`` at hand."""
    prelude = f'dpucluster() {{ {sys.executable} -m dpucluster "$@"; }}\n'
    prelude += 'PATH="$KUBEBUILDER_ASSETS:$PATH"; set -e\n'
    done = subprocess.run(
        ["bash", "-c", prelude + script],
        env=commands.env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def supervisor_of(commands: Commands, name: str = "default") -> int:
    supervisor = kept(commands, name).supervisor
    assert supervisor is not None
    return supervisor.pid


def kept(commands: Commands, name: str = "default") -> state.State:
    return state.State(name, commands.env)


def test_up_down_and_up_again(commands: Commands) -> None:
    """The printed line makes kubectl work; what is written outlives ``down``; the port stays."""
    first = shell(
        commands,
        """
        eval "$(dpucluster up --detach)"
        kubectl get namespace dpf-operator-system -o name
        kubectl create configmap kept -o name
        kubectl config view -o 'jsonpath={.clusters[*].name} {.users[*].name}{"\\n"}'
        kubectl config view -o 'jsonpath={.clusters[0].cluster.server}{"\\n"}'
        """,
    ).splitlines()
    assert ["namespace/dpf-operator-system", "configmap/kept"] == first[:2]
    assert "default kubernetes-admin" == first[2]
    assert any(re.search("dpucluster run", line) for line in commands.processes().values())
    again = commands.run("up")
    assert again.returncode == 1
    assert "the control plane 'default' runs already (process " in again.stderr
    assert commands.run("down").returncode == 0
    commands.wait_gone()
    second = shell(
        commands,
        """
        eval "$(dpucluster up --detach --no-controllers)"
        kubectl get configmap kept -o name
        kubectl config view -o 'jsonpath={.clusters[0].cluster.server}{"\\n"}'
        dpucluster down --purge
        """,
    ).splitlines()
    assert ["configmap/kept", first[3]] == second
    assert not kept(commands).directory.exists()
    commands.wait_gone()


def test_two_planes_side_by_side_and_a_killed_supervisor(commands: Commands) -> None:
    """A supervisor killed with -9 takes all its processes along, and no one else's."""
    for name in ("one", "two"):
        done = commands.run("up", "--detach", "--name", name, "--no-controllers")
        assert f"{name}/management/kubeconfig" in done.stdout, done.stderr
    both = commands.processes()
    os.kill(supervisor_of(commands, "one"), signal.SIGKILL)
    eventually(
        "the processes of one are gone",
        lambda: not any("state/dpucluster/one/" in line for line in commands.processes().values()),
    )
    rest = commands.processes()
    assert rest.keys() <= both.keys()
    assert len(rest) == 4, rest  # supervisor, etcd, API server, controller manager
    assert "did not run" in commands.run("down", "--name", "one").stderr
    assert commands.run("up", "--detach", "--name", "one", "--no-controllers").returncode == 0
    for name in ("one", "two"):
        assert "stopped" in commands.run("down", "--name", name).stderr
    commands.wait_gone()


@pytest.mark.parametrize("program", ["etcd", "kube-apiserver"])
def test_a_killed_program_ends_the_plane_with_a_message(commands: Commands, program: str) -> None:
    """The message says what was killed, how, and where its log is; nothing stays behind."""
    assert commands.run("up", "--detach", "--no-controllers").returncode == 0
    (victim,) = [
        pid for pid, line in commands.processes().items() if line.split()[0].endswith(program)
    ]
    os.kill(victim, signal.SIGKILL)
    eventually("no process is left", lambda: not commands.processes())
    told = commands.run("down")
    assert told.returncode == 1
    assert re.search(rf"had ended by itself: {program}.* was killed by SIGKILL", told.stderr)
    assert f"{program}.log" in told.stderr
    assert "its state is kept" in told.stderr
    assert commands.run("down").returncode == 0  # told once


def test_a_signal_ends_up_in_order(commands: Commands) -> None:
    """Ctrl-C on a plane in the foreground is its normal end."""
    process = commands.start("up", "--no-controllers")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("export KUBECONFIG=")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in err
    commands.wait_gone()


def test_a_signal_during_start_ends_it_too(commands: Commands) -> None:
    """SIGTERM before the plane is ready: everything started so far is ended, exit code 143."""
    process = commands.start("up", "--no-controllers")
    eventually(
        "the API server is started",
        lambda: any("secure-port" in line for line in commands.processes().values()),
    )
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, err
    commands.wait_gone()


def test_a_taken_port_is_told(commands: Commands) -> None:
    """The message names the port and the way out, in both forms of ``up``."""
    taken = ports.Reservation()
    try:
        foreground = commands.run("up", "--port", str(taken.port))
        background = commands.run("up", "--detach", "--port", str(taken.port))
    finally:
        taken.close()
    for done in (foreground, background):
        assert done.returncode == 1
        assert f"port {taken.port} of 127.0.0.1 is taken" in done.stderr
        assert "--port" in done.stderr
        assert "Traceback" not in done.stderr
    commands.wait_gone()
    assert not kept(commands).directory.exists(), "nothing of it is worth keeping"


def test_up_of_what_runs_already(commands: Commands) -> None:
    """What runs is told with its port and kubeconfig; flags that ask for something else fail."""
    assert commands.run("up", "--detach", "--no-controllers").returncode == 0
    port = kept(commands).port
    same = commands.run("up", "--detach", "--no-controllers", "--port", str(port))
    assert same.returncode == 0, same.stderr
    assert f"'default' runs already on port {port}; its kubeconfig is /" in same.stderr
    assert "export KUBECONFIG=" in same.stdout
    free = ports.Reservation()
    free.close()
    for flags in (("--no-controllers", "--port", str(free.port)), ()):
        other = commands.run("up", "--detach", *flags)
        assert (other.returncode, other.stdout) == (1, "")
        assert f"runs already on port {port}, without controllers" in other.stderr
        assert "management/kubeconfig" in other.stderr
        assert "dpucluster down" in other.stderr
    assert commands.run("down").returncode == 0


def test_a_failure_removes_no_data(commands: Commands) -> None:
    """A plane whose etcd once ran is kept when a later ``up`` fails."""
    data = files.make_private_directory(kept(commands).directory / "etcd" / "data")
    taken = ports.Reservation()
    try:
        assert commands.run("up", "--port", str(taken.port)).returncode == 1
        assert commands.run("up", "--detach", "--port", str(taken.port)).returncode == 1
    finally:
        taken.close()
    assert data.is_dir()


def test_an_unusable_state_directory_is_told(commands: Commands) -> None:
    """The message names the directory and the variable that moves it."""
    commands.env["XDG_STATE_HOME"] = "/dev/null/state"
    for flags in ((), ("--detach",)):
        done = commands.run("up", *flags)
        assert done.returncode == 1
        assert "error: cannot create /dev/null/state/dpucluster/default: " in done.stderr
        assert "set XDG_STATE_HOME to a writable directory" in done.stderr


def test_a_stale_process_id_hits_nobody(commands: Commands) -> None:
    """A process id left by a killed supervisor may be anybody's by now: nobody is signalled."""
    directory = kept(commands).prepare().directory
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        (directory / "lock").write_text(json.dumps([bystander.pid, 1]))
        assert "did not run" in commands.run("down").stderr
        stale = state.Process(bystander.pid, 1)
        assert not stale.signal(signal.SIGKILL)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_full_disk_is_told(commands: Commands) -> None:
    """Too little space is one sentence, not etcd's stack trace."""
    mount = commands.directory / "small"
    mount.mkdir()
    script = f"""
        mount -t tmpfs -o size=40m tmpfs {mount} || exit 77
        XDG_STATE_HOME={mount} exec {sys.executable} -m dpucluster up
    """
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=commands.env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"this machine allows no mount in a user namespace: {done.stderr}")
    assert done.returncode == 1
    assert "is full: etcd needs 192 MiB, " in done.stderr
    assert "Traceback" not in done.stderr


def test_down_of_nothing_and_bad_names(commands: Commands) -> None:
    """A plane that never was, and names that would leave the state directory, are refused."""
    assert "there is no control plane 'nope'" in commands.run("down", "--name", "nope").stderr
    for command in (("up",), ("up", "--detach"), ("down", "--purge")):
        done = commands.run(*command, "--name", "../etc")
        assert done.returncode == 1
        assert "is no name for a control plane" in done.stderr
    assert "at most 63 characters" in commands.run("up", "--name", "a" * 200).stderr
