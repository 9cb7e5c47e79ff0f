"""The user's own configuration: kubeconfig files as kubectl reads them, or the Pod's account.

Trusted: file references are followed, credential programs run, proxies used. Kubeconfigs of
anybody else (out of Secrets) must never come here: see ``untrusted``.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from dpucluster import errors
from dpucluster.kube import connection as connections
from dpucluster.kube import credential_files, exec_plugin, kubeconfig_file, tls
from dpucluster.kube.connection import Connection

__all__ = ["Connection", "in_cluster", "load"]

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a Pod's token, authority and namespace."""

_Entry = TypeVar("_Entry")


def load(
    kubeconfig: str | None = None,
    context: str | None = None,
    env: Mapping[str, str] = os.environ,
) -> Connection:
    """The connection the user means.

    ``kubeconfig`` (a flag), else the files of ``$KUBECONFIG``, else the Pod's service account,
    else ``~/.kube/config``; of it ``context``, else the current one.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    if kubeconfig:
        return _select(
            kubeconfig_file.merge([Path(kubeconfig)], must_exist=True), context, kubeconfig
        )
    if named := [Path(p) for p in env.get("KUBECONFIG", "").split(os.pathsep) if p]:
        return _select(kubeconfig_file.merge(named), context, f"KUBECONFIG={env['KUBECONFIG']}")
    if "KUBERNETES_SERVICE_HOST" in env and context is None:
        return in_cluster(env=env)
    home = Path(env.get("HOME", "/")) / ".kube" / "config"
    if not home.exists():
        raise errors.ConfigError(
            f"no kubeconfig: give --kubeconfig, set KUBECONFIG, or create {home}"
        )
    return _select(kubeconfig_file.merge([home], must_exist=True), context, str(home))


def in_cluster(root: Path = SERVICE_ACCOUNT, env: Mapping[str, str] = os.environ) -> Connection:
    """The connection of the Pod's service account.

    Raises:
        ConfigError: this process does not run in a Pod with one.
    """
    host = env.get("KUBERNETES_SERVICE_HOST", "")
    if not host:
        raise errors.ConfigError("not in a Pod: KUBERNETES_SERVICE_HOST is not set")
    address = f"[{host}]" if ":" in host else host
    namespace = root / "namespace"
    return Connection(
        server=f"https://{address}:{env.get('KUBERNETES_SERVICE_PORT', '443')}",
        ca_data=credential_files.read(root / "ca.crt"),
        credentials=credential_files.CredentialFiles(token=root / "token"),
        namespace=credential_files.read(namespace).decode().strip()
        if namespace.exists()
        else "default",
        context="in-cluster",
    )


def _select(merged: kubeconfig_file.Merged, wanted: str | None, where: str) -> Connection:
    name = wanted or merged.current_context
    if not name:
        raise errors.ConfigError(
            f"{where}: there is no such file, or it sets no current-context: give --kubeconfig, or "
            "choose a context with kubectl config use-context"
        )
    context, _ = _entry(merged.contexts, "context", name, where)
    cluster, beside = _entry(merged.clusters, "cluster", context.cluster, where)
    connection = _to_server(cluster, beside, f"{where}: cluster {context.cluster}")
    connection = dataclasses.replace(
        connection, namespace=context.namespace or "default", context=name
    )
    if not context.user:
        return connection
    user, beside = _entry(merged.users, "user", context.user, where)
    return _as_user(connection, user, beside, f"{where}: user {context.user}")


def _entry(
    entries: Mapping[str, tuple[_Entry, Path]], kind: str, name: str, where: str
) -> tuple[_Entry, Path]:
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise errors.ConfigError(f"{where}: there is no {kind} {name!r} (there are: {known})")
    return entries[name]


def _to_server(cluster: kubeconfig_file.Cluster, beside: Path, where: str) -> Connection:
    authority = _inline_or_file(
        cluster.certificate_authority_data, cluster.certificate_authority, beside, where
    )
    if cluster.insecure_skip_tls_verify and authority is not None:
        raise errors.ConfigError(
            f"{where}: insecure-skip-tls-verify and a certificate authority exclude one another"
        )
    return Connection(
        server=_server(cluster.server, where),
        ca_data=authority,
        insecure=cluster.insecure_skip_tls_verify,
        tls_server_name=_tls_server_name(cluster.tls_server_name, where),
        proxy_url=_proxy(cluster.proxy_url, where),
    )


def _server(server: str, where: str) -> str:
    if not server:
        raise errors.ConfigError(f"{where}: server is missing")
    address = server if "://" in server else f"https://{server}"
    _check_url(address, f"{where}: server")
    return address.rstrip("/")


def _proxy(url: str, where: str) -> str:
    if url:
        _check_url(url, f"{where}: proxy-url")
    return url


def _check_url(url: str, what: str) -> None:
    """Refuse at the start what no request could be sent to."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_host = tls.is_name(parts.hostname or "") and parts.port != 0
    except ValueError:  # may quote the password of a proxy
        raise errors.ConfigError(f"{what} is no URL") from None
    if parts.scheme not in ("https", "http"):
        raise errors.ConfigError(f"{what} must begin with https:// or http://")
    if not is_host:
        raise errors.ConfigError(f"{what} names no host")


def _tls_server_name(name: str, where: str) -> str:
    if name and not tls.is_name(name):
        raise errors.ConfigError(f"{where}: tls-server-name is no host name")
    return name


def _inline_or_file(data: str, file: str, beside: Path, where: str) -> bytes | None:
    """What stands inline; else the file, whose path starts at the kubeconfig's directory."""
    if data:
        return _decoded(data, where)
    return credential_files.read(beside / file) if file else None


def _decoded(data: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise errors.ConfigError(f"{where}: a field that ends in -data is not base64") from None


def _as_user(
    connection: Connection, user: kubeconfig_file.User, beside: Path, where: str
) -> Connection:
    if user.auth_provider is not None:
        raise errors.ConfigError(f"{where}: auth-provider is gone from Kubernetes: use exec")
    if user.username:
        raise errors.ConfigError(f"{where}: basic authentication is gone from Kubernetes")
    who = connections.Impersonation(
        user.as_,
        user.as_uid,
        user.as_groups,
        tuple((k, v) for k, values in user.as_user_extra.items() for v in values),
    )
    return dataclasses.replace(
        connection, credentials=_credentials(connection, user, beside, where), impersonate=who
    )


def _credentials(
    connection: Connection, user: kubeconfig_file.User, beside: Path, where: str
) -> connections.CredentialSource:
    given = connections.Credentials(
        "" if user.token_file else user.token,  # kubectl: the file takes precedence
        _decoded(user.client_certificate_data, where) or None,
        _decoded(user.client_key_data, where) or None,
    )
    if user.exec_ is not None:
        exec_plugin.check(user.exec_, where)
        return exec_plugin.ExecPlugin(user.exec_, beside, exec_plugin.cluster_info(connection))
    if not (user.token_file or user.client_certificate or user.client_key):
        return connections.StaticCredentials(given)
    return credential_files.CredentialFiles(
        given,
        token=beside / user.token_file if user.token_file else None,
        client_cert=_path(user.client_certificate, beside, given.client_cert),
        client_key=_path(user.client_key, beside, given.client_key),
    )


def _path(file: str, beside: Path, inline: bytes | None) -> Path | None:
    return beside / file if file and inline is None else None
