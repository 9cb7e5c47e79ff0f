"""The story on a terminal: what has happened scrolls by, the DPUCluster stays below it, alive."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from contextlib import AbstractContextManager
from typing import Any, Self, TextIO

from rich import box, console, live, padding, spinner, table, text

from dpucluster.api.dpucluster import DPUCluster
from dpucluster.api.meta import Condition
from dpucluster.cli import demo_view

REDRAW_EVERY = 0.125
"""Seconds: the spinner turns, and the CPU is left to the planes."""
READING = 2.0
"""Seconds between two steps: what changed can be seen before it changes again."""
WIDEST = 120
"""Columns; longer lines of prose are hard to read."""
COLOURS = {"True": "green", "False": "red", "Ready": "green", "NotReady": "red"}


class Terminal:
    """A ``screen.Screen`` by rich; honours ``NO_COLOR``."""

    pause = READING

    def __init__(self, stream: TextIO) -> None:
        self._console = console.Console(file=stream, highlight=False)
        self._is_unicode = self._console.encoding.startswith("utf")
        self._cluster: DPUCluster | None = None
        self._waiting = ""
        self._since: float | None = None
        self._spinner = spinner.Spinner("dots" if self._is_unicode else "line", style="cyan")
        # rich's own thread may draw while something is printed, and then both count lines wrongly.
        self._live = live.Live(
            get_renderable=self._frame, console=self._console, auto_refresh=False
        )
        self._drawing = threading.Lock()
        self._closed = threading.Event()
        self._redrawer = threading.Thread(target=self._redraw, daemon=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._redrawer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting = ""
        self._closed.set()
        self._redrawer.join()
        self._live.stop()

    def step(self, sentence: str) -> None:
        """Head a step."""
        self._print()
        self._print(self._marked("▸", "==>", "bold cyan", text.Text(sentence, "bold")))

    def command(self, line: str) -> None:
        """Print it in one piece, to be copied."""
        self._print(text.Text.assemble("  ", ("$ ", "dim"), line), soft_wrap=True)

    def note(self, text_: str) -> None:
        """Print it, indented and dim."""
        self._print(padding.Padding(text.Text(text_, "dim"), (0, 0, 0, 2)))

    def result(self, text_: str, cluster: DPUCluster | None = None) -> None:
        """Print it, and what is wrong below it."""
        self._print(self._marked("✓", "-->", "bold green", text.Text(text_)))
        for condition in demo_view.problems(demo_view.of(cluster)) if cluster else ():
            self._print(padding.Padding(_problem(condition), (0, 0, 0, 2)))

    def show(self, cluster: DPUCluster | None) -> None:
        """Draw it from now on."""
        self._cluster = cluster

    def held(self) -> AbstractContextManager[None]:
        """Nothing to hold back: the table is below all that scrolls by."""
        return contextlib.nullcontext()

    def waiting(self, text_: str, *, timed: bool = True) -> None:
        """Turn the spinner for it."""
        self._waiting, self._since = text_, time.monotonic() if timed else None

    def _print(self, what: Any = "", *, soft_wrap: bool = False) -> None:
        width = None if soft_wrap else min(self._console.width, WIDEST)
        with self._drawing:
            self._console.print(what, width=width, soft_wrap=soft_wrap)

    def _redraw(self) -> None:
        while not self._closed.wait(REDRAW_EVERY):
            with self._drawing:
                self._live.refresh()

    def _marked(self, mark: str, ascii_mark: str, style: str, what: text.Text) -> table.Table:
        grid = table.Table.grid(padding=(0, 1))
        grid.add_row(text.Text(mark if self._is_unicode else ascii_mark, style), what)
        return grid

    def _frame(self) -> console.RenderableType:
        """The part that is drawn again and again; called from two threads."""
        parts: list[console.RenderableType] = []
        if (cluster := self._cluster) is not None:
            parts += [text.Text(), *_tables(demo_view.of(cluster))]
        if waiting := self._waiting:
            since = self._since
            seconds = int(time.monotonic() - since) if since is not None else 0
            elapsed = f" {seconds} s" if seconds else ""
            self._spinner.update(text=text.Text.assemble(waiting, (elapsed, "dim")))
            parts += [text.Text(), self._spinner]
        return console.Group(*parts)


def _tables(view: demo_view.View) -> list[console.RenderableType]:
    now = dt.datetime.now(dt.UTC)
    row = _table(demo_view.COLUMNS)
    row.add_row(*(_cell(cell) for cell in demo_view.row(view, now)))
    parts: list[console.RenderableType] = [row]
    if view.conditions:
        conditions = _table(demo_view.CONDITION_COLUMNS)
        for condition in view.conditions:
            conditions.add_row(*(_cell(c) for c in demo_view.condition_row(condition, now)))
        parts += [text.Text(), conditions]
    problems = [_problem(condition) for condition in demo_view.problems(view)]
    return [*parts, *(padding.Padding(each, (0, 1)) for each in problems)]


def _table(columns: tuple[str, ...]) -> table.Table:
    made = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=True)
    return made


def _cell(content: str) -> text.Text:
    return text.Text(content, COLOURS.get(content, ""))


def _problem(condition: Condition) -> text.Text:
    return text.Text.assemble(
        (f"{condition.type} is {condition.status}, {condition.reason}: ", "yellow"),
        condition.message,
        overflow="fold",
    )
