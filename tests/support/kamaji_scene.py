"""One namespace in which a test plays the user of Kamaji clusters, and Kamaji where it must."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpucluster.localplane.plane import ControlPlane
from tests.support import cluster, planes, scene
from tests.support.controllers import Controllers
from tests.support.kamaji_part import KamajiPart
from tests.support.kubeapi import KubeApi
from tests.support.scene import Object, Scene

ROLES = ("lifecycle", "kamaji", "--probe-interval=10m")
BY_HAND = "hand-"
"""Names that begin so are left to the test: nobody plays Kamaji for them by itself."""
CHILDREN = {
    "services": "{}",
    "tenantcontrolplanes": "{}",
    "configmaps": "{}-keepalived",
    "daemonsets": "{}-keepalived",
}
"""What the manager makes for a cluster, and under which name."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class KamajiScene(Scene):
    """The user's hands and eyes, and Kamaji's."""

    kamaji: KamajiPart
    controllers: Controllers

    @property
    def worries(self) -> list[str]:
        """Warnings and errors logged so far; that a busy server was slow to renew a Lease apart."""
        lines = self.controllers.text.splitlines()
        told = [line for line in lines if " WARNING " in line or " ERROR " in line]
        return [line for line in told if "dpucluster.runtime.lease" not in line]

    def held(self, name: str, **keepalived: Any) -> Object:
        """A Kamaji cluster behind a virtual IP of its own (``keepalived``: other fields of it)."""
        return self.create(name, type_="kamaji", version="v1.30.2", clusterEndpoint=vip(keepalived))

    def free(self, name: str, **spec: Any) -> Object:
        """A Kamaji cluster behind a load balancer."""
        return self.create(name, type_="kamaji", version="v1.30.2", **spec)

    def ready(self, name: str, **keepalived: Any) -> Object:
        """The same, once it is Ready."""
        self.held(name, **keepalived)
        return self.wait_ready(name)

    def edit(self, name: str, **keepalived: Any) -> Object:
        """Change fields of its virtual IP; None removes one."""
        return self.patch(name, {"spec": {"clusterEndpoint": {"keepalived": keepalived}}})

    def child(self, plural: str, name: str) -> Object | None:
        """One child of that cluster, or None."""
        return self.api.get(plural, CHILDREN[plural].format(name), self.namespace)

    def wait_child(self, plural: str, name: str, holds: Callable[[Object], bool]) -> Object:
        """The child as soon as it is there and ``holds`` accepts it."""
        return cluster.wait_for(
            self.api,
            CHILDREN[plural].format(name),
            lambda obj: obj is not None and holds(obj),
            namespace=self.namespace,
            plural=plural,
            timeout=scene.SOON,
        )

    def patch_child(self, plural: str, name: str, patch: Object) -> Object:
        """Merge a patch into the child, as somebody else."""
        return self.api.patch(plural, CHILDREN[plural].format(name), self.namespace, patch)

    def children(self, name: str) -> dict[str, Object]:
        """All children of that cluster by kind."""
        found = {plural: self.child(plural, name) for plural in CHILDREN}
        return {plural: obj for plural, obj in found.items() if obj is not None}

    def wait_nothing_left(self, name: str) -> None:
        """Return when neither the cluster nor a child of it is there."""
        self.wait_gone(name)
        cluster.wait_gone(
            self.api, f"{name}-keepalived", namespace=self.namespace, plural="services"
        )
        cluster.wait_until(
            lambda: list(self.children(name)), lambda left: not left, what=f"nothing of {name}"
        )


def vip(changes: Object) -> Object:
    """A ``clusterEndpoint`` that no other cluster of this process has."""
    number = next(_numbers)
    keepalived = {
        "vip": f"10.9.{number // 250}.{number % 250 + 1}",
        "virtualRouterID": number % 255 + 1,
        "interface": f"eth{number // 255}",
        **changes,
    }
    return {"keepalived": keepalived}


@contextlib.contextmanager
def opened(
    management: ControlPlane, tenant: ControlPlane, log: Path, *args: str, plays: bool = True
) -> Iterator[KamajiScene]:
    """A new namespace with both roles at work in it, and Kamaji played (unless not ``plays``)."""
    namespace = planes.new_namespace(management)
    where = (f"--namespace={namespace}", f"--leader-elect-namespace={namespace}")
    with (
        contextlib.closing(KubeApi(management.kubeconfig)) as api,
        Controllers(management.kubeconfig, log, *ROLES, *where, *args) as controllers,
    ):
        controllers.wait_log("became leader", times=2, timeout=60.0)
        part = KamajiPart(api, namespace, tenant.client_kubeconfig())
        user = KamajiScene(api, namespace, part, controllers)
        by_itself = part.at_work(lambda name: not name.startswith(BY_HAND))
        with by_itself if plays else contextlib.nullcontext():
            yield user
        assert "Traceback" not in controllers.text


def holds_for(seconds: float, check: Callable[[], bool]) -> bool:
    """Whether ``check`` is true all the while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not check():
            return False
        time.sleep(cluster.PAUSE)
    return True
