"""What a process node makes of a pod: volumes, variables, images, rights, status."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dpucluster.localplane.node import (
    environment,
    images,
    pods,
    podstatus,
    projection,
    security,
    volumes,
)

PLACE = environment.Placement("node-1", "10.88.0.11", "10.89.1.2")
METADATA = {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}}
SECRET = volumes.Reference(volumes.Source.SECRET, "s")
CONFIG = volumes.Reference(volumes.Source.CONFIG_MAP, "c")


def pod(**fields: Any) -> pods.Pod:
    return msgspec.convert({"metadata": METADATA, **fields}, pods.Pod)


def volume(**fields: Any) -> pods.Volume:
    return msgspec.convert({"name": "v", **fields}, pods.Volume)


# Volumes


def test_items_modes_and_optional_sources() -> None:
    """Items choose and rename; their mode beats the volume's; what is optional may be missing."""
    made = volume(
        projected={
            "defaultMode": 0o400,
            "sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "etcd/k", "mode": 0o444}]}},
                {"configMap": {"name": "c"}},
                {"configMap": {"name": "gone", "optional": True}},
                {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "f"}}]}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
            ],
        }
    )
    found: dict[volumes.Reference, volumes.Content | None] = {
        SECRET: {"k": b"1", "other": b"2"},
        CONFIG: {"a": b"3"},
        volumes.Reference(volumes.Source.CONFIG_MAP, "gone"): None,
        volumes.Reference(volumes.Source.FIELD, "f"): {"": b"n"},
        volumes.Reference(volumes.Source.TOKEN, "", 600): {"": b"t"},
    }
    assert set(found) == set(volumes.references(made))
    assert {
        "etcd/k": volumes.File(b"1", 0o444),
        "a": volumes.File(b"3", 0o400),
        "ns": volumes.File(b"n", 0o400),
        "token": volumes.File(b"t", 0o400),
    } == volumes.layout(made, found)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"secret": {"secretName": "s"}}, 'volume "v": secret "s" not found'),
        ({"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}, "has no key 'k'"),
        ({"hostPath": {"path": "/"}}, "emptyDir volumes only"),
    ],
)
def test_what_cannot_be_mounted_says_why(fields: dict[str, Any], message: str) -> None:
    """A missing object, a missing key, a kind of volume that this node does not have."""
    with pytest.raises(volumes.CannotMount) as caught:
        volumes.layout(volume(**fields), {CONFIG: {}, SECRET: None})
    assert message in str(caught.value)


def test_a_config_map_is_text_and_bytes() -> None:
    """``binaryData`` and a Secret's ``data`` are base64, a ConfigMap's ``data`` is not."""
    encoded = base64.b64encode(b"\0").decode()
    one = msgspec.convert(
        {"metadata": {}, "data": {"t": "x"}, "binaryData": {"b": encoded}}, pods.Payload
    )
    other = msgspec.convert({"metadata": {}, "data": {"b": encoded}}, pods.Payload)
    assert {"t": b"x", "b": b"\0"} == volumes.payload(volumes.Source.CONFIG_MAP, one)
    assert {"b": b"\0"} == volumes.payload(volumes.Source.SECRET, other)


def test_a_volume_changes_all_at_once(tmp_path: Path) -> None:
    """Names lead through one link; who took a file by subPath keeps what it had."""
    projection.write(tmp_path, {"a": volumes.File(b"1"), "d/b": volumes.File(b"2", 0o400)})
    taken = projection.resolve(tmp_path, "a").open("rb")
    assert (b"1", b"2") == ((tmp_path / "a").read_bytes(), (tmp_path / "d/b").read_bytes())
    assert 0o400 == (tmp_path / "d/b").stat().st_mode & 0o777
    projection.write(tmp_path, {"a": volumes.File(b"3"), "c": volumes.File(b"4")})
    assert (b"3", b"4") == ((tmp_path / "a").read_bytes(), (tmp_path / "c").read_bytes())
    assert ["..data", "a", "c"] == sorted(e.name for e in tmp_path.iterdir() if e.is_symlink())
    with taken:
        assert b"1" == taken.read()
    with pytest.raises(volumes.CannotMount, match="leads out"):
        projection.resolve(tmp_path, "../x")


# Variables


def test_variables_and_arguments() -> None:
    """References are replaced in order; unknown ones stay; a dollar sign can be written."""
    spec = msgspec.convert(
        {
            "name": "c",
            "args": ["$(B)", "$$(B)", "$(C)"],
            "env": [
                {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "B", "value": "$(A):1"},
                {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {
                    "name": "L",
                    "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k", "optional": True}},
                },
            ],
        },
        pods.Container,
    )
    assert {"status.podIP"} == environment.field_paths(spec)
    secret, config = environment.keys(spec)
    assert (volumes.Source.SECRET, volumes.Source.CONFIG_MAP) == (secret.source, config.source)
    env = environment.variables(spec, {"status.podIP": "10.89.1.2"}, {secret: "v"})
    assert {"A": "10.89.1.2", "B": "10.89.1.2:1", "K": "v"} == env
    assert ["run", "10.89.1.2:1", "$(B)", "$(C)"] == environment.command_line(spec, ["run"], env)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.nodeName", "node-1"),
        ("status.hostIP", "10.88.0.11"),
        ("status.podIP", "10.89.1.2"),
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("metadata.labels['app']", "x"),
        ("metadata.labels", 'app="x"'),
    ],
)
def test_fields_of_a_pod(path: str, value: str) -> None:
    """Everything that a fieldRef may ask for."""
    assert value == environment.field_value(pod(), PLACE, path)


def test_an_unknown_field_is_named() -> None:
    """The message says which."""
    with pytest.raises(environment.UnknownField, match=r"'spec\.nope'"):
        environment.field_value(pod(), PLACE, "spec.nope")


# Images and rights


def test_images_are_found_by_their_last_part() -> None:
    """Any registry, any digest, any patch version; another minor version is another image."""
    catalogue = images.Catalogue(
        programs={"kube-apiserver": "/b/kube-apiserver", "kamaji": "/b/kamaji"},
        version="v1.30.2",
        keepalived="",
    )
    for reference in (
        "r.io:5/x/kube-apiserver:v1.30.9",
        f"kube-apiserver:v1.30.2@sha256:{'a' * 64}",
    ):
        assert ("kube-apiserver",) == catalogue.find(reference).entrypoint
    assert ("kamaji",) == catalogue.find("docker.io/clastix/kamaji:v1.0.0").entrypoint
    assert "keepalived" == catalogue.find("x/my-keepalived@sha256:00").entrypoint[0]
    for reference in ("kube-apiserver:v1.31.0", "kube-apiserver", "nginx:1"):
        with pytest.raises(images.UnknownImage, match=r"kube-apiserver:v1\.30\.2"):
            catalogue.find(reference)


def test_no_keepalived_is_explained() -> None:
    """The advice is the message."""
    bare = images.Catalogue(programs={}, version="v1.30.2", keepalived_advice="install it")
    with pytest.raises(images.UnknownImage, match="install it"):
        bare.find("keepalived:1")


def test_capabilities() -> None:
    """The usual ones, none, some, all."""

    def kept(**fields: Any) -> list[int] | None:
        return security.capabilities(msgspec.convert(fields, pods.SecurityContext))

    assert len(security.USUAL) == len(kept() or ())
    assert [] == kept(capabilities={"drop": ["ALL"]})
    assert [12, 13] == kept(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]})
    assert kept(privileged=True) is None


# Status

RUNNING = podstatus.Running("t0")
FAILED = podstatus.Terminated(7, "Error", "t0", "t1")
DONE = podstatus.Terminated(0, "Completed", "t0", "t1")


def facts(state: podstatus.State, **fields: Any) -> podstatus.ContainerFacts:
    return podstatus.ContainerFacts("c", "i", state, **fields)


@pytest.mark.parametrize(
    ("policy", "states", "phase"),
    [
        ("Always", [facts(podstatus.CREATING)], "Pending"),
        ("Always", [facts(RUNNING), facts(podstatus.CREATING)], "Pending"),
        ("Always", [facts(RUNNING), facts(RUNNING)], "Running"),
        ("Always", [facts(podstatus.Waiting("CrashLoopBackOff"), last=FAILED)], "Running"),
        ("Never", [facts(DONE), facts(DONE)], "Succeeded"),
        ("Never", [facts(DONE), facts(FAILED)], "Failed"),
        ("OnFailure", [facts(DONE)], "Succeeded"),
        ("OnFailure", [facts(FAILED)], "Running"),
    ],
)
def test_phases(policy: str, states: list[podstatus.ContainerFacts], phase: str) -> None:
    """As kubelet derives them."""
    assert phase == podstatus.phase(pod(spec={"restartPolicy": policy}), states)


def test_a_condition_keeps_its_time_while_it_stays() -> None:
    """Only what has changed is told with a new time, and why it is not ready is told."""
    before = [
        {"type": "Ready", "status": "False", "lastTransitionTime": "then"},
        {"type": "Initialized", "status": "False", "lastTransitionTime": "then"},
    ]
    told = podstatus.status(
        pod(status={"conditions": before}),
        PLACE,
        [facts(RUNNING, is_started=True)],
        start_time="t0",
        now="now",
    )
    conditions = {each["type"]: each for each in told["conditions"]}
    assert ("False", "then") == _of(conditions["Ready"])
    assert ("True", "now") == _of(conditions["Initialized"])
    assert "containers with unready status: [c]" == conditions["Ready"]["message"]
    assert {
        "podIP": "10.89.1.2",
        "hostIP": "10.88.0.11",
        "phase": "Running",
    }.items() <= told.items()
    assert podstatus.equal(told, {**told, "conditions": [dict(c) for c in told["conditions"]]})


def _of(condition: dict[str, Any]) -> tuple[str, str]:
    return condition["status"], condition["lastTransitionTime"]
