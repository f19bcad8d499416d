"""The part of the page of figures about quantities: mIoU over, say, the number of scenes that a backbone learned from.

A source or an arm whose name is a number and a word, as "95 scenes" or "1000 steps", is a point of a curve over what
the word names; all that has the same other name is one line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...files.writes import write_atomically
from ..results import file_part
from ..rows import Row

_QUANTITY = re.compile(r"(\d+) (\w+)")
Line = dict[int, list[float]]  # quantity -> mIoU of each seed
Panel = tuple[str, str]  # what varies, the figure: "scenes", "linear probe"


def panels(rows: Iterable[Row]) -> dict[Panel, dict[str, Line]]:
    """What varies and the figure -> name of a line -> the line, where it has two points.

    A line is ascending in the quantity.
    """
    found: dict[Panel, dict[str, Line]] = {}
    for row in rows:
        if not row["mIoU"]:
            continue
        figure = row["measure"] if row["budget"] == "all" else f"{row['measure']}, {row['budget']}"
        for varied, line in ((row["source"], row["arm"]), (row["arm"], row["source"])):
            quantity = _QUANTITY.fullmatch(varied)
            if quantity is None:
                continue
            lines = found.setdefault((quantity[2], figure), {})
            lines.setdefault(line, {}).setdefault(int(quantity[1]), []).append(float(row["mIoU"]))
    kept = {
        panel: {
            name: dict(sorted(line.items()))
            for name, line in sorted(lines.items(), key=_by_number)
            if len(line) > 1
        }
        for panel, lines in sorted(found.items())
    }
    return {panel: lines for panel, lines in kept.items() if lines}


def _by_number(line: tuple[str, Line]) -> tuple[int, str]:
    """Lines of quantities ascending, those with a name behind them."""
    quantity = _QUANTITY.fullmatch(line[0])
    return (sys.maxsize, line[0]) if quantity is None else (int(quantity[1]), line[0])


def scaling_lines(rows: Iterable[Row], stem: str, folder: Path) -> list[str]:
    """The lines of the page, a picture in ``folder`` for each evaluation log that has curves."""
    by_log: dict[str, list[Row]] = {}
    for row in rows:
        by_log.setdefault(row["evaluation log"], []).append(row)
    lines = []
    for log, own in sorted(by_log.items()):
        drawn = panels(own)
        if not drawn:
            continue
        picture = folder / f"{stem}-{file_part(log)}-curves.png"
        draw_panels(drawn, picture, f"{log}: mIoU [%], dots are seeds")
        what = " and ".join(dict.fromkeys(quantity for quantity, _ in drawn))
        lines += [
            f"### Curves over {what} on {log}",
            "",
            f"![mIoU over {what}]({folder.name}/{picture.name})",
            "",
        ]
    return lines


def draw_panels(drawn: Mapping[Panel, Mapping[str, Line]], path: Path, title: str) -> None:
    """Draw each panel's lines: the mean over seeds, between the lowest and the highest, and a dot a seed.

    Panels of one figure are a row, those of one quantity a column; quantities are on a logarithmic axis.
    """
    from matplotlib.figure import Figure

    quantities = list(dict.fromkeys(quantity for quantity, _ in drawn))
    measures = list(dict.fromkeys(measure for _, measure in drawn))
    size = (4.6 * len(quantities), 3.2 * len(measures) + 0.4)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    grid = figure.subplots(len(measures), len(quantities), squeeze=False, sharey="row")
    for row, measure in enumerate(measures):
        for column, quantity in enumerate(quantities):
            axes = grid[row][column]
            for name, line in drawn.get((quantity, measure), {}).items():
                _draw(axes, name, line)
            ticks = sorted({x for line in drawn.get((quantity, measure), {}).values() for x in line})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel(quantity)
            axes.set_ylabel(measure if column == 0 else "")
            axes.spines[["top", "right"]].set_visible(False)
            if ticks:
                axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=9)
    with write_atomically(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _draw(axes: Any, name: str, line: Line) -> None:
    means = [sum(values) / len(values) for values in line.values()]
    (drawn,) = axes.plot(list(line), means, label=name)
    colour = drawn.get_color()
    axes.fill_between(
        list(line), [min(v) for v in line.values()], [max(v) for v in line.values()], color=colour, alpha=0.15
    )
    for quantity, values in line.items():
        axes.plot([quantity] * len(values), values, ".", color=colour)
