"""One kubeconfig in use: its client, which holds no open connection between two looks."""

from __future__ import annotations

from dpucluster.kube import client as kube_client
from dpucluster.runtime import clock as clocks
from dpucluster.tenant import answers
from dpucluster.tenant import diagnosis as tenant_diagnosis
from dpucluster.tenant import probe as tenant_probe
from dpucluster.tenant.diagnosis import Diagnosis
from dpucluster.tenant.health import ProbeOptions, ProbeResult
from dpucluster.tenant.state import Survey


class TenantConnection:
    """Asks one API server as one user.

    Between two looks there is neither a connection nor a TLS context (``rest``): idle, they take
    up to 285 KiB and 25 KiB, to make them takes 1 ms each, and a look comes every 30 s.
    """

    def __init__(self, diagnosis: Diagnosis, *, options: ProbeOptions, clock: clocks.Clock) -> None:
        if diagnosis.kubeconfig is None:
            raise ValueError("there is no kubeconfig to connect with")
        self.kubeconfig = diagnosis.kubeconfig
        self._diagnosis = diagnosis
        self._timeout = options.timeout
        self._clock = clock
        self._client = kube_client.Client(self.kubeconfig.connection(), timeout=options.timeout)
        self._peer = answers.Peer(self.kubeconfig.server, _credentials(diagnosis))

    async def probe(self) -> ProbeResult:
        """One verdict, within the timeout; credentials out of their time are not sent at all."""
        unusable = tenant_diagnosis.validity(self._diagnosis, self._clock.now())
        if unusable is not None:
            return ProbeResult(ok=False, problem=unusable, started=self._clock.monotonic())
        return await tenant_probe.probe(
            self._client, peer=self._peer, seconds=self._timeout, clock=self._clock
        )

    async def survey(self) -> Survey:
        """What the server tells beyond its health, as far as it does."""
        return await tenant_probe.survey(self._client)

    async def is_cluster_admin(self) -> bool | None:
        """Whether the user may do everything; None: the server does not say."""
        return await tenant_probe.is_cluster_admin(self._client)

    async def rest(self) -> None:
        """Close the connections until the next question; what is under way fails."""
        await self._client.disconnect()

    async def aclose(self) -> None:
        """Close for good; what is under way fails."""
        await self._client.aclose()


def _credentials(diagnosis: Diagnosis) -> str:
    """In the words of a message."""
    if diagnosis.facts is None:
        return "the credentials"
    kind = "client certificate" if diagnosis.facts.authentication == "certificate" else "token"
    return f"the {kind} of user {diagnosis.facts.user_name!r}"
