"""``kill -9`` at random moments. ``make soak`` does the same fifty times."""

from __future__ import annotations

from pathlib import Path

from dpucluster.localplane.plane import ControlPlane
from tests.support import chaos

KILLS = 5


def test_killed_controllers_leave_nothing_undone(
    management: ControlPlane, namespace: str, shared_tenant: ControlPlane, tmp_path: Path
) -> None:
    """Killed while 50 clusters are created, rotated and deleted: all converges, nothing is left."""
    chaos.run_kills(management, namespace, shared_tenant, tmp_path, kills=KILLS)
