"""A benchmark's table as a picture: bars of arms (all points, new places) with a dot a seed, or a radar of sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def draw_radar(panels: Mapping[str, Mapping[str, Mapping[str, float | None]]], path: Path) -> int:
    """Draw a radar for each panel: a spoke for each axis, a closed line for each name, from 0 to the highest value.

    Args:
        panels: title -> name -> axis -> value, None for a gap; all names of a panel have the same axes.
        path: PNG that is written.

    Returns:
        The number of lines; 0, and no file, without any value.
    """
    from matplotlib.figure import Figure

    if not panels:
        return 0
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.2 * columns, 4.2 * rows + 0.5), dpi=120, layout="constrained")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    highest = max(
        v for panel in panels.values() for line in panel.values() for v in line.values() if v is not None
    )
    lines: dict[str, Any] = {}
    drawn = 0
    for number, (title, panel) in enumerate(panels.items(), start=1):
        spokes = list(next(iter(panel.values())))
        angles = [2 * math.pi * i / len(spokes) for i in range(len(spokes))]
        axes: Any = figure.add_subplot(rows, columns, number, projection="polar")
        for name, line in panel.items():
            values = [math.nan if line[spoke] is None else line[spoke] for spoke in spokes]
            colour = f"C{names.index(name)}"
            (lines[name],) = axes.plot(
                [*angles, angles[0]], [*values, values[0]], "o-", color=colour, markersize=3
            )
            axes.fill(angles, values, color=colour, alpha=0.1)
            drawn += 1
        axes.set_theta_offset(math.pi / 2)
        axes.set_xticks(angles, spokes, fontsize=8)
        axes.set_ylim(0, max(1.0, 1.05 * highest))
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(title, fontsize=10)
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("mIoU [%]; * made data", fontsize=9)
    with write_atomically(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return drawn


def _known(row: Mapping[str, Sequence[float | None]], column: str) -> list[float]:
    return [value for value in row.get(column, ()) if value is not None]


def _legend() -> tuple[list, list[str]]:
    from matplotlib.patches import Patch

    return [Patch(color=colour) for colour in COLUMNS.values()], list(COLUMNS)
