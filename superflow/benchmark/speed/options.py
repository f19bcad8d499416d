"""What is measured, and the tables that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..markdown import table_lines

SIZES = (10_000, 100_000, 300_000, 1_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Options:
    """voxels: of the networks. size_m: side of a voxel, None for what each part has. depth: of the networks and of the
    student in ``parts`` and ``step``, None for what each part has. rounds: A B pairs that count. data: a prepared log,
    None for made streets. loaded: again beside busy cores. memory: peak memory, too, in fresh processes. clips: of a
    step. points: of a cloud in a step. sizes: of the growth. budget_s: CPU time that its sizes may take together. keep:
    file of its figures, which is gone on from. scans: of the log that is read. scenes: of the made
    tables. threads: of PyTorch. clock: of the ratios.
    """

    voxels: Sequence[int] = (20_000, 60_000)
    size_m: float | None = None
    depth: int | str | None = None
    rounds: int = 5
    data: Path | None = None
    loaded: bool = False
    memory: bool = False
    clips: int = 4
    points: int = 8000
    sizes: Sequence[int] = SIZES
    budget_s: float = 300.0
    keep: Path | None = None
    scans: int = 10_000
    scenes: int = 20
    threads: int = 1
    clock: str = "thread"

    def grid_m(self, default: float) -> float:
        """Side of a voxel [m]."""
        return self.size_m or default


@dataclass(frozen=True, slots=True)
class Table:
    """Figures: a title, columns, rows of words, sentences below; and the record that they come from."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    record: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table as text."""
        lines = [f"### {self.title}", "", *table_lines(self.columns, self.rows), "", *self.notes, ""]
        return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """From the smallest to the largest."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
