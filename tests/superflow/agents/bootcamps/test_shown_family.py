"""The worked example of CONTRIBUTING: a file in the folder of families, found and examined as every other."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

from superflow.agents.bootcamps import families as folder
from superflow.agents.bootcamps.registry import families
from superflow.tools.make_questions import main

from . import answers_again, test_every_family

NAME = "fuller_side"
ROOT = Path(__file__).resolve().parents[4]


def fuller_side(objects, asked):
    """The answer a second time: signs are added up, with and without what is perhaps not there."""
    sides = [
        (1 if o.center[1] > 0 else -1 if o.center[1] < 0 else 0, o.points >= asked["min_points"])
        for o in objects
        if o.category == asked["category"]
    ]
    sure = sum(side for side, told in sides if told)
    doubtful = [side for side, told in sides if not told]
    if sure - doubtful.count(-1) > 0:
        return "left"
    return "right" if sure + doubtful.count(1) < 0 else None


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    place = tmp_path_factory.mktemp("families")
    page = (ROOT / "CONTRIBUTING.md").read_text().split("### A family of questions", 1)[1]
    (place / f"{NAME}.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "__path__", [*folder.__path__, str(place)])
        patch.setitem(answers_again.ANSWERS, NAME, fuller_side)
        families.cache_clear()
        yield families()[NAME]
    sys.modules.pop(f"{folder.__name__}.{NAME}")
    families.cache_clear()


CONTRACT = [
    test
    for name, test in inspect.getmembers(test_every_family, inspect.isfunction)
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["family"]
]


@pytest.mark.parametrize("test", CONTRACT, ids=lambda test: test.__name__)
def test_it_holds_what_every_family_must(family, test):
    test(family)


def test_all_of_the_contract_is_asked(family):
    assert len(CONTRACT) >= 11
    assert NAME in families()


def test_the_command_asks_it(family, tmp_path, capsys):
    out = tmp_path / "questions.jsonl"
    assert main(["--made", "20", "--count", "6", "--families", NAME, "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 6
    assert "On which side of the vehicle are there more " in lines[0]
