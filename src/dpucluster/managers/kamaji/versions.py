"""From the version that runs to the version that is wanted, by Kubernetes' skew rules. Pure."""

from __future__ import annotations

import dataclasses
import re
from typing import Final, NamedTuple

from dpucluster.sdk import Problem

VERSION: Final = re.compile(
    r"v?(\d{1,3})\.(\d{1,3})\.(\d{1,4})((?:[-+][0-9A-Za-z.+-]{1,60})?)", re.ASCII
)

UNSUPPORTED: Final = "UnsupportedVersion"
INVALID_SPEC: Final = "InvalidSpec"


class Version(NamedTuple):
    """A version of Kubernetes; ``text`` as Kamaji wants it, with a leading ``v``."""

    major: int
    minor: int
    patch: int
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class VersionPlan:
    """Which version is asked of Kamaji; ``problem``: why it is not the one in the spec."""

    text: str
    problem: Problem | None = None


def parse(text: str) -> Version | None:
    """The version, or None when it is none."""
    found = VERSION.fullmatch(text)
    if found is None:
        return None
    major, minor, patch = (int(part) for part in found.groups()[:3])
    return Version(major, minor, patch, text if text.startswith("v") else f"v{text}")


def plan(wanted: str, *, asked: str, installed: str) -> VersionPlan:
    """What to ask for now.

    ``asked`` is what was asked for last, ``installed`` what has been up last; both are empty for a
    new control plane.
    """
    target = parse(wanted)
    if target is None:
        shown = ascii(wanted[:60])
        text = f"spec.version {shown} is no version of Kubernetes; write it as v1.30.2"
        return VersionPlan(asked, Problem(INVALID_SPEC, text))
    before = parse(asked)
    if before is None:
        return VersionPlan(target.text)
    problem = _skew(before, parse(installed) or before, target)
    return VersionPlan(asked if problem else target.text, problem)


def _skew(before: Version, running: Version, target: Version) -> Problem | None:
    """Never back from what was asked for, at most one minor version ahead of what runs."""
    if target.major != before.major or target.minor < before.minor:
        return Problem(
            UNSUPPORTED,
            f"spec.version {target.text} is older than {before.text}, which was asked for before, "
            "and Kubernetes cannot go back a minor version; set spec.version to "
            f"{before.text} or newer",
        )
    if target.minor > running.minor + 1:
        step = f"v{running.major}.{running.minor + 1}"
        return Problem(
            UNSUPPORTED,
            f"spec.version {target.text} is more than one minor version ahead of {running.text}; "
            f"upgrade to a release of {step} first",
        )
    return None
