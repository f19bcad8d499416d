"""A page of figures from the rows of benchmarks of places: means, spread, what labels buy, and how each was made."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, MissingFileError
from ...files.access import read_text
from ...files.writes import write_text
from ..markdown import LEAKY, table_lines
from ..places.plan import NO_SOURCE
from ..results import file_part
from ..rows import TRIAL_KEY, Row, RowFile
from .arms_picture import draw_arms
from .budget_picture import draw_budgets
from .paired_table import paired_lines
from .robustness_table import ROBUSTNESS, robustness_lines
from .scaling_curves import scaling_lines
from .ties import leaders
from .trial_table import trial_lines

SCRATCH = (NO_SOURCE, "random")  # the backbone that others are compared with
TRIALS = "recipes"  # a table whose name ends so holds trials on held-out places
CURVE = "fine-tuning"  # the measure of which curves are drawn
_RANKED = ("linear probe", CURVE)  # measures of which ways of pretraining are drawn
_SHARED = ("split hash", "settings hash", "label set")  # of all seeds of a figure


@dataclass(frozen=True)
class Cell:
    """The figures of all seeds of one backbone, log, measure and budget.

    labelled: mean number of labelled points. cpu: mean CPU seconds of pretraining. leaky: the backbone was trained on
    drives that it is judged on.
    """

    values: tuple[float, ...]
    labelled: float | None
    cpu: float | None = None
    leaky: bool = False

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    def text(self, *, leads: bool = False) -> str:
        """The mean, bold where it leads; with several seeds also the lowest and the highest, and how many there are."""
        mark = LEAKY if self.leaky else ""
        if len(self.values) == 1:
            return f"{self.mean:.1f}{mark}"
        mean = f"**{self.mean:.1f}**" if leads else f"{self.mean:.1f}"
        return f"{mean}{mark} ({min(self.values):.1f} to {max(self.values):.1f}, {len(self.values)} seeds)"


Backbone = tuple[str, str]  # source, arm
Table = dict[Backbone, dict[str, Cell]]  # budget -> cell


def write_page(folder: Path) -> Path:
    """Write FOLDER.md, and its pictures into ``folder``, from the tables in ``folder``.

    ``introduction.md`` there comes first, word for word; NAME.csv are figures, NAME_recipes.csv trials, and NAME.md,
    where there is one, has the heading and the text that come before them. Sections stand in the order in which the
    introduction links to their tables, those without a link behind, by name.

    Raises:
        MissingFileError: there is no table of figures.
        InputError: a table cannot be read, or one of trials has none of figures beside it.
    """
    _refuse_lone_trials(folder)
    files = [path for path in sorted(folder.glob("*.csv")) if not path.stem.endswith(TRIALS)]
    if not files:
        raise MissingFileError(
            f"{folder}: holds no table of figures; copy OUT/places.csv of a benchmark there"
        )
    introduction = _text(folder / "introduction.md")
    lines = [introduction, ""] if introduction else []
    files.sort(key=lambda path: _first_link(introduction, f"{folder.name}/{path.name}"))
    for path in files:
        trials = RowFile(folder / f"{path.stem}_{TRIALS}.csv", TRIAL_KEY).read()
        lines += section(path, RowFile(path).read(), folder, trials)
    # also where the folder's name has a dot
    page = folder.absolute().with_name(f"{folder.absolute().name}.md")
    write_text(page, "\n".join(lines).rstrip() + "\n")
    return page


def _refuse_lone_trials(folder: Path) -> None:
    """They would be left out of the page, as would figures in a table that is named like one of trials."""
    for path in sorted(folder.glob(f"*{TRIALS}.csv")):
        stem = path.stem.removesuffix(f"_{TRIALS}")
        if stem == path.stem or not (folder / f"{stem}.csv").is_file():
            raise InputError(
                f"{path}: is named like a table of trials, and no table of figures is beside it; name trials "
                f"NAME_{TRIALS}.csv beside the figures NAME.csv, and figures without {TRIALS} at the end"
            )


def _first_link(text: str, target: str) -> float:
    place = text.find(f"({target})")
    return place if place >= 0 else math.inf


def _text(path: Path) -> str:
    return read_text(path).rstrip() if path.is_file() else ""


def section(path: Path, rows: Sequence[Row], folder: Path, trials: Sequence[Row] = ()) -> list[str]:
    """The lines of one table of figures and of the trials of its recipes; its curves become pictures in ``folder``."""
    opening = _text(path.with_suffix(".md")) or f"## {path.stem}"
    lines = [opening, "", f"From [{path.name}]({folder.name}/{path.name}); mIoU [%].", ""]
    found = {key: table for key, table in tables(rows).items() if key[1] != ROBUSTNESS}
    by_log = side_by_side(found)
    picture = folder / f"{path.stem}-arms.png"
    if draw_arms(_ranked(by_log), picture, "mIoU [%], dots are seeds", baseline=SCRATCH):
        lines += [f"![each way of pretraining, by source]({folder.name}/{picture.name})", ""]
    for log, table in by_log.items():
        lines += [f"### One budget on {log}", "", *markdown(table), ""]
    for (log, measure), table in found.items():
        if len(_budgets(table)) == 1:
            continue
        lines += [f"### {measure} on {log}", "", *markdown(table), ""]
        if measure != CURVE:
            continue
        if saved := savings(table):
            lines += [
                "Labels that random weights need for the same figure, as a multiple of those that the backbone had:",
                "",
                *saved,
                "",
            ]
        own = [row for row in rows if (row["evaluation log"], row["measure"]) == (log, measure)]
        lines += paired_lines(own, SCRATCH, _budgets(table))
        picture = folder / f"{path.stem}-{file_part(log)}.png"
        labelled = _labelled(table)
        shown = {_label(backbone): _panels(cells, labelled) for backbone, cells in table.items()}
        if draw_budgets(shown, picture, f"{measure} on {log}: mIoU [%]", baseline=_label(SCRATCH)):
            lines += [f"![mIoU at every budget of labels]({folder.name}/{picture.name})", ""]
    return [
        *lines,
        *scaling_lines(rows, path.stem, folder),
        *robustness_lines(rows),
        *leakage_lines(rows),
        *trial_lines(trials),
        *commands(rows),
    ]


def side_by_side(found: Mapping[tuple[str, str], Table]) -> dict[str, Table]:
    """Log -> a table of all measures that have one budget there, a column each."""
    joined: dict[str, Table] = {}
    for (log, measure), table in found.items():
        if len(_budgets(table)) > 1:
            continue
        for backbone, cells in table.items():
            for budget, cell in cells.items():
                column = measure if budget == "all" else f"{measure}, {budget}"
                joined.setdefault(log, {}).setdefault(backbone, {})[column] = cell
    return joined


def _ranked(by_log: Mapping[str, Table]) -> dict[str, dict[Backbone, tuple[float, ...]]]:
    """The figures that ways of pretraining are held against each other by: panel -> backbone -> those of its seeds."""
    panels: dict[str, dict[Backbone, tuple[float, ...]]] = {}
    for log, table in by_log.items():
        for backbone, cells in table.items():
            for column, cell in cells.items():
                # places of a log have their own rows in the table
                if column.startswith(_RANKED) and ", " not in log:
                    panels.setdefault(f"{log}\n{column}", {})[backbone] = cell.values
    return panels


def tables(rows: Iterable[Row]) -> dict[tuple[str, str], Table]:
    """(evaluation log, measure) -> backbone -> budget -> cell, all in the order of the rows."""
    grouped: dict[tuple[str, str], dict[Backbone, dict[str, list[Row]]]] = {}
    for row in rows:
        if not row["mIoU"]:  # none of its classes has a point
            continue
        measure, _, way = row["measure"].partition(": ")  # ways of one measure stand below each other
        table = grouped.setdefault((row["evaluation log"], measure), {})
        arm = f"{row['arm']}: {way}" if way else row["arm"]
        table.setdefault((row["source"], arm), {}).setdefault(row["budget"], []).append(row)
    return {
        key: {backbone: {b: _cell(own) for b, own in cells.items()} for backbone, cells in table.items()}
        for key, table in sorted(grouped.items())
    }


def _cell(rows: Sequence[Row]) -> Cell:
    for column in _SHARED:
        if len(found := sorted({row[column] for row in rows})) > 1:
            figure = " ".join(rows[0][name] for name in ("arm", "evaluation log", "measure", "budget"))
            raise InputError(
                f"the seeds of {figure} have several {column} ({', '.join(found)}), so that no mean can be taken; keep "
                "the rows of one, or make all seeds by one plan"
            )
    by_seed = sorted(rows, key=lambda row: float(row["seed"] or 0))
    values = tuple(float(row["mIoU"]) for row in by_seed)
    leaky = any(row["leakage"] for row in rows)
    return Cell(values, _mean(rows, "labelled points"), _mean(rows, "CPU seconds of pretraining"), leaky)


def _mean(rows: Iterable[Row], column: str) -> float | None:
    known = [float(row[column]) for row in rows if row[column]]
    return sum(known) / len(known) if known else None


def _budgets(table: Table) -> list[str]:
    """All budgets of a table, by the number of labels where it is known."""
    size = _labelled(table)
    return sorted(size, key=lambda budget: size[budget])


def _labelled(table: Table) -> dict[str, float]:
    """Budget -> number of labels of the first backbone that has it; 0 where it is not known."""
    size: dict[str, float] = {}
    for cells in table.values():
        for budget, cell in cells.items():
            size.setdefault(budget, cell.labelled or 0.0)
    return size


def markdown(table: Table) -> list[str]:
    """A row for each backbone, a column for each budget; then which figures tie.

    Bold is what leads a column by its seeds, see `ties.leaders`.
    """
    budgets = _budgets(table)
    best = {
        budget: leaders({who: cells[budget].values for who, cells in table.items() if budget in cells})
        for budget in budgets
    }
    rows = []
    for backbone, cells in table.items():
        shown = [
            cells[budget].text(leads=backbone in best[budget]) if budget in cells else "-"
            for budget in budgets
        ]
        spent = next((cell.cpu for cell in cells.values() if cell.cpu is not None), None)
        minutes = "-" if spent is None else f"{spent / 60:.0f}"
        rows.append([*backbone, minutes, *shown])
    lines = table_lines(["pretrained on", "arm", "CPU min", *budgets], rows)
    ties = [
        f"{budget}: {', '.join(f'{arm} ({source})' for source, arm in names)}"
        for budget, names in best.items()
        if len(names) > 1
    ]
    return [*lines, "", f"Ties: {'; '.join(ties)}."] if ties else lines


def _label(backbone: Backbone) -> str:
    source, arm = backbone
    return "from scratch" if backbone == SCRATCH else f"{arm} ({source})"


def _panels(
    cells: Mapping[str, Cell], labelled: Mapping[str, float]
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Panel -> budget, with its number of labels -> figures of the seeds; points of scans apart from whole scans.

    Args:
        labelled: budget -> number of labels: a budget has one name, whatever scans the seeds of each have drawn.
    """
    panels: dict[str, dict[str, tuple[float, ...]]] = {"a few points of each scan": {}, "whole scans": {}}
    few, whole = panels.values()
    for budget in sorted(cells, key=lambda budget: labelled[budget]):
        if labelled[budget]:
            budget_and_labels = f"{budget.replace(' x ', chr(10) + 'x ')}\n{labelled[budget]:,.0f} labels"
            (few if " x " in budget else whole)[budget_and_labels] = cells[budget].values
    return {name: panel for name, panel in panels.items() if panel}


def curve(cells: Mapping[str, Cell]) -> list[tuple[float, float]]:
    """(labelled points, mean mIoU) of the budgets with a known number of labels, ascending."""
    return sorted((cell.labelled, cell.mean) for cell in cells.values() if cell.labelled)


def labels_needed(scratch: Sequence[tuple[float, float]], miou: float) -> float | None:
    """Labelled points at which a curve first reaches ``miou``, linear in their logarithm; None where it never does.

    A figure below the first of the curve gives -inf: fewer labels than were measured.
    """
    if not scratch:
        return None
    if miou <= scratch[0][1]:
        return scratch[0][0] if miou == scratch[0][1] else -math.inf
    for (few, low), (many, high) in itertools.pairwise(scratch):
        if low <= miou <= high:
            share = 0.0 if high == low else (miou - low) / (high - low)
            return math.exp(math.log(few) + share * (math.log(many) - math.log(few)))
    return None


def savings(table: Table) -> list[str]:
    """For each backbone and budget, how many times as many labels random weights need; no lines without these."""
    if SCRATCH not in table or len(curve(table[SCRATCH])) < 2:
        return []
    scratch = curve(table[SCRATCH])
    budgets = [budget for budget in _budgets(table) if any(budget in cells for cells in table.values())]
    rows = [
        [*backbone, *(_saving(scratch, cells.get(budget)) for budget in budgets)]
        for backbone, cells in table.items()
        if backbone != SCRATCH
    ]
    return table_lines(["pretrained on", "arm", *budgets], rows) if rows else []


def _saving(scratch: Sequence[tuple[float, float]], cell: Cell | None) -> str:
    if cell is None or not cell.labelled:
        return "-"
    needed = labels_needed(scratch, cell.mean)
    if needed is None:
        return f"over {_two_digits(scratch[-1][0] / cell.labelled)}"
    if math.isinf(needed):
        return f"under {_two_digits(scratch[0][0] / cell.labelled)}"
    return _two_digits(needed / cell.labelled)


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}"


def leakage_lines(rows: Iterable[Row]) -> list[str]:
    """What the mark of figures means, with the drives; no lines without such a figure."""
    found = sorted({(row["arm"], row["evaluation log"], row["leakage"]) for row in rows if row["leakage"]})
    if not found:
        return []
    lines = [f"{LEAKY} measured on drives that the backbone was trained on (`--allow-leakage`): too good", ""]
    return [*lines, *(f"- {arm} on {log}: {drives}" for arm, log, drives in found), ""]


def commands(rows: Iterable[Row]) -> list[str]:
    """Each command once, with the commit and the device of its rows."""
    made: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        made[row["command"]].add(f"{row['commit'][:12]}, {row['device']}")
    lines = ["<details><summary>The command of each row, its commit and machine</summary>", ""]
    lines += [f"- `{command}` ({'; '.join(sorted(where))})" for command, where in made.items()]
    return [*lines, "", "</details>", ""]
