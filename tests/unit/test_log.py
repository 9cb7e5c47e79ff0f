"""Log lines for people and for machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from dpucluster import errors
from dpucluster.kube import exchange
from dpucluster.runtime import log as runtime_log

OWN = logging.getLogger("dpucluster.some.module")
FOREIGN = logging.getLogger("library")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; what was set up before is put back."""
    loggers = [logging.getLogger(), logging.getLogger("dpucluster"), exchange.log]
    handlers, levels = loggers[0].handlers[:], [logger.level for logger in loggers]
    yield io.StringIO()
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_text(stream: io.StringIO) -> None:
    """A text line has time, level, logger, message and fields; what needs quotes has them."""
    runtime_log.setup("text", 0, stream)
    OWN.warning("something happened", extra={"object": "ns/a", "error": 'a "b" c', "empty": ""})
    moment, _, rest = stream.getvalue().partition(" ")
    assert moment.endswith("Z")
    assert (
        "WARNING dpucluster.some.module: something happened "
        'object=ns/a error="a \\"b\\" c" empty=""\n'
    ) == rest


def test_json(stream: io.StringIO) -> None:
    """A JSON line is one object of strings and numbers; a field cannot replace the message."""
    runtime_log.setup("json", 0, stream)
    OWN.info("something happened", extra={"object": "ns/a", "count": 3, "level": "x"})
    entry = json.loads(stream.getvalue())
    assert entry.pop("ts").endswith("Z")
    assert {
        "level": "info",
        "logger": "dpucluster.some.module",
        "msg": "something happened",
        "object": "ns/a",
        "count": 3,
    } == entry


def test_traceback(stream: io.StringIO) -> None:
    """A traceback is a field in JSON and follows its line in text."""
    for name in ("json", "text"):
        runtime_log.setup(name, 0, stream)
        OWN.error("failed", exc_info=ZeroDivisionError("oops"))
    first, _, rest = stream.getvalue().partition("\n")
    assert "ZeroDivisionError: oops" in json.loads(first)["stacktrace"]
    assert "ZeroDivisionError: oops" == rest.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["text", "json"])
def test_one_line(stream: io.StringIO, name: str) -> None:
    """Nothing from outside can begin a line of its own."""
    runtime_log.setup(name, 0, stream)
    OWN.warning("a\nb", extra={"error": "c\nd\re\u2028f"})
    assert 1 == len(stream.getvalue().strip().split("\n"))
    assert "\r" not in stream.getvalue()


LEVELS = {
    0: ["own info", "foreign warning"],
    1: ["own debug", "own info", "foreign warning"],
    2: ["own debug", "own info", "request", "foreign debug", "foreign warning"],
}


@pytest.mark.parametrize(("verbosity", "wanted"), LEVELS.items())
def test_verbosity(stream: io.StringIO, verbosity: int, wanted: list[str]) -> None:
    """Each -v shows more: first of this project, then every request, and libraries."""
    runtime_log.setup("json", verbosity, stream)
    OWN.debug("own debug")
    OWN.info("own info")
    exchange.log.debug("request")
    FOREIGN.debug("foreign debug")
    FOREIGN.warning("foreign warning")
    assert wanted == [json.loads(line)["msg"] for line in stream.getvalue().splitlines()]


def test_set_up_twice(stream: io.StringIO) -> None:
    """Setting up again replaces, so that no line comes twice."""
    runtime_log.setup("text", 0, stream)
    runtime_log.setup("text", 0, stream)
    OWN.info("once")
    assert 1 == stream.getvalue().count("once")


def test_unknown_format(stream: io.StringIO) -> None:
    """A format that does not exist is refused."""
    with pytest.raises(errors.ConfigError, match="xml"):
        runtime_log.setup("xml", 0, stream)
