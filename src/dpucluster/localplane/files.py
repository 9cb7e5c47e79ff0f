"""Files of a plane: private to the user, and either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from dpucluster import errors

MEBIBYTE = 1 << 20


def make_private_directory(path: Path) -> Path:
    """Create ``path`` (and what is above it) so that only its owner can look inside.

    The sockets of etcd, which asks nobody who he is, and all keys lie in such directories.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise errors.PlaneError(f"{path}: {error.strerror}") from error
    return path


def write(path: Path, content: bytes | str) -> Path:
    """Write ``path`` with mode 0600; after a crash it has the old content or the new.

    Raises:
        PlaneError: it could not be written; the message says why.
    """
    data = content.encode() if isinstance(content, str) else content
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, opened with its mode
            file.write(data)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise errors.PlaneError(f"{path} cannot be written: {error.strerror}") from error
    return path


def free_space(path: Path) -> int:
    """Bytes that may still be written to the file system of ``path``."""
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize
