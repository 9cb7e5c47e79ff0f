"""What is shown of a DPUCluster: the columns of its CRD and its conditions. Pure.

The plain form, for pipes and logs, is one line for each change; a message that says what is wrong
follows its line, wrapped. Nothing is wider than 80 columns.
"""

from __future__ import annotations

import datetime as dt
import textwrap
from dataclasses import dataclass

from dpucluster.api import timestamps
from dpucluster.api.dpucluster import ConditionType, DPUCluster
from dpucluster.api.meta import Condition

COLUMNS = ("NAME", "READY", "PHASE", "TYPE", "MAXNODES", "VERSION", "AGE")
"""As ``kubectl get dpuclusters`` prints them: the printer columns of the CRD."""
CONDITION_COLUMNS = ("CONDITION", "STATUS", "REASON", "AGE")

PLAIN_WIDTH = 80
"""Of a log, a pull request, a terminal that nobody has resized."""
_ROW_WIDTHS = (13, 5, 8, 6, 8, 7, 0)
_CONDITION_WIDTHS = (17, 7, 24, 0)
"""Of the longest condition type, status and reason there are."""
_GAP = "  "
_MESSAGE_INDENT = " " * 4


@dataclass(frozen=True)
class View:
    """What is shown, without the ages: two views are equal when nothing changed for a reader.

    Attributes:
        cells: Under ``COLUMNS``, all but the last one.
        created: When, in RFC 3339.
        conditions: In the object's own order, but Ready last.
        is_deleting: Whether its deletion has been asked for.
    """

    cells: tuple[str, ...]
    created: str
    conditions: tuple[Condition, ...]
    is_deleting: bool


def of(cluster: DPUCluster) -> View:
    """What is shown of ``cluster``."""
    ready = cluster.condition(ConditionType.READY)
    spec = cluster.spec
    return View(
        cells=(
            cluster.metadata.name,
            ready.status if ready else "",
            cluster.status.phase.value,
            spec.type,
            str(spec.max_nodes),
            spec.version,
        ),
        created=cluster.metadata.creation_timestamp,
        # The cause before the effect: Ready sums the others up.
        conditions=tuple(sorted(cluster.status.conditions, key=_is_ready_type)),
        is_deleting=cluster.metadata.is_deleting,
    )


def row(view: View, now: dt.datetime) -> tuple[str, ...]:
    """The cells under ``COLUMNS``."""
    return (*view.cells, age(view.created, now))


def condition_row(condition: Condition, now: dt.datetime) -> tuple[str, ...]:
    """The cells under ``CONDITION_COLUMNS``."""
    since = age(condition.last_transition_time, now)
    return (condition.type, condition.status, condition.reason, since)


def problems(view: View) -> tuple[Condition, ...]:
    """The conditions whose message a reader needs: not True, and no repetition of another's."""
    return tuple(c for c in view.conditions if _says_something(c, view.conditions))


def age(since: str, now: dt.datetime) -> str:
    """From ``since`` (RFC 3339) to ``now`` as kubectl writes it: ``45s``, ``3m5s``, ``2h``."""
    try:
        seconds = max(0, int((now - timestamps.parse(since)).total_seconds()))
    except ValueError:
        return "<unknown>"
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    return f"{hours}h" if hours < 48 else f"{hours // 24}d"


def changes(old: View | None, new: View | None, now: dt.datetime) -> list[str]:
    """The plain lines for what a reader sees change from ``old`` to ``new`` (None: not there)."""
    if new is None:
        return [f"{old.cells[0]} is gone"] if old else []
    lines = [] if old else [_aligned(COLUMNS, _ROW_WIDTHS)]
    if old is None or old.cells != new.cells:
        lines.append(_aligned(row(new, now), _ROW_WIDTHS))
    if new.is_deleting and not (old and old.is_deleting):
        lines.append(f"{_GAP}deletion was asked for")
    before = {c.type: c for c in old.conditions} if old else {}
    for condition in new.conditions:
        if _told(before.pop(condition.type, None)) != _told(condition):
            lines.append(_GAP + _aligned(condition_row(condition, now), _CONDITION_WIDTHS))
            if _says_something(condition, new.conditions):
                lines += _wrapped(condition.message)
    lines += [f"{_GAP}{type_} is gone" for type_ in before]
    return lines


def situation(cluster: DPUCluster | None) -> str:
    """Where the cluster stands, in one sentence, for the message of a failure."""
    if cluster is None:
        return "there is no such DPUCluster"
    said = [
        f"{c.type} is {c.status} ({c.reason}){f': {c.message}' if c.message else ''}"
        for c in cluster.status.conditions
    ]
    deleting = ["it is being deleted"] if cluster.metadata.is_deleting else []
    told = said or ["no controller has set a condition"]
    return "; ".join([f"its phase is {cluster.status.phase.value}", *deleting, *told])


def is_ready(cluster: DPUCluster | None) -> bool:
    """Whether ``Ready`` is True, and for the spec as it is now."""
    ready = cluster.condition(ConditionType.READY) if cluster else None
    if cluster is None or ready is None or cluster.metadata.is_deleting:
        return False
    return ready.is_true and ready.observed_generation == cluster.metadata.generation


def has_reason(cluster: DPUCluster | None, type_: str, reason: str) -> bool:
    """Whether that condition is False for that reason."""
    condition = cluster.condition(type_) if cluster else None
    return condition is not None and not condition.is_true and condition.reason == reason


def _told(condition: Condition | None) -> tuple[str, ...]:
    if condition is None:
        return ()
    # The message of a True condition is not shown, so it is no change either.
    message = "" if condition.is_true else condition.message
    return (condition.type, condition.status, condition.reason, message)


def _is_ready_type(condition: Condition) -> bool:
    return condition.type == ConditionType.READY


def _says_something(condition: Condition, among: tuple[Condition, ...]) -> bool:
    """Whether its message is worth reading: Ready=False/WaitingForControlPlane quotes its cause."""
    if condition.is_true or not condition.message:
        return False
    return not any(
        other.message and other.message in condition.message
        for other in among
        if other.type != condition.type and not other.is_true
    )


def _wrapped(message: str) -> list[str]:
    return textwrap.wrap(
        message,
        PLAIN_WIDTH,
        initial_indent=_MESSAGE_INDENT,
        subsequent_indent=_MESSAGE_INDENT,
        break_on_hyphens=False,
    )


def _aligned(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return _GAP.join(padded).rstrip()
