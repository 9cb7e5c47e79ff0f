"""How long tests wait for what must come true."""

from __future__ import annotations

PATIENCE = 120.0
"""Seconds: so many that only a fault uses them up, however busy the machine is. What is to be
proved by "soon enough" needs another arrangement: make the alternative (a Lease that runs out, the
next probe, a default time limit) longer than any test waits."""
