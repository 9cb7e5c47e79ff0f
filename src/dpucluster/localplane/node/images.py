"""Image references to file systems. Nothing is pulled: an image is made of what this machine has.

Kubernetes' own images are the binaries that were built for Kamaji's tenants; a keepalived image is
this machine's own file system with keepalived in it. Every other image is unknown, and its pod says
so. References are matched by the last part of the repository, so that mirrors and digests do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEEPALIVED = "keepalived"
NEVER_PULLED = "ErrImageNeverPull"
SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
SYSTEM_FILES = (
    "alternatives",
    "ca-certificates",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "pki",
    "protocols",
    "services",
    "ssl",
)
"""What programs of this machine look for in ``/etc``."""
SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - of a container
ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_REFERENCE = re.compile(
    r"(?:.*/)?(?P<name>[^/:@]+)(?::(?P<tag>[^/:@]+))?(?:@sha256:(?P<digest>[0-9a-f]+))?"
)

Mount = Mapping[str, Any]
"""One entry of a container's ``mounts``, as ``sandbox`` reads it."""


class UnknownImage(Exception):
    """There is no such image here; the message says which there are."""


@dataclass(frozen=True)
class Image:
    """A file system, and what runs in it unless a container says otherwise."""

    mounts: tuple[Mount, ...]
    entrypoint: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What images can be made of.

    Attributes:
        programs: Images of one program each, by the last part of their repository.
        version: Of Kubernetes' programs: a tag of another minor version is another image.
        keepalived: The root of unpacked packages with keepalived; empty if the machine itself
            has it, None if there is none to be had.
        keepalived_advice: Why there is none, and what to do.
        privileged: Whether this machine's own root runs the node.
    """

    programs: Mapping[str, str]
    version: str
    keepalived: str | None = None
    keepalived_advice: str = ""
    privileged: bool = True

    def find(self, reference: str) -> Image:
        """The image that ``reference`` names.

        Raises:
            UnknownImage: it cannot be made here.
        """
        match = _REFERENCE.fullmatch(reference)
        name, tag = (match["name"], match["tag"] or "") if match else ("", "")
        if KEEPALIVED in name:
            return self._keepalived(reference)
        program = self.programs.get(name)
        if program is None or (name.startswith("kube-") and not self._has_version(tag)):
            known = ", ".join(f"{each}:{self.version}" for each in sorted(self.programs))
            raise UnknownImage(
                f'image "{reference}" is not here, and nothing is ever pulled; there are {known} '
                "(any patch version) and keepalived"
            )
        return Image(_bare(name, program), (name,))

    def _has_version(self, tag: str) -> bool:
        return _minor(tag) == _minor(self.version)

    def _keepalived(self, reference: str) -> Image:
        if self.keepalived is None:
            raise UnknownImage(f'image "{reference}" cannot be made: {self.keepalived_advice}')
        mounts = system(self.keepalived, privileged=self.privileged)
        return Image(mounts, (KEEPALIVED, "--dont-fork", "--log-console"))


def system(extra: str, *, privileged: bool) -> tuple[Mount, ...]:
    """This machine's own programs, with those below ``extra`` on top; writable, and never kept."""
    mounts: list[Mount] = [*_kernel()]
    lower = ":".join(part for part in (extra and f"{extra}/usr", "/usr") if part)
    mounts.append(
        {"kind": "overlay", "source": lower, "target": "/usr", "userxattr": not privileged}
    )
    for name in SYSTEM_FOLDERS:
        folder = Path("/", name)
        if folder.is_symlink():
            mounts.append({"kind": "link", "source": os.readlink(folder), "target": f"/{name}"})  # noqa: PTH115 - the text of the link
        elif folder.is_dir():
            mounts.append(_read_only(folder, f"/{name}"))
    files = (Path("/etc", name) for name in SYSTEM_FILES)
    mounts += [_read_only(file, str(file)) for file in files if file.exists()]
    return tuple(mounts)


def _bare(name: str, program: str) -> tuple[Mount, ...]:
    return (
        *_kernel(),
        {"kind": "file", "text": ACCOUNTS, "target": "/etc/passwd"},
        _read_only(Path(program), f"/usr/local/bin/{name}"),
    )


def _kernel() -> tuple[Mount, ...]:
    return (
        {"kind": "proc", "target": "/proc"},
        {"kind": "bind", "source": "/dev", "target": "/dev"},
        *({"kind": "directory", "target": path} for path in ("/root", "/run", "/var/run")),
        *({"kind": "directory", "target": path, "mode": 0o1777} for path in SCRATCH),
    )


def _read_only(source: Path, target: str) -> Mount:
    return {"kind": "bind", "source": str(source), "target": target, "read_only": True}


def _minor(version: str) -> str:
    match = re.match(r"v?(\d+\.\d+)\.", version)
    return match[1] if match else version
