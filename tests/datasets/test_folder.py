"""A log of one's own as a folder: a few lines of YAML, real files against plain reads, and every slip one sentence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from superflow.camera.projection import project
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.own_logs.folder_guess import draft_layout
from superflow.datasets.prepare import prepare
from superflow.errors import InputError, MissingFileError
from superflow.tools import main as tools

PAGE = Path(__file__).resolve().parents[2] / "docs/own_data.md"
# the worked example of the page
TEN_LINES = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
START_NS = 1_700_000_000_000_000_000
COUNT = 5


def pose_at(seconds: float) -> np.ndarray:
    """A car on a circle, by hand."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", 0.4 * seconds).as_matrix()
    pose[:3, 3] = [100 + 8 * seconds, 2 * seconds, 0.5]
    return pose


def points_of(i: int) -> np.ndarray:
    rng = np.random.default_rng(i)
    return np.column_stack([rng.uniform(-30, 30, (60, 3)), rng.integers(0, 256, 60)]).astype("<f4")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_log(tmp_path / "drive")


def write_log(root: Path) -> Path:
    """Five scans at 10 Hz, an image 20 ms after each but the last, odometry at 50 Hz."""
    for name in ("lidar", "front"):
        (root / name).mkdir(parents=True)
    for i in range(COUNT):
        (root / f"lidar/{START_NS + i * 100_000_000}.bin").write_bytes(points_of(i).tobytes())
        if i < COUNT - 1:
            shade = np.random.default_rng(50 + i).integers(0, 256, (36, 64, 3)).astype(np.uint8)
            name = f"front/{(START_NS + i * 100_000_000) // 1000 + 20_000}.png"
            (root / name).write_bytes(cv2.imencode(".png", shade)[1].tobytes())
    lines = ["# time x y z qx qy qz qw"]
    for k in range(-1, 22):
        pose = pose_at(0.02 * k)
        turn = Rotation.from_matrix(pose[:3, :3]).as_quat()
        lines.append(" ".join(f"{v:.9f}" for v in (START_NS / 1e9 + 0.02 * k, *pose[:3, 3], *turn)))
    (root / "odometry.txt").write_text("\n".join(lines))
    (root / "folder.yaml").write_text(TEN_LINES)
    return root


def write(root: Path, **changes: object) -> None:
    """The layout with other values under some keys; None takes a key out."""
    values = yaml.safe_load(TEN_LINES) | changes
    (root / "folder.yaml").write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))


def test_a_log_of_one_lidar_and_one_camera_needs_ten_lines(root, tmp_path, caplog):
    assert TEN_LINES.startswith("licence")
    assert len(TEN_LINES.splitlines()) <= 10
    index = prepare("folder", root, tmp_path / "out")
    assert (len(index), index.scenes, index.channels) == (COUNT, ("drive",), ("front",))
    assert (index.card.name, index.card.licence, index.card.real) == ("drive", "internal", True)
    assert index.warnings == ()
    said = "1 of the 5 scans lack images of cameras that others of their scene have, the first is drive_"
    assert said in caplog.text
    for i in range(COUNT):
        frame = index.frame(i)
        np.testing.assert_array_equal(frame.cloud.xyz, points_of(i)[:, :3])
        np.testing.assert_allclose(frame.cloud.intensity, points_of(i)[:, 3] / 255, rtol=1e-6)
        assert frame.time_us == START_NS // 1000 + 100_000 * i
        np.testing.assert_allclose(frame.ego_to_world, pose_at(0.1 * i), atol=1e-6)
        for camera in frame.cameras:
            assert camera.time_us == frame.time_us + 20_000
            np.testing.assert_allclose(camera.ego_to_world, pose_at(0.1 * i + 0.02), atol=1e-6)
            assert camera.distortion == (-0.2, 0.05, 0.001, 0, 0)


def test_clips_to_pretrain_on_are_made_of_it(root, tmp_path):
    dataset = PretrainDataset(
        prepare("folder", root, tmp_path / "out"),
        region="world_cell",
        times={"offsets": [-0.1, 0.0, 0.1], "unit": "seconds"},
        clouds={"sweeps": 0},
        views={"size": (36, 64), "flip": 0.0},
    )
    batch = dataset[1]
    assert len(batch.images) == 3
    assert len(batch.pair_point) > 3


def test_pixels_are_opencvs(root, tmp_path):
    """The way of a point through both poses and the lens, with OpenCV's own projection."""
    index = prepare("folder", root, tmp_path / "out")
    frame = index.frame(1)
    camera = frame.cameras[0]
    lidar_to_camera = np.array([[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
    to_camera = lidar_to_camera @ np.linalg.inv(pose_at(0.12)) @ pose_at(0.1)
    own = points_of(1)[:, :3].astype(float)
    seen = project(own, frame.lidar_to_camera(camera), camera.lens)
    assert len(seen.rows) > 3
    matrix, bend = np.array([[40, 0, 32], [0, 41, 18], [0, 0, 1.0]]), np.array([-0.2, 0.05, 0.001, 0, 0])
    turn = cv2.Rodrigues(to_camera[:3, :3])[0]
    want = cv2.projectPoints(own[seen.rows], turn, to_camera[:3, 3], matrix, bend)[0][:, 0]
    np.testing.assert_allclose(seen.pixels, want, atol=1e-3)


def test_the_command_checks_and_draws_it(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert tools.main(["prepare", "folder", "--root", str(root), "--out", str(out), "--check"]) in (0, 1)
    report = json.loads((out / "check/report.json").read_text())
    assert not any("no times" in line or "no poses" in line for line in report["problems"])
    assert len(report["pictures"]) == 1


def test_kitti_poses_of_a_camera_and_lines_by_number(root, tmp_path):
    lidar_to_camera = np.array([[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
    for i, path in enumerate(sorted((root / "lidar").iterdir())):
        path.rename(root / f"lidar/{i + 3:06d}.bin")  # the lines count from 0
    lines, times = [], []
    for i in range(-3, COUNT):
        in_world = lidar_to_camera @ pose_at(0.1 * i) @ np.linalg.inv(lidar_to_camera)
        lines.append(" ".join(f"{v:.12g}" for v in in_world[:3].reshape(-1)))
        times.append(f"{1700000000 + 0.1 * i:.6f}")
    (root / "poses.txt").write_text("\n".join(lines) + "\n")
    (root / "times.txt").write_text("\n".join(times) + "\n")
    cameras = yaml.safe_load(TEN_LINES)["cameras"]
    write(
        root,
        times={"file": "times.txt"},
        poses={"file": "poses.txt", "form": "kitti", "of": "front"},
        cameras={"front": {**cameras["front"], "times": None}},
    )
    index = prepare("folder", root, tmp_path / "out")
    assert index.channels == (), "no image has the name of a scan"
    for i in range(COUNT):
        np.testing.assert_allclose(index.frame(i).ego_to_world, pose_at(0.1 * i), atol=1e-9)
        assert index.frame(i).time_us == 1_700_000_000_000_000 + 100_000 * i


@pytest.mark.parametrize(("jump_m", "problems"), [(600.0, 0), (900.0, 1)])
def test_a_pose_far_from_the_one_before_is_told_also_without_times(tmp_path, jump_m, problems):
    """Between two scans nothing drives 700 m; nobody would vote there, or all of it would end the run."""
    (tmp_path / "lidar").mkdir()
    for i in range(4):
        np.full((3, 4), [5, 0, 0, 0], np.float32).tofile(tmp_path / "lidar" / f"{i}.bin")
    (tmp_path / "folder.yaml").write_text(
        "points: {files: 'lidar/*.bin', columns: [x, y, z, echo]}\nposes: {file: poses.txt, form: kitti}\n"
    )
    rows = [[1, 0, 0, i + (jump_m if i > 1 else 0), 0, 1, 0, 0, 0, 0, 1, 0] for i in range(4)]
    np.savetxt(tmp_path / "poses.txt", rows)
    report = check_log(prepare("folder", tmp_path, tmp_path / "index"), project=project)
    poses = [problem.message for problem in report.problems if problem.kind == "pose"]
    assert len(poses) == problems
    assert all(f"the vehicle jumps {jump_m + 1:.1f} m in one step before the scan" in said for said in poses)


def test_drives_are_scenes_and_labels_have_classes(root, tmp_path, caplog):
    for drive in ("monday", "tuesday"):
        shutil.copytree(root / "lidar", root / drive / "lidar")
        (root / drive / "labels").mkdir()
        for i, path in enumerate(sorted((root / drive / "lidar").iterdir())):
            if i:
                raw = (np.arange(60) % 3 + (i << 16)).astype("<u4")
                (root / drive / f"labels/{path.stem}.label").write_bytes(raw.tobytes())
    write(
        root,
        points={"files": "{scene}/lidar/*.bin", "columns": ["x", "y", "z", "intensity"]},
        cameras=None,
        poses=None,
        labels={"files": "{scene}/labels/*.label", "format": "u4", "mask": 0xFFFF},
        classes=[{"name": "road", "colour": [255, 0, 255], "categories": ["road"]}],
        categories={1: "road", 2: "sky"},
        splits={"train": ["monday"], "val": ["tuesday"]},
    )
    index = prepare("folder", root, tmp_path / "out")
    assert index.scenes == ("monday", "tuesday")
    assert index.rows("val").tolist() == [5, 6, 7, 8, 9]
    assert index.frame(5).labels is None
    np.testing.assert_array_equal(index.frame(6).labels, np.where(np.arange(60) % 3 == 1, 0, 255))
    said = f"1 of the 5 scans of monday have no labels, the first is monday_{START_NS}; so it is in 1 more scenes"
    assert said in caplog.text


def test_a_camera_info_of_ros_is_a_lens(root, tmp_path):
    info = {
        **{"image_width": 64, "image_height": 36, "distortion_model": "equidistant"},
        "camera_matrix": {"rows": 3, "cols": 3, "data": [40, 0, 32, 0, 41, 18, 0, 0, 1]},
        "distortion_coefficients": {"rows": 1, "cols": 4, "data": [0.1, 0.01, 0.001, 0.0]},
    }
    (root / "front.yaml").write_text(yaml.safe_dump(info))
    camera = yaml.safe_load(TEN_LINES)["cameras"]["front"]
    camera |= {"intrinsics": None, "model": None, "distortion": None, "camera_info": "front.yaml"}
    (root / "calibration.yaml").write_text(yaml.safe_dump({"front": camera}))
    write(root, cameras="calibration.yaml")
    read = prepare("folder", root, tmp_path / "out").frame(0).cameras[0]
    assert (read.model, read.distortion, read.size) == ("fisheye", (0.1, 0.01, 0.001, 0.0), (36, 64))
    assert read.intrinsics.tolist() == [[40, 0, 32], [0, 41, 18], [0, 0, 1]]


def quaternion_matrix(turn: dict[str, float], place: dict[str, float]) -> np.ndarray:
    """(4, 4), by hand."""
    w, x, y, z = (turn[f"q{axis}"] for axis in "wxyz")
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = [place[axis] for axis in "xyz"]
    return matrix


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LogIndex, Path]:
    """A real frame of six cameras, whose folder says nothing of this package, with a layout out of its own JSON."""
    source = shared_data / "fragments/dgp/scene_02"
    root = tmp_path_factory.mktemp("real") / "scene"
    shutil.copytree(source, root, copy_function=shutil.copyfile)
    calibration = json.loads(next((root / "calibration").glob("*.json")).read_text())
    layout = {
        "licence": "MIT",
        "points": {"files": "point_cloud/LIDAR/*.npz", "columns": ["x", "y", "z", "intensity"]},
        "intensity": {"raw_max": 1},
        "times": {"name": 1e-6},
        "cameras": {
            name: {
                "images": f"rgb/{name}/*.jpg",
                "times": {"name": 1e-6},
                "max_delay_s": 0.1,
                "size": [1216, 1936],  # the images were halved
                "intrinsics": [lens[key] for key in ("fx", "fy", "cx", "cy")],
                "camera_to_lidar": quaternion_matrix(mount["rotation"], mount["translation"]).tolist(),
            }
            for name, lens, mount in zip(*(calibration[key] for key in ("names", "intrinsics", "extrinsics")))
            if name != "LIDAR"
        },
    }
    (root / "folder.yaml").write_text(yaml.safe_dump(layout))
    return prepare("folder", root, root.parent / "out", rescale_intrinsics=True), root


def test_a_real_frame_of_six_cameras_is_that_of_a_plain_read(real):
    index, root = real
    frame = index.frame(0)
    own = np.load(next((root / "point_cloud/LIDAR").glob("*.npz")))["data"]
    np.testing.assert_array_equal(frame.cloud.xyz, own[:, :3].astype("f4"))
    np.testing.assert_allclose(frame.cloud.intensity, own[:, 3], rtol=1e-6)
    assert len(frame.cloud) == 47230
    assert (
        np.histogram(frame.cloud.intensity, 4, (0, 1))[0].tolist()
        == np.histogram(own[:, 3], 4, (0, 1))[0].tolist()
    )
    calibration = json.loads(next((root / "calibration").glob("*.json")).read_text())
    total = 0
    for camera in frame.cameras:
        i = calibration["names"].index(camera.channel)
        lens, mount = calibration["intrinsics"][i], calibration["extrinsics"][i]
        there = np.linalg.inv(quaternion_matrix(mount["rotation"], mount["translation"]))
        x, y, z = (np.column_stack([own[:, :3], np.ones(len(own))]) @ there.T).T[:3]
        u, v = (
            (lens["fx"] * x / z + lens["cx"] + 0.5) / 2 - 0.5,
            (lens["fy"] * y / z + lens["cy"] + 0.5) / 2 - 0.5,
        )
        rows = np.flatnonzero((z > 1) & (u > 0) & (v > 0) & (u < 967) & (v < 607))
        seen = project(frame.cloud.xyz, frame.lidar_to_camera(camera), camera.lens)
        assert camera.image.shape == (608, 968, 3)
        assert len(np.setxor1d(seen.rows, rows)) <= 2, "at the border alone"
        both = np.intersect1d(seen.rows, rows)
        at = np.searchsorted(seen.rows, both)
        np.testing.assert_allclose(seen.pixels[at], np.stack([u, v], axis=1)[both], atol=2e-2)
        total += len(rows)
    assert len(frame.cameras) == 6
    assert total > 15000, "the cameras look where the LiDAR does"


def test_a_real_pcd_is_a_log(shared_data, tmp_path):
    root = tmp_path / "log"
    root.mkdir()
    name = "vlp16_1673400472138016708.pcd"
    shutil.copyfile(shared_data / "fragments/vehicle_drivers" / name, root / name)
    (root / "folder.yaml").write_text(
        'points: {files: "vlp16_*.pcd", columns: {x: x, y: y, z: z, intensity: intensity, t: time_stamp},\n'
        "         time: {column: t, unit_s: 1e-9}}\nintensity: {raw_max: 255}\ntimes: {name: 1.0e-9}\n"
    )
    frame = prepare("folder", root, tmp_path / "out").frame(0)
    assert (len(frame.cloud), frame.time_us) == (14831, 1673400472138017)
    time_s = frame.cloud.extra["time_s"]
    assert 2.3e-6 < time_s.min() < time_s.max() < 1.4e-3, (
        "a packet of the sensor, whose times these are, takes 1.33 ms"
    )


def test_the_draft_of_a_log_becomes_its_layout(root, tmp_path, capsys):
    """What is no question in the draft is right, and every question is asked back until it is answered."""
    (root / "folder.yaml").unlink()
    (root / "odometry.txt").rename(root / "poses.txt")
    assert tools.main(["prepare", "folder", "--root", str(root), "--guess"]) == 0
    draft = (root / "folder.yaml").read_text()
    assert f"{root}/folder.yaml: complete this draft" in capsys.readouterr().out
    assert tools.main(["prepare", "folder", "--root", str(root), "--guess"]) == 2, "never written over"
    answers = {
        "licence": "mine",
        "axes": "forward-left-up",
        "intrinsics": [40, 41, 32, 18],
        "lidar_to_camera": [[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, -0.3]],
    }
    places = ["licence", "points.axes", "cameras.front.intrinsics", "cameras.front.lidar_to_camera"]
    for number, (key, answer) in enumerate(answers.items()):
        are = "is still a question" if number == 3 else "are still questions"
        with pytest.raises(
            InputError, match=re.escape(f"folder.yaml: {', '.join(places[number:])} {are}; put the answer")
        ):
            prepare("folder", root, tmp_path / "out")
        draft = draft.replace(f'{key}: "?"', f"{key}: {json.dumps(answer)}")
        (root / "folder.yaml").write_text(draft)
    index = prepare("folder", root, tmp_path / "out")
    assert len(index) == COUNT
    assert index.has_poses
    assert index.has_times
    np.testing.assert_array_equal(index.frame(2).cloud.xyz, points_of(2)[:, :3])
    assert len(index.frame(0).cameras) == 1


def test_drafts_of_real_files_name_their_columns(shared_data):
    fragments = shared_data / "fragments"
    said = {
        name: draft_layout(fragments / name)
        for name in ("vehicle_drivers", "rellis", "av2", "kitti_raw", "dgp")
    }
    assert 'files: "vlp16_*.pcd"' in said["vehicle_drivers"]
    assert "also there: return_type, channel" in said["vehicle_drivers"]
    assert "no_return: [nan, zero]" in said["rellis"]
    assert (
        'labels: {files: "00000/os1_cloud_node_semantickitti_label_id/*.label", format: "u4"}'
        in said["rellis"]
    )
    assert "time: {column: offset_ns, unit_s: 1.0e-09, since: scan}" in said["av2"]
    assert "columns: [x, y, z, intensity]" in said["kitti_raw"]
    assert "no_return" not in said["kitti_raw"]
    assert said["dgp"].count("lidar_to_camera") == 6
    for text in said.values():
        assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("timestamp", [1.7e9, 1.7e9 + 0.1], "unit_s: 1.0e+00, since: epoch"),
        (
            "timestamp",
            [1_700_000_000_000_000_000, 1_700_000_000_100_000_000],
            "unit_s: 1.0e-09, since: epoch",
        ),
        ("timestamp", [0.0, 0.1], "unit_s: 1.0e+00, since: scan"),
        ("time", [1_700_000_000_000_000, 1_700_000_000_100_000], "unit_s: 1.0e-06, since: epoch"),
        ("t", [0, 100_000_000], "unit_s: 1.0e-09, since: scan"),
    ],
)
def test_the_draft_tells_clocks_from_offsets_by_their_values(name, values, said, tmp_path):
    axes = {axis: np.array([1.0, 2.0], np.float32) for axis in "xyz"}
    np.savez(tmp_path / "0.npz", **axes, **{name: np.array(values)})
    draft = draft_layout(tmp_path)
    assert f"  time: {{column: {name}, {said}}}" in draft
    assert type(yaml.safe_load(draft)["points"]["time"]["unit_s"]) is float


CAMERA = yaml.safe_load(TEN_LINES)["cameras"]["front"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": None}, r"points needs files"),
        (
            {"points": {"files": "../other/*.bin"}},
            r"files of points is '../other/\*.bin'; it must be a path below",
        ),
        ({"points": {"files": "/etc/*.bin"}}, r"files of points is"),
        ({"points": {"files": "lidar/*/*.bin"}}, r"files of points is"),
        (
            {"points": {"files": "lidar/*.xyz"}},
            r"files of points end with '.xyz', which is none of .bin, .npy",
        ),
        ({"points": {"files": "nowhere/*.bin"}}, r"there is no file nowhere/\*.bin; mend files of points"),
        ({"intensity": {"raw_max": 0}}, r"intensity needs raw_max"),
        ({"pose": {}}, r"unknown key 'pose'; did you mean 'poses'"),
        ({"poses": {"file": "../poses.txt"}}, r"poses is .*; it must name a file below the root"),
        (
            {"poses": {"file": "odometry.txt", "form": "kitti"}},
            r"odometry.txt: pose 1 has 8 numbers instead of 12",
        ),
        ({"poses": {"file": "gone.txt"}}, r"gone.txt: there is no such file"),
        ({"times": None}, r"poses of the form tum are found by time; add times"),
        ({"times": {"name": "ns"}}, r"times is {'name': 'ns'}; it must be {name: 1.0e-9}"),
        ({"times": {"file": "odometry.txt"}}, r"odometry.txt: has 23 lines for 5 files"),
        (
            {"cameras": {"front": {**CAMERA, "intrinsics": [1, 2, 3]}}},
            r"intrinsics of the camera 'front' are",
        ),
        (
            {"cameras": {"front": {**CAMERA, "model": "omni"}}},
            r"model of the camera 'front' is 'omni'; choose one of",
        ),
        (
            {"cameras": {"front": {**CAMERA, "distortion": [1] * 8}}},
            r"the model radial_tangential has 5 numbers",
        ),
        (
            {"cameras": {"front": {**CAMERA, "lidar_to_camera": [[1, 0, 0, 0]] * 3}}},
            r"must be the rows of a rigid",
        ),
        ({"cameras": {"front": {**CAMERA, "camera_to_lidar": [[1, 0, 0, 0]] * 3}}}, r"one of the two"),
        (
            {"cameras": {"front": {**CAMERA, "late_s": 1e3}}},
            r"late_s of the camera 'front' is 1000.0; it must be the seconds",
        ),
        (
            {"cameras": {"front": {**CAMERA, "times": None, "late_s": 0.1}}},
            r"the camera 'front' has late_s and no times that could be late",
        ),
        ({"cameras": "../calibration.yaml"}, r"must be a YAML file below the log's root"),
        ({"labels": {"files": "labels/*.label"}}, r"labels needs format"),
        ({"lidar_to_ego": [1]}, r"lidar_to_ego is \[1\]; it must be the rows of a rigid transform"),
    ],
)
def test_every_slip_is_one_sentence(changes, message, root, tmp_path):
    write(root, **changes)
    with pytest.raises(InputError, match=message) as told:
        prepare("folder", root, tmp_path / "out")
    assert len(str(told.value).splitlines()) == 1 or isinstance(told.value, MissingFileError)
    assert not (tmp_path / "out").exists()


def test_what_a_draft_cannot_heed_is_refused(root, capsys):
    (root / "folder.yaml").unlink()
    assert (
        tools.main(
            ["prepare", "folder", "--root", str(root), "--guess", "--check", "--limit", "3", "--scenes", "a"]
        )
        == 2
    )
    assert "it takes no --scenes, --limit, --check; leave it out" in capsys.readouterr().err
    assert not (root / "folder.yaml").exists()
