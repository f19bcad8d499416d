"""`superflow prepare tokens`: the list that k % fine-tuning reads."""

from __future__ import annotations

import pytest

from superflow.datasets.index import LogIndex
from superflow.downstream.segment_data import SegmentDataset
from superflow.tools.prepare import main


def run(prepared_log, out, *options):
    return main(["tokens", "--index", str(prepared_log / "prepared"), "--out", str(out), *options])


@pytest.mark.parametrize(("rule", "rows"), [("scene", range(4, 8)), ("frame", range(0, 8, 2))])
def test_the_list_chooses_the_frames_of_the_rule(prepared_log, tmp_path, capsys, rule, rows):
    out = tmp_path / "half.txt"
    assert run(prepared_log, out, "--percent", "50", "--rule", rule) == 0
    assert f"{out}: 4 of 8 frames, 50 % by {rule}" in capsys.readouterr().out
    index = LogIndex.open(prepared_log / "prepared")
    assert SegmentDataset(index, tokens=out).rows.tolist() == [int(index.rows()[row]) for row in rows]
    assert out.read_text().startswith(f"# 50 % of all key frames by {rule}: 4 frames of index {index.hash}")


def test_too_few_scenes_are_one_sentence(prepared_log, tmp_path, capsys):
    out = tmp_path / "few.txt"
    assert run(prepared_log, out, "--percent", "1", "--frames", "train") == 2
    said = capsys.readouterr().err
    assert said.startswith("superflow prepare: 1 % of 1 scenes is less than one")
    assert not out.exists()


def test_frames_without_labels_are_not_listed(prepared_log, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(LogIndex, "has_labels", lambda index, row: False)
    assert run(prepared_log, tmp_path / "bare.txt", "--percent", "100") == 2
    assert "has no labels (8 of the 8 to list); choose labelled frames only" in capsys.readouterr().err
    assert not (tmp_path / "bare.txt").exists()
