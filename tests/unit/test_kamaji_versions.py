"""Which version is asked of Kamaji, by the skew rules."""

from __future__ import annotations

import pytest

from dpucluster.managers.kamaji import versions

# in the spec, asked for last, installed → asked for now, problem
TABLE: dict[str, tuple[str, str, str, str, str]] = {
    "new": ("v1.30.2", "", "", "v1.30.2", ""),
    "new, without v": ("1.30.2", "", "", "v1.30.2", ""),
    "new, of any minor": ("v1.99.0", "", "", "v1.99.0", ""),
    "a pre-release": ("v1.31.0-rc.1", "", "", "v1.31.0-rc.1", ""),
    "a build of somebody's": ("v1.30.2+k3s1", "", "", "v1.30.2+k3s1", ""),
    "unchanged": ("v1.30.2", "v1.30.2", "v1.30.2", "v1.30.2", ""),
    "another patch": ("v1.30.5", "v1.30.2", "v1.30.2", "v1.30.5", ""),
    "an older patch": ("v1.30.0", "v1.30.2", "v1.30.2", "v1.30.0", ""),
    "the next minor": ("v1.31.0", "v1.30.2", "v1.30.2", "v1.31.0", ""),
    "two minors": ("v1.32.0", "v1.30.2", "v1.30.2", "v1.30.2", versions.UNSUPPORTED),
    "a minor back": ("v1.29.0", "v1.30.2", "v1.30.2", "v1.30.2", versions.UNSUPPORTED),
    "a minor back before it was up": ("v1.29.0", "v1.30.2", "", "v1.30.2", versions.UNSUPPORTED),
    "another major": ("v2.0.0", "v1.30.2", "v1.30.2", "v1.30.2", versions.UNSUPPORTED),
    "the next while the last goes on": (
        "v1.32.0", "v1.31.0", "v1.30.2", "v1.31.0", versions.UNSUPPORTED,
    ),
    "back while an upgrade goes on": (
        "v1.30.2", "v1.31.0", "v1.30.2", "v1.31.0", versions.UNSUPPORTED,
    ),
    "another patch while an upgrade goes on": ("v1.31.1", "v1.31.0", "v1.30.2", "v1.31.1", ""),
    "the minor after next before it was up": (
        "v1.32.0", "v1.30.2", "", "v1.30.2", versions.UNSUPPORTED,
    ),
    "Kamaji names another than was asked for": ("v1.31.0", "v1.30.2", "odd", "v1.31.0", ""),
    "what was asked for is no version": ("v1.31.0", "latest", "", "v1.31.0", ""),
    "nonsense, new": ("latest", "", "", "", versions.INVALID_SPEC),
    "nonsense, later": ("latest", "v1.30.2", "v1.30.2", "v1.30.2", versions.INVALID_SPEC),
    "two parts": ("v1.30", "", "", "", versions.INVALID_SPEC),
    "a line more": ("v1.30.2\n", "", "", "", versions.INVALID_SPEC),
    "an image's syntax": ("v1.30.2@sha256:00", "", "", "", versions.INVALID_SPEC),
    "a path": ("v1.30.2/../x", "", "", "", versions.INVALID_SPEC),
    "digits of other scripts": ("v1.٣٠.2", "", "", "", versions.INVALID_SPEC),
}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "asked", "installed", "text", "reason"), TABLE.values(), ids=TABLE.keys()
)
def test_plan(wanted: str, asked: str, installed: str, text: str, reason: str) -> None:
    """K8: One minor at a time, never back; what cannot be is told, and nothing is changed."""
    found = versions.plan(wanted, asked=asked, installed=installed)
    assert (text, reason) == (found.text, found.problem.reason if found.problem else "")


def test_messages_say_what_to_set() -> None:
    """A version that is refused is answered with one that would be taken."""
    back = versions.plan("v1.29.0", asked="v1.30.2", installed="v1.30.2").problem
    far = versions.plan("v1.33.0", asked="v1.30.2", installed="v1.30.2").problem
    none = versions.plan("x\n" * 99, asked="", installed="").problem
    assert back is not None
    assert far is not None
    assert none is not None
    assert "set spec.version to v1.30.2 or newer" in back.message
    assert "upgrade to a release of v1.31 first" in far.message
    assert none.message.isprintable()
    assert len(none.message) < 250
