"""Writes configuration of keepalived from values, and nothing that a value could turn it into.

A configuration is a tree of blocks of words. A word that could be more than one, end a block or
begin a comment is a bug of the caller: what users write is checked before (``endpoint``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

WORD: Final = re.compile(r"[A-Za-z0-9@:/][A-Za-z0-9@^_.:/-]*")
INDENT: Final = "    "


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """``words { … }``."""

    words: tuple[str, ...]
    lines: Sequence[Line]


Line: TypeAlias = "tuple[str | int, ...] | Block"


def render(lines: Sequence[Line]) -> str:
    """The text of a configuration file.

    Raises:
        ValueError: a word is none.
    """
    return "".join(f"{line}\n" for line in _rendered(lines, ""))


def _rendered(lines: Sequence[Line], indent: str) -> Iterator[str]:
    for line in lines:
        if isinstance(line, Block):
            yield f"{indent}{_words(line.words)} {{"
            yield from _rendered(line.lines, indent + INDENT)
            yield f"{indent}}}"
        else:
            yield indent + _words(line)


def _words(words: Sequence[str | int]) -> str:
    texts = [str(word) for word in words]
    for text in texts:
        if not WORD.fullmatch(text):
            raise ValueError(f"{text!a} is no word of a keepalived configuration")
    return " ".join(texts)
