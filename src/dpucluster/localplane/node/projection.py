"""Volumes on disk: their files change all at once, and programs that watch them are told.

As kubelet does it: the files lie in a directory of their own, ``..data`` is a link to it, and each
name in the volume is a link through ``..data``. A change makes a new directory and moves the one
link; who had a file open keeps the old content, who looks again sees all new or all old.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dpucluster.localplane.node import volumes

DATA = "..data"


def write(directory: Path, files: Mapping[str, volumes.File]) -> None:
    """Make ``files`` the content of the volume at ``directory``, in one step."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(file.mode)
    old = _current(directory)
    link = directory / f"{DATA}_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.replace(directory / DATA)
    _link_names(directory, {path.split("/")[0] for path in files})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def resolve(directory: Path, sub_path: str) -> Path:
    """What a ``subPath`` mount shows: the file itself, which no later change replaces.

    Raises:
        CannotMount: the path leads out of the volume.
    """
    root = directory.resolve()
    target = (root / sub_path).resolve()
    if not target.is_relative_to(root):
        raise volumes.CannotMount(f"subPath {sub_path!r} leads out of its volume")
    if not target.exists():
        # In an empty directory it is made, as kubelet does.
        target.mkdir(parents=True)
    return target


def _current(directory: Path) -> Path | None:
    with contextlib.suppress(OSError):
        return directory / os.readlink(directory / DATA)  # noqa: PTH115 - the text of the link
    return None


def _link_names(directory: Path, names: set[str]) -> None:
    for name in names:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()
