"""Which files a volume holds. Pure: what they are made of is an argument."""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dpucluster.localplane.node import pods

DEFAULT_MODE = 0o644


class Source(enum.Enum):
    """What a file's content is taken from."""

    CONFIG_MAP = "configmap"
    SECRET = "secret"  # noqa: S105 - a kind
    FIELD = "field"
    TOKEN = "token"  # noqa: S105 - likewise


class Reference(NamedTuple):
    """Something that must be fetched before a volume can be laid out.

    ``name`` is that of the object, the path of the field, or the audience of a token, whose
    lifetime is ``seconds``.
    """

    source: Source
    name: str
    seconds: int = 0


Content = Mapping[str, bytes]
"""What a reference leads to: keys and values; a field or a token has the one key ``""``."""


@dataclass(frozen=True)
class File:
    """One file of a volume."""

    data: bytes = field(repr=False)
    mode: int = DEFAULT_MODE


class CannotMount(Exception):
    """The volume cannot be laid out now; the message says why."""


@dataclass(frozen=True)
class _Part:
    """One source of a volume, whatever kind of volume it is."""

    reference: Reference
    items: tuple[pods.KeyToPath, ...]
    mode: int
    optional: bool = False


def references(volume: pods.Volume) -> list[Reference]:
    """What must be fetched for ``volume``; nothing for an empty directory.

    Raises:
        CannotMount: this node has no such volumes.
    """
    return [part.reference for part in _parts(volume)]


def layout(volume: pods.Volume, found: Mapping[Reference, Content | None]) -> dict[str, File]:
    """The files of ``volume`` by their paths; ``found`` holds None for what is not there.

    Raises:
        CannotMount: something that is not optional is not there.
    """
    files: dict[str, File] = {}
    for part in _parts(volume):
        content = found.get(part.reference)
        if content is None:
            if part.optional:
                continue
            source, name, _ = part.reference
            raise CannotMount(
                f'MountVolume.SetUp failed for volume "{volume.name}": '
                f'{source.value} "{name}" not found'
            )
        files.update(_files(volume, part, content))
    return files


def payload(source: Source, obj: pods.Payload) -> dict[str, bytes]:
    """The decoded content of a ConfigMap or Secret."""
    if source is Source.SECRET:
        return {key: base64.b64decode(value) for key, value in obj.data.items()}
    binary = {key: base64.b64decode(value) for key, value in obj.binary_data.items()}
    return {**binary, **{key: value.encode() for key, value in obj.data.items()}}


def _files(volume: pods.Volume, part: _Part, content: Content) -> Iterable[tuple[str, File]]:
    if not part.items:
        return [(key, File(data, part.mode)) for key, data in content.items()]
    made = []
    for item in part.items:
        if item.key not in content:
            if part.optional:
                continue
            source, name, _ = part.reference
            raise CannotMount(
                f'MountVolume.SetUp failed for volume "{volume.name}": '
                f'{source.value} "{name}" has no key {item.key!r}'
            )
        mode = part.mode if item.mode is None else item.mode
        made.append((item.path.strip("/"), File(content[item.key], mode)))
    return made


def _parts(volume: pods.Volume) -> list[_Part]:
    if volume.config_map is not None:
        return [_named(Source.CONFIG_MAP, volume.config_map, None)]
    if (secret := volume.secret) is not None:
        reference = Reference(Source.SECRET, secret.secret_name)
        return [_Part(reference, secret.items, _mode(secret.default_mode), secret.optional)]
    if volume.downward_api is not None:
        return _downward(volume.downward_api, volume.downward_api.default_mode)
    if volume.projected is not None:
        mode = volume.projected.default_mode
        return [part for each in volume.projected.sources for part in _projection(each, mode)]
    if volume.empty_dir is not None:
        return []
    raise CannotMount(
        f"volume {volume.name!r}: this node has configMap, secret, projected, downwardAPI and "
        "emptyDir volumes only"
    )


def _projection(source: pods.Projection, mode: int | None) -> list[_Part]:
    if source.config_map is not None:
        return [_named(Source.CONFIG_MAP, source.config_map, mode)]
    if source.secret is not None:
        return [_named(Source.SECRET, source.secret, mode)]
    if source.downward_api is not None:
        return _downward(source.downward_api, mode)
    if (token := source.service_account_token) is not None:
        reference = Reference(Source.TOKEN, token.audience, token.expiration_seconds)
        return [_Part(reference, (pods.KeyToPath("", token.path),), _mode(mode))]
    return []


def _named(source: Source, named: pods.Named, mode: int | None) -> _Part:
    own = named.default_mode if mode is None else mode
    return _Part(Reference(source, named.name), named.items, _mode(own), named.optional)


def _downward(downward: pods.Downward, mode: int | None) -> list[_Part]:
    return [
        _Part(
            Reference(Source.FIELD, item.field_ref.field_path),
            (pods.KeyToPath("", item.path, item.mode),),
            _mode(mode),
        )
        for item in downward.items
    ]


def _mode(mode: int | None) -> int:
    return DEFAULT_MODE if mode is None else mode
