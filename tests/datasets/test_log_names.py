"""Names in the tables that become paths: of files that are read, and of files that are written."""

from __future__ import annotations

import json
import re
from copy import deepcopy

import numpy as np
import pytest

from superflow.camera.projection import project
from superflow.datasets.check.overlay import write_overlays
from superflow.datasets.formats.kinds import shorten
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError


def rename(tables, old: str, new: str) -> None:
    """Call something differently in all tables."""
    for rows in tables.values():
        for row in rows:
            row.update({key: new for key, value in row.items() if value == old})


def refusal(log, tables) -> str:
    """The sentence with which a log of these tables is refused."""
    log.write({name: json.dumps(rows).encode() for name, rows in tables.items()})
    with pytest.raises(InputError) as caught:
        write_index(log.root, log.out)
    return str(caught.value)


@pytest.mark.parametrize(
    ("table", "kind"), [("sample_data", "LIDAR"), ("sample_data", "CAM"), ("lidarseg", "")]
)
def test_backslashes_of_another_system_are_read_and_said(small_log, small_index, tmp_path, table, kind):
    changed = [row for row in small_log.tables[table] if kind in row["token"]]
    for row in changed:
        row["filename"] = row["filename"].replace("/", "\\")
    index = write_index(small_log.write(), tmp_path / "index")
    said = [warning for warning in index.warnings if "backslashes" in warning]
    used = 16 if kind == "CAM" else len(changed)
    assert said == [
        f"{table}.json: {used} file names have backslashes, which are read as slashes (first: "
        f"{said[0].partition('first: ')[2]}"
    ]
    for row in range(len(index)):
        np.testing.assert_array_equal(index.frame(row).points, small_index.frame(row).points)
        assert index.has_labels(row) == small_index.has_labels(row)


def test_a_backslash_that_is_part_of_a_name_stays(small_log, tmp_path):
    row = small_log.row("sample_data", "scene-0001-LIDAR_TOP-5")
    small_log.files["sweeps\\5.bin"] = small_log.files.pop(row["filename"])
    row["filename"] = "sweeps\\5.bin"
    index = write_index(small_log.write(), tmp_path / "index")
    assert index.warnings == ()
    place = index.tokens(range(len(index))).index("scene-0001-LIDAR_TOP-5")
    assert len(index.frame(place).points) == 50


@pytest.mark.parametrize("table", ["sample_data", "lidarseg"])
@pytest.mark.parametrize(
    "name",
    ["../secret.bin", "samples/../../secret.bin", "..", "/etc/passwd", "\\\\server\\x.bin", "..\\secret.bin"]
    + [
        "C:\\x.bin",
        "c:/x.bin",
        "a\0b",
        "x/" + "y" * 256,
        "é" * 128,
        "\ud800.bin",
        "samples/a\nb",
        "a\\" * 200 + "b" * 256,
    ],
)
def test_file_names_that_lead_out_of_the_log_are_refused(log_to_break, table, name):
    tables = deepcopy(log_to_break.tables)
    row = tables[table][-1]
    row["filename"] = name
    assert "LIDAR" in row["token"]  # rows of other sensors are passed over
    expected = f"{table}.json: filename of the row with .* is {re.escape(shorten(name))}; it must be a path below the"
    assert re.search(expected, refusal(log_to_break, tables))


def test_links_inside_the_log_are_followed(small_log, small_index, tmp_path):
    """Blobs on other disks, the usual layout of nuScenes."""
    root = small_log.write()
    for name in ("samples", "sweeps", "lidarseg"):
        (root / name).rename(tmp_path / name)
        (root / name).symlink_to(tmp_path / name)
    index = write_index(root, tmp_path / "index")
    assert index.hash == small_index.hash
    frame = index.frame(0)
    assert (len(frame.points), len(frame.labels), len(frame.cameras)) == (50, 50, 2)


@pytest.mark.parametrize(
    "name", ["x/../../../escaped", "a/b", "a\\b", "..", ".", ".hidden", " a", "a ", "x" * 201, "é" * 101]
)
@pytest.mark.parametrize("what", ["channel", "token of a scan", "token of an image", "scene name"])
def test_names_that_cannot_be_file_names_are_refused(log_to_break, what, name):
    renamed = {
        "channel": "CAM_BACK",
        "token of a scan": "scene-0001-LIDAR_TOP-5",
        "token of an image": "scene-0001-CAM_BACK-0",
        "scene name": "scene-0001",
    }[what]
    tables = deepcopy(log_to_break.tables)
    rename(tables, renamed, name)
    word = {"channel": "the channel", "scene name": "the scene name"}.get(what, "token")
    assert re.search(rf"{word} .*{re.escape(shorten(name))}.* must be", refusal(log_to_break, tables))


@pytest.mark.parametrize("renamed", ["CAM_BACK", "scene-0001-LIDAR_TOP-0", "scene-0001"])
def test_three_names_of_one_picture_fit_into_its_file_name(small_log, tmp_path, renamed):
    """SCENE_TOKEN_CHANNEL.png, written under a temporary name: the longest that is taken can be written."""
    lengths = {"CAM_BACK": 223 - 10 - 23, "scene-0001-LIDAR_TOP-0": 223 - 10 - 9, "scene-0001": 223 - 23 - 9}
    length = min(200, lengths[renamed])
    rename(small_log.tables, renamed, "x" * length)
    index = write_index(small_log.write(), tmp_path / "index")
    assert len(write_overlays(index, tmp_path / "pictures", project=project)) == 2
    if length < 200:
        rename(small_log.tables, "x" * length, "x" * (length + 2))
        with pytest.raises(
            InputError, match=r"have names of \d+ bytes together; .* 223 bytes fit: shorten them"
        ):
            write_index(small_log.write(), tmp_path / "index")


@pytest.mark.parametrize("name", ["/radar/front", "../radar", "imu:0 "])
def test_sensors_that_are_passed_over_may_be_called_anything(small_log, small_index, tmp_path, name):
    """Their channel and tokens name no file."""
    rename(small_log.tables, "RADAR_FRONT", name)
    rename(small_log.tables, "scene-0001-RADAR_FRONT-0", f"{name}-0")
    assert write_index(small_log.write(), tmp_path / "index").hash == small_index.hash


def test_labels_of_another_log_are_refused_and_strangers_among_them_said(small_log, tmp_path):
    rows = small_log.tables["lidarseg"]
    rows[0]["sample_data_token"] = "stranger"
    index = write_index(small_log.write(), tmp_path / "index")
    assert index.warnings == (
        "lidarseg.json: 1 of 8 rows name no LIDAR_TOP scan of this log; their labels are not used",
    )
    for number, row in enumerate(rows):
        row["sample_data_token"] = f"stranger-{number}"
    match = r"lidarseg.json: none of its 8 rows names a LIDAR_TOP scan of this log \(first: 'stranger-0'\); .*remove"
    with pytest.raises(InputError, match=match):
        write_index(small_log.write(), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_backslashes_of_long_names_are_read(small_log, tmp_path):
    """Such a name would be too long for a file, were the backslashes part of it."""
    row = small_log.row("sample_data", "scene-0001-LIDAR_TOP-5")
    row["filename"] = "\\".join(["a" * 100] * 9)
    index = write_index(small_log.write(), tmp_path / "index")
    assert "sample_data.json: 1 file names have backslashes" in index.warnings[0]


def test_more_channels_than_an_index_can_tell_apart_are_refused(log_to_break):
    tables = deepcopy(log_to_break.tables)
    for name in ("sensor", "calibrated_sensor"):
        row = next(row for row in tables[name] if "CAM_BACK" in row["token"])
        link = {"sensor": "channel", "calibrated_sensor": "sensor_token"}[name]
        tables[name] += [{**row, "token": f"{name}-{i}", link: f"sensor-{i}"} for i in range(2**15)]
    assert "sensor.json: holds 32770 different names; an index can tell 32768 apart" in refusal(
        log_to_break, tables
    )
