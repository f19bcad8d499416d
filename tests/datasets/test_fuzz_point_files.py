"""Point files, layouts and text files that are wrong in many ways: one sentence each, and nothing crashes or hangs."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

import laspy
import log_fuzz
import numpy as np
import pytest
import yaml
from file_faults import huge_number, odd_word
from test_folder import TEN_LINES
from test_folder import root as own_log  # noqa: F401  a fixture
from test_point_files import FILES, las, npz, table

from superflow.datasets.formats.readers import READERS, read_points
from superflow.datasets.index import LogIndex
from superflow.datasets.own_logs.folder_guess import draft_layout
from superflow.datasets.prepare import prepare
from superflow.errors import InputError

TRIES = 200
BYTES = (
    *(log_fuzz.cut_off, log_fuzz.cut_off, log_fuzz.flip_bits, log_fuzz.flip_bits, log_fuzz.insert_bytes),
    *(log_fuzz.remove_bytes, log_fuzz.write_twice, log_fuzz.many_digits),
)


def swapped(rng: random.Random, data: bytes) -> bytes:
    """The file of another format, or none at all."""
    other = rng.choice([*FILES.values(), las, lambda: b"", lambda: b"\n" * 70000, lambda: b"\xff\xfe\0\0"])
    return other()


def laz() -> bytes:
    packed = BytesIO()
    laspy.read(BytesIO(las())).write(packed, do_compress=True)
    return packed.getvalue()


def npy(columns: int) -> bytes:
    plain = BytesIO()
    np.save(plain, table()[:, :columns])
    return plain.getvalue()


def arrow(kind: str) -> bytes:
    import pyarrow
    from pyarrow import feather, parquet

    sink = pyarrow.BufferOutputStream()
    columns = pyarrow.table(dict(zip(("x", "y", "z", "intensity", "label"), table().T.copy())))
    if kind == "feather":
        feather.write_feather(columns, sink)
    else:
        parquet.write_table(columns, sink)
    return sink.getvalue().to_pybytes()


FAMILIES = {
    "pcd": [FILES["binary.pcd"], FILES["ascii.pcd"], FILES["compressed.pcd"]],
    "ply": [FILES["ascii.ply"], FILES["little.ply"], FILES["big.ply"]],
    "las": [las, laz],
    "npz": [FILES["columns.npz"], lambda: npz({"data": table()[:, :3]})],
    "npy": [lambda: npy(3)],
    "npy_first": [lambda: npy(5)],
    "feather": [lambda: arrow("feather")],
    "parquet": [lambda: arrow("parquet")],
    "f4": [lambda: table()[:, :3].tobytes()],
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_wrong_point_files_are_one_sentence(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    whole = [make() for make in FAMILIES[kind]]
    told: set[str] = set()
    for seed in range(TRIES):
        rng = random.Random(f"{kind} {seed}")
        data = rng.choice(whole)
        for _ in range(rng.choice((1, 1, 2))):
            data = rng.choice((*BYTES, huge_number, huge_number, odd_word, swapped))(rng, data or b" ")
        path.write_bytes(data)
        try:
            read = read_points(path, ("x", "y", "z"), format=kind)
        except InputError as error:
            said = str(error)
            assert said.startswith(str(path)), said
            assert len(said.splitlines()) == 1, said
            told.add(said)
        else:
            assert all(len(values) == read.rows for values in read.columns.values())
    assert len(told) >= (2 if kind == "f4" else 10), "the changes are of many kinds"


def test_every_format_of_a_file_a_scan_is_tried():
    elsewhere = {"f8", "u1", "u2", "u4", "i4", "argoverse2", "waymo", "waymo_labels"}
    elsewhere |= {"waymo_instances", "ros", "pickled_table", "pandaset", "pandaset_labels"}
    assert READERS.keys() - FAMILIES.keys() <= elsewhere


def _places(value: object, place: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [found for key, one in inside for found in _places(one, (*place, key))]


def _put(values: dict, place: tuple, odd: object) -> None:
    for key in place[:-1]:
        values = values[key]
    values[place[-1]] = odd


def test_wrong_layouts_are_one_sentence(own_log, tmp_path):  # noqa: F811
    """Odd values in every place of a layout; nothing is read outside of the log or written outside of the index."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 48)
    around, refused = tmp_path / "work", 0
    around.mkdir()
    for seed in range(TRIES):
        rng = random.Random(seed)
        values = yaml.safe_load(TEN_LINES)
        place = rng.choice(_places(values))
        odd = rng.choice(
            (*log_fuzz.ODD_TEXT, *log_fuzz.ODD_VALUES, "../secret*.bin", "{scene}", "*", "a*b*.bin")
        )
        _put(values, place, odd)
        try:
            (own_log / "folder.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        except (UnicodeEncodeError, yaml.YAMLError, ValueError):
            continue
        index = _prepared(own_log, around / "out")
        if isinstance(index, str):
            refused += 1
            assert "secret" not in index or "secret" in str(odd)
            continue
        for row in range(len(index)):
            try:
                frame = index.frame(row)
            except InputError:
                continue
            assert all(np.isfinite(frame.lidar_to_camera(camera)).all() for camera in frame.cameras)
            assert own_log in index.point_path(row).parents
    assert refused > TRIES / 2
    assert {path.name for path in around.iterdir()} <= {"out"}


@pytest.mark.parametrize("file", ["odometry.txt", "folder.yaml"])
def test_wrong_text_files_are_one_sentence(file, own_log, tmp_path):  # noqa: F811
    path = own_log / file
    whole, refused = path.read_bytes(), 0
    for seed in range(TRIES):
        rng = random.Random(f"{file} {seed}")
        path.write_bytes(rng.choice((*BYTES, huge_number, odd_word, log_fuzz.utf16))(rng, whole))
        index = _prepared(own_log, tmp_path / "out")
        if isinstance(index, str):
            refused += 1
            assert str(own_log) in index
    assert refused > 20


def _prepared(root: Path, out: Path) -> LogIndex | str:
    """The index of the log, or the sentence with which it is refused."""
    try:
        return prepare("folder", root, out)
    except InputError as error:
        return str(error)


def test_links_that_turn_in_circles_are_told_of(own_log, tmp_path):  # noqa: F811
    (own_log / "lidar/again").symlink_to(own_log, target_is_directory=True)
    (own_log / "lidar/loop.bin").symlink_to(own_log / "lidar/loop.bin")
    text = (own_log / "folder.yaml").read_text()
    (own_log / "folder.yaml").write_text(
        "".join(
            line
            for line in text.splitlines(True)
            if "times: {name: 1.0e-9" not in line and "poses" not in line
        )
    )
    index = prepare("folder", own_log, tmp_path / "out")
    with pytest.raises(InputError, match=r"loop.bin: cannot be read \(Too many levels of symbolic links\)"):
        index.frame(len(index) - 1)
    (own_log / "folder.yaml").unlink()
    assert 'files: "lidar/*.bin"' in draft_layout(own_log), "circles are left aside"
