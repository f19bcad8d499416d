"""Which drives datasets share, against the published map of KITTI's drives; sets that share none have none."""

from __future__ import annotations

import pytest
import yaml

from superflow.datasets.recordings import recordings_of


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
    ],
)
def test_scenes_of_one_drive_are_one_recording(one, other, shared):
    assert len(set(recordings_of(*one)) & set(recordings_of(*other))) == shared
