"""The process node: what a kubelet promises, held for processes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dpucluster.localplane.kamaji import stack
from tests.support.kamaji_namespace import Namespace
from tests.support.processes import eventually

pytestmark = pytest.mark.timeout(300)

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def namespace(kamaji: stack.KamajiStack) -> Namespace:
    return Namespace(kamaji)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_a_pod_sees_itself_and_its_volumes(namespace: Namespace) -> None:
    """Fields, keys, modes, subPath; a change reaches the volume and not the subPath mount."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    namespace.apply(
        {**config, "data": {"a": "old", "b": "x"}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "stringData": {"token": "t"},
        },
    )
    fields = {
        "NAME": "metadata.name",
        "SPACE": "metadata.namespace",
        "NODE": "spec.nodeName",
        "HOST": "status.hostIP",
        "POD": "status.podIP",
    }
    env: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in fields.items()
    ]
    env.append({"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "b"}}})
    env.append({"name": "BOTH", "value": "$(KEY)-$(NAME)-$(NOT_THERE)-$$(KEY)"})
    look = (
        "echo $NAME $SPACE $NODE $HOST $POD $BOTH; stat -Lc %a /s/token /v/deep/er; cat /v/deep/er"
    )
    follow = "while :; do echo now $(cat /v/deep/er) $(cat /one); sleep 0.2; done"
    namespace.pod(
        "volumes",
        command=shell(f"trap 'exit 0' TERM; {look}; echo; {follow}"),
        env=env,
        volumeMounts=[
            {"name": "v", "mountPath": "/v"},
            {"name": "v", "mountPath": "/one", "subPath": "deep/er"},
            {"name": "s", "mountPath": "/s", "readOnly": True},
            {"name": "e", "mountPath": "/e"},
        ],
        volumes=[
            {"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "deep/er"}]}},
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
            {"name": "e", "emptyDir": {}},
        ],
    )
    eventually("it says what it sees", lambda: "now old old" in namespace.said("volumes"))
    status = namespace.get("pod", "volumes")["status"]
    node = namespace.get("pod", "volumes")["spec"]["nodeName"]
    own = f"volumes {namespace.name} {node} {status['hostIP']} {status['podIP']}"
    assert f"{own} x-volumes-$(NOT_THERE)-$(KEY)\n400\n644\nold\n" in namespace.said("volumes")
    namespace.apply({**config, "data": {"a": "new", "b": "x"}})
    eventually("the volume follows", lambda: "now new old" in namespace.said("volumes"))


def test_restarts_and_their_reasons(namespace: Namespace) -> None:
    """A container that ends is started again with back-off; what it was is told."""
    namespace.pod("crashes", command=shell("exit 7"))
    namespace.pod("unhealthy", command=shell(FOREVER), livenessProbe=failing(period=1))
    namespace.pod("late", command=shell(FOREVER), startupProbe=failing(period=1))
    eventually(
        "it crashes in a loop",
        lambda: namespace.container("crashes").get("restartCount", 0) >= 2,
    )
    last = namespace.container("crashes")["lastState"]["terminated"]
    assert (7, "Error") == (last["exitCode"], last["reason"])
    for pod, kind in (("unhealthy", "liveness"), ("late", "startup")):
        eventually(
            f"the {kind} probe ends it",
            lambda pod=pod: namespace.container(pod).get("restartCount", 0) >= 1,  # type: ignore[misc]
        )
        told = namespace.container(pod)["lastState"]["terminated"]["message"]
        assert f"{kind} probe failed" == told


def failing(period: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["/bin/false"]},
        "periodSeconds": period,
        "failureThreshold": 2,
    }


def test_readiness_follows_its_probe(namespace: Namespace) -> None:
    """Not ready, ready, and not ready again, as the file comes and goes."""
    toggle = "sleep 1; touch /tmp/up; sleep 3; rm /tmp/up"
    probe = {
        "exec": {"command": ["test", "-e", "/tmp/up"]},  # noqa: S108 - in a container
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    namespace.pod("ready", command=shell(f"{toggle}; {FOREVER}"), readinessProbe=probe)

    def is_ready() -> bool:
        conditions = namespace.get("pod", "ready")["status"].get("conditions", [])
        return {"True"} == {c["status"] for c in conditions if c["type"] == "Ready"}

    eventually("it is ready", is_ready)
    eventually("it is not any more", lambda: not is_ready())
    assert 0 == namespace.container("ready")["restartCount"]


def test_what_cannot_run_says_why(namespace: Namespace) -> None:
    """An unknown image, another Kubernetes, a missing Secret: each waits with a message."""
    for name, image in (
        ("unknown", "docker.io/library/nginx:1"),
        ("old", "x/kube-apiserver:v1.2.3"),
    ):
        namespace.pod(name, image=image)
        eventually(f"{name} waits", lambda name=name: waiting(namespace, name))  # type: ignore[misc]
        told = waiting(namespace, name)
        assert "ErrImageNeverPull" == told["reason"]
        assert image in told["message"]
        assert "kube-apiserver:v1.30.2" in told["message"]
    namespace.pod(
        "secretless",
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        volumes=[{"name": "v", "secret": {"secretName": "nope"}}],
    )
    eventually("it waits", lambda: waiting(namespace, "secretless").get("message"))
    assert 'secret "nope" not found' in waiting(namespace, "secretless")["message"]


def waiting(namespace: Namespace, pod: str) -> dict[str, str]:
    told: dict[str, str] = namespace.container(pod).get("state", {}).get("waiting", {})
    return told if told.get("reason") != "ContainerCreating" or "message" in told else {}


def test_a_deleted_pod_ends_gracefully(namespace: Namespace) -> None:
    """SIGTERM first, and all of it is gone when the object is."""
    namespace.pod("graceful", command=shell(f"trap 'echo bye; exit 0' TERM; echo up; {WAIT}"))
    eventually("it runs", lambda: "up" in namespace.said("graceful"))
    node = namespace.get("pod", "graceful")["spec"]["nodeName"]
    log = next(n for n in namespace.kamaji.nodes if n.name == node).logs
    namespace.kubectl("delete", "pod", "graceful", "-n", namespace.name)
    assert "up\nbye\n" == (log / f"{namespace.name}_graceful.log").read_text()


WAIT = "while :; do sleep 0.1; done"


def test_services_lead_to_pods(namespace: Namespace) -> None:
    """By cluster IP, name, node port and load balancer, from the edge of the world."""
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "keepalived",
                        "command": ["/usr/bin/perl", "-e", PERL],
                        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
                    }
                ]
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 8000}]},
        },
    )

    def service() -> Any:
        return namespace.get("service", "web")

    eventually("it has an address", lambda: service()["status"]["loadBalancer"].get("ingress"))
    (ingress,) = service()["status"]["loadBalancer"]["ingress"]
    node_port = service()["spec"]["ports"][0]["nodePort"]
    for target in (
        f"{service()['spec']['clusterIP']}:8000",
        f"web.{namespace.name}.svc:8000",
        f"10.88.0.11:{node_port}",
        f"10.88.0.12:{node_port}",
        f"{ingress['ip']}:8000",
    ):
        eventually(f"{target} answers", lambda target=target: answer(namespace, target) == "hello")  # type: ignore[misc]


PERL = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) { print $c "hello"; close $c; }
"""


def answer(namespace: Namespace, target: str) -> str:
    host, _, port = target.rpartition(":")
    try:
        with namespace.kamaji.gate.connect(host, int(port), timeout=3) as connection:
            return connection.recv(100).decode()
    except OSError:
        return ""


def test_the_node_is_told_with_its_beats(kamaji: stack.KamajiStack) -> None:
    """Its Lease is its own, and the API knows it as a node that may be scheduled to."""
    lease = json.loads(
        kamaji.run(["kubectl", "get", "lease", "node-1", "-n", "kube-node-lease", "-o", "json"])
    )
    assert "node-1" == lease["spec"]["holderIdentity"]
