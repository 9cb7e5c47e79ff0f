"""Configuration of keepalived from values: words stay words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpucluster.managers.kamaji import keepalived_conf
from dpucluster.managers.kamaji.keepalived_conf import Block


def test_render() -> None:
    """Blocks nest with an indent, numbers are written out, and the last line ends."""
    text = keepalived_conf.render(
        [("a", 1), Block(("b", "c"), [("@n", "d", "10.0.0.1/24"), Block(("e",), [("f",)])])]
    )
    expected = "a 1\nb c {\n    @n d 10.0.0.1/24\n    e {\n        f\n    }\n}\n"
    assert expected == text


BAD = ["", " ", "a b", "a\n", "\n", "a{", "}", "#", "a#b", "!", 'a"', "'a'", "$A", "${A}", "~SEQ",
       "a;b", "a\tb", "a\\", "é", "-a", "^a", "a\x00", "a\u2028", "`a`", "<a>", "a=b"]  # fmt: skip


@pytest.mark.parametrize("word", BAD)
def test_no_words(word: str) -> None:
    """K18: What could be more than one word, end a block or begin a comment is refused."""
    with pytest.raises(ValueError, match="is no word of a keepalived configuration"):
        keepalived_conf.render([(word,)])
    with pytest.raises(ValueError, match="is no word"):
        keepalived_conf.render([Block((word,), [])])


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12))
def test_a_word_is_one_word(text: str) -> None:
    """Whatever is let through is exactly one line of exactly that word."""
    try:
        rendered = keepalived_conf.render([(text,)])
    except ValueError:
        return
    assert [text] == rendered.split()
    assert f"{text}\n" == rendered
    assert not set(text) & set("{}#!\"'$~;\\=")
