"""Long jobs over scans go on where they were stopped, with what began them alone, to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from superflow.downstream.done_scans import JOURNAL, done_scans
from superflow.downstream.pseudo_labels import PseudoLabelFiles
from superflow.downstream.voting import VotingOptions
from superflow.errors import InputError

ROWS = [1, 2, 4, 6]
FRAMES = {"evaluation_rows": [10], "labelled_rows": [3]}


class Stopped(BaseException):
    """What no job catches."""


def sharp(scan) -> torch.Tensor:
    generator = torch.Generator().manual_seed(int(scan.points[:, 3].sum() * 1000) % 2**31)
    return torch.softmax(4 * torch.randn(len(scan.points), 4, generator=generator), dim=1)


def stopping_after(calls: int):
    """A predictor that ends its job with the next call."""

    def predict(scan):
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise Stopped
        return sharp(scan)

    return predict


def write(log, folder: Path, predict=sharp, made_by="a", rows=ROWS, options=None, **choice):
    options = options or VotingOptions.window(1, min_votes=1, voxel_m=0.3)
    files = PseudoLabelFiles(log, rows, folder, options, made_by={"weights": made_by}, **(FRAMES | choice))
    return files.write(predict)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("calls", range(7))
def test_pseudo_labels_that_were_stopped_end_like_those_that_were_not(log, tmp_path, calls):
    write(log, tmp_path / "whole")
    with pytest.raises(Stopped):
        write(log, tmp_path / "stopped", stopping_after(calls))
    done = len(list((tmp_path / "stopped").glob("*.bin")))
    with open(tmp_path / "stopped" / JOURNAL, "a") as journal:
        journal.write('{"scan": "token4", "files": ["to')  # as a kill leaves it
    (tmp_path / "stopped" / ".building").touch()
    asked = []
    write(log, tmp_path / "stopped", lambda scan: asked.append(scan.source.token) or sharp(scan))
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert len(asked) <= 8 - done, "of what is done only neighbours are predicted again"


def test_what_is_done_is_not_done_again_but_what_was_removed_is(log, tmp_path):
    write(log, tmp_path, rows=[1, 2])
    whole = content(tmp_path)
    write(log, tmp_path, stopping_after(0), rows=[1, 2])
    assert content(tmp_path) == whole
    write(log, tmp_path)  # further scans come beside them
    assert len(list(tmp_path.glob("*.bin"))) == 4
    write(log, tmp_path, rows=[1, 2])
    (tmp_path / "token1_pseudo.bin").unlink()
    write(log, tmp_path, rows=[1, 2])
    assert whole.items() - {(JOURNAL, whole[JOURNAL])} <= content(tmp_path).items()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"made_by": "b"}, r'made with other weights \("a" instead of "b"\); choose another folder or del'),
        ({"threshold": 0.8}, r"made with other threshold \(0.9 instead of 0.8\)"),
        ({"label_weight": 2.0}, "made with other label_weight"),
        ({"options": VotingOptions.window(2)}, "made with other options"),
        ({"labelled_rows": []}, "made with other labelled_hash"),
        ({"evaluation_rows": [11]}, "made with other evaluation_hash"),
    ],
)
def test_another_job_does_not_go_on_in_a_folder(log, tmp_path, change, said):
    with pytest.raises(Stopped):
        write(log, tmp_path, stopping_after(4))
    before = content(tmp_path)
    with pytest.raises(InputError, match=said):
        write(log, tmp_path, **change)
    assert content(tmp_path) == before
    if "made_by" in change:
        options = VotingOptions.window(1, min_votes=1, voxel_m=0.3)
        with pytest.raises(InputError, match=said):
            PseudoLabelFiles(log, ROWS, tmp_path, options, made_by={"weights": "b"}, **FRAMES)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_a_threshold_that_takes_what_nothing_is_known_of_is_refused(log, tmp_path, threshold):
    def blind(scan):
        return torch.zeros(len(scan.points), 4)

    with pytest.raises(InputError, match=r"the threshold of pseudo-labels is .*; give a probability above 0"):
        write(log, tmp_path, blind, threshold=threshold)


def test_files_of_nobody_knows_what_are_neither_taken_nor_mixed_with_others(log, tmp_path):
    PseudoLabelFiles(log, [1], tmp_path / "a", VotingOptions(), evaluation_rows=[]).write(sharp)
    with pytest.raises(InputError, match="holds pseudo-labels, and nothing says what made them; choose anot"):
        write(log, tmp_path / "a")
    write(log, tmp_path / "b", rows=[1])
    with pytest.raises(InputError, match="made with other weights"):
        PseudoLabelFiles(log, [1], tmp_path / "b", VotingOptions(), evaluation_rows=[])


@pytest.mark.parametrize("text", ["", "{", "[1]\n", '{"a": 1}\n[2]\n'])
def test_a_damaged_journal_is_refused(tmp_path, text):
    (tmp_path / JOURNAL).write_text(text)
    with (
        pytest.raises(InputError, match="is damaged; delete its folder to begin anew"),
        done_scans(tmp_path, {"a": 1}, "things", left="*.bin"),
    ):
        pass


def test_a_line_that_a_power_failure_has_emptied_is_passed_over(tmp_path):
    lines = [{"a": 1}, {"scan": "x", "files": [], "figures": 3}]
    (tmp_path / JOURNAL).write_text("\n".join(map(json.dumps, lines)) + "\n" + "\0" * 40 + "\n")
    with done_scans(tmp_path, {"a": 1}, "things", left="*.bin") as done:
        assert "x" in done
        assert "y" not in done
        assert done.figures("x") == 3
    assert [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()] == lines
