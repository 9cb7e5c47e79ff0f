"""No string of a spec becomes syntax: of YAML, of a shell, of keepalived.

What is refused has a reason; what passes arrives as it was written, in its own place.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dpucluster.api.dpucluster import DPUCluster, Keepalived
from dpucluster.managers.kamaji import keepalived, objects, plan, verdict
from dpucluster.managers.kamaji.observation import Observed
from dpucluster.managers.kamaji.plan import Plan
from dpucluster.sdk import Child
from tests.support import kamaji

ATTACKS = (
    '10.0.0.100" }\nvirtual_ipaddress { 10.0.0.1', "10.0.0.100\nnotify /bin/sh", "10.0.0.100/24",
    "$(reboot)", "`reboot`", "; reboot #", "a: b", "- a", "{{ .Values }}", "eth0 }", "eth0\n\tx y",
    "!include /etc/passwd", "include /etc/passwd", "@n1 priority 255", "../../etc", "a/b", "'", '"',
    "\\", "\x00", "\u2028", "%s", "${A}", "$A", "~SEQ(a)", "&anchor", "*alias", "!!python/object:x",
    "privileged: true", "eth0", "fd00::1%$(reboot)", "null", "true", "0x10", "1e3", "", " ",
)  # fmt: skip
NASTY = st.one_of(st.sampled_from(ATTACKS), st.text(max_size=20))
LABELS = st.dictionaries(
    st.one_of(NASTY, st.just("kubernetes.io/os")), st.one_of(NASTY, st.just("linux")), max_size=2
)
ENDPOINTS = st.builds(
    Keepalived,
    vip=st.one_of(st.just(kamaji.VIP), NASTY),
    virtual_router_id=st.integers(1, 255),
    interface=st.one_of(st.just("eth0"), NASTY),
    node_selector=st.one_of(st.just({}), LABELS),
)


def look(of: DPUCluster) -> tuple[Observed, Plan]:
    nodes = (kamaji.node("n1", "10.0.0.1"),)
    services = {"service": kamaji.service(of), "check_service": kamaji.check_service(of)}
    observed = kamaji.observed(of, nodes=nodes, **services)
    return observed, plan.make(observed)


def content(child: Child[Any] | None) -> Any:
    assert child is not None
    return copy.deepcopy(child.content)


def pod_of(observed: Observed, decided: Plan) -> dict[str, Any]:
    """The pod of keepalived without the two places in which values of the spec may stand."""
    found = content(keepalived.daemon_set(observed, decided))["spec"]["template"]["spec"]
    found.pop("nodeSelector", None)
    (url,) = [e for e in found["containers"][0]["env"] if e["name"] == "API_URL"]
    url["value"] = "the address of the API server"
    return dict(found)


PLAIN = pod_of(*look(kamaji.cluster()))


@settings(deadline=None, max_examples=60)
@given(ENDPOINTS)
def test_the_pod_is_never_altered(endpoint: Keepalived) -> None:
    """K18: But for nodeSelector and the checked address the pod is the same for every spec."""
    observed, decided = look(kamaji.cluster(endpoint=endpoint))
    if decided.endpoint is None:
        said = verdict.outcome(observed, decided).conditions
        assert [("False", "InvalidSpec"), ("False", "InvalidEndpoint")] == [
            (c.status, c.reason) for c in said
        ]
        assert all(c.message.isprintable() for c in said)
        return
    assert PLAIN == pod_of(observed, decided)
    made = content(keepalived.daemon_set(observed, decided))
    pod = made["spec"]["template"]["spec"]
    assert endpoint.node_selector == pod.get("nodeSelector", {})
    (url,) = [e["value"] for e in pod["containers"][0]["env"] if e["name"] == "API_URL"]
    host = f"[{decided.endpoint.vip}]" if ":" in str(decided.endpoint.vip) else decided.endpoint.vip
    assert f"https://{host}:{kamaji.PORT}/livez" == url
    assert made == yaml.safe_load(yaml.safe_dump(made))


SHAPE = [line.split()[0] for line in content(
    keepalived.config_map(*look(kamaji.cluster()))
)["data"]["keepalived.conf"].splitlines()]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(ENDPOINTS)
def test_the_configuration_keeps_its_shape(endpoint: Keepalived) -> None:
    """K18: Lines and their first words are the same for every spec; values are single words."""
    observed, decided = look(kamaji.cluster(endpoint=endpoint))
    if decided.endpoint is None:
        return
    lines = content(keepalived.config_map(observed, decided))["data"]["keepalived.conf"].split("\n")
    address = f"{decided.endpoint.vip}/{decided.endpoint.prefix}"
    expected = [address if "/" in word and "." in word else word for word in SHAPE]
    first = [line.split()[0] for line in lines if line]
    # a nodeSelector that matches nothing leaves nobody to give a priority to
    assert [w for w in expected if w != "@n1"] == [w for w in first if w != "@n1"]
    assert ["interface", endpoint.interface] in [line.split() for line in lines]


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.sampled_from([*ATTACKS, "v1.30.2", "1.31.0-rc.1"]), st.text(max_size=20)))
def test_versions_are_refused_or_intact(version: str) -> None:
    """K18: A version that passes is a version and nothing else; all others have a reason."""
    observed, decided = look(kamaji.cluster(version=version or "v1.30.2"))
    if decided.spec_problem is not None:
        assert "InvalidSpec" == decided.spec_problem.reason
        assert decided.spec_problem.message.isprintable()
        return
    text = content(objects.control_plane(observed, decided))["spec"]["kubernetes"]["version"]
    assert text.removeprefix("v") == (version or "v1.30.2").removeprefix("v")
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-")


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=80))
def test_kubeconfigs_are_refused_or_intact(kubeconfig: str) -> None:
    """K18: Only the name of Kamaji's own Secret passes."""
    problem = look(kamaji.cluster(kubeconfig=kubeconfig))[1].spec_problem
    assert (kubeconfig in {"", "c-admin-kubeconfig"}) is (problem is None)
    assert problem is None or problem.message.isprintable()


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_are_refused(attack: str) -> None:
    """K30: What is no name is a problem of the spec; a word of YAML is a name like any other."""
    is_name = attack in {"null", "true", "eth0"}
    assert is_name is (look(kamaji.cluster(attack))[1].spec_problem is None)
