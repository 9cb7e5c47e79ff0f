"""Every exception this project raises on purpose, in one tree.

::

    DpuClusterError
    ├── ConfigError                 flags, environment, the user's own kubeconfig
    ├── KubeconfigError             a kubeconfig from a Secret that cannot be used; has a reason
    ├── ApiError                    the API server answered, and not with success
    │   ├── BadRequest              400
    │   ├── Unauthorized            401
    │   ├── Forbidden               403
    │   ├── NotFound                404
    │   ├── AlreadyExists           409, reason AlreadyExists
    │   ├── Conflict                409, every other reason
    │   ├── Gone                    410 (list and watch start again)
    │   ├── Invalid                 422
    │   ├── TooManyRequests         429
    │   └── ServerError             5xx
    ├── TransportError              no answer, or not one of HTTP
    │   ├── ConnectFailed           refused, unreachable, name not found, cut
    │   │   └── NotHttp             what answered does not speak HTTP
    │   ├── TimedOut                nothing within the time given
    │   └── TlsFailed               the certificate of either side was not accepted
    ├── DecodeError                 an answer that does not fit the type it was read as
    ├── LeadershipLost              a write was held back: this process does not hold the Lease
    ├── ManagerError                a cluster manager broke the contract of the sdk
    └── LocalPlaneError             the control plane on this machine
        ├── BinaryError             a binary could not be found, fetched or built
        └── PlaneError              a process did not start, or ended

No exception of a library (aiohttp, ssl, msgspec, yaml) crosses the border of the package that
uses the library. Messages say what was tried, on which object, and what to do; they never hold
secret material. ``OSError`` and ``asyncio.CancelledError`` pass through.
"""

from __future__ import annotations


class DpuClusterError(Exception):
    """Base of all errors of this project: ``except DpuClusterError`` catches what is expected."""


class ConfigError(DpuClusterError):
    """The process was started with something that cannot work."""


class KubeconfigError(DpuClusterError):
    """A kubeconfig out of a Secret cannot be used.

    ``reason`` is the condition reason that tells the user (``KubeconfigInvalid``,
    ``KubeconfigAmbiguous``, ``KubeconfigUnsafe`` …); the message says what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ApiError(DpuClusterError):
    """The API server answered with a failure.

    ``status`` is the HTTP status, ``reason`` the machine-readable one of the ``Status`` object
    (empty when the answer was not one), ``retry_after`` the seconds the server asked to wait.
    """

    def __init__(
        self, message: str, *, status: int, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class BadRequest(ApiError):
    """400: the request itself was malformed."""


class Unauthorized(ApiError):
    """401: the credentials were not accepted."""


class Forbidden(ApiError):
    """403: the credentials are known and lack the right."""


class NotFound(ApiError):
    """404: the object, or its whole resource, is not there."""


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists: create found an object of that name."""


class Conflict(ApiError):
    """409: the object has moved on since it was read; look again."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class Invalid(ApiError):
    """422: validation or admission refused the object."""


class TooManyRequests(ApiError):
    """429: the server asks for patience; see ``retry_after``."""


class ServerError(ApiError):
    """5xx: the server, or something behind it, failed."""


class TransportError(DpuClusterError):
    """No HTTP answer came."""


class ConnectFailed(TransportError):
    """The connection was refused, unreachable or cut."""


class NotHttp(ConnectFailed):
    """Something answered, and not as an HTTP server does."""


class TimedOut(TransportError):
    """Nothing came within the time given."""


class TlsFailed(TransportError):
    """TLS could not be agreed: a certificate was not accepted, or the peer speaks no TLS."""


class DecodeError(DpuClusterError):
    """An answer does not fit the type it was read as."""


class LeadershipLost(DpuClusterError):
    """A write was held back because the Lease is not (or no longer surely) held."""


class ManagerError(DpuClusterError):
    """A cluster manager did something the contract of the sdk does not allow."""


class LocalPlaneError(DpuClusterError):
    """The control plane on this machine cannot do what was asked."""


class BinaryError(LocalPlaneError):
    """A control-plane binary could not be found, fetched or built."""


class PlaneError(LocalPlaneError):
    """A process of a local control plane did not start, or ended."""
