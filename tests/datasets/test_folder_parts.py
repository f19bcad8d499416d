"""An own log as a folder whose files are there in part, or hold something else than they seem to: never in silence."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from test_folder import START_NS, TEN_LINES, points_of, write, write_log
from test_point_files import FILES

from superflow.camera.projection import project
from superflow.datasets import write as write_module
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.own_logs import folder
from superflow.datasets.prepare import prepare
from superflow.errors import InputError
from superflow.files.writes import building


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_log(tmp_path / "drive")


def numbered(root: Path, text: str) -> None:
    """The scans by number, with a text file of times."""
    for i, path in enumerate(sorted((root / "lidar").iterdir())):
        path.rename(path.with_name(f"{i:06d}.bin"))
    (root / "times.txt").write_text(text)
    write(root, times={"file": "times.txt"}, cameras=None, poses=None)


@pytest.mark.parametrize("hole", ["", "# the driver was restarted", "   "])
def test_a_line_that_is_missing_moves_no_time_to_another_scan(root, tmp_path, hole):
    """Where lines are counted by the numbers of the scans; seven lines for five scans."""
    numbered(root, f"# seconds\n0\n0.1\n{hole}\n0.3\n0.4\n0.5\n0.6\n\n")
    with pytest.raises(InputError, match=r"times.txt: line 4 holds no number, and lines are counted"):
        prepare("folder", root, tmp_path / "out")
    (root / "times.txt").write_text("seconds\n\n0\n0.1\n0.2\n0.3\n0.4\n0.5\n0.6\n\n")
    assert prepare("folder", root, tmp_path / "out").time_us.tolist() == [0, 100000, 200000, 300000, 400000]


def test_names_that_are_seconds_are_in_the_order_of_time(root, tmp_path):
    """Whose fractions have as many digits as they need."""
    seconds = ["1700000000.96", "1700000001.0", "1700000001.06", "1700000001.1", "1700000001.15"]
    for name, path in zip(seconds, sorted((root / "lidar").iterdir())):
        path.rename(path.with_name(f"{name}.bin"))
    (root / "way.txt").write_text("\n".join(f"1 0 0 {k} 0 1 0 0 0 0 1 0" for k in range(5)))
    write(root, times={"name": 1}, cameras=None, poses={"file": "way.txt", "form": "kitti"})
    index = prepare("folder", root, tmp_path / "out")
    assert index.tokens(range(5)) == [f"drive_{name}" for name in seconds]
    assert index.ego_positions()[:, 0].tolist() == [0, 1, 2, 3, 4]
    for i in range(5):
        np.testing.assert_array_equal(index.frame(i).cloud.xyz, points_of(i)[:, :3])


@pytest.mark.parametrize("form", ["{0},{1:06d}", "{0} {1:06d}000", "{2:06d} {0}.{1:06d}", "{0:,}.{1:06d}"])
def test_whole_numbers_before_others_are_no_times(root, tmp_path, form):
    """A decimal comma, seconds beside nanoseconds, numbers of lines, commas between thousands."""
    numbered(root, "".join(form.format(1700000000 + 2 * i, 500000 + i, i) + "\n" for i in range(5)))
    with pytest.raises(
        InputError, match=r"times.txt: its lines begin with two numbers \(.*write a time a line, with a"
    ):
        prepare("folder", root, tmp_path / "out")


@pytest.mark.parametrize(("form", "unit_s"), [("{0}000,7.5", 1e-6), ("{0}.5 3", 1.0), ("{0} scan.pcd", 1.0)])
def test_what_stands_beside_a_time_is_passed_over(root, tmp_path, form, unit_s):
    numbered(root, "".join(form.format(1700000 + i) + "\n" for i in range(5)))
    write(root, times={"file": "times.txt", "unit_s": unit_s}, cameras=None, poses=None)
    assert prepare("folder", root, tmp_path / "out").has_times


def test_a_first_time_that_is_no_number_is_no_line_of_names(root, tmp_path):
    numbered(root, "nan\n0.1\n0.2\n0.3\n0.4\n0.5\n0.6\n")
    with pytest.raises(InputError, match=r"times.txt: 'nan' is no time"):
        prepare("folder", root, tmp_path / "out")


def test_a_stated_size_counts_beside_a_camera_that_states_none(root, tmp_path):
    """Its images were resized, or cut out of larger ones; which of the two nobody but the log's owner knows."""
    (front,) = yaml.safe_load(TEN_LINES)["cameras"].values()
    stated, silent = {**front, "size": [72, 128]}, {key: one for key, one in front.items() if key != "size"}
    write(root, cameras={"stated": stated, "silent": silent})
    cameras = {
        one.channel: one for one in prepare("folder", root, tmp_path / "out").frame(0, images=False).cameras
    }
    assert (cameras["stated"].size, cameras["silent"].size) == ((72, 128), (36, 64))
    np.testing.assert_array_equal(cameras["stated"].intrinsics, cameras["silent"].intrinsics)
    with pytest.raises(InputError, match="is 64 x 36 pixels but its intrinsics are for 128 x 72"):
        cameras["stated"].read()


def test_numbers_of_an_inertial_unit_are_no_poses(root, tmp_path):
    rows = [
        line.split()[0] + " 9.8 0 0.1 0.2 0.1 0 35.5"
        for line in (root / "odometry.txt").read_text().splitlines()[1:]
    ]
    (root / "odometry.txt").write_text("\n".join(rows))
    with pytest.raises(
        InputError, match=r"odometry.txt: the last four numbers of pose 1 are no unit quaternion"
    ):
        prepare("folder", root, tmp_path / "out")


def test_drives_and_scans_that_are_passed_over_are_told_of(root, tmp_path, caplog):
    for drive in ("monday", "tuesday", "wednesday"):
        shutil.copytree(root / "lidar", root / drive / "lidar")
    for path in (root / "tuesday/lidar").iterdir():
        path.unlink()
    first = min((root / "wednesday/lidar").iterdir())
    first.rename(first.with_suffix(".BIN"))
    write(root, points={"files": "{scene}/lidar/*.bin"}, cameras=None, poses=None)
    index = prepare("folder", root, tmp_path / "out")
    assert (index.scenes, len(index)) == (("monday", "wednesday"), 9)
    told = (
        f"{root}: tuesday has no file {{scene}}/lidar/*.bin; it is left out",
        f"{root}: 1 files of wednesday, as {START_NS}.BIN, are passed over, since the pattern "
        "{scene}/lidar/*.bin has other small and capital letters; rename them",
    )
    assert index.warnings == told
    assert all(line in caplog.text for line in told)


def test_slips_of_the_splits_are_told_of(root, tmp_path, caplog):
    """Not where a part of the log is prepared, and not of the splits that packaged cards name."""
    for drive in ("monday", "tuesday"):
        shutil.copytree(root / "lidar", root / drive / "lidar")
    splits = {"train": ["monday", "tuseday"], "val": ["tuesday"], "test": ["monday"]}
    write(root, points={"files": "{scene}/lidar/*.bin"}, cameras=None, poses=None, splits=splits)
    prepare("folder", root, tmp_path / "out", scenes=["monday"])
    assert not caplog.text
    prepare("folder", root, tmp_path / "out")
    unknown = (
        "the split 'train' names 'tuseday', which is no scene of this log; the nearest known one is 'tuesday'"
    )
    assert unknown in caplog.text
    assert "'monday' is in 'train' and in 'test'; its figures are of scans learned from" in caplog.text
    assert caplog.text.count("WARNING") == 2


def test_the_index_of_another_process_is_not_taken_for_the_own_one(root, tmp_path, monkeypatch):
    """Two logs are prepared into one folder, and the other one is written last."""
    other = write_log(tmp_path / "other")
    min((other / "lidar").iterdir()).unlink()
    written = write_module.write_tables

    def overtaken(*args):
        digest = written(*args)
        monkeypatch.setattr(write_module, "write_tables", written)
        write_module.write_rows(other, tmp_path / "out", folder.open_log(other))
        return digest

    monkeypatch.setattr(write_module, "write_tables", overtaken)
    monkeypatch.setattr(write_module, "building", lambda *_: nullcontext())  # as on a disk without locks
    with pytest.raises(InputError, match="another process has prepared a log here at the same time"):
        prepare("folder", root, tmp_path / "out")
    assert len(LogIndex.open(tmp_path / "out")) == 4
    assert len(prepare("folder", root, tmp_path / "out")) == 5


def test_files_of_two_indices_do_not_take_turns(root, tmp_path, caplog):
    """A second writer waits until the first has all its files."""
    first = prepare("folder", root, tmp_path / "out")
    with ThreadPoolExecutor() as pool:
        with building(tmp_path / "out", ".preparing"):
            second = pool.submit(prepare, "folder", root, tmp_path / "out")
            wait([second], timeout=1)
            assert not second.done()
        assert second.result().hash == first.hash
    assert "another process is building here; waiting" in caplog.text
    assert not (tmp_path / "out/.preparing").exists()


def test_an_image_that_several_scans_share_is_noted_where_the_camera_is_slower(root, tmp_path):
    for path in sorted((root / "front").iterdir())[1::2]:
        path.unlink()
    camera = yaml.safe_load(TEN_LINES)["cameras"]["front"]
    write(root, cameras={"front": {**camera, "max_delay_s": 0.15}})
    index = prepare("folder", root, tmp_path / "out")
    report = check_log(index, project=project)
    assert index.frame(0).cameras[0].path == index.frame(1).cameras[0].path
    assert "shared path" not in report.problem_counts
    assert any("are those of several scans each" in note for note in report.notes)
    write(root, cameras={name: {**camera, "max_delay_s": 0.05} for name in ("front", "side")})
    report = check_log(prepare("folder", root, tmp_path / "two"), project=project)
    assert report.problem_counts["shared path"] == 1


def test_images_whose_times_are_late_are_of_the_time_of_the_shutter(root, tmp_path):
    """Also those that belong to another scan by then."""
    camera = yaml.safe_load(TEN_LINES)["cameras"]["front"]
    index = prepare("folder", root, tmp_path / "out")
    before = [(camera, camera.image) for row in range(4) for camera in index.frame(row).cameras]
    for path in sorted((root / "front").iterdir(), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 130_000}.png"))
    write(root, cameras={"front": {**camera, "late_s": 0.13}})
    index = prepare("folder", root, tmp_path / "late")
    after = [camera for row in range(4) for camera in index.frame(row).cameras]
    assert len(before) == len(after) == 4
    for (one, image), other in zip(before, after):
        assert one.time_us == other.time_us
        np.testing.assert_array_equal(one.ego_to_world, other.ego_to_world)
        np.testing.assert_array_equal(image, other.image)


def test_a_log_that_tells_the_time_of_each_image_has_no_delay(root, tmp_path):
    (root / "dataset.json").write_text('{"late_s": {"front": 0.1}}')
    with pytest.raises(InputError, match=r"late_s is of bags alone; a folder of files has it in its cameras"):
        prepare("folder", root, tmp_path / "out")


def test_the_check_sees_coordinates_of_a_far_origin_as_they_are(tmp_path):
    """By axes that bring UTM to the sensor; float32 would put the points of a street on a grid of half metres."""
    far = [691_000.0, 5_334_000.0, 520.0]
    points = np.random.default_rng(4).uniform(-30, 30, (4000, 3)) * [1, 1, 0] - [0, 0, 1.5]
    (tmp_path / "log/lidar").mkdir(parents=True)
    (points + far).astype("<f8").tofile(tmp_path / "log/lidar/a.bin")
    axes = [[1.0, 0, 0, -far[0]], [0.0, 1, 0, -far[1]], [0.0, 0, 1, -far[2]], [0.0, 0, 0, 1]]
    points_are = {"files": "lidar/*.bin", "format": "f8", "axes": axes, "columns": ["x", "y", "z"]}
    without = dict.fromkeys(("intensity", "times", "poses", "cameras"))
    write(tmp_path / "log", points=points_are, **without)
    report = check_log(prepare("folder", tmp_path / "log", tmp_path / "out"), project=project)
    assert report.clouds["copies_share"]["largest"] == 0
    assert report.clouds["range_m"]["median"] == pytest.approx(
        np.median(np.linalg.norm(points, axis=1)), rel=0.05
    )


@pytest.mark.parametrize(("viewpoint", "is_told"), [("0.0 0 0 1 0 -0 0", False), ("5 -2 1.5 1 0 0 0", True)])
def test_a_viewpoint_that_is_not_read_is_told_of(viewpoint, is_told, tmp_path):
    (tmp_path / "log/lidar").mkdir(parents=True)
    data = FILES["binary.pcd"]().replace(b"VIEWPOINT 0 0 0 1 0 0 0", f"VIEWPOINT {viewpoint}".encode())
    (tmp_path / "log/lidar/a.pcd").write_bytes(data)
    without = dict.fromkeys(("intensity", "times", "poses", "cameras"))
    write(tmp_path / "log", points={"files": "lidar/*.pcd", "axes": "forward-left-up"}, **without)
    index = prepare("folder", tmp_path / "log", tmp_path / "out")
    assert any("a.pcd: says by VIEWPOINT from where" in line for line in index.warnings) is is_told


@pytest.mark.parametrize("ending", ["bin", "npy", "npz"])
def test_labels_are_a_column_of_a_table_without_names(ending, tmp_path):
    root = tmp_path / "log"
    root.mkdir()
    rows = np.column_stack([points_of(0), np.arange(60) % 3]).astype("<f4")
    if ending == "npz":
        np.savez(root / "1.npz", rows=rows[:, :4], label=rows[:, 4])
    else:
        np.save(root / "1.npy", rows) if ending == "npy" else rows.tofile(root / "1.bin")
    columns = [*"xyz", "intensity", *(["label"] if ending != "npz" else [])]
    write(
        root,
        points={"files": f"*.{ending}", "columns": columns},
        times=None,
        poses=None,
        cameras=None,
        labels={"column": "label"},
        classes=[{"name": "road", "colour": [1, 2, 3], "categories": ["road"]}],
        categories={1: "road"},
    )
    index = prepare("folder", root, tmp_path / "out")
    assert LogIndex.open(tmp_path / "out").card.labels == index.card.labels
    assert index.frame(0).labels.tolist() == [0 if i % 3 == 1 else 255 for i in range(60)]
    if ending != "npz":
        write(root, **yaml.safe_load((root / "folder.yaml").read_text()) | {"labels": {"column": "id"}})
        with pytest.raises(
            InputError, match=r"column of labels is 'id', which is none of the columns of its files"
        ):
            prepare("folder", root, tmp_path / "out")


@pytest.mark.parametrize(
    "names",
    [
        "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []",
        "t,tx,ty,tz,qw,qx,qy,qz",
        "# time x y z w x y z",
    ],
)
def test_quaternions_that_begin_with_w_by_their_names_are_refused(names, root, tmp_path):
    path = root / "odometry.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([names, *lines[1:]]))
    with pytest.raises(
        InputError, match=r"odometry.txt: its names say that w comes first; write time x y z qx"
    ):
        prepare("folder", root, tmp_path / "out")
    path.write_text(
        "\n".join([re.sub("(.*)([^,# ]*w)(,? ?(?:\\[\\],? ?)?)(.*)", r"\1\4 \2", names), *lines[1:]])
    )
    assert len(prepare("folder", root, tmp_path / "out")) == 5


def test_what_is_known_of_the_poses_is_judged(root, tmp_path):
    """Also where the first scan was taken before the first pose; of another order quaternions stand on their head."""
    path = root / "odometry.txt"
    rows = [line.split() for line in path.read_text().splitlines()[8:]]
    path.write_text("\n".join(" ".join([*row[:4], row[7], *row[4:7]]) for row in rows))
    index = prepare("folder", root, tmp_path / "out")
    assert np.isnan(index.ego_positions()[:, 0]).tolist() == [True, True, False, False, False]
    notes = " ".join(check_log(index, project=project).notes)
    assert "the log does not know the poses of all scans" in notes
    assert "z of the vehicle points downwards in the world most of the time" in notes


def test_degrees_of_a_globe_are_noted(root, tmp_path):
    """As a receiver of satellites tells them; not where the places are metres."""
    said = "degrees of latitude and longitude are no metres"
    assert said not in " ".join(check_log(prepare("folder", root, tmp_path / "m"), project=project).notes)
    lines = [f"{START_NS / 1e9 + 0.02 * k:.9f} {49 + 2e-6 * k} 8.4 116 0 0 0 1" for k in range(-1, 22)]
    (root / "odometry.txt").write_text("\n".join(lines))
    assert said in " ".join(check_log(prepare("folder", root, tmp_path / "deg"), project=project).notes)


def test_why_nothing_fits_is_told(root, tmp_path):
    """Images and poses of another clock, and names that are others."""
    for i, path in enumerate(sorted((root / "front").iterdir())):
        path.rename(path.with_name(f"{START_NS // 1000 + 37_000_000 + i * 100_000}.png"))
    told = "".join(prepare("folder", root, tmp_path / "clock").warnings)
    assert (
        "have no image of front: the nearest two are 36.600 s apart, and max_delay_s of the camera is 0.05"
        in told
    )
    write(root, times={"name": 1e-6}, cameras=None)
    told = "".join(prepare("folder", root, tmp_path / "unit").warnings)
    assert (
        "have no pose: they were taken from 1700000000000.000 to 1700000000400.000 s, and poses are told"
        in told
    )
    camera = yaml.safe_load(TEN_LINES)["cameras"]["front"] | {"times": None}
    write(root, cameras={"front": camera})
    told = "".join(prepare("folder", root, tmp_path / "names").warnings)
    assert (
        f"no image of front: images are called '{START_NS // 1000 + 37_000_000}' and so on in place of the *"
        in told
    )


def test_intensities_below_0_are_told_and_the_rest_is_measured(tmp_path):
    (tmp_path / "log").mkdir()
    rows = points_of(0)
    rows[3, 3] = -20
    np.savez(tmp_path / "log/1.npz", **dict(zip([*"xyz", "intensity"], rows.T)))
    write(tmp_path / "log", points={"files": "*.npz"}, times=None, poses=None, cameras=None)
    report = check_log(prepare("folder", tmp_path / "log", tmp_path / "out"), project=project)
    (problem,) = [problem for problem in report.problems if problem.kind == "intensity"]
    assert problem.message.startswith(f"{tmp_path / 'log/1.npz'}: intensities run from -20 to")
    assert report.clouds


@pytest.mark.parametrize(("orientation", "is_told"), [(1, False), (6, True)])
def test_images_that_viewers_turn_are_noted(orientation, is_told, root, tmp_path):
    for path in (root / "front").iterdir():
        image = Image.open(path)
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    notes = check_log(prepare("folder", root, tmp_path / "out"), project=project).notes
    said = "front: viewers turn its images, as EXIF tells them to, and here they are read as stored, 64 x 36 pixels"
    assert any(note.startswith(said) for note in notes) == is_told
