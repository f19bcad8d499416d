"""The drive on disk: devkit, determinism, resuming, splits, and what a classifier without context can do on it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion
from scipy.spatial import cKDTree

from superflow.errors import InputError
from superflow.street import drive
from superflow.street.classes import CATEGORIES, FINER_CATEGORIES
from superflow.street.drive import DriveSettings, make_drive
from superflow.street.recorder import Recorder
from superflow.street.rig import make_rig
from superflow.street.scene import make_scene, scene_rng
from superflow.street.schema import VERSION
from superflow.tools.make_drive import main

SETTINGS = DriveSettings(seconds=1.0, seed=11, image_size=(48, 84))
# raw class -> one of 16, in the order of the benchmark; written out here so that the test does not use the card
EVALUATED = {
    9: 0, 14: 1, 15: 2, 16: 2, 17: 3, 18: 4, 21: 5, 2: 6, 3: 6, 4: 6, 6: 6, 12: 7, 22: 8, 23: 9, 24: 10, 25: 11,
    26: 12, 27: 13, 28: 14, 30: 15,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_drive(tmp_path_factory.mktemp("drive") / "one", scenes=2, settings=SETTINGS)


@pytest.fixture(scope="module")
def devkit(root) -> NuScenes:
    return NuScenes(VERSION, str(root), verbose=False)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def test_devkit_loads_tables_chains_and_labels(devkit, root):
    assert [row["name"] for row in devkit.scene] == ["scene-0001", "scene-0002"]
    assert len(devkit.sample) == 4
    for scene in devkit.scene:
        sample = devkit.get("sample", scene["first_sample_token"])
        row = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        chain = [row]
        while row["next"]:
            row = devkit.get("sample_data", row["next"])
            chain.append(row)
        assert len(chain) == 11
        assert [r["is_key_frame"] for r in chain] == [True] + 9 * [False] + [True]
        assert set(np.diff([r["timestamp"] for r in chain])) == {50_000}
        assert sample["prev"] == ""
        assert sample["next"] == scene["last_sample_token"]
        assert set(sample["data"]) == {row["channel"] for row in devkit.sensor}
    for row in devkit.sample_data:
        assert devkit.get("ego_pose", row["ego_pose_token"])["timestamp"] == row["timestamp"]
    for row in devkit.lidarseg:
        data = devkit.get("sample_data", row["sample_data_token"])
        points = (root / data["filename"]).stat().st_size / 20
        labels = np.fromfile(root / row["filename"], dtype=np.uint8)
        assert len(labels) == points
        assert set(labels) <= {*EVALUATED, 10, 11, 31}
    assert [row["index"] for row in devkit.category] == list(range(32))
    assert devkit.category[30]["name"] == CATEGORIES[30] == "static.vegetation"
    assert devkit.map[0]["mask"].mask().size == 64 * 64


def test_finer_labels_lie_beside_those_of_nuscenes(devkit, root):
    """The devkit knows the 32 names alone, so finer classes have tables and files of their own."""
    tables = root / VERSION
    finer = json.loads((tables / "category_fine.json").read_text())
    assert [row["name"] for row in finer] == list(FINER_CATEGORIES)
    assert finer[:32] == devkit.category
    rows = json.loads((tables / "lidarseg_fine.json").read_text())
    found = set()
    for row, coarse in zip(rows, devkit.lidarseg, strict=True):
        assert row["sample_data_token"] == coarse["sample_data_token"]
        raw = np.fromfile(root / row["filename"], dtype=np.uint8)
        names = [FINER_CATEGORIES[k] for k in raw]
        known = [CATEGORIES[k] for k in np.fromfile(root / coarse["filename"], dtype=np.uint8)]
        assert all(
            name in (above, f"{above}.{name.rpartition('.')[2]}")
            for name, above in zip(names, known, strict=True)
        )
        found |= set(names)
    assert {"static.manmade.building", "static.vegetation.trunk", "flat.driveable_surface.parking"} <= found


def test_devkit_projects_and_draws_what_it_reads(devkit, root):
    sample = devkit.sample[1]
    lidar, camera = sample["data"]["LIDAR_TOP"], sample["data"]["CAM_FRONT"]
    points, depth, image = devkit.explorer.map_pointcloud_to_image(lidar, camera)
    assert image.size == (84, 48)
    assert points.shape[1] > 300
    assert depth.min() > 1.0
    counts = devkit.get_sample_lidarseg_stats(sample["token"], sort_by="name")
    assert counts is None  # it prints; it must not raise
    cloud, _ = LidarPointCloud.from_file_multisweep(
        devkit, devkit.sample[1], "LIDAR_TOP", "LIDAR_TOP", nsweeps=5
    )
    single = np.fromfile(
        root / devkit.get("sample_data", sample["data"]["LIDAR_TOP"])["filename"], dtype="<f4"
    )
    assert cloud.points.shape[1] > 4 * len(single) / 5


def test_devkit_boxes_contain_the_points_that_they_count(devkit):
    sample = devkit.sample[0]
    token = sample["data"]["LIDAR_TOP"]
    path, boxes, _ = devkit.get_sample_data(token)
    cloud = LidarPointCloud.from_file(path)
    labels = np.fromfile(Path(devkit.dataroot) / devkit.get("lidarseg", token)["filename"], dtype=np.uint8)
    assert len(boxes) > 10
    for box in boxes:
        annotation = devkit.get("sample_annotation", box.token)
        names = [devkit.get("attribute", t)["name"] for t in annotation["attribute_tokens"]]
        moving = any(name.endswith(("moving", "with_rider")) for name in names)
        # its way during the turn; four deviations of the range noise
        box.wlh = box.wlh + (1.8 if moving else 0.1)
        held = points_in_box(box, cloud.points[:3])
        index = next(c["index"] for c in devkit.category if c["name"] == box.name)
        assert (held & (labels == index)).sum() >= annotation["num_lidar_pts"]
        assert annotation["num_lidar_pts"] >= 1


def test_tracks_are_chained_and_move(devkit):
    moved = 0
    for instance in devkit.instance:
        row = devkit.get("sample_annotation", instance["first_annotation_token"])
        count = 1
        while row["next"]:
            following = devkit.get("sample_annotation", row["next"])
            assert following["prev"] == row["token"]
            assert following["instance_token"] == instance["token"]
            step = np.linalg.norm(np.subtract(following["translation"], row["translation"]))
            moving = any("moving" in devkit.get("attribute", t)["name"] for t in row["attribute_tokens"])
            moved += moving and step > 0.3
            assert step < (8.0 if row["attribute_tokens"] and step > 1e-6 else 1e-6)
            row, count = following, count + 1
        assert count == instance["nbr_annotations"]
        assert row["token"] == instance["last_annotation_token"]
    assert moved > 0
    assert all(abs(Quaternion(row["rotation"]).norm - 1) < 1e-9 for row in devkit.sample_annotation)


def test_two_workers_write_the_bytes_of_one_and_scenes_can_be_added(root, tmp_path):
    other = make_drive(tmp_path / "two", scenes=2, settings=SETTINGS, workers=2)
    assert contents(other) == contents(root)
    make_drive(other, scenes=3, val_scenes=2, settings=SETTINGS)
    new, old = contents(other), contents(root)
    for path, data in old.items():
        if path.startswith(("samples", "sweeps", "lidarseg", ".shards")):
            assert new[path] == data  # a scene does not depend on how many there are
    summary = json.loads((other / "dataset.json").read_text())
    assert summary["splits"] == {"train": ["scene-0001"], "val": ["scene-0002", "scene-0003"]}
    assert summary["real"] is False
    assert len(NuScenes(VERSION, str(other), verbose=False).sample) == 6
    with pytest.raises(InputError, match="holds more than 2 scenes"):
        make_drive(other, scenes=2, settings=SETTINGS)


def test_broken_off_and_resumed_equals_unbroken(root, tmp_path):
    """Scene 2 was cut off in the middle: its shard is missing, a file is half-written, another is absent."""
    cut = tmp_path / "cut"
    shutil.copytree(root, cut)
    shutil.rmtree(cut / VERSION)
    (cut / "dataset.json").unlink()
    (cut / ".shards" / "scene-0002.json").unlink()
    images = sorted(cut.glob("samples/CAM_FRONT/*scene-0002*"))
    images[0].write_bytes(b"half")
    images[1].unlink()
    done = []
    make_drive(cut, scenes=2, settings=SETTINGS, progress=lambda *seen: done.append(seen))
    assert contents(cut) == contents(root)
    assert done == [("key frames", count, 4) for count in (2, 3, 4)]  # only the missing scene was made


def test_fewer_sweeps_are_a_subset(root, tmp_path):
    settings = DriveSettings(
        **{**{f: getattr(SETTINGS, f) for f in ("seconds", "seed", "image_size")}, "lidar_hz": 4}
    )
    few = make_drive(tmp_path / "few", scenes=2, settings=settings)
    new, old = contents(few), contents(root)
    sweeps = [path for path in new if path.startswith("sweeps")]
    assert len(sweeps) == 2
    assert all(new[path] == old[path] for path in sweeps)


def test_without_images_all_else_is_the_same(root, tmp_path):
    fields = {f: getattr(SETTINGS, f) for f in ("seconds", "seed", "image_size")}
    blind = make_drive(tmp_path / "blind", scenes=2, settings=DriveSettings(**fields, images=False))
    new, old = contents(blind), contents(root)
    for path, data in old.items():
        if path.endswith((".bin", "sample_annotation.json")):
            assert new[path] == data
    assert not [path for path in new if path.endswith(".jpg")]
    log = NuScenes(VERSION, str(blind), verbose=False)
    assert [row["channel"] for row in log.sensor] == ["LIDAR_TOP"]
    assert {row["channel"] for row in log.sample_data} == {"LIDAR_TOP"}


def test_sensors_vary_from_scene_to_scene_of_one_log(tmp_path):
    settings = DriveSettings(seconds=1.0, seed=11, image_size=(48, 84), vary=("sensor",))
    root = make_drive(tmp_path / "varied", scenes=4, settings=settings)
    log = NuScenes(VERSION, str(root), verbose=False)
    rings, cameras = set(), set()
    for scene in log.scene:
        sample = log.get("sample", scene["first_sample_token"])
        cameras.add(len(sample["data"]) - 1)
        path = root / log.get("sample_data", sample["data"]["LIDAR_TOP"])["filename"]
        rings.add(int(np.fromfile(path, dtype="<f4").reshape(-1, 5)[:, 4].max()) + 1)
        assert f"{len(sample['data']) - 1} cameras" in scene["description"]
    assert len(rings) > 1
    assert len(cameras) > 1
    assert json.loads((root / "dataset.json").read_text())["settings"]["vary"] == ["sensor"]


def test_images_have_the_size_of_the_table(root, devkit):
    for row in devkit.sample_data:
        if row["fileformat"] == "jpg":
            assert cv2.imread(str(root / row["filename"])).shape == (row["height"], row["width"], 3)


def test_other_settings_and_foreign_folders_are_refused(root, tmp_path):
    with pytest.raises(InputError, match=r"other settings \(seed\).*another folder"):
        make_drive(root, scenes=2, settings=DriveSettings(seconds=1.0, seed=12, image_size=(48, 84)))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="not empty and no synthetic drive"):
        make_drive(tmp_path / "photos", settings=SETTINGS)
    with pytest.raises(InputError, match="at least one to train on"):
        make_drive(tmp_path / "none", scenes=1)
    with pytest.raises(InputError, match="leaves a split of 3 scenes empty"):
        make_drive(tmp_path / "none", scenes=3, val_scenes=3)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lidar_hz": 3}, r"lidar_hz 3 .*\(2, 4, 10, 20\)"),
        ({"seconds": 0.2}, "seconds 0.2"),
        ({"image_size": (8, 8)}, "image_size"),
        ({"seed": -1}, "seed -1"),
        ({"vary": ("weather",)}, "vary 'weather' is no group"),
    ],
)
def test_settings_are_checked(option, message):
    with pytest.raises(InputError, match=message):
        DriveSettings(**option)


def test_full_disk_is_one_sentence_and_leaves_no_half_file(tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if "samples" in str(target):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("superflow.files.writes.os.replace", full)
    with pytest.raises(
        InputError, match=r"scene-0001.*cannot be written \(No space left on device\); free some"
    ):
        make_drive(tmp_path / "drive", scenes=2, settings=SETTINGS)
    monkeypatch.undo()
    left = [path for path in (tmp_path / "drive").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["settings.json"]


def test_command_line_makes_and_refuses(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(drive, "record_scene", lambda root, number, settings: iter(()))
    monkeypatch.setattr(drive, "_join", lambda *args: None)
    monkeypatch.setattr(drive, "_read_shard", lambda path: {})
    assert main(["--out", str(tmp_path / "a"), "--scenes", "2", "--workers", "1", "--seed", "4"]) == 0
    said = capsys.readouterr().out
    assert "2 scenes in" in said
    assert said.endswith(
        f"next: superflow prepare nuscenes --root {tmp_path / 'a'} --out work_dirs/prepared\n"
    )
    assert main(["--out", str(tmp_path / "a"), "--scenes", "2", "--workers", "1", "--seed", "5"]) == 2
    assert "other settings (seed)" in capsys.readouterr().err


# --- what can be told without looking at shapes -------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans():
    """Points of 4 training and 2 validation scenes: scene, (z, range, intensity), class, and instances by class."""
    scene, features, classes, instances = [], [], [], []
    for number in range(6):
        made = make_scene(0, number, 5.0)
        recorder = Recorder(made, make_rig(scene_rng(0, number, 3), 64, 64), seed=0, number=number)
        found = set()
        for t in (0.55, 4.05):
            sweep = recorder.sweep(t)
            table = np.full(256, 255)
            table[list(EVALUATED)] = list(EVALUATED.values())
            keep = table[sweep.labels] < 255
            points = sweep.points[keep]
            features.append(
                np.stack([points[:, 2], np.hypot(points[:, 0], points[:, 1]), points[:, 3]], axis=1)
            )
            classes.append(table[sweep.labels[keep]])
            scene.append(np.full(keep.sum(), number))
            rows = recorder.stage.world.instance[sweep.prims[sweep.prims >= 0]]
            found |= {
                (EVALUATED.get(made.placed[row].model.label, 255), row) for row in np.unique(rows[rows >= 0])
            }
        instances.append(np.bincount([c for c, _ in found if c < 255], minlength=16))
    return np.concatenate(scene), np.concatenate(features), np.concatenate(classes), np.array(instances)


def miou(predicted, true):
    table = np.bincount(16 * true + predicted, minlength=256).reshape(16, 16)
    union = table.sum(0) + table.sum(1) - np.diag(table)
    return (np.diag(table) / np.maximum(union, 1)).mean()


def test_every_class_is_there_several_times(scans):
    scene, _, classes, instances = scans
    train, val = scene < 4, scene >= 4
    assert set(classes[train]) == set(classes[val]) == set(range(16))
    assert (np.bincount(classes[train], minlength=16) > 200).all()
    assert (instances[:4, :10].sum(axis=0) >= 6).all()  # things
    assert (instances[4:, :10].sum(axis=0) >= 2).all()


def test_classes_cannot_be_told_by_height_range_and_intensity(scans):
    """15 nearest neighbours on all three reach 12 % mIoU (16 classes), one of them alone less."""
    scene, features, classes, _ = scans
    scaled = np.stack([features[:, 0], 3 * np.log(features[:, 1]), np.log1p(features[:, 2])], axis=1)
    rng = np.random.default_rng(0)
    val = rng.choice(np.flatnonzero(scene >= 4), 15000, replace=False)
    for balanced in (False, True):
        chosen = np.flatnonzero(scene < 4)
        if balanced:
            chosen = np.concatenate([chosen[classes[chosen] == c][:3000] for c in range(16)])
        chosen = rng.choice(chosen, min(len(chosen), 40000), replace=False)
        near = cKDTree(scaled[chosen]).query(scaled[val], k=15)[1]
        votes = np.zeros((len(val), 16), dtype=int)
        np.add.at(votes, (np.arange(len(val))[:, None], classes[chosen][near]), 1)
        assert miou(votes.argmax(axis=1), classes[val]) < 0.20


@pytest.mark.parametrize("column", [0, 1, 2])
def test_no_single_column_tells_the_classes(scans, column):
    """The best rule that sees one value: the most frequent class of its percentile, weighted or not."""
    scene, features, classes, _ = scans
    train, val = scene < 4, scene >= 4
    edges = np.quantile(features[train, column], np.linspace(0, 1, 101)[1:-1])
    cell = np.digitize(features[:, column], edges)
    table = np.zeros((100, 16))
    np.add.at(table, (cell[train], classes[train]), 1)
    for weighted in (table, table / table.sum(axis=0)):
        assert miou(weighted.argmax(axis=1)[cell[val]], classes[val]) < 0.18


def test_heights_and_reflectances_overlap(scans):
    """Between the deciles of all things, and of all kinds of ground, there is common ground."""
    _, features, classes, _ = scans
    for group, column in ((range(10), 0), (range(10, 14), 0), (range(10), 2)):
        deciles = np.array([np.quantile(features[classes == c, column], (0.1, 0.9)) for c in group])
        assert deciles[:, 0].max() < deciles[:, 1].min() + (0.3 if column == 0 else 0)
