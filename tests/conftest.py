"""Control planes for all tests: real etcd, real kube-apiserver.

Synchronous and made of processes, so that they serve tests with and without an event loop.
Planes start when the first test asks for them, and end with the session (or, ``tenants``, with
the test). All ports are free ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from dpucluster import errors
from dpucluster.localplane import binaries as control_plane_binaries
from dpucluster.localplane import etcd as storage
from dpucluster.localplane import install, manifests, plane, progress, release, world
from dpucluster.localplane.kamaji import stack as kamaji_stack
from tests.support import kamaji_part, planes

# No property fails by chance or by a slow machine: everybody tries the same examples, and `make
# soak`, with a hundred times as many, is where new ones are found. Only there are they kept.
hypothesis.settings.register_profile(
    "everyday",
    deadline=None,
    derandomize=True,
    max_examples=20,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "soak",
    deadline=None,
    max_examples=2000,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("everyday")

MOST_WORKERS = 6
"""More of them have nothing to do: the longest file is about a sixth of everything."""
WORKER_GIB = 1.0
"""Memory of one: an etcd, two API servers, controllers, itself; some tests start a few more."""


def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: one more than there are cores, for tests mostly wait, as far as memory goes."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    memory = {name: int(rest.split()[0]) / 2**20 for name, rest in (s.split(":") for s in lines)}
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores + 1, int(memory["MemAvailable"] / WORKER_GIB), MOST_WORKERS))


LONGEST = (
    "test_localplane_kept",
    "test_demo",
    "test_faults_run",
    "test_election",
    "test_faults_controllers",
    "test_kills",
    "test_faults_informer",
    "test_rotation",
    "test_api_restart",
    "test_writes",
    "test_runtime_lease",
)
"""Files of half a minute or more, the longest first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, what takes long begins first and unit tests fill the end: nobody waits.

    Files are given out in this order (``--dist loadfile --no-loadscope-reorder``).
    """
    if not hasattr(config, "workerinput"):
        return

    def turn(item: pytest.Item) -> int:
        if item.path.stem in LONGEST:
            return LONGEST.index(item.path.stem)
        return len(LONGEST) + ("unit" in item.path.parts)

    items.sort(key=turn)


@pytest.fixture(scope="session")
def binaries() -> Mapping[str, Path]:
    """The path of each control-plane binary."""
    return control_plane_binaries.ensure(progress=progress.for_stream())


@pytest.fixture(scope="session")
def plane_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from planes.scratch(tmp_path_factory.mktemp("planes"))


@pytest.fixture(scope="session")
def etcd(binaries: Mapping[str, Path], plane_directory: Path) -> Iterator[storage.Etcd]:
    """One etcd for all planes of the session."""
    server = storage.Etcd(binaries["etcd"], plane_directory / "etcd")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def management(
    binaries: Mapping[str, Path], etcd: storage.Etcd, plane_directory: Path
) -> Iterator[plane.ControlPlane]:
    """The management plane: API server, controller manager, CRDs, dpf-operator-system, audit log.

    Shared by the whole session: a test works in its own ``namespace``, and whoever needs to stop
    or restart a management plane makes one with ``own_management``.
    """
    server = plane.ControlPlane(
        "management",
        binaries=binaries,
        storage=etcd,
        directory=plane_directory / "management",
        audit=True,
    )
    with server:
        install.install(server.endpoint)
        server.start_controller_manager()
        yield server


@pytest.fixture(scope="session")
def kamaji_crds() -> list[dict[str, Any]]:
    """Kamaji's CustomResourceDefinitions, of the release that is pinned."""
    found = control_plane_binaries.ensure(
        [release.KAMAJI_MANIFESTS], progress=progress.for_stream()
    )
    documents = manifests.load(found[release.KAMAJI_MANIFESTS])
    return [each for each in documents if each["kind"] == "CustomResourceDefinition"]


@pytest.fixture(scope="session")
def kamaji_management(
    binaries: Mapping[str, Path],
    etcd: storage.Etcd,
    kamaji_crds: list[dict[str, Any]],
    plane_directory: Path,
) -> Iterator[plane.ControlPlane]:
    """A management plane with Kamaji's CRDs, three control-plane nodes and a DataStore.

    Nothing runs beside the API server: whether pods are ready is what a test says. Shared as
    ``management`` is.
    """
    server = plane.ControlPlane(
        "kamaji-management",
        binaries=binaries,
        storage=etcd,
        directory=plane_directory / "kamaji-management",
        audit=True,
    )
    with server:
        install.install(server.endpoint)
        kamaji_part.install(server, kamaji_crds)
        yield server


@pytest.fixture
def own_management(
    binaries: Mapping[str, Path], etcd: storage.Etcd, tmp_path: Path
) -> Iterator[plane.ControlPlane]:
    """A management plane for one test alone: it may be stopped, restarted, frozen."""
    name = f"management-{tmp_path.name.lower().replace('_', '-')[:30].strip('-')}"
    directory = tmp_path / "own-management"
    server = plane.ControlPlane(
        name, binaries=binaries, storage=etcd, directory=directory, audit=True
    )
    with server:
        install.install(server.endpoint)
        server.start_controller_manager()
        yield server


@pytest.fixture
def namespace(management: plane.ControlPlane) -> str:
    """A namespace of the management plane that no other test uses."""
    return planes.new_namespace(management)


@pytest.fixture
def tenants(
    binaries: Mapping[str, Path], etcd: storage.Etcd, tmp_path: Path
) -> Iterator[planes.Tenants]:
    """Tenant planes for this test, started when it asks.

    ``one, two = tenants(2)``
    """
    factory = planes.Tenants(binaries, etcd, tmp_path / "tenants")
    yield factory
    factory.close()


@pytest.fixture(scope="session")
def shared_tenant(
    binaries: Mapping[str, Path], etcd: storage.Etcd, plane_directory: Path
) -> Iterator[plane.ControlPlane]:
    """A tenant plane that tests only look at: never stop, freeze or fill it."""
    factory = planes.Tenants(binaries, etcd, plane_directory / "shared")
    yield factory()[0]
    factory.close()


@pytest.fixture(scope="session")
def kamaji_binaries() -> Mapping[str, Path]:
    """Kamaji's binaries, too; they are not built behind anybody's back."""
    wanted = control_plane_binaries.WITH_KAMAJI
    found = control_plane_binaries.locate(wanted)
    if missing := [name for name in wanted if name not in found]:
        pytest.skip(f"there is no {', '.join(missing)}: make kamaji (minutes, once)")
    return found


@pytest.fixture(scope="session")
def kamaji(
    kamaji_binaries: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[kamaji_stack.KamajiStack]:
    """The real Kamaji with two process nodes, shared by the session.

    A test works in a namespace of its own, and leaves everything running that it stopped.
    """
    directory = tmp_path_factory.mktemp("kamaji")
    trial = world.World(directory / "trial")
    try:
        trial.start()
    except errors.PlaneError as error:
        pytest.skip(str(error))
    finally:
        trial.close()
    with kamaji_stack.KamajiStack(directory / "stack", kamaji_binaries) as running:
        yield running
