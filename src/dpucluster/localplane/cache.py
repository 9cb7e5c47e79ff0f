"""Where fetched binaries are kept, and how nothing half-made ever gets there.

A binary is made in a ``.partial`` directory beside its final place (the same filesystem), synced,
and renamed. Whoever holds the lock of a version owns that version's partial directories; what a
killed process left is removed by the next one that holds the lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import lock, release

SPACE_NEEDED = "1 GB here; a first build fills Go's caches with 4 GB"
_PARTIAL = ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Cache:
    """The cache of one version: where its binaries and its lock are."""

    folder: Path

    @property
    def lock(self) -> Path:
        """Held by the process that makes binaries for this folder."""
        return self.folder.with_name(f"{self.folder.name}.lock")


def of(pinned: release.Pins, env: Mapping[str, str]) -> Cache:
    """The cache directory of the pinned versions for this machine and user."""
    versions = f"kamaji-{pinned.kamaji}-" if pinned.kamaji else ""
    return Cache(root(env) / f"{versions}{pinned.kubernetes}-{'-'.join(release.target())}")


def root(env: Mapping[str, str]) -> Path:
    """``$XDG_CACHE_HOME`` (only if absolute, as its specification says), else ``~/.cache``."""
    home = Path(env.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        home = Path(env.get("HOME") or os.path.expanduser("~")) / ".cache"  # noqa: PTH111 - Path.home() raises where there is no home
    return home / "dpucluster" / "binaries"


@contextmanager
def explained(cache: Cache) -> Iterator[None]:
    """Turn what the operating system refuses in the block into a ``BinaryError`` with advice."""
    try:
        yield
    except OSError as exc:
        raise errors.BinaryError(advice(exc, cache.folder.parent)) from exc


def advice(error: OSError, where: Path) -> str:
    """What happened to the cache, and what to do."""
    cause = error.strerror or str(error)
    if error.errno in _FULL:
        return f"disk full at {where} ({cause}): make room ({SPACE_NEEDED}), or {_elsewhere()}"
    place = error.filename or where
    return f"cannot write the cache of binaries, {place} ({cause}): {_elsewhere()}"


def _elsewhere() -> str:
    return (
        "set XDG_CACHE_HOME to a writable directory elsewhere, or KUBEBUILDER_ASSETS to a"
        f" directory that holds {', '.join(release.ALL)}"
    )


@contextmanager
def workplace(cache: Cache) -> Iterator[Path]:
    """An empty directory for unfinished work, gone after the block. Hold the lock."""
    _sweep(cache)
    cache.folder.mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(
        prefix=f"{cache.folder.name}.", suffix=_PARTIAL, dir=cache.folder.parent
    )
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(cache: Cache) -> None:
    """Remove what killed processes left, of this version and of others nobody works on."""
    for left in cache.folder.parent.glob(f"*{_PARTIAL}"):
        owner = Cache(left.with_name(left.name.removesuffix(_PARTIAL).rpartition(".")[0]))
        if owner == cache:
            shutil.rmtree(left, ignore_errors=True)
            continue
        with lock.try_hold(owner.lock) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)


def install(made: Path, cache: Cache) -> Path:
    """Put a finished binary in its final place, in one step that a power cut cannot halve."""
    final = cache.folder / made.name
    made.chmod(0o755)
    _sync(made)
    made.replace(final)
    _sync(cache.folder)
    return final


def link_together(paths: Mapping[str, Path], cache: Cache) -> Path:
    """One directory with a link to each of ``paths``.

    It is named after what it links, so it never changes: another choice is another directory,
    and a binary of somebody else never gets into the cache under our version.
    """
    listing = "\n".join(f"{name}={paths[name]}" for name in sorted(paths))
    digest = hashlib.sha256(listing.encode()).hexdigest()[:16]
    folder = cache.folder.parent / f"linked-{digest}"
    if all((folder / name).is_symlink() for name in paths):
        return folder
    cache.folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=cache.folder.parent, prefix=f"{folder.name}."))
    try:
        for name, path in paths.items():
            (made / name).symlink_to(path)
        made.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)  # incomplete only if somebody tampered with it
        made.rename(folder)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if not folder.is_dir():  # else another process was first with the same links
            raise
    return folder


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
