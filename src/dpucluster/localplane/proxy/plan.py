"""What the gateway's process is told, as JSON: read by it, written by who starts it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
    """The gateway's sockets and files.

    Attributes:
        front: The descriptor of the socket that listens outside.
        control: The path of the supervisor's socket.
        management: Where the management API server listens inside.
        kubeconfig: For the management API.
        hosts: The file that is ``/etc/hosts`` inside.
        balancers: The range of addresses for load balancers.
    """

    front: int
    control: str
    management: str
    kubeconfig: str
    hosts: str
    balancers: str
