"""The check looks at the log, not only at its files: what cannot be learned from is a problem, any real rig is none."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
from walled_street import FRONT, Street, as_the_first, invert_mount, moved, placed, scaled, scan

from superflow.camera.projection import project
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.geometry import make_transform, rotation_z, transform_points
from superflow.tools.prepare import main

IDENTITY = "its rotation is the identity, with which a camera looks straight up"
PROBLEMS = {
    "all cameras with the identity": (
        lambda s: s.cameras(lambda row: row.update(rotation=[1, 0, 0, 0])),
        {"no points on images": 4},
        rf"calibrated_sensor.json: no LiDAR point falls on any image of CAM_BACK \(8 were read\); {IDENTITY}; look at",
    ),
    "one camera with the identity": (
        lambda s: s.cameras(lambda row: row.update(rotation=[1, 0, 0, 0]), "CAM_LEFT"),
        {"no points on images": 1},
        rf"no LiDAR point falls on any image of CAM_LEFT \(8 were read\); {IDENTITY}",
    ),
    "one camera that looks away from everything": (
        lambda s: s.cameras(lambda row: row.update(translation=[-45.0, 0.0, 1.5]), "CAM_BACK"),
        {"no points on images": 1},
        r"no LiDAR point falls on any image of CAM_BACK \(8 were read\); by its calibration it looks backward",
    ),
    "calibration in millimetres": (
        lambda s: s.cameras(
            lambda row: row.update(translation=[v * 1000 for v in row["translation"]]), "CAM_LEFT"
        ),
        {"calibration": 1, "no points on images": 1},
        r"CAM_LEFT is mounted 2,\d\d\d m from the vehicle's origin; translation must be in metres",
    ),
    "the LiDAR's calibration in millimetres": (
        lambda s: s.lidar(lambda row: row.update(translation=[v * 1000 for v in row["translation"]])),
        {"calibration": 1, "no points on images": 4},
        r"calibrated_sensor.json: the LiDAR is mounted 2,\d\d\d m from the vehicle's origin; translation must be in",
    ),
    "all cameras inverted": (
        lambda s: s.cameras(invert_mount),
        {"calibration": 3},
        r"the calibration of CAM_BACK seems to be inverted: with it the camera lies on its side",
    ),
    "the front camera inverted": (
        lambda s: s.cameras(invert_mount, "CAM_FRONT"),
        {"calibration": 1},
        r"the calibration of CAM_FRONT seems to be inverted: .* from below the ground, its inverse stands upright",
    ),
    "quaternions of cameras as x, y, z, w": (
        lambda s: s.cameras(lambda row: row.update(rotation=[*row["rotation"][1:], row["rotation"][0]])),
        {"calibration": 1, "no points on images": 1},
        r"do not stand upright, and all cameras would if these were x, y, z, w; rotation must be w, x, y, z",
    ),
    "one calibration for all cameras": (
        lambda s: s.cameras(lambda row: Street.mount(row, FRONT)),
        {"calibration": 1},
        r"CAM_BACK, CAM_FRONT, CAM_LEFT, CAM_RIGHT have the very same calibration; give each camera its own",
    ),
    "points in millimetres": (
        lambda s: s.points(scaled(1000)),
        {"unit of the points": 1},
        r"pcd.bin: clouds are [\d.]+ km wide, half of the points of a usual scan lie within [\d,]+: metres\?",
    ),
    "points in centimetres": (
        lambda s: s.points(scaled(100)),
        {"unit of the points": 1},
        r"clouds are [\d.]+ km wide, .*: metres\?",
    ),
    "points in kilometres": (
        lambda s: s.points(scaled(1e-3)),
        {"unit of the points": 1},
        r"clouds are 0.\d+ m wide, .*: metres\?",
    ),
    "points in UTM": (
        lambda s: s.points(moved([500_000, 5_400_000, 300])),
        {"frame of the points": 1},
        r"its points lie around \(500000, 5400000, \d+\) and within \d+ m of there, .* coordinates of the world",
    ),
    "points at the origin": (
        lambda s: s.points(lambda rows: rows * np.array([0, 0, 0, 1, 1])),
        {"points at the origin": 62},
        r"pcd.bin: 3,200 of 3,200 points lie at \(0, 0, 0\); export the scan again",
    ),
    "one point in every row": (
        lambda s: s.points(as_the_first(0)),
        {"identical points": 62},
        r"pcd.bin: 100.0% of 3,200 points are copies of others",
    ),
    "nearly all points identical": (
        lambda s: s.points(as_the_first(200)),
        {"identical points": 62},
        r"pcd.bin: 93.8% of 3,200 points are copies of others",
    ),
    "a far point in each scan": (
        lambda s: s.points(placed(77, [0, 1e6, 0])),
        {"far points": 62},
        r"pcd.bin: 1 of 3,200 points lie further than 2 km from the sensor, up to 1e\+06 m \(first: row 77\); remove",
    ),
    "a point that no float32 can square": (
        lambda s: s.points(placed(5, [3e38, 0, 0])),
        {"far points": 62},
        r"up to 3e\+38 m \(first: row 5\)",
    ),
    "black images": (
        lambda s: s.images("CAM_LEFT", lambda image: image * 0 + 3),
        {"empty images": 1},
        r"all 8 images of CAM_LEFT that were read hold nothing but one colour \(brightness 3 of 255\)",
    ),
    "one picture for all times": (
        lambda s: s.images("CAM_LEFT", lambda image: np.arange(6912).reshape(36, 64, 3).astype(np.uint8)),
        {"same images": 1},
        r"all images of CAM_LEFT that were read are the same picture while the vehicle moves",
    ),
    "one scan for all times": (
        lambda s: s.scans(lambda seed: scan(0)),
        {"same points": 1},
        r"pcd.bin: the points of all 62 scans that were read are these, while the vehicle moves",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_cannot_be_learned_from_is_a_problem(street, tmp_path, name):
    change, counts, sentence = PROBLEMS[name]
    change(street)
    report = street.check(tmp_path)
    assert report.problem_counts == counts
    assert re.search(sentence, "\n".join(problem.message for problem in report.problems))
    assert all(problem.message.startswith(str(street.log.root)) for problem in report.problems)


def test_points_in_the_frame_of_the_world_are_a_problem(street, tmp_path):
    """Also near the world's origin, where no coordinate is large: the clouds go with the vehicle."""
    index = write_index(street.log.write(), tmp_path / "before")
    for pose in street.log.tables["ego_pose"]:
        pose["translation"] = [pose["translation"][0] - 900, pose["translation"][1] - 1200, 0]
    for row in range(len(index)):
        name = str(index.point_path(row).relative_to(street.log.root))
        to_world = index.frame(row).lidar_to_world
        to_world[:2, 3] -= [900, 1200]
        rows = np.frombuffer(street.log.files[name], "<f4").reshape(-1, 5).copy()
        rows[:, :3] = transform_points(to_world, index.frame(row).points)[:, :3]
        street.log.files[name] = rows.tobytes()
    report = street.check(tmp_path)
    assert report.problem_counts == {"frame of the points": 1}
    assert "as do most scans: these are coordinates of the world" in report.problems[0].message


def test_two_cameras_with_the_same_pictures_are_a_problem(street, tmp_path):
    for name in [name for name in street.log.files if "/CAM_LEFT/" in name]:
        street.log.files[name] = street.log.files[name.replace("CAM_LEFT", "CAM_FRONT")]
    report = street.check(tmp_path)
    assert report.problem_counts == {"same images": 1}
    assert "CAM_FRONT and CAM_LEFT show the same picture in all 8 frames" in report.problems[0].message


def with_no_returns(seed: int) -> np.ndarray:
    rows = scan(seed)
    rows[::2, :3] = 0
    return rows


def two_returns(seed: int) -> np.ndarray:
    return np.repeat(scan(seed), 2, axis=0)


RIGS = {
    "as it is": (lambda s: None, None),
    "one camera": (lambda s: s.drop_cameras("CAM_LEFT", "CAM_BACK", "CAM_RIGHT"), None),
    "no camera": (lambda s: s.drop_cameras("CAM"), "no camera: fine for probing"),
    "16 beams": (lambda s: s.scans(scan, beams=16, columns=60, elevations=(-15, 15)), None),
    "4 beams": (lambda s: s.scans(scan, beams=4, columns=90, elevations=(-3, 3)), None),
    "off road": (lambda s: s.scans(scan, walls_m=(70, 55), rough_m=0.6), None),
    "a room": (lambda s: s.scans(scan, walls_m=(6, 5), ceiling_m=1.0, elevations=(-40, 40)), None),
    "a wide plain": (lambda s: s.scans(scan, walls_m=(240, 240), elevations=(-20, 3)), None),
    "a solid-state sensor": (
        lambda s: s.scans(scan, azimuths=(-30, 30), columns=200),
        "no LiDAR point falls on any image of CAM_BACK, CAM_LEFT, CAM_RIGHT: by calibration they look where the LiDAR",
    ),
    "a solid-state sensor, one camera": (
        lambda s: (s.scans(scan, azimuths=(-10, 10)), s.drop_cameras("CAM_LEFT", "CAM_BACK", "CAM_RIGHT")),
        None,
    ),
    "a camera that comes later": (
        lambda s: s.drop_cameras(
            *(f"{scene}-CAM_LEFT-{i}" for scene in ("scene-0003", "scene-0001") for i in (0, 1))
        ),
        None,
    ),
    "rows for no return": (lambda s: s.scans(with_no_returns), "50.0% of the points lie at (0, 0, 0)"),
    "two returns": (lambda s: s.scans(two_returns), "50.0% of the points are copies of others of their scan"),
    "a driver that repeats a scan": (
        lambda s: s.scans(lambda seed: scan(seed - (seed == 9))),
        "1 of 62 scans that were read have the very points of another one (first: ",
    ),
    "a standing car": (
        lambda s: [
            row.update(translation=[5, 5, 0], rotation=[1, 0, 0, 0]) for row in s.log.tables["ego_pose"]
        ],
        "in 2 of 2 scenes (first: scene-0003) the pose never changes: right if the vehicle stood",
    ),
    "two cameras in one place": (
        lambda s: s.cameras(lambda row: Street.mount(row, FRONT), "CAM_FRONT", "CAM_LEFT"),
        "CAM_FRONT, CAM_LEFT have the very same calibration: two images of one camera?",
    ),
    "a camera on its side": (
        lambda s: s.cameras(lambda row: Street.mount(row, FRONT @ rotation_z(np.pi / 2)), "CAM_FRONT"),
        "CAM_FRONT: by calibration on its side or upside down: so are its images?",
    ),
    "an inverted LiDAR": (
        lambda s: s.lidar(invert_mount),
        "by calibration the vehicle's origin is 3.7 m above the ground: look at translation and rotation of the LiDAR",
    ),
    "a tilted LiDAR": (
        lambda s: s.lidar(lambda row: row.update(rotation=[0.9397, 0.3420, 0, 0])),
        "by calibration the LiDAR is tilted by 40 degrees against the vehicle",
    ),
    "z down": (
        lambda s: s.points(lambda rows: rows * np.array([-1, 1, -1, 1, 1])),
        "the densest layer of the points lies 1.9 m above the sensor, where no ground can be",
    ),
    "intrinsics of larger images": (
        lambda s: s.cameras(
            lambda row: row.update(camera_intrinsic=[[80.0, 0, 63.5], [0, 80.0, 35.5], [0, 0, 1]]), "CAM_BACK"
        ),
        "CAM_BACK: the middle of the picture by camera_intrinsic is far from the middle of its pixels",
    ),
    "a vehicle frame with y forward": (
        lambda s: [
            Street.mount(row, make_transform(row["rotation"], row["translation"]) @ rotation_z(-np.pi / 2))
            for row in s.log.tables["ego_pose"]
        ],
        "the vehicle travels along its own y axis most of the time",
    ),
    "a world whose z points down": (
        lambda s: [
            Street.mount(row, np.diag([1.0, -1, -1, 1]) @ make_transform(row["rotation"], row["translation"]))
            for row in s.log.tables["ego_pose"]
        ],
        "z of the vehicle points downwards in the world most of the time: quaternions are w, x, y, z",
    ),
    "one black image": (
        lambda s: s.log.files.update(
            {
                next(n for n in s.log.files if "CAM_LEFT" in n): cv2.imencode(
                    ".png", np.zeros((36, 64, 3), np.uint8)
                )[1].tobytes()
            }
        ),
        "CAM_LEFT: 1 of 8 images hold nothing but one colour (first: ",
    ),
    "one intensity": (
        lambda s: s.points(lambda rows: rows * [1, 1, 1, 0, 1] + [0, 0, 0, 9, 0]),
        "every point has intensity 9: nothing can be learned from that column",
    ),
}


@pytest.mark.parametrize("name", RIGS)
def test_what_a_rig_may_have_is_no_problem(street, tmp_path, name):
    change, note = RIGS[name]
    change(street)
    report = street.check(tmp_path)
    assert report.ok, report.problems
    notes = [said for said in report.notes if not said.startswith("no point labels")]
    assert [said for said in notes if note is None or note not in said] == []
    assert len(notes) == (note is not None)


def test_the_tables_say_what_is_there(street, tmp_path):
    street.points(lambda rows: np.vstack([rows, rows[:1]]))
    report = street.check(tmp_path)
    index = LogIndex.open(tmp_path / "index")
    frames = [index.frame(row, labels=False, raw_intensity=True) for row in range(len(index))]
    ranges = [np.linalg.norm(frame.points[:, :3], axis=1) for frame in frames]
    table = report.clouds
    assert table["points"] == dict.fromkeys(table["points"], 3201)
    assert table["range_m"]["smallest"] == pytest.approx(min(map(np.min, ranges)), abs=1e-3)
    assert table["range_m"]["largest"] == pytest.approx(max(map(np.max, ranges)), abs=1e-3)
    want = np.median([np.percentile(metres, (1, 50, 99)) for metres in ranges], axis=0)
    got = [table["range_m"][name] for name in ("percent_1", "median", "percent_99")]
    np.testing.assert_allclose(got, want, rtol=0.05)
    heights = np.median([np.percentile(frame.points[:, 2], 50) for frame in frames])
    assert table["height_m"]["median"] == pytest.approx(heights, abs=0.15)
    assert table["copies_share"]["median"] == pytest.approx(1 / 3201, abs=1e-4)
    keys = [frame for frame in frames if frame.is_key]
    for row in report.cameras:
        shares = []
        for frame in keys:
            (camera,) = [camera for camera in frame.cameras if camera.channel == row["camera"]]
            seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
            shares.append(len(seen) / len(frame.points))
        assert row["images"] == len(keys) == 8
        assert row["points_share"] == pytest.approx(np.mean(shares), abs=0.01)
        assert row["frames_with_points"] == 1
        assert row["depth_m"] > 1
        assert 90 < row["brightness"] < 160


def test_a_single_point_on_an_image_is_seen(street, tmp_path):
    """Percentiles look at some of the points; that none is on an image is said after all were looked at."""

    def behind_but_one(seed: int) -> np.ndarray:
        rows = scan(seed, azimuths=(100, 260), columns=300)
        rows[4321, :3] = [0, 12, 0]
        return rows

    street.scans(behind_but_one)
    report = street.check(tmp_path)
    by_camera = {row["camera"]: row for row in report.cameras}
    assert by_camera["CAM_FRONT"]["frames_with_points"] == 1
    assert by_camera["CAM_FRONT"]["points_share"] == pytest.approx(1 / 9600, abs=1e-6)
    assert report.ok, report.problems


def test_the_command_prints_the_tables(street, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    street.points(placed(3, [0, 1e6, 0]))
    root = street.log.write()
    out = tmp_path / "out"
    assert main(["nuscenes", "--root", str(root), "--out", str(out), "--check", "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    for text in (
        "range [m]",
        "points at (0, 0, 0)",
        "depth [m]",
        "CAM_RIGHT",
        "WRONG: far points",
        "and 52 more",
    ):
        assert text in printed
    assert json.loads((out / "check" / "report.json").read_text())["problem_counts"] == {"far points": 62}
