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
    "labels alone, 190 scenes without images": ("varied", "made labels"),
    "SuperFlow++, then labels": ("varied with images", "SuperFlow++ then made labels"),
    "`street-tiny-averaged`": ("elsewhere", "street-tiny-averaged"),
}
ROWS = {
    "600 points (30 scans x 20)": ("fine-tuning", "30 scans x 20 points"),
    "700 points (7 scans x 100)": ("fine-tuning", "7 scans x 100 points"),
    "1 whole scan": ("fine-tuning", "1 scan"),
    "3 whole scans": ("fine-tuning", "3 scans"),
    "7 whole scans": ("fine-tuning", "7 scans"),
    "30 whole scans": ("fine-tuning", "30 scans"),
    "decoder half alone trained, 7 scans": ("decoder probe", "7 scans"),
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
def figures() -> dict[tuple[str, ...], list[float]]:
    """(source, arm, measure, budget) -> mIoU of the seeds on SemanticKITTI."""
    found: dict[tuple[str, ...], list[float]] = {}
    for name in ("places", "averaged"):
        with (ROOT / f"docs/evidence/{name}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["evaluation log"] == "kitti":
                    key = tuple(row[name] for name in ("source", "arm", "measure", "budget"))
                    found.setdefault(key, []).append(float(row["mIoU"]))
    return found


def test_the_table_has_the_rows_and_columns(table):
    columns, rows = table
    assert columns == list(COLUMNS)
    assert list(rows) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_every_cell_is_the_mean_and_range_of_its_seeds(table, figures, row):
    columns, rows = table
    for column, cell in zip(columns, rows[row], strict=True):
        seeds = figures.get((*COLUMNS[column], *ROWS[row]), [])
        if not seeds:
            assert cell == "-", f"{row}, {column}: was not measured"
            continue
        wanted, form = [mean(seeds), min(seeds), max(seeds)], r"([\d.]+) \(([\d.]+) to ([\d.]+)\)"
        if len(seeds) == 1:
            wanted, form = seeds, r"([\d.]+)"
        else:
            assert len(seeds) == 3, f"{row}, {column}: a mean of {len(seeds)} seeds must say so"
        shown = re.fullmatch(form, cell)
        assert shown, f"{row}, {column}: {cell}"
        assert [float(value) for value in shown.groups()] == pytest.approx(wanted, abs=0.0501)
