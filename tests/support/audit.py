"""Reads kube-apiserver's audit log (JSON lines, level Metadata): who wrote what, how often."""

from __future__ import annotations

import collections
import datetime as dt
import json
import pathlib
from dataclasses import dataclass
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Entry:
    """One finished request."""

    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: str
    user_agent: str
    status: int
    received: dt.datetime
    at: dt.datetime

    @property
    def is_write(self) -> bool:
        """Whether it may have changed something."""
        return self.verb in WRITES

    @property
    def target(self) -> str:
        """``dpuclusters/status ns/name`` and the like."""
        kind = "/".join(part for part in (self.resource, self.subresource) if part)
        return f"{kind} {self.namespace}/{self.name}"


class AuditLog:
    """The log of one API server; ``mark`` makes later reads begin there.

    A log that is read again and again while it grows is read with ``fresh``: each line once.
    """

    def __init__(self, path: pathlib.Path | str) -> None:
        self._path = pathlib.Path(path)
        self._offset = 0

    def mark(self) -> None:
        """Forget what was logged until now."""
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def entries(
        self,
        *,
        resource: str = "",
        namespace: str = "",
        name: str = "",
        user_agent: str = "",
        verb: str = "",
        status: int | None = None,
    ) -> list[Entry]:
        """Finished requests since the mark (``user_agent``: its beginning), oldest first."""
        return [
            entry
            for entry in self._read()
            if resource in {"", entry.resource}
            and namespace in {"", entry.namespace}
            and name in {"", entry.name}
            and entry.user_agent.startswith(user_agent)
            and verb in {"", entry.verb}
            and status in {None, entry.status}
        ]

    def writes(
        self,
        *,
        resource: str = "",
        namespace: str = "",
        name: str = "",
        user_agent: str = "",
        status: int | None = None,
    ) -> list[Entry]:
        """Only those that may have changed something."""
        found = self.entries(
            resource=resource, namespace=namespace, name=name, user_agent=user_agent, status=status
        )
        return [entry for entry in found if entry.is_write]

    def fresh(self) -> list[Entry]:
        """Finished requests since the mark, which moves behind them."""
        text = self._text()
        self._offset += len(text)
        return _entries(text)

    def _read(self) -> list[Entry]:
        return _entries(self._text())

    def _text(self) -> bytes:
        """Whole lines since the mark."""
        if not self._path.exists():
            return b""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        return text[: text.rfind(b"\n") + 1]  # what follows the last line end is half a line


def counts(entries: list[Entry]) -> collections.Counter[tuple[str, str, int]]:
    """How often each (verb, target, status) occurs."""
    return collections.Counter((e.verb, e.target, e.status) for e in entries)


def _entries(text: bytes) -> list[Entry]:
    events = (json.loads(line) for line in text.splitlines())
    return [_entry(e) for e in events if e.get("stage") == "ResponseComplete"]


def _entry(event: dict[str, Any]) -> Entry:
    reference = event.get("objectRef", {})
    return Entry(
        verb=event["verb"],
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        user=event.get("user", {}).get("username", ""),
        user_agent=event.get("userAgent", ""),
        status=event.get("responseStatus", {}).get("code", 0),
        received=dt.datetime.fromisoformat(event["requestReceivedTimestamp"]),
        at=dt.datetime.fromisoformat(event["stageTimestamp"]),
    )
