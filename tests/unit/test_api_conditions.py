from __future__ import annotations

import pytest

from dpucluster.api import conditions
from dpucluster.api.meta import Condition

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
CREATED = Condition("Created", "True", "Created", "", THEN, 1)
READY = Condition("Ready", "False", "Timeout", "no answer", THEN, 1)


def test_a_new_condition_is_stamped_and_comes_last() -> None:
    """A condition that was not there gets the time; the others keep their place."""
    new = Condition("Ready", "True", "HealthCheckPassed")
    merged = conditions.merge([CREATED], [new], now=NOW)
    assert (CREATED, Condition("Ready", "True", "HealthCheckPassed", "", NOW)) == merged


def test_an_unchanged_condition_leaves_the_list_equal() -> None:
    """Wanting what is there gives the same list, so that nothing is written."""
    wanted = Condition("Ready", "False", "Timeout", "no answer", "", 1)
    assert (CREATED, READY) == conditions.merge([CREATED, READY], [wanted], now=NOW)


@pytest.mark.parametrize(("status", "time"), [("False", THEN), ("True", NOW), ("Unknown", NOW)])
def test_the_time_moves_with_the_status_only(status: str, time: str) -> None:
    """Another reason or message keeps the time of the last transition; another status does not."""
    wanted = Condition("Ready", status, "Other", "other", "", 2)
    (found,) = conditions.merge([READY], [wanted], now=NOW)
    assert Condition("Ready", status, "Other", "other", time, 2) == found


def test_removed_types_are_left_out() -> None:
    """Types in `remove` go, and nothing happens when they are not there."""
    assert (CREATED,) == conditions.merge([CREATED, READY], [], now=NOW, remove={"Ready", "X"})


def test_a_doubled_type_is_kept_once() -> None:
    """Of a type that stands twice the last one stays, in the place of the first."""
    doubled = [READY, CREATED, Condition("Ready", "True", "Later")]
    found = conditions.merge(doubled, [], now=NOW)
    assert (Condition("Ready", "True", "Later"), CREATED) == found


def test_a_message_is_cut_to_what_the_schema_accepts() -> None:
    """A message of any length can be stored."""
    long = Condition("Ready", "False", "Timeout", "x" * (conditions.MAX_MESSAGE + 1))
    (found,) = conditions.merge([], [long], now=NOW)
    assert conditions.MAX_MESSAGE == len(found.message)


def test_transitions_are_changes_of_status_or_reason() -> None:
    """New conditions and changed ones are transitions; another message is none."""
    chatty = Condition("Created", "True", "Created", "more words")
    failed = Condition("Ready", "False", "Unreachable")
    fresh = Condition("KeepalivedReady", "True", "Ready")
    found = conditions.transitions([CREATED, READY], [chatty, failed, fresh])
    assert ((READY, failed), (None, fresh)) == found
