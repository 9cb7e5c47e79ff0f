"""Programs of a node and of its images, out of Debian packages that are unpacked and not installed.

The packages come through apt, by the machine's own sources, with the signatures that apt checks.
They are fetched once and kept beside the other binaries.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dpucluster.localplane import cache, lock, progress, release

PACKAGES = (
    "busybox-static",  # the sandbox image: a program that waits, without libraries
    "containerd",
    "containernetworking-plugins",
    "coreutils",
    "curl",
    "dash",
    "iptables",
    "keepalived",
    "runc",
)
IPTABLES = tuple(
    f"{family}{form}" for family in ("iptables", "ip6tables") for form in ("", "-save", "-restore")
)
MULTI = "usr/sbin/xtables-nft-multi"
"""One program with many names; Debian links them when it installs."""


class PackagesError(Exception):
    """The packages could not be had; the message says why."""


@dataclass(frozen=True)
class Packages:
    """The unpacked packages, as one tree."""

    root: Path

    def program(self, name: str) -> Path:
        """The path of one program.

        Raises:
            PackagesError: no package has it.
        """
        for folder in ("usr/sbin", "usr/bin", "sbin", "bin"):
            path = self.root / folder / name
            if path.is_file():
                return path
        raise PackagesError(f"none of {', '.join(PACKAGES)} has a program {name!r}")

    @property
    def plugins(self) -> Path:
        """The directory of the CNI plugins."""
        return self.root / "usr/lib/cni"

    @property
    def libraries(self) -> tuple[Path, ...]:
        """Where their shared libraries are."""
        found = (*self.root.glob("usr/lib/*-linux-gnu*"), *self.root.glob("lib/*-linux-gnu*"))
        return tuple(sorted(found))

    def environment(self, *more: Path) -> dict[str, str]:
        """Variables with which the programs find one another, their libraries, and ``more``."""
        folders = (*more, *(self.root / f for f in ("links", "usr/sbin", "usr/bin", "sbin", "bin")))
        extensions = [str(folder / "xtables") for folder in self.libraries]
        return {
            "PATH": os.pathsep.join((*map(str, folders), os.environ.get("PATH", os.defpath))),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, self.libraries)),
            "XTABLES_LIBDIR": os.pathsep.join(extensions),
            "HOME": "/root",
        }


def ensure() -> Packages:
    """The packages, fetched if they are not there yet.

    Raises:
        PackagesError: apt could not get them.
    """
    binaries = cache.of(release.pins(), os.environ).folder.parent
    digest = hashlib.sha256("\n".join((*PACKAGES, *IPTABLES)).encode()).hexdigest()[:12]
    final = binaries / f"debian-{digest}"
    binaries.mkdir(parents=True, exist_ok=True)
    with lock.hold(
        binaries / f"{final.name}.lock",
        purpose="which gets Debian packages",
        progress=progress.for_stream(),
        unless=final.is_dir,
    ) as held:
        if held and not final.is_dir():
            _fetch(final)
    return Packages(final)


def _fetch(final: Path) -> None:
    made = Path(tempfile.mkdtemp(prefix=f"{final.name}.", suffix=".partial", dir=final.parent))
    try:
        archives = made / "archives"
        (archives / "partial").mkdir(parents=True)
        # Those that are installed, too; of what they depend on, what is installed is used.
        _run(
            *("apt-get", "install", "--yes", "--quiet=2", "--download-only", "--reinstall"),
            *("--no-install-recommends", "-o", f"Dir::Cache::archives={archives}", *PACKAGES),
        )
        root = made / "root"
        for archive in sorted(archives.glob("*.deb")):
            _run("dpkg-deb", "--extract", str(archive), str(root))
        _link(root)
        root.chmod(0o755)
        root.rename(final)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _link(root: Path) -> None:
    links = root / "links"
    links.mkdir()
    for name in IPTABLES:
        (links / name).symlink_to(Path("..") / MULTI)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagesError(f"{command[0]}: {error}") from error
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()[-1000:]
        raise PackagesError(f"{command[0]}: {said}; `apt-get update` may help")
