"""The part of the page of figures about draws of labels: what a backbone gains over scratch on the same scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..markdown import LEAKY, table_lines
from ..rows import Row

_EXPLANATION = (
    "Points of mIoU ahead of random weights that learned from the same labelled scans: the mean over the draws, the "
    "lowest and the highest. Bold where it is ahead on each of three draws or more. Which scans are drawn moves both, "
    "so that these differences say more than ranges that overlap."
)
_FEWEST = 3  # draws of a difference that is bold


def paired_lines(rows: Iterable[Row], scratch: tuple[str, str], budgets: Sequence[str]) -> list[str]:
    """A table of differences to the backbone ``scratch`` (source, arm); no lines where no draw is shared.

    Args:
        rows: of one measure on one log. budgets: the columns, in their order.
    """
    figures: dict[tuple[str, str], dict[str, dict[str, Row]]] = {}
    for row in rows:
        if row["mIoU"]:
            table = figures.setdefault((row["source"], row["arm"]), {})
            table.setdefault(row["budget"], {})[row["seed"]] = row
    baseline = figures.pop(scratch, {})
    lines = []
    for backbone, table in figures.items():
        pairs = [_pairs(table.get(budget, {}), baseline.get(budget, {})) for budget in budgets]
        if any(pairs):
            lines.append([*backbone, *map(_text, pairs)])
    if not lines:
        return []
    return [_EXPLANATION, "", *table_lines(["pretrained on", "arm", *budgets], lines), ""]


def _pairs(own: Mapping[str, Row], baseline: Mapping[str, Row]) -> list[tuple[Row, Row]]:
    """Of each seed whose labels were the same."""
    return [
        (row, baseline[seed])
        for seed, row in own.items()
        if seed in baseline and _same_labels(row, baseline[seed])
    ]


def _same_labels(row: Row, other: Row) -> bool:
    """Whether both name the same list of scans. Tables of before name none; a seed draws the same of one log."""
    lists = {row["token list"], other["token list"]}
    return len(lists) == 1 if "" not in lists else row["split hash"] == other["split hash"]


def _text(pairs: Sequence[tuple[Row, Row]]) -> str:
    if not pairs:
        return "-"
    gains = [float(row["mIoU"]) - float(other["mIoU"]) for row, other in pairs]
    mark = LEAKY if any(row["leakage"] for pair in pairs for row in pair) else ""
    mean = f"{sum(gains) / len(gains):+.1f}"
    if len(gains) == 1:
        return f"{mean}{mark}"
    shown = f"**{mean}**" if len(gains) >= _FEWEST and min(gains) > 0 else mean
    return f"{shown}{mark} ({min(gains):+.1f} to {max(gains):+.1f})"
