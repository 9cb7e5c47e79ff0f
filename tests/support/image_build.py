"""Builds images with a real buildah, on a base made of Debian packages; nothing is installed.

buildah and debootstrap are unpacked into the cache, and so is the base: it is made once. buildah
sees its libraries in a mount namespace of its own, for it starts itself without an environment.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from dpucluster.localplane import cache, lock, progress
from tests.support import lan

PACKAGES = ("buildah", "debootstrap")
SUITE = "bookworm"
BASE = "localhost/base:1"
LIMIT = 900.0
"""Seconds for one step; two minutes are usual on a busy machine."""


class BuildError(Exception):
    """A step failed; the message is the end of what it said."""


def lacking() -> str:
    """What this machine lacks to build images; empty: nothing."""
    missing = [tool for tool in ("apt-get", "dpkg-deb", "tar") if shutil.which(tool) is None]
    return lan.lacking() or (f"the programs {', '.join(missing)}" if missing else "")


class Builder:
    """One store of images in a directory, which goes with the ``with`` block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tools = cache.root(os.environ) / "image-build"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._directory)

    def build(self, context: Path, tag: str) -> None:
        """Build the Containerfile of ``context`` on the base."""
        self._prepare()
        made = self._buildah("from", "scratch").strip()
        self._buildah("add", "--quiet", made, str(self._tools / "base.tar"), "/")
        self._buildah("commit", "--quiet", *self._policy, made, BASE)
        argument = f"BASE={BASE}"
        told = ("--pull=false", "--isolation", "chroot", "--build-arg", argument, "--tag", tag)
        self._buildah("build", *self._policy, *told, str(context))

    @contextlib.contextmanager
    def unpacked(self, tag: str) -> Iterator[Path]:
        """The file system of an image, as a directory."""
        made = self._buildah("from", *self._policy, "--pull=never", tag).strip()
        yield Path(self._buildah("mount", made).strip())
        self._buildah("rm", made)

    @property
    def _policy(self) -> tuple[str, ...]:
        return ("--signature-policy", str(self._directory / "policy.json"))

    def _buildah(self, command: str, *arguments: str) -> str:
        """Run buildah where its libraries are; what it prints."""
        (self._directory / "policy.json").write_text(
            '{"default": [{"type": "insecureAcceptAnything"}]}', encoding="utf-8"
        )
        registries = self._directory / "registries.conf"
        registries.write_text("unqualified-search-registries = []\n", encoding="utf-8")
        run_root = self._directory / "run"
        run_root.mkdir(exist_ok=True)
        store = ("--root", str(self._directory / "store"), "--runroot", str(run_root))
        tool = ("buildah", *store, "--storage-driver", "vfs", command, *arguments)
        layers = f"lowerdir={self._tools / 'root/usr'}:/usr"
        script = (
            f"mount --make-rprivate /; mount -t overlay -o {shlex.quote(layers)} overlay /usr; "
            f"exec {shlex.join(tool)}"
        )
        env = {
            **os.environ,
            "CONTAINERS_REGISTRIES_CONF": str(registries),
            "XDG_RUNTIME_DIR": str(run_root),
            "TMPDIR": str(run_root),
        }
        return _run("unshare", "--mount", "--", "sh", "-euc", script, env=env)

    def _prepare(self) -> None:
        """Get the tools and the base, unless they are there."""
        base = self._tools / "base.tar"
        self._tools.parent.mkdir(parents=True, exist_ok=True)
        with lock.hold(
            self._tools.with_name("image-build.lock"),
            purpose="which gets what builds images",
            progress=progress.for_stream(),
            unless=base.exists,
        ):
            if not base.exists():
                self._get()

    def _get(self) -> None:
        shutil.rmtree(self._tools, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix="image-build.", dir=self._tools.parent))
        partial.chmod(0o755)
        try:
            archives, root = partial / "archives", partial / "root"
            (archives / "partial").mkdir(parents=True)
            where = ("-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1")
            options = ("--yes", "--quiet=2", "--no-install-recommends", "--download-only")
            _run("apt-get", "install", *options, "--reinstall", *where, *PACKAGES)
            for archive in sorted(archives.glob("*.deb")):
                _run("dpkg-deb", "--extract", str(archive), str(root))
            shutil.rmtree(archives)
            script, made = str(root / "usr/sbin/debootstrap"), str(partial / "base")
            env = {**os.environ, "DEBOOTSTRAP_DIR": str(root / "usr/share/debootstrap")}
            _run("sh", script, "--variant=minbase", SUITE, made, _mirror(), env=env)
            _run("tar", "--create", "--file", str(partial / "base.tar"), "--directory", made, ".")
            shutil.rmtree(made)
            partial.rename(self._tools)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _mirror() -> str:
    """Where this machine's apt gets its packages from."""
    return _run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split()[0]


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            [*lan.DIE_WITH_US, *command],
            env=env,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took longer than {LIMIT} s") from error
    if done.returncode:
        said = f"{done.stdout}{done.stderr}"[-2000:]
        raise BuildError(f"{shlex.join(command)}: {said}")
    return done.stdout
