"""Which scenes and frames k % leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from superflow.datasets.card import CARDS, DatasetCard, load_card
from superflow.datasets.selection import every_nth_scene
from superflow.downstream.fractions import (
    fraction_rows,
    percent_rows,
    read_tokens,
    write_tokens,
)
from superflow.errors import InputError, MissingFileError


def test_scenes_are_counted_from_one_in_file_order():
    scenes = [f"scene-{number}" for number in range(700)]
    # the rule as published code walks it: a counter that starts at one
    kept = [name for counter, name in enumerate(scenes, start=1) if counter % 100 == 0]
    assert every_nth_scene(scenes, 1) == kept
    assert len(kept) == 7
    assert every_nth_scene(["z", "a", "m", "b"], 50) == ["a", "b"], "file order, not sorted"
    assert every_nth_scene(scenes, 100) == scenes


def test_rows_of_a_log(log):
    assert fraction_rows(log, 50) == [6, 7, 8, 9, 10, 11]
    assert fraction_rows(log, 50, rule="frame") == [0, 2, 4, 6, 8, 10]
    assert fraction_rows(log, 25, rule="frame", frames=["a"]) == [0, 4]
    with pytest.raises(InputError, match="1 % of 2 scenes is less than one"):
        fraction_rows(log, 1)
    with pytest.raises(InputError, match='"scenes" is unknown'):
        fraction_rows(log, 50, rule="scenes")


def test_a_percentage_goes_by_the_rule_that_the_card_of_the_set_states(log):
    rows = [9, 0, 2, 3, 5, 7, 11]
    assert percent_rows(log, rows, 50) == ([0, 3, 7, 11], "every 2. scan from the first")
    log.card.fractions = {"of": "scans", "source": "theirs"}
    assert percent_rows(log, rows, 50) == ([0, 3, 7, 11], "every 2. scan from the first (theirs)")
    log.card.fractions = {"of": "scenes", "source": "theirs"}
    # of a and b, counted from one
    assert percent_rows(log, rows, 50) == ([7, 9, 11], "every 2. scene (theirs)")
    assert percent_rows(log, [0, 2, 3], 100)[0] == [0, 2, 3]
    found, rule = percent_rows(log, rows, 25)
    assert found == [0, 7]
    assert (
        rule == "every 4. scan from the first, for the 2 scenes are too few for the published rule (theirs)"
    )


def test_published_rules_stand_on_the_cards_and_leave_their_hashes_alone(tmp_path):
    assert load_card("nuscenes").fractions["of"] == "scenes"
    assert load_card("semantickitti").fractions["of"] == "scans"
    assert load_card("waymo").fractions == {}
    card = load_card("nuscenes")
    assert replace(card, fractions={}).hash == card.hash
    assert DatasetCard.from_dict(card.to_dict()).fractions == card.fractions
    assert "fractions" not in load_card("waymo").to_dict()
    content = yaml.safe_load((CARDS / "semantickitti.yaml").read_text())
    content["fractions"] = {"of": "points", "source": "x"}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"wrong.yaml: fractions must say what is counted, scenes or scans"):
        load_card(tmp_path / "wrong.yaml")


@pytest.mark.parametrize("percent", [0, -5, 30, 150])
def test_impossible_percentages(percent):
    with pytest.raises(InputError, match=r"no whole number|every-n-th"):
        every_nth_scene(["a", "b"], percent)


def test_lists_are_text_and_come_back(tmp_path):
    path = tmp_path / "one_percent.txt"
    write_tokens(path, ["b", "a"], note="every 2nd scene\nof four")
    assert path.read_text() == "# every 2nd scene of four\nb\na\n"
    assert read_tokens(path) == ["b", "a"]
    path.write_text("a\nb\na\n")
    with pytest.raises(InputError, match="token a is listed twice"):
        read_tokens(path)
    with pytest.raises(
        MissingFileError, match="there is no such file; write a list of one token a line there"
    ):
        read_tokens(tmp_path / "none.txt")
