"""What a log says of itself in dataset.json: any content gives a card, or one sentence that names the key."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superflow.datasets.card import DatasetCard
from superflow.datasets.sets.nuscenes import write_index
from superflow.datasets.sets.nuscenes.log import read_log
from superflow.datasets.sets.nuscenes.log_card import choose_card
from superflow.datasets.stated import read_stated
from superflow.errors import InputError
from superflow.progress import silent

KEYS = ("name", "real", "licence", "source", "sensor", "splits", "intensity", "card")


@pytest.fixture(scope="module")
def log(make_small_log, tmp_path_factory):
    """Root and tables of a log."""
    root = make_small_log(tmp_path_factory.mktemp("log")).write()
    return root, read_log(root, make_small_log.version, silent)


def stated_card(log, text: str | bytes) -> DatasetCard:
    root, tables = log
    content = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    (root / "dataset.json").write_bytes(content)
    return choose_card(root, tables, None)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"real": "false"}, "real is 'false'; it must be true or false"),
        ({"real": 0}, "real is 0; it must be true or false"),
        ({"real": None}, "real is None; it must be true or false"),
        ({"name": 5}, "name is 5; it must be text"),
        ({"name": "\ud800"}, r"name is '\\ud800'; it must be text"),
        ({"licence": ["MIT"]}, r"licence is \['MIT'\]; it must be text"),
        ({"source": {}}, r"source is {}; it must be text"),
        ({"sensor": "Pandar64"}, "sensor is 'Pandar64'; it must be keys and values"),
        ({"sensor": {"range_m": float("nan")}}, "sensor holds something that is no text, finite number"),
        ({"intensity": 255}, "intensity is 255; it must be keys and values, as in {raw_max: 255}"),
        ({"intensity": {"raw_max": 0}}, "intensity needs raw_max, the value above 0 .* it is {'raw_max': 0}"),
        ({"intensity": {"raw_max": True}}, "intensity needs raw_max"),
        ({"intensity": {"raw_max": "255"}}, "intensity needs raw_max"),
        ({"intensity": {"raw_max": float("inf")}}, "intensity needs raw_max"),
        ({"intensity": {"raw_max": 10**400}}, "intensity needs raw_max"),
        ({"intensity": {}}, "intensity needs raw_max"),
        ({"splits": ["scene-0001"]}, "splits must give a list of scene names"),
        ({"splits": {"train": "scene-0001"}}, "splits must give a list of scene names"),
        ({"splits": {"train": [1]}}, "splits must give a list of scene names"),
        (
            {"card": 5},
            "card is 5; it must be the name of a packaged card, or a .yaml file below the log's root",
        ),
        ({"card": ["nuscenes"]}, "card is "),
        ({"card": "nuscene"}, "nuscene: no dataset card has this name; choose one of .*nuscenes"),
        ({"card": "mine.yaml"}, r"mine\.yaml: there is no such file"),
        (
            {"card": "../mine.yaml"},
            r"card is '\.\./mine\.yaml'; .* below the log's root, .* --card FILE\.yaml",
        ),
        ({"card": "..\\mine.yaml"}, "card is .*below the log's root"),
        ({"card": "/mine.yaml"}, "card is '/mine.yaml'; .*below the log's root"),
        ({"card": "a\0.yaml"}, "card is .*below the log's root"),
        ({"reel": False}, "unknown key 'reel'; did you mean 'real'"),
        ({"weather": "rain"}, "unknown key 'weather'; known: card, generator, intensity"),
        ({"sensor": {"range": 70}}, "unknown key 'range' in sensor; did you mean 'range_m'"),
        (
            {"intensity": {"raw_max": 1, "rules": "log"}},
            "unknown key 'rules' in intensity; did you mean 'rule'",
        ),
        ({"seed": True}, "seed is True; it must be a whole number"),
        (
            {"splits": {"train": "../train.txt"}},
            "splits must give a list of scene names .*or a text file below",
        ),
    ],
)
def test_a_wrong_key_is_named(log, stated, message):
    with pytest.raises(InputError, match=rf"(dataset\.json: )?{message}") as caught:
        stated_card(log, json.dumps(stated))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no valid JSON"),
        ("", "is no valid JSON"),
        ("[" * 100_000, "is no valid JSON"),
        ("[]", r"holds '\[\]' instead of a JSON object"),
        ("null", "holds 'None' instead of a JSON object"),
        ('{"a": ' + "1" * 5000 + "}", "is no valid JSON"),
        (b'{"name": "Z\xfcrich"}', "is not UTF-8 text .*; save or export it as UTF-8"),
    ],
)
def test_a_file_that_is_no_json_object_is_named(log, text, message):
    with pytest.raises(InputError, match=rf"dataset\.json: {message}") as caught:
        stated_card(log, text)
    assert "\n" not in str(caught.value)


def test_right_keys_are_taken_and_null_is_as_good_as_absent_where_a_card_may_be_empty(log):
    stated = {
        "name": "Straße",
        "real": False,
        "licence": "MIT",
        "source": "here",
        "intensity": {"raw_max": 1},
    }
    stated |= {"splits": None, "sensor": None, "card": None, "seed": 3, "settings": {"any": 1}}
    for mark in (b"", b"\xef\xbb\xbf"):  # with the byte-order mark of some editors
        card = stated_card(log, mark + json.dumps(stated, ensure_ascii=False).encode())
        assert (card.name, card.real, card.licence, card.source) == ("Straße", False, "MIT", "here")
        assert card.intensity_max == 1.0
        assert dict(card.splits) == dict(stated_card(log, "{}").splits)


@pytest.mark.parametrize("name", ["mine.yaml", "cards/mine.yml", "cards\\mine.yml"])
def test_a_card_below_the_root_is_read(log, name):
    root, _ = log
    path = root.joinpath(*re.split(r"[/\\]", name))
    path.parent.mkdir(exist_ok=True)
    text = (Path(__file__).parents[2] / "datasets" / "cards" / "pandaset_nuscenes.yaml").read_text()
    path.write_text(text.replace("name: pandaset_nuscenes", "name: mine"))
    assert stated_card(log, json.dumps({"card": name})).name == "mine"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
near = {
    "intensity": st.fixed_dictionaries({"raw_max": values}),
    "splits": st.dictionaries(st.text(max_size=8), st.lists(st.text() | values, max_size=3), max_size=2),
    "card": st.text().map(lambda text: f"{text}.yaml") | st.sampled_from(["pandaset", "pandaset_nuscenes"]),
    "sensor": st.dictionaries(st.text(max_size=8), values, max_size=3),
}


@pytest.mark.parametrize("key", KEYS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_json_value_in_any_key_gives_a_card_or_one_sentence(log, key, data):
    value = data.draw(near[key] | values if key in near else values)
    try:
        card = stated_card(log, json.dumps({key: value}))
    except InputError as error:
        assert str(error).count("\n") == 0  # noqa: PT017  (what else a value leads to fails)
        str(error).encode()  # can be printed
        return
    assert type(card.real) is bool
    assert 0 < card.intensity_max < float("inf")
    assert DatasetCard.from_dict(json.loads(json.dumps(card.to_dict()))).to_dict() == card.to_dict()
    assert all(text.encode() for text in (card.name + ".", card.licence + ".", card.source + "."))
    if key in ("name", "real", "licence", "source"):
        assert getattr(card, key) == value


def test_nothing_is_written_for_a_wrong_one(small_log):
    root = small_log.write()
    (root / "dataset.json").write_text(json.dumps({"real": "false", "intensity": {"raw_max": 0}}))
    with tempfile.TemporaryDirectory() as out:
        with pytest.raises(InputError, match=r"dataset\.json: real is 'false'; it must be true or false$"):
            write_index(root, out)
        assert os.listdir(out) == []


def test_a_fact_that_is_stated_twice_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text('{"licence": "a", "splits": {"train": ["x"], "train": ["y"]}}')
    with pytest.raises(InputError, match=r"dataset.json: is no valid JSON \(the key 'train' stands twice"):
        read_stated(tmp_path)
