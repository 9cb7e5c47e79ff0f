"""Container images made by hand: one layer each, of files that are here already.

They lie in a directory as ``registry.py`` serves them: ``blobs/<digest>`` and, holding a digest,
``tags/<repository>/<tag>``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.packages import Packages

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DIRECTORIES = ("dev", "etc", "proc", "run", "sys", "tmp", "var")
"""What programs expect of any root file system."""

PAUSE = "pause:3.9"
KEEPALIVED = "dpucluster/keepalived:2.2.7"
MOUNT_POINTS = (
    "usr/local/libexec/dpucluster",  # of the check program; nobody but root may write to it
    "etc/keepalived",
    "etc/dpucluster/tenant",
    "run/keepalived",
)
"""Where keepalived's pod mounts something."""
KEEPALIVED_PROGRAMS = {"keepalived": "usr/sbin", "curl": "usr/bin", "cat": "bin", "sleep": "bin"}
USERS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
}

Content = Path | bytes


@dataclass(frozen=True)
class Image:
    """What an image is made of.

    Attributes:
        references: Repository and tag; several are the same image.
        files: Path in the image → what is there; programs are ``Path``.
        entrypoint: The command.
        directories: Empty ones.
    """

    references: tuple[str, ...]
    files: Mapping[str, Content]
    entrypoint: Sequence[str]
    directories: Sequence[str] = ()


def kubernetes(program: Path, versions: Iterable[str]) -> Image:
    """A component of a control plane: one static program; all ``versions`` are the same one."""
    path = f"usr/local/bin/{program.name}"
    references = tuple(f"{program.name}:{version}" for version in versions)
    return Image(references, {path: program}, [f"/{path}"])


def pause(packages: Packages) -> Image:
    """What holds a pod's namespaces open."""
    busybox = packages.program("busybox")
    return Image((PAUSE,), {"bin/busybox": busybox}, ["/bin/busybox", "sleep", "2147483647"])


def keepalived(packages: Packages) -> Image:
    """keepalived, curl and a shell, as ``deploy/image/keepalived`` has them."""
    programs = {
        f"{folder}/{name}": packages.program(name) for name, folder in KEEPALIVED_PROGRAMS.items()
    }
    programs["bin/sh"] = packages.program("dash")
    libraries = {
        where: library
        for program in programs.values()
        for where, library in _libraries(program, packages).items()
    }
    files: dict[str, Content] = {**programs, **libraries, **USERS}
    return Image((KEEPALIVED,), files, ["/usr/sbin/keepalived"], MOUNT_POINTS)


def build(image: Image, store: Path) -> None:
    """Write ``image`` to ``store``."""
    layer = _write_layer(image, store)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": list(image.entrypoint), "Env": [f"PATH={SEARCH_PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _write_json(config, CONFIG, store),
        "layers": [layer],
    }
    digest = _write_json(manifest, MANIFEST, store)["digest"]
    for reference in image.references:
        repository, _, tag = reference.rpartition(":")
        folder = store / "tags" / repository
        folder.mkdir(parents=True, exist_ok=True)
        (folder / tag).write_text(digest, encoding="utf-8")


def _write_layer(image: Image, store: Path) -> dict[str, Any]:
    blobs = _blobs(store)
    made = blobs / "layer.partial"
    with tarfile.open(made, "w", format=tarfile.GNU_FORMAT) as archive:
        known: set[str] = set()
        for directory in (*DIRECTORIES, *image.directories):
            _add_directory(archive, directory, known)
        for path, content in sorted(image.files.items()):
            _add_directory(archive, path.rpartition("/")[0], known)
            _add_file(archive, path, content)
    with made.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = made.stat().st_size
    made.rename(blobs / digest)
    return {"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size}


def _add_directory(archive: tarfile.TarFile, path: str, known: set[str]) -> None:
    """The directory and those it is in, once each."""
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        name = "/".join(parts[:depth])
        if name and name not in known:
            known.add(name)
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, path: str, content: Content) -> None:
    entry = tarfile.TarInfo(path)
    if isinstance(content, bytes):
        entry.size, entry.mode = len(content), 0o644
        archive.addfile(entry, io.BytesIO(content))
        return
    with content.open("rb") as stream:
        entry.size, entry.mode = os.fstat(stream.fileno()).st_size, 0o755
        archive.addfile(entry, stream)


def _write_json(document: Mapping[str, Any], kind: str, store: Path) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (_blobs(store) / digest).write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _blobs(store: Path) -> Path:
    folder = store / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _libraries(program: Path, packages: Packages) -> dict[str, Path]:
    """The shared libraries of a program and its loader, by their place in an image."""
    said = subprocess.run(
        ["ldd", program],
        env=packages.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert "not found" not in said, f"{program} lacks libraries: {said}"
    paths = [Path(path) for path in re.findall(r"(/\S+) \(0x", said)]
    return {_inside(path, packages): path.resolve() for path in paths}


def _inside(path: Path, packages: Packages) -> str:
    root = packages.root
    return str(path.relative_to(root if path.is_relative_to(root) else "/"))
