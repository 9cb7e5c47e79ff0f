"""What a reflector does next: the state machine of list and watch. Pure.

::

    Empty ──list──► Watching ──cut, closed, silent──► Watching (from the last version told)
      ▲  └─fails─┐     │
      └──────────┘     └──410, or an answer that makes no sense──► Relist ──list──► Watching

``Empty`` and ``Relist`` both list; they differ in whether the cache holds something meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from dpucluster import errors
from dpucluster.runtime import backoff as backoffs

STEADY: Final = 10.0
"""Seconds after which a watch counts as having worked, whether anything happened or not."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing was listed yet."""


@dataclass(frozen=True, slots=True)
class Relist:
    """The cache is filled, but what happened since cannot be had any more."""


@dataclass(frozen=True, slots=True)
class Watching:
    """The cache is as the server was at ``resource_version``."""

    resource_version: str


State: TypeAlias = Empty | Relist | Watching


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete list was taken over."""

    resource_version: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A list or a watch came to its end.

    Attributes:
        error: What ended it; None: the server closed a watch in good order.
        resource_version: The last one told; empty for a list.
        lived: Seconds a watch was open.
        progressed: Whether a watch told anything.
    """

    error: Exception | None = None
    resource_version: str = ""
    lived: float = 0.0
    progressed: bool = False

    @property
    def is_quiet(self) -> bool:
        """An end as every watch has one: closed by the server, or nothing to tell for long."""
        benign = self.error is None or isinstance(self.error, errors.TimedOut)
        return benign and self.lived >= STEADY


Outcome: TypeAlias = Listed | Broken


def follow(state: State, outcome: Outcome) -> State:
    """The state after ``outcome``."""
    match state, outcome:
        case _, Listed(resource_version):
            return Watching(resource_version)
        case Watching(), Broken(error, resource_version):
            return Watching(resource_version) if _can_resume(error) else Relist()
        case _:
            return state


def pause(outcome: Outcome, backoff: backoffs.Backoff) -> float:
    """Seconds before going on.

    The back-off starts anew only after real progress: an event, a bookmark, or a watch that stayed
    open. That a list succeeded, or a watch was accepted, is none, or a server that lists well and
    answers 410 to every watch would be asked in a hot loop.
    """
    if isinstance(outcome, Listed):
        return 0.0
    if outcome.progressed or outcome.lived >= STEADY:
        backoff.reset()
    if outcome.is_quiet:
        return 0.0
    wanted = outcome.error.retry_after if isinstance(outcome.error, errors.ApiError) else None
    # Not longer than any other pause, or one odd answer would stop a cache for a day.
    return max(backoff.next(), min(wanted or 0.0, backoff.cap))


def _can_resume(error: Exception | None) -> bool:
    """Whether watching on from the last version makes sense after ``error``."""
    match error:
        case None | errors.TransportError():
            return True
        case errors.Unauthorized() | errors.Forbidden() | errors.TooManyRequests():
            return True
        case errors.ServerError():
            return error.retry_after is not None
        case _:
            return False
