"""The report of `superflow prepare ... --check` as tables on the terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from superflow.datasets.check.report import Report

_WIDTH = 160  # of a line that goes to no terminal
_PRINTED = 10  # notes and problems; report.json has more
_QUANTITIES = {  # of Report.clouds, with what is printed before and behind the numbers
    "points": ("points", "{:,.0f}"),
    "range_m": ("range [m]", "{:.3g}"),
    "height_m": ("height over the sensor [m]", "{:.3g}"),
    "intensity": ("intensity in the file", "{:.3g}"),
    "origin_share": ("points at (0, 0, 0)", "{:.1%}"),
    "copies_share": ("copies of other points", "{:.1%}"),
}


def show_report(report: Report) -> None:
    """Print what was counted, how clouds and cameras look, the labels, then notes and problems."""
    console = _console()
    for table in (_counts(report), _clouds(report), _cameras(report), _labels(report)):
        if table.row_count:
            console.print(table)
    if report.sample is not None:
        console.print(f"sample: {_sample(report)}", markup=False, highlight=False, soft_wrap=True)
    for note in report.notes[:_PRINTED]:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if len(report.notes) > _PRINTED:
        console.print(f"... and {len(report.notes) - _PRINTED} more notes")
    for problem in report.problems[:_PRINTED]:
        console.print(f"{problem.kind}: {problem.message}", markup=False, highlight=False, soft_wrap=True)
    hidden = sum(report.problem_counts.values()) - _PRINTED
    if hidden > 0:
        console.print(f"... and {hidden} more")


def _console() -> Console:
    """Of the terminal's width; what is kept in a file or read by a program is as wide as the tables are."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    return console


def verdict(report: Report) -> str:
    """The last words about a log."""
    if not report.ok:
        return "see the problems above"
    return "nothing is wrong" if report.sample is None else "nothing is wrong in what was read"


def _sample(report: Report) -> str:
    read, there = report.sample, report.counts
    assert read is not None
    return (
        f"{read['key_frames']:,} of {there['key_frames']:,} key frames and {read['sweeps']:,} of {there['sweeps']:,} "
        f"sweeps were read, from {read['scenes']:,} of {there['scenes']:,} scenes; of the other files nothing is known"
    )


def _table(*heads: str, title: str) -> Table:
    """A table of these columns, which breaks a word in two where a terminal is narrow: names of cameras end alike."""
    from rich.table import Table

    table = Table(title=title)
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _counts(report: Report) -> Table:
    table = _table("", "count", title=f"{report.dataset['name']} {report.dataset['version']}")
    wrong = ((f"WRONG: {kind}", count) for kind, count in report.problem_counts.items())
    for name, count in [*report.counts.items(), *wrong]:
        table.add_row(name.replace("_", " "), f"{count:,}")
    return table


def _clouds(report: Report) -> Table:
    from rich.markup import escape

    table = _table("of a scan", "smallest", "1 %", "median", "99 %", "largest", title="clouds")
    for name, spread in report.clouds.items():
        label, form = _QUANTITIES[name]
        table.add_row(escape(label), *(form.format(value) for value in spread.values()))
    return table


def _cameras(report: Report) -> Table:
    # [m] is no tag of rich's: escaped
    heads = ("images", "points on image", "smallest", "frames with any", r"depth \[m]", "brightness")
    table = _table("camera", *heads, title="points on the images")

    def said(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    for row in report.cameras:
        table.add_row(
            row["camera"],
            f"{row['images']:,}",
            said(row["points_share"], "{:.2%}"),
            said(row["smallest_share"], "{:.2%}"),
            said(row["frames_with_points"], "{:.1%}"),
            said(row["depth_m"], "{:.1f}"),
            said(row["brightness"], "{:.0f}"),
        )
    return table


def _labels(report: Report) -> Table:
    table = _table("class", "points", "share", "frames", title="labels")
    for row in report.labels:
        table.add_row(row["class"], f"{row['points']:,}", f"{row['share']:.2%}", f"{row['frames']:,}")
    return table
