"""Scans that several LiDARs made: one cloud that knows whose each point is, and what has to know where rays began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from superflow.camera.projection import project
from superflow.datasets.card import DatasetCard, load_card
from superflow.datasets.check.log import check_log
from superflow.datasets.cloud import Cloud
from superflow.datasets.frame import Clip, Frame, Lidar
from superflow.datasets.index import LogIndex
from superflow.datasets.merge import merge_sweeps
from superflow.datasets.moving import seen_through
from superflow.datasets.records import LidarRow, Place, ScanRow
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError
from superflow.geometry import make_transform, transform_points
from superflow.lidar.viewpoint import thin_as_from

KITTI = load_card("semantickitti")
TOP = make_transform((1, 0, 0, 0), (0.0, 0.0, 1.8))
SIDE = make_transform((np.sqrt(0.5), 0, 0, np.sqrt(0.5)), (1.5, 0.9, 0.7))  # looks to the left


def card(*further: str, **changes) -> DatasetCard:
    return replace(KITTI, columns=("x", "y", "z", "intensity", *further), **changes)


def points(seed: int, count: int, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 9, (count, columns)).astype("<f4")


def write(root: Path, known: DatasetCard, rows: list[LidarRow], **more) -> LogIndex:
    scan = ScanRow("s", "t", 0, Place("0.bin"), TOP, lidars=tuple(rows), **more)
    write_rows(root, root / "index", ListedLog("made", known, [scan]))
    return LogIndex.open(root / "index")


def test_files_of_several_lidars_are_one_cloud_in_the_frame_of_the_scan(tmp_path):
    top, side = points(0, 30), points(1, 20)
    side[4] = 0
    top.tofile(tmp_path / "0.bin")
    side.tofile(tmp_path / "1.bin")
    np.full(30, 40, "<u4").tofile(tmp_path / "0.label")
    np.full(20, 10, "<u4").tofile(tmp_path / "1.label")
    rows = [LidarRow("top", TOP), LidarRow("side", SIDE, Place("1.bin"), Place("1.label"))]
    index = write(tmp_path, card(no_return=("zero",)), rows, labels=Place("0.label"))
    frame = index.frame(0)
    kept = np.delete(np.arange(20), 4)
    in_ego = np.concatenate([top[:, :3] + [0, 0, 1.8], transform_points(SIDE, side[kept, :3].astype(float))])
    np.testing.assert_allclose(transform_points(TOP, frame.cloud.xyz.astype(float)), in_ego, atol=1e-5)
    assert frame.cloud.extra["lidar"].tolist() == [0] * 30 + [1] * 19
    assert (frame.cloud.file_row.tolist(), frame.cloud.file_rows) == ([*range(30), *(30 + kept)], 50)
    assert frame.labels.tolist() == [KITTI.classes.index("road")] * 30 + [KITTI.classes.index("car")] * 19
    assert [lidar.name for lidar in frame.lidars] == ["top", "side"]
    np.testing.assert_allclose(frame.origins[[0, -1]], [[0, 0, 0], [1.5, 0.9, -1.1]], atol=1e-12)
    assert frame.cloud.columns == ("x", "y", "z", "intensity", "lidar")
    assert index.labels(0).tolist() == [KITTI.classes.index("road")] * 30 + [KITTI.classes.index("car")] * 20
    of_side = write(tmp_path, card(no_return=("zero",)), rows)
    assert of_side.has_labels(0)
    assert of_side.label_path(0) is None
    assert of_side.frame(0).labels.tolist() == [255] * 30 + [KITTI.classes.index("car")] * 19
    unlabelled = write(tmp_path, KITTI, [rows[0], replace(rows[1], labels=None)], labels=Place("0.label"))
    assert unlabelled.frame(0).labels.tolist() == [KITTI.classes.index("road")] * 30 + [255] * 20
    (tmp_path / "1.bin").unlink()
    assert [problem.kind for problem in check_log(unlabelled, project=project, workers=1).problems] == [
        "missing file"
    ]


def test_a_column_tells_the_lidars_of_one_file_apart(tmp_path):
    table = points(0, 30, 5)
    table[:, 4] = np.arange(30) % 2
    table.tofile(tmp_path / "0.bin")
    rows = [LidarRow("top", TOP), LidarRow("side", SIDE)]
    frame = write(tmp_path, card("lidar"), rows).frame(0)
    np.testing.assert_array_equal(frame.points[:, :3], table[:, :3])
    (top, _), (side, to_cloud) = frame.by_lidar
    assert (top.tolist(), side.tolist()) == (list(range(0, 30, 2)), list(range(1, 30, 2)))
    np.testing.assert_allclose(TOP @ to_cloud, SIDE, atol=1e-12)
    with pytest.raises(InputError, match=r"0.bin: holds points of 2 LiDARs and no column 'lidar'"):
        write(tmp_path, card("ring"), rows).frame(0)
    table[7, 4] = 2
    table.tofile(tmp_path / "0.bin")
    with pytest.raises(InputError, match=r"0.bin: holds points of the LiDAR 2, and the log lists 0, 1"):
        write(tmp_path, card("lidar"), rows).frame(0)
    with pytest.raises(InputError, match="the scan t of s lists LiDARs that all have files of their own"):
        write(tmp_path, card("lidar"), [LidarRow("side", SIDE, Place("1.bin"))])


@pytest.mark.parametrize(("column", "name"), [("lidar", "side"), ("sensor", "sensor 1")])
def test_a_lidar_of_which_scans_hold_no_point_is_told(tmp_path, column, name):
    rows = (LidarRow("top", TOP), LidarRow("side", SIDE)) if column == "lidar" else ()
    scans = []
    for order in range(3):
        table = points(order, 30, 5)
        table[:, 4] = 0 if order else np.arange(30) % 2
        table.tofile(tmp_path / f"{order}.bin")
        scans.append(ScanRow("s", f"t{order}", order, Place(f"{order}.bin"), TOP, lidars=rows))
    write_rows(tmp_path, tmp_path / "index", ListedLog("made", card(column), scans))
    notes = check_log(LogIndex.open(tmp_path / "index"), project=project, workers=1).notes
    assert [note for note in notes if "no point of" in note] == [
        f"2 scans hold no point of the LiDAR {name}, the first is t1: what it alone sees is missing there"
    ]


def test_thinning_as_from_elsewhere_counts_from_where_rays_began():
    cloud = torch.from_numpy(points(0, 400)[:, :3])
    origin, spot = torch.tensor([3.0, -2.0]), torch.tensor([1.0, 4.0])
    shifted = cloud - torch.tensor([3.0, -2.0, 0.0])
    want = thin_as_from(shifted, spot, 100, torch.Generator().manual_seed(1))
    got = thin_as_from(cloud, spot, 100, torch.Generator().manual_seed(1), origins=origin.expand(400, 2))
    assert got.equal(want)
    assert not got.equal(thin_as_from(cloud, spot, 100, torch.Generator().manual_seed(1)))


def test_what_has_left_is_seen_by_either_lidar():
    rng = np.random.default_rng(0)
    walls = [
        rng.uniform([-9, 20, -1], [9, 20.1, 3], (4000, 3)),
        rng.uniform([20, -9, -1], [20.1, 9, 3], (4000, 3)),
    ]
    lidars = (Lidar("left", np.eye(4)), Lidar("right", make_transform((1, 0, 0, 0), (0.0, -30.0, 0.0))))
    cloud = Cloud(np.concatenate(walls).astype(np.float32), np.zeros(8000, np.float32))
    cloud = replace(cloud, extra={"lidar": np.repeat([0, 1], 4000)})
    center = Frame("c", "s", 0, True, cloud, np.eye(4), np.eye(4), lidars=lidars)
    sweep_points = rng.uniform([-5, -25, 0], [25, 25, 1], (2000, 3)).astype(np.float32)
    sweep_cloud = Cloud(sweep_points, np.zeros(2000, np.float32), {"lidar": np.zeros(2000, np.int64)})
    sweep = replace(center, token="e", time_us=-1, cloud=sweep_cloud)
    kept = merge_sweeps(Clip({0: center}, (sweep,)), drop_moving=True)[8000:, :3]
    gone = [
        any(
            seen_through(
                point[None] - lidar.to_cloud[:3, 3], wall.astype(np.float32) - lidar.to_cloud[:3, 3]
            )[0]
            for lidar, wall in zip(lidars, walls)
        )
        for point in sweep_points
    ]
    np.testing.assert_array_equal(kept, sweep_points[~np.array(gone)])
    assert 50 < sum(gone) < 1500
