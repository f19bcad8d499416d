"""docs/agents.md has every status with which a server of `superflow serve` refuses a request."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path


def statuses(folder: Path) -> Iterator[int]:
    """First argument of each ``Refusal(...)`` that is a number."""
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_refusal = isinstance(node, ast.Call) and ast.unparse(node.func) == "Refusal"
            if is_refusal and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_every_status_is_explained(repository):
    page = (repository / "docs/agents.md").read_text(encoding="utf-8")
    table = page.split("\n| status | when |\n|---|---|\n")[1].split("\n\n")[0]
    named = {
        int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in cell.split(",")
    }
    routed = {404, 405}  # of the router, which says them by its own number
    assert named == set(statuses(repository / "superflow/agents/serving")) | routed
