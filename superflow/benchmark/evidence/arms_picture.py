"""Many ways of pretraining on several logs, as a picture: a row a way, a panel a figure, a colour a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files.writes import write_atomically
from .budget_picture import BASELINE_COLOUR, COLOURS

Backbone = tuple[str, str]  # source, arm
Figures = Mapping[str, Mapping[Backbone, Sequence[float]]]  # panel -> backbone -> figures of the seeds
_FEWEST_ARMS, _FEWEST_PANELS = 5, 2  # what a picture is worth; fewer are quicker read in a table
_MOST_APART = 0.5  # of the sources of one arm, in rows


def draw_arms(figures: Figures, path: Path, title: str, *, baseline: Backbone) -> list[str]:
    """Draw the mean of each source and arm with a dot a seed; the baseline is a line through each panel.

    Arms stand in the order of their best mean in the first panel.

    Args:
        path: PNG that is written.
        baseline: the backbone that others are held against.

    Returns:
        The arms in the order of their rows; none, and no file, where there is too little to draw.
    """
    from matplotlib.figure import Figure

    enough = {panel: of for panel, of in figures.items() if _arms_beside(baseline, of) >= _FEWEST_ARMS}
    if len(enough) < _FEWEST_PANELS:
        return []
    everyone = list(dict.fromkeys(who for of in enough.values() for who in of if who != baseline))
    sources = list(dict.fromkeys(source for source, _ in everyone))
    arms = _by_best(everyone, next(iter(enough.values())))
    width = 0.5 + 0.08 * max(map(len, arms)) + 2.6 * len(enough)
    figure = Figure(figsize=(width, 1.3 + 0.34 * len(arms)), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(enough), squeeze=False, sharey=True)[0]
    for axes, (panel, of) in zip(grid, enough.items()):
        if baseline in of:
            name = f"{baseline[1]} weights"
            axes.axvline(_mean(of[baseline]), color=BASELINE_COLOUR, linestyle=":", linewidth=1.2, label=name)
        for number, source in enumerate(sources):
            shift = _MOST_APART * ((number + 0.5) / len(sources) - 0.5)
            mine = {arms.index(arm) + shift: of[source, arm] for arm in arms if (source, arm) in of}
            _draw(axes, mine, COLOURS[number % len(COLOURS)], source)
        axes.set_title(panel, fontsize=9)
        axes.grid(color="#e3e6ea", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_yticks(range(len(arms)), arms)
    grid[0].invert_yaxis()
    figure.supxlabel(title, fontsize=9)
    entries = grid[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    with write_atomically(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return arms


def _arms_beside(baseline: Backbone, of: Mapping[Backbone, Sequence[float]]) -> int:
    return len({arm for source, arm in of if (source, arm) != baseline})


def _by_best(everyone: Sequence[Backbone], first: Mapping[Backbone, Sequence[float]]) -> list[str]:
    """The arms, those with the best source in the ``first`` panel first."""
    best: dict[str, float] = {}
    for source, arm in everyone:
        best[arm] = max(best.get(arm, 0.0), _mean(first.get((source, arm), (0.0,))))
    return sorted(best, key=lambda arm: -best[arm])


def _draw(axes: Any, rows: Mapping[float, Sequence[float]], colour: str, name: str) -> None:
    """One source in one panel: row -> figures of the seeds."""
    axes.plot([_mean(seeds) for seeds in rows.values()], list(rows), "o", color=colour, label=name)
    axes.hlines(list(rows), [min(s) for s in rows.values()], [max(s) for s in rows.values()], color=colour)
    for place, seeds in rows.items():
        axes.plot(seeds, [place] * len(seeds), ".", color=colour, markersize=5)


def _mean(seeds: Sequence[float]) -> float:
    return sum(seeds) / len(seeds)
