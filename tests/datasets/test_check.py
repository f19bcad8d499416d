"""The check finds what is wrong in the files, counts what is there, and the command says so."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pyarrow
import pytest
from pyarrow import feather
from test_kitti_family import scan

from superflow.camera.projection import project
from superflow.datasets.card import load_card
from superflow.datasets.check import log as check_module
from superflow.datasets.check.overlay import fastest_key, write_overlays
from superflow.datasets.check.report import Report
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.pictures.coloring import readable
from superflow.tools import prepare


def check_log(index: LogIndex, **options) -> Report:
    return check_module.check_log(index, project=project, **options)


def files(log, pattern):
    return sorted(log.root.glob(pattern))


def test_a_whole_log_is_well(small_index, small_log):
    report = check_log(small_index)
    assert report.ok, report.problems
    (note,) = report.notes
    assert note.startswith("31 of 62 scans that were read have the very points of another one"), (
        "two drives alike"
    )
    assert report.counts == {
        "scenes": 2,
        "key_frames": 8,
        "sweeps": 54,
        "images": 16,
        "labelled_frames": 8,
        "points": 62 * 50,
    }
    by_class = {row["class"]: row for row in report.labels}
    raw = small_log.raw_labels
    assert by_class["car"]["points"] == 8 * int((raw == 17).sum())
    assert by_class["(ignored)"]["points"] == 8 * int((raw == 0).sum())
    assert by_class["car"]["frames"] == 8
    assert by_class["bus"] == {"class": "bus", "points": 0, "share": 0.0, "frames": 0}
    assert sum(row["share"] for row in report.labels) == pytest.approx(1, abs=1e-5)
    assert report.categories["static.manmade"] == 8 * int((raw == 28).sum())
    assert report.intensity == {"smallest": 0.0, "largest": 255.0, "becomes_1": 255.0}
    assert [scene["name"] for scene in report.scenes] == list(small_index.scenes)
    assert report.scenes[0]["key_frames_gap_s"] == {"median": 0.5, "largest": 0.5}
    assert report.scenes[0]["scans_gap_s"] == {"median": 0.05, "largest": 0.05}


def test_everything_wrong_is_found_at_once(small_log, tmp_path):
    small_log.write()
    clouds, images, labels = (
        files(small_log, "samples/LIDAR_TOP/*"),
        files(small_log, "samples/CAM_*/*"),
        files(small_log, "lidarseg/*/*"),
    )
    sweeps = files(small_log, "sweeps/LIDAR_TOP/*")
    clouds[0].write_bytes(clouds[0].read_bytes()[:-3])
    clouds[1].write_bytes(b"")
    broken = np.frombuffer(sweeps[0].read_bytes(), "<f4").copy()
    broken[7] = np.nan
    sweeps[0].write_bytes(broken.tobytes())
    sweeps[1].unlink()
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:100])
    images[2].write_bytes(cv2.imencode(".jpg", np.zeros((18, 32, 3), np.uint8))[1].tobytes())
    labels[2].write_bytes(labels[2].read_bytes()[:-1])
    labels[3].unlink()
    report = check_log(write_index(small_log.root, tmp_path / "index"))
    assert not report.ok
    want = {"points": 2, "empty cloud": 1, "missing file": 3, "image": 2, "labels": 2}
    assert report.problem_counts == want  # the emptied cloud has fifty labels too many
    named = {problem.file for problem in report.problems}
    assert named >= {str(path) for path in (*clouds[:2], *sweeps[:2], *images[:3], *labels[2:4])}
    assert all(problem.file in problem.message for problem in report.problems)


def test_workers_find_the_same(small_log, tmp_path):
    small_log.write()
    files(small_log, "sweeps/LIDAR_TOP/*")[3].unlink()
    index = write_index(small_log.root, tmp_path / "index")
    seen = []
    apart = check_log(index, workers=2, progress=lambda *state: seen.append(state))
    assert apart.to_dict() == check_log(index).to_dict()
    assert seen[-1] == ("reading every scan and image", 62, 62)


def test_gaps_jumps_late_images_and_shared_files_are_told(small_log, tmp_path):
    for row in small_log.tables["sample_data"] + small_log.tables["sample"]:
        if row["token"].startswith("scene-0001") and row["timestamp"] >= 1_500_000_100_950_000:
            row["timestamp"] += 900_000
    for row in small_log.tables["sample_data"]:
        if row["token"].startswith("scene-0003-CAM_FRONT"):
            row["timestamp"] -= 300_000
    small_log.row("ego_pose", "pose-scene-0003-LIDAR_TOP-30")["translation"][0] += 50
    twin = small_log.row("sample_data", "scene-0003-LIDAR_TOP-2")
    twin["filename"] = small_log.row("sample_data", "scene-0003-LIDAR_TOP-1")["filename"]
    report = check_log(write_index(small_log.write(), tmp_path / "index"))
    assert report.problem_counts == {"pose": 1, "shared path": 1}
    pose = next(problem for problem in report.problems if problem.kind == "pose")
    assert "in scene-0003 the vehicle jumps 50." in pose.message
    assert "CAM_FRONT: 4 of 8" in [note.split(" images")[0] for note in report.notes]
    assert any("30 of 61 scans that were read have the very points" in n for n in report.notes), (
        "one has no file"
    )
    assert any(
        "scene-0001: 1 time gaps between key frames are up to 1.40 s, the usual" in n for n in report.notes
    )
    assert any("scene-0001: 1 time gaps between scans are up to 0.95 s" in n for n in report.notes)


@pytest.mark.parametrize(
    ("scale", "message"), [(1 / 255, "seems to be scaled already"), (9, "the rest is clipped")]
)
def test_an_intensity_rule_that_does_not_fit_is_told(small_log, tmp_path, scale, message):
    for name in [name for name in small_log.files if name.endswith(".pcd.bin")]:
        points = np.frombuffer(small_log.files[name], "<f4").reshape(-1, 5).copy()
        points[:, 3] *= scale
        small_log.files[name] = points.tobytes()
    report = check_log(write_index(small_log.write(), tmp_path / "index"))
    assert report.ok
    assert any(message in note for note in report.notes)


@pytest.mark.parametrize("columns", [4, 10])
def test_files_of_other_columns_than_the_card_says_are_wrong(small_log, tmp_path, columns):
    """50 points of 4 or of 10 numbers are whole points of 5 too."""
    for name in [name for name in small_log.files if name.endswith(".pcd.bin")]:
        points = np.frombuffer(small_log.files[name], "<f4").reshape(-1, 5)
        small_log.files[name] = np.hstack([points, points[:, ::-1]])[:, :columns].tobytes()
    small_log.tables["lidarseg"] = []
    report = check_log(write_index(small_log.write(), tmp_path / "index"))
    assert report.problem_counts == {"columns": 62}
    assert report.problems[0].file.endswith(".pcd.bin")
    assert "the columns do not fit the card, since intensities run from -" in report.problems[0].message
    assert "5 float32 a point (x, y, z, intensity, ring); give the columns of" in report.problems[0].message
    assert not any("raw_max" in note for note in report.notes)


@pytest.mark.parametrize(
    ("factor", "start", "problems", "gap"),
    [
        (1000, 0, {"time": 2}, "50 s"),  # nanoseconds since 1970
        (1000, 1_500_000_000_000_000, {}, "50 s"),  # nanoseconds since the log began
        (0.001, 0, {}, "5e-05 s"),  # milliseconds
    ],
)
def test_times_of_another_unit_are_told(small_log, tmp_path, factor, start, problems, gap):
    for row in small_log.tables["sample_data"] + small_log.tables["sample"]:
        row["timestamp"] = round((row["timestamp"] - start) * factor)
    report = check_log(write_index(small_log.write(), tmp_path / "index"))
    assert report.problem_counts == problems
    assert all("lies after the year 5000; times are in microseconds" in p.message for p in report.problems)
    want = f"the usual gap between scans is {gap}; time stamps must be in microseconds"
    assert [scene for scene in ("scene-0003", "scene-0001") if f"{scene}: {want}" in report.notes] == list(
        ("scene-0003", "scene-0001")
    )


def test_ids_of_no_category_are_told(small_log, tmp_path):
    for name in [name for name in small_log.files if name.startswith("lidarseg")]:
        small_log.files[name] = bytes([77]) + small_log.files[name][1:]
    report = check_log(write_index(small_log.write(), tmp_path / "index"))
    assert "raw label ids in no category, ignored: 77 (8 points)" in report.notes
    assert report.categories["id 77"] == 8


def test_a_changed_table_is_found(small_log, tmp_path):
    """Same metadata, other content: only the hash of the content shows it."""
    index = write_index(small_log.write(), tmp_path / "index")
    path = index.folder / "frames.arrow"
    table = feather.read_table(path, memory_map=False)
    write_arrow(path, table.replace_schema_metadata({**table.schema.metadata, b"note": b"other bytes"}))
    assert check_log(index).ok  # the same content in other bytes is fine
    times = (table["time_us"].to_numpy() + 1).copy()
    position = table.schema.get_field_index("time_us")
    write_arrow(path, table.set_column(position, "time_us", [times]))
    assert check_log(index).problem_counts == {"index": 1}


def write_arrow(path, table):
    other = path.with_suffix(".new")  # the index has the old file in memory
    with pyarrow.ipc.new_file(str(other), table.schema) as writer:
        writer.write_table(table)
    other.replace(path)


def test_the_fastest_frame_is_pictured(pandaset_index):
    row = fastest_key(pandaset_index)
    speed = {}
    for scene in pandaset_index.scenes:
        rows = pandaset_index.rows(scene)
        for a, b in pairwise(rows):
            metres = np.linalg.norm(np.diff(pandaset_index.ego_positions()[[a, b]], axis=0))
            speed[int(b)] = metres / (pandaset_index.time_us[b] - pandaset_index.time_us[a])
    assert row == max(speed, key=speed.get)


@pytest.mark.parametrize("labelled", [True, False])
def test_overlays_put_points_where_they_project(small_log, tmp_path, labelled):
    if not labelled:
        small_log.tables["lidarseg"] = []
    index = write_index(small_log.write(), tmp_path / "index")
    paths = write_overlays(index, tmp_path / "pictures", project=project, row=10)
    assert [path.name.split("_", 2)[2] for path in paths] == ["TOP-10_CAM_BACK.png", "TOP-10_CAM_FRONT.png"]
    frame = index.frame(10)
    camera = frame.cameras[1]
    picture = cv2.imread(str(paths[1]))[..., ::-1]
    assert picture.shape[0] > 36
    assert picture.shape[1] == 64
    seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
    assert len(seen.rows) > 3
    changed = np.abs(picture[:36].astype(int) - camera.image).max(axis=2) > 8
    columns, rows = np.rint(seen.pixels).astype(int).T
    assert changed[rows, columns].mean() > 0.9
    near = cv2.dilate(np.zeros((36, 64), np.uint8), None)
    near[rows, columns] = 1
    assert not (changed & ~(cv2.dilate(near, np.ones((7, 7), np.uint8)) > 0)).any()


def run(*argv: str | Path) -> int:
    return prepare.main([str(part) for part in argv])


def test_the_command_prepares_and_checks(small_log, tmp_path, capsys):
    root, out = small_log.write(), tmp_path / "out"
    assert run("nuscenes", "--root", root, "--out", out, "--check", "--pictures", "--workers", 1) == 0
    assert len(json.loads((out / "check" / "report.json").read_text())["pictures"]) == 4
    capsys.readouterr()
    assert run("nuscenes", "--root", root, "--out", out, "--check", "--workers", 1) == 0
    printed = capsys.readouterr()
    assert "nuscenes v1.0-mini, 2 scenes, 8 key frames, 54 sweeps" in printed.out
    assert "nothing is wrong" in printed.out
    report = json.loads((out / "check" / "report.json").read_text())
    assert report["ok"]
    assert len(report["pictures"]) == 2
    assert all(Path(path).is_file() for path in report["pictures"])
    files(small_log, "sweeps/LIDAR_TOP/*")[0].unlink()
    assert run("nuscenes", "--root", root, "--out", out, "--check", "--workers", 1) == 1
    printed = capsys.readouterr()
    assert "WRONG: missing file" in printed.out
    assert json.loads((out / "check" / "report.json").read_text())["problem_counts"] == {"missing file": 1}


@pytest.mark.parametrize("labels", [[4, 5, 21, 4] * 10, None])
def test_a_log_without_cameras_is_drawn_from_above_and_counted(labels, tmp_path, capsys):
    folder = tmp_path / "poss/sequences/00"
    scan(folder, "000000", labels)
    words = ["semanticposs", "--root", tmp_path / "poss", "--out", tmp_path / "out"]
    run(*words, "--check", "--pictures", "--workers", 1)
    report = json.loads((tmp_path / "out/check/report.json").read_text())
    assert [Path(path).name for path in report["pictures"]] == [
        "00_00_000000_above.png",
        "00_00_000000_counts.png",
    ]
    above, counts = (cv2.imread(path)[..., ::-1].astype(int) for path in report["pictures"])
    palette = readable(load_card("semanticposs").palette)
    for name in ("person", "building") if labels else ():
        colour = palette[load_card("semanticposs").classes.index(name)]
        assert (np.abs(above - colour).sum(axis=2) < 40).any() == (name == "person"), name
    assert counts.std() > 10
    assert run(*words, "--pictures") == 2
    assert "--pictures says what --check draws; give --check with it" in capsys.readouterr().err


def test_the_command_says_one_sentence(tmp_path, capsys):
    assert run("nuscenes", "--root", tmp_path / "gone", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("superflow prepare: ")
    assert "there is no such folder" in error
    assert run("superpixels", "--index", tmp_path / "out") == 2
    assert "there is no index here; make one with" in capsys.readouterr().err


def test_the_command_hands_cameras_and_options_to_the_provider(small_index, tmp_path, monkeypatch):
    from superflow.camera import superpixels

    calls = []
    monkeypatch.setattr(
        superpixels,
        "write_superpixels",
        lambda *args, **options: calls.append((args, options)),
    )
    options = ["--option", "segments=30", "--option", "compactness=1.5", "--workers", 3]
    assert run("superpixels", "--index", small_index.folder, "--channels", "CAM_BACK", *options) == 0
    (cameras, folder), keywords = calls[0]
    assert {camera.channel for camera in cameras} == {"CAM_BACK"}
    assert len(cameras) == 8
    assert folder == small_index.folder / "superpixels" / "slic"
    want = {
        "provider": "slic",
        "workers": 3,
        "segments": 30,
        "compactness": 1.5,
    }
    assert keywords == want
    only = ["--frames", "scene-0001[1:3]", "--out", tmp_path / "maps"]
    assert run("superpixels", "--index", small_index.folder, *only) == 0
    assert len(calls[1][0][0]) == 4
    assert run("superpixels", "--index", small_index.folder, "--option", "segments") == 2


def test_the_command_cuts_regions_and_measures_them(small_index, tmp_path, capsys):
    options = ["--provider", "slic", "--option", "segments=8", "--workers", 0, "--out", tmp_path / "maps"]
    chosen = ["--frames", "scene-0001[:2]"]
    assert run("superpixels", "--index", small_index.folder, *options, *chosen, "--quality") == 0
    printed = capsys.readouterr().out
    assert "superpixels of 4 images by slic" in printed
    assert "quality on 2 frames" in printed
    tokens = {camera.token for camera in small_index.cameras(small_index.rows("scene-0001[:2]"))}
    assert {path.stem for path in (tmp_path / "maps").glob("*.png")} == tokens


def test_the_command_caches_features(small_index, tmp_path, capsys):
    from superflow.camera.cache import FeatureCache

    options = [
        "--teacher",
        "filter_bank",
        "--size",
        64,
        96,
        "--components",
        4,
        "--out",
        tmp_path / "features",
    ]
    chosen = ["--frames", "scene-0001", "--fit-frames", "scene-0001[:2]"]
    assert run("features", "--index", small_index.folder, *options, *chosen) == 0
    assert "features of 8 images by filter_bank" in capsys.readouterr().out
    cache = FeatureCache.open(tmp_path / "features")
    assert cache.channels == 4
    assert cache.read("scene-0001-CAM_BACK-0").shape == (4, *cache.grid)
