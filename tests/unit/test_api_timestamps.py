from __future__ import annotations

import datetime as dt

import pytest

from dpucluster.api import timestamps

MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)


def test_times_are_written_as_kubernetes_writes_them() -> None:
    """Time has whole seconds, MicroTime six digits, both are UTC with a Z."""
    assert "2026-01-02T03:04:05Z" == timestamps.to_rfc3339(MOMENT)
    assert "2026-01-02T03:04:05.678901Z" == timestamps.to_micro(MOMENT)
    east = MOMENT.astimezone(dt.timezone(dt.timedelta(hours=2)))
    assert "2026-01-02T03:04:05Z" == timestamps.to_rfc3339(east)


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T03:04:05.678901Z", "2026-01-02T05:04:05.678901+02:00"],
)
def test_what_is_written_is_read_again(text: str) -> None:
    """Both forms and any zone read as the same moment in UTC."""
    assert MOMENT == timestamps.parse(text)
    assert dt.UTC == timestamps.parse(text).tzinfo


@pytest.mark.parametrize("text", ["", "soon", "2026-01-02T03:04:05"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    """Text without a zone, or that is no time at all, is refused."""
    with pytest.raises(ValueError, match=r"Invalid isoformat|no time zone"):
        timestamps.parse(text)
