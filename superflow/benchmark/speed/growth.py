"""How time and memory grow: voxels, kernel maps, votes, regions, the index of a log, and a step of a network."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from ...files.writes import write_atomically
from ..rows import RowFile
from .growth_parts import PARTS
from .options import Options, Table
from .turns import available_memory_mb, timed_in_fresh_process

_MB = 2**20


@dataclass(frozen=True, slots=True)
class Figure:
    """One part at one size: seconds of a call, memory of its process [MB], and what the machine did beside it."""

    part: str
    size: int
    seconds: float
    added_mb: float
    peak_mb: float
    process_s: float  # CPU time with making what is called
    sgemm_gflops: float
    load: float


_COLUMNS = tuple(Figure.__annotations__)


def measure(options: Options) -> list[Table]:
    """Time and memory of every part at every size that the budget and the memory of the machine allow."""
    figures = _COLUMNS[1:]
    file = None
    if options.keep is not None:
        file = RowFile(options.keep, ("part", "size"), _COLUMNS, numbers=figures, needed=figures)
    known = {(figure.part, figure.size): figure for figure in _read(file)}
    left_s, left_out, stopped = options.budget_s, list[str](), set[str]()
    for size in sorted(options.sizes):
        for name, part in PARTS.items():
            if size > part.most or (name, size) in known or name in stopped:
                continue
            before = [figure for (of, _), figure in known.items() if of == name]
            if reason := _too_much(before, size, left_s):
                left_out.append(f"{name} of {size:,} {part.unit} and more: left out, {reason}.")
                stopped.add(name)
                continue
            found = _measured(name, size, options)
            left_s -= found.process_s
            known[name, size] = found
            if file is not None:
                file.add([{key: str(value) for key, value in asdict(found).items()}])
    return [_table(list(known.values()), left_out)]


def _measured(name: str, size: int, options: Options) -> Figure:
    alone = timed_in_fresh_process(PARTS[name].make, size, rounds=options.rounds, clock=options.clock)
    return Figure(
        part=name,
        size=size,
        seconds=median(alone.seconds),
        added_mb=alone.added_mb,
        peak_mb=alone.peak_mb,
        process_s=alone.process_s,
        sgemm_gflops=round(alone.ceilings["sgemm_gflops"], 1),
        load=round(os.getloadavg()[0], 1),
    )


def _too_much(before: Sequence[Figure], size: int, left_s: float) -> str:
    """Why ``size`` is not measured, if cost goes on as between the two largest sizes before it; "" where it is."""
    if left_s <= 0:
        return "the budget is spent"
    smaller = sorted((figure for figure in before if figure.size < size), key=lambda figure: figure.size)
    if len(smaller) < 2:
        return ""
    first, last = smaller[-2:]
    beyond = (size - last.size) / (last.size - first.size)
    seconds = last.process_s + beyond * (last.process_s - first.process_s)
    megabytes = last.peak_mb + beyond * (last.peak_mb - first.peak_mb)
    if seconds > left_s:
        return f"it would take some {seconds:.0f} s of the {left_s:.0f} s that are left of the budget"
    free = available_memory_mb()
    if megabytes > free:
        return f"it would take some {megabytes / 1024:.0f} GB of the {free / 1024:.0f} GB that are free"
    return ""


def _read(file: RowFile | None) -> list[Figure]:
    """The figures that a file holds."""
    rows = [] if file is None else file.read()
    return [
        Figure(row["part"], int(row["size"]), *(float(row[name]) for name in _COLUMNS[2:])) for row in rows
    ]


def _table(figures: Sequence[Figure], notes: Sequence[str]) -> Table:
    sizes = sorted({figure.size for figure in figures})
    rows, record = [], {}
    for name, part in PARTS.items():
        own = sorted((figure for figure in figures if figure.part == name), key=lambda figure: figure.size)
        if not own:
            continue
        each = {figure.size: f"{1e9 * figure.seconds / figure.size:,.0f}" for figure in own}
        last = own[-1]
        record[name] = [asdict(figure) for figure in own]
        rows.append(
            [
                f"{name} ({part.unit})",
                *(each.get(size, "-") for size in sizes),
                f"{exponent([figure.size for figure in own], [figure.seconds for figure in own]):.2f}",
                f"{last.added_mb:,.0f}",
                f"{last.added_mb * _MB / last.size:,.0f}",
            ]
        )
    loads = [figure.load for figure in figures]
    beside = [figure.sgemm_gflops for figure in figures]
    conditions = (
        f"Each size in a process of its own; load {min(loads):.1f} to {max(loads):.1f}, "
        f"sgemm {min(beside):.0f} to {max(beside):.0f} GFLOP/s beside it."
    )
    columns = (
        *("part", *(f"{size:,}: µs a thousand" for size in sizes)),
        *("exponent", "MB that the largest adds", "bytes each"),
    )
    return Table("Growth with the size of the data", columns, rows, [conditions, *notes], record)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the line through the logarithms: 1 is linear. nan where there is one size only."""
    if len(sizes) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def draw_growth(record: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Seconds and memory with both axes logarithmic, a line a part, beside one that is linear.

    Args:
        record: of the table: part -> its figures, ascending by size.
        path: written as SVG where it ends so, else as PNG.
    """
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9.5, 4.2), dpi=100, layout="constrained")
    panels = drawing.subplots(1, 2)
    for axes, key, label in zip(panels, ("seconds", "added_mb"), ("seconds", "MB added")):
        for name, figures in record.items():
            drawn = [figure for figure in figures if figure[key] > 0]
            sizes, values = ([figure[of] for figure in drawn] for of in ("size", key))
            axes.loglog(sizes, values, "o-", markersize=4, label=f"{name} ({PARTS[name].unit})")
        low, high = axes.get_xlim()
        start = axes.get_ylim()[0]
        axes.loglog([low, high], [start, start * high / low], "--", color="#9aa3b0", label="linear")
        axes.set_xlabel("size")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    with write_atomically(path) as file:
        drawing.savefig(file, format="svg" if path.suffix == ".svg" else "png")
