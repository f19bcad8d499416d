"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_lines(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table: its heads, the rule below them, a line for each row of cells."""
    head, *body = ("| " + " | ".join(cells) + " |" for cells in (heads, *rows))
    return [head, "|---" * len(heads) + "|", *body]
