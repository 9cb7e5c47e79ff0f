"""``dpucluster demo`` as a user starts it: in a pipe, and on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE

READY_ROW = r"^dpu-cluster-1  True   Ready     static  10        v1\.30\.2  \d+s$"
READY = r"^--> Ready [\d.]+ s after it was created$"
LONG = 300.0
"""Seconds until a test gives up: a demo takes 15, on a machine with nothing else to do."""


@pytest.fixture
def scratch(binaries: Mapping[str, Path], tmp_path: Path) -> Path:
    """Where the demo puts its files, so that what is left can be seen."""
    del binaries  # there before the demo starts: fetching them is not what is tested here
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "dpucluster", "demo", *flags]


def environment(scratch: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1", **more}


def run(scratch: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*flags),
        env=environment(scratch, FORCE_COLOR="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )


def users_of(directory: Path) -> dict[int, str]:
    """The processes whose command line names something below ``directory``."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                cwd = str((entry / "cwd").readlink())
                if str(directory) in f"{line} {cwd}":
                    found[int(entry.name)] = line
    return found


def wait_until(is_so: Callable[[], Any], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_plain(text: str) -> bool:
    """No colours, no control characters, 80 columns but for commands."""
    return all(
        line.isprintable() and (len(line) <= 80 or line.startswith("    $ "))
        for line in text.splitlines()
    )


@pytest.mark.timeout(LONG)
def test_exit_ends_with_ready(scratch: Path) -> None:
    """In a pipe: plain lines, exit code 0 after Ready, and nothing left."""
    done = run(scratch, "--exit")
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert re.search(READY_ROW, done.stdout, re.MULTILINE), done.stdout
    assert re.search(READY, done.stdout, re.MULTILINE), done.stdout
    for manifest in ("10-dpfoperatorconfig", "20-secret", "30-dpucluster-static"):
        said = rf"^    \$ kubectl apply -f {manifest}\.yaml\n    \S+ created$"
        assert re.search(said, done.stdout, re.MULTILINE), done.stdout
    assert is_plain(done.stdout)
    assert ([], {}) == (list(scratch.iterdir()), users_of(scratch))


@pytest.mark.timeout(LONG)
def test_without_ready_it_fails_and_says_why(scratch: Path) -> None:
    """When Ready does not come in time, the exit code is not 0, and everything is removed."""
    done = run(scratch, "--exit", "--timeout", "10ms")
    assert 1 == done.returncode, done.stdout
    assert re.fullmatch(
        r"error: DPUCluster dpf-operator-system/dpu-cluster-1 is not Ready after 0\.01 s: .*\n",
        done.stderr,
    ), done.stderr
    assert "Ready " not in done.stdout
    assert ([], {}) == (list(scratch.iterdir()), users_of(scratch))


TOUR = (
    r"^--> Ready [\d.]+ s after",
    r"^==> Stop the tenant's API server",
    r"^dpu-cluster-1  False  NotReady",
    r"^  Ready +False +Unreachable",
    r"^--> Unreachable after",
    r"^==> Start it again",
    r"^dpu-cluster-1  True   Ready",
    r"^--> Ready again",
    r"^==> Rotate the kubeconfig",
    r"^    the tenant's audit log shows 3 probes with the certificate",
    r"^--> in use, and no false NotReady: the watch told \d+ changes meanwhile",
    r"^==> Break the Secret, first way",
    r"^  Created +False +KubeconfigKeyMissing",
    r"^    Secret \S+ has neither key|^    dpf-operator-system/\S+ has neither key",
    r"^--> KubeconfigKeyMissing",
    r"^==> Second way",
    r"^  Created +False +KubeconfigUnsafe",
    r"users\[0\]\.user\.exec runs a program",
    r"^--> KubeconfigUnsafe",
    r"^==> Third way",
    r"^  Created +False +SecretNotFound",
    r"^--> SecretNotFound",
    r"^==> Repair it",
    r"^--> Ready again",
    r"^==> Delete the DPUCluster",
    r"^dpu-cluster-1 is gone",
    r"^--> gone",
)
"""What is to be found in the output, in this order."""


@pytest.mark.timeout(LONG)
def test_the_tour_shows_every_step(scratch: Path) -> None:
    """Outage, recovery, rotation, broken Secrets, repair, deletion, each with its effect."""
    done = run(scratch, "--tour", "--exit")
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    rest = done.stdout
    for pattern in TOUR:
        found = re.search(pattern, rest, re.MULTILINE)
        assert found, f"{pattern} is not in:\n{rest}"
        rest = rest[found.end() :]
    assert is_plain(done.stdout)
    assert "client-key-data" not in done.stdout
    assert ([], {}) == (list(scratch.iterdir()), users_of(scratch))


@contextlib.contextmanager
def waiting(scratch: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, bytes]]:
    """A demo on a terminal that waits for Ctrl-C: its process, the terminal, and what it showed."""
    ours, theirs = pty.openpty()
    demo = subprocess.Popen(
        command(),
        env=environment(scratch, TERM="xterm-256color", NO_COLOR="1", COLUMNS="80", LINES="40"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield demo, ours, read_until(ours, b"Ctrl-C ends the demo")
    finally:
        demo.kill()
        demo.wait()
        os.close(ours)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal shows until ``wanted`` (empty: until its end)."""
    seen = b""
    while not (wanted and wanted in seen):
        try:
            more = os.read(terminal, 65536)
        except OSError:  # how a terminal tells that its last writer has gone
            more = b""
        if not more:
            assert not wanted, seen.decode()
            break
        seen += more
    return seen


@pytest.mark.timeout(LONG)
def test_on_a_terminal_ctrl_c_is_the_way_out(scratch: Path) -> None:
    """The table is alive, NO_COLOR is honoured, and Ctrl-C ends it with a whole screen and 0."""
    with waiting(scratch) as (demo, terminal, shown):
        assert b"HealthCheckPassed" in shown
        assert b"\x1b[?25l" in shown, "the cursor is hidden while the table is drawn"
        assert not re.search(rb"\x1b\[[\d;]*3\d[;m]", shown), "a colour in spite of NO_COLOR"
        assert re.search(rb"export KUBECONFIG=\S+/management/kubeconfig", shown)
        demo.send_signal(signal.SIGINT)
        rest = read_until(terminal, b"")
        assert 0 == demo.wait(PATIENCE), rest.decode()
        assert b"\x1b[?25h" in rest, "the cursor is back"
        assert b"Traceback" not in rest
    assert ([], {}) == (list(scratch.iterdir()), users_of(scratch))


@pytest.mark.timeout(LONG)
def test_sigkill_leaves_no_process(scratch: Path) -> None:
    """Whatever the demo has started ends with it, also when it had no chance to see to it."""
    demo = subprocess.Popen(command(), env=environment(scratch), stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: "dpucluster run" in str(users_of(scratch)), LONG)
        assert "etcd" in str(users_of(scratch))
        assert 2 == str(users_of(scratch)).count("/kube-apiserver ")
    finally:
        demo.kill()
        demo.wait()
    assert wait_until(lambda: not users_of(scratch), PATIENCE), users_of(scratch)


@pytest.mark.timeout(LONG)
def test_ctrl_c_before_the_end_is_told_by_the_exit_code(scratch: Path) -> None:
    """Ctrl-C while the planes start: 130 as of any interrupted command, and nothing left."""
    demo = subprocess.Popen(command("--exit"), env=environment(scratch), stdout=subprocess.PIPE)
    try:
        assert wait_until(lambda: "kube-apiserver" in str(users_of(scratch)), LONG)
        demo.send_signal(signal.SIGINT)
        assert 130 == demo.wait(PATIENCE)
    finally:
        demo.kill()
        demo.communicate()
    assert ([], {}) == (list(scratch.iterdir()), users_of(scratch))
