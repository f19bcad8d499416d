"""Dataset cards: label maps, splits, intensity, recognition."""

from __future__ import annotations

import dataclasses
import json
import re
from importlib import import_module

import numpy as np
import pytest
import yaml

from superflow.datasets.card import DatasetCard, card_names, load_card
from superflow.datasets.frame import IGNORE_LABEL
from superflow.datasets.prepare import DATASETS
from superflow.errors import InputError


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_whole(name):
    card = load_card(name)
    assert card.name == name
    assert card.licence
    own = name in DATASETS and getattr(import_module(DATASETS[name]), "OWN", False)
    assert own or card.source.startswith(("https://", "superflow make-drive"))
    assert card.palette.shape == (len(card.classes), 3)
    assert len({tuple(colour) for colour in card.palette.tolist()}) == len(card.classes)
    assert set(card.class_of.values()) == set(range(len(card.classes)))
    assert set(card.class_of) <= set(card.categories.values())
    scenes = [scene for split in ("train", "val", "test") for scene in card.splits.get(split, ())]
    assert len(scenes) == len(set(scenes))


@pytest.mark.parametrize("name", card_names())
def test_label_map_covers_all_16_bit_ids(name):
    card = load_card(name)
    assert card.label_map.shape == (65536,)
    for raw in range(65536):
        category = card.categories.get(raw)
        assert card.label_map[raw] == card.class_of.get(category, IGNORE_LABEL)
    assert (card.label_map[max(card.categories, default=0) + 1 :] == 255).all()


def test_nuscenes_ids_are_the_published_ones(shared_data):
    facts = yaml.safe_load((shared_data / "label_maps" / "nuscenes.yaml").read_text())
    card = load_card("nuscenes")
    assert list(card.classes) == facts["class_names"]
    assert dict(card.categories) == facts["raw_labels"]
    for raw, train in facts["raw_to_train"].items():
        assert card.label_map[raw] == train
    np.testing.assert_array_equal(card.palette, [facts["palette_train_rgb"][i] for i in range(16)])


def test_pandaset_ids_are_the_published_ones(shared_data):
    facts = yaml.safe_load((shared_data / "label_maps" / "pandaset.yaml").read_text())
    card = load_card("pandaset")
    assert [name.replace("_", " ") for name in card.classes] == facts["class_names"]
    for raw, train in facts["raw_to_train"].items():
        assert card.label_map[raw] == train


def test_nuscenes_splits(shared_data):
    splits = load_card("nuscenes").splits
    assert {name: len(splits[name]) for name in ("train", "val", "test")} == {
        "train": 700,
        "val": 150,
        "test": 150,
    }
    hold_out, rest = set(splits["slidr_verifying"]), set(splits["slidr_parametrizing"])
    assert (len(hold_out), len(rest)) == (100, 600)
    assert not hold_out & rest
    assert hold_out | rest == set(splits["train"])
    published = yaml.safe_load((shared_data / "splits" / "nuscenes_splits.yaml").read_text())
    assert all(list(splits[name]) == published[name] for name in splits)


def test_mistake_37_intensity_is_normalised_by_the_card():
    card = load_card("nuscenes")
    raw = np.array([0, 51, 255, 300, -1], dtype=np.float32)
    np.testing.assert_allclose(card.normalise_intensity(raw), [0, 0.2, 1, 1, 0])
    kept = card.normalise_intensity(raw, keep_raw=True)
    np.testing.assert_array_equal(kept, raw)
    assert kept is not raw
    # a sensor that writes 0..1 is brought to the published scale
    unit = dataclasses.replace(card, intensity_max=1.0)
    np.testing.assert_allclose(unit.normalise_intensity(raw / 255, keep_raw=True), raw, rtol=1e-6)
    assert card.normalise_intensity(raw).dtype == np.float32


def test_a_card_survives_json():
    card = load_card("nuscenes")
    again = DatasetCard.from_dict(json.loads(json.dumps(card.to_dict())))
    assert again.to_dict() == card.to_dict()
    np.testing.assert_array_equal(again.label_map, card.label_map)


OWN = """
name: farm
real: true
licence: ours
source: https://example.org
points: {columns: [x, y, z, intensity], axes: forward-left-up}
intensity: {raw_max: 1}
classes:
  - {name: animal, colour: [1, 2, 3], categories: [cow, sheep]}
categories: {3: cow, 700: sheep, 5: tree}
"""


def test_own_card(tmp_path):
    (tmp_path / "farm.yaml").write_text(OWN)
    card = load_card(tmp_path / "farm.yaml")
    assert (card.classes, card.intensity_max, card.columns[-1]) == (("animal",), 1.0, "intensity")
    assert [int(card.label_map[i]) for i in (3, 700, 5, 6)] == [0, 0, 255, 255]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence: ours", "", "farm.yaml: the key 'licence' is missing"),
        ("licence: ours", "licence: ours\nlicense: x", "unknown key 'license'; did you mean 'licence'"),
        ("forward-left-up", "upside-down", "axes, one of forward-left-up, right-forward-up"),
        (
            "[x, y, z, intensity]",
            "[x, y, z]",
            "points has columns x, y, z but the rule of intensity is linear; name the column intensity",
        ),
        (
            "intensity: {raw_max: 1}",
            "intensity: {rule: none}",
            "the rule of intensity is none; say which value becomes 1, as in intensity: .raw_max: 255.",
        ),
        (
            "categories: [cow, sheep]",
            "categories: [cow, seep]",
            "'animal' lists the category 'seep'.*'sheep'",
        ),
        ("name: farm", "name: [", "no valid YAML"),
        (OWN, "- a list", "must hold keys and values"),
        ("raw_max: 1", "raw_max: 1}\nsplits: {train: scene-1", "splits must give a list of scene names"),
        ("raw_max: 1}", "raw_max: 1}\nsplits: [scene-1]", "splits must give a list of scene names"),
        ("raw_max: 1}", "raw_max: 1}\nsplits: {train: [0001]}", "put names that are numbers in quotes"),
        ("colour: [1, 2, 3], ", "", "the colour of class 'animal' is None; it must be three whole numbers"),
        ("[1, 2, 3]", "[1, 2, 300]", r"the colour of class 'animal' is \[1, 2, 300\]; .* of 0 to 255"),
        ("[1, 2, 3]", "[1, 2]", r"the colour of class 'animal' is \[1, 2\]"),
        ("categories: [cow, sheep]", "categories: cow", "categories of class 'animal' are 'cow'; .* a list"),
        ("name: animal, ", "", "entry 0 of classes is .* and has no name"),
        ("{raw_max: 1}", "255", "intensity is 255; it must be keys and values, as in {raw_max: 255}"),
        ("{raw_max: 1}", "{max: 255}", "unknown key 'max' in intensity; did you mean 'raw_max'"),
        ("{raw_max: 1}", "{raw_max: 0}", "intensity needs raw_max, the value above 0"),
        (
            "{columns: [x, y, z, intensity], axes: forward-left-up}",
            "[x, y, z]",
            "points is .* as in {columns",
        ),
        ("[x, y, z, intensity]", "4", "points needs columns that hold x, y, z"),
        (
            "{3: cow, 700: sheep, 5: tree}",
            "{cow: 3, sheep: 700}",
            "categories holds 'cow': 3; .* as in {1: car}",
        ),
        ("700: sheep", "70000: sheep", r"categories holds 70000: 'sheep'; .*\(0 to 65534, beyond which"),
        # all numbers that nobody knows would be sheep
        ("700: sheep", "65535: sheep", r"categories holds 65535: 'sheep'; .*\(0 to 65534, beyond which"),
        ("700: sheep", "'03': sheep", "categories gives 3 two names, 'cow' and 'sheep'; keep one"),
        ("{3: cow, 700: sheep, 5: tree}", "[cow, sheep]", "categories is .* numbers of the label files"),
        ("real: true", "real: 'no'", "real is 'no'; it must be true or false"),
        (
            "colour: [1, 2, 3]",
            "color: [1, 2, 3]",
            "unknown key 'color' in class 'animal'; did you mean 'colour'",
        ),
        ("axes: forward", "axis: z, axes: forward", "unknown key 'axis' in points; did you mean 'axes'"),
        ("licence: ours", "licence: ours\ndisk_gb: yes", "disk_gb is True; it must be a number"),
        (
            "licence: ours",
            "licence: ours\nlabels: {formt: u1}",
            "unknown key 'formt' in labels; did you mean 'format'",
        ),
        (
            "licence: ours",
            "licence: ours\nlabel_sets: {moving: 1}",
            "the label set 'moving' is 1; it must be named",
        ),
        (
            "licence: ours",
            "licence: ours\nlabel_sets: {moving: {clases: []}}",
            "unknown key 'clases' in the label set 'moving'; did you mean 'classes'",
        ),
        (
            "licence: ours",
            "licence: ours\nlabel_sets: {moving: {classes: 5}}",
            "classes in the label set 'moving' is 5; it must be a list",
        ),
        ("licence: ours", "licence:", "licence is None; it must be text"),
        ("licence: ours", "licence: 2020-13-45", "no valid YAML .*month"),
        (
            "licence: ours",
            "licence: ours\nsensor: {made: 2020-01-02}",
            "sensor holds something that is no text",
        ),
        ("licence: ours", "licence: ours\nsensor: {range_m: .inf}", "sensor holds something that is no text"),
        (
            "licence: ours",
            "licence: ours\nsensor: {beams: many}",
            "beams of sensor is 'many'; it must be a whole",
        ),
        (
            "licence: ours",
            "licence: ours\nsensor: {elevation_deg: 5}",
            "elevation_deg of sensor is 5; it must be the",
        ),
        (
            "licence: ours",
            "licence: ours\nsensor: {elevation_deg: [5, 5]}",
            r"is \[5, 5\]; it must be the lowest",
        ),
        (
            "licence: ours",
            "licence: ours\nsensor: &a [*a]",
            "is no valid YAML .a holds itself.; mend the file",
        ),
        ("licence: ours", "licence: ours\nrecognise: '('", "recognise is no regular expression"),
        (
            "licence: ours",
            "licence: ours\nlabels_of: farm.yaml",
            "labels_of is 'farm.yaml', which is no packaged",
        ),
        ("raw_max: 1}", "raw_max: 1}\nsplits: ../cards/nuscenes.yaml", "cannot be the name of a file in it"),
        ("{raw_max: 1}", "{raw_max: 1e-320}", "intensity needs raw_max, the value above 0"),
        ("{raw_max: 1}", "{raw_max: .nan}", "intensity needs raw_max, the value above 0"),
        ("{raw_max: 1}", f"{{raw_max: 1{'0' * 400}}}", "intensity needs raw_max, the value above 0"),
        (
            "categories: [cow, sheep]}",
            "categories: [cow]}\n  - {name: animal, colour: [1, 2, 4], categories: []}",
            "two",
        ),
        (
            "categories: [cow, sheep]}",
            "categories: [cow]}\n  - {name: b, colour: [1, 2, 4], categories: [cow]}",
            "the category 'cow' stands in two classes",
        ),
    ],
)
def test_bad_cards_are_named(tmp_path, old, new, message):
    assert old in OWN
    (tmp_path / "farm.yaml").write_text(OWN.replace(old, new))
    with pytest.raises(InputError, match=message):
        load_card(tmp_path / "farm.yaml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_card_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "farm.yaml").write_text(OWN.lstrip(), encoding=encoding)
    assert load_card(tmp_path / "farm.yaml").name == "farm"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: Zürich".encode("latin-1"), "is not UTF-8 text"),
        ("name: a".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_card_in_another_encoding_is_named(tmp_path, content, message):
    (tmp_path / "farm.yaml").write_bytes(content)
    with pytest.raises(InputError, match=rf"farm\.yaml: {message} .*; save or export it as UTF-8"):
        load_card(tmp_path / "farm.yaml")


def test_labels_are_one_byte(tmp_path):
    rows = "\n".join(f"  - {{name: c{i}, colour: [1, 2, 3], categories: []}}" for i in range(256))
    (tmp_path / "farm.yaml").write_text(re.sub("  - .*", rows, OWN))
    with pytest.raises(InputError, match=r"holds 256 classes; make at most 255, labels are one byte"):
        load_card(tmp_path / "farm.yaml")


@pytest.mark.parametrize("key", ["classes", "categories"])
def test_an_empty_key_is_an_absent_one(tmp_path, key):
    start = OWN.index(f"\n{key}:")
    stop = OWN.find("\ncategories:", start + 1) if key == "classes" else len(OWN)
    cards = []
    for name, between in (("absent", ""), ("empty", f"\n{key}:")):
        (tmp_path / f"{name}.yaml").write_text(OWN[:start] + between + OWN[stop:])
        cards.append(load_card(tmp_path / f"{name}.yaml").to_dict())
    assert cards[0] == cards[1]
    assert not cards[0][key]


def test_missing_cards_are_named(tmp_path):
    with pytest.raises(
        InputError, match=r"nuscene: no dataset card has this name; choose one of .*nuscenes, "
    ):
        load_card("nuscene")
    with pytest.raises(InputError, match=r"gone.yaml: there is no such file"):
        load_card(tmp_path / "gone.yaml")
