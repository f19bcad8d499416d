"""A log of which some files were not downloaded: what is said, and what can be indexed without them."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError, MissingFileError


def remove_sweeps(root, kind):
    if kind == "no sweeps":
        shutil.rmtree(root / "sweeps")
    elif kind == "one sweep":
        next((root / "sweeps" / "LIDAR_TOP").iterdir()).unlink()
    else:
        shutil.rmtree(root / "sweeps")
        next((root / "samples" / "CAM_BACK").glob("scene-0001__*")).unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "no sweeps",
            "54 files that the tables name are missing, of 2 of 2 scenes; complete the download, or index what is "
            "there with --key-frames-only and train with sweeps=0: all of them are sweeps",
        ),
        ("one sweep", "1 files .* or index what is there with --key-frames-only"),
        (
            "and an image",
            r"55 files .* the other scenes with --complete-scenes \(54 of them are sweeps: --key-frames-only\)",
        ),
    ],
)
def test_a_log_without_sweeps_is_told_how_to_go_without(small_log, tmp_path, caplog, kind, message):
    root = small_log.write()
    whole = write_index(root, tmp_path / "whole")
    remove_sweeps(root, kind)
    index = write_index(root, tmp_path / "index")
    assert re.search(message, caplog.text)
    caplog.clear()
    missing = next(row for row in index.rows(None, keys_only=False) if not index.point_path(row).is_file())
    with pytest.raises(
        MissingFileError, match=r"not there; .*; it is a sweep, prepare with --key-frames-only"
    ):
        index.frame(int(missing))
    keys = write_index(root, tmp_path / "keys", key_frames_only=True)
    assert ("missing" in caplog.text) == (kind == "and an image")
    assert (len(keys), keys.is_key.all()) == (8, True)
    rows = whole.rows()
    assert keys.tokens(keys.rows()) == whole.tokens(rows)
    for mine, theirs in zip(keys.rows().tolist(), rows.tolist()):
        a, b = keys.frame(mine, boxes=True, images=False), whole.frame(theirs, boxes=True, images=False)
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.ego_to_world, b.ego_to_world)
        assert [c.path for c in a.cameras] == [c.path for c in b.cameras]
        assert a.boxes.tracks == b.boxes.tracks


def test_when_only_sweeps_are_missing_no_scene_is_whole(small_log, tmp_path):
    root = small_log.write()
    shutil.rmtree(root / "sweeps")
    with pytest.raises(
        InputError, match=r"or leave out the sweeps with --key-frames-only if only those are missing"
    ):
        write_index(root, tmp_path / "part", complete_scenes=True)
    assert not (tmp_path / "part").exists()


def test_partial_downloads_keep_their_whole_scenes(small_log, tmp_path, caplog):
    root = small_log.write()
    whole = write_index(root, tmp_path / "whole")
    next((root / "sweeps" / "LIDAR_TOP").glob("scene-0003__*")).unlink()
    everything = write_index(root, tmp_path / "index")
    assert "1 files that the tables name are missing, of 1 of 2 scenes" in caplog.text
    assert everything.hash == whole.hash
    part = write_index(root, tmp_path / "part", complete_scenes=True)
    assert part.scenes == ("scene-0001",)
    rows, old = part.rows(None, keys_only=False), whole.rows("scene-0001", keys_only=False)
    assert part.tokens(rows) == whole.tokens(old)
    for mine, theirs in zip((0, 10, 30), (31, 41, 61)):
        a, b = part.frame(mine, boxes=True), whole.frame(theirs, boxes=True)
        np.testing.assert_array_equal(a.points, b.points)
        assert [c.token for c in a.cameras] == [c.token for c in b.cameras]
        assert (a.boxes is None) == (b.boxes is None)
        assert a.boxes is None or a.boxes.tracks == b.boxes.tracks
    for path in (root / "samples" / "CAM_BACK").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no scene has all the files that its tables name"):
        write_index(root, tmp_path / "part", complete_scenes=True)
