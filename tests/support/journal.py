"""What a proxy saw: every request with its time, so that tests can count them."""

from __future__ import annotations

import collections
import math
import re
import threading
import time
from dataclasses import dataclass

PENDING = 0
"""Status of a request that is not answered yet."""
CUT = -1
"""Status of a request whose connection was cut instead of answered."""


@dataclass
class Seen:
    """One request. ``status`` is filled in when the answer begins."""

    at: float
    method: str
    path: str
    query: dict[str, str]
    user_agent: str
    status: int = PENDING

    @property
    def is_watch(self) -> bool:
        """Whether this is a watch."""
        return self.query.get("watch", "") in {"1", "true"}

    @property
    def is_list(self) -> bool:
        """Whether this is a GET that is no watch."""
        return self.method == "GET" and not self.is_watch


@dataclass(frozen=True)
class Match:
    """Selects requests; an empty field selects all."""

    method: str = ""
    path: str = ""
    watch: bool | None = None

    def accepts(self, seen: Seen) -> bool:
        """Whether ``seen`` is one of those (``path`` is searched as a regular expression)."""
        return (
            self.method in {"", seen.method}
            and re.search(self.path, seen.path) is not None
            and self.watch in {None, seen.is_watch}
        )


class Journal:
    """All requests since the start, safe to read from any thread."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []
        self._lock = threading.Lock()

    def add(self, seen: Seen) -> None:
        """Remember ``seen``."""
        with self._lock:
            self._seen.append(seen)

    def select(
        self,
        method: str = "",
        path: str = "",
        *,
        watch: bool | None = None,
        status: int | None = None,
        since: float = 0.0,
        until: float = math.inf,
    ) -> list[Seen]:
        """The requests that match, oldest first."""
        match = Match(method, path, watch)
        with self._lock:
            seen = list(self._seen)
        return [
            s
            for s in seen
            if since <= s.at <= until and status in {None, s.status} and match.accepts(s)
        ]


def table(seen: list[Seen]) -> collections.Counter[tuple[str, str, int]]:
    """How often each (verb, path, status) occurs; watches have the verb ``WATCH``."""
    return collections.Counter(
        ("WATCH" if s.is_watch else s.method, s.path, s.status) for s in seen
    )


def peak(seen: list[Seen], window: float = 1.0) -> int:
    """The greatest number of requests within any ``window`` seconds: how hot a loop is."""
    times = sorted(s.at for s in seen)
    best = first = 0
    for last, at in enumerate(times):
        while at - times[first] > window:
            first += 1
        best = max(best, last - first + 1)
    return best


def now() -> float:
    """The clock of ``Seen.at``."""
    return time.monotonic()
