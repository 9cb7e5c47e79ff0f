"""A probe of an API server behind a virtual IP, and the outages that it saw."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.rack import Rack

SCRIPT = Path(__file__).with_name("vip_probe.py")
LONGEST = 300.0
"""Seconds after which a probe ends by itself."""
WARM = 1.0
"""Seconds of a probe before anything is done to what it asks."""


@dataclass(frozen=True)
class Try:
    """One question: when it was asked, and what was wrong with the answer."""

    at: float
    took: float
    problem: str


@dataclass(frozen=True)
class Outage:
    """From the first question that got no good answer to the next one that did."""

    begin: float
    end: float
    problems: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end - self.begin

    def __repr__(self) -> str:
        """For a report."""
        return f"{self.seconds:.2f} s ({len(self.problems)} times {self.problems[-1][:60]})"


def outages(tries: list[Try]) -> list[Outage]:
    """All outages, in order; one that had no end has lasted until the last try."""
    found: list[Outage] = []
    bad: list[Try] = []
    for each in tries:
        if each.problem:
            bad.append(each)
        elif bad:
            found.append(Outage(bad[0].at, each.at, tuple(b.problem for b in bad)))
            bad = []
    if bad:
        end = bad[-1].at + bad[-1].took
        found.append(Outage(bad[0].at, end, tuple(b.problem for b in bad)))
    return found


class Probe:
    """A context manager: asks from the beginning of the block to its end."""

    def __init__(self, rack: Rack, address: str, port: int, authority: Path) -> None:
        self._rack = rack
        self._arguments = (address, str(port), str(authority), str(LONGEST))
        self.tries: list[Try] = []

    @property
    def outages(self) -> list[Outage]:
        """Known when the block has ended."""
        return outages(self.tries)

    def __enter__(self) -> Self:
        self._process = self._rack.start_inside(
            [sys.executable, "-I", str(SCRIPT), *self._arguments]
        )
        time.sleep(WARM)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            said, _nothing = self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        complete = said.split("\n")[:-1]
        self.tries = [Try(**json.loads(line)) for line in complete]
