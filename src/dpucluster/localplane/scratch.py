"""Directories for one run: removed at the end, or, if that was prevented, by the next run."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import lock

PREFIX = "dpucluster-testenv-"
LOCK = "lock"
SETTLED = 60.0
"""Seconds after which a directory whose lock nobody holds is certainly not just being made."""


@contextlib.contextmanager
def directory(prefix: str = PREFIX) -> Iterator[Path]:
    """A private directory below ``$TMPDIR``, for the length of a ``with`` block.

    Its name begins with ``prefix``, by which the next run finds what this one may leave.

    Raises:
        PlaneError: it cannot be made.
    """
    try:
        sweep(Path(tempfile.gettempdir()), prefix)
        made = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise errors.PlaneError(f"no temporary directory can be made: {error}") from error
    try:
        with lock.try_hold(made / LOCK):
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sweep(below: Path, prefix: str = PREFIX) -> None:
    """Remove what runs that were killed have left behind."""
    for found in below.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            status = (found / LOCK).lstat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < SETTLED:
                continue
            with lock.try_hold(found / LOCK) as held:
                if held:
                    shutil.rmtree(found, ignore_errors=True)
