"""One demo from its first process to its last, and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from dpucluster.cli import demo_manifests, demo_planes, demo_story, demo_watch, local, screen
from dpucluster.kube import client as kube_client
from dpucluster.localplane import binaries, progress, scratch, signals

PROBE_FLAGS = ("--probe-interval", "2s", "--probe-timeout", "2s")
"""For the tour: an outage is seen after 8 seconds instead of half a minute."""
SCRATCH = "dpucluster-demo-"
"""How the name of its directory begins."""
CHECK_EVERY = 0.5
"""Seconds between looks at the processes while the user tries things."""


@dataclass(frozen=True)
class Options:
    """The flags of ``dpucluster demo``; ``timeout`` in seconds."""

    tour: bool = False
    exit: bool = False
    timeout: float = 60.0


class Ending:
    """Handler of the signals that end the demo: cancels it, once it is there."""

    def __init__(self) -> None:
        self.signum = 0
        self.cancel: Callable[[], object] = lambda: None

    def __call__(self, signum: int) -> None:
        """The first signal counts; what it set off is bounded in time and goes on."""
        if not self.signum:
            self.signum = signum
            self.cancel()


def main(options: Options) -> int:
    """Run the demo; the exit code (128 + n for signal n that came before its end).

    Raises:
        LocalPlaneError: it did not come true; with the reason. Nothing is left of it.
    """
    try:
        with signals.handled(signals.interrupt):
            programs = binaries.ensure(progress=progress.for_stream())
    except signals.Interrupted as interrupted:
        return interrupted.exit_code
    ending = Ending()
    with (
        signals.handled(ending),
        scratch.directory(SCRATCH) as directory,
        demo_planes.Planes(programs, directory) as planes,
        asyncio.Runner() as runner,
    ):
        # What the libraries have to say would tear the screen.
        logging.basicConfig(filename=directory / "demo.log")
        return runner.run(_until_signal(_Demo(options, planes, programs["kubectl"]), ending))


async def _until_signal(demo: _Demo, ending: Ending) -> int:
    running = asyncio.ensure_future(demo.run())
    loop = asyncio.get_running_loop()
    ending.cancel = lambda: loop.call_soon_threadsafe(running.cancel)
    if ending.signum:  # it came before the loop did
        running.cancel()
    await asyncio.wait({running})
    if running.cancelled():
        # Once everything was shown, Ctrl-C is how it is meant to end.
        return 0 if demo.is_complete else 128 + ending.signum
    running.result()
    return 0


class _Demo:
    def __init__(self, options: Options, planes: demo_planes.Planes, kubectl: Path) -> None:
        self._options = options
        self._planes = planes
        self._kubectl = kubectl
        self.is_complete = False

    async def run(self) -> None:
        """Play it all; without ``--exit`` it ends by being cancelled."""
        with screen.for_stream() as shown:
            try:
                await self._play(shown)
            finally:
                # Here, because threads wait for what runs, and the runner for its threads.
                self._planes.close()

    async def _play(self, shown: screen.Screen) -> None:
        options, planes = self._options, self._planes
        await demo_story.open_stage(shown, planes, PROBE_FLAGS if options.tour else ())
        async with self._watch(shown) as watch:
            story = demo_story.Story(shown, planes, watch)
            await story.become_ready()
            if options.tour:
                await story.tour()
            self.is_complete = True
            if options.exit:
                return
            planes.management.start_controller_manager()
            self._tell_next(shown)
            while True:
                planes.check()
                await asyncio.sleep(CHECK_EVERY)

    @contextlib.asynccontextmanager
    async def _watch(self, shown: screen.Screen) -> AsyncIterator[demo_watch.Watch]:
        async with kube_client.Client(self._planes.management.connection) as client:
            watch = demo_watch.Watch(
                client,
                demo_manifests.DPUCLUSTER,
                show=shown.show,
                check=self._planes.check,
                timeout=self._options.timeout,
            )
            following = asyncio.create_task(watch.run())
            try:
                yield watch
            finally:
                following.cancel()
                await asyncio.wait({following})

    def _tell_next(self, shown: screen.Screen) -> None:
        shown.step("The planes stay up until Ctrl-C. To try in another terminal:")
        for line in next_commands(self._planes, self._kubectl, after_tour=self._options.tour):
            shown.command(line)
        shown.waiting("Ctrl-C ends the demo and removes everything", timed=False)


def next_commands(planes: demo_planes.Planes, kubectl: Path, *, after_tour: bool) -> list[str]:
    """What a user may type now."""
    namespace, name = demo_manifests.DPUCLUSTER
    again = [f"kubectl apply -f {planes.manifests}"] if after_tour else []
    ready = [] if after_tour else [f"kubectl describe dpuclusters -n {namespace} {name}"]
    return [
        *local.path_lines(kubectl),
        f"export KUBECONFIG={planes.management.kubeconfig}",
        *again,
        "kubectl get dpuclusters -A",
        *ready,
        f"kubectl events -n {namespace}",
        # A variable, so that neither line is wider than most terminals.
        f"export TENANT={planes.tenant.kubeconfig}",
        'kubectl --kubeconfig "$TENANT" get namespaces',
    ]
