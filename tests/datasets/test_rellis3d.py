"""RELLIS-3D: a real organised scan, where the camera is, and which image belongs to which scan."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from superflow.camera.projection import project
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.card import load_card
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real scan with the calib.txt of the archives, which is the identity."""
    root = tmp_path_factory.mktemp("rellis") / "log"
    shutil.copytree(shared_data / "fragments/rellis", root, copy_function=shutil.copyfile)
    (root / "00000/calib.txt").write_text(
        "".join(f"{n}: 1 0 0 0 0 1 0 0 0 0 1 0\n" for n in ("P0", "P2", "Tr"))
    )
    return root


@pytest.fixture(scope="module")
def index(root: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    # the image was made half as large as the one of its calibration
    return prepare("rellis3d", root, tmp_path_factory.mktemp("index"), rescale_intrinsics=True)


def test_points_and_labels_are_those_of_a_plain_read(index, root, shared_data):
    table = np.fromfile(root / "00000/os1_cloud_node_kitti_bin/000104.bin", "<f4").reshape(-1, 4)
    raw = np.fromfile(root / "00000/os1_cloud_node_semantickitti_label_id/000104.label", "<u4")
    there = table[:, :3].any(axis=1)
    assert (len(table), int((~there).sum())) == (131072, 53364)
    frame = index.frame(0)
    np.testing.assert_array_equal(frame.points[:, :3], table[there, :3] * np.float32([-1, -1, 1]))
    assert frame.cloud.file_row.tolist() == np.flatnonzero(there).tolist()
    np.testing.assert_allclose(frame.points[:, 3], np.clip(table[there, 3] * 65.535, 0, 1), rtol=1e-5)
    facts = yaml.safe_load((shared_data / "label_maps/rellis3d.yaml").read_text())
    want = [facts["raw_to_train"].get(int(i), 255) for i in raw[there] & 0xFFFF]
    assert frame.labels.tolist() == want
    assert max(facts["raw_to_train"]) == 34
    assert index.card.classes[index.card.label_map[34]] == "rubble"
    assert (frame.time_us, frame.ego_to_world) == (None, None)


def test_the_identity_is_not_read_and_the_pose_of_the_camera_is_inverted(index, root):
    """What the image labels and the points agree on says which way round the transform is meant."""
    frame = index.frame(0)
    (camera,) = frame.cameras
    assert camera.size == (600, 960)
    seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
    colours = cv2.imread(
        str(root / "00000/pylon_camera_node_label_id/frame000104-1581624663_149.png"), cv2.IMREAD_UNCHANGED
    )
    scale = colours.shape[0] / 600
    u, v = (np.round(seen.pixels * scale)).astype(int).T
    of_image = colours[np.clip(v, 0, colours.shape[0] - 1), np.clip(u, 0, colours.shape[1] - 1)]
    raw = np.fromfile(root / "00000/os1_cloud_node_semantickitti_label_id/000104.label", "<u4")
    of_points = raw[frame.cloud.file_row[seen.rows]]
    known = of_points > 0
    assert known.sum() > 7000
    assert (of_image[known] == of_points[known]).mean() > 0.7
    # an independent chain: the camera's pose in the sensor's own axes, inverted
    values = yaml.safe_load((root / "00000/transforms.yaml").read_text())["os1_cloud_node-pylon_camera_node"]
    w, x, y, z = (values["q"][axis] for axis in "wxyz")
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    table = np.fromfile(root / "00000/os1_cloud_node_kitti_bin/000104.bin", "<f4").reshape(-1, 4)[:, :3]
    points = table[frame.cloud.file_row[seen.rows]]
    in_camera = (points - np.array([values["t"][axis] for axis in "xyz"])) @ turn
    fx, fy, cx, cy = map(float, (root / "00000/camera_info.txt").read_text().split())
    u = fx / 2 * in_camera[:, 0] / in_camera[:, 2] + (cx - 0.5) / 2
    v = fy / 2 * in_camera[:, 1] / in_camera[:, 2] + (cy - 0.5) / 2
    np.testing.assert_allclose(seen.pixels, np.stack([u, v], 1), atol=0.02)


def test_the_check_finds_nothing_wrong(index):
    report = check_log(index, project=project, workers=1)
    assert report.ok
    assert not [note for note in report.notes if "raw label ids" in note or "intensit" in note]


def test_clips_to_pretrain_on_are_made_of_it(index):
    dataset = PretrainDataset(
        index,
        region="world_cell",
        times={"offsets": [0]},
        clouds={"sweeps": 0, "max_points": 8000},
        views={"size": (96, 96), "flip": 0.0},
    )
    batch = dataset[0]
    assert len(batch.images) == 1
    assert len(batch.pair_point) > 100


def sequence(root: Path, images: dict[int, float]) -> Path:
    """Six scans, and images by number and time [s]."""
    folder = root / "00003"
    for name in ("os1_cloud_node_kitti_bin", "pylon_camera_node"):
        (folder / name).mkdir(parents=True)
    for number in range(6):
        np.full((2, 4), number + 1, "<f4").tofile(folder / f"os1_cloud_node_kitti_bin/{number:06d}.bin")
    picture = cv2.imencode(".jpg", np.zeros((1200, 1920, 3), np.uint8))[1].tobytes()
    for number, seconds in images.items():
        name = f"frame{number:06d}-{int(seconds)}_{round(seconds % 1 * 1000):03d}.jpg"
        (folder / "pylon_camera_node" / name).write_bytes(picture)
    (folder / "camera_info.txt").write_text("2800 2800 960 600\n")
    (folder / "transforms.yaml").write_text(
        "os1_cloud_node-pylon_camera_node:\n  q: {w: 0.5, x: -0.5, y: 0.5, z: -0.5}\n  t: {x: 0.1, y: 0, z: 0}\n"
    )
    (folder / "poses.txt").write_text("".join(f"1 0 0 {-n} 0 1 0 0 0 0 1 0\n" for n in range(6)))
    return root


def matched(index: LogIndex) -> list[str]:
    cameras = [index.frame(row, images=False).cameras for row in range(len(index))]
    return [Path(camera[0].path).name[5:11] if camera else "" for camera in cameras]


def test_images_are_matched_by_time_where_scans_have_one(tmp_path):
    """Every second scan has an image, so that numbers of scans and images drift apart."""
    root = sequence(tmp_path / "log", {0: 100.01, 1: 100.21, 2: 100.42})
    index = prepare("rellis3d", root, tmp_path / "index")
    assert matched(index) == ["000000", "000001", "000002", "", "", ""]
    assert any("so images belong to scans of their number" in warning for warning in index.warnings)
    (root / "00003/times.txt").write_text("".join(f"{100 + 0.1 * n:.6f}\n" for n in range(6)))
    index = prepare("rellis3d", root, tmp_path / "index")
    assert matched(index) == ["000000", "", "000001", "", "000002", ""]
    assert index.camera_delays()["pylon_camera_node"] == pytest.approx([0.01, 0.01, 0.02], abs=1e-6)
    for seconds in (102, 99):  # images of two bags may have the numbers of others
        sequence(tmp_path / f"{seconds}", {1: seconds})
        shutil.copytree(
            tmp_path / f"{seconds}/00003/pylon_camera_node",
            root / "00003/pylon_camera_node",
            dirs_exist_ok=True,
        )
    index = prepare("rellis3d", root, tmp_path / "index")
    files = [Path(camera.path).name for camera in index.cameras()]
    assert files[1] == "frame000001-100_210.jpg", files
    assert not any("of their number" in warning for warning in index.warnings)


def test_an_image_is_seen_from_where_the_car_is_at_its_time(tmp_path):
    """It drives a metre a scan, so a tenth of one in 10 ms; also before the first scan and after the last."""
    root = sequence(tmp_path / "log", {0: 99.98, 2: 100.21, 5: 100.53})
    (root / "00003/times.txt").write_text("".join(f"{100 + 0.1 * n:.6f}\n" for n in range(6)))
    index = prepare("rellis3d", root, tmp_path / "index")
    for row, ahead in ((0, -0.2), (2, 0.1), (5, 0.3)):
        frame = index.frame(row, images=False)
        moved = np.linalg.inv(frame.ego_to_world) @ frame.cameras[0].ego_to_world
        np.testing.assert_allclose(moved[:3, 3], [ahead, 0, 0], atol=1e-9)


def test_the_car_drives_forward_in_axes_of_the_camera(tmp_path):
    """Its sensor looks backward: poses that go along -x are ones that go forward."""
    index = prepare("rellis3d", sequence(tmp_path / "log", {}), tmp_path / "index")
    pose = index.frame(0, images=False).ego_to_world
    ahead = np.linalg.inv(pose) @ np.append(index.ego_positions()[3], 1)
    np.testing.assert_allclose(ahead, [3, 0, 0, 1], atol=1e-12)


def test_lists_name_the_splits_and_a_missing_one_is_told(tmp_path):
    root = sequence(tmp_path / "log", {})
    line = "00003/os1_cloud_node_kitti_bin/{0:06d}.bin 00003/os1_cloud_node_semantickitti_label_id/{0:06d}.label\n"
    for split, numbers in (("train", (0, 4)), ("val", (2,))):
        (root / f"pt_{split}.lst").write_text("".join(line.format(number) for number in numbers))
    index = prepare("rellis3d", root, tmp_path / "index")
    assert (index.rows("train").tolist(), index.rows("val").tolist()) == ([0, 4], [2])
    assert any("pt_test.lst: is not there; there is no split 'test'" in warning for warning in index.warnings)
    assert not any("name no scan" in warning for warning in index.warnings)


def test_lines_of_a_list_that_name_no_scan_or_one_of_another_split_are_told(tmp_path):
    root = sequence(tmp_path / "log", {})
    (root / "pt_train.lst").write_text(
        "00003/os1_cloud_node_kitti_bin/000001.bin x\nRellis/00003/os1_cloud_node_kitti_bin/000002.bin x\n"
    )
    (root / "pt_val.lst").write_text("00003/os1_cloud_node_kitti_bin/000001.bin x\n")
    warnings = prepare("rellis3d", root, tmp_path / "index").warnings
    assert f"{root}/pt_train.lst: 1 of 2 lines name no scan of this log (first: " in "\n".join(warnings)
    assert any(
        "pt_val.lst: 1 scans are of 'train', too, and are taken for 'val' (first" in w for w in warnings
    )


def test_files_of_the_camera_that_cannot_be_right_are_named(tmp_path):
    root = sequence(tmp_path / "log", {0: 1.0})
    (root / "00003/camera_info.txt").write_text("2800 2800\n")
    with pytest.raises(InputError, match=r"camera_info.txt: must hold four numbers, fx fy cx cy"):
        prepare("rellis3d", root, tmp_path / "index")
    (root / "00003/camera_info.txt").unlink()
    warnings = prepare("rellis3d", root, tmp_path / "index").warnings
    assert any(
        "camera_info.txt: is not there; the images of this sequence are left out" in w for w in warnings
    )
    (root / "00003/camera_info.txt").write_text("1 1 1 1")
    (root / "00003/transforms.yaml").write_text("vel2os1: {q: {w: 1}}\n")
    with pytest.raises(InputError, match=r"transforms.yaml: needs os1_cloud_node-pylon_camera_node with q"):
        prepare("rellis3d", root, tmp_path / "index")


def test_every_class_but_two_is_a_label_set_of_its_own(shared_data):
    facts = yaml.safe_load((shared_data / "label_maps/rellis3d.yaml").read_text())
    for label_set, key in (("", "raw_to_train"), ("all", "alternative_raw_to_train_18")):
        card = load_card("rellis3d", label_set=label_set)
        for raw, train in facts[key].items():
            assert card.label_map[raw] == train
