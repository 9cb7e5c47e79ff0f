"""What the stories of the demo are made of: real commands, and waiting for their effect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dpucluster.cli import demo_kubectl, demo_manifests, demo_view, demo_watch, screen

NAMESPACE, NAME = demo_manifests.DPUCLUSTER


class Steps:
    """Applies manifests of the guide and watches what becomes of its DPUCluster."""

    def __init__(
        self, shown: screen.Screen, kubectl: demo_kubectl.Kubectl, watch: demo_watch.Watch
    ) -> None:
        self.shown = shown
        self.watch = watch
        self._kubectl = kubectl

    async def apply(self, name: str, text: str) -> None:
        """Apply a manifest under that name."""
        self._kubectl.write_manifest(name, text)
        await self.kubectl("apply", "-f", name)

    async def kubectl(self, *arguments: str) -> None:
        """Show the command, run it, show what it printed."""
        self.shown.command(" ".join(("kubectl", *arguments)))
        # What the command brings about is often seen before the command has come back.
        with self.shown.held():
            self.shown.note(await self._kubectl.run(arguments))

    async def until_ready(self) -> None:
        """Wait until the DPUCluster is Ready again."""
        with self.waiting("Ready"):
            took = await self.watch.until(demo_view.is_ready, "is not Ready again")
        self.shown.result(f"Ready again {after(took)}")

    async def until_reason(self, type_: str, reason: str) -> None:
        """Wait until the condition is False for that reason."""
        with self.waiting(f"{type_} to be False for the reason {reason}"):
            took = await self.watch.until(
                lambda cluster: demo_view.has_reason(cluster, type_, reason),
                f"has not got {type_}=False/{reason}",
            )
        self.shown.result(f"{reason} {after(took)}", self.watch.latest)

    async def delete(self) -> None:
        """Delete the DPUCluster and wait until it is gone."""
        await self.kubectl("delete", "dpucluster", NAME, "-n", NAMESPACE, "--wait=false")
        with self.waiting("the DPUCluster being gone"):
            took = await self.watch.until(lambda cluster: cluster is None, "is not gone")
        self.shown.result(f"gone {after(took)}")

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Tell what is waited for within the ``with`` block."""
        self.shown.waiting(f"waiting for {what}")
        yield
        self.shown.waiting("")


def after(seconds: float) -> str:
    """How long something took, in words."""
    # Under a tenth it had happened before kubectl came back.
    return f"after {seconds:.1f} s" if seconds >= 0.1 else "at once"
