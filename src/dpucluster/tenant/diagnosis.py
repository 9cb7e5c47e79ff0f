"""What a kubeconfig Secret is worth, before anybody connects with it. Pure.

Everything that can be said without the network is said here: which key is read, whether it holds
a kubeconfig that may be used, whose credentials it carries and until when they are valid.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from dpucluster import errors
from dpucluster.api import contract
from dpucluster.api.meta import Key
from dpucluster.kube import kinds, untrusted
from dpucluster.tenant import credentials, problem
from dpucluster.tenant.problem import Problem

__all__ = [
    "Diagnosis",
    "Facts",
    "Problem",
    "diagnose",
    "next_change",
    "reassess",
    "unreadable",
    "validity",
    "withheld",
]

EXPIRY_NOTICE = dt.timedelta(days=30)
"""How long before the end a renewal is asked for; kubeadm's own client certificates live a year."""

KEYS_SHOWN = 5
"""More key names of a Secret than these help nobody to find a typing error."""


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What a usable kubeconfig says; nothing here is secret.

    Attributes:
        authentication: ``certificate`` or ``token``.
        subject: Of the client certificate (RFC 4514), or of the token where it is a readable JWT.
        not_before: Start of the credentials' validity, where they tell.
        not_after: End of it.
        ca_not_after: When the last of the authority's certificates ends.
    """

    server: str
    cluster_name: str
    user_name: str
    authentication: str
    subject: str
    not_before: dt.datetime | None
    not_after: dt.datetime | None
    ca_not_after: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdict on one Secret.

    ``problem`` is None when the kubeconfig can be used; ``facts`` and ``kubeconfig`` are there
    also when the only problem is that the credentials have expired. ``where`` names the Secret and
    its key. ``is_withheld``: this process may not read it, whatever it holds.
    """

    problem: Problem | None = None
    facts: Facts | None = None
    warnings: tuple[Problem, ...] = ()
    kubeconfig: untrusted.UntrustedKubeconfig | None = dataclasses.field(default=None, repr=False)
    where: str = ""
    is_withheld: bool = False

    @property
    def is_absent(self) -> bool:
        """Whether there is no Secret at all, or none is named."""
        absent = (problem.EMPTY_KUBECONFIG, problem.SECRET_NOT_FOUND)
        named = self.problem is not None and self.problem.reason in absent
        return named and not self.is_withheld


def diagnose(
    secret: kinds.Secret | None,
    *,
    cluster: Key,
    cluster_type: str,
    secret_name: str,
    now: dt.datetime,
) -> Diagnosis:
    """The verdict on the Secret that ``cluster`` names (None: there is no such Secret)."""
    if not secret_name:
        return Diagnosis(problem=_nothing_named(cluster, cluster_type))
    where = f"Secret {cluster.namespace}/{secret_name}"
    if secret is None:
        return Diagnosis(problem=_not_found(where), where=where)
    key = _key(secret, cluster_type)
    if key is None:
        return Diagnosis(problem=_key_missing(secret, where, cluster_type), where=where)
    where = f"{where}, key {key}"
    try:
        kubeconfig = untrusted.parse(secret.value(key) or b"", where=where)
        facts = _facts(kubeconfig, where)
    except errors.KubeconfigError as error:
        return Diagnosis(problem=Problem(error.reason, str(error)), where=where)
    warnings = _oddities(kubeconfig, facts, where, cluster)
    return reassess(Diagnosis(None, facts, warnings, kubeconfig, where), now)


def withheld(*, cluster: Key, secret_name: str, refusal: str) -> Diagnosis:
    """The verdict on a Secret that this process may not read; ``refusal`` is the server's."""
    where = f"Secret {cluster.namespace}/{secret_name}"
    text = (
        f"{where}, named by spec.kubeconfig, may not be read by this controller: allow its user to "
        f"get secrets in namespace {cluster.namespace} (apiGroups [''], resources [secrets], verbs "
        f"[get]); the API server says: {refusal}"
    )
    return Diagnosis(problem=Problem(problem.SECRET_NOT_FOUND, text), where=where, is_withheld=True)


def unreadable(*, cluster: Key, secret_name: str) -> Diagnosis:
    """The verdict on a Secret that nobody here knows how to read; what is odd is not told."""
    where = f"Secret {cluster.namespace}/{secret_name}"
    text = (
        f"{where}, named by spec.kubeconfig, cannot be read: it holds something that is not "
        "understood here; export the kubeconfig again, and report this with the controller's log"
    )
    return Diagnosis(problem=Problem(problem.KUBECONFIG_INVALID, text), where=where)


def reassess(diagnosis: Diagnosis, now: dt.datetime) -> Diagnosis:
    """``diagnosis`` at another time: only what depends on the clock is judged again."""
    if diagnosis.facts is None:
        return diagnosis
    found = validity(diagnosis, now)
    expired = found if found and found.reason == problem.CREDENTIALS_EXPIRED else None
    lasting = [w for w in diagnosis.warnings if w.reason != problem.CREDENTIALS_EXPIRE_SOON]
    soon = () if expired else _expire_soon(diagnosis.facts, diagnosis.where, now)
    return dataclasses.replace(diagnosis, problem=expired, warnings=(*lasting, *soon))


def validity(diagnosis: Diagnosis, now: dt.datetime) -> Problem | None:
    """Why the credentials cannot be used at this time, or None."""
    facts = diagnosis.facts
    if facts is None:
        return None
    who = f"{diagnosis.where}: the {facts.authentication} of user {facts.user_name!r}"
    if facts.not_after is not None and now >= facts.not_after:
        return Problem(
            problem.CREDENTIALS_EXPIRED,
            f"{who} expired on {_date(facts.not_after)}; put a kubeconfig with new credentials "
            "into the Secret",
        )
    if facts.not_before is not None and now < facts.not_before:
        return Problem(
            problem.CREDENTIALS_NOT_YET_VALID,
            f"{who} is valid only from {_date(facts.not_before)}, it is {_date(now)} now; compare "
            "the clocks of this machine and of the one that issued it, or wait",
        )
    return None


def next_change(diagnosis: Diagnosis, now: dt.datetime) -> dt.datetime | None:
    """When ``reassess`` or ``validity`` will next say something else, or None."""
    facts = diagnosis.facts
    if facts is None:
        return None
    moments = [facts.not_before, facts.not_after]
    moments += [m - EXPIRY_NOTICE for m in (facts.not_after, facts.ca_not_after) if m is not None]
    return min((m for m in moments if m is not None and m > now), default=None)


def _keys(cluster_type: str) -> tuple[str, str]:
    """The data keys in the order of preference.

    Kamaji grants ``admin.conf`` its rights later than ``super-admin.conf``.
    """
    if cluster_type == contract.TYPE_KAMAJI:
        return (contract.KEY_SUPER_ADMIN_CONF, contract.KEY_ADMIN_CONF)
    return (contract.KEY_ADMIN_CONF, contract.KEY_SUPER_ADMIN_CONF)


def _key(secret: kinds.Secret, cluster_type: str) -> str | None:
    return next((key for key in _keys(cluster_type) if key in secret.data), None)


def _nothing_named(cluster: Key, cluster_type: str) -> Problem:
    if cluster_type == contract.TYPE_STATIC:
        todo = (
            f"create a Secret in namespace {cluster.namespace} that holds the control plane's "
            f"admin kubeconfig under the key {contract.KEY_ADMIN_CONF} and set its name there"
        )
    else:
        todo = f"the cluster manager of type {cluster_type!r} sets it"
    return Problem(problem.EMPTY_KUBECONFIG, f"spec.kubeconfig is empty; {todo}")


def _not_found(where: str) -> Problem:
    return Problem(
        problem.SECRET_NOT_FOUND,
        f"{where}, named by spec.kubeconfig, does not exist; create it with the control plane's "
        f"admin kubeconfig under the key {contract.KEY_ADMIN_CONF}",
    )


def _key_missing(secret: kinds.Secret, where: str, cluster_type: str) -> Problem:
    wanted = " nor ".join(_keys(cluster_type))
    there = sorted(secret.data)
    shown = ", ".join(there[:KEYS_SHOWN]) + (", …" if len(there) > KEYS_SHOWN else "")
    has = f"it has {shown}" if there else "it is empty"
    return Problem(
        problem.KUBECONFIG_KEY_MISSING,
        f"{where} has neither key {wanted} ({has}); put the admin kubeconfig under "
        f"{contract.KEY_ADMIN_CONF}",
    )


def _facts(kubeconfig: untrusted.UntrustedKubeconfig, where: str) -> Facts:
    has_certificate = kubeconfig.client_cert is not None
    if kubeconfig.client_cert is not None and kubeconfig.client_key is not None:
        holder = credentials.read_client(kubeconfig.client_cert, kubeconfig.client_key, where)
    else:
        holder = credentials.read_token(kubeconfig.token or "")
    return Facts(
        server=kubeconfig.server,
        cluster_name=kubeconfig.cluster_name,
        user_name=kubeconfig.user_name,
        authentication="certificate" if has_certificate else "token",
        subject=holder.subject,
        not_before=holder.not_before,
        not_after=holder.not_after,
        ca_not_after=credentials.read_authority(kubeconfig.ca_data, where),
    )


def _oddities(
    kubeconfig: untrusted.UntrustedKubeconfig, facts: Facts, where: str, cluster: Key
) -> tuple[Problem, ...]:
    found = []
    if facts.authentication == "token":
        found.append(
            Problem(
                problem.BEARER_TOKEN,
                f"{where}: user {facts.user_name!r} has a bearer token; other components of DPF "
                "need a client certificate (client-certificate-data, client-key-data)",
            )
        )
    if kubeconfig.cluster_name != cluster.name:
        found.append(
            Problem(
                problem.CLUSTER_NAME_MISMATCH,
                f"{where}: the cluster entry is named {kubeconfig.cluster_name!r}; DPF's services "
                f"are deployed under that name, name it {cluster.name!r} as the DPUCluster is",
            )
        )
    return tuple(found)


def _expire_soon(facts: Facts, where: str, now: dt.datetime) -> tuple[Problem, ...]:
    ends = {"certificate authority": facts.ca_not_after}
    if facts.not_after is not None:
        ends[f"{facts.authentication} of user {facts.user_name!r}"] = facts.not_after
    near = [
        f"the {what} ends on {_date(end)}"
        for what, end in ends.items()
        if end - now <= EXPIRY_NOTICE
    ]
    if not near:
        return ()
    text = f"{where}: {' and '.join(near)}; put a renewed kubeconfig into the Secret"
    return (Problem(problem.CREDENTIALS_EXPIRE_SOON, text),)


def _date(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
