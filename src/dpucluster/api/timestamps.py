"""RFC 3339 as Kubernetes writes it."""

from __future__ import annotations

import datetime as dt


def to_rfc3339(moment: dt.datetime) -> str:
    """``metav1.Time``: whole seconds, UTC, a ``Z`` at the end."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_micro(moment: dt.datetime) -> str:
    """``metav1.MicroTime``: six digits after the second."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> dt.datetime:
    """The moment ``text`` names, aware and in UTC.

    Errors:
        ValueError: the text is no RFC 3339 time.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(dt.UTC)
