"""What reading a scan gives: its points, and which rows of the file they were, all the way to pseudo-labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from superflow.datasets.card import DatasetCard, load_card
from superflow.datasets.cloud import Cloud, file_values
from superflow.datasets.file_cloud import to_cloud
from superflow.datasets.formats.readers import NO_RETURNS, FilePoints, read_points
from superflow.datasets.index import LogIndex
from superflow.datasets.own_logs.guess_columns import time_of_values
from superflow.datasets.records import Place, ScanRow
from superflow.datasets.write import ListedLog, write_rows
from superflow.downstream.pseudo_labels import PseudoLabelFiles
from superflow.downstream.segment_data import SegmentDataset
from superflow.downstream.voting import VotingOptions
from superflow.errors import InputError

COLUMNS = ("x", "y", "z", "intensity", "ring")
KITTI = load_card("semantickitti")
ODD = [0.0, np.nan, np.inf, 0.25, 3.0, 500.0]


def card(**changes) -> DatasetCard:
    return replace(KITTI, columns=COLUMNS, **changes)


def slow_returns(rows, no_return, range_m) -> list[int]:
    """Row after row."""
    kept = []
    for number, row in enumerate(rows.tolist()):
        x, y, z = row[:3]
        gone = "nan" in no_return and not np.isfinite([x, y, z]).all()
        gone |= "zero" in no_return and x == y == z == 0
        if range_m is not None and np.isfinite([x, y, z]).all():
            gone |= not range_m[0] <= np.sqrt(x * x + y * y + z * z) <= range_m[1]
        if not gone:
            kept.append(number)
    return kept


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(*[st.sampled_from(ODD)] * 3), max_size=12),
    no_return=st.sets(st.sampled_from(NO_RETURNS)),
    range_m=st.sampled_from([None, (0.5, 100.0)]),
)
def test_points_are_the_rows_that_a_loop_keeps(tmp_path_factory, rows, no_return, range_m):
    table = np.zeros((len(rows), 5), "<f4")
    table[:, :3] = np.array(rows, "<f4").reshape(-1, 3)
    table[:, 4] = np.arange(len(rows))
    path = tmp_path_factory.mktemp("scan") / "a.bin"
    table.tofile(path)
    kept = slow_returns(table, no_return, range_m)
    if not np.isfinite(table[kept, :3]).all():
        with pytest.raises(InputError, match=rf"a.bin: \d+ of {len(rows)} points hold NaN or infinity"):
            read_points(path, COLUMNS, no_return=no_return, range_m=range_m)
        return
    file = read_points(path, COLUMNS, no_return=no_return, range_m=range_m)
    cloud = to_cloud(card(), file, None)
    assert cloud.extra["ring"].tolist() == kept
    assert (cloud.file_row is None) == (len(kept) == len(rows))
    back = file_values(cloud.extra["ring"], cloud.file_row, cloud.file_rows, absent=-1)
    assert back.tolist() == [number if number in kept else -1 for number in range(len(rows))]


def test_a_choice_of_a_choice_knows_its_rows_of_the_file():
    table = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    cloud = (
        Cloud.from_table(table, COLUMNS).at(np.array([1, 2, 5, 8])).at(np.array([False, True, True, False]))
    )
    assert (cloud.file_row.tolist(), cloud.file_rows) == ([2, 5], 9)
    np.testing.assert_array_equal(cloud.table, table[[2, 5]])
    assert cloud.columns == COLUMNS


@pytest.mark.parametrize(
    ("time", "values"),
    [
        ({"column": "t", "unit_s": 1e-9, "since": "scan"}, np.array([0, 25_000_000, 99_000_000], np.uint32)),
        ({"column": "t", "unit_s": 1, "since": "scan"}, np.array([0.0, 0.025, 0.099])),
        ({"column": "t", "unit_s": 1, "since": "epoch"}, 1.6e9 + np.array([0.0, 0.025, 0.099])),
        (
            {"column": "t", "unit_s": 1e-9, "since": "epoch"},
            np.uint64(1_600_000_000 * 10**9) + np.array([0, 25_000_000, 99_000_000], np.uint64),
        ),
    ],
)
def test_times_of_points_are_seconds_from_that_of_the_scan(time, values):
    xyz = {name: np.ones(3, np.float32) for name in "xyz"}
    file = FilePoints({**xyz, "t": values}, None, 3)
    known = card(time=time, intensity_rule="none")
    cloud = to_cloud(known, file, 1_600_000_000_000_000 + 50_000 * (time["since"] == "epoch"))
    assert cloud.columns == ("x", "y", "z", "intensity", "time_s")
    middle = 0.05 if time["since"] == "epoch" else 0.0
    np.testing.assert_allclose(cloud.extra["time_s"], np.array([0, 0.025, 0.099]) - middle, atol=1e-6)
    if time["since"] == "epoch":
        assert np.isnan(to_cloud(known, file, None).extra["time_s"]).all()


@pytest.mark.parametrize(
    ("dtype", "unit_s", "step"),
    [("<f4", 1.0, "128"), ("<f4", 1e-3, "131"), ("<i8", 1.0, "1"), ("<f8", 1e-9, None), ("<i8", 1e-3, None)],
)
def test_a_clock_in_numbers_that_are_too_coarse_for_one_is_refused(dtype, unit_s, step):
    """In float32 all points of a scan have one time, and would stay where a moving car saw them."""
    values = ((1.7e9 + np.array([0.0, 0.03, 0.09])) / unit_s).astype(dtype)
    file = FilePoints({**{name: np.ones(3, np.float32) for name in "xyz"}, "t": values}, None, 3)
    known = card(time={"column": "t", "unit_s": unit_s, "since": "epoch"}, intensity_rule="none")
    if step is None:
        seconds = to_cloud(known, file, 1_700_000_000_000_000).extra["time_s"]
        np.testing.assert_allclose(seconds, [0, 0.03, 0.09], atol=1e-3)
        return
    with pytest.raises(
        InputError, match=rf"the column t .* no two times apart that are less than {step} s from"
    ):
        to_cloud(known, file, 1_700_000_000_000_000)
    assert time_of_values({"t": np.array([1.7e9, 1.7e9 + 200], dtype)}) is None


@pytest.fixture
def log(tmp_path) -> LogIndex:
    """Three scans of 300 rows, of which every third is no return; each point's class is that of its side."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(3):
        points = rng.uniform(-20, 20, (300, 5)).astype("<f4")
        points[:, 3] = 0.5
        (10 + (points[:, 0] > 0) * 30).astype("<u4").tofile(tmp_path / f"{number}.label")  # car, road
        points[::3, :3] = np.nan if number % 2 else 0
        points[::3, 4] = 7
        points.tofile(tmp_path / f"{number}.bin")
        place, pose = Place(f"{number}.bin"), np.eye(4)
        labels = Place(f"{number}.label")
        known = {"time_us": number * 10**5, "ego_to_world": pose, "labels": labels}
        rows.append(ScanRow("street", f"s{number}", number, place, pose, **known))
    write_rows(tmp_path, tmp_path / "index", ListedLog("made", card(no_return=("nan", "zero")), rows))
    return LogIndex.open(tmp_path / "index")


def test_labels_follow_the_points_that_are_left(log):
    frame = log.frame(0)
    assert (len(frame.cloud), frame.cloud.file_rows) == (200, 300)
    left = frame.points[:, 0] <= 0
    car, road = log.card.classes.index("car"), log.card.classes.index("road")
    assert frame.labels.tolist() == np.where(left, car, road).tolist()
    assert len(log.labels(0)) == 300


def test_pseudo_labels_have_an_entry_for_every_row_of_the_file(log, tmp_path):
    def predict(scan):
        of_class = torch.where(scan.points[:, 0] > 0, 8, 0)
        return torch.nn.functional.one_hot(of_class, len(log.card.classes)).float()

    folder = tmp_path / "pseudo"
    options = VotingOptions(offsets=(1,))
    PseudoLabelFiles(log, [0, 1], folder, options, evaluation_rows=[2], threshold=0.5).write(predict)
    for row in (0, 1):
        written = np.fromfile(folder / f"s{row}_pseudo.bin", np.uint8)
        x = np.fromfile(tmp_path / f"{row}.bin", "<f4").reshape(-1, 5)[:, 0]
        want = np.where(x > 0, 8, 0)
        want[::3] = 255
        assert written.tolist() == want.tolist()
    data = SegmentDataset(log, rows=[0], pseudo_labels=folder, train=True, augmentation={"flip": 0.0})
    assert data[0].labels.tolist() == np.where(log.frame(0).points[:, 0] > 0, 8, 0).tolist()
    np.zeros(200, np.uint8).tofile(folder / "s0_pseudo.bin")
    with pytest.raises(InputError, match=r"s0_pseudo.bin: 200 labels for a scan of 300 points"):
        data[0]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"no_return": "nan"}, "no_return of points is 'nan'; it must be a list out of nan, zero"),
        ({"no_return": ["none"]}, "no_return of points is"),
        ({"range_m": [5, 1]}, r"range_m of points is \[5, 1\]; it must be the nearest and the farthest"),
        ({"time": {"column": "t"}}, "time of points must name one of their columns"),
        (
            {"time": {"column": "ring", "unit": 1}},
            r"unknown key 'unit' in points.time; did you mean 'unit_s'",
        ),
        ({"time": {"column": "ring", "since": "noon"}}, "since when it counts, scan or epoch"),
    ],
)
def test_what_a_card_says_wrong_of_points_is_named(tmp_path, points, message):
    import yaml

    said = {"format": "f4", "columns": list(COLUMNS), "axes": "forward-left-up", **points}
    values = {"name": "a", "real": True, "licence": "ours", "source": "here", "points": said}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**values, "intensity": {"raw_max": 1}}))
    with pytest.raises(InputError, match=rf"a\.yaml: .*{message}"):
        load_card(tmp_path / "a.yaml")


def test_a_real_scan_of_which_two_rows_in_five_are_no_return(shared_data, tmp_path):
    """RELLIS-3D's organised Ouster scans have a row of zeros for each beam without return."""
    folder = shared_data / "fragments/rellis/00000"
    points = folder / "os1_cloud_node_kitti_bin/000104.bin"
    labels = folder / "os1_cloud_node_semantickitti_label_id/000104.label"
    known = replace(KITTI, no_return=("zero",), range_m=(0.5, 50.0))
    place, of_points = (
        Place("os1_cloud_node_kitti_bin/000104.bin"),
        Place("os1_cloud_node_semantickitti_label_id/000104.label"),
    )
    row = ScanRow("00000", "000104", 0, place, np.eye(4), labels=of_points)
    write_rows(folder, tmp_path / "index", ListedLog("rellis", known, [row]))
    frame = LogIndex.open(tmp_path / "index").frame(0)
    table, raw = np.fromfile(points, "<f4").reshape(-1, 4), np.fromfile(labels, "<u4") & 0xFFFF
    range_m = np.linalg.norm(table[:, :3].astype(np.float64), axis=1)
    kept = np.flatnonzero(table[:, :3].any(axis=1) & (range_m >= 0.5) & (range_m <= 50))
    assert 60_000 < len(kept) < 131_072 - 53_364
    assert frame.cloud.file_row.tolist() == kept.tolist()
    np.testing.assert_array_equal(frame.cloud.xyz, table[kept, :3])
    np.testing.assert_array_equal(frame.labels, KITTI.label_map[raw[kept]])
    back = file_values(frame.labels, frame.cloud.file_row, frame.cloud.file_rows, absent=255)
    assert len(back) == 131_072


@pytest.mark.parametrize("axes", ["forward-left-up", "right-forward-up", "tilted"])
def test_axes_are_turned_as_by_a_matrix(axes):
    rng = np.random.default_rng(0)
    rows = rng.choice(np.array([-0.0, 0.0, 1.5, -2.25, 7.0], np.float32), (400, 4))
    turned = replace(card(), columns=COLUMNS[:4])
    if axes == "tilted":
        cos, sin = np.cos(0.3), np.sin(0.3)
        turned = replace(turned, axes=[[cos, -sin, 0, 0.5], [sin, cos, 0, 0], [0, 0, 1, 2.0], [0, 0, 0, 1]])
    else:
        turned = replace(turned, axes=axes)
    found = to_cloud(turned, FilePoints(dict(zip(COLUMNS, rows.T)), None, 400), None).xyz
    a_to_b = turned.file_to_lidar.astype(np.float32)
    plain = rows[:, :3] @ a_to_b[:3, :3].T + a_to_b[:3, 3]
    np.testing.assert_array_equal(found, plain, strict=True)
    assert (np.signbit(found) == np.signbit(plain + np.float32(0))).all()  # -0.0 would be another direction
    assert found.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["f8", "i8"])
def test_axes_with_a_far_origin_lose_no_millimetres(dtype):
    """Coordinates of UTM, which float32 holds to half a metre."""
    far = np.array([691_000.0, 5_334_000.0, 520.0])
    near = np.random.default_rng(2).integers(-50, 50, (60, 3)) + (0.123 if dtype == "f8" else 0)
    turn = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    axes = np.eye(4)
    axes[:3, :3], axes[:3, 3] = turn, -turn @ far
    columns = dict(zip("xyz", (near + far).astype(dtype).T), intensity=np.zeros(60), ring=np.zeros(60))
    cloud = to_cloud(card(axes=tuple(map(tuple, axes.tolist()))), FilePoints(columns, None, 60), None)
    assert cloud.xyz.dtype == np.float32
    np.testing.assert_allclose(cloud.xyz, near @ turn.T, atol=1e-5)
