"""Which packaged card a log gets, and that recognising it parses no card of another schema, and none twice."""

from __future__ import annotations

import pytest

from superflow.datasets import card as card_module
from superflow.datasets.card import card_names, load_card
from superflow.datasets.sets.nuscenes import recognition, write_index
from superflow.datasets.sets.nuscenes.recognition import candidates, recognise_card
from superflow.errors import InputError

NUSCENES_LOG = "n015-2018-07-24-11-22-45+0800"


@pytest.mark.parametrize(
    ("categories", "logfiles", "want"),
    [
        (["vehicle.car", "flat.sidewalk"], [NUSCENES_LOG], "nuscenes"),
        ([], [NUSCENES_LOG], "nuscenes"),
        (["vehicle.car", "flat.sidewalk"], ["pandaset-002"], "pandaset_nuscenes"),
        (["Car", "Road", "noise"], ["pandaset-002"], "pandaset"),
        (["vehicle.car"], ["tuesday-drive"], "my-log"),
        (["vehicle.car"], [], "my-log"),
        ([], [], "my-log"),
    ],
)
def test_recognition(categories, logfiles, want):
    assert recognise_card(categories, logfiles, "my-log").name == want


def test_an_unknown_log_is_not_said_to_be_nuscenes():
    card = recognise_card(["vehicle.car"], ["tuesday-drive"], "my-log")
    assert card.classes == load_card("nuscenes").classes
    assert (card.licence, dict(card.splits), card.real) == ("not stated", {}, True)
    assert "nuscenes" not in card.source


def test_foreign_categories_are_refused():
    with pytest.raises(InputError, match=r"no dataset card knows any .*\(cow, tree, .*--card FILE"):
        recognise_card(["tree", "cow"], [], "farm")


# cards of datasets in nuScenes schema: those of other layouts are chosen by the name of the dataset
OF_THE_SCHEMA = [name for name in card_names() if load_card(name, splits=False).recognise]


@pytest.mark.parametrize("name", OF_THE_SCHEMA)
def test_every_card_is_recognised_by_its_own_categories(name):
    """An own log takes its classes from the card that knows most of its categories; the slow twin loads all cards."""
    known = set(load_card(name).class_of)
    best = max(
        map(load_card, OF_THE_SCHEMA), key=lambda c: (len(known & set(c.class_of)), c.name == "nuscenes")
    )
    found = recognise_card(known, ["tuesday-drive"], "my-log")
    assert (found.name, found.classes, found.columns) == ("my-log", best.classes, best.columns)


def test_candidates_are_the_cards_that_name_their_log_files():
    assert [card.name for card in candidates()] == OF_THE_SCHEMA


@pytest.fixture
def parsed(monkeypatch):
    """Names of the packaged YAML files in the order in which they are parsed."""
    files = []
    read_yaml = card_module.read_yaml
    monkeypatch.setattr(card_module, "read_yaml", lambda path: (files.append(path.name), read_yaml(path))[1])
    caches = (card_module._packaged, candidates)
    for cache in caches:
        cache.cache_clear()
    yield files
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("logfile", ["n001-2020-01-02-03-04-05+0000", "tuesday-drive", "pandaset-002"])
def test_only_cards_of_the_schema_are_parsed_each_once(small_log, tmp_path, parsed, logfile):
    small_log.tables["log"][0]["logfile"] = logfile
    root = small_log.write()
    for out in ("a", "b"):
        write_index(root, tmp_path / out)
    splits = ["nuscenes.yaml"] if logfile.startswith("n001") else []  # of the card that was recognised
    assert sorted(parsed) == sorted([*(f"{name}.yaml" for name in OF_THE_SCHEMA), *splits])


def test_a_card_that_was_changed_is_recognised_by_what_it_says_now(tmp_path, parsed, monkeypatch):
    for path in card_module.CARDS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "pandaset.yaml").read_text()
    (tmp_path / "pandaset.yaml").write_text(text.replace("'^pandaset-'", "'^street-'"))
    for module in (card_module, recognition):
        monkeypatch.setattr(module, "CARDS", tmp_path)
    assert recognise_card(["Car"], ["street-1"], "my-log").name == "pandaset"
    assert recognise_card(["Car"], ["pandaset-1"], "my-log").name == "my-log"
