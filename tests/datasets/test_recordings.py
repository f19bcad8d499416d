"""Which drives datasets share, against the published map of KITTI's drives; sets that share none have none."""

from __future__ import annotations

import json

import pytest
import yaml

from superflow.datasets.recordings import recording_named, recordings_of
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError


def test_kittis_sequences_are_the_published_drives(shared_data):
    facts = yaml.safe_load((shared_data / "label_maps/kitti_raw.yaml").read_text())
    assert len(facts["odometry_map"]) == 11
    for row in facts["odometry_map"]:
        raw = recordings_of("kitti_raw", [f"{row['drive']}_sync"])
        assert len(raw) == 1
        assert recordings_of("semantickitti", [row["sequence"]]) == raw
        assert recordings_of("scribblekitti", [row["sequence"]]) == raw
        assert recordings_of("daps3d", [f"daps-1_{row['sequence']}"]) == raw


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("semantickitti", ["08"]), ("kitti_raw", ["2011_09_30_drive_0028_sync"]), 1),
        (("semantickitti", ["08"]), ("kitti_raw", ["2011_09_26_drive_0009_sync"]), 0),
        (("semantickitti", ["12"]), ("scribblekitti", ["12"]), 1),
        (("semantickitti", ["08"]), ("daps3d", ["daps-1_07", "daps-2_08"]), 0),
        (("nuscenes", ["scene-0003", "scene-0012"]), ("nuscenes_c", ["scene-0003"]), 1),
        (("nuscenes", ["08"]), ("semantickitti", ["08"]), 0),
        (("pandaset", ["scene-9002", "scene-9102"]), ("pandaset_nuscenes", ["scene-9102", "scene-9202"]), 1),
        (("pandaset_raw", ["001", "002"]), ("pandaset", ["pandaset-002"]), 1),
        (("pandaset_raw", ["002"]), ("pandaset_nuscenes", ["002"]), 1),
        (("pandaset_raw", ["002"]), ("pandaset", ["003"]), 0),
        (("semanticposs", ["02"]), ("semanticposs", ["02"]), 0),
        # names that tell it stand for the drive in logs of any card
        (("my-conversion", ["kitti-2011_09_30_drive_0028_extract"]), ("semantickitti", ["08"]), 1),
        (("folder", ["PandaSet 002"]), ("pandaset_raw", ["002"]), 1),
        (("folder", ["pandaset-0021", "scene-0003"]), ("pandaset_raw", ["002", "021"]), 0),
    ],
)
def test_scenes_of_one_drive_are_one_recording(one, other, shared):
    assert len(set(recordings_of(*one)) & set(recordings_of(*other))) == shared


@pytest.mark.parametrize(
    ("scene", "drive", "recording"),
    [
        ("scene-9002", "pandaset-002", "PandaSet 002"),
        ("scene-9002", "Pandaset_002 part 1", "PandaSet 002"),
        ("002", "2011_09_30_drive_0028_sync", "KITTI 2011_09_30_drive_0028"),
        ("scene-0003", "n015-2018-07-18-11-07-57+0800", "nuScenes scene-0003"),
        ("pandaset-003", "", "PandaSet 003"),
        ("scene-9002", "pandaset", None),
        ("scene-9002", "my drive 002", None),
    ],
)
def test_a_drives_own_name_tells_what_a_renamed_scene_is(scene, drive, recording):
    assert recording_named(scene, drive) == recording


def test_renamed_scenes_are_traced_by_their_log_or_by_what_the_log_states(small_log, tmp_path):
    plain = write_index(small_log.write(), tmp_path / "plain")
    assert plain.recordings(plain.rows()) == recordings_of("nuscenes", plain.scenes)
    small_log.tables["log"] = [{"token": "drive", "logfile": "pandaset-002"}]
    scenes = small_log.tables["scene"]
    for row in scenes:
        row["log_token"] = "drive"
    root = small_log.write()
    index = write_index(root, tmp_path / "index")
    assert index.recordings(index.rows()) == recordings_of("pandaset_raw", ["002"])
    assert index.hash == plain.hash, "what the rows are is not what is said of them"
    first = scenes[0]["name"]
    (root / "dataset.json").write_text(json.dumps({"recordings": {first: "PandaSet 011"}}))
    stated = write_index(root, tmp_path / "stated")
    rows = stated.rows([first])
    assert stated.recordings(rows) == recordings_of("pandaset_raw", ["011"])
    for wrong in (7, " "):
        (root / "dataset.json").write_text(json.dumps({"recordings": {first: wrong}}))
        with pytest.raises(
            InputError, match=r"recordings: .* give the name of the recording, as PandaSet 002"
        ):
            write_index(root, tmp_path / "wrong")
