"""Signals: a program in a process of its own, asked to stop in several ways."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dpucluster.runtime import process
from tests.support.patience import PATIENCE

PROGRAM = """
import asyncio, sys
from dpucluster.runtime import log, process
log.setup("text", 0)

async def main(stop):
    print("running", type(asyncio.get_running_loop()).__module__, flush=True)
    await stop.wait()
    print("stopping", flush=True)
    try:
        {ending}
    except asyncio.CancelledError:
        print("cut off", flush=True)
        raise

process.run(main, drain={drain})
print("ended", flush=True)
"""


class Program:
    """A running program, and what it printed."""

    def __init__(self, ending: str, drain: float = 10.0) -> None:
        text = PROGRAM.format(ending=ending, drain=drain)
        self.child = subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.first_line = self.read_line()

    def read_line(self) -> str:
        """The next line it prints."""
        assert self.child.stdout is not None
        return self.child.stdout.readline().strip()

    def read_until(self, line: str) -> None:
        """Skip until that line."""
        while (seen := self.read_line()) != line:
            assert seen, f"ended before it printed {line!r}"

    def end(self) -> tuple[int, str]:
        """Its exit code and everything it printed since."""
        text, _ = self.child.communicate(timeout=PATIENCE)
        return self.child.returncode, text


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for one in started:
        one.child.kill()
        one.child.communicate()


@pytest.mark.parametrize("number", process.SIGNALS, ids=lambda s: s.name)
def test_first_signal_drains(programs: list[Program], number: signal.Signals) -> None:
    """After the first signal the program ends by itself, in good order."""
    program = Program("await asyncio.sleep(0.2)")
    programs.append(program)
    assert "running uvloop" == program.first_line
    program.child.send_signal(number)
    code, text = program.end()
    assert 0 == code
    assert "stopping" in text
    assert text.endswith("ended\n")
    assert f"signal={number.name}" in text


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_second_signal_leaves(programs: list[Program], number: signal.Signals, wanted: int) -> None:
    """A second signal ends the program at once, whatever it still does."""
    program = Program("await asyncio.sleep(3600)", drain=3600)
    programs.append(program)
    program.child.send_signal(signal.SIGTERM)
    program.read_until("stopping")
    program.child.send_signal(number)
    code, text = program.end()
    assert wanted == code
    assert "ended" not in text


def test_drain_is_limited(programs: list[Program]) -> None:
    """A program that does not end in time is cancelled, and that is said."""
    program = Program("await asyncio.sleep(3600)", drain=0.3)
    programs.append(program)
    program.child.send_signal(signal.SIGTERM)
    code, text = program.end()
    assert 0 == code
    assert "not finished in time, cut off" in text
    assert "cut off\n" in text


async def test_result_without_a_signal() -> None:
    """A program that ends or fails by itself ends the run at once, with its error."""
    seen: list[str] = []

    async def ends(_stop: asyncio.Event) -> None:
        seen.append("ended")

    async def fails(_stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    await process.run_until_signal(ends)
    assert ["ended"] == seen
    with pytest.raises(ZeroDivisionError):
        await process.run_until_signal(fails)


async def test_aborted_connection(caplog: pytest.LogCaptureFixture) -> None:
    """What uvloop tells of a connection that was aborted is no error in the log; all else is."""
    closed = RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async def program(_stop: asyncio.Event) -> None:
        tell = asyncio.get_running_loop().call_exception_handler
        tell({"message": "Fatal error on SSL protocol", "exception": closed, "transport": None})
        tell({"message": "another", "exception": RuntimeError("another")})

    await process.run_until_signal(program)
    assert ["another"] == [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]


async def test_cancelled_run() -> None:
    """Cancelling the run cancels the program, and signals mean again what they meant before."""
    ended = asyncio.Event()

    async def program(stop: asyncio.Event) -> None:
        try:
            await stop.wait()
        finally:
            ended.set()

    before = signal.getsignal(signal.SIGTERM)
    running = asyncio.create_task(process.run_until_signal(program))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
    assert before == signal.getsignal(signal.SIGTERM)
