"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LEAKY = "†"  # behind a figure of a backbone that was trained on drives that it is judged on


def table_lines(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table: its heads, the rule below them, a line for each row of cells."""
    head, *body = ("| " + " | ".join(map(_cell, cells)) + " |" for cells in (heads, *rows))
    return [head, "|---" * len(heads) + "|", *body]


def _cell(text: str) -> str:
    """A name may hold what would end a cell or a row."""
    return " ".join(text.splitlines()).replace("|", "\\|") if "|" in text or "\n" in text else text
