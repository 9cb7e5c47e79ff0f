"""One process at a time, by ``flock``: held by the kernel, so a killed holder holds nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dpucluster.localplane import progress as progress_

RETRY_EVERY = 0.2
"""Seconds between tries: nobody notices the delay, and the wait can be left early."""


@contextlib.contextmanager
def hold(
    path: Path,
    *,
    purpose: str,
    progress: progress_.Progress,
    unless: Callable[[], bool] = lambda: False,
) -> Iterator[bool]:
    """Hold the lock of ``path`` for the ``with`` block; ``purpose`` is told to those who wait.

    Yields whether the lock is held: ``False`` means that ``unless`` came true while waiting, so
    what the lock was wanted for is done. The file stays: removing it would let two hold it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        held = _take(descriptor, progress, unless)
        if held:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}, {purpose}\n".encode(), 0)
        yield held
    finally:
        os.close(descriptor)  # gives the lock back


@contextlib.contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Hold the lock of ``path`` if nobody else does; yields whether it is held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield _try(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, progress: progress_.Progress, unless: Callable[[], bool]) -> bool:
    if _try(descriptor):
        return True
    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
    progress.start(f"waiting for {holder or 'another process'}")
    while not unless():
        if _try(descriptor):
            progress.finish("it has ended")
            return True
        progress.tick()
        time.sleep(RETRY_EVERY)
    progress.finish("it got what was wanted")
    return False


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
