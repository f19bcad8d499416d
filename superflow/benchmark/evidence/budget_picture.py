"""Figures of several backbones at the same budgets of labels, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files.writes import write_atomically

Panels = Mapping[str, Mapping[str, Sequence[float]]]  # panel -> budget -> figures of the seeds
BASELINE_COLOUR = "#1c2330"
COLOURS = ("#c8553d", "#2f6690", "#588157", "#8e6c8a", "#b08900", "#3a9ea5")
_FEWEST = 3  # budgets that a picture is worth; two are quicker read in a table
_INCHES = 8.4
_WIDTH = 0.5  # of all backbones at one budget


def draw_budgets(figures: Mapping[str, Panels], path: Path, title: str, *, baseline: str) -> list[str]:
    """Draw the mean of each backbone at each budget, with a dot a seed and a line from the lowest to the highest.

    Only backbones that have all budgets are drawn, so that no line leads over what was not measured; where there are
    few of them they can be told apart. Budgets of one panel are joined, those of two are not: some points of many
    scans and all points of few are different things to label.

    Args:
        figures: backbone -> panel -> budget -> figures of the seeds.
        path: PNG that is written.
        baseline: the backbone that others are held against.

    Returns:
        Names of the backbones that are drawn; none, and no file, where nobody beside the baseline has as many as three.
    """
    from matplotlib.figure import Figure

    own = {
        name: {(panel, budget) for panel, budgets in panels.items() for budget in budgets}
        for name, panels in figures.items()
    }
    every = set().union(*own.values())
    drawn = [name for name in figures if own[name] == every and len(every) >= _FEWEST]
    if drawn in ([], [baseline]):
        return []
    panels = figures[drawn[0]]
    entry = 0.6 + 0.068 * max(map(len, drawn))  # inches of the legend's widest: its mark and its letters
    figure = Figure(figsize=(_INCHES, 4.4), dpi=120, layout="constrained")
    ratios = [len(budgets) + 0.3 for budgets in panels.values()]
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=ratios)[0]
    for number, (axes, (panel, budgets)) in enumerate(zip(grid, panels.items())):
        for place, name in enumerate(drawn):
            shift = _WIDTH * ((place + 0.5) / len(drawn) - 0.5)
            colour = BASELINE_COLOUR if name == baseline else COLOURS[place % len(COLOURS)]
            _draw(axes, figures[name][panel], shift, colour, name)
        axes.set_xticks(range(len(budgets)), list(budgets), fontsize=8)
        axes.set_xlim(-0.5, len(budgets) - 0.5)
        axes.set_title(panel, fontsize=9)
        axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel(title if number == 0 else "")
    entries = grid[0].get_legend_handles_labels()
    figure.legend(
        *entries, loc="outside lower center", ncols=max(1, int(_INCHES / entry)), frameon=False, fontsize=9
    )
    with write_atomically(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return drawn


def _draw(axes: Any, budgets: Mapping[str, Sequence[float]], shift: float, colour: str, name: str) -> None:
    """One backbone in one panel."""
    at = [place + shift for place in range(len(budgets))]
    means = [sum(seeds) / len(seeds) for seeds in budgets.values()]
    axes.plot(at, means, "o-", color=colour, label=name, markersize=5, linewidth=1.2)
    axes.vlines(
        at, [min(s) for s in budgets.values()], [max(s) for s in budgets.values()], color=colour, alpha=0.5
    )
    for x, seeds in zip(at, budgets.values()):
        axes.plot([x] * len(seeds), seeds, ".", color=colour, markersize=4, alpha=0.8)
