"""``dpucluster demo kamaji`` as a user starts it: the real Kamaji, real keepalived, a real VIP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dpucluster.localplane.kamaji import stack

LONG = 900.0
"""Seconds until a test gives up: the demo takes half a minute on a machine with nothing to do."""
EACH = "300s"


def run(scratch: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dpucluster", "demo", "kamaji", "--exit", "--timeout", EACH]
    return subprocess.run(
        [*command, *flags],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )


@pytest.fixture
def scratch(kamaji: stack.KamajiStack, kamaji_binaries: Mapping[str, Path], tmp_path: Path) -> Path:
    """Where the demo puts its files; there is a machine for it, as the shared stack shows."""
    del kamaji, kamaji_binaries
    made = tmp_path / "scratch"
    made.mkdir()
    return made


@pytest.mark.timeout(LONG)
def test_the_guides_kamaji_flow_ends_in_a_cluster_that_is_used(scratch: Path) -> None:
    """The guide's manifest becomes Ready, a namespace is made through the VIP, nothing is left."""
    done = run(scratch)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"^--> Ready [\d.]+ s after it was created$", done.stdout, re.MULTILINE)
    assert "namespace/hello created" in done.stdout
    assert re.search(r"^--> through [\d.]+, held by node-[12]$", done.stdout, re.MULTILINE)
    assert [] == list(scratch.iterdir())


@pytest.mark.soak
@pytest.mark.timeout(2 * LONG)
def test_the_tour_comes_true(scratch: Path) -> None:
    """A lost child, a cut cable, new credentials and the deletion, each with its effect."""
    done = run(scratch, "--tour")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "renewed, and Ready was True all the time" in done.stdout
    assert "left of it: nothing" in done.stdout
