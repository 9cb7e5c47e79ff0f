"""What can be wrong with a tenant cluster or with the Secret that leads to it.

The reasons are condition reasons: they stay as they are, scripts and dashboards wait for them.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Problem(NamedTuple):
    """A condition reason, and a message that says what was tried, where, and what to do."""

    reason: str
    message: str


# The Secret (`Created` of a static cluster)
EMPTY_KUBECONFIG: Final = "EmptyKubeconfig"
SECRET_NOT_FOUND: Final = "SecretNotFound"  # noqa: S105 - a reason, not a secret
KUBECONFIG_KEY_MISSING: Final = "KubeconfigKeyMissing"
KUBECONFIG_INVALID: Final = "KubeconfigInvalid"
CREDENTIALS_EXPIRED: Final = "CredentialsExpired"

# The API server behind it (`Ready`)
UNREACHABLE: Final = "Unreachable"
TIMEOUT: Final = "Timeout"
UNAUTHORIZED: Final = "Unauthorized"
FORBIDDEN: Final = "Forbidden"
CERTIFICATE_INVALID: Final = "CertificateInvalid"
CREDENTIALS_NOT_YET_VALID: Final = "CredentialsNotYetValid"
NOT_KUBERNETES: Final = "NotKubernetes"
API_SERVER_NOT_READY: Final = "ApiServerNotReady"

# Warnings: nothing is held back by them
CREDENTIALS_EXPIRE_SOON: Final = "CredentialsExpireSoon"
BEARER_TOKEN: Final = "BearerToken"  # noqa: S105 - a reason, not a token
CLUSTER_NAME_MISMATCH: Final = "ClusterNameMismatch"
MANAGEMENT_CLUSTER: Final = "ManagementCluster"
SHARED_TENANT: Final = "SharedTenant"
NOT_CLUSTER_ADMIN: Final = "NotClusterAdmin"
NEW_KUBECONFIG_FAILING: Final = "NewKubeconfigFailing"
