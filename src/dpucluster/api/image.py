"""The grammar of container image references, as the DPFOperatorConfig's schema has it.

The schema is written for RE2, the engine of the API server. The one thing in it that Python's
``re`` reads differently is the POSIX class ``[[:xdigit:]]``; everything else means the same in
both when matched with ``re.ASCII`` and to the very end (``fullmatch``).
"""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_PATH: Final = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_NAME: Final = rf"(?:{_HOST}/)?{_PATH}(?:/{_PATH})*"
_TAG: Final = r"[\w][\w.-]{0,127}"
_DIGEST: Final = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9A-Fa-f]{32,}"

PATTERN: Final = rf"^({_NAME})(?::({_TAG}))?(?:@({_DIGEST}))?$"
"""Groups: name, tag, digest."""


def is_reference(text: str) -> bool:
    """Whether the API server accepts ``text`` as an image of a DPFOperatorConfig."""
    return re.fullmatch(PATTERN, text, re.ASCII) is not None
