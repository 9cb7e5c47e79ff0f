"""Pods, as far as a node reads them. Fields that it does not act on are not modelled."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dpucluster.api.meta import ObjectMeta
from dpucluster.kube.resource import Resource


class Wire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Base of what is read from the wire."""


class Meta(ObjectMeta, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A pod's ``metadata``."""

    deletion_grace_period_seconds: int | None = None


class FieldRef(Wire, frozen=True):
    """A field of the pod itself."""

    field_path: str = ""


class KeyRef(Wire, frozen=True):
    """One key of a ConfigMap or Secret."""

    name: str = ""
    key: str = ""
    optional: bool = False


class EnvSource(Wire, frozen=True):
    """Where a variable's value comes from."""

    field_ref: FieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


class EnvVar(Wire, frozen=True):
    """One variable."""

    name: str
    value: str = ""
    value_from: EnvSource | None = None


class HttpHeader(Wire, frozen=True):
    """One header of a probe."""

    name: str
    value: str = ""


class HttpGet(Wire, frozen=True):
    """A probe by HTTP: any status from 200 to 399 is well."""

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()


class TcpSocket(Wire, frozen=True):
    """A probe by a connection that is accepted."""

    port: int | str
    host: str = ""


class Exec(Wire, frozen=True):
    """A probe by a program in the container that ends with 0."""

    command: tuple[str, ...] = ()


class Probe(Wire, frozen=True):
    """How a container is asked how it is."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec_: Exec | None = msgspec.field(default=None, name="exec")
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class VolumeMount(Wire, frozen=True):
    """Where a volume, or a path in it, is seen in a container."""

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class ContainerPort(Wire, frozen=True):
    """A port that probes may name."""

    container_port: int = 0
    name: str = ""


class Capabilities(Wire, frozen=True):
    """Capabilities beyond and below the usual ones."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Wire, frozen=True):
    """What a container may do."""

    privileged: bool = False
    capabilities: Capabilities = Capabilities()
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool = True
    run_as_user: int | None = None


class Container(Wire, frozen=True):
    """One container."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    security_context: SecurityContext = SecurityContext()


class KeyToPath(Wire, frozen=True):
    """One key of a ConfigMap or Secret as a file."""

    key: str
    path: str
    mode: int | None = None


class Named(Wire, frozen=True):
    """A ConfigMap, or a Secret of a projection."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool = False


class SecretVolume(Wire, frozen=True):
    """A Secret as a volume."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool = False


class DownwardFile(Wire, frozen=True):
    """One field of the pod as a file."""

    path: str
    field_ref: FieldRef = FieldRef()
    mode: int | None = None


class Downward(Wire, frozen=True):
    """Fields of the pod as files."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int | None = None


class TokenFile(Wire, frozen=True):
    """A token of the pod's service account as a file."""

    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class Projection(Wire, frozen=True):
    """One source of a projected volume."""

    secret: Named | None = None
    config_map: Named | None = None
    downward_api: Downward | None = msgspec.field(default=None, name="downwardAPI")
    service_account_token: TokenFile | None = None


class Projected(Wire, frozen=True):
    """Several sources in one volume."""

    sources: tuple[Projection, ...] = ()
    default_mode: int | None = None


class Volume(Wire, frozen=True):
    """One volume; without any source here it is of a kind that this node does not have."""

    name: str
    config_map: Named | None = None
    secret: SecretVolume | None = None
    projected: Projected | None = None
    downward_api: Downward | None = msgspec.field(default=None, name="downwardAPI")
    empty_dir: dict[str, Any] | None = None


class PodSpec(Wire, frozen=True):
    """``spec`` of a Pod."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    node_name: str = ""
    hostname: str = ""
    host_network: bool = False
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    service_account_name: str = ""


class PodCondition(Wire, frozen=True, omit_defaults=True):
    """One entry of ``status.conditions``."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class PodStatus(Wire, frozen=True):
    """``status`` of a Pod, as far as a node goes on from it."""

    conditions: tuple[PodCondition, ...] = ()
    phase: str = ""
    start_time: str | None = None


class Pod(Wire, frozen=True):
    """v1 Pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Payload(Wire, frozen=True):
    """A ConfigMap or Secret: ``data`` as on the wire, in base64 for Secrets."""

    metadata: ObjectMeta
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Payload({self.metadata.key}, keys={sorted(self.data)})"


PODS: Final = Resource(Pod, "", "v1", "pods", "Pod")
CONFIGMAPS: Final = Resource(Payload, "", "v1", "configmaps", "ConfigMap")
SECRETS: Final = Resource(Payload, "", "v1", "secrets", "Secret")
