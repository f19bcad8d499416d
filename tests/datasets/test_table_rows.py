"""Rows of JSON tables, however they are laid out, cut and spelt: always those of Python's own json."""

from __future__ import annotations

import json

import pytest

from superflow.datasets.sets.nuscenes import tables, write_index
from superflow.datasets.sets.nuscenes.tables import read_rows
from superflow.errors import InputError


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_streamed_rows_are_those_of_json(tmp_path, monkeypatch, indent, chunk):
    rows = [{"token": f"é{i}", "deep": [[1.5e-3, {"a": None}], "]},["], "n": i} for i in range(9)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(tables, "_CHUNK", chunk)
    seen = []
    assert [dict(row) for row in read_rows(path, lambda *state: seen.append(state))] == rows
    assert seen[-1][0] == "reading rows.json"
    assert seen[-1][1] <= seen[-1][2] == path.stat().st_size
    path.write_text("[ ]")
    assert list(read_rows(path)) == []


@pytest.mark.parametrize("chunk", [50, 333, 1 << 15])
@pytest.mark.parametrize("deep", [None, "a },{", [{"a": 1}, {"b": 2}], {"a": {}}])
def test_rows_that_are_decoded_at_once_are_those_of_json(tmp_path, monkeypatch, chunk, deep):
    rows = [{"n": i, "deep": deep if i % 7 else 0} for i in range(300)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=1))
    monkeypatch.setattr(tables, "_CHUNK", chunk)
    assert list(read_rows(path)) == rows
    text = path.read_text()
    at_once = tables._several(text, 1)
    assert at_once == rows[: 299 if deep is None else len(at_once)]
    path.write_text(text[:-40])  # cut off in the last row
    with pytest.raises(InputError, match=r"rows.json: is no valid JSON"):
        list(read_rows(path))


SPELLINGS = [
    "NaN",
    "-Infinity",
    "1e999",
    '"\\ud800"',
    "100000000000000000000",
    "-0.0",
    "1E5",
    '"\\u00e9\\/"',
    "5e-324",
]
SPELLINGS += [
    "0.1234567890123456789",
    "-9223372036854775809",
    "18446744073709551616",
    "[[[[]]]]",
    '{"a": 1, "a": 2}',
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_values_are_those_of_json_however_they_are_spelt(tmp_path, spelling):
    """Rows are decoded by another library where it takes them, else by json."""
    path = tmp_path / "rows.json"
    text = "[" + ",\n".join(f'{{"n": {i}, "value": {spelling}}}' for i in range(3)) + "]"
    path.write_text(text)
    assert repr(list(read_rows(path))) == repr(json.loads(text))


def test_rows_that_json_decodes_one_by_one_give_the_same_index(small_log, small_index, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_several", lambda buffer, place: [])
    assert write_index(small_log.write(), tmp_path / "index").hash == small_index.hash
