"""Everything one look at a Kamaji cluster rests on, as one frozen record."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from dpucluster import errors
from dpucluster.managers.kamaji.kinds import (
    ConfigMap,
    DaemonSet,
    DataStore,
    Node,
    Pod,
    Service,
    TenantControlPlane,
)
from dpucluster.managers.kamaji.options import KamajiOptions
from dpucluster.sdk import DPUCluster, Problem, Refusal


class SecretState(enum.Enum):
    """How far Kamaji is with the admin kubeconfig, which it writes in two steps."""

    ABSENT = "there is none"
    FOREIGN = "it is not Kamaji's"
    INCOMPLETE = "a part of it is still missing"
    COMPLETE = "it can be used"


class Slot(enum.Enum):
    """What the manager makes for one cluster."""

    SERVICE = "service"
    CONTROL_PLANE = "control_plane"
    CHECK_SERVICE = "check_service"
    CONFIG_MAP = "config_map"
    DAEMON_SET = "daemon_set"


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """One cluster as it is now.

    Attributes:
        schema: Of Kamaji's CRD, as far as it restricts what may be sent; None: not known.
        is_kamaji_installed: Whether there are TenantControlPlanes at all.
        nodes: All of the management cluster.
        rival: An older cluster that has the same virtual IP or router id.
        secret: Of the admin kubeconfig.
        answers: Whether the control plane answers its admin, as far as is known.
        is_late: What was made had time enough to be well.
        pods: Of the control plane and of keepalived, asked for only when one is late.
        refusals: What could not be made in this look.
        error: The first that kept something from being made, and is no refusal.
    """

    cluster: DPUCluster
    options: KamajiOptions
    schema: Mapping[str, Any] | None = None
    is_kamaji_installed: bool = True
    data_store: DataStore | None = None
    service: Service | None = None
    control_plane: TenantControlPlane | None = None
    check_service: Service | None = None
    config_map: ConfigMap | None = None
    daemon_set: DaemonSet | None = None
    nodes: tuple[Node, ...] = ()
    rival: Problem | None = None
    secret: SecretState = SecretState.ABSENT
    answers: bool = False
    is_late: bool = False
    pods: tuple[Pod, ...] = ()
    refusals: Mapping[Slot, Refusal] = dataclasses.field(default_factory=dict)
    error: errors.DpuClusterError | None = None

    def after(self, slot: Slot, result: Any) -> Observed:
        """The record once a child was made or kept, or refused."""
        if isinstance(result, Refusal):
            return dataclasses.replace(self, refusals={**self.refusals, slot: result})
        changed: dict[str, Any] = {slot.value: result}
        return dataclasses.replace(self, **changed)
