"""Everything that a watch shows of some objects, with the time it came.

What happens between two looks is missed by polling; a watch from one resourceVersion on misses
nothing, so "it never happened" can be proved from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import background
from tests.support.kubeapi import path_of
from tests.support.patience import PATIENCE
from tests.support.upstream import Upstream

Object = dict[str, Any]
Holds = Callable[[Object], bool]

PAUSE = 0.05


@dataclass(frozen=True)
class Seen:
    """One version of an object, or its end (``type`` is ``DELETED``)."""

    at: float
    type: str
    object: Object

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.object["metadata"]["name"])


class WatchLog(background.Served):
    """Records all objects of a kind in a namespace from entering the ``with`` block on.

    It asks the server itself and shares nothing with the product. What is there at the beginning
    is entered as ``LISTED``.
    """

    def __init__(self, kubeconfig: Path | str, plural: str, namespace: str) -> None:
        self._upstream = Upstream.read(Path(kubeconfig))
        self._url = self._upstream.server + path_of(plural, namespace)
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._end = ""

    def select(self, name: str = "", *, since: float = 0.0) -> list[Seen]:
        """What was seen (of all objects: ``name=""``), oldest first."""
        with self._lock:
            seen = list(self._seen)
        return [s for s in seen if name in {"", s.name} and s.at >= since]

    def first(self, name: str, holds: Holds, *, since: float = 0.0) -> Seen | None:
        """The first version that ``holds`` accepts."""
        return next((s for s in self.select(name, since=since) if holds(s.object)), None)

    def wait(
        self, name: str, holds: Holds, *, since: float = 0.0, timeout: float = PATIENCE
    ) -> Seen:
        """The same, waited for."""
        end = time.monotonic() + timeout
        while (found := self.first(name, holds, since=since)) is None:
            self.check()
            if time.monotonic() > end:
                last = [s.object.get("status") for s in self.select(name)[-2:]]
                message = f"{name} was not so within {timeout:g} s: {json.dumps(last, indent=1)}"
                raise AssertionError(message)
            time.sleep(PAUSE)
        return found

    def check(self) -> None:
        """Fail if the watch has ended: from then on something may have been missed."""
        assert not self._end, f"the watch ended: {self._end}"

    def catch_up(self, timeout: float = PATIENCE) -> None:
        """Return when everything that the server has now was seen."""
        wanted = {_version(o) for o in self._background.run(self._list())["items"]}
        end = time.monotonic() + timeout
        while missing := wanted - {_version(s.object) for s in self.select()}:
            self.check()
            assert time.monotonic() < end, f"not seen: versions {missing}"
            time.sleep(PAUSE)

    async def _start(self) -> None:
        self._session = self._upstream.session(with_credentials=True)
        found = await self._list()
        for item in found["items"]:
            self._add("LISTED", item)
        version = found["metadata"]["resourceVersion"]
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3600"}
        response = await self._session.get(self._url, params=query)
        self._task = asyncio.get_running_loop().create_task(self._follow(response.content))

    async def _list(self) -> Object:
        async with self._session.get(self._url) as response:
            found: Object = await response.json()
        return found

    async def _follow(self, lines: asyncio.StreamReader | Any) -> None:
        try:
            async for line in lines:
                event = json.loads(line)
                assert event["type"] != "ERROR", event["object"]
                self._add(event["type"], event["object"])
            self._end = "the server closed it"
        except Exception as error:  # noqa: BLE001 - told by check() in the thread of the test
            self._end = repr(error)

    def _add(self, kind: str, obj: Object) -> None:
        with self._lock:
            self._seen.append(Seen(time.monotonic(), kind, obj))

    async def _stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._session.close()


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])
