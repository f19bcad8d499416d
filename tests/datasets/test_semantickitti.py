"""SemanticKITTI against an independent read of its files with plain numpy; what its folders lack is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
from superflow.downstream.voting import neighbour_rows
from superflow.errors import InputError, MissingFileError

TR = (
    "7.967514e-03 -9.999679e-01 -8.462264e-04 -1.377769e-02 -2.771053e-03 8.241710e-04 -9.999958e-01 -5.542117e-02 \
9.999644e-01 7.969825e-03 -2.764397e-03 -2.918589e-01"
)
P2 = "718.856 0 607.1928 45.38225 0 718.856 185.2157 -0.1130887 0 0 1 0.003779761"


@pytest.fixture(scope="session")
def kitti_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten places of the real sequences."""
    target = tmp_path_factory.mktemp("kitti")
    subprocess.run([sys.executable, shared_data / "kitti" / "unpack.py", target], check=True)
    return target / "semantickitti"


@pytest.fixture(scope="session")
def kitti(kitti_root: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    return prepare("semantickitti", kitti_root, tmp_path_factory.mktemp("prepared"))


def by_hand(folder: Path, number: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Points, labels and the matrices of a sequence, with nothing of the product."""
    points = np.fromfile(folder / f"velodyne/{number:06d}.bin", "<f4").reshape(-1, 4)
    labels = np.fromfile(folder / f"labels/{number:06d}.label", "<u4")
    lines = (line.split(":") for line in (folder / "calib.txt").read_text().splitlines() if ":" in line)
    matrices = {name: np.array(values.split(), float) for name, values in lines}
    return points, labels, {name: m.reshape(3, 4) for name, m in matrices.items() if m.size == 12}


def test_every_scan_is_what_plain_numpy_reads(kitti, kitti_root, shared_data):
    facts = yaml.safe_load((shared_data / "label_maps" / "semantickitti.yaml").read_text())
    assert len(kitti) == 42
    assert kitti.has_times
    assert kitti.has_poses
    for row in range(0, 42, 3):
        scene, number = kitti.scene(row), int(kitti.order[row])
        folder = kitti_root / "dataset" / "sequences" / scene
        points, raw, matrix = by_hand(folder, number)
        frame = kitti.frame(row)
        np.testing.assert_array_equal(frame.points, points)
        counts = np.zeros(256, int)
        for raw_id, count in zip(*np.unique(raw & 0xFFFF, return_counts=True)):
            counts[facts["raw_to_train"].get(int(raw_id), 255)] += count
        np.testing.assert_array_equal(np.bincount(frame.labels, minlength=256), counts)
        np.testing.assert_array_equal(kitti.instances(row, len(points)), raw >> 16)
        assert frame.time_us == round(float((folder / "times.txt").read_text().split()[number]) * 1e6)
        (camera,) = frame.cameras
        image = cv2.imread(str(folder / f"image_2/{number:06d}.png"))[..., ::-1]
        np.testing.assert_array_equal(camera.image, image)
        homogeneous = np.column_stack([points[:, :3], np.ones(len(points))])
        uvw = homogeneous @ (matrix["P2"] @ np.vstack([matrix["Tr"], [0, 0, 0, 1]])).T
        seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
        uv = uvw[seen.rows, :2] / uvw[seen.rows, 2:]
        np.testing.assert_allclose(seen.pixels, uv, atol=0.01)
        inside = (uvw[:, 2] > 1.0) & (uvw[:, 0] > 0) & (uvw[:, 1] > 0)
        inside &= (uvw[:, 0] < (image.shape[1] - 1) * uvw[:, 2]) & (
            uvw[:, 1] < (image.shape[0] - 1) * uvw[:, 2]
        )
        assert abs(int(inside.sum()) - len(seen)) <= 3
        assert 0.13 < len(seen) / len(points) < 0.17


def test_lidar_poses_are_those_of_the_camera_brought_to_the_lidar(kitti, kitti_root):
    folder = kitti_root / "dataset" / "sequences" / "00"
    _, _, matrix = by_hand(folder, 0)
    to_camera = np.vstack([matrix["Tr"], [0, 0, 0, 1]])
    for row in kitti.rows("00").tolist():
        line = np.loadtxt(folder / "poses.txt")[int(kitti.order[row])].reshape(3, 4)
        want = np.linalg.inv(to_camera) @ np.vstack([line, [0, 0, 0, 1]]) @ to_camera
        np.testing.assert_allclose(kitti.frame(row, images=False).lidar_to_world, want, atol=1e-5)


def test_scans_beyond_a_gap_are_no_neighbours(kitti):
    """Of 00 there are 0, 1, 2, 3, 6 and 9; votes look at scans by number, clips in time."""
    rows = kitti.rows("00").tolist()
    assert kitti.order[rows].tolist() == [0, 1, 2, 3, 6, 9]
    assert set(neighbour_rows(kitti, rows[1], (-1, 1))) == {-1, 1}
    assert any("have gaps in 10 of 10 sequences" in warning for warning in kitti.warnings)


def test_the_check_finds_nothing_wrong(kitti):
    report = check_log(kitti, project=project, sample=10)
    assert report.ok
    assert not [note for note in report.notes if "raw label ids" in note or "intensit" in note]


def test_clips_of_the_front_camera(kitti):
    dataset = PretrainDataset(
        kitti,
        frames="00",
        region="world_cell",
        clouds={"sweeps": 1, "max_points": 4000},
        views={"size": (96, 320), "flip": 0.0},
    )
    batch = dataset[1]
    assert len(batch.images) == 3
    assert len(batch.pair_point) > 100


def test_moving_things_are_classes_of_their_own_where_asked():
    plain, moving = load_card("semantickitti"), load_card("semantickitti", label_set="moving")
    assert (len(plain.classes), len(moving.classes)) == (19, 25)
    assert plain.classes[plain.label_map[252]] == "car"
    assert moving.classes[moving.label_map[252]] == "moving-car"
    with pytest.raises(InputError, match="has no label set 'movin'; did you mean 'moving'"):
        load_card("semantickitti", label_set="movin")


def small_copy(folder: Path, *, calib: str = f"P0: {P2}\nP2: {P2}\nP3: {P2}\nTr: {TR}\n") -> Path:
    """A sequence of three scans of two points, numbered 0, 1 and 3."""
    sequence = folder / "sequences" / "00"
    for name in ("velodyne", "labels"):
        (sequence / name).mkdir(parents=True)
    for number in (0, 1, 3):
        np.full((2, 4), number + 1, "<f4").tofile(sequence / f"velodyne/{number:06d}.bin")
        np.array([10, 252 | 7 << 16], "<u4").tofile(sequence / f"labels/{number:06d}.label")
    (sequence / "calib.txt").write_text(calib)
    (sequence / "times.txt").write_text("".join(f"{0.1 * i:e}\n" for i in range(4)))
    (sequence / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 4)
    return folder


def test_a_calibration_without_tr_is_one_sentence(tmp_path):
    root = small_copy(tmp_path / "kitti", calib=f"P2: {P2}\nP3: {P2}\n")
    with pytest.raises(
        InputError, match=r"calib.txt: has no Tr of 12 numbers, .* odometry calibration archive"
    ):
        prepare("semantickitti", root, tmp_path / "out")
    assert not (tmp_path / "out" / "index.json").exists()


def test_what_is_not_there_is_none(tmp_path):
    root = small_copy(tmp_path / "kitti")
    shutil.rmtree(root / "sequences/00/labels")
    for name in ("times.txt", "poses.txt", "calib.txt"):
        (root / "sequences/00" / name).unlink()
    frame = prepare("semantickitti", root, tmp_path / "out").frame(2)
    assert (frame.time_us, frame.ego_to_world, frame.labels, frame.cameras) == (None, None, None, ())


@pytest.mark.parametrize("name", ["times.txt", "poses.txt"])
def test_files_that_are_cut_off_are_named(tmp_path, name):
    root = small_copy(tmp_path / "kitti")
    path = root / "sequences/00" / name
    path.write_text(path.read_text().split("\n", 1)[0] + "\n")
    with pytest.raises(InputError, match=rf"{name}: has 1 lines of numbers for scans up to number 3"):
        prepare("semantickitti", root, tmp_path / "out")


def test_another_folder_is_told_which_one_is_meant(tmp_path):
    with pytest.raises(
        MissingFileError,
        match=r"holds no scan of semantickitti(.|\n)*sequences/SS/velodyne(.|\n)*found in .*:\n  nothing",
    ):
        prepare("semantickitti", tmp_path, tmp_path / "out")


def test_a_dataset_json_speaks_for_a_log_of_this_layout(tmp_path):
    velodyne = tmp_path / "log/sequences/00/velodyne"
    velodyne.mkdir(parents=True)
    np.full((4, 4), 2.0, "<f4").tofile(velodyne / "000000.bin")
    stated = tmp_path / "log/dataset.json"
    stated.write_text(
        '{"name": "mine", "real": false, "intensity": {"raw_max": 4}, "splits": {"val": ["00"]}}'
    )
    index = prepare("semantickitti", tmp_path / "log", tmp_path / "index")
    assert (index.card.name, index.card.real, index.rows("val").tolist()) == ("mine", False, [0])
    assert index.frame(0).cloud.intensity.tolist() == [0.5] * 4
    stated.write_text('{"licens": "x"}')
    with pytest.raises(InputError, match=r"dataset.json: unknown key 'licens'; did you mean 'licence'"):
        prepare("semantickitti", tmp_path / "log", tmp_path / "index")
    (tmp_path / "log/mine.yaml").write_text(
        (Path(__file__).parents[2] / "datasets/cards/semantickitti.yaml")
        .read_text()
        .replace("intensity]", "echo]")
        .replace("{rule: linear, raw_max: 1}", "{rule: none}")
    )
    stated.write_text('{"card": "mine.yaml"}')
    assert prepare("semantickitti", tmp_path / "log", tmp_path / "index").frame(0).cloud.intensity is None
    moving = prepare("semantickitti", tmp_path / "log", tmp_path / "index", label_set="moving")
    assert "moving-car" in moving.card.classes
    stated.write_text('{"card": "mine.yaml", "intensity": {"raw_max": 4}}')
    with pytest.raises(
        InputError, match=r"intensity has the rule linear, but the points of the card semantickitti"
    ):
        prepare("semantickitti", tmp_path / "log", tmp_path / "index")
    with pytest.raises(InputError, match="--label-set chooses classes of a packaged card"):
        prepare("semantickitti", tmp_path / "log", tmp_path / "i", card=index.card, label_set="moving")
