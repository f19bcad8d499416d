"""The drawing of the house: no import runs back up, and none in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest
from architecture import FLOORS, arrows, arrows_back, circles, floors


@pytest.fixture(scope="module")
def house(repository: Path) -> dict[str, set[str]]:
    return arrows(repository)


def test_no_arrow_runs_back_up(house):
    assert {"clips", "method", "hub", "downstream", "datasets", "tools"} <= set(house)
    assert sum(map(len, house.values())) > 50, "imports are not read any more"
    assert arrows_back(house) == []


def test_every_room_has_a_floor_and_every_floor_its_rooms(house):
    assert {name for names in FLOORS for name in names} == set(house)


def test_no_circle(house):
    assert circles(house) == []


def test_what_the_figures_mean():
    drawing = {"a": {"b", "c"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert circles(drawing) == ["b <-> c"]
    assert floors(drawing) == 2  # the circle is one floor
    assert floors({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == 3
    assert arrows_back({"geometry": {"tools"}, "tools": {"geometry"}}) == ["geometry -> tools"]
    assert arrows_back({"lidar": {"datasets"}, "datasets": set()}) == ["lidar -> datasets"]  # side by side
