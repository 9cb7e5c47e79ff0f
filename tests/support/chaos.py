"""Disorder on purpose, and what must hold once there is peace again.

A ``Fleet`` of clusters is created, rotated, broken and deleted at random; ``run_kills`` kills the
controllers meanwhile; ``WatchLog`` remembers what any observer could have seen. All dice come
from one seed, which is printed: ``DPUCLUSTER_SEED`` throws the same again.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from dpucluster.api import contract
from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster, kubeapi
from tests.support.controllers import Controllers
from tests.support.kubeapi import KubeApi
from tests.support.patience import PATIENCE

ELECTION = (
    "--leader-elect-lease-duration=5s",
    "--leader-elect-renew-deadline=3500ms",
    "--leader-elect-retry-period=500ms",
)
"""Short, so that tests are: for those in which it does not matter that a machine that hangs for
some seconds costs leadership."""
CALM_ELECTION = (
    "--leader-elect-lease-duration=9s",
    "--leader-elect-renew-deadline=6s",
    "--leader-elect-retry-period=500ms",
)
"""For those in which it matters."""
DOWNTIME = 6.0
"""Seconds, longer than the renew deadline of ``ELECTION``: leadership has to be won again."""
STEADY = "--probe-timeout=60s"
"""Where the health of tenants is not what is tested, a busy machine makes none of them ill."""
FINALIZERS = {contract.FINALIZER_LIFECYCLE, contract.FINALIZER_MANAGER}
PROBE_INTERVAL = 5.0
KILL_WITHIN = 3.0
"""Seconds after the churn began: it and what it causes take about as long."""
KILL_AGAIN = 0.3
"""How often the process is killed a second time, while it starts."""


def new_seed() -> int:
    """The seed of this run; printed, and taken from ``DPUCLUSTER_SEED`` to repeat one."""
    seed = int(os.environ.get("DPUCLUSTER_SEED") or int.from_bytes(os.urandom(4)))
    print(f"DPUCLUSTER_SEED={seed} repeats this run")  # noqa: T201 - shown when a test fails
    return seed


def dice(seed: int, who: str) -> random.Random:
    """Dice of their own for ``who``, so that threads do not change each other's throws."""
    return random.Random(f"{seed} {who}")  # noqa: S311 - must be repeatable, not secret


def scoped(namespace: str, election: tuple[str, ...] = ELECTION) -> tuple[str, ...]:
    """Flags that keep a process, and its Leases, inside of one namespace."""
    return (f"--namespace={namespace}", f"--leader-elect-namespace={namespace}", *election)


class Wish(enum.Enum):
    """How the user left a cluster: what it must look like in the end."""

    ABSENT = "absent"
    SOUND = "sound"
    BROKEN = "broken"
    WITHOUT_SECRET = "without-secret"


STEPS = {
    Wish.ABSENT: (Wish.SOUND, Wish.SOUND, Wish.BROKEN, Wish.WITHOUT_SECRET),
    # SOUND → SOUND is a rotation
    Wish.SOUND: (Wish.SOUND, Wish.SOUND, Wish.BROKEN, Wish.WITHOUT_SECRET, Wish.ABSENT),
    Wish.BROKEN: (Wish.SOUND, Wish.SOUND, Wish.ABSENT),
    Wish.WITHOUT_SECRET: (Wish.SOUND, Wish.SOUND, Wish.ABSENT),
}
"""From how it is to how the user may leave it next."""
REASONS = {
    Wish.SOUND: ("True", "Created"),
    Wish.BROKEN: ("False", "KubeconfigInvalid"),
    Wish.WITHOUT_SECRET: ("False", "SecretNotFound"),
}
"""Status and reason of ``Created``."""


@dataclass
class Fleet:
    """``count`` clusters of one namespace that a restless user works on."""

    api: KubeApi
    namespace: str
    tenant: ControlPlane
    count: int
    dice: random.Random
    prefix: str = "fleet"
    wishes: dict[str, Wish] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is there yet."""
        self.wishes = {f"{self.prefix}-{n}": Wish.ABSENT for n in range(self.count)}

    def churn(self) -> None:
        """Take one random step with every cluster, in random order."""
        names = list(self.wishes)
        self.dice.shuffle(names)
        for name in names:
            self._step(name, self.dice.choice(STEPS[self.wishes[name]]))

    def create(self) -> None:
        """Make every cluster that is not there, sound."""
        for name in [n for n, wish in self.wishes.items() if wish is Wish.ABSENT]:
            self._step(name, Wish.SOUND)

    def delete(self) -> None:
        """Delete all of them."""
        for name in [n for n, wish in self.wishes.items() if wish is not Wish.ABSENT]:
            self._step(name, Wish.ABSENT)

    def faults(self) -> dict[str, str]:
        """What is not yet as it must be, by cluster."""
        found = {o["metadata"]["name"]: o for o in self.api.list("dpuclusters", self.namespace)}
        said = {name: _fault(found.get(name), wish) for name, wish in self.wishes.items()}
        return {name: text for name, text in said.items() if text}

    def wait_converged(self, timeout: float = PATIENCE) -> None:
        """Return as soon as every cluster is as the user left it."""
        cluster.wait_until(self.faults, lambda found: not found, timeout=timeout, what="converged")

    def versions(self) -> dict[str, str]:
        """The resourceVersion of each cluster."""
        found = self.api.list("dpuclusters", self.namespace)
        return {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in found}

    def _step(self, name: str, wish: Wish) -> None:
        before, self.wishes[name] = self.wishes[name], wish
        actions: list[Callable[[], object]] = [lambda: self._write_secret(name, wish)]
        if before is Wish.ABSENT:
            manifest = cluster.dpucluster(name, self.namespace)
            actions.append(lambda: self.api.create("dpuclusters", manifest))
        elif wish is Wish.ABSENT:
            actions.append(lambda: self.api.delete("dpuclusters", name, self.namespace))
        self.dice.shuffle(actions)
        for action in actions:
            action()

    def _write_secret(self, name: str, wish: Wish) -> object:
        secret = cluster.secret_name(name)
        if wish in {Wish.ABSENT, Wish.WITHOUT_SECRET}:
            return self.api.delete("secrets", secret, self.namespace)
        text = self.tenant.client_kubeconfig(cluster=name) if wish is Wish.SOUND else "no: [yaml"
        return self.api.apply(
            "secrets", cluster.raw_secret(secret, self.namespace, {"admin.conf": text})
        )


def _fault(obj: cluster.Object | None, wish: Wish) -> str:
    """What is wrong with ``obj``, or nothing."""
    if obj is None or wish is Wish.ABSENT:
        return "" if (obj is None) == (wish is Wish.ABSENT) else f"{wish}: {json.dumps(obj)}"
    types = [c["type"] for c in (obj.get("status") or {}).get("conditions") or []]
    created = cluster.condition(obj, "Created")
    is_sound = wish is Wish.SOUND
    checks = {
        "is being deleted": "deletionTimestamp" not in obj["metadata"],
        "finalizers": sorted(FINALIZERS) == sorted(obj["metadata"].get("finalizers") or []),
        "duplicate conditions": len(types) == len(set(types)),
        "Created": REASONS[wish] == (created.get("status"), created.get("reason")),
        "Ready": ("True" if is_sound else "False") == cluster.condition(obj, "Ready").get("status"),
        "phase": cluster.phase(obj) in ({"Ready"} if is_sound else {"Creating", "NotReady"}),
    }
    wrong = [what for what, holds in checks.items() if not holds]
    return f"{wish}: {wrong}: {json.dumps(obj.get('status'))}" if wrong else ""


@dataclass
class Kills:
    """Processes of controllers that follow each other, each ended by ``kill -9``.

    Half of them have a pod's name, so that the next one goes on at once; the others leave a Lease
    that has to run out.
    """

    management: ControlPlane
    namespace: str
    directory: Path
    dice: random.Random
    done: int = 0

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        interval = f"--probe-interval={PROBE_INTERVAL:g}s"
        roles = ("lifecycle", "static", interval, *scoped(self.namespace))
        place = self.management.kubeconfig, self.directory / "run.log"
        self._kinds = (
            Controllers(*place, *roles),
            Controllers(*place, *roles, POD_NAME="controllers-0"),
        )
        self.current = self._kinds[0]

    def __enter__(self) -> Self:
        """Start the first one."""
        self.current.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End the last one."""
        self.current.__exit__()

    def kill_some(self, limit: int) -> None:
        """Kill at a random moment and start the next; sometimes again while that one starts."""
        time.sleep(self.dice.uniform(0, KILL_WITHIN))
        self._replace()
        while self.done < limit and self.dice.random() < KILL_AGAIN:
            time.sleep(self.dice.uniform(0, KILL_WITHIN))
            self._replace()

    def _replace(self) -> None:
        self.current.kill()
        self.done += 1
        self.current = self.dice.choice(self._kinds)
        self.current.start()


def run_kills(
    management: ControlPlane,
    namespace: str,
    tenant: ControlPlane,
    directory: Path,
    *,
    kills: int,
    clusters: int = 50,
) -> None:
    """Kill the controllers ``kills`` times; everything converges each time, nothing is left."""
    seed = new_seed()
    with contextlib.closing(KubeApi(management.kubeconfig)) as api:
        fleet = Fleet(api, namespace, tenant, clusters, dice(seed, "churn"))
        with Kills(management, namespace, directory, dice(seed, "kills")) as killed:
            while killed.done < kills:
                with beside(fleet.churn):
                    killed.kill_some(kills)
                fleet.wait_converged()
            check_still(fleet)
            fleet.delete()
            fleet.wait_converged()
            check_nothing_left(api, namespace)
            cluster.wait_until(
                lambda: connections(killed.current.pid, tenant.port), lambda open_: open_ == 0
            )
            assert 0 == killed.current.stop()
        assert "Traceback" not in killed.current.text


def check_still(fleet: Fleet) -> None:
    """Converged means that, a last look apart, nobody writes any more."""

    def seen_twice(apart: float) -> bool:
        before = fleet.versions()
        time.sleep(apart)
        return before == fleet.versions()

    cluster.wait_until(lambda: seen_twice(1.0), bool, what="the last look")
    assert seen_twice(PROBE_INTERVAL + 1.0)


def check_nothing_left(api: KubeApi, namespace: str) -> None:
    """The user has deleted everything: no object of ours is there but Leases and Events."""
    assert [] == api.list("dpuclusters", namespace)
    assert [] == api.list("secrets", namespace)
    components = (contract.COMPONENT_LIFECYCLE, contract.COMPONENT_STATIC)
    leases = sorted(lease["metadata"]["name"] for lease in api.list("leases", namespace))
    assert sorted(map(contract.lease_name, components)) == leases


def connections(pid: int, port: int) -> int:
    """How many connections to ``port`` the process ``pid`` has open."""
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if int(row[2].split(":")[1], 16) == port}
    return sum(link in inodes for link in links)


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """``work`` runs in a thread of its own beside the block; what it raises is raised here."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=guarded, name="beside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive(), "did not end"
    if failures:
        raise failures[0]


@dataclass(frozen=True)
class Sight:
    """What an observer saw of one DPUCluster."""

    name: str
    ready: str
    reason: str
    since: str


class WatchLog:
    """Follows the DPUClusters of a namespace, past every proxy, while it is entered."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._api = KubeApi(kubeconfig)
        self._path = kubeapi.path_of("dpuclusters", namespace)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watch-log", daemon=True)
        self.sights: list[Sight] = []

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End."""
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._api.close()

    def falls(self, prefix: str = "") -> list[Sight]:
        """Every sight of a cluster that was Ready before and is not.

        A fall that nobody saw shows, too: coming back gives ``Ready`` another time.
        """
        last: dict[str, Sight] = {}
        found = []
        for sight in list(self.sights):
            if not sight.name.startswith(prefix):
                continue
            before = last.get(sight.name)
            if before is not None and before.ready == "True" and before.since != sight.since:
                found.append(sight)
            last[sight.name] = sight
        return found

    def _follow(self) -> None:
        version = ""
        while not self._stopping.is_set():
            try:
                version = self._watched(version) if version else self._listed()
            except (OSError, ValueError, KeyError):
                time.sleep(0.2)  # the server is being restarted

    def _listed(self) -> str:
        status, text = self._api.request("GET", self._path)
        if status != 200:
            raise ValueError(text)
        listing = json.loads(text)
        for obj in listing["items"]:
            self._saw(obj)
        return str(listing["metadata"]["resourceVersion"])

    def _watched(self, version: str) -> str:
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={version}"
        status, text = self._api.request("GET", f"{self._path}?{query}")
        if status != 200:
            return ""
        for event in map(json.loads, text.splitlines()):
            if event["type"] == "ERROR":
                return ""
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] in {"ADDED", "MODIFIED"}:
                self._saw(event["object"])
        return version

    def _saw(self, obj: cluster.Object) -> None:
        ready = cluster.condition(obj, "Ready")
        self.sights.append(
            Sight(
                obj["metadata"]["name"],
                ready.get("status", ""),
                ready.get("reason", ""),
                ready.get("lastTransitionTime", ""),
            )
        )
