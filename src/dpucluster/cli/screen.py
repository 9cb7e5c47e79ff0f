"""Where a story is told: on a terminal with a live table, or as plain lines.

The plain form has no colours, no control characters and no line wider than 80 columns, but for
commands, which must be copied whole.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol, Self, TextIO

from dpucluster.api.dpucluster import DPUCluster
from dpucluster.cli import demo_view

INDENT = "    "


class Screen(Protocol):
    """What a story is told through. Everything but ``waiting`` and ``show`` stays to be read.

    Attributes:
        pause: Seconds that a reader needs between two steps.
    """

    pause: float

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def step(self, sentence: str) -> None:
        """Head a step: what happens, and why."""

    def command(self, line: str) -> None:
        """A command as the user would type it."""

    def note(self, text: str) -> None:
        """What a step brought forth."""

    def result(self, text: str, cluster: DPUCluster | None = None) -> None:
        """How a step ended; with what ``cluster`` says is wrong, if that was the aim."""

    def show(self, cluster: DPUCluster | None) -> None:
        """The DPUCluster has changed; None: it is not there."""

    def held(self) -> AbstractContextManager[None]:
        """What ``show`` would leave to be read comes after this ``with`` block."""

    def waiting(self, text: str, *, timed: bool = True) -> None:
        """What is waited for from now on, and for how long if ``timed``; empty: nothing."""


class Plain:
    """A story as plain lines; each change of the DPUCluster is one."""

    pause = 0.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._view: demo_view.View | None = None
        self._held: list[str] | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a log in ASCII must not end the demo

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def step(self, sentence: str) -> None:
        """Print it with a mark that can be searched for."""
        self._print(*_wrapped(sentence, "==> "))

    def command(self, line: str) -> None:
        """Print it in one piece."""
        self._print(f"{INDENT}$ {line}")

    def note(self, text: str) -> None:
        """Print it, indented."""
        self._print(*_wrapped(text, INDENT))

    def result(self, text: str, cluster: DPUCluster | None = None) -> None:
        """Print it; what is wrong has been told when it changed."""
        del cluster
        self._print(*_wrapped(text, "--> "))

    def show(self, cluster: DPUCluster | None) -> None:
        """Print what has changed."""
        old, self._view = self._view, demo_view.of(cluster) if cluster else None
        lines = demo_view.changes(old, self._view, dt.datetime.now(dt.UTC))
        if self._held is None:
            self._print(*lines)
        else:
            self._held += lines

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the lines of ``show`` back."""
        held: list[str] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
            self._print(*held)

    def waiting(self, text: str, *, timed: bool = True) -> None:
        """Say nothing."""

    def _print(self, *lines: str) -> None:
        for line in lines:
            print(line, file=self._stream)
        self._stream.flush()


def for_stream(stream: TextIO | None = None) -> Screen:
    """The form that fits ``stream`` (standard output unless told)."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty() or os.environ.get("TERM") in (None, "", "dumb", "unknown"):
        return Plain(stream)
    from dpucluster.cli import terminal  # noqa: PLC0415 - rich is needed on terminals only

    return terminal.Terminal(stream)


def _wrapped(text: str, mark: str) -> list[str]:
    return textwrap.wrap(
        text,
        demo_view.PLAIN_WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_on_hyphens=False,
        break_long_words=False,
    )
