"""The command line of kube-apiserver, and the files it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpucluster.localplane import files, pki, ports

HOSTS = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    ports.LOOPBACK,
    "10.96.0.1",
)
"""What the server's certificate is good for, as kubeadm's."""
ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


@dataclass(frozen=True)
class PairFiles:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Keys:
    """The files of a plane's ``pki`` directory.

    Attributes:
        authority: Signs everything else.
        ca: Its certificate and key.
        server: What the API server shows.
        admin: The administrator's.
        service_accounts: Signs the tokens of service accounts.
        audit_policy: Not a key, but a file that the API server needs.
    """

    authority: pki.Authority
    ca: PairFiles
    server: PairFiles
    admin: PairFiles
    service_accounts: Path
    audit_policy: Path


def prepare(directory: Path, name: str, address: str = ports.LOOPBACK) -> Keys:
    """Make what ``directory`` lacks: an authority and a token key stay, certificates are new."""
    hosts = tuple(dict.fromkeys((*HOSTS, address)))
    files.make_private_directory(directory)
    authority, ca = kept_authority(directory, name)
    service_accounts = directory / "service-accounts.key"
    if not service_accounts.exists():
        files.write(service_accounts, pki.signing_key())
    return Keys(
        authority=authority,
        ca=ca,
        server=write_pair(directory, "apiserver", authority.server("kube-apiserver", hosts)),
        admin=write_pair(
            directory, "admin", authority.client("dpucluster:localplane", ("system:masters",))
        ),
        service_accounts=service_accounts,
        audit_policy=files.write(directory / "audit-policy.yaml", AUDIT_POLICY),
    )


def command(
    binary: Path,
    keys: Keys,
    *,
    port: int,
    etcd_servers: str,
    etcd_prefix: str,
    audit_log: Path | None,
    address: str = ports.LOOPBACK,
) -> list[str]:
    """The whole command line."""
    flags = {
        "bind-address": address,
        "secure-port": port,
        "permit-port-sharing": "true",  # see ports.Reservation
        "etcd-servers": etcd_servers,
        "etcd-prefix": etcd_prefix,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "client-ca-file": keys.ca.certificate,
        "tls-cert-file": keys.server.certificate,
        "tls-private-key-file": keys.server.key,
        "service-account-issuer": ISSUER,
        "service-account-key-file": keys.service_accounts,
        "service-account-signing-key-file": keys.service_accounts,
        "service-cluster-ip-range": "10.96.0.0/16",
        "profiling": "false",
    }
    if address == ports.LOOPBACK:
        # A loopback address cannot be an Endpoint; there are no pods that would look for it.
        flags["endpoint-reconciler-type"] = "none"
    if audit_log is not None:
        flags |= {
            "audit-policy-file": keys.audit_policy,
            "audit-log-path": audit_log,
            "audit-log-format": "json",
        }
    return [str(binary), *(f"--{flag}={value}" for flag, value in flags.items())]


def kept_authority(
    directory: Path, name: str, kind: pki.KeyKind = pki.KeyKind.ECDSA
) -> tuple[pki.Authority, PairFiles]:
    """The authority whose files are in ``directory``, which are made if they are not there."""
    paths = _pair_files(directory, "ca")
    # The certificate is written last: with it, both are whole.
    if paths.certificate.exists():
        pair = pki.KeyPair(paths.certificate.read_bytes(), paths.key.read_bytes())
        return pki.Authority(pair), paths
    authority = pki.Authority.create(f"{name}-ca", kind)
    return authority, write_pair(directory, "ca", authority.pair)


def write_pair(directory: Path, name: str, pair: pki.KeyPair) -> PairFiles:
    """Write a certificate and its key to ``directory``."""
    paths = _pair_files(directory, name)
    files.write(paths.key, pair.key)
    files.write(paths.certificate, pair.certificate)
    return paths


def _pair_files(directory: Path, name: str) -> PairFiles:
    return PairFiles(directory / f"{name}.crt", directory / f"{name}.key")
