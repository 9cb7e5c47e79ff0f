"""What is pinned, what progress says, what failures tell: the pure half of localplane.binaries."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from dpucluster import errors
from dpucluster.localplane import binaries, build, cache, progress, release

PINS = release.Pins(kubernetes="v1.34.4", etcd="v3.6.5", go="1.24.0")
DIGEST = "ab" * 32
GO_MOD = """module example.com/controlplane

go 1.24.0

require (
	go.etcd.io/etcd/server/v3 v3.6.5 // indirect
	k8s.io/kubernetes v1.34.4 // indirect
)
"""


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time it stands at."""
        return self.now


def test_versions_come_from_go_mod() -> None:
    """The pins are what go.mod requires, and the packed go.mod has all three."""
    assert release.parse_pins(GO_MOD) == PINS
    assert binaries.kubernetes_version() == release.pins().kubernetes


def test_damaged_go_mod_is_told() -> None:
    """A go.mod without a pin is an error that says what to do."""
    with pytest.raises(errors.BinaryError, match="install dpucluster again"):
        release.parse_pins("module x\n")


def test_linker_flags_stamp_kubernetes_only() -> None:
    """Kubernetes is stamped with its version; etcd carries its own."""
    flags = release.linker_flags("kubectl", PINS)
    for stamp in ("gitVersion=v1.34.4", "gitMajor=1", "gitMinor=34", "gitTreeState=clean"):
        assert f"-X k8s.io/component-base/version.{stamp}" in flags
    assert release.linker_flags("etcd", PINS) == "-s -w"


def test_official_archives() -> None:
    """Without an override the archives are the official ones, over https."""
    _, architecture = release.target()
    server = release.archive("kube-apiserver", PINS, {})
    etcd = release.archive("etcd", PINS, {})
    assert server is not None
    assert etcd is not None
    assert server.url == (f"https://dl.k8s.io/v1.34.4/bin/linux/{architecture}/kube-apiserver")
    assert server.checksums_url == f"{server.url}.sha256"
    folder = f"etcd-v3.6.5-linux-{architecture}"
    base = "https://github.com/etcd-io/etcd/releases/download/v3.6.5"
    assert etcd.url == f"{base}/{folder}.tar.gz"
    assert etcd.checksums_url == f"{base}/SHA256SUMS"
    assert etcd.member == f"{folder}/etcd"


def test_downloads_can_be_switched_off_or_moved() -> None:
    """``off`` means build; a mirror replaces the base; another scheme is refused."""
    variable = release.KUBERNETES_URL_VARIABLE
    assert release.archive("kubectl", PINS, {variable: "off"}) is None
    moved = release.archive("kubectl", PINS, {variable: "https://mirror.example/k8s/"})
    assert moved is not None
    assert moved.url.startswith("https://mirror.example/k8s/v1.34.4/")
    with pytest.raises(errors.BinaryError, match=variable):
        release.archive("kubectl", PINS, {variable: "file:///etc"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(DIGEST, DIGEST, id="bare"),
        pytest.param(f"{DIGEST.upper()}\n", DIGEST, id="upper case"),
        pytest.param(f"{'0' * 64}  other\n{DIGEST}  a.tar.gz\n", DIGEST, id="sha256sum"),
        pytest.param(f"{DIGEST} *a.tar.gz", DIGEST, id="binary mark"),
        pytest.param(f"{DIGEST}  other", None, id="another file"),
        pytest.param("<html>Please log in</html>", None, id="login page"),
        pytest.param("", None, id="empty"),
    ],
)
def test_published_digest(text: str, expected: str | None) -> None:
    """Both forms of checksum files are read; anything else holds no checksum."""
    assert release.published_digest(text, "a.tar.gz") == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("go version go1.26.8 linux/amd64", False),
        ("go version go1.24 linux/amd64", False),
        ("go version go1.23.9 linux/amd64", True),
        ("go version go1.9 linux/amd64", True),
        ("go version devel +abcdef linux/amd64", False),
    ],
)
def test_too_old_a_go_is_known(said: str, expected: bool) -> None:
    """Versions are compared as numbers, and a development version is trusted."""
    assert build.is_too_old(said, "1.24.0") is expected


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("write /x: no space left on device", "make room"),
        ("Get https://p.example: dial tcp: lookup p.example: no such host", "GOPROXY"),
        ("compile: signal: killed", "memory"),
        ("x.go:1: syntax error", "syntax error"),
    ],
)
def test_failed_build_says_what_to_do(log: str, advice: str) -> None:
    """The likely cause of a failed build stands in its message, and its last output."""
    message = build.explain_failure("etcd", 1, log)
    assert advice in message
    assert log in message


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "disk full"),
        (errno.EROFS, "cannot write the cache"),
        (errno.EACCES, "cannot write the cache"),
    ],
)
def test_disk_trouble_says_what_to_do(number: int, expected: str) -> None:
    """A full disk and a read-only cache each name the way out."""
    message = cache.advice(OSError(number, "no"), Path("/cache"))
    assert expected in message
    assert "XDG_CACHE_HOME" in message
    assert "KUBEBUILDER_ASSETS" in message


def test_cache_directory_follows_the_environment() -> None:
    """XDG_CACHE_HOME counts when absolute, else the cache is under HOME."""
    system, architecture = release.target()
    tail = Path("dpucluster/binaries") / f"v1.34.4-{system}-{architecture}"
    env = {"HOME": "/home/me"}
    assert cache.of(PINS, env | {"XDG_CACHE_HOME": "/x"}).folder == Path("/x") / tail
    assert cache.of(PINS, env | {"XDG_CACHE_HOME": "x"}).folder == Path("/home/me/.cache") / tail
    assert cache.of(PINS, env).folder == Path("/home/me/.cache") / tail


def test_unknown_binary_is_refused() -> None:
    """A name that is not pinned is an error, not a download."""
    with pytest.raises(errors.BinaryError, match="no such binary: kubeadm"):
        binaries.ensure(["kubeadm"], progress=progress.Silent(), env={})


def test_lines_are_rare() -> None:
    """Plain progress prints the step, a line each 15 s, and the result with its time."""
    clock, stream = Clock(), io.StringIO()
    lines = progress.Lines(stream, clock)
    lines.start("etcd: building")
    for _ in range(40):
        clock.now += 1
        lines.tick("3 of 9 MB")
    clock.now += 30
    lines.finish("built")
    assert stream.getvalue().splitlines() == [
        "etcd: building",
        "etcd: building, 15 s, 3 of 9 MB",
        "etcd: building, 30 s, 3 of 9 MB",
        "etcd: building, built, 1 min 10 s",
    ]


def test_terminal_line_is_redrawn_within_its_width() -> None:
    """A terminal's line is cleared, shows elapsed time, never wraps, and ends as the result."""
    clock, stream = Clock(), io.StringIO()
    terminal = progress.Terminal(stream, clock, columns=lambda: 30)
    terminal.start("kube-apiserver: building with go")
    clock.now += 61
    terminal.tick()
    terminal.finish("built")
    drawn = stream.getvalue().split("\r\x1b[K")[1:]
    assert [len(line) for line in drawn[:2]] == [29, 29]
    assert drawn[-1] == "kube-apiserver: building with go, built, 1 min 01 s\n"


def test_a_pipe_gets_lines() -> None:
    """What is no terminal gets plain lines."""
    assert isinstance(progress.for_stream(io.StringIO()), progress.Lines)
