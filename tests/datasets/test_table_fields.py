"""Every field of every table: what is taken, what is refused and with which sentence, by one reader for all."""

from __future__ import annotations

import json
import logging
import re
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_fuzz import ODD_TEXT, ODD_VALUES, attempt

from superflow.datasets.formats import kinds
from superflow.datasets.formats.kinds import Kind, shorten
from superflow.datasets.sets.nuscenes import typed_tables, write_index
from superflow.datasets.sets.nuscenes.schema import TABLES
from superflow.datasets.sets.nuscenes.typed_tables import Only, read_table
from superflow.errors import InputError

KINDS = {name: kind for name, kind in vars(kinds).items() if isinstance(kind, Kind) and name[0] != "_"}
FIELDS = [(table, field) for table, fields in TABLES.items() for field in fields]

numbers = st.one_of(st.integers(), st.integers(-(10**400), 10**400), st.floats(), st.floats(-2, 2))
text = st.one_of(st.text(st.characters(exclude_categories=())), st.sampled_from(ODD_TEXT))
values = st.one_of(
    st.sampled_from(ODD_VALUES),
    text,
    st.lists(numbers, max_size=4),
    st.recursive(
        st.one_of(st.none(), st.booleans(), numbers, text),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=3)),
        max_leaves=6,
    ),
)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("table", "field"), FIELDS)
@settings(max_examples=8)
@given(value=values, place=st.integers(0, 1000))
def test_any_value_gives_an_index_or_one_sentence(log_to_break, table, field, value, place):
    """Never another exception, never a half-written index, and a refusal leaves the old one."""
    rows = [dict(row) for row in log_to_break.tables[table]]
    rows[place % len(rows)][field] = value
    log_to_break.write({table: json.dumps(rows).encode()})
    log_to_break.restore_index()
    attempt(lambda: write_index(log_to_break.root, log_to_break.out), log_to_break.out, log_to_break.around)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=200)
@given(column=st.lists(values, min_size=1, max_size=3))
def test_what_a_column_shows_is_what_its_values_say(name, column):
    """``is_plain`` of a column never differs from the slow and obvious look at each value."""
    kind = KINDS[name]
    if kind.is_plain(column):
        assert all(kind.accepts(value) for value in column)
        assert [kind.convert(value) for value in column] == column
        assert [type(kind.convert(value)) for value in column] == [type(value) for value in column]


USUAL = {
    "TEXT": "vehicle.car",
    "KEY": "0b4fe4c9a8d84c4f9f1e1d6b6a1a7b9e",
    "OPTIONAL_KEY": "abc",
    "REFERENCE": "abc",
    "LINK": "",
    "OPTIONAL_REFERENCE": "abc",
    "REFERENCES": ["abc"],
    "PATH": "samples/LIDAR_TOP/n015+0800__LIDAR_TOP__1.pcd.bin",
    "OPTIONAL_PATH": "a.bin",
    "TIME_US": 1_532_402_927_647_951,
    "PIXELS": 900,
    "LABEL": 24,
    "COUNT": 12,
    "FLAG": False,
    "POSITION": [411.25, 1180, 0.0],
    "SIZE": [0.6, 0.7, 1.6],
    "ROTATION": [2.0, 0, 0, 0],
    "UNIT_ROTATION": [0.5, -0.5, 0.5, -0.5],
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_columns_need_no_look_at_their_values(name):
    """What makes millions of rows cheap."""
    assert KINDS[name].is_plain([USUAL[name]] * 3)


def test_only_matrices_are_always_looked_at():
    assert KINDS.keys() - USUAL.keys() == {"INTRINSICS"}


TAKEN = [
    ("sample", "timestamp", float),
    ("sample_data", "timestamp", float),
    ("sample_data", "height", float),
    ("sample_data", "width", float),
    ("category", "index", float),
    ("sample_data", "is_key_frame", int),
    ("sample_data", "is_key_frame", float),
    ("ego_pose", "translation", lambda xyz: [float(value) for value in xyz]),
    ("calibrated_sensor", "camera_intrinsic", lambda rows: [value for row in rows for value in row]),
    ("calibrated_sensor", "camera_intrinsic", lambda rows: rows or None),
    ("sample", "prev", lambda token: token or None),
    ("sample_data", "next", lambda token: token or None),
    ("sample_data", "height", lambda pixels: pixels or None),
]


@pytest.mark.parametrize(("table", "field", "change"), TAKEN)
def test_other_spellings_of_a_value_give_the_same_index(
    small_log, small_index, tmp_path, table, field, change
):
    for row in small_log.tables[table]:
        row[field] = change(row[field])
    assert write_index(small_log.write(), tmp_path / "index").hash == small_index.hash


WORDS = {
    "scene": "SCENE-0001",
    "sample": "scene-0001-sample-1",
    "sensor": "sensor-CAM_FRONT",
    "calibrated_sensor": "calibrated-CAM_FRONT",
    "ego_pose": "pose-scene-0001-LIDAR_TOP-5",
    "sample_data": "scene-0001-LIDAR_TOP-5",
    "lidarseg": "scene-0001-LIDAR_TOP-10",
    "category": "category-noise",
    "instance": "scene-0001-car",
    "sample_annotation": "scene-0001-sample-1-box",
    "attribute": "moving",
    "log": "log",
}


def refusal(log, table, rows) -> str:
    """The sentence with which a log is refused whose ``table`` holds ``rows``."""
    log.write({table: json.dumps(rows).encode()})
    with pytest.raises(InputError) as caught:
        write_index(log.root, log.out)
    return str(caught.value)


@pytest.mark.parametrize(
    "value", [{"a": 1}, float("nan"), 10**400, [["x"]]], ids=["dict", "nan", "huge", "list"]
)
@pytest.mark.parametrize(("table", "field"), FIELDS)
def test_the_sentence_names_table_row_field_and_value(log_to_break, table, field, value):
    kind, token = TABLES[table][field], WORDS[table]
    rows = [dict(row) for row in log_to_break.tables[table]]
    number = next(i for i, row in enumerate(rows) if row["token"] == token)
    rows[number][field] = value
    keys = [name for name in TABLES[table] if TABLES[table][name].is_key and name != field]
    row = f"the row with {keys[0]} {token!r}" if keys else f"row {number} (the first is 0)"
    assert refusal(log_to_break, table, rows) == (
        f"{log_to_break.folder / table}.json: {field} of {row} is {shorten(value)}; "
        f"it must be {kind.due}; mend it or export the table again"
    )
    assert len(shorten(value)) <= 60


@pytest.mark.parametrize(("table", "field"), [pair for pair in FIELDS if TABLES[pair[0]][pair[1]].needed])
def test_a_missing_field_is_named(log_to_break, table, field):
    rows = [dict(row) for row in log_to_break.tables[table]]
    del next(row for row in rows if row["token"] == WORDS[table])[field]
    expected = rf"{table}.json: .*row.* has no field '{field}'; the table is of another schema"
    assert re.search(expected, refusal(log_to_break, table, rows))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "change", [lambda row: row, lambda row: {**row, "rotation": [1, 0, 0, 0], "logfile": "x"}]
)
def test_tokens_that_occur_twice_are_counted(small_log, tmp_path, table, change):
    rows = small_log.tables[table]
    rows.extend([change(dict(row)) for row in rows[:2]])
    count = len(rows[:2]) if len(rows) > 2 else 1
    with pytest.raises(
        InputError, match=rf"{table}.json: {count} \w*tokens occur twice \(first: '.*'\); the table is"
    ):
        write_index(small_log.write(), tmp_path / "index")
    assert not (tmp_path / "index").exists()


def rows_of(path, only=None) -> list[dict]:
    return list(chain.from_iterable(read_table(path, TABLES["sensor"], only=only)))


def test_equal_hashes_are_no_equal_tokens(tmp_path, monkeypatch):
    """Only hashes are kept of a table's tokens; where two meet, the tokens themselves decide."""
    monkeypatch.setattr(typed_tables, "hash", len, raising=False)
    path = tmp_path / "sensor.json"
    rows = [{"token": token, "channel": "A", "modality": "camera"} for token in ("a", "b", "cc")]
    path.write_text(json.dumps(rows))
    assert rows_of(path) == rows
    path.write_text(json.dumps([*rows, {**rows[1], "channel": "B"}]))
    with pytest.raises(InputError, match=r"sensor.json: 1 tokens occur twice \(first: 'b'\)"):
        rows_of(path)


@pytest.mark.parametrize("batch", [1, 2, 128])
def test_rows_that_are_passed_over_are_judged_by_what_decides(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(typed_tables, "_BATCH", batch)
    path = tmp_path / "sensor.json"
    rows = [{"token": str(i), "channel": [i], "modality": "imu"} for i in range(5)]
    rows[3] = {"token": "3", "channel": "CAM", "modality": "camera"}
    path.write_text(json.dumps(rows))
    only = Only(lambda rows: [row for row in rows if row["modality"] == "camera"], ("modality",))
    assert rows_of(path, only) == [rows[3]]
    rows[4]["modality"] = 7
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"modality of the row with token '4' is 7; it must be text"):
        rows_of(path, only)


@pytest.mark.parametrize("index", [256, 70017, -1, 24 + 70000])
def test_labels_are_one_byte(small_log, tmp_path, index):
    small_log.tables["category"][0]["index"] = index
    match = (
        rf"index of the row with token 'category-.*' is {index}; .* since labels of this schema are one byte"
    )
    with pytest.raises(InputError, match=match):
        write_index(small_log.write(), tmp_path / "index")


@pytest.mark.parametrize("table", TABLES)
def test_the_mark_before_utf8_is_read(small_log, small_index, tmp_path, table):
    root = small_log.write()
    path = root / small_log.version / f"{table}.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert write_index(root, tmp_path / "index").hash == small_index.hash


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "lists or objects too deep in each other"),
        ('[{"token": ' + "[" * 100_000, "lists or objects too deep in each other"),
        ('[{"token": ' + "1" * 5000 + "}]", "a number of thousands of digits"),
    ],
)
def test_what_json_cannot_hold_is_damage(small_log, tmp_path, text, reason):
    root = small_log.write()
    (root / small_log.version / "scene.json").write_text(text)
    with pytest.raises(InputError, match=rf"scene.json: is no valid JSON \({reason} near character"):
        write_index(root, tmp_path / "index")
