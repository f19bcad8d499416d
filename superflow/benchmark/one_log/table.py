"""A benchmark's records as a table: every seed of every arm, and their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..markdown import table_lines
from .plan import Plan

LOOKUP = "label look-up, no network"
# column -> where a record has it
COLUMNS: dict[str, Sequence[str]] = {
    "mIoU": ("probe", "scores", "linear", "miou"),
    "frequent 7": ("probe", "scores", "linear", "frequent_miou"),
    "accuracy": ("probe", "scores", "linear", "accuracy"),
    "new places": ("probe", "scores", "linear, new places", "miou"),
    "not augmented": ("probe", "scores", "linear, not augmented", "miou"),
    "kNN": ("probe", "scores", "knn", "miou"),
    "voted": ("votes", "variants", "offline", "scores", "miou"),
    "same-frame control": ("votes", "variants", "offline", "control", "miou"),
    "causal": ("votes", "variants", "causal", "scores", "miou"),
    "train CPU s": ("cpu_seconds", "train"),
}


def table(plan: Plan, records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float | None]]]:
    """Arm -> column -> value of every seed, seeds ascending, arms in the plan's order, after the look-up control."""
    rows: dict[str, dict[str, list[float | None]]] = {}
    for arm in [LOOKUP, *(arm.name for arm in plan.arms)]:
        own = sorted((r for r in records if r["arm"] == arm), key=lambda r: r["seed"])
        if own:
            rows[arm] = {
                name: [figure_of(record, place) for record in own] for name, place in COLUMNS.items()
            }
    return rows


def figure_of(record: Any, place: Sequence[str]) -> float | None:
    """What a record has at a ``place`` of `COLUMNS`; None where there is nothing."""
    for key in place:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def markdown(rows: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """The table as text: mean over seeds, and every seed behind it."""
    columns = [
        name for name in COLUMNS if any(any(v is not None for v in row[name]) for row in rows.values())
    ]
    cells = ([arm, *(_cell(row[name]) for name in columns)] for arm, row in rows.items())
    return "\n".join(table_lines(["arm", *columns], cells))


def leakage_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which arms were measured on drives that their weights were trained on; no lines where none was."""
    found = {record["arm"]: record["leakage"]["recordings"] for record in records if record.get("leakage")}
    lines = [f"- {arm}: {', '.join(drives)}" for arm, drives in found.items() if drives]
    said = "Measured on drives that the weights were trained on (`--allow-leakage`), so too good:"
    return ["", said, "", *lines] if lines else []


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{sum(known) / len(known):.1f}"
    return mean if len(known) == 1 else f"**{mean}** ({' / '.join(f'{value:.1f}' for value in known)})"
