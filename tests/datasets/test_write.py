"""The one writer of indices: any order in, the log's order out; what contradicts itself is one sentence."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from superflow.datasets import write as write_module
from superflow.datasets.card import load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.lacks import some_lack
from superflow.datasets.records import Boxes, CameraRow, Place, ScanRow
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError

CARD = load_card("semantickitti")


def scan(number: int, **facts) -> ScanRow:
    np.full((2, 4), number, "<f4").tofile(f"{number}.bin")
    return ScanRow("street", f"scan{number}", number, Place(f"{number}.bin"), np.eye(4), **facts)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    (tmp_path / "log").mkdir()
    monkeypatch.chdir(tmp_path / "log")


def write(tmp_path, rows, card=CARD) -> LogIndex:
    write_rows(tmp_path / "log", tmp_path / "out", ListedLog("semantickitti", card, rows))
    return LogIndex.open(tmp_path / "out")


def test_scans_are_sorted_and_what_is_not_known_stays_so(tmp_path):
    boxes = Boxes.placed(np.zeros((1, 3)), np.ones((1, 3)), np.eye(4)[:1], ("car",), ("7",))
    camera = CameraRow(
        "right", "r2", Place("2.png"), np.eye(3), np.eye(4), size=(4, 6), model="fisheye", distortion=(0.5,)
    )
    rows = [scan(2, cameras=(camera,)), scan(0, time_us=5), scan(1, ego_to_world=np.eye(4), boxes=boxes)]
    index = write(tmp_path, rows)
    assert index.tokens([0, 1, 2]) == ["scan0", "scan1", "scan2"]
    frames = [index.frame(row, images=False, boxes=True) for row in range(3)]
    assert [frame.time_us for frame in frames] == [5, None, None]
    assert [frame.ego_to_world is None for frame in frames] == [True, False, True]
    assert [frame.points[0, 0] for frame in frames] == [0, 1, 2]
    assert [frame.boxes is None for frame in frames] == [True, False, True]
    assert np.isnan(frames[1].boxes.velocities).all()
    assert frames[2].cameras[0].distortion[:2] == (0.5, 0.0)
    assert not index.has_times
    assert not index.has_poses


def test_images_of_which_nobody_knows_where_they_were_taken_are_told(tmp_path):
    """Those of the time of their scan are at its pose, and of a log without poses that says so itself."""

    def image(name: str, time_us: int | None, pose: np.ndarray | None = None) -> tuple[CameraRow]:
        return (CameraRow("c", name, Place("0.png"), np.eye(3), np.eye(4), (4, 6), time_us, pose),)

    pose = np.eye(4)
    rows = [
        scan(0, time_us=0, ego_to_world=pose, cameras=image("late", 40_000)),
        scan(1, time_us=100_000, ego_to_world=pose, cameras=image("known", 140_000, pose)),
        scan(2, time_us=200_000, ego_to_world=pose, cameras=image("at_once", 200_000)),
        scan(3, time_us=300_000, cameras=image("of_no_scan", 340_000)),
        scan(4, time_us=400_000, ego_to_world=pose, cameras=image("of_no_time", None)),
    ]
    index = write(tmp_path, rows)
    assert index.images_without_pose() == ["late"]
    assert any(
        "1 images have no pose, the first is late; points fall on them as" in s for s in some_lack(index)
    )
    assert not any("images have no pose" in sentence for sentence in some_lack(write(tmp_path, rows[1:])))


def test_scans_before_a_localisation_begins_can_be_left_out(tmp_path):
    """One scan of many without a pose would cost a log its dense clouds and votes."""
    rows = [scan(number, time_us=100_000 * number) for number in range(7)]
    rows[2:5] = [replace(row, ego_to_world=np.eye(4), is_key=row.order != 3) for row in rows[2:5]]
    rows[5] = replace(rows[5], scene="parked")  # nothing of it is left
    rows[6] = replace(rows[6], scene="then", ego_to_world=np.eye(4))
    cameras = (CameraRow("c", "c4", Place("4.png"), np.eye(3), np.eye(4), (4, 6)),)
    rows[4] = replace(rows[4], cameras=cameras, boxes=Boxes.placed(*_one_box(), ("car",), ("7",)))
    card = replace(CARD, splits={"train": ("street", "parked"), "val": ("then",)})
    listed = ListedLog("semantickitti", card, rows)
    write_rows(tmp_path / "log", tmp_path / "all", listed)
    index = LogIndex.open(tmp_path / "all")
    said = " ".join(some_lack(index))
    assert "2 of the 4 scans of street have no pose, the first is scan0" in said
    assert "leave them out with --posed-only" in said
    with pytest.raises(InputError, match="needs poses of every scan"):
        index.require("voting", "wait", poses=True)
    write_rows(tmp_path / "log", tmp_path / "posed", ListedLog("semantickitti", card, rows), posed_only=True)
    index = LogIndex.open(tmp_path / "posed")
    index.require("voting", "wait", poses=True)
    assert index.scenes == ("street", "then")
    assert index.tokens(range(len(index))) == ["scan2", "scan3", "scan4", "scan6"]
    assert index.rows("train").tolist() == [0, 2]
    assert index.rows("val").tolist() == [3]
    frame = index.frame(2, images=False, boxes=True)
    assert (frame.points[0, 0], [camera.channel for camera in frame.cameras]) == (4, ["c"])
    assert len(frame.boxes.centers) == 1
    with pytest.raises(InputError, match="no scan has a pose; leave out --posed-only"):
        write_rows(
            tmp_path / "log", tmp_path / "no", ListedLog("semantickitti", CARD, rows[:2]), posed_only=True
        )


def _one_box() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((1, 3)), np.ones((1, 3)), np.eye(4)[:1]


def test_images_that_only_some_scans_have_are_told(tmp_path):
    def images(number: int, *names: str) -> tuple[CameraRow, ...]:
        made = np.eye(3), np.eye(4), (4, 6)
        return tuple(
            CameraRow(name, f"{name}{number}", Place(f"{name}{number}.png"), *made) for name in names
        )

    rows = [scan(0, cameras=images(0, "a")), scan(1, cameras=images(1, "a", "b")), scan(2)]
    rows += [replace(scan(number), scene="other", cameras=images(number, "b")) for number in (3, 4)]
    (said,) = (sentence for sentence in some_lack(write(tmp_path, rows)) if "images" in sentence)
    assert said.endswith(
        ": 2 of the 5 scans lack images of cameras that others of their scene have, the first is scan0 without b"
    )
    whole = [sentence for sentence in some_lack(write(tmp_path, rows[3:])) if "images" in sentence]
    assert whole == []


@pytest.mark.parametrize("poses", ["", "estimated by kiss-icp 1.2"])
def test_estimated_poses_over_a_hole_in_the_recording_are_told(tmp_path, poses):
    """Nothing knows how the vehicle moved there, and the world of both sides looks as if it were one."""
    times = [100_000 * number + (60_000_000 if number > 2 else 0) for number in range(6)]
    rows = [scan(number, time_us=time, ego_to_world=np.eye(4)) for number, time in enumerate(times)]
    write_rows(tmp_path, tmp_path / "out", ListedLog("made", CARD, rows, poses=poses))
    said = [s for s in some_lack(LogIndex.open(tmp_path / "out")) if "holes in the recording" in s]
    assert len(said) == bool(poses)
    assert all("1 holes in the recording, the first before scan3: no scan shows how" in s for s in said)


def test_the_rows_have_a_hash_of_their_own(tmp_path):
    before = write(tmp_path, [scan(0)])
    after = write(tmp_path, [scan(0)], replace(CARD, licence="another"))
    assert before.hash == after.hash
    assert before.card.hash != after.card.hash
    assert write(tmp_path, [scan(1)]).hash != before.hash


def test_columns_are_views_of_the_file(tmp_path):
    index = write(tmp_path, [scan(0, time_us=1)])
    for column in (index.time_us, index.is_key, index.ego_poses()):
        assert not column.flags.writeable
        assert not column.flags.owndata


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda: [], "holds no scan of semantickitti"),
        (lambda: [scan(0), replace(scan(1), token="scan0")], "two scans have the name scan0; list each once"),
        (lambda: [scan(0), replace(scan(1), order=0)], "scan0 and scan1 have the same place in street"),
        (
            lambda: [scan(0, time_us=9), scan(1, time_us=3)],
            "time of the scan scan1 lies before that of scan0",
        ),
        (lambda: [replace(scan(0), token="../up")], "cannot be used"),
        (
            lambda: [
                scan(
                    0, cameras=(CameraRow("f", "f0", Place("0.png"), np.eye(3), np.eye(4), model="cylinder"),)
                )
            ],
            "the image f0 of f is of a camera of the model 'cylinder', .* undistort the images first",
        ),
    ],
)
def test_what_contradicts_itself_is_named(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, rows())
    assert not (tmp_path / "out").exists()


def test_two_scans_of_one_time_are_refused(tmp_path):
    rows = [scan(0, time_us=5), scan(1, time_us=9), scan(2, time_us=9)]
    with pytest.raises(
        InputError, match=r"the time of the scan scan2 is also that of scan1.* take one of the two"
    ):
        write(tmp_path, rows)


def image(number: int, shape: tuple[int, int], **facts) -> CameraRow:
    cv2.imwrite(f"{number}.png", np.zeros((*shape, 3), np.uint8))
    return CameraRow("front", f"image{number}", Place(f"{number}.png"), np.eye(3), np.eye(4), **facts)


def test_images_of_several_sizes_have_no_lens_in_common(tmp_path):
    """Intrinsics are right for one size; another lens, or the size that they are for, makes it clear."""
    shapes = [(18, 32), (36, 64)]
    rows = [scan(i, cameras=(image(i, shape),)) for i, shape in enumerate(shapes)]
    with pytest.raises(
        InputError, match=r"one lens for images of several sizes, 0.png 18 x 32, 1.png 36 x 64"
    ):
        write(tmp_path, rows)
    other = [rows[0], scan(1, cameras=(replace(image(1, shapes[1]), intrinsics=2 * np.eye(3)),))]
    assert [camera.size for camera in write(tmp_path, other).cameras()] == shapes
    stated = [scan(i, cameras=(image(i, shape, size=(36, 64)),)) for i, shape in enumerate(shapes)]
    listed = ListedLog("semantickitti", CARD, stated)
    write_rows(tmp_path / "log", tmp_path / "out", listed, rescale_intrinsics=True)
    found = LogIndex.open(tmp_path / "out").cameras()
    assert [camera.intrinsics[0, 0] for camera in found] == [0.5, 1.0]


@pytest.mark.parametrize(("shape", "is_told"), [((18, 32), False), ((17, 31), False), ((36, 48), True)])
def test_images_of_other_proportions_than_their_lens_are_told_of(shape, is_told, tmp_path, monkeypatch):
    """They may be cut, and then another lens is theirs."""
    monkeypatch.setattr(write_module, "_UNEVEN", 0.05)  # images of cameras are larger
    rows = [scan(0, cameras=(image(0, shape, size=(36, 64)),))]
    write_rows(
        tmp_path / "log", tmp_path / "out", ListedLog("semantickitti", CARD, rows), rescale_intrinsics=True
    )
    said = f"1 images have other proportions than their intrinsics (first: 0.png {shape[1]} x {shape[0]} for 64 x 36"
    assert any(said in line for line in LogIndex.open(tmp_path / "out").warnings) is is_told
