"""Figures in the README's table of results are those of the tables in docs/evidence, cell by cell."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {
    "from scratch": ("nothing", "random"),
    "`street-tiny-averaged`": ("elsewhere", "street-tiny-averaged"),
}
AHEAD = "ahead on the same scans"
TABLES = ("searched", "places", "averaged")  # figures are those of the first that has them
ROWS = {
    "600 points (30 scans x 20)": ("fine-tuning", "30 scans x 20 points"),
    "700 points (7 scans x 100)": ("fine-tuning", "7 scans x 100 points"),
    "1 whole scan": ("fine-tuning", "1 scan"),
    "3 whole scans": ("fine-tuning", "3 scans"),
    "7 whole scans": ("fine-tuning", "7 scans"),
    "30 whole scans": ("fine-tuning", "30 scans"),
    "linear probe, 30 scans": ("linear probe", "all"),
    "kNN, 30 scans": ("kNN", "all"),
}


def cells(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def table() -> tuple[list[str], dict[str, list[str]]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- results -->\n(.*?)\n<!-- /results -->", text, re.DOTALL)
    assert found
    head, _, *lines = found[1].splitlines()
    return cells(head)[1:], {name: figures for name, *figures in map(cells, lines)}


@pytest.fixture(scope="module")
def figures() -> dict[tuple[str, ...], dict[str, float]]:
    """(source, arm, measure, budget) -> seed -> mIoU on SemanticKITTI, of one table."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for name in TABLES:
        own: dict[tuple[str, ...], dict[str, float]] = {}
        with (ROOT / f"docs/evidence/{name}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["evaluation log"] == "kitti":
                    key = tuple(row[name] for name in ("source", "arm", "measure", "budget"))
                    own.setdefault(key, {})[row["seed"]] = float(row["mIoU"])
        found = own | found
    return found


def test_the_table_has_the_rows_and_columns(table):
    columns, rows = table
    assert columns == [*COLUMNS, AHEAD]
    assert list(rows) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_every_cell_is_the_mean_and_range_of_its_seeds(table, figures, row):
    shown = table[1][row]
    seeds = [figures[(*column, *ROWS[row])] for column in COLUMNS.values()]
    for cell, own in zip(shown, seeds, strict=False):
        assert numbers(cell) == pytest.approx(summary(list(own.values())), abs=0.0501), cell
    scratch, ahead = seeds
    if set(scratch) != set(ahead):
        assert shown[-1] == "-", "there are no pairs"
        return
    gains = [ahead[seed] - scratch[seed] for seed in scratch]
    assert numbers(shown[-1]) == pytest.approx(summary(gains), abs=0.0501), shown[-1]


def summary(values: list[float]) -> list[float]:
    """The mean, lowest and highest; of one its value."""
    assert len(values) in (1, 3), f"a mean of {len(values)} seeds must say so"
    return [mean(values), min(values), max(values)] if len(values) > 1 else values


def numbers(cell: str) -> list[float]:
    assert re.fullmatch(r"[+-]?[\d.]+( \([+-]?[\d.]+ to [+-]?[\d.]+\))?", cell), cell
    return [float(value) for value in re.findall(r"[+-]?\d[\d.]*", cell)]
