"""What volumes and variables are made of: fetched from the API as a node may fetch it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

from dpucluster import errors
from dpucluster.kube import client as kube_client
from dpucluster.localplane.node import environment, pods, volumes

RESOURCES = {
    volumes.Source.CONFIG_MAP: pods.CONFIGMAPS,
    volumes.Source.SECRET: pods.SECRETS,
}
TOKEN_USED = 0.8
"""A token is replaced when so much of its life is over."""


class Contents:
    """What one pod refers to. Tokens are kept until they are old; all else is asked for anew."""

    def __init__(
        self, client: kube_client.Client, pod: pods.Pod, placement: environment.Placement
    ) -> None:
        self._client = client
        self._pod = pod
        self._placement = placement
        self._tokens: dict[volumes.Reference, tuple[float, str]] = {}

    async def files(self, volume: pods.Volume) -> dict[str, volumes.File]:
        """The files of ``volume`` as they should be now.

        Raises:
            CannotMount: something is missing, or this node has no such volumes.
            ApiError, TransportError: it cannot be asked for.
        """
        references = volumes.references(volume)
        found = await asyncio.gather(*(self._fetch(each) for each in references))
        return volumes.layout(volume, dict(zip(references, found, strict=True)))

    async def variables(self, container: pods.Container) -> dict[str, str]:
        """The variables of ``container``.

        Raises:
            CannotMount: something that they refer to is missing.
        """
        fields = {path: self._field(path) for path in environment.field_paths(container)}
        values: dict[environment.KeyOf, str] = {}
        for key in environment.keys(container):
            content = await self._fetch(volumes.Reference(key.source, key.name))
            if content is not None and key.key in content:
                values[key] = content[key.key].decode(errors="replace")
            elif not key.optional:
                raise volumes.CannotMount(f"{key.source.value} {key.name!r} has no key {key.key!r}")
        return environment.variables(container, fields, values)

    async def _fetch(self, reference: volumes.Reference) -> volumes.Content | None:
        if reference.source is volumes.Source.FIELD:
            return {"": self._field(reference.name).encode()}
        if reference.source is volumes.Source.TOKEN:
            return {"": (await self._token(reference)).encode()}
        resource = RESOURCES[reference.source]
        try:
            found = await self._client.get(resource, reference.name, self._pod.metadata.namespace)
        except (errors.NotFound, errors.Forbidden):  # a node is forbidden what no pod refers to
            return None
        return volumes.payload(reference.source, found)

    def _field(self, path: str) -> str:
        try:
            return environment.field_value(self._pod, self._placement, path)
        except environment.UnknownField as error:
            raise volumes.CannotMount(str(error)) from None

    async def _token(self, reference: volumes.Reference) -> str:
        until, token = self._tokens.get(reference, (0.0, ""))
        if time.monotonic() < until:
            return token
        metadata = self._pod.metadata
        request: dict[str, Any] = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [reference.name] if reference.name else [],
                "expirationSeconds": reference.seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata.name,
                    "uid": metadata.uid,
                },
            },
        }
        account = self._pod.spec.service_account_name or "default"
        path = f"/api/v1/namespaces/{metadata.namespace}/serviceaccounts/{account}/token"
        answer = await self._client.raw("POST", path, body=json.dumps(request).encode())
        if answer.status >= 300:
            raise volumes.CannotMount(f"no token for service account {account!r}: {answer.status}")
        token = str(json.loads(answer.body)["status"]["token"])
        self._tokens[reference] = (time.monotonic() + TOKEN_USED * _lifetime(token), token)
        return token


def _lifetime(token: str) -> float:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return float(claims["exp"] - claims["iat"])
