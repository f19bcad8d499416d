"""Questions to an index: neighbours, sweeps, frames; the files behind it."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.ipc
import pytest
from pyarrow import feather

from superflow.datasets.card import load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.records import Place, ScanRow
from superflow.datasets.sets.nuscenes import write_index
from superflow.datasets.sets.nuscenes.annotations import velocities
from superflow.datasets.store import TABLES, is_intact, read_columns, write_tables
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError
from superflow.geometry import transform_points


def slow_neighbour(index, row, offset):
    """The definition: key frames of the same scene in time order."""
    mine = [r for r in range(len(index)) if index.scene_of[r] == index.scene_of[row] and index.is_key[r]]
    mine.sort(key=lambda r: index.time_us[r])
    if offset == 0:
        return row
    there = [r for r in mine if (r > row if offset > 0 else r < row)]
    there = there if offset > 0 else there[::-1]
    return there[abs(offset) - 1] if len(there) >= abs(offset) else None


@pytest.mark.parametrize("which", ["small_index", "pandaset_index"])
def test_neighbours_match_the_definition(which, request):
    index = request.getfixturevalue(which)
    for row in range(len(index)):
        for offset in (-3, -2, -1, 0, 1, 2, 3):
            assert index.neighbour(row, offset) == slow_neighbour(index, row, offset)


def test_mistake_08_neighbours_never_cross_scenes_or_seconds(small_index):
    subset = np.random.default_rng(0).permutation(small_index.rows())[
        : max(1, len(small_index.rows()) // 10 + 1)
    ]
    for rows in (small_index.rows(), subset):  # a subset of the frames has the neighbours of the whole log
        pairs = [(r, o, small_index.neighbour(int(r), o)) for r in rows for o in (-1, 1)]
        assert any(other is not None for _, _, other in pairs)
        for row, offset, other in pairs:
            if other is not None:
                assert small_index.scene(other) == small_index.scene(row)
                gap_s = (int(small_index.time_us[other]) - int(small_index.time_us[row])) * 1e-6
                assert abs(gap_s - 0.5 * offset) < 0.1


def test_mistake_09_the_ends_of_a_scene_have_no_neighbour(small_index, pandaset_index):
    for index in (small_index, pandaset_index):
        for scene in index.scenes:
            keys = index.rows(scene)
            first, last = int(keys[0]), int(keys[-1])
            assert index.neighbour(first, -1) is None
            assert index.neighbour(last, 1) is None
            assert sorted(index.clip(first, cameras=(), images=False).frames) == [0, 1]
            clip = index.clip(last, (-1, 1), cameras=(), images=False)
            assert sorted(clip.frames) == [-1, 0]
            assert clip.frames[-1].token != clip.center.token


def test_a_neighbour_beyond_the_gap_is_absent(small_index):
    row = int(small_index.rows()[1])
    assert small_index.neighbour(row, 1, max_gap_s=0.5) is not None
    assert small_index.neighbour(row, 1, max_gap_s=0.49) is None
    assert sorted(small_index.clip(row, (-2, -1, 1), max_gap_s=0.4, images=False).frames) == [0]


def slow_neighbour_at(index, row, seconds, tolerance_s):
    """The definition: of the scene's key frames on that side the one with the smallest gap, the earlier of two."""
    if seconds == 0:
        return row
    best, best_us = None, None
    for other in range(len(index)):
        side = other > row if seconds > 0 else other < row
        if side and index.is_key[other] and index.scene(other) == index.scene(row):
            gap_us = abs(int(index.time_us[other]) - int(index.time_us[row]) - round(seconds * 1e6))
            if best is None or gap_us < best_us:
                best, best_us = other, gap_us
    return None if best is None or best_us > tolerance_s * 1e6 else best


@pytest.fixture
def irregular_index(small_index):
    """The small log with gaps of 1 to 200 ms between scans, so of 0.4 to 1.5 s between key frames."""
    index = LogIndex.open(small_index.folder)
    steps_us = np.random.default_rng(3).integers(1_000, 200_000, len(index))
    index.time_us = small_index.time_us[0] + np.cumsum(steps_us)
    return index


@pytest.mark.parametrize("which", ["small_index", "irregular_index", "pandaset_index"])
def test_neighbours_by_seconds_match_the_definition(which, request):
    index = request.getfixturevalue(which)
    found = []
    for row in range(len(index)):
        for seconds in (-1.7, -0.5, -0.25, -0.1, -0.04, 0, 0.03, 0.1, 0.25, 0.5, 1.0):
            for tolerance_s in (0.0, 0.02, 0.06, 0.5):
                answer = index.neighbour_at(row, seconds, tolerance_s=tolerance_s)
                assert answer == slow_neighbour_at(index, row, seconds, tolerance_s)
                found.append(answer)
    assert 0.1 < np.mean([answer is None for answer in found]) < 0.9


def test_neighbours_by_seconds_stay_in_their_scene(small_index, pandaset_index):
    """The second real scene starts 0.4 s after the end of the first."""
    last, first = int(pandaset_index.rows("scene-9002")[-1]), int(pandaset_index.rows("scene-9102")[0])
    assert pandaset_index.time_us[first] - pandaset_index.time_us[last] == pytest.approx(400_000, abs=1_000)
    for seconds in (0.1, 0.4):
        assert pandaset_index.neighbour_at(last, seconds, tolerance_s=0.09) is None
        assert pandaset_index.neighbour_at(first, -seconds, tolerance_s=0.09) is None
        assert pandaset_index.neighbour_at(last, -seconds, tolerance_s=0.01) == last - round(10 * seconds)
        assert pandaset_index.neighbour_at(first, seconds, tolerance_s=0.01) == first + round(10 * seconds)
    keys = small_index.rows("scene-0001")
    assert small_index.neighbour_at(int(keys[0]), 9.0, tolerance_s=7.5) == keys[-1]
    assert small_index.neighbour_at(int(keys[-1]), 9.0, tolerance_s=np.inf) is None  # none comes after it


def test_neighbours_by_seconds_are_the_nearest_key_frames(small_index):
    row = int(small_index.rows("scene-0001")[1])
    assert small_index.neighbour_at(row, 0.5, tolerance_s=0.0) == row + 10
    assert small_index.neighbour_at(row, -0.5, tolerance_s=0.0) == row - 10
    # never itself, though that is nearer
    assert small_index.neighbour_at(row, 0.2, tolerance_s=0.3) == row + 10
    assert small_index.neighbour_at(row, 0.75, tolerance_s=0.3) == row + 10  # of two equally near
    assert small_index.neighbour_at(row + 4, 0.3, tolerance_s=0.01) == row + 10  # from a sweep
    assert small_index.neighbour_at(row + 4, 0, tolerance_s=0.0) == row + 4
    with pytest.raises(IndexError, match="outside this index"):
        small_index.neighbour_at(len(small_index), 0.5, tolerance_s=0.1)


def test_the_usual_time_between_key_frames(small_index, pandaset_index):
    assert small_index.key_interval_s() == pytest.approx(0.5, abs=0.01)
    assert pandaset_index.key_interval_s() == pytest.approx(0.1, abs=0.005)


def slow_sweeps(index, row, count, after):
    """The definition: step by step away from the scan, as long as the scene is the same."""
    found = []
    for step, wanted in ((-1, count), (1, after)):
        other = row + step
        while wanted > 0 and 0 <= other < len(index) and index.scene(other) == index.scene(row):
            found.append(other)
            other, wanted = other + step, wanted - 1
    return found


@pytest.mark.parametrize("which", ["small_index", "pandaset_index"])
def test_sweeps_match_the_definition(which, request):
    index = request.getfixturevalue(which)
    for row in range(len(index)):
        assert index.sweeps(row, 3) == slow_sweeps(index, row, 3, 0)
        for count, after in ((0, 0), (0, 2), (2, 1), (9, 99)):
            assert index.sweeps(row, count, after=after) == slow_sweeps(index, row, count, after)


@pytest.mark.parametrize(("hole_s", "is_hole"), [(0.3, False), (0.9, False), (1.1, True), (600.0, True)])
def test_sweeps_end_at_a_hole_in_the_recording(small_index, hole_s, is_hole):
    """A few scans that a driver dropped are none; scans of minutes ago are no part of a dense cloud."""
    index = LogIndex.open(small_index.folder)
    first = int(index.rows("scene-0001")[0])
    index.time_us = small_index.time_us.copy()
    index.time_us[first + 5 :] += round(hole_s * 1e6)
    assert index.sweeps(first + 6, 4) == [first + 5, *([] if is_hole else [first + 4, first + 3, first + 2])]
    assert index.sweeps(first + 3, 1, after=4) == [
        *(first + 2, first + 4),
        *([] if is_hole else [first + 5, first + 6, first + 7]),
    ]
    assert index.sweeps(first + 9, 4) == [first + 8, first + 7, first + 6, first + 5]


def test_a_slow_log_has_no_holes_for_being_slow(small_index):
    index = LogIndex.open(small_index.folder)
    rows = index.rows("scene-0001", keys_only=False)
    index.time_us = small_index.time_us.copy()
    index.time_us[rows] = 3_000_000 * np.arange(len(rows))
    assert index.sweeps(int(rows[4]), 2, after=1) == [rows[3], rows[2], rows[5]]


def test_what_is_usual_in_a_scene_of_few_scans_is_what_is_in_the_log(tmp_path):
    """Of its two steps one is a hole, so that their median says nothing."""
    times_s = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 50.0, 50.1, 90.0]
    rows = [
        ScanRow("ab"[i > 5], f"s{i}", i, Place(f"{i}.bin"), np.eye(4), time_us=round(seconds * 1e6))
        for i, seconds in enumerate(times_s)
    ]
    write_rows(tmp_path, tmp_path / "index", ListedLog("made", load_card("semantickitti"), rows))
    index = LogIndex.open(tmp_path / "index")
    assert [index.sweeps(row, 1) for row in range(9)] == [[], [0], [1], [2], [3], [4], [], [6], []]


def test_without_times_holes_are_those_of_the_numbers(small_index):
    index = LogIndex.open(small_index.folder)
    rows = index.rows("scene-0001", keys_only=False)
    index.has_times, index.order = False, small_index.order.copy()
    index.order[rows] = 10 * np.arange(len(rows)) + 1000 * (np.arange(len(rows)) >= 4)
    assert index.sweeps(int(rows[5]), 3, after=1) == [rows[4], rows[6]]


def test_sweeps_are_the_scans_around(small_index):
    keys = small_index.rows("scene-0001")
    row = int(keys[1])
    assert small_index.sweeps(row, 3) == [row - 1, row - 2, row - 3]
    assert small_index.sweeps(row, 2, after=2) == [row - 1, row - 2, row + 1, row + 2]
    assert small_index.sweeps(int(keys[0]), 3) == []
    assert small_index.sweeps(int(keys[0]) + 2, 9) == [int(keys[0]) + 1, int(keys[0])]
    assert small_index.sweeps(int(keys[-1]) - 1, 0, after=5) == [int(keys[-1])]
    clip = small_index.clip(row, (), sweeps=3, sweeps_after=2)
    steps = (-1, -2, -3, 1, 2)
    assert [sweep.time_us for sweep in clip.sweeps] == [clip.center.time_us + 50_000 * i for i in steps]
    assert all(not sweep.cameras and sweep.labels is None and not sweep.is_key for sweep in clip.sweeps)


def test_scenes_keep_the_order_of_the_log_and_scans_that_of_time(small_index):
    assert small_index.scenes == ("scene-0003", "scene-0001")
    assert [small_index.scene(row) for row in small_index.rows("val")] == ["scene-0003"] * 4
    assert [small_index.scene(row) for row in small_index.rows("train")] == ["scene-0001"] * 4
    same = np.diff(small_index.scene_of) == 0
    assert (np.diff(small_index.time_us)[same] > 0).all()


def test_points_are_x_forward_y_left_in_the_lidar_frame(small_index, small_log):
    frame = small_index.frame(12)
    world = transform_points(frame.lidar_to_world, frame.points[:, :3].astype(np.float64))
    np.testing.assert_allclose(world, small_log.landmarks + [900, 1200, 0], atol=1e-4)
    in_ego = transform_points(frame.lidar_to_ego, np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    forward, left = in_ego[0] - in_ego[2], in_ego[1] - in_ego[2]
    assert forward[0] > 0.95  # the made LiDAR is mounted with a small tilt
    assert left[1] > 0.95
    assert frame.points.dtype == np.float32


def test_mistake_12_both_ego_poses_are_used(small_index, small_log):
    """Projection equals the direct one from world landmarks; with the LiDAR's pose alone it would not."""
    frame = small_index.frame(10)
    for camera in frame.cameras:
        seconds = (camera.time_us - 1_500_000_000_000_000) * 1e-6
        camera_to_world = small_log.ego_to_world(seconds) @ small_log.sensors[camera.channel]
        direct = np.linalg.inv(camera_to_world)
        ours = frame.lidar_to_camera(camera) @ np.linalg.inv(frame.lidar_to_world)
        np.testing.assert_allclose(ours, direct, atol=1e-8)
        shortcut = np.linalg.inv(camera.camera_to_ego) @ frame.lidar_to_ego
        shift = np.linalg.norm((frame.lidar_to_camera(camera) - shortcut)[:3, 3])
        assert shift > 0.1  # 8 m/s for 20 and 45 ms


def test_intensity_and_its_raw_switch(small_index):
    frame, raw = small_index.frame(0), small_index.frame(0, raw_intensity=True)
    np.testing.assert_allclose(raw.points[:, 3], np.linspace(0, 255, 50), rtol=1e-6)
    np.testing.assert_allclose(frame.points[:, 3], np.linspace(0, 1, 50), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(frame.points[:, 4], raw.points[:, 4])
    clip = small_index.clip(10, (), sweeps=1, raw_intensity=True)
    assert clip.sweeps[0].points[:, 3].max() == 255


def test_labels_go_through_the_logs_own_category_index(small_index, small_log):
    names = {row["index"]: row["name"] for row in small_log.tables["category"]}
    want = [small_index.card.class_of.get(names[raw], 255) for raw in small_log.raw_labels.tolist()]
    np.testing.assert_array_equal(small_index.frame(0).labels, want)
    assert small_index.frame(0, labels=False).labels is None
    assert small_index.frame(1).labels is None


def test_a_permuted_category_index_changes_nothing(small_log, small_index, tmp_path):
    """The index field of category.json counts, not a remembered table."""
    new_index = {0: 28, 17: 0, 24: 200, 28: 3}
    for row in small_log.tables["category"]:
        row["index"] = new_index[row["index"]]
    for name in [name for name in small_log.files if name.startswith("lidarseg")]:
        small_log.files[name] = bytes(new_index[raw] for raw in small_log.files[name])
    index = write_index(small_log.write(), tmp_path / "index")
    np.testing.assert_array_equal(index.frame(0).labels, small_index.frame(0).labels)


def test_cameras_are_chosen_by_channel(small_index):
    frame = small_index.frame(0)
    assert [camera.channel for camera in frame.cameras] == ["CAM_BACK", "CAM_FRONT"]
    image = frame.cameras[0].image
    assert image.shape == (36, 64, 3)
    assert np.abs(image[20:].astype(int) - (200, 100, 10)).max() < 6  # RGB, through JPEG
    front, back = small_index.frame(0, cameras=("CAM_FRONT", "CAM_BACK"), images=False).cameras
    assert (front.channel, back.channel, front.image) == ("CAM_FRONT", "CAM_BACK", None)
    assert small_index.frame(0, cameras=()).cameras == ()
    assert small_index.camera_channels(0) == [camera.channel for camera in small_index.cameras([0])]
    assert Path(front.path).is_absolute()
    with pytest.raises(
        InputError, match=r"'CAM_SIDE' is no camera of this log; choose of CAM_BACK, CAM_FRONT"
    ):
        small_index.frame(0, cameras=("CAM_SIDE",))


def test_cameras_without_images(small_index):
    cameras = small_index.cameras()
    assert len(cameras) == 16
    assert len({camera.token for camera in cameras}) == 16
    assert all(camera.image is None and camera.size == (36, 64) for camera in cameras)
    only = small_index.cameras(small_index.rows("scene-0001"), channels=["CAM_FRONT"])
    assert [camera.channel for camera in only] == ["CAM_FRONT"] * 4
    for rows in (small_index.rows(), small_index.rows("scene-0001[1:3]"), small_index.rows()[::-1][:3], []):
        assert sorted(small_index.camera_tokens(rows)) == sorted(c.token for c in small_index.cameras(rows))


def test_boxes_follow_tracks(small_index):
    keys = small_index.rows("scene-0001")
    boxes = [small_index.frame(int(row), images=False, boxes=True).boxes for row in keys]
    assert {b.tracks for b in boxes} == {("scene-0001-car",)}
    assert [b.centers[0, 0] for b in boxes] == [920, 921, 922, 923]
    np.testing.assert_array_equal(boxes[0].sizes, [[4.6, 1.9, 1.7]])  # length, width, height
    assert boxes[0].categories == ("vehicle.car",)
    assert (boxes[0].status, boxes[0].points.tolist()) == (("vehicle.moving",), [9])
    seconds = small_index.time_us[keys] * 1e-6
    ends = [(0, 1), (0, 2), (1, 3), (2, 3)]
    want = [[(last - first) / (seconds[last] - seconds[first]), 0, 0] for first, last in ends]
    np.testing.assert_allclose([b.velocities[0] for b in boxes], want)
    assert small_index.frame(int(keys[0]) + 1, boxes=True).boxes is None
    assert small_index.frame(int(keys[0])).boxes is None


def test_rows_outside_are_refused(small_index):
    for row in (-1, len(small_index)):
        with pytest.raises(IndexError, match="outside this index of 62 scans"):
            small_index.frame(row)


def test_an_index_pickles_as_a_path(pandaset_index):
    data = pickle.dumps(pandaset_index)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.hash == pandaset_index.hash
    np.testing.assert_array_equal(again.frame(3).points, pandaset_index.frame(3).points)


def test_the_hash_is_of_the_content_alone(small_log, small_index, tmp_path):
    root = small_log.write()
    other = write_index(root, tmp_path / "elsewhere" / "index")
    again = write_index(root, tmp_path / "elsewhere" / "index")
    assert other.hash == again.hash == small_index.hash  # another root, another folder, written twice
    assert is_intact(other.folder)
    small_log.row("ego_pose", "pose-scene-0001-LIDAR_TOP-3")["translation"][0] += 1e-6
    small_log.write()
    assert write_index(root, tmp_path / "index").hash != other.hash


def test_logs_that_moved_are_found_or_named(small_log, tmp_path):
    home = tmp_path / "home"
    small_log.root = home / "log"
    index = write_index(small_log.write(), home / "index")
    moved = tmp_path / "moved"
    home.rename(moved)
    assert LogIndex.open(moved / "index").frame(0).token == "scene-0003-LIDAR_TOP-0"  # both moved together
    (moved / "log").rename(tmp_path / "apart")
    with pytest.raises(
        InputError, match=r"the data folder of the index .* is no longer there; open the index with"
    ):
        LogIndex.open(moved / "index")
    opened = LogIndex.open(moved / "index", root=tmp_path / "apart")
    assert opened.frame(0).token == "scene-0003-LIDAR_TOP-0"
    assert opened.hash == index.hash
    with pytest.raises(InputError, match=r"gone: there is no such data folder"):
        LogIndex.open(moved / "index", root=tmp_path / "gone")


def broken_copy(index, folder, change):
    shutil.copytree(index.folder, folder)
    change(folder)
    return folder


def set_schema(folder):
    header = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**header, "schema": 99}))


def swap_table(folder):
    table = feather.read_table(folder / "frames.arrow", memory_map=False)
    table = table.replace_schema_metadata({b"superflow_index": b"other"})
    with pyarrow.ipc.new_file(str(folder / "frames.arrow"), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_schema,
            r"index.json: the index has schema 99 but this version reads schema 3; make it again with `superflow",
        ),
        (
            lambda f: (f / "index.json").unlink(),
            r"there is no index here; make one with `superflow prepare DATASET",
        ),
        (
            lambda f: (f / "index.json").write_text("{"),
            r"index.json: is no valid JSON .*; make it again with",
        ),
        (
            lambda f: (f / "cameras.arrow").unlink(),
            r"cameras.arrow: there is no such file; make the index again with",
        ),
        (lambda f: (f / "frames.arrow").write_bytes(b"ARROW1 no"), r"frames.arrow: is damaged"),
        (swap_table, r"frames.arrow: belongs to another index than index.json beside it"),
    ],
)
def test_damaged_indices_are_named(small_index, tmp_path, change, message):
    folder = broken_copy(small_index, tmp_path / "copy", change)
    with pytest.raises(InputError, match=message):
        LogIndex.open(folder)


@pytest.mark.parametrize("rows", [0, 3])
def test_columns_are_views_of_the_file_and_what_arrow_reads_in_it(tmp_path, rows):
    draw = np.random.default_rng(0)
    columns = {
        "flag": draw.random(rows) < 0.5,
        "text": np.array([b"a", b"longer", b""][:rows], dtype="S6"),
        "matrix": draw.random((rows, 12)),
        "points": draw.integers(0, 9, rows).astype(np.int16),
        "time_us": draw.integers(0, 2**60, rows),
        "splits": draw.integers(0, 2**60, rows).astype(np.uint64),
    }
    tables = {name: columns for name in TABLES}
    digest = write_tables(tmp_path, {}, {}, tables)
    assert is_intact(tmp_path)
    found = read_columns(tmp_path, "frames", digest)
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column, strict=True)
        assert not found[name].flags.writeable
    plain = pyarrow.ipc.open_file(tmp_path / "frames.arrow").read_all().to_pydict()
    assert plain["text"] == [value.ljust(6, b"\0") for value in columns["text"].tolist()]
    assert plain["matrix"] == columns["matrix"].tolist()
    assert plain["flag"] == columns["flag"].tolist()
    assert plain["splits"] == columns["splits"].tolist()


def test_opening_imports_no_pandas(small_index):
    """It would take longer than all the rest."""
    program = (
        "import sys; from superflow.datasets.index import LogIndex; "
        f"LogIndex.open({str(small_index.folder)!r}); print('pandas' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_an_index_replaced_under_a_running_job_is_noticed(small_log, tmp_path):
    index = write_index(small_log.write(), tmp_path / "index")
    data = pickle.dumps(index)
    small_log.row("ego_pose", "pose-scene-0001-LIDAR_TOP-3")["translation"][0] += 1.0
    write_index(small_log.write(), tmp_path / "index")
    with pytest.raises(InputError, match="prepared anew while it was in use"):
        pickle.loads(data)


def test_velocities_are_differences_between_neighbours_in_time():
    rng = np.random.default_rng(0)
    tracks = tuple(rng.choice(list("abcdef"), 60).tolist())
    times_us = rng.permutation(60) * 300_000
    centers = rng.normal(size=(60, 3))
    got = velocities(centers, times_us, tracks)
    for i in range(60):
        mine = sorted((times_us[j], j) for j in range(60) if tracks[j] == tracks[i])
        place = [j for _, j in mine].index(i)
        around = mine[max(place - 1, 0) : place + 2]
        seconds = (around[-1][0] - around[0][0]) * 1e-6
        if 0 < seconds <= 1.5 * (len(around) - 1):
            np.testing.assert_allclose(got[i], (centers[around[-1][1]] - centers[around[0][1]]) / seconds)
        else:
            assert np.isnan(got[i]).all()
    assert 5 < np.isnan(got[:, 0]).sum() < 55
