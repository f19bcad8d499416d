"""A part of a log: some scenes, or the first key frames; what is left out leaves no trace in the index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superflow.datasets.card import load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.partial import some_scans
from superflow.datasets.records import Place, ScanRow
from superflow.datasets.sets.nuscenes import write_index
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError
from superflow.tools import main as tools


def listed(scenes: str, keys: str) -> list[ScanRow]:
    """A scan a letter: its scene, and whether it is a key frame (k)."""
    return [
        ScanRow(scene, f"{scene}_{i}", i, Place(f"{i}.bin"), np.eye(4), is_key=key == "k")
        for i, (scene, key) in enumerate(zip(scenes, keys))
    ]


@given(
    kinds=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("ks")), min_size=1),
    wanted=st.none() | st.sets(st.sampled_from("abc"), min_size=1),
    limit=st.none() | st.integers(1, 6),
)
def test_it_is_what_a_loop_would_keep(kinds, wanted, limit):
    kinds.sort(key=lambda pair: pair[0])
    scans = listed("".join(s for s, _ in kinds), "".join(k for _, k in kinds))
    want, keys = [], 0
    for scan in scans:
        if wanted is None or scan.scene in wanted:
            if limit is not None and keys >= limit:
                break
            want.append(scan)
            keys += scan.is_key
    chosen = None if wanted is None else sorted(wanted)
    absent = set() if wanted is None else wanted - {scan.scene for scan in scans}
    if absent and (limit is None or keys < limit):
        with pytest.raises(InputError, match="is no scene of this log"):
            list(some_scans(scans, scenes=chosen, limit=limit))
    else:
        assert list(some_scans(scans, scenes=chosen, limit=limit)) == want


def test_listing_ends_with_the_last_key_frame_that_is_wanted():
    scans = iter(listed("aaaa", "skks"))
    assert [scan.order for scan in some_scans(scans, limit=1)] == [0, 1]
    assert [scan.order for scan in scans] == [2, 3], "a huge log is not listed to its end"


def test_a_split_of_scenes_may_be_chosen_and_a_wrong_name_is_told():
    scans = listed("aabbcc", "kkkkkk")
    of_split = some_scans(scans, scenes=["val"], splits={"val": ("b", "c", "z")})
    assert [scan.scene for scan in of_split] == ["b", "b", "c", "c"]
    with pytest.raises(
        InputError, match=r"'d' is no scene of this log, nor a split that has one; known: a, b, c"
    ):
        list(some_scans(scans, scenes=["a", "d"]))
    for wrong in ({"limit": 0}, {"scenes": []}):
        with pytest.raises(InputError):
            list(some_scans(scans, **wrong))


def test_a_list_of_a_split_may_name_scans_that_are_left_out(tmp_path):
    (tmp_path / "train.txt").write_text("a_0\n")
    (tmp_path / "val.txt").write_text("b_2\nb_3\n")
    card = replace(load_card("semantickitti"), split_files={"train": "train.txt", "val": "val.txt"})
    write_rows(tmp_path, tmp_path / "index", ListedLog("made", card, listed("aabb", "kkkk")), limit=1)
    index = LogIndex.open(tmp_path / "index")
    assert (len(index), index.scenes, index.warnings) == (1, ("a",), ())
    assert index.rows("train").tolist() == [0]
    with pytest.raises(InputError, match="'val' selects no key frame"):
        index.rows("val")


def test_a_log_in_nuscenes_schema_knows_nothing_of_what_was_left_out(small_log, tmp_path):
    root = small_log.write()
    whole = write_index(root, tmp_path / "whole")
    scene = whole.scenes[1]
    part = write_index(root, tmp_path / "part", scenes=[scene], limit=3)
    assert part.scenes == (scene,)
    assert len(part.rows()) == 3
    rows = whole.rows(scene, keys_only=False)[: len(part)]
    assert part.tokens(range(len(part))) == whole.tokens(rows)
    for row, other in enumerate(rows.tolist()):
        ours, theirs = part.frame(row, boxes=True), whole.frame(other, boxes=True)
        np.testing.assert_array_equal(ours.points, theirs.points)
        assert [c.token for c in ours.cameras] == [c.token for c in theirs.cameras]
        assert (ours.boxes is None) == (theirs.boxes is None)
        if ours.boxes is not None:
            assert ours.boxes.tracks == theirs.boxes.tracks


def test_the_command_takes_both(tmp_path, capsys):
    for scene in ("00", "01"):
        folder = Path(tmp_path / f"kitti/sequences/{scene}/velodyne")
        folder.mkdir(parents=True)
        for number in range(3):
            np.ones((2, 4), "<f4").tofile(folder / f"{number:06d}.bin")
    command = ["prepare", "semantickitti", "--root", str(tmp_path / "kitti"), "--out", str(tmp_path / "out")]
    assert tools.main([*command, "--scenes", "01", "--limit", "2"]) == 0
    assert LogIndex.open(tmp_path / "out").tokens(range(2)) == ["01_000000", "01_000001"]
    with pytest.raises(SystemExit):
        tools.main([*command, "--limit", "0"])
    assert "--limit: is '0'; give a whole number from 1 on" in capsys.readouterr().err
