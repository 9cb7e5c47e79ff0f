"""One rack for all end-to-end tests: real nodes, the real Kamaji, our controllers.

Where the machine cannot run it, all tests are skipped with what it lacks.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dpucluster.localplane import binaries as control_plane_binaries
from dpucluster.localplane import progress, scratch
from tests.e2e import cgroups, leftovers, machine, packages
from tests.e2e.rack import Rack
from tests.e2e.user import User
from tests.support.kubeapi import KubeApi

PREFIX = "dpucluster-e2e-"
LOGS = Path(__file__).parents[2] / ".cache" / "e2e"
"""Where all logs are kept when a test has failed."""
FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """What was measured; told at the end, whatever came of it."""
    return pytestconfig.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if found := terminalreporter.config.stash.get(FIGURES, []):
        terminalreporter.section("measured")
        for line in found:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def rack(request: pytest.FixtureRequest, figures: list[str]) -> Iterator[Rack]:
    """The rack; afterwards nothing of it is left on the machine."""
    if lacking := machine.lacking():
        pytest.skip(f"no nodes with containers on this machine: {'; '.join(lacking)}")
    try:
        unpacked = packages.ensure()
    except packages.PackagesError as error:
        pytest.skip(f"no nodes with containers on this machine: {error}")
    programs = control_plane_binaries.ensure(
        control_plane_binaries.KNOWN, progress=progress.for_stream()
    )
    cgroups.sweep()
    with scratch.directory(PREFIX) as directory:
        yield from _used(directory, unpacked, programs, figures)
        if request.session.testsfailed:
            _keep_logs(directory)


@pytest.fixture(scope="session")
def user(rack: Rack, figures: list[str]) -> Iterator[User]:
    """Our controllers run, and somebody uses them."""
    with contextlib.closing(KubeApi(rack.plane.kubeconfig)) as api:
        made = User(rack, api, figures)
        with made.controllers():
            yield made


def _used(
    directory: Path,
    unpacked: packages.Packages,
    programs: Mapping[str, Path],
    figures: list[str],
) -> Iterator[Rack]:
    made = Rack(directory / "rack", unpacked, programs)
    with made:
        figures += [f"{what}: {seconds:.1f} s" for what, seconds in made.timings.items()]
        namespaces = leftovers.namespaces_of(made.holders_of_namespaces)
        yield made
        ended = leftovers.now()
    groups = [node.cgroup for node in made.nodes]
    assert [] == leftovers.left(made.directory, namespaces, groups, ended=ended)


def _keep_logs(directory: Path) -> None:
    shutil.rmtree(LOGS, ignore_errors=True)
    for found in directory.rglob("*.log"):
        kept = LOGS / found.relative_to(directory)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, kept)
