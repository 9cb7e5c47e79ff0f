"""What an API server's answers, or their absence, say about it. Pure.

The peer is somebody else's and may be anything. Of its own words only the message of a ``Status``
is passed on, shortened and made printable; what is no Kubernetes API is not quoted at all.
"""

from __future__ import annotations

import dataclasses
import re
import ssl
from typing import TypeVar

import msgspec

from dpucluster import errors
from dpucluster.api.meta import PartialObject
from dpucluster.tenant import problem
from dpucluster.tenant.problem import Problem

MAX_TEXT = 200
"""Characters of the server's own words in a message."""

MAX_COUNT = 2**31 - 1
"""``status.nodesCount`` is an int32: with more than it holds no status could be written at all."""

MAX_CHECKS = 10
"""Names of failing checks in a message; a server that is down altogether has dozens."""

_CHECK_NETWORK = "check the network and firewalls on the way, and that the address is right"
_CHECK_ADDRESS = "check that server in the kubeconfig is the address of a Kubernetes API server"

_AUTHORITY_TODO = (
    "put the authority that issued the server's certificate into certificate-authority-data"
)
_NAME_TODO = (
    "use an address in the kubeconfig that the server's certificate names, or set tls-server-name"
)
_CERTIFICATE_TODO = {
    9: "compare the clocks of this machine and of the one that issued the server's certificate",
    10: "renew the server's certificate",
    62: _NAME_TODO,
    64: _NAME_TODO,
}
"""What to do for OpenSSL's verify codes: not yet valid, expired, host or IP address not named."""

T = TypeVar("T")

_VERSION = re.compile(r"v?[0-9][0-9A-Za-z.+~_-]{0,62}")
"""``v1.34.4``, ``v1.30.0-eks-036c24b``: a tenant may write nothing else into the status."""

_FAILING_CHECK = re.compile(rb"^\[-\]([\w./-]{1,100})", re.MULTILINE)

_REFUSED_CLIENT = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""In the name of a TLS alert: the peer did not like our certificate (others: our protocol)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Who is asked, and as whom: ``credentials`` such as ``the token of user 'admin'``."""

    server: str
    credentials: str


class _Status(msgspec.Struct, frozen=True, gc=False):
    """As much of a ``Status`` object as shows that a Kubernetes API answered."""

    kind: str = ""
    message: str | None = None


class _Version(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    git_version: str = ""


class _ListMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    remaining_item_count: int = 0


class _List(msgspec.Struct, frozen=True, gc=False):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _ReviewStatus(msgspec.Struct, frozen=True, gc=False):
    allowed: bool


class _Review(msgspec.Struct, frozen=True, gc=False):
    status: _ReviewStatus


def excerpt(text: str) -> str:
    """The beginning of somebody's words, on one line, printable."""
    words = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_TEXT]).split()
    return " ".join(words)[:MAX_TEXT]


def from_error(error: errors.DpuClusterError, peer: Peer) -> Problem:
    """Why no usable answer came."""
    told = str(error) if peer.server in str(error) else f"{peer.server}: {error}"
    if isinstance(error, errors.TlsFailed):
        return _from_tls(error, told)
    if isinstance(error, errors.TimedOut):
        return Problem(problem.TIMEOUT, f"{told}; {_CHECK_NETWORK}")
    if isinstance(error, errors.ConnectFailed) and not isinstance(error, errors.NotHttp):
        return Problem(
            problem.UNREACHABLE,
            f"{told}; check that the control plane runs and that its address in the kubeconfig "
            "can be reached from here",
        )
    return Problem(problem.NOT_KUBERNETES, f"{told}; {_CHECK_ADDRESS}")


def timed_out(peer: Peer, what: str, seconds: float) -> Problem:
    """Not everything came in time; ``what`` was being asked for."""
    return Problem(
        problem.TIMEOUT,
        f"{peer.server} did not answer {what} completely within {seconds:g} s; {_CHECK_NETWORK}",
    )


def from_readyz(peer: Peer, status: int, body: bytes) -> Problem | None:
    """What ``GET /readyz`` says; None: go on.

    403 also goes on: a user may be kept from this path and still be admin, which the next
    question shows.
    """
    if status in (200, 403):
        return None
    if status == 429 or status >= 500:
        return _not_ready(peer, status, body)
    return _refused(peer, "GET /readyz", status, body)


def from_kube_system(peer: Peer, status: int, body: bytes) -> Problem | str:
    """What ``GET`` of the namespace ``kube-system`` says: its UID, or what is wrong."""
    what = "GET namespaces/kube-system"
    if status == 200:
        return _uid(body) or Problem(
            problem.NOT_KUBERNETES,
            f"{peer.server} answered {what} with something that is no Namespace; {_CHECK_ADDRESS}",
        )
    if status == 404 and _is_status(body):
        return Problem(
            problem.API_SERVER_NOT_READY,
            f"{peer.server} has no namespace kube-system (yet); a control plane makes it when it "
            "starts",
        )
    if status == 429 or status >= 500:
        text = f"{peer.server} answered {what} with HTTP {status}: {_told(body)}; see its log"
        return Problem(problem.API_SERVER_NOT_READY, text)
    return _refused(peer, what, status, body)


def version(body: bytes) -> str:
    """What ``GET /version`` says, such as ``v1.34.4``; empty when it says nothing of the kind."""
    found = _decode(body, _Version)
    return found.git_version if found and _VERSION.fullmatch(found.git_version) else ""


def count(body: bytes) -> int | None:
    """How many objects there are, from a list with ``limit=1``; None for what cannot be."""
    found = _decode(body, _List)
    if found is None or found.metadata.remaining_item_count < 0:
        return None
    total = len(found.items) + found.metadata.remaining_item_count
    return total if total <= MAX_COUNT else None


def is_allowed(body: bytes) -> bool | None:
    """What a SelfSubjectAccessReview says."""
    found = _decode(body, _Review)
    return found.status.allowed if found else None


def _decode(body: bytes, type_: type[T]) -> T | None:
    """``body`` as ``type_``; None when it is something else."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _from_tls(error: errors.TlsFailed, told: str) -> Problem:
    cause = _ssl_cause(error)
    reason = getattr(cause, "reason", None) or ""  # absent where Python made the error itself
    if isinstance(cause, ssl.SSLCertVerificationError):
        todo = _CERTIFICATE_TODO.get(getattr(cause, "verify_code", 0), _AUTHORITY_TODO)
        return Problem(problem.CERTIFICATE_INVALID, f"{told}; {todo}")
    if "ALERT" in reason and any(word in reason for word in _REFUSED_CLIENT):
        return Problem(
            problem.UNAUTHORIZED,
            f"{told}; put a kubeconfig with a client certificate that the server accepts into "
            "the Secret",
        )
    if cause is None:  # our own side could not be set up
        return Problem(problem.KUBECONFIG_INVALID, f"{told}; export the kubeconfig again")
    return Problem(problem.NOT_KUBERNETES, f"{told}; {_CHECK_ADDRESS}")


def _ssl_cause(error: BaseException) -> ssl.SSLError | None:
    """The TLS error below, through the layers that libraries wrap around it."""
    seen: set[int] = set()
    below: BaseException | None = error
    while below is not None and id(below) not in seen:
        seen.add(id(below))
        inner = getattr(below, "certificate_error", None) or getattr(below, "os_error", None)
        if not isinstance(inner, OSError) and isinstance(below, ssl.SSLError):
            return below
        below = inner if isinstance(inner, OSError) else below.__cause__ or below.__context__
    return None


def _not_ready(peer: Peer, status: int, body: bytes) -> Problem:
    names = [name.decode() for name in _FAILING_CHECK.findall(body)]
    shown = ", ".join(names[:MAX_CHECKS]) + (", …" if len(names) > MAX_CHECKS else "")
    failing = f"failing checks: {shown}" if names else _told(body)
    return Problem(
        problem.API_SERVER_NOT_READY,
        f"{peer.server} answered GET /readyz with HTTP {status}: {failing}; see the log of its "
        "kube-apiserver",
    )


def _refused(peer: Peer, what: str, status: int, body: bytes) -> Problem:
    if status == 401:
        return Problem(
            problem.UNAUTHORIZED,
            f"{peer.server} does not accept {peer.credentials} ({what}: HTTP 401); put a current "
            "kubeconfig into the Secret",
        )
    if status == 403:
        return Problem(
            problem.FORBIDDEN,
            f"{peer.server} knows the user but refuses {what}: {_told(body)}; bind the user to the "
            "ClusterRole cluster-admin",
        )
    text = f"{peer.server} answered {what} with HTTP {status}: {_told(body)}; {_CHECK_ADDRESS}"
    return Problem(problem.NOT_KUBERNETES, text)


def _told(body: bytes) -> str:
    """The message of a Status, else the beginning of whatever came."""
    status = _decode(body, _Status)
    if status is not None and status.message:
        return excerpt(status.message)
    return "with no message of a Kubernetes API"


def _is_status(body: bytes) -> bool:
    status = _decode(body, _Status)
    return status is not None and status.kind == "Status"


def _uid(body: bytes) -> str:
    found = _decode(body, PartialObject)
    if found is None or (found.kind, found.metadata.name) != ("Namespace", "kube-system"):
        return ""
    return excerpt(found.metadata.uid)
