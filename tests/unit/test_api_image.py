"""The grammar itself; that the API server agrees is tested against a real one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpucluster.api import image

PARTS = st.from_regex(r"\A[a-z0-9]+([._-][a-z0-9]+)?\Z")
HOSTS = st.sampled_from(["", "example.com/", "example.com:5000/", "[::1]:5000/", "localhost/"])
TAGS = st.one_of(st.just(""), st.from_regex(r"\A:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z"))
DIGESTS = st.one_of(st.just(""), st.from_regex(r"\A@sha256:[0-9a-fA-F]{64}\Z"))


@given(HOSTS, st.lists(PARTS, min_size=1, max_size=4), TAGS, DIGESTS)
def test_every_reference_is_accepted(host: str, path: list[str], tag: str, digest: str) -> None:
    """Host, path, tag and digest in their places are a reference."""
    assert image.is_reference(host + "/".join(path) + tag + digest)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("Upper", "capitals in the path"),
        ("a b", "a space"),
        ("https://example.com/a", "a scheme"),
        ("a:", "an empty tag"),
        ("a:" + "t" * 129, "a tag of 129"),
        ("a@sha256:" + "a" * 31, "a digest of 31 digits"),
        ("a@sha256:" + "x" * 64, "a digest that is not hexadecimal"),
        ("a@sha256:" + ":" * 64, "characters of the POSIX class read as a set"),
        ("a\n", "a line break at the end"),
        ("a:\u00e9", "a letter outside ASCII"),
    ],
)
def test_what_is_no_reference(text: str, reason: str) -> None:
    """What the grammar does not have is refused."""
    assert not image.is_reference(text), reason
