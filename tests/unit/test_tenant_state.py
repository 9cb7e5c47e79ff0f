"""Who shares a tenant, and when a state is another one."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dpucluster.api.meta import Key
from dpucluster.tenant import health as tenant_health
from dpucluster.tenant import state as tenant_state
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import Health, ProbeResult
from dpucluster.tenant.identities import Identities
from dpucluster.tenant.problem import Problem
from dpucluster.tenant.state import Survey, TenantState

REFUSED = Problem("Unreachable", "refused")
KEYS = [Key("ns", name) for name in "abcdef"]


def failing(times: int) -> Health:
    found = Health()
    for n in range(times):
        result = ProbeResult(ok=False, problem=REFUSED, started=3.0 * n)
        found = tenant_health.record(found, result, 3.0 * n)
    return found


def test_probes_that_change_nothing_are_no_news() -> None:
    """A healthy cluster stays equal to itself, probe after probe."""
    states = [TenantState(health=Health(ok=True, checked_at=t)) for t in (1.0, 31.0)]
    assert not tenant_state.differs(*states, threshold=3)


def test_first_and_last_failure_of_patience_are_news() -> None:
    """One failure, and the one that makes it an outage; not those between and after."""
    states = [TenantState(health=Health(ok=True))]
    states += [TenantState(health=failing(n)) for n in range(1, 6)]
    news = [tenant_state.differs(old, new, threshold=3) for old, new in itertools.pairwise(states)]
    assert [True, False, True, False, False] == news


def test_survey_keeps_what_a_later_one_could_not_tell() -> None:
    """A question that failed once does not blank the version."""
    known = Survey("v1.34.4", 3, is_cluster_admin=True)
    assert known == known.updated(Survey())
    assert Survey("v1.35.0", 0, is_cluster_admin=False) == known.updated(
        Survey("v1.35.0", 0, is_cluster_admin=False)
    )


def test_second_of_a_tenant_is_news_to_the_first() -> None:
    """Both sides of a shared tenant are warned, and freed when one leaves."""
    identities = Identities()
    a, b = KEYS[:2]
    assert () == identities.add(a, "uid")
    assert not identities.is_shared(a, "uid")
    assert (a,) == identities.add(b, "uid")
    assert identities.is_shared(a, "uid")
    assert identities.is_shared(b, "uid")
    assert (a,) == identities.remove(b, "uid")
    assert not identities.is_shared(a, "uid")


def test_many_of_a_tenant_cost_nothing_each() -> None:
    """The third and later are no news to the others: what they are told stays the same."""
    identities = Identities()
    for key in KEYS[:2]:
        identities.add(key, "uid")
    assert () == identities.add(KEYS[5], "uid")
    assert identities.is_shared(KEYS[5], "uid")
    assert () == identities.remove(KEYS[5], "uid")


def test_unknown_keys_leave_without_noise() -> None:
    """Removing what was never there is no error."""
    assert () == Identities().remove(KEYS[0], "uid")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(KEYS), st.sampled_from("xy"))))
def test_sharing_is_what_a_plain_search_finds(steps: list[tuple[bool, Key, str]]) -> None:
    """However clusters come and go, each knows whether it is alone."""
    identities, truth = Identities(), set[tuple[str, Key]]()
    for comes, key, identity in steps:
        if comes and (identity, key) not in truth:
            identities.add(key, identity)
            truth.add((identity, key))
        elif not comes:
            identities.remove(key, identity)
            truth.discard((identity, key))
    for identity in "xy":
        members = {key for i, key in truth if i == identity}
        assert members == set(identities.of(identity))
        assert all((len(members) > 1) is identities.is_shared(key, identity) for key in members)


def test_warnings_say_where_and_what_to_do() -> None:
    """Messages name the Secret and the tenant, and read the same whoever was known first."""
    where = Diagnosis(where="Secret ns/s, key admin.conf")
    found = tenant_state.kinship(where, "uid-7", is_own=True, is_shared=True)
    assert ["ManagementCluster", "SharedTenant"] == [warning.reason for warning in found]
    assert all("Secret ns/s" in warning.message for warning in found)
    assert "UID uid-7" in found[1].message
