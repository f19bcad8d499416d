"""Datasets in folders of KITTI's kind, on files written here byte by byte; their traps, each as a test."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import small_drives
import yaml

from superflow.clips.times import ClipTimes
from superflow.datasets.card import load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

TR = "Tr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.27\n"


def bytes_of_points(rows: list[tuple[float, ...]]) -> bytes:
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


def scan(
    folder: Path, stem: str, labels: list[int] | None, *, at: str = "labels", points: str = "velodyne"
) -> None:
    """As many points as labels (three without), the i-th at x = i + 1 with intensity i."""
    (folder / points).mkdir(parents=True, exist_ok=True)
    count = 3 if labels is None else len(labels)
    (folder / points / f"{stem}.bin").write_bytes(
        bytes_of_points([(i + 1.0, 2.0, 0.5, float(i)) for i in range(count)])
    )
    if labels is not None:
        (folder / at).mkdir(exist_ok=True)
        (folder / at / f"{stem}.label").write_bytes(b"".join(struct.pack("<I", label) for label in labels))


def classes(index: LogIndex, row: int) -> list[str]:
    return [index.card.classes[i] if i != 255 else "" for i in index.frame(row).labels]


def test_scribbles_are_the_labels_of_training_and_full_ones_those_of_08(tmp_path):
    root = tmp_path / "kitti/sequences"
    scan(root / "00", "000000", [40, 10 | 5 << 16, 70])
    scan(root / "00", "000000", [0, 10, 0], at="scribbles")
    scan(root / "01", "000000", [40, 40, 40])  # full labels, and no scribbles: they are not taken for these
    scan(root / "08", "000000", [40, 252 | 9 << 16, 70])
    index = prepare("scribblekitti", tmp_path / "kitti", tmp_path / "out")
    assert classes(index, 0) == ["", "car", ""]
    assert index.frame(1).labels is None
    assert classes(index, index.rows("val")[0]) == ["road", "car", "vegetation"]
    assert any(
        "sequences/01/scribbles: is not there; these scans have no labels" in w for w in index.warnings
    )
    (root / "08/labels/000000.label").unlink()
    (root / "08/labels").rmdir()
    index = prepare("scribblekitti", tmp_path / "kitti", tmp_path / "out")
    assert any("sequences/08/labels: is not there" in warning for warning in index.warnings)


def test_semanticposs_lists_its_folder_since_numbers_have_gaps(tmp_path):
    for stem in ("000000", "000003"):
        scan(tmp_path / "p/sequences/02", stem, [4, 5, 12, 22, 21 | 3 << 16, 1])
    scan(tmp_path / "p/sequences/03", "000001", [7])
    (tmp_path / "p/sequences/02/calib.txt").write_text(TR)
    (tmp_path / "p/sequences/02/poses.txt").write_text(
        "1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 0\n" * 2
    )
    index = prepare("semanticposs", tmp_path / "p", tmp_path / "out")
    assert index.order.tolist() == [0, 3, 1]
    assert classes(index, 1) == ["person", "person", "traffic-sign", "ground", "bike", ""]
    assert index.instances(0, 6).tolist() == [0, 0, 0, 0, 3, 0]
    assert [index.rows(split).tolist() for split in ("val", "val_03", "train", "train_03")] == [
        [0, 1],
        [2],
        [2],
        [0, 1],
    ]
    np.testing.assert_allclose(index.frame(0).ego_to_world, np.eye(4), atol=1e-12)
    assert index.frame(2).ego_to_world is None


def test_semanticposs_numbers_scans_from_one_but_in_00(tmp_path):
    """As its download does: 00 has 000000 and on, the others 000001 and on; poses.txt begins with the first of them."""
    for sequence, stems in {"00": (0, 1), "01": (1, 2, 3), "02": (2,), "03": (0, 1)}.items():
        folder = tmp_path / "p/sequences" / sequence
        for number in stems:
            scan(folder, f"{number:06d}", [4])
        (folder / "calib.txt").write_text("Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n")
        (folder / "poses.txt").write_text("".join(f"1 0 0 {i}.5 0 1 0 0 0 0 1 0\n" for i in range(3)))
    index = prepare("semanticposs", tmp_path / "p", tmp_path / "out")
    found = {index.frame(row).token: index.frame(row).ego_to_world[0, 3] for row in index.rows()}
    assert found == {
        **{"00_000000": 0.5, "00_000001": 1.5},
        **{"01_000001": 0.5, "01_000002": 1.5, "01_000003": 2.5},
        "02_000002": 1.5,
        **{"03_000000": 0.5, "03_000001": 1.5},  # numbered anew
    }
    scan(tmp_path / "p/sequences/01", "000004", [4])
    with pytest.raises(InputError, match=r"01/poses.txt: has 3 lines of numbers for scans up to number 4"):
        prepare("semanticposs", tmp_path / "p", tmp_path / "out")


@pytest.mark.parametrize("inside", ["", "sequences/"])
def test_synlidar_has_two_maps_to_kittis_classes(tmp_path, inside):
    raw = [1, 2, 3, 12, 15, 19, 32]
    scan(tmp_path / f"syn/{inside}12", "000007", raw)
    index = prepare("synlidar", tmp_path / "syn", tmp_path / "out")
    assert (index.scenes, index.has_poses, index.has_times) == (("12",), False, False)
    assert classes(index, 0) == ["car", "truck", "truck", "person", "person", "", ""]
    index = prepare("synlidar", tmp_path / "syn", tmp_path / "out", label_set="cosmix")
    assert classes(index, 0) == ["car", "", "truck", "person", "", "", ""]
    index = prepare("synlidar", tmp_path / "syn", tmp_path / "out", label_set="native")
    assert classes(index, 0)[1] == "pick-up"
    assert len(index.card.classes) == 32


@pytest.mark.parametrize("dash", ["-", ""])
def test_daps_has_two_parts_and_an_honest_split_of_the_second(dash, tmp_path):
    scan(tmp_path / f"d/daps{dash}1/data/08", "000000", [10, 30, 40, 50, 0], points="clouds")
    for name in ("38-18_7_72_90", "42-48_10_78_90"):
        for stem in ("b", "a"):
            scan(tmp_path / f"d/daps{dash}2/data/{name}", stem, [40, 50], points="clouds")
    index = prepare("daps3d", tmp_path / "d", tmp_path / "out")
    assert classes(index, 0) == ["vehicle", "human", "surface", "obstacle", ""]
    assert index.tokens(index.rows("daps2_val")) == ["daps-2_42-48_10_78_90_a", "daps-2_42-48_10_78_90_b"]
    assert not set(index.rows("daps2_val")) & set(index.rows("daps2_train"))
    for stem in ("b_2", "b_10"):
        scan(tmp_path / f"d/daps{dash}2/data/38-18_7_72_90", stem, [40, 50], points="clouds")
    again = prepare("daps3d", tmp_path / "d", tmp_path / "again")
    names = [token.partition("90_")[2] for token in again.tokens(again.rows("daps2_train"))]
    assert names == ["a", "b", "b_2", "b_10"], (
        "names without numbers of their own are in the order of those in them"
    )
    assert set(index.rows("daps2_val_published")) > set(index.rows("daps2_train"))


def write_stf(root: Path, count: int) -> None:
    for split in ("train", "val"):
        for name in ("2018-02-04_11-09-42_00400", "2018-02-07_11-56-59_00100"):
            for folder in ("velodyne", "labels"):
                (root / split / folder).mkdir(parents=True, exist_ok=True)
            rows = [(1.0 + i, -2.0, 0.25, 255.0 - i, 63.0) for i in range(count)]
            (root / split / "velodyne" / f"{name}.bin").write_bytes(bytes_of_points(rows))
            raw = [i % 21 for i in range(count)]
            (root / split / "labels" / f"{name}.label").write_bytes(
                b"".join(struct.pack("<i", i) for i in raw)
            )
    (root / "val/val.txt").write_text("2018-02-04_11-09-42_00400,snow\n2018-02-07_11-56-59_00100,dense_fog\n")


def test_semanticstf_has_five_columns(tmp_path):
    write_stf(tmp_path / "stf", 40)  # 40 * 5 numbers are whole rows of four, too
    index = prepare("semanticstf", tmp_path / "stf", tmp_path / "out")
    frame = index.frame(0)
    assert len(frame.points) == 40
    np.testing.assert_allclose(frame.points[:, 3], (255 - np.arange(40)) / 255, rtol=1e-6)
    assert frame.cloud.extra["channel"].tolist() == [63.0] * 40
    want = [255 if i % 21 in (0, 20) else i % 21 - 1 for i in range(40)]
    assert frame.labels.tolist() == want
    assert index.tokens(index.rows("val_snow")) == ["val_2018-02-04_11-09-42_00400"]
    assert len(index.rows("val")) == 2
    alone = [ClipTimes(index, range(len(index)), (-1, 0, 1)).rows(row) for row in range(len(index))]
    assert alone == [{0: row} for row in range(len(index))], (
        "single scans: none is another's neighbour in time"
    )
    assert all(index.sweeps(row, 2, after=2) == [] for row in range(len(index)))
    (tmp_path / "stf/val/val.txt").write_text(
        "2018-02-04_11-09-42_00400,snow\n2018-02-04_11-09-42_400,rain\n"
    )
    index = prepare("semanticstf", tmp_path / "stf", tmp_path / "out")
    assert any("val.txt: 1 of 2 lines name no scan of this log" in warning for warning in index.warnings)
    (tmp_path / "stf/val/val.txt").write_text("2018-02-04_11-09-42_00400\n")
    with pytest.raises(InputError, match=r"val.txt: must hold NAME,WEATHER a line"):
        prepare("semanticstf", tmp_path / "stf", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["scribblekitti", "semanticposs", "synlidar", "daps3d", "semanticstf", "semantickitti"]
)
def test_every_raw_id_is_the_class_that_the_published_map_says(shared_data, name):
    facts = yaml.safe_load((shared_data / "label_maps" / f"{name}.yaml").read_text())
    card = load_card(name)
    assert list(card.classes) == facts["class_names"]
    want = np.full(65536, 255)
    for raw, train in facts["raw_to_train"].items():
        want[raw] = train
    np.testing.assert_array_equal(card.label_map, want)
    for train, colour in facts["palette_train_rgb"].items():
        assert card.palette[train].tolist() == colour


@pytest.mark.parametrize("name", ["times.txt", "poses.txt"])
def test_a_blank_line_moves_no_time_or_pose_to_another_scan(name, tmp_path):
    root = tmp_path / "log"
    small_drives.semantickitti(root)
    path = root / "sequences/00" / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "", *lines[1:], lines[-1]]))
    with pytest.raises(InputError, match=rf"{name}: must hold .* numbers a line"):
        prepare("semantickitti", root, tmp_path / "out")


@pytest.mark.parametrize("name", ["semantickitti", "kitti_raw", "pandaset_raw", "rellis3d", "argoverse2"])
def test_scans_whose_names_are_no_numbers_are_told_of(name, tmp_path, caplog):
    """Sets whose readers find what belongs to a scan by its number."""
    small_drives.EVERY[name](tmp_path / "log")
    before = prepare(name, tmp_path / "log", tmp_path / "out")
    path = before.point_path(0)
    ending = "".join(path.suffixes)
    shutil.copyfile(path, path.with_name(f"{path.name.removesuffix(ending)} (1){ending}"))
    after = prepare(name, tmp_path / "log", tmp_path / "out")
    assert after.tokens(after.rows()) == before.tokens(before.rows())
    said = (
        f"{path.parent}: 1 files, as '{path.name.removesuffix(ending)} (1)', have names that are no numbers"
    )
    assert said in caplog.text


@pytest.mark.parametrize(("name", "more"), [("times.txt", " 9.5"), ("poses.txt", " 1 0 0 0 0 1 0 0 0 0 1 0")])
def test_further_numbers_of_a_line_are_no_lines_of_their_own(name, more, tmp_path):
    root = tmp_path / "log"
    small_drives.semantickitti(root)
    path = root / "sequences/00" / name
    path.write_text("".join(f"{line}{more}\n" for line in path.read_text().splitlines()))
    with pytest.raises(InputError, match=rf"{name}: must hold .* numbers a line"):
        prepare("semantickitti", root, tmp_path / "out")


def test_a_calibration_with_two_unlike_lines_of_one_name_is_refused(tmp_path):
    small_drives.semantickitti(tmp_path / "log")
    path = tmp_path / "log/sequences/00/calib.txt"
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("Tr:")]
    path.write_text(f"{path.read_text()}\n{line}\n")
    prepare("semantickitti", tmp_path / "log", tmp_path / "out")
    path.write_text(f"{path.read_text()}\nTr: 1 0 0 7 0 1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match=r"calib.txt: has two lines Tr of unlike numbers; copy it again"):
        prepare("semantickitti", tmp_path / "log", tmp_path / "out")
