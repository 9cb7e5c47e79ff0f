"""Log lines for people (text) and for machines (JSON), out of the same records.

A record is a constant message and fields (``extra={...}``); both formats write the fields out.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any, Final, Literal, TextIO

from dpucluster import errors
from dpucluster.kube import exchange

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record carries; everything else came through ``extra``."""

Format = Literal["text", "json"]


def setup(format: str, verbosity: int, stream: TextIO | None = None) -> None:  # noqa: A002 - the flag's name
    """Send the process's log to ``stream`` (standard error).

    ``verbosity`` 0 shows what an operator of the program needs, 1 also this project's details,
    2 also every request to an API server and the details of libraries.
    Calling it again replaces what was set up before.

    Raises:
        ConfigError: no such format.
    """
    formatters: dict[str, logging.Formatter] = {"text": TextFormatter(), "json": JsonFormatter()}
    if format not in formatters:
        raise errors.ConfigError(f"log format {format!r}: must be text or json")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatters[format])
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)
    own = logging.getLogger(__name__.partition(".")[0])
    own.setLevel(logging.DEBUG if verbosity > 0 else logging.INFO)
    exchange.log.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)


class TextFormatter(logging.Formatter):
    """``2026-01-01T00:00:00.000Z WARNING dpucluster.runtime.lease: message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        head = f"{_time(record)} {record.levelname:<7} {record.name}: {record.getMessage()}"
        line = " ".join((_one_line(head), *(f"{k}={_quote(v)}" for k, v in _fields(record))))
        trace = _traceback(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``ts``, ``level``, ``logger``, ``msg``, fields, ``stacktrace``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, Any] = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        for key, value in _fields(record):
            entry.setdefault(key, value)
        if trace := _traceback(self, record):
            entry["stacktrace"] = trace
        return json.dumps(entry, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord) -> str:
    moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    return ((k, v) for k, v in vars(record).items() if k not in _STANDARD)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _quote(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and text and not any(c in text for c in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
