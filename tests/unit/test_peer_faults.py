"""K1 to K32, the faults of NVIDIA's Kamaji manager: each has a test here that names its number.

K31, that there is no test at all, is answered by this file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
FAULTS = range(1, 33)


def docstrings() -> Iterator[str]:
    """Those of all tests, wherever they are."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""


def test_every_fault_has_a_test() -> None:
    """K31: Each number begins the docstring of at least one test."""
    found = {int(m.group(1)) for text in docstrings() if (m := re.match(r"K(\d+): ", text))}
    assert set() == set(FAULTS) - found
    assert set() == found - set(FAULTS)
