"""A benchmark's table as a picture: two bars an arm (all points, new places), a dot a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files.writes import write_atomically

# column of the table -> colour of its bars
COLUMNS = {"mIoU": "#7fa6d1", "new places": "#cfdfef"}
DOT = "#1c2330"


def draw_chart(
    rows: Mapping[str, Mapping[str, Sequence[float | None]]], path: Path, *, leave_out: Sequence[str] = ()
) -> int:
    """Draw the means and every seed of a benchmark's table as horizontal bars.

    Args:
        rows: arm -> column -> value of every seed, from `table.table`.
        path: PNG that is written.
        leave_out: arms that would stretch the axis, such as controls that are not methods.

    Returns:
        The number of bars; 0, and no file, when nothing was measured.
    """
    from matplotlib.figure import Figure

    arms = {arm: row for arm, row in rows.items() if arm not in leave_out and _known(row, "mIoU")}
    if not arms:
        return 0
    figure = Figure(figsize=(8, 0.9 + 0.52 * len(arms)), dpi=120, layout="constrained")
    axes = figure.subplots()
    bars = 0
    for place, row in enumerate(arms.values()):
        for number, (column, colour) in enumerate(COLUMNS.items()):
            values = _known(row, column)
            if not values:
                continue
            at = place + (number - 0.5) * 0.38
            mean = sum(values) / len(values)
            axes.barh(at, mean, 0.36, color=colour)
            axes.plot(values, [at] * len(values), ".", color=DOT, markersize=4)
            axes.text(max(values) + 0.5, at, f"{mean:.1f}", va="center", fontsize=8)
            bars += 1
    axes.set_yticks(range(len(arms)), list(arms))
    axes.invert_yaxis()
    axes.set_xlabel("linear-probe mIoU [%], dots are seeds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*_legend(), loc="outside upper right", ncols=len(COLUMNS), frameon=False)
    with write_atomically(path) as file:
        figure.savefig(file, format="png")
    return bars


def _known(row: Mapping[str, Sequence[float | None]], column: str) -> list[float]:
    return [value for value in row.get(column, ()) if value is not None]


def _legend() -> tuple[list, list[str]]:
    from matplotlib.patches import Patch

    return [Patch(color=colour) for colour in COLUMNS.values()], list(COLUMNS)
