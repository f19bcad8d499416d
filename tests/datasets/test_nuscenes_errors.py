"""A log that is wrong: one sentence that names the file, and no index left behind."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest

from superflow.camera.projection import project
from superflow.datasets.card import load_card
from superflow.datasets.check.log import check_log
from superflow.datasets.check.overlay import write_overlays
from superflow.datasets.sets.nuscenes import find_version, write_index
from superflow.errors import InputError, MissingFileError

SWEEP = "scene-0001-LIDAR_TOP-5"


def scan(log, i, scene="scene-0001"):
    return log.row("sample_data", f"{scene}-LIDAR_TOP-{i}")


def sample(log, i, scene="scene-0001"):
    return log.row("sample", f"{scene}-sample-{i}")


def duplicate_key(log, token):
    row = dict(log.row("sample_data", token))
    log.tables["sample_data"].append({**row, "token": "twin", "filename": "other", "prev": "", "next": ""})


WRONG = {
    "dangling next": (
        lambda log: scan(log, 5).update(next="nowhere"),
        r"sample_data.json: broken chain in scene-0001: next of 'scene-0001-LIDAR_TOP-5', 'nowhere', is no LiDAR scan",
    ),
    "dangling prev": (
        lambda log: scan(log, 0).update(prev="nowhere"),
        r"broken chain in scene-0001: prev of 'scene-0001-LIDAR_TOP-0', 'nowhere', is no LiDAR scan",
    ),
    "chain into another scene": (
        lambda log: scan(log, 30, "scene-0003").update(next="scene-0001-LIDAR_TOP-0"),
        r"broken chain in scene-0003: next of .*, 'scene-0001-LIDAR_TOP-0', is in another scene",
    ),
    "cycle": (
        lambda log: scan(log, 5).update(next="scene-0001-LIDAR_TOP-2"),
        r"broken chain in scene-0001: next of .*, 'scene-0001-LIDAR_TOP-2', is not later in time",
    ),
    "times not ascending": (
        lambda log: scan(log, 6).update(timestamp=scan(log, 5)["timestamp"]),
        r"broken chain in scene-0001: next of 'scene-0001-LIDAR_TOP-5', .*, is not later in time",
    ),
    "one-sided link": (
        lambda log: scan(log, 5).update(next="scene-0001-LIDAR_TOP-8"),
        r"broken chain in scene-0001: next of .*, 'scene-0001-LIDAR_TOP-8', does not point back",
    ),
    "sample dangling": (
        lambda log: sample(log, 1).update(next="nowhere"),
        r"sample.json: broken chain in scene-0001: there is no sample 'nowhere'",
    ),
    "sample into another scene": (
        lambda log: sample(log, 3, "scene-0003").update(next="scene-0001-sample-0"),
        r"sample.json: broken chain: the sample 'scene-0001-sample-0' is reached from scene-0003",
    ),
    "sample cycle": (
        lambda log: sample(log, 2).update(next="scene-0001-sample-1"),
        r"sample.json: broken chain in scene-0001: it returns to the sample 'scene-0001-sample-1'",
    ),
    "sample time": (
        lambda log: sample(log, 2).update(timestamp=0),
        r"sample.json: broken chain in scene-0001: the time of sample 'scene-0001-sample-2' does not ascend",
    ),
    "sample prev": (
        lambda log: sample(log, 2).update(prev=""),
        r"prev of sample 'scene-0001-sample-2' is not the sample before it",
    ),
    "samples cut off": (
        lambda log: sample(log, 1).update(next=""),
        r"sample.json: broken chain: 2 samples are reached from no scene's first sample",
    ),
    "tokens twice": (
        lambda log: log.tables["sample"].append(dict(sample(log, 1))),
        r"sample.json: 1 tokens occur twice",
    ),
    "scan tokens twice": (
        lambda log: log.tables["sample_data"].append(dict(scan(log, 5))),
        r"sample_data.json: 1 tokens occur twice",
    ),
    "scene names twice": (
        lambda log: log.tables["scene"][0].update(name="scene-0001"),
        r"scene.json: two scenes share the name 'scene-0001'; rename one of them",
    ),
    "no pose": (
        lambda log: scan(log, 5).update(ego_pose_token="nowhere"),
        r"ego_pose.json: 1 poses that sample_data.json names are not in it \(first: 'nowhere'\)",
    ),
    "pose of zeros": (
        lambda log: log.row("ego_pose", f"pose-{SWEEP}").update(rotation=[0, 0, 0, 0]),
        r"ego_pose.json: rotation of the row with token 'pose-scene-0001-LIDAR_TOP-5' is \[0, 0, 0, 0\]; it must be",
    ),
    "pose with NaN": (
        lambda log: log.row("ego_pose", f"pose-{SWEEP}").update(translation=[0, float("nan"), 0]),
        r"ego_pose.json: translation of the row with .*-LIDAR_TOP-5' is \[0, nan, 0\]; it must be three finite numbers",
    ),
    "pose of norm 2": (
        lambda log: log.row("ego_pose", f"pose-{SWEEP}").update(rotation=[2, 0, 0, 0]),
        r"ego_pose.json: rotation of the row with .*-LIDAR_TOP-5' is \[2, 0, 0, 0\]; it must be a unit quaternion",
    ),
    "calibration of norm 2": (
        lambda log: log.tables["calibrated_sensor"][0].update(rotation=[0, 2, 0, 0]),
        r"calibrated_sensor.json: rotation of the row with token 'calibrated-LIDAR_TOP' is \[0, 2, 0, 0\]; it must be",
    ),
    "calibration of three angles": (
        lambda log: log.tables["calibrated_sensor"][0].update(rotation=[1, 0, 0]),
        r"rotation of the row with token 'calibrated-LIDAR_TOP' is \[1, 0, 0\]; it must be a unit quaternion",
    ),
    "scene name like a slice": (
        lambda log: log.tables["scene"][0].update(name="drive[2]"),
        r"scene.json: the scene name 'drive\[2\]' cannot be used; it must be text without @ \[ \] / \\",
    ),
    "scene name like a percentage": (
        lambda log: log.tables["scene"][0].update(name="drive@5"),
        r"scene.json: the scene name 'drive@5' cannot be used; .*: rename the scene",
    ),
    "scene name with a slash": (
        lambda log: log.tables["scene"][0].update(name="../drive"),
        r"scene.json: the scene name '../drive' cannot be used",
    ),
    "scene name with a blank at its end": (
        lambda log: log.tables["scene"][0].update(name="drive "),
        r"scene.json: the scene name 'drive ' cannot be used; .* without blanks at its ends",
    ),
    "scene name that is a number": (
        lambda log: log.tables["scene"][0].update(name=3),
        r"scene.json: name of the row with token 'SCENE-0003' is 3; it must be text without",
    ),
    "image token with a slash": (
        lambda log: log.row("sample_data", "scene-0001-CAM_BACK-0").update(token="CAM_BACK/0"),
        r"sample_data.json: the token 'CAM_BACK/0' cannot be used; .* files are named by it",
    ),
    "image token of two lines": (
        lambda log: log.row("sample_data", "scene-0001-CAM_BACK-0").update(token="a\nb"),
        r"sample_data.json: token of row 44 \(the first is 0\) is 'a\\nb'; it must be text of 1 to 200 bytes without",
    ),
    "scan token with a dot": (
        lambda log: scan(log, 0).update(token=".hidden"),
        r"sample_data.json: the token '.hidden' cannot be used; .* with no dot or blank at its beginning",
    ),
    "no calibration": (
        lambda log: scan(log, 5).update(calibrated_sensor_token="nowhere"),
        r"sample_data.json: the row scene-0001-LIDAR_TOP-5 names calibrated_sensor_token 'nowhere'",
    ),
    "no sample": (
        lambda log: scan(log, 5).update(sample_token="nowhere"),
        r"sample_data.json: the row scene-0001-LIDAR_TOP-5 names sample_token 'nowhere', which sample.json does not",
    ),
    "no sensor": (
        lambda log: log.tables["calibrated_sensor"][1].update(sensor_token="nowhere"),
        r"calibrated_sensor.json: the row calibrated-CAM_FRONT names sensor_token 'nowhere'",
    ),
    "no LiDAR": (
        lambda log: log.tables["sensor"][0].update(channel="VELO"),
        r"sensor.json: no calibrated sensor has the channel LIDAR_TOP",
    ),
    "no intrinsics": (
        lambda log: log.tables["calibrated_sensor"][1].update(camera_intrinsic=[]),
        r"calibrated_sensor.json: the camera CAM_FRONT \(calibrated-CAM_FRONT\) needs a 3 x 3 camera_intrinsic",
    ),
    "intrinsics of text": (
        lambda log: log.tables["calibrated_sensor"][1].update(camera_intrinsic=[["a"]]),
        r"camera_intrinsic of the row with token 'calibrated-CAM_FRONT' is \[\['a'\]\]; it must be 3 x 3 finite",
    ),
    "rotation of zeros": (
        lambda log: log.tables["calibrated_sensor"][0].update(rotation=[0, 0, 0, 0]),
        r"rotation of the row with token 'calibrated-LIDAR_TOP' is \[0, 0, 0, 0\]; it must be a unit quaternion",
    ),
    "key frame without LiDAR": (
        lambda log: scan(log, 10).update(is_key_frame=False),
        r"sample_data.json: 1 samples have no LIDAR_TOP key frame \(first: scene-0001-sample-1\)",
    ),
    "two LiDAR key frames": (
        lambda log: scan(log, 9).update(is_key_frame=True),
        r"sample_data.json: the sample scene-0001-sample-1 has two LIDAR_TOP key frames",
    ),
    "two images of one camera": (
        lambda log: duplicate_key(log, "scene-0001-CAM_BACK-0"),
        r"sample_data.json: the sample scene-0001-sample-0 has two key frames of CAM_BACK",
    ),
    "missing field": (
        lambda log: scan(log, 5).pop("timestamp"),
        r"sample_data.json: the row with token 'scene-0001-LIDAR_TOP-5' has no field 'timestamp'",
    ),
    "time in seconds": (
        lambda log: scan(log, 5).update(timestamp=1500000000.25),
        r"sample_data.json: timestamp of the row with .* is 1500000000.25; it must be a whole number of microseconds",
    ),
    "box without track": (
        lambda log: log.tables["instance"].pop(),
        r"sample_annotation.json: the row .* names instance_token 'scene-0001-car', which instance.json",
    ),
    "box without attribute": (
        lambda log: log.tables["attribute"].pop(),
        r"sample_annotation.json: the row .* names attribute_tokens \['moving'\], which attribute.json",
    ),
    "box without category": (
        lambda log: log.tables["category"].pop(0),
        r"instance.json: the row scene-0003-car names category_token 'category-vehicle.car'",
    ),
    "box of two numbers": (
        lambda log: log.tables["sample_annotation"][0].update(size=[1, 2]),
        r"sample_annotation.json: size of the row with token 'scene-0003-sample-0-box' is \[1, 2\]; it must be three",
    ),
    "labels without index": (
        lambda log: [row.pop("index") for row in log.tables["category"]],
        r"category.json: lidarseg.json gives point labels but the categories have no index",
    ),
    "labels without categories": (
        lambda log: [log.tables.pop(name) for name in ("category", "instance", "sample_annotation")],
        r"category.json: lidarseg.json gives point labels but no table says .* categories in a card",
    ),
    "index twice": (
        lambda log: log.tables["category"][0].update(index=24),
        r"category.json: 4 categories share 3 different index values",
    ),
    "no frames": (lambda log: log.tables["scene"].clear(), r"scene.json or sample.json is empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables_are_named(small_log, tmp_path, name):
    change, message = WRONG[name]
    change(small_log)
    root = small_log.write()
    with pytest.raises(InputError, match=message) as caught:
        write_index(root, tmp_path / "index")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    "name", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor"]
)
def test_missing_tables_are_named(small_log, tmp_path, name):
    root = small_log.write()
    (root / small_log.version / f"{name}.json").unlink()
    if name == "sample_data":  # without it the folder is not even taken for tables
        with pytest.raises(MissingFileError, match=r"no folder in it holds sample_data.json"):
            write_index(root, tmp_path / "index")
    with pytest.raises(MissingFileError, match=rf"{name}.json: this table is missing; complete the metadata"):
        write_index(root, tmp_path / "index", version=small_log.version)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"token": "a"}, {"tok', r"scene.json: is no valid JSON \(Unterminated string"),
        ('[{"token": "a"}', r"is no valid JSON \(the list has no end"),
        ('[{"token": "a"} {"token": "b"}]', r"is no valid JSON \(a comma was expected near character 16"),
        ('{"token": "a"}', r"is no valid JSON \(a list was expected"),
        ("[1, 2]", r"must be a list of objects but holds 1"),
        ("[] []", r"is no valid JSON \(more text after the list"),
        ("", r"is no valid JSON \(the list has no end"),
    ],
)
def test_corrupt_json_is_named(small_log, tmp_path, text, message):
    root = small_log.write()
    (root / small_log.version / "scene.json").write_text(text)
    with pytest.raises(InputError, match=message):
        write_index(root, tmp_path / "index")


def test_binary_rubbish_is_named(small_log, tmp_path):
    root = small_log.write()
    (root / small_log.version / "scene.json").write_bytes(b"[\xff\xfe")
    with pytest.raises(InputError, match=r"scene.json: is not UTF-8 text"):
        write_index(root, tmp_path / "index")


def test_a_chain_cut_in_two_is_a_warning(small_log, tmp_path):
    """Time still orders the scans; the sentence goes into the index and the check."""
    scan(small_log, 5)["next"] = scan(small_log, 6)["prev"] = ""
    index = write_index(small_log.write(), tmp_path / "index")
    assert "scene-0001 form 2 chains instead of one" in index.warnings[0]
    assert index.sweeps(int(index.rows("scene-0001")[1]), 9)[-1] == int(index.rows("scene-0001")[0]) + 1


def test_what_a_log_may_lack(small_log, tmp_path):
    """No labels, boxes, categories or log table: a log for pretraining."""
    for name in ("lidarseg", "sample_annotation", "instance", "category", "log"):
        del small_log.tables[name]
    index = write_index(small_log.write(), tmp_path / "index")
    frame = index.frame(0, boxes=True)
    assert (frame.labels, frame.boxes) == (None, None)
    assert (index.card.name, index.card.licence) == ("log", "not stated")
    assert len(frame.cameras) == 2


def test_quaternions_of_few_decimals_are_taken(small_log, tmp_path):
    """They are off by what rounding leaves, and are made unit; two of the same rotation give the same poses."""
    pose = small_log.row("ego_pose", f"pose-{SWEEP}")
    exact = write_index(small_log.write(), tmp_path / "exact")
    pose["rotation"] = [round(value, 3) for value in pose["rotation"]]
    index = write_index(small_log.write(), tmp_path / "index")
    assert index.hash != exact.hash
    row = index.tokens(range(len(index))).index(SWEEP)
    turn = index.frame(row).ego_to_world[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn, exact.frame(row).ego_to_world[:3, :3], atol=2e-3)


def test_a_log_without_cameras(small_log, tmp_path):
    small_log.tables["sample_data"] = [r for r in small_log.tables["sample_data"] if "CAM" not in r["token"]]
    index = write_index(small_log.write(), tmp_path / "index")
    assert index.cameras() == []
    assert index.frame(0).cameras == ()
    report = check_log(index, project=project)
    assert report.ok
    assert report.counts["images"] == 0
    assert write_overlays(index, tmp_path / "pictures", project=None) == []


def test_a_test_split_has_no_labels(small_log, tmp_path):
    small_log.tables["lidarseg"] = [r for r in small_log.tables["lidarseg"] if "scene-0003" in r["token"]]
    index = write_index(small_log.write(), tmp_path / "index")
    keys = index.rows()
    assert [index.has_labels(int(row)) for row in keys] == [True] * 4 + [False] * 4
    assert index.frame(int(keys[-1])).labels is None
    assert index.label_path(int(keys[-1])) is None


def test_a_table_that_cannot_be_written_leaves_the_old_index(small_log, tmp_path, monkeypatch):
    root = small_log.write()
    old = write_index(root, tmp_path / "index")
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "index").iterdir())
    small_log.row("ego_pose", f"pose-{SWEEP}")["translation"][0] += 1
    small_log.write()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        write_index(root, tmp_path / "index")
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "index").iterdir()) == before
    monkeypatch.undo()
    assert write_index(root, tmp_path / "index").hash != old.hash


def test_versions_are_found_or_asked_for(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sample_data.json").write_text("[]")
    with pytest.raises(InputError, match=r"holds the tables a, b; choose one with --version"):
        find_version(tmp_path)
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini" / "sample_data.json").write_text("[]")
    assert find_version(tmp_path) == "v1.0-mini"
    with pytest.raises(
        MissingFileError, match=r"there is no such folder; give the folder that holds samples/"
    ):
        find_version(tmp_path / "gone")
    with pytest.raises(MissingFileError, match=r"no folder in it holds sample_data.json"):
        find_version(tmp_path / "a")
    with pytest.raises(MissingFileError, match=r"v1.0-gone: there is no such folder of tables"):
        write_index(tmp_path, tmp_path / "index", version="v1.0-gone")


def test_dataset_json_speaks_for_the_log(small_log, tmp_path):
    root = small_log.write()
    stated = {
        "name": "synthetic",
        "real": False,
        "licence": "CC0",
        "splits": {"train": ["scene-0003"], "val": ["scene-0001"]},
        "intensity": {"raw_max": 510},
        "generator": "other facts are welcome",
    }
    (root / "dataset.json").write_text(json.dumps(stated))
    index = write_index(root, tmp_path / "index")
    assert (index.card.name, index.card.real, index.card.licence) == ("synthetic", False, "CC0")
    assert index.rows("train").tolist() == index.rows("scene-0003").tolist()
    assert index.frame(0).points[:, 3].max() == pytest.approx(0.5)
    header = json.loads((tmp_path / "index" / "index.json").read_text())
    assert (header["card"]["name"], header["card"]["real"]) == ("synthetic", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"licens": "x"}', "dataset.json: unknown key 'licens'; did you mean 'licence'"),
        ("{", "dataset.json: is no valid JSON"),
        ("[]", "dataset.json: holds '[]' instead of a JSON object; mend or remove it"),
        ('{"intensity": 1}', "dataset.json: intensity is 1; it must be keys and values"),
        (
            '{"splits": {"train": "scene-1"}}',
            "dataset.json: splits must give a list of scene names for each split",
        ),
    ],
)
def test_a_wrong_dataset_json_is_named(small_log, tmp_path, text, message):
    root = small_log.write()
    (root / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        write_index(root, tmp_path / "index")


def test_a_card_can_be_given(small_log, tmp_path):
    root = small_log.write()
    assert write_index(root, tmp_path / "a").card.name == "nuscenes"
    index = write_index(root, tmp_path / "b", card=load_card("pandaset_nuscenes"))
    assert index.card.name == "pandaset_nuscenes"


def test_smaller_images_need_the_switch_that_scales_intrinsics(small_log, tmp_path):
    for row in small_log.tables["sample_data"]:
        if row["height"]:
            row.update(height=72, width=128)  # the tables speak of images twice as large as the files
    root = small_log.write()
    index = write_index(root, tmp_path / "index")
    with pytest.raises(
        InputError, match=r"the image is 64 x 36 pixels but its intrinsics are for 128 x 72; .*--rescale"
    ):
        index.frame(0)
    scaled = write_index(root, tmp_path / "index", rescale_intrinsics=True)
    camera = scaled.frame(0).cameras[0]
    assert camera.size == (36, 64)
    # a ray through the large image's pixel (u, v) meets the small one at ((u + 0.5) / 2 - 0.5)
    large = index.cameras()[0].intrinsics
    for x, y in ((0.1, -0.2), (-0.3, 0.05)):
        u, v, _ = large @ [x, y, 1.0]
        np.testing.assert_allclose((camera.intrinsics @ [x, y, 1.0])[:2], [(u - 0.5) / 2, (v - 0.5) / 2])


def test_sizes_that_the_tables_lack_come_from_the_images(small_log, tmp_path):
    want = None
    for row in small_log.tables["sample_data"]:
        row.pop("height"), row.pop("width")
    index = write_index(small_log.write(), tmp_path / "index")
    camera = index.frame(0).cameras[0]
    want = small_log.row("calibrated_sensor", "calibrated-CAM_BACK")["camera_intrinsic"]
    assert camera.size == (36, 64)
    np.testing.assert_array_equal(camera.intrinsics, want)
