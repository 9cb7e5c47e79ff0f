"""The flows of the guide that the demo can show: on which planes, with which story."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from dpucluster.cli import (
    demo_kamaji,
    demo_kubectl,
    demo_manifests,
    demo_planes,
    demo_story,
    demo_watch,
    local,
    screen,
)
from dpucluster.localplane import binaries, plane

PROBE_FLAGS = ("--probe-interval", "2s", "--probe-timeout", "2s")
"""For the tour: an outage is seen after 8 seconds instead of half a minute."""

NAMESPACE, NAME = demo_manifests.DPUCLUSTER


class Planes(Protocol):
    """What a flow runs on; nothing of it is left when its ``with`` block is."""

    @property
    def management(self) -> plane.ControlPlane:
        """Where the DPUCluster is."""
        ...

    @property
    def kubectl(self) -> demo_kubectl.Kubectl:
        """On the management plane."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """End all processes at once."""
        ...

    def check(self) -> None:
        """Raise ``PlaneError`` if a process that should be there is gone."""
        ...


class Story(Protocol):
    """What is told."""

    async def become_ready(self) -> None:
        """From the guide's manifests to Ready."""
        ...

    async def tour(self) -> None:
        """And on to the deletion."""
        ...


class Flow(Protocol):
    """One flow of the guide.

    Attributes:
        planes: What it runs on.
    """

    @property
    def planes(self) -> Planes:
        """What it runs on."""
        ...

    async def open(self, shown: screen.Screen) -> None:
        """Start what is to be seen starting."""
        ...

    def story(self, shown: screen.Screen, watch: demo_watch.Watch) -> Story:
        """What is told of the DPUCluster that ``watch`` follows."""
        ...

    def rest(self) -> None:
        """All was shown: from now on the user tries things."""
        ...

    def next_commands(self, *, after_tour: bool) -> list[str]:
        """What a user may type then."""
        ...


class StaticFlow:
    """A control plane that exists already is adopted."""

    programs = binaries.ALL

    def __init__(self, programs: Mapping[str, Path], directory: Path, *, tour: bool) -> None:
        self.planes = demo_planes.Planes(programs, directory)
        self._kubectl = programs["kubectl"]
        self._flags = PROBE_FLAGS if tour else ()

    async def open(self, shown: screen.Screen) -> None:
        """Start the planes and the controllers."""
        await demo_story.open_stage(shown, self.planes, self._flags)

    def story(self, shown: screen.Screen, watch: demo_watch.Watch) -> Story:
        """The guide's three manifests, and everything that can happen to a tenant."""
        return demo_story.Story(shown, self.planes, watch)

    def rest(self) -> None:
        """The user may make what needs the controller manager."""
        self.planes.management.start_controller_manager()

    def next_commands(self, *, after_tour: bool) -> list[str]:
        """With the tenant's kubeconfig."""
        return [
            *common_commands(self._kubectl, self.planes, after_tour=after_tour),
            # A variable, so that neither line is wider than most terminals.
            f"export TENANT={self.planes.tenant.kubeconfig}",
            'kubectl --kubeconfig "$TENANT" get namespaces',
        ]


class KamajiFlow:
    """A control plane is made by the real Kamaji."""

    programs = binaries.WITH_KAMAJI

    def __init__(self, programs: Mapping[str, Path], directory: Path, *, tour: bool) -> None:
        del tour
        self.planes = demo_kamaji.Planes(programs, directory)
        self._kubectl = programs["kubectl"]

    async def open(self, shown: screen.Screen) -> None:
        """Everything has started with the planes."""
        shown.step(
            "A management cluster with Kamaji and two nodes runs on this machine, in a network of "
            "its own; the nodes' pods are real processes."
        )

    def story(self, shown: screen.Screen, watch: demo_watch.Watch) -> Story:
        """The guide's manifest, a namespace through the virtual IP, and on."""
        return demo_kamaji.Story(shown, self.planes, watch)

    def rest(self) -> None:
        """Everything runs already."""

    def next_commands(self, *, after_tour: bool) -> list[str]:
        """With a kubeconfig of the tenant that is good for outside."""
        commands = common_commands(self._kubectl, self.planes, after_tour=after_tour)
        if after_tour:
            return commands
        return [
            *commands,
            f"kubectl get pods,tenantcontrolplanes,daemonsets -n {NAMESPACE}",
            f"export TENANT={self.planes.outside_kubeconfig()}",
            'kubectl --kubeconfig "$TENANT" get namespaces',
        ]


FLOWS: Mapping[str, type[StaticFlow | KamajiFlow]] = {
    "static": StaticFlow,
    "kamaji": KamajiFlow,
}


def common_commands(kubectl: Path, planes: Planes, *, after_tour: bool) -> list[str]:
    """What a user may type in every flow."""
    again = [f"kubectl apply -f {planes.kubectl.manifests}"] if after_tour else []
    ready = [] if after_tour else [f"kubectl describe dpuclusters -n {NAMESPACE} {NAME}"]
    return [
        *local.path_lines(kubectl),
        f"export KUBECONFIG={planes.management.kubeconfig}",
        *again,
        "kubectl get dpuclusters -A",
        *ready,
        f"kubectl events -n {NAMESPACE}",
    ]
