"""Rows of a benchmark in their file: kept, replaced by their key, and no other table taken for them."""

from __future__ import annotations

import csv

import pytest

from superflow.benchmark.questions.run import questions_rows
from superflow.benchmark.rows import COLUMNS, TRIAL_KEY, RowFile
from superflow.benchmark.saga import saga_rows
from superflow.errors import InputError


def row(**values) -> dict[str, object]:
    return {**dict.fromkeys(COLUMNS, ""), "mIoU": 10.0, **values}


def test_rows_are_kept_and_replaced_by_their_key(tmp_path):
    file = RowFile(tmp_path / "deep" / "places.csv")
    assert file.read() == []
    file.add([row(arm="a", seed=0), row(arm="b", seed=0, accuracy=12.345)])
    file.add([row(arm="a", seed=0, mIoU=20.0), row(arm="a", seed=1)])
    with file.path.open(newline="") as handle:
        plain = list(csv.DictReader(handle))
    assert [(r["arm"], r["seed"], r["mIoU"], r["accuracy"]) for r in plain] == [
        ("a", "0", "20.00", ""),
        ("b", "0", "10.00", "12.35"),
        ("a", "1", "10.00", ""),
    ]
    assert [r["mIoU"] for r in file.find(arm="a", seed=1)] == ["10.00"]


def test_rows_are_taken_out(tmp_path):
    file = RowFile(tmp_path / "places.csv")
    assert file.drop(lambda row: True) == 0
    assert not file.path.exists()
    file.add([row(arm=arm, seed=0) for arm in "abc"])
    assert file.drop(lambda row: row["arm"] in "ac") == 2
    assert [r["arm"] for r in file.read()] == ["b"]


def test_every_trial_of_a_recipe_is_a_row(tmp_path):
    file = RowFile(tmp_path / "recipes.csv", TRIAL_KEY)
    file.add([row(recipe="x"), row(recipe="y"), row(recipe="x", mIoU=30.0)])
    assert [(r["recipe"], r["mIoU"]) for r in file.read()] == [("x", "30.00"), ("y", "10.00")]


def test_another_table_is_no_table_of_figures(tmp_path):
    path = tmp_path / "places.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="has other columns than source, arm"):
        RowFile(path).read()


def test_rows_that_were_cut_or_edited_are_no_figures(tmp_path):
    """Each would be a figure that is not there, or one seed twice."""
    file = RowFile(tmp_path / "places.csv")
    file.add([row(arm="a", seed=0, budget="1 scan, half"), row(arm="a", seed=1)])
    whole = file.path.read_bytes()
    file.path.write_bytes(b"\xef\xbb\xbf" + whole)  # as a program for tables saves it
    assert [r["seed"] for r in file.read()] == ["0", "1"]
    head, first, last = whole.splitlines(keepends=True)
    for content, message in (
        (b"", "has other columns"),
        (head + first + last[: len(last) // 2], "line 3: has not as many cells"),
        (head + first[:20], "line 2: has not as many cells"),
        (head + first.rstrip() + b",x\n", "line 2: has not as many cells"),
        (whole.replace(b"10.00", b"ten", 1), "line 2: mIoU is 'ten', no number; mend it"),
        (whole.replace(b"10.00", b"nan", 1), "line 2: mIoU is 'nan', no number"),
        (whole.replace(b"half", b"h" * 200_000, 1), r"line 2: is no CSV \(field larger than"),
        (head + first + last + first, "line 4: is of the same figure as line 2; delete one of them"),
    ):
        file.path.write_bytes(content)
        with pytest.raises(InputError, match=f"^{file.path}: {message}"):
            file.read()
        with pytest.raises(InputError, match=f"^{file.path}: {message}"):
            file.add([row(arm="b")])
        assert file.path.read_bytes() == content


@pytest.mark.parametrize(
    ("make", "column", "text"),
    [
        (questions_rows, "exact match", ""),
        (questions_rows, "low", "x"),
        (saga_rows, "programs", ""),
        (saga_rows, "all found by", "x"),
    ],
)
def test_numbers_of_other_tables_are_looked_at_too(tmp_path, make, column, text):
    file = make(tmp_path)
    row = dict.fromkeys(file.columns, "3")
    file.add([row])
    assert file.read() == [row]
    file.add([{**row, "seed": "4", "low": "", "high": "", "all found by": ""}])  # not known
    assert len(file.read()) == 2
    file.add([{**row, column: text}])
    with pytest.raises(InputError, match=f"line 2: {column} is '{text}', no number; mend it"):
        file.read()
