"""The download path against a server on loopback, with a recorded build behind it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dpucluster import errors
from dpucluster.localplane import binaries, cache, download, progress, release
from tests.support import downloads

CONTENT = b"#!/bin/sh\necho downloaded\n"
BUILT = b"#!/bin/sh\necho built\n"


class Build:
    """A builder that records what it was asked for and is done at once."""

    def __init__(self, error: Exception | None = None) -> None:
        self.names: list[str] = []
        self._error = error

    def __call__(
        self,
        name: str,
        target: Path,
        *,
        scratch: Path,
        progress: progress.Progress,
        env: Mapping[str, str],
    ) -> None:
        """Write a program that says it was built."""
        assert target.is_relative_to(scratch)
        assert "HOME" in env
        progress.tick()
        self.names.append(name)
        target.write_bytes(BUILT)
        if self._error is not None:
            raise self._error


@pytest.fixture
def server() -> Iterator[downloads.ReleaseServer]:
    with downloads.ReleaseServer() as running:
        yield running


@pytest.fixture
def env(server: downloads.ReleaseServer, tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), **server.env()}


def ensure(names: list[str], env: Mapping[str, str], build: Build) -> dict[str, Path]:
    """``binaries.ensure`` without a word."""
    return binaries.ensure(names, progress=progress.Silent(), env=env, builder=build)


def leftovers(env: Mapping[str, str]) -> list[Path]:
    """Everything in the cache that is neither a binary nor a lock."""
    folder = cache.of(release.pins(), env).folder
    return [
        path
        for path in folder.parent.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.parent != folder
    ]


def test_right_archives_are_installed(server: downloads.ReleaseServer, env: dict[str, str]) -> None:
    """A bare binary and one in a tar are checked, installed as programs, and nothing else is."""
    server.publish("etcd", CONTENT)
    server.publish("kubectl", CONTENT)
    build = Build()

    found = ensure(["etcd", "kubectl"], env, build)

    folder = cache.of(release.pins(), env).folder
    assert {"etcd": folder / "etcd", "kubectl": folder / "kubectl"} == found
    for path in found.values():
        assert path.read_bytes() == CONTENT
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert build.names == []
    assert leftovers(env) == []
    assert {"etcd", "kubectl"} == {path.name for path in folder.iterdir()}


def test_cache_is_asked_first(server: downloads.ReleaseServer, env: dict[str, str]) -> None:
    """What is in the cache is neither downloaded nor built again."""
    server.publish("kubectl", CONTENT)
    ensure(["kubectl"], env, Build())
    asked = len(server.requests)

    ensure(["kubectl"], env, Build())

    assert asked == len(server.requests)


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver"])
def test_wrong_checksum_is_refused(
    name: str, server: downloads.ReleaseServer, env: dict[str, str]
) -> None:
    """A file that is not what was published is an error, not a reason to build in silence."""
    server.publish(name, CONTENT, checksum="0" * 64)
    build = Build()

    with pytest.raises(errors.BinaryError, match=r"refused: its SHA-256 .*DPUCLUSTER_DOWNLOAD"):
        ensure([name], env, build)

    assert build.names == []
    assert binaries.locate([name], env) == {}
    assert leftovers(env) == []


def test_cut_connection_falls_through(server: downloads.ReleaseServer, env: dict[str, str]) -> None:
    """Half an archive is thrown away and the binary is built; the others are still downloaded."""
    archive = server.publish("kube-apiserver", CONTENT)
    server.publish("kubectl", CONTENT)
    path = server.path(archive.url)
    server.answers[path] = replace(server.answers[path], cut_after=5)
    build = Build()

    found = ensure(["kube-apiserver", "kubectl"], env, build)

    assert found["kube-apiserver"].read_bytes() == BUILT
    assert found["kubectl"].read_bytes() == CONTENT
    assert build.names == ["kube-apiserver"]
    assert leftovers(env) == []


def test_404_falls_through(env: dict[str, str]) -> None:
    """An archive that is not there is built."""
    build = Build()
    found = ensure(["etcd", "kubectl"], env, build)
    assert build.names == ["etcd", "kubectl"]
    assert found["kubectl"].read_bytes() == BUILT


def test_no_checksum_falls_through(server: downloads.ReleaseServer, env: dict[str, str]) -> None:
    """A page where the checksum should be (a network that wants a login) is no checksum."""
    archive = server.publish("kubectl", CONTENT)
    page = downloads.Answer(b"<html>Please log in</html>")
    server.answers[server.path(archive.checksums_url)] = page
    build = Build()
    ensure(["kubectl"], env, build)
    assert build.names == ["kubectl"]


def test_no_route_falls_through_and_is_tried_once(tmp_path: Path) -> None:
    """A host that refuses is asked once in a run; everything is built, and it is told why."""
    build = Build()
    told = Told()
    with socket.socket() as bound:  # and never listens
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}"
        env = {
            "HOME": str(tmp_path),
            release.KUBERNETES_URL_VARIABLE: closed,
            release.ETCD_URL_VARIABLE: closed,
        }
        binaries.ensure(progress=told, env=env, builder=build)

    assert list(binaries.ALL) == build.names
    assert len([line for line in told.lines if "cannot be reached" in line]) == 1


def test_black_hole_does_not_hang(tmp_path: Path) -> None:
    """A host that accepts and never answers is given up within the patience, for all binaries."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        env = {release.KUBERNETES_URL_VARIABLE: url}
        archive = release.archive("kubectl", release.pins(), env)
        assert archive is not None
        patience = download.Patience(answer=0.5, connect=0.2, stall=3600, archive=3600)
        downloader = download.Downloader(progress.Silent(), patience)

        first = downloader.fetch(archive, tmp_path / "kubectl")
        second = downloader.fetch(archive, tmp_path / "kubectl")

    assert first is not None
    assert first == second
    assert downloader.is_down(archive)
    assert list(tmp_path.iterdir()) == []


def test_stalled_archive_falls_through(server: downloads.ReleaseServer, tmp_path: Path) -> None:
    """An archive that stops coming, the connection still open, is given up."""
    archive = server.publish("kubectl", CONTENT)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        silent = replace(archive, url=f"http://127.0.0.1:{listener.getsockname()[1]}/kubectl")
        downloader = download.Downloader(progress.Silent(), download.Patience(stall=0.3))
        missed = downloader.fetch(silent, tmp_path / "kubectl")
    assert missed is not None
    assert downloader.is_down(archive)
    assert list(tmp_path.iterdir()) == []


def test_redirect_is_followed_but_never_off_http(
    server: downloads.ReleaseServer, env: dict[str, str]
) -> None:
    """A redirect to another path works; one to another protocol is as good as no archive."""
    archive = server.publish("kubectl", CONTENT)
    path = server.path(archive.url)
    server.answers["/moved"] = server.answers[path]
    server.answers[path] = downloads.Answer(status=302, location="/moved")
    found = ensure(["kubectl"], env, Build())
    assert found["kubectl"].read_bytes() == CONTENT

    found["kubectl"].unlink()
    server.answers[path] = downloads.Answer(status=302, location="ftp://127.0.0.1/kubectl")
    build = Build()
    ensure(["kubectl"], env, build)
    assert build.names == ["kubectl"]


def test_archive_without_the_binary_is_an_error(
    server: downloads.ReleaseServer, env: dict[str, str]
) -> None:
    """A published archive that does not hold etcd is told, whatever is in it instead."""
    archive = server.publish("etcd", CONTENT)
    body = downloads.packed("somewhere/else", CONTENT)
    sums = f"{hashlib.sha256(body).hexdigest()}  {archive.file}"
    server.answers[server.path(archive.url)] = downloads.Answer(body)
    server.answers[server.path(archive.checksums_url)] = downloads.Answer(sums.encode())
    with pytest.raises(errors.BinaryError, match="holds no"):
        ensure(["etcd"], env, Build())


def test_assets_directory_counts_for_what_it_has(tmp_path: Path) -> None:
    """KUBEBUILDER_ASSETS comes first, by binary; ``directory`` links both places together."""
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (assets / name).write_bytes(CONTENT)
        (assets / name).chmod(0o755 if name != "kubectl" else 0o644)  # no program: not counted
    env = off(tmp_path) | {binaries.ASSETS_VARIABLE: str(assets)}
    build = Build()

    folder = binaries.directory(progress=progress.Silent(), env=env, builder=build)
    again = binaries.directory(progress=progress.Silent(), env=env, builder=build)

    assert build.names == ["kube-controller-manager", "kubectl"]
    assert folder == again
    assert sorted(binaries.ALL) == sorted(path.name for path in folder.iterdir())
    assert (folder / "etcd").resolve() == assets / "etcd"
    assert (folder / "kubectl").read_bytes() == BUILT
    assert "etcd" not in binaries.locate(["etcd"], off(tmp_path))


def test_what_the_assets_directory_lacks_is_told(tmp_path: Path) -> None:
    """One line names what is missing there, also when the cache has everything already."""
    ensure(["etcd", "kubectl"], off(tmp_path), Build())
    env = off(tmp_path) | {binaries.ASSETS_VARIABLE: "/nowhere"}
    told = io.StringIO()
    binaries.ensure(["etcd", "kubectl"], progress=progress.Lines(told), env=env, builder=Build())
    assert (
        "KUBEBUILDER_ASSETS=/nowhere has no etcd, kubectl; the cache is used instead\n"
        == told.getvalue()
    )


def test_one_place_is_no_link(tmp_path: Path) -> None:
    """When all are in the cache, the cache is the directory."""
    env = off(tmp_path)
    folder = binaries.directory(progress=progress.Silent(), env=env, builder=Build())
    assert cache.of(release.pins(), env).folder == folder


def test_failed_build_names_the_ways_out(tmp_path: Path) -> None:
    """When nothing works, one message says why neither did, and nothing half-made is left."""
    env = off(tmp_path)
    with pytest.raises(errors.BinaryError, match=r"(?s)switched off.*no go.*KUBEBUILDER_ASSETS"):
        ensure(["etcd"], env, Build(errors.BinaryError("no go")))
    assert binaries.locate(["etcd"], env) == {}
    assert leftovers(env) == []


def test_full_disk_is_told(tmp_path: Path) -> None:
    """A disk that is full during the work is a BinaryError with advice."""
    with pytest.raises(errors.BinaryError, match="disk full"):
        ensure(["etcd"], off(tmp_path), Build(OSError(28, "No space left on device")))


def test_unwritable_cache_is_told(tmp_path: Path) -> None:
    """A cache that cannot be written is a BinaryError with advice."""
    (tmp_path / "file").write_text("")
    env = off(tmp_path) | {"XDG_CACHE_HOME": str(tmp_path / "file")}
    with pytest.raises(errors.BinaryError, match=r"cannot write the cache.*XDG_CACHE_HOME"):
        ensure(["etcd"], env, Build())


class Told(progress.Silent):
    """Progress that remembers results."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def finish(self, text: str) -> None:
        """Remember."""
        self.lines.append(text)


def off(home: Path) -> dict[str, str]:
    """An environment without downloads."""
    return {
        "HOME": str(home),
        release.KUBERNETES_URL_VARIABLE: release.OFF,
        release.ETCD_URL_VARIABLE: release.OFF,
    }
