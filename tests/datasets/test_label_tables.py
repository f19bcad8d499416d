"""Further label files of a log in nuScenes schema: classes of a label set, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.datasets.card import load_card
from superflow.datasets.prepare import prepare
from superflow.errors import InputError, MissingFileError
from superflow.street.classes import CATEGORIES, FINER_CATEGORIES
from superflow.tools.main import main

MADE = "synthetic-0-scene-0001"


@pytest.fixture
def made_log(small_log):
    """As `superflow make-drive` writes one: every finer category in every scan."""
    small_log.tables["log"][0]["logfile"] = MADE
    categories = small_log.tables["category"]
    known = {row["name"]: row["token"] for row in categories}
    small_log.tables["category_fine"] = [
        {"token": known.get(name, f"category-{name}"), "name": name, "index": index}
        for index, name in enumerate(FINER_CATEGORIES)
    ]
    small_log.finer = (np.arange(50) % len(FINER_CATEGORIES)).astype(np.uint8)
    small_log.tables["lidarseg_fine"] = []
    for row in small_log.tables["lidarseg"]:
        name = row["filename"].replace("lidarseg/", "lidarseg_fine/")
        small_log.files[name] = small_log.finer.tobytes()
        small_log.tables["lidarseg_fine"].append({**row, "filename": name})
    return small_log


def test_the_card_of_made_drives_knows_every_finer_category():
    fine, plain, nuscenes = (
        load_card("synthetic", label_set="fine"),
        load_card("synthetic"),
        load_card("nuscenes"),
    )
    assert list(fine.categories.values()) == list(FINER_CATEGORIES)
    assert (plain.classes, plain.class_of, plain.categories) == (
        nuscenes.classes, nuscenes.class_of, nuscenes.categories,
    )  # fmt: skip
    assert np.array_equal(plain.palette, nuscenes.palette)
    for raw, name in enumerate(FINER_CATEGORIES):
        above = next(known for known in CATEGORIES if name == known or name.startswith(known + "."))
        assert (fine.label_map[raw] == 255) == (nuscenes.label_map[CATEGORIES.index(above)] == 255)
    of_parent = [
        {nuscenes.label_map[CATEGORIES.index(n if n in CATEGORIES else n.rpartition(".")[0])] for n in names}
        for names in ([n for n, c in fine.class_of.items() if c == k] for k in range(len(fine.classes)))
    ]
    assert all(len(parents) == 1 for parents in of_parent), "no finer class spans two of nuScenes'"


def test_label_set_reads_its_own_files_and_all_else_stays(made_log, tmp_path):
    root = made_log.write()
    plain = prepare("nuscenes", root, tmp_path / "plain")
    fine = prepare("nuscenes", root, tmp_path / "fine", label_set="fine")
    assert (plain.card.name, plain.card.real, plain.card.label_set) == ("synthetic", False, "")
    assert (fine.card.label_set, len(plain.card.classes), len(fine.card.classes)) == ("fine", 16, 26)
    class_of = {raw: fine.card.class_of.get(name, 255) for raw, name in enumerate(FINER_CATEGORIES)}
    for row in plain.rows():
        one, other = (index.frame(int(row), images=False, boxes=True) for index in (plain, fine))
        assert one.points.tobytes() == other.points.tobytes()
        assert one.labels.tolist() == [plain.card.label_map[raw] for raw in made_log.raw_labels]
        assert other.labels.tolist() == [class_of[raw] for raw in made_log.finer.tolist()]
        assert one.boxes.categories == other.boxes.categories == ("vehicle.car",)
    assert set(class_of.values()) == {*range(26), 255}


def test_a_drive_without_finer_labels_is_refused_in_one_sentence(made_log, tmp_path, capsys):
    del made_log.tables["category_fine"], made_log.tables["lidarseg_fine"]
    root = made_log.write()
    assert len(prepare("nuscenes", root, tmp_path / "plain").card.classes) == 16
    index = ["--root", str(root), "--out", str(tmp_path / "fine"), "--label-set", "fine"]
    assert main(["prepare", "nuscenes", *index]) == 2
    said = capsys.readouterr().err
    assert "category.json: the labels of this log do not tell barrier, " in said
    assert "parking, building" in said
    assert "from format 3 on" in said
    assert not (tmp_path / "fine").exists()


def test_half_of_the_tables_is_refused(made_log, tmp_path):
    del made_log.tables["lidarseg_fine"]
    with pytest.raises(
        MissingFileError, match=r"lidarseg_fine.json: this table is missing; the label set 'fine'"
    ):
        prepare("nuscenes", made_log.write(), tmp_path / "fine", label_set="fine")


def test_a_log_of_another_card_has_no_such_set(made_log, tmp_path):
    made_log.tables["log"][0]["logfile"] = "tuesday"
    with pytest.raises(InputError, match=r"nuscenes\.yaml: has no label set 'fine'"):
        prepare("nuscenes", made_log.write(), tmp_path / "fine", label_set="fine")


def test_own_card_below_the_root_may_have_label_sets(made_log, tmp_path):
    """Its set regroups the log's ordinary categories; those need no tables of their own."""
    made_log.files["dataset.json"] = b'{"card": "own.yaml"}'
    made_log.files["own.yaml"] = (
        b"name: own\nreal: true\nlicence: ours\nsource: us\npoints: {columns: [x, y, z, intensity, ring], axes: "
        b"right-forward-up}\nintensity: {raw_max: 255}\nlabels_of: nuscenes\nlabel_sets:\n  two:\n    classes:\n"
        b"      - {name: flat, colour: [1, 2, 3], categories: [flat.driveable_surface]}\n"
        b"      - {name: upright, colour: [1, 2, 4], categories: [vehicle.car, static.manmade]}\n"
    )
    index = prepare("nuscenes", made_log.write(), tmp_path / "two", label_set="two")
    assert index.card.classes == ("flat", "upright")
    want = {17: 1, 24: 0, 28: 1, 0: 255}
    assert index.frame(int(index.rows()[0]), images=False).labels.tolist() == [
        want[raw] for raw in made_log.raw_labels.tolist()
    ]


def test_corrupted_copies_have_none(tmp_path):
    (tmp_path / "log").mkdir()
    with pytest.raises(
        InputError, match="--label-set chooses classes of a card; nuscenes_c has none, leave it out"
    ):
        prepare("nuscenes_c", tmp_path / "log", tmp_path / "out", label_set="fine")
