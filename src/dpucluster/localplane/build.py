"""Binaries built by ``go build`` from the pinned module that this package carries.

The compiler runs under a tiny supervisor in a session of its own: when this process ends, even by
``kill -9``, the kernel tells the supervisor, and it ends the whole group (``go`` and the compilers
and linkers it has started).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dpucluster import errors
from dpucluster.localplane import manifests, release
from dpucluster.localplane import progress as progress_

_TICK = 0.2
_TAIL_LINES = 15
_GET_GO = "(https://go.dev/dl, or the package golang of your distribution)"

_SUPERVISOR = """
import ctypes, os, signal, sys

def end(*_):
    os.killpg(0, signal.SIGKILL)  # the whole group, this process too

signal.signal(signal.SIGTERM, end)
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):  # it died before the kernel was asked to tell
    end()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os._exit(code if code >= 0 else 128 - code)
"""


class Builder(Protocol):
    """Makes one binary at ``target``. The seam that lets tests build something small.

    ``scratch`` is an empty directory for unfinished work, in which ``target`` is, too; the
    builder is alone in it. A failure is a ``BinaryError`` that says what to do, or an ``OSError``.
    """

    def __call__(
        self,
        name: str,
        target: Path,
        *,
        scratch: Path,
        progress: progress_.Progress,
        env: Mapping[str, str],
    ) -> None:
        """Make the binary."""


def go_build(
    name: str,
    target: Path,
    *,
    scratch: Path,
    progress: progress_.Progress,
    env: Mapping[str, str],
) -> None:
    """Build one binary from the packed ``go.mod`` (the real :class:`Builder`).

    Raises:
        BinaryError: Go is missing or too old, or the build failed.
    """
    pinned = release.pins_of(name)
    module = scratch / "module"
    module.mkdir(exist_ok=True)
    for file in ("go.mod", "go.sum"):
        (module / file).write_bytes(release.module_file(file, pinned.module).read_bytes())
    go = _find_go(pinned, env)
    environment = _environment(env, scratch, pinned)
    _check_version(go, pinned, module, environment, progress)
    if name == release.KAMAJI_MANIFESTS:
        source = _module_source(go, name, module, environment, progress)
        target.write_text(manifests.collect(source), encoding="utf-8")
        return
    command = (
        go, "build", "-mod=readonly", "-buildvcs=false", "-trimpath",
        "-ldflags", release.linker_flags(name, pinned),
        "-o", str(target), release.package_of(name),
    )  # fmt: skip
    log = scratch / "build.log"
    code = _run(command, cwd=module, env=environment, log=log, progress=progress)
    if code != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise errors.BinaryError(explain_failure(name, code, text))


def _find_go(pinned: release.Pins, env: Mapping[str, str]) -> str:
    found = shutil.which("go", path=env.get("PATH", os.defpath))
    if found is None:
        raise errors.BinaryError(f"go is not on PATH: install Go {pinned.go} or later {_GET_GO}")
    return os.path.abspath(found)  # noqa: PTH100 - a symlinked go must keep its name


def _module_source(
    go: str,
    name: str,
    module: Path,
    environment: Mapping[str, str],
    progress: progress_.Progress,
) -> Path:
    """Where Go has unpacked the module that ``name`` is in, which it fetches first."""
    log = module / "download.log"
    package = release.package_of(name)
    command = (go, "mod", "download", "-json", package)
    code = _run(command, cwd=module, env=environment, log=log, progress=progress)
    text = log.read_text(encoding="utf-8", errors="replace")
    # Go may tell what it downloads before it prints the document.
    found = re.search(r'"Dir": "([^"]+)"', text)
    if code != 0 or found is None:
        raise errors.BinaryError(explain_failure(name, code, text))
    return Path(found.group(1))


def _environment(env: Mapping[str, str], scratch: Path, pinned: release.Pins) -> dict[str, str]:
    """The user's Go settings (GOFLAGS, GOPROXY, caches …), less what would build another thing."""
    system, architecture = release.target()
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **env,
        "GOOS": system,
        "GOARCH": architecture,
        "GO111MODULE": "on",
        "GOWORK": "off",  # a workspace above the cache directory would replace the pins
        "GOTMPDIR": str(temporary),  # so that what a killed build leaves is found again
        # what runs in a file system of its own must not need the libraries of this one
        **({"CGO_ENABLED": "0"} if pinned.kamaji else {}),
    }


def _check_version(
    go: str,
    pinned: release.Pins,
    module: Path,
    environment: Mapping[str, str],
    progress: progress_.Progress,
) -> None:
    """Ask Go for its version inside the module: a Go that may fetch a newer one does it here."""
    log = module / "version.log"
    code = _run((go, "version"), cwd=module, env=environment, log=log, progress=progress)
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    if code != 0 or is_too_old(said, pinned.go):
        raise errors.BinaryError(
            f"Go {pinned.go} or later is needed, {go} says: {said[:300]!r}. Install a newer Go"
            f" {_GET_GO}, or let it fetch one (GOTOOLCHAIN=auto)"
        )


def is_too_old(said: str, wanted: str) -> bool:
    """Whether ``go version``'s answer is of a Go before ``wanted``; unknown words are trusted."""
    match = re.search(r"\bgo(\d+)\.(\d+)", said)
    if match is None:
        return False
    major, minor = wanted.split(".")[:2]
    return (int(match.group(1)), int(match.group(2))) < (int(major), int(minor))


def explain_failure(name: str, code: int, log: str) -> str:
    """What a failed build should tell: the likely cause first, then the end of its output."""
    tail = "\n".join(log.strip().splitlines()[-_TAIL_LINES:])
    if "no space left on device" in log or "disk quota exceeded" in log:
        advice = "the disk is full (Go's caches too: `go env GOCACHE GOMODCACHE`): make room"
    elif re.search(r"dial tcp|no such host|i/o timeout|TLS handshake|proxy.*connect", log):
        advice = "the Go module proxy cannot be reached: set GOPROXY to one that can"
    elif "verifying" in log and "checksum mismatch" in log:
        advice = "a Go module is not what go.sum says: check GOPROXY; `go clean -modcache` helps"
    elif "signal: killed" in log or code in (137, -9):
        advice = "something killed the compiler, most likely for memory: it needs 2 GB free"
    else:
        advice = "its output ends with"
    return f"go build of {name} failed (exit code {code}): {advice}\n{tail}"


def _run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    progress: progress_.Progress,
) -> int:
    """Run ``command`` to its end, its output in ``log``; the exit code."""
    with log.open("wb") as output, _supervised(command, cwd, env, output.fileno()) as process:
        while True:
            try:
                return process.wait(_TICK)
            except subprocess.TimeoutExpired:
                progress.tick()


@contextlib.contextmanager
def _supervised(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], output: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A process group that ends with the block, and with this process."""
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", "-c", _SUPERVISOR, str(os.getpid()), *command),
        cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
