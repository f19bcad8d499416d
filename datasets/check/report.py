"""What a check found: problems, notes and tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

_LISTED = 1000  # problems that a report lists; all are counted


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that must be mended: its kind, the file, and the sentence that a reader would raise."""

    kind: str
    file: str
    message: str


@dataclass
class Report:
    """What was found. ``problems`` must be mended; ``notes`` are worth a look but may be right."""

    dataset: dict[str, Any]
    counts: dict[str, int]
    sample: dict[str, int] | None = None  # what was read of the log; None: everything
    problem_counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)  # the first thousand
    notes: list[str] = field(default_factory=list)
    scenes: list[dict[str, Any]] = field(default_factory=list)
    clouds: dict[str, dict[str, float]] = field(default_factory=dict)  # quantity -> its spread, see clouds.py
    cameras: list[dict[str, Any]] = field(default_factory=list)  # one row a camera
    labels: list[dict[str, Any]] = field(default_factory=list)  # one row a class, then ignored
    categories: dict[str, int] = field(default_factory=dict)  # points of each name in category.json
    intensity: dict[str, float | str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problem_counts

    def add(self, problems: Iterable[Problem], *, first: bool = False) -> None:
        """Count the problems and list them, after those that are there or before them."""
        listed: list[Problem] = []
        for problem in problems:
            self.problem_counts[problem.kind] = self.problem_counts.get(problem.kind, 0) + 1
            if len(listed) < _LISTED:
                listed.append(problem)
        self.problems = (listed + self.problems if first else self.problems + listed)[:_LISTED]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {"ok": self.ok, **asdict(self)}
