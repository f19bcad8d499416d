"""Splits by scene, by a list beside the data and by what the reader says of a scan, all selected alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from superflow.datasets.card import DatasetCard, load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.lacks import shared_scans
from superflow.datasets.records import Place, ScanRow
from superflow.datasets.write import ListedLog, write_rows
from superflow.errors import InputError
from superflow.quickstart.frames import split_scenes

CARD = load_card("semantickitti")


def write_log(root: Path, card: DatasetCard, *, split=lambda number: "") -> LogIndex:
    """Two streets of six scans each."""
    rows = [
        ScanRow(
            scene=street,
            token=f"{street}_{number}",
            order=number,
            points=Place(f"{street}/scans/{number:06d}.bin"),
            lidar_to_ego=np.eye(4),
            split=split(number),
        )
        for street in ("a", "b")
        for number in range(6)
    ]
    write_rows(root, root / "index", ListedLog("made", card, rows))
    return LogIndex.open(root / "index")


def listed(**files: str) -> DatasetCard:
    return replace(CARD, splits={"val": ("b",)}, split_files=files)


def test_a_list_beside_the_data_names_scans_by_token_and_by_path(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.lst").write_text(
        "# ours\na_0\n\n./a/scans/000002.bin  a/labels/000002.label\nb/scans/000005\n"
    )
    (tmp_path / "small.txt").write_text("a_0\n")
    index = write_log(tmp_path, listed(train="lists/train.lst", small="small.txt"))
    assert index.row_splits == ("small", "train")
    assert index.tokens(index.rows("train")) == ["a_0", "a_2", "b_5"]
    assert index.tokens(index.rows("train[1:]")) == ["a_2"]
    assert index.tokens(index.rows(["small", "val[:1]"])) == ["a_0", "b_0"]
    assert index.tokens(index.rows("val")) == [f"b_{number}" for number in range(6)]
    with pytest.raises(InputError, match=r"'trian' is neither a split nor a scene .*did you mean 'train'"):
        index.rows("trian")


@settings(max_examples=20)
@given(
    chosen=st.lists(st.integers(0, 11), min_size=1, unique=True),
    kind=st.sampled_from(["token", "path", "stem"]),
)
def test_a_list_chooses_what_a_loop_would(tmp_path_factory, chosen, kind):
    root = tmp_path_factory.mktemp("log")
    streets = [("ab"[n // 6], n % 6) for n in chosen]
    form = {"token": "{0}_{1}", "path": "{0}/scans/{1:06d}.bin", "stem": "{0}/scans/{1:06d}"}[kind]
    (root / "t.txt").write_text("\n".join(form.format(*place) for place in streets))
    assert write_log(root, listed(t="t.txt")).rows("t").tolist() == sorted(chosen)


def test_lines_that_name_nothing_are_counted_and_a_list_of_them_alone_is_an_error(tmp_path):
    (tmp_path / "t.txt").write_text("a_0\nz_1\nz_2\n")
    index = write_log(tmp_path, listed(t="t.txt"))
    assert index.warnings == (f"{tmp_path}/t.txt: 2 of 3 lines name no scan of this log (first: 'z_1')",)
    (tmp_path / "t.txt").write_text("z_1\n")
    with pytest.raises(
        InputError, match=r"t.txt: none of its 1 lines names a scan of this log \(the first is 'z_1'\)"
    ):
        write_log(tmp_path, listed(t="t.txt"))
    with pytest.raises(InputError, match=r"gone.txt: there is no such file; it lists the scans of a split"):
        write_log(tmp_path, listed(t="gone.txt"))


def test_splits_of_the_reader_and_of_lists_may_overlap_and_the_quickstart_takes_them(tmp_path):
    (tmp_path / "t.txt").write_text("a_0\na_1\n")
    index = write_log(tmp_path, listed(few="t.txt"), split=lambda n: "val" if n == 1 else "train")
    assert index.tokens(index.rows("few")) == ["a_0", "a_1"]
    assert index.tokens(index.rows("val")) == ["a_1", "b_1"], "in place of the card's scenes"
    assert split_scenes(index) == (["train"], ["val"])


def test_scans_that_are_learned_from_and_judged_are_told(tmp_path):
    (tmp_path / "t.txt").write_text("a_0\nb_1\nb_2\n")
    (tmp_path / "v.txt").write_text("b_2\nb_1\na_5\n")
    with_scenes = write_log(tmp_path, listed(train="t.txt"))
    (told,) = shared_scans(with_scenes)
    assert (
        "2 scans are in 'train' and in 'val', the first is b_1; figures of them are of scans learned" in told
    )
    both = write_log(tmp_path, listed(train="t.txt", val="v.txt"))
    assert list(shared_scans(both)) == list(shared_scans(with_scenes))
    (tmp_path / "v.txt").write_text("a_5\n")
    assert not list(shared_scans(write_log(tmp_path, listed(train="t.txt", val="v.txt"))))
    assert not list(shared_scans(write_log(tmp_path, CARD))), "the log has no scan of its splits of scenes"


@pytest.mark.parametrize("name", ["../t.txt", "/t.txt", "a//t.txt", "train", "a\\t.txt", ""])
def test_a_list_lies_below_the_root(tmp_path, repository, name):
    values = yaml.safe_load((repository / "datasets/cards/semantickitti.yaml").read_text(encoding="utf-8"))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values | {"splits": {"train": name}}), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"c.yaml: splits must give a list .* or a text file below the log's root"
    ):
        load_card(tmp_path / "c.yaml")
