"""How long work tells that it is alive: a protocol and its two forms for standard error.

On a terminal one line updates itself; elsewhere there are plain lines, seldom enough for a log.
Nothing richer here: ``cli`` may bring its own.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

LINE_EVERY = 15.0
"""Seconds between plain lines: a build of minutes is seen alive and fills no log."""
REDRAW_EVERY = 0.1
"""Seconds between two drawings of a terminal's line: smooth to the eye, nothing to the CPU."""


class Progress(Protocol):
    """What long work reports to. One step at a time; calls come from one thread.

    Guarantees asked of the caller: ``tick`` a few times a second while a step goes on, and one
    ``finish`` for each ``start`` unless an exception ends the work.
    """

    def start(self, text: str) -> None:
        """Begin a step; a step that was going on is over."""

    def tick(self, detail: str = "") -> None:
        """Say that the step goes on; ``detail`` is how far it is (``12 of 80 MB``)."""

    def finish(self, text: str) -> None:
        """End the step; ``text`` is its result (``built``)."""

    def note(self, text: str) -> None:
        """Tell something that is no step."""


class Lines:
    """Progress as plain lines, for pipes and logs."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._text = ""
        self._began = self._told = 0.0

    def start(self, text: str) -> None:
        """Print the step."""
        self._text, self._began = text, self._clock()
        self._told = self._began
        self.note(text)

    def tick(self, detail: str = "") -> None:
        """Print a line each ``LINE_EVERY`` seconds."""
        now = self._clock()
        if now - self._told >= LINE_EVERY:
            self._told = now
            self.note(_line(self._text, elapsed(now - self._began), detail))

    def finish(self, text: str) -> None:
        """Print the result and what it took."""
        self.note(_line(self._text, text, elapsed(self._clock() - self._began)))

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)


class Terminal:
    """Progress as one line that updates itself."""

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._columns = columns
        self._text = ""
        self._began = self._drawn = 0.0

    def start(self, text: str) -> None:
        """Draw the step."""
        self._text, self._began = text, self._clock()
        self._draw("")

    def tick(self, detail: str = "") -> None:
        """Draw the step again with its elapsed time."""
        if self._clock() - self._drawn >= REDRAW_EVERY:
            self._draw(detail)

    def finish(self, text: str) -> None:
        """Leave the line as the result."""
        self.note(_line(self._text, text, elapsed(self._clock() - self._began)))

    def note(self, text: str) -> None:
        """Write a line that stays."""
        self._stream.write(f"\r\x1b[K{text}\n")
        self._stream.flush()

    def _draw(self, detail: str) -> None:
        self._drawn = self._clock()
        line = _line(self._text, elapsed(self._drawn - self._began), detail)
        # A line that wraps could not be taken back with one carriage return.
        self._stream.write(f"\r\x1b[K{line[: max(self._columns() - 1, 20)]}")
        self._stream.flush()


class Silent:
    """Progress that nobody wants to see."""

    def start(self, text: str) -> None:
        """Say nothing."""

    def tick(self, detail: str = "") -> None:
        """Say nothing."""

    def finish(self, text: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


def for_stream(stream: TextIO | None = None) -> Progress:
    """The form that fits ``stream`` (standard error unless told)."""
    stream = sys.stderr if stream is None else stream
    return Terminal(stream) if stream.isatty() else Lines(stream)


def elapsed(seconds: float) -> str:
    """A duration as people write it: ``9 s``, ``3 min 05 s``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _line(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
