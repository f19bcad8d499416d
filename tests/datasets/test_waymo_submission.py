"""Predictions for Waymo's server against messages written byte by byte from the published format."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import test_waymo
import torch
import waymo_writer as made
from predicted import write_predictions
from test_waymo import LABELLED, SEGMENT, SHAPES, TIMES, labels, range_image

from superflow.datasets.formats.protobuf_message import Message, bytes_field, integer_field, integers_field
from superflow.datasets.index import LogIndex
from superflow.datasets.predictions import waymo as waymo_submission
from superflow.datasets.prepare import prepare
from superflow.downstream.predictions import PredictionFiles
from superflow.errors import InputError

WHO = {
    "account_name": "me@example.org",
    "unique_method_name": "NAME",
    "authors": "Ada Löwe, Bo Ek",
    "method_link": "NA",
}


@pytest.fixture(scope="module", params=[1, 2])
def index(request, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    """Of one segment in the files of version 1 and of version 2, as its training segments lie."""
    root = tmp_path_factory.mktemp("waymo")
    if request.param == 1:
        made.write(root, cameras=False)
    else:
        test_waymo.write(root, cameras=False)
    (root / "training").rename(root / "validation")
    return prepare("waymo", root, tmp_path_factory.mktemp("index"))


def told(index: LogIndex, row: int) -> np.ndarray:
    """(rows of the file,) what is predicted: a train id that goes on from row to row, -1 for every seventh."""
    rows = np.arange(index.file_points(row).rows)
    return np.where(rows % 7 == 3, -1, (rows + row) % 22)


def predictor(index: LogIndex):
    """Of each scan what ``told`` says, by the rows of its file."""

    def predict(scan):
        row = next(row for row in range(len(index)) if index.tokens([row])[0] in scan.source)
        mine = told(index, row)
        mine = mine if scan.file_row is None else mine[scan.file_row]
        scores = torch.zeros(len(scan.points), 22)
        for at, train_id in enumerate(mine.tolist()):
            if train_id >= 0:
                scores[at, train_id] = 1
        return scores

    return predict


def image(time: int, echo: int, of_rows: list[int]) -> np.ndarray:
    """(H, W, 2) of the upper LiDAR, pixel by pixel; takes its rows away from the list."""
    ranges = range_image(time, 1, echo)
    found = np.zeros((*ranges.shape[:2], 2), np.int32)
    for i in range(ranges.shape[0]):
        for j in range(ranges.shape[1]):
            if ranges[i, j, 0] > 0:
                # the classes are 1 to 22, 0 where none is predicted
                found[i, j, 1] = max(0, 1 + of_rows.pop(0))
    return found


def frame(index: LogIndex, row: int) -> bytes:
    """A SegmentationFrame: the images of both echoes, the segment, the time."""
    time, rest = TIMES[row], told(index, row).tolist()
    first = image(time, 1, rest)
    for laser in (2, 3, 4, 5):
        del rest[: int((range_image(time, laser, 1)[..., 0] > 0).sum())]
    second = image(time, 2, rest)
    echoes = made.block(2, made.block(6, zlib.compress(made.matrix(first))))
    echoes += made.block(3, made.block(6, zlib.compress(made.matrix(second))))
    return made.block(1, made.whole(1, 1) + echoes) + made.block(2, SEGMENT.encode()) + made.whole(3, time)


def submission(*frames: bytes) -> bytes:
    head = made.block(1, b"me@example.org") + made.block(2, b"NAME")
    head += made.block(3, "Ada Löwe".encode()) + made.block(3, b"Bo Ek") + made.block(6, b"NA")
    head += made.whole(7, 1) + made.whole(8, 0) + made.whole(9, 0)
    return head + made.block(10, b"".join(made.block(1, one) for one in frames))


def write(index: LogIndex, folder: Path, rows: list[int], **options) -> dict:
    options = {"server_fields": WHO, "packed": True} | options
    return write_predictions(
        index, rows, predictor(index), index.card.classes, folder, server=True, **options
    )


def test_the_files_are_those_written_byte_by_byte(index, tmp_path, monkeypatch):
    monkeypatch.setattr(waymo_submission, "FRAMES_OF_A_FILE", 2)
    said = write(index, tmp_path / "made", [0, 1, 2])
    assert said["points_without_prediction"] == sum(int((told(index, row) < 0).sum()) for row in range(3))
    assert list(said["numbers"].values()) == list(range(1, 23))
    want = {
        "submission_0.bin": submission(frame(index, 0), frame(index, 1)),
        "submission_1.bin": submission(frame(index, 2)),
    }
    assert said["zip"] == str(tmp_path / "made.tar.gz")
    with tarfile.open(said["zip"], "r:gz") as packed:
        assert {name: packed.extractfile(name).read() for name in packed.getnames()} == want
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").glob("*.bin")} == want


@pytest.mark.parametrize("calls", [1, 2, 3, 0])
def test_a_submission_that_was_stopped_ends_like_one_that_was_not(index, tmp_path, monkeypatch, calls):
    monkeypatch.setattr(waymo_submission, "FRAMES_OF_A_FILE", 2)
    rows, asked = [0, 1, 2], []

    def predict(scan):
        asked.append(scan.source.token)
        if len(asked) == calls:
            raise KeyboardInterrupt
        return predictor(index)(scan)

    def files(name, rows=rows):
        who = {"server": True, "server_fields": WHO, "made_by": {"weights": "a"}}
        return PredictionFiles(index, rows, index.card.classes, tmp_path / name, **who)

    def content(name):
        return {path.name: path.read_bytes() for path in (tmp_path / name).glob("[!.]*")}

    files("whole").write(predictor(index))
    if calls:
        with pytest.raises(KeyboardInterrupt):
            files("stopped").write(predict)
    else:  # the first file was taken away
        files("stopped").write(predict)
        (tmp_path / "stopped/submission_0.bin").unlink()
    again = len(asked)
    files("stopped").write(predict)
    assert content("stopped") == content("whole")
    assert len(asked) - again == {0: 2, 1: 3, 2: 3, 3: 1}[calls]
    with pytest.raises(InputError, match="holds predictions made with other scans"):
        files("stopped", [0, 1])


def test_labels_that_are_predicted_are_those_that_the_log_has(index, tmp_path):
    """Round trip: what the reader makes of label images comes back as these, where something came back."""
    row = TIMES.index(LABELLED)
    raw = index.file_labels(row, None)

    def predict(scan):
        of_points = index.card.label_map[raw if scan.file_row is None else raw[scan.file_row]]
        return torch.from_numpy(np.eye(256, dtype=np.float32)[of_points][:, :22])

    write_predictions(
        *(index, [row], predict, index.card.classes, tmp_path / "made"),
        server=True,
        server_fields=WHO,
    )
    message = Message((tmp_path / "made/submission_0.bin").read_bytes())
    (laser,) = message.message(10).message(1).messages(1)
    for echo in (1, 2):
        matrix = Message(zlib.decompress(laser.message(1 + echo).data(6)))
        found = matrix.integers(1).reshape(matrix.message(2).integers(1))
        came_back = range_image(LABELLED, 1, echo)[..., 0] > 0
        assert found.shape == (*SHAPES[1], 2)
        np.testing.assert_array_equal(found[..., 1], np.where(came_back, labels(LABELLED, echo)[..., 1], 0))
        assert not found[..., 0].any()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {},
            "the server of waymo needs account_name and unique_method_name; say who submits with --server-fields",
        ),
        (
            {"account_name": "me@example.org", "unique_method_name": ""},
            "of waymo needs unique_method_name; say",
        ),
        ({**WHO, "email": "me"}, "of waymo takes no 'email' of this form; say who"),
        ({**WHO, "authors": "\udcff"}, "of waymo takes no 'authors' of this form; say who"),
    ],
)
def test_who_does_not_say_who_submits_is_told(index, tmp_path, fields, said):
    with pytest.raises(InputError, match=said):
        write(index, tmp_path / "made", [0], server_fields=fields)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("folder", ["testing", "testing_location"])
def test_frames_of_a_list_in_either_test_folder_are_a_submission(index, folder, tmp_path):
    """The dataset's list of its test frames has a segment and a time a line."""
    shutil.copytree(index.root / "validation", tmp_path / "log" / folder)
    listed = f"{SEGMENT},{TIMES[2]}\n{SEGMENT},{TIMES[0]}\n"
    (tmp_path / "log/judged.txt").write_text(listed.replace(",", "_"))
    (tmp_path / "log/dataset.json").write_text('{"splits": {"judged": "judged.txt"}}')
    again = prepare("waymo", tmp_path / "log", tmp_path / "index")
    rows = again.rows("judged").tolist()
    assert rows == [0, 2]
    assert again.rows("test").tolist() == [0, 1, 2]
    write(again, tmp_path / "made", rows)
    found = Message((tmp_path / "made/submission_0.bin").read_bytes()).message(10).messages(1)
    assert [(one.text(2), one.integer(3)) for one in found] == [(SEGMENT, TIMES[0]), (SEGMENT, TIMES[2])]


@pytest.mark.parametrize("lengths", [(), (0, 1, 127, 128), (-1, 2**31 - 1, -(2**31), 300), (2**63 - 1, 5, 0)])
def test_written_numbers_are_those_of_the_twin(lengths):
    values = np.array(lengths, np.int64)
    assert integers_field(3, values) == made.block(3, b"".join(map(made.varint, lengths)))
    for value in lengths:
        assert integer_field(900, value) == made.whole(900, value)
    assert bytes_field(15, bytes(300)) == made.block(15, bytes(300))
