"""Parameter types shared by commands."""

from __future__ import annotations

import re

import click

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


class Duration(click.ParamType[float]):
    """Seconds, written as Go writes durations (``15s``, ``1m30s``, ``500ms``) or as a number."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; fails with what is accepted."""
        text = str(value)
        parts = DURATION.findall(text)
        if parts and "".join(a + b for a, b in parts) == text:
            seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        else:
            try:
                seconds = float(text)
            except ValueError:
                self.fail(f"{text!r} is no duration; write 15s, 1m30s or 500ms", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{text!r} is not longer than nothing", param, ctx)
        return seconds


DURATION_TYPE = Duration()


class Namespace(click.ParamType[str]):
    """The name of a namespace; one that no namespace can have would be waited for for ever."""

    name = "namespace"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The name; fails when it is no DNS label."""
        text = str(value)
        if not LABEL.fullmatch(text):
            self.fail(
                f"{text!r} is no name of a namespace: small letters, digits and '-', 63 at most",
                param,
                ctx,
            )
        return text


NAMESPACE_TYPE = Namespace()
