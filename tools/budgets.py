"""Holds the size budgets of docs/architecture.md: modules and functions stay small.

Run by ``make check``. Prints the figures; exits with 1 when a budget is exceeded.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 400
FUNCTION_LINES = 60
NINE_IN_TEN_LINES = 30


def functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of every function, its docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                length -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield node.name, node.lineno, length


def main() -> int:
    """Measure ``src`` and print what exceeds a budget."""
    root = Path(__file__).resolve().parent.parent / "src"
    lengths: list[int] = []
    problems: list[str] = []
    modules = sorted(root.rglob("*.py"))
    for path in modules:
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(root.parent)
        lines = text.count("\n")
        if lines > MODULE_LINES:
            problems.append(f"{where}: {lines} lines, the budget is {MODULE_LINES}")
        for name, line, length in functions(ast.parse(text)):
            lengths.append(length)
            if length > FUNCTION_LINES:
                problems.append(f"{where}:{line} {name}: {length} lines > {FUNCTION_LINES}")
    ninth = statistics.quantiles(lengths, n=10)[-1]
    if ninth > NINE_IN_TEN_LINES:
        problems.append(f"90 % of functions have ≤ {ninth:.0f} lines > {NINE_IN_TEN_LINES}")
    print(
        f"{len(modules)} modules, {len(lengths)} functions: "
        f"median {statistics.median(lengths):.0f}, p90 {ninth:.0f}, max {max(lengths)} lines"
    )
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
