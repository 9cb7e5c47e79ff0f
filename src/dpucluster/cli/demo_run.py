"""One demo from its first process to its last, and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from dpucluster.cli import demo_flows, demo_manifests, demo_watch, screen
from dpucluster.kube import client as kube_client
from dpucluster.localplane import binaries, progress, scratch, signals

SCRATCH = "dpucluster-demo-"
"""How the name of its directory begins."""
CHECK_EVERY = 0.5
"""Seconds between looks at the processes while the user tries things."""


@dataclass(frozen=True)
class Options:
    """What ``dpucluster demo`` was asked for; ``timeout`` in seconds."""

    flow: str = "static"
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
    ending = Ending()
    with contextlib.ExitStack() as stack:
        try:
            with signals.handled(signals.interrupt):
                flow = _flow(options, stack)
        except signals.Interrupted as interrupted:
            return interrupted.exit_code
        stack.enter_context(signals.handled(ending))
        with asyncio.Runner() as runner:
            return runner.run(_until_signal(_Demo(options, flow), ending))


def _flow(options: Options, stack: contextlib.ExitStack) -> demo_flows.Flow:
    """What is to be shown, with what it needs before anything can be seen."""
    kind = demo_flows.FLOWS[options.flow]
    programs = binaries.ensure(kind.programs, progress=progress.for_stream())
    directory = stack.enter_context(scratch.directory(SCRATCH))
    # What the libraries have to say would tear the screen.
    logging.basicConfig(filename=directory / "demo.log")
    flow = kind(programs, directory, tour=options.tour)
    stack.enter_context(flow.planes)
    return flow


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
    def __init__(self, options: Options, flow: demo_flows.Flow) -> None:
        self._options = options
        self._flow = flow
        self._planes = flow.planes
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
        options = self._options
        await self._flow.open(shown)
        async with self._watch(shown) as watch:
            story = self._flow.story(shown, watch)
            await story.become_ready()
            if options.tour:
                await story.tour()
            self.is_complete = True
            if options.exit:
                return
            self._flow.rest()
            self._tell_next(shown)
            while True:
                self._planes.check()
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
        for line in self._flow.next_commands(after_tour=self._options.tour):
            shown.command(line)
        shown.waiting("Ctrl-C ends the demo and removes everything", timed=False)
