"""Kubeconfig files on this machine, as kubectl reads and merges them.

Trusted: these are the user's own. What the fields mean is for ``config`` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from dpucluster import errors
from dpucluster.kube import credential_files, exec_plugin


class Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    """``clusters[].cluster``."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class User(msgspec.Struct, frozen=True, rename="kebab"):
    """``users[].user``."""

    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    exec_: exec_plugin.ExecConfig | None = msgspec.field(default=None, name="exec")
    auth_provider: dict[str, Any] | None = None
    username: str = ""
    as_: str = msgspec.field(default="", name="as")
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_user_extra: dict[str, list[str]] = {}


class Context(msgspec.Struct, frozen=True):
    """``contexts[].context``."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""


class NamedCluster(msgspec.Struct, frozen=True):
    """``clusters[]``."""

    name: str
    cluster: Cluster = Cluster()


class NamedUser(msgspec.Struct, frozen=True):
    """``users[]``."""

    name: str
    user: User = User()


class NamedContext(msgspec.Struct, frozen=True):
    """``contexts[]``."""

    name: str
    context: Context = Context()


class File(msgspec.Struct, frozen=True, rename="kebab"):
    """One file."""

    current_context: str = ""
    clusters: tuple[NamedCluster, ...] = ()
    users: tuple[NamedUser, ...] = ()
    contexts: tuple[NamedContext, ...] = ()


class Merged(msgspec.Struct):
    """Several files, first one wins; beside each entry the directory its paths start from."""

    current_context: str = ""
    clusters: dict[str, tuple[Cluster, Path]] = {}
    users: dict[str, tuple[User, Path]] = {}
    contexts: dict[str, tuple[Context, Path]] = {}

    def add(self, file: File, directory: Path) -> None:
        """Take what no file before had."""
        self.current_context = self.current_context or file.current_context
        for cluster in file.clusters:
            self.clusters.setdefault(cluster.name, (cluster.cluster, directory))
        for user in file.users:
            self.users.setdefault(user.name, (user.user, directory))
        for context in file.contexts:
            self.contexts.setdefault(context.name, (context.context, directory))


def merge(paths: Sequence[Path], *, must_exist: bool = False) -> Merged:
    """The files as one; those that are not there are left out unless they must be.

    Raises:
        ConfigError: one cannot be read.
    """
    merged = Merged()
    for path in paths:
        if must_exist or path.exists():
            merged.add(_read(path), path.absolute().parent)
    return merged


def _read(path: Path) -> File:
    data = credential_files.read(path)
    try:
        document = _without_nulls(yaml.load(data, Loader=yaml.CSafeLoader))
        return msgspec.convert({} if document is None else document, File)
    except msgspec.ValidationError as error:
        raise errors.ConfigError(f"{path} is no kubeconfig: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise errors.ConfigError(f"{path} is not YAML (line {line})") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise errors.ConfigError(f"{path} is not YAML") from None


def _without_nulls(value: Any) -> Any:
    """Null and absent are the same to kubectl."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value
