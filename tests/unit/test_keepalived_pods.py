"""keepalived's DaemonSet where the real keepalived cannot show what must hold."""

from __future__ import annotations

import pytest

from dpucluster.api.meta import ObjectMeta
from dpucluster.managers.kamaji import keepalived, keepalived_conf, kinds, nodes, pods

ADVERTISEMENTS = 4
"""Three that fail to come, each a second, and less than one by priority."""


def test_a_pod_can_hold_the_address_before_the_next_is_replaced() -> None:
    """A rolling update leaves a node the time to pass its checks and to wait for the other."""
    needed = keepalived.RISE * keepalived.CHECK_SECONDS + ADVERTISEMENTS
    assert keepalived.SETTLE_SECONDS >= needed


def test_priorities_are_usable_and_never_tie() -> None:
    """K20: of any number of nodes each has its own priority, and none that VRRP keeps."""
    made = keepalived.priorities(nodes.MAX_HOLDERS)
    assert nodes.MAX_HOLDERS == len(set(made))
    assert set() == set(made) & {0, 255, keepalived.UNNAMED}
    assert (254, True) == (made[0], min(made) > 0)


def test_a_word_that_could_be_more_is_none() -> None:
    """K18: no value ends a block, a line or a word of the configuration."""
    for text in ("a b", "a\n}", "}", "a;b", "a#b", "", '"a"', "$A", "a'b"):
        with pytest.raises(ValueError, match="no word"):
            keepalived_conf.render([("interface", text)])


def test_a_refused_configuration_is_told_with_its_cause() -> None:
    """A keepalived that ends with its own code for a bad configuration: look at the interface."""
    assert (
        "pod k: container keepalived waits, CrashLoopBackOff, it ended with code 2 (is there an "
        "interface of that name on its node?), back-off 10s"
    ) == trouble("keepalived", exit_code=2)


def test_another_end_is_told_as_it_is() -> None:
    """A code that says nothing of the configuration gets no advice about it."""
    expected = "pod k: container c waits, CrashLoopBackOff, it ended with code 137, back-off 10s"
    assert expected == trouble("c", exit_code=137)


def trouble(name: str, *, exit_code: int) -> str:
    ended = kinds.ContainerState(terminated=kinds.Terminated(exit_code=exit_code))
    waiting = kinds.ContainerState(kinds.Waiting("CrashLoopBackOff", "back-off 10s"))
    container = kinds.ContainerStatus(name, waiting, ended)
    pod = kinds.Pod(ObjectMeta(name="k"), kinds.PodStatus(container_statuses=(container,)))
    return pods.trouble([pod], control_plane=False)
