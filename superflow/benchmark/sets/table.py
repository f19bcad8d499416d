"""Figures of prepared sets as one table, with what each set is, its lists of scans, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...files.writes import write_text
from ..chart import draw_radar
from ..evidence.page import Backbone, Table, commands, leakage_lines, tables
from ..markdown import table_lines
from ..places.plan import NO_SOURCE
from ..rows import Row
from .plan import Protocol
from .run import ReadSet

MADE = "\\*"  # beside the name of a set of made data


def write_tables(
    out: Path,
    rows: Sequence[Row],
    protocols: Mapping[str, Protocol],
    sets: Mapping[str, ReadSet],
    failed: Sequence[str],
) -> str:
    """Write OUT/datasets.md and, where there are figures, OUT/datasets.png; returns the table alone.

    Args:
        rows: of OUT/places.csv. sets: those of this call; only their rows are shown.
        failed: what could not be measured, in words.
    """
    own = [row for row in rows if row["evaluation log"] in sets]
    own.sort(key=lambda row: _order((row["source"], row["arm"])))
    found = tables(own)
    lines = markdown(found, protocols, sets)
    page = [
        "# Backbones on prepared sets",
        "",
        "mIoU [%] at the end of training; the highest on the way is in places.csv.",
        "",
    ]
    page += [*lines, "", *leakage_lines(own), *_about_sets(sets), "", *_lists(own), *_failures(failed)]
    if draw_radar(radar_values(found, protocols, sets), out / "datasets.png"):
        page += ["![mIoU of each protocol, an axis for each set](datasets.png)", ""]
    page += commands(own)
    write_text(out / "datasets.md", "\n".join(page).rstrip() + "\n")
    return "\n".join([*lines, *leakage_lines(own)]).rstrip()


def markdown(
    found: Mapping[tuple[str, str], Table], protocols: Mapping[str, Protocol], sets: Mapping[str, ReadSet]
) -> list[str]:
    """A row for each set and backbone, a column for each protocol; "-" where there is no figure."""
    titles = [protocol.title for protocol in protocols.values()]
    rows = []
    for name, known in sets.items():
        cells = {title: _column(found, name, protocol) for title, protocol in zip(titles, protocols.values())}
        for backbone in sorted({backbone for column in cells.values() for backbone in column}, key=_order):
            shown = [cells[title].get(backbone, "-") for title in titles]
            rows.append([f"{name}{'' if known.real else MADE}", backbone[1], *shown])
    lines = table_lines(["set", "backbone", *titles], rows)
    if not all(known.real for known in sets.values()):
        lines += ["", f"{MADE} made data"]
    return lines


def _order(backbone: Backbone) -> tuple[bool, str]:
    return backbone[0] == NO_SOURCE, backbone[1]


def _column(found: Mapping[tuple[str, str], Table], name: str, protocol: Protocol) -> dict[Backbone, str]:
    table = found.get((name, protocol.figure), {})
    return {
        backbone: cells[protocol.budget].text()
        for backbone, cells in table.items()
        if protocol.budget in cells and cells[protocol.budget].values
    }


def radar_values(
    found: Mapping[tuple[str, str], Table], protocols: Mapping[str, Protocol], sets: Mapping[str, ReadSet]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Panel -> backbone -> spoke -> mean over the seeds, None where there is no figure.

    A panel for each protocol with a spoke for each set; one or two sets, which make no radar, share a single panel with
    a spoke for each of their protocols.
    """
    values: dict[str, dict[str, dict[str, float | None]]] = {}
    apart = len(sets) > 2
    spokes: dict[str, dict[str, None]] = {}
    for protocol in protocols.values():
        for name, known in sets.items():
            marked = name if known.real else f"{name}*"
            panel = protocol.title if apart else "all protocols"
            spoke = marked if apart else f"{marked}\n{protocol.title}"
            spokes.setdefault(panel, {})[spoke] = None
            for backbone, cells in found.get((name, protocol.figure), {}).items():
                cell = cells.get(protocol.budget)
                if cell is not None and cell.values:
                    values.setdefault(panel, {}).setdefault(backbone[1], {})[spoke] = cell.mean
    return {
        panel: {name: {spoke: line.get(spoke) for spoke in spokes[panel]} for name, line in lines.items()}
        for panel, lines in values.items()
    }


def _about_sets(sets: Mapping[str, ReadSet]) -> list[str]:
    heads = ("set", "labels", "data", "scans learned from", "judged", "split")
    return table_lines(
        heads,
        (
            [
                name,
                own.label_set,
                "recorded" if own.real else "made",
                f"{own.train}",
                f"{own.evaluate}",
                own.split,
            ]
            for name, own in sets.items()
        ),
    )


def _lists(rows: Sequence[Row]) -> list[str]:
    named: dict[tuple[str, str, str], None] = dict.fromkeys(
        (row["evaluation log"], row["budget"], row["token list"]) for row in rows if row["token list"]
    )
    shown = ([name, budget, f"[{path}]({path})"] for name, budget, path in named)
    return [*table_lines(("set", "budget", "scans with labels"), shown), ""] if named else []


def _failures(failed: Sequence[str]) -> list[str]:
    return ["**Failed**", "", *(f"- {reason}" for reason in failed), ""] if failed else []
