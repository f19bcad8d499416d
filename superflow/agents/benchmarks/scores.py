"""Rows of figures, and rows as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of some questions.

    Attributes:
        name: of what is measured. questions: how many. figures: name -> value; None where there is nothing to measure.
    """

    name: str
    questions: int
    figures: Mapping[str, float | None]


def table(rows: Sequence[Scores]) -> str:
    """Rows below a line of names; values have two digits, those that are missing a dash."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [["", "questions", *names]]
    for row in rows:
        values = (row.figures.get(name) for name in names)
        lines.append([row.name, str(row.questions), *("-" if v is None else f"{v:.2f}" for v in values)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        f"{first:<{widths[0]}}" + "".join(f"  {word:>{width}}" for word, width in zip(rest, widths[1:]))
        for first, *rest in lines
    )


def percent(hits: Sequence[float]) -> float | None:
    """The mean of hits, or of shares of one, in per cent; None of none."""
    return 100.0 * sum(hits) / len(hits) if hits else None
