"""What a container's program sees: variables, and references to them in its arguments. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dpucluster.localplane.node import pods, volumes

DEFAULT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


class UnknownField(ValueError):
    """A reference to a field of the pod that this node does not know; the message names it."""


@dataclass(frozen=True)
class Placement:
    """Where a pod runs."""

    node: str
    node_ip: str
    pod_ip: str


def field_value(pod: pods.Pod, placement: Placement, path: str) -> str:
    """The value of a ``fieldRef``.

    Raises:
        UnknownField: nothing of that name is known.
    """
    metadata = pod.metadata
    simple = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "metadata.labels": _listed(metadata.labels),
        "metadata.annotations": _listed(metadata.annotations),
        "spec.nodeName": placement.node,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": placement.node_ip,
        "status.hostIPs": placement.node_ip,
        "status.podIP": placement.pod_ip,
        "status.podIPs": placement.pod_ip,
    }
    if path in simple:
        return simple[path]
    match = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if match is None:
        raise UnknownField(f"this node knows no field {path!r} of a pod")
    pairs = metadata.labels if match.group(1) == "labels" else metadata.annotations
    return pairs.get(match.group(2), "")


class KeyOf(NamedTuple):
    """One key of a ConfigMap or Secret that a variable refers to."""

    source: volumes.Source
    name: str
    key: str
    optional: bool


def key_of(source: pods.EnvSource) -> KeyOf | None:
    """The key that a variable refers to, if it does."""
    for kind, ref in (
        (volumes.Source.CONFIG_MAP, source.config_map_key_ref),
        (volumes.Source.SECRET, source.secret_key_ref),
    ):
        if ref is not None:
            return KeyOf(kind, ref.name, ref.key, ref.optional)
    return None


def keys(container: pods.Container) -> list[KeyOf]:
    """All keys that the container's variables refer to."""
    sources = (variable.value_from for variable in container.env)
    found = (key_of(source) for source in sources if source is not None)
    return [key for key in found if key is not None]


def variables(
    container: pods.Container, fields: Mapping[str, str], values: Mapping[KeyOf, str]
) -> dict[str, str]:
    """The container's variables; ``fields`` and ``values`` hold what they refer to.

    A variable whose key is not among ``values`` is left out.
    """
    made: dict[str, str] = {}
    for variable in container.env:
        source = variable.value_from
        if source is None:
            made[variable.name] = expand(variable.value, made)
        elif source.field_ref is not None:
            made[variable.name] = fields[source.field_ref.field_path]
        elif (key := key_of(source)) in values and key is not None:
            made[variable.name] = values[key]
    return made


def field_paths(container: pods.Container) -> set[str]:
    """Which fields of the pod the container's variables refer to."""
    sources = (variable.value_from for variable in container.env)
    return {s.field_ref.field_path for s in sources if s is not None and s.field_ref is not None}


def expand(text: str, env: Mapping[str, str]) -> str:
    """``text`` with each ``$(NAME)`` replaced; unknown ones stay, ``$$`` is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else env.get(name, match.group(0))

    return _REFERENCE.sub(replace, text)


def command_line(
    container: pods.Container, entrypoint: Iterable[str], env: Mapping[str, str]
) -> list[str]:
    """The program and its arguments; ``entrypoint`` is the image's own."""
    program = container.command or tuple(entrypoint)
    return [expand(part, env) for part in (*program, *container.args)]


def _listed(pairs: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
