"""The drawing of the house: no import runs back up, and none in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from architecture import BESIDE, FLOORS, arrows, arrows_back, circles, floors, imports


@pytest.fixture(scope="module")
def modules(repository: Path) -> dict[str, set[str]]:
    return imports(repository)


@pytest.fixture(scope="module")
def house(modules: dict[str, set[str]]) -> dict[str, set[str]]:
    return arrows(modules)


def test_no_arrow_runs_back_up(house):
    assert {"clips", "method", "hub", "downstream", "datasets", "tools"} <= set(house)
    assert sum(map(len, house.values())) > 50, "imports are not read any more"
    assert arrows_back(house) == []


def test_every_room_has_a_floor_and_every_floor_its_rooms(house):
    assert {name for names in FLOORS for name in names} == set(house)


def test_no_circle(house):
    assert circles(house) == []


def test_no_circle_of_modules(modules):
    assert {"superflow.clips.batch", "superflow.datasets.card", "superflow.tools.main"} <= set(modules)
    assert circles(modules) == []


def test_circles_of_modules_are_seen_wherever_the_import_stands(tmp_path):
    for name in ("superflow", *BESIDE):
        (tmp_path / name).mkdir()
    (tmp_path / "superflow" / "__init__.py").touch()
    (tmp_path / "superflow" / "card.py").write_text(
        "from .errors import InputError\n\ndef read():\n    from . import frame\n"
    )
    (tmp_path / "superflow" / "frame.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .datasets.store import Store\n"
    )
    (tmp_path / "superflow" / "errors.py").write_text("InputError = ValueError\n")
    (tmp_path / "datasets" / "store.py").write_text("from ..card import read\n")
    drawn = imports(tmp_path)
    card, frame, store = (f"superflow.{name}" for name in ("card", "frame", "datasets.store"))
    assert circles(drawn) == [f"{card} <-> {store}", f"{card} <-> {frame}", f"{store} <-> {frame}"]
    assert arrows(drawn)["card"] == {"errors", "frame"}


def test_what_the_figures_mean():
    drawing = {"a": {"b", "c"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert circles(drawing) == ["b <-> c"]
    assert floors(drawing) == 2  # the circle is one floor
    assert floors({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == 3
    assert arrows_back({"geometry": {"tools"}, "tools": {"geometry"}}) == ["geometry -> tools"]
    assert arrows_back({"lidar": {"datasets"}, "datasets": set()}) == ["lidar -> datasets"]  # side by side


def test_formats_know_no_log_and_sets_no_own_logs(repository):
    """`datasets/formats/` reads files for whoever lists them; sets and own logs list, and neither needs the other."""
    allowed = {
        "formats": {"formats"},
        "sets": {"formats", "corruptions", "sets"},
        "own_logs": {"formats", "own_logs"},
    }
    for folder, goals in allowed.items():
        files = sorted((repository / "datasets" / folder).rglob("*.py"))
        assert files
        found = {goal for file in files for goal in folders_of_datasets(file, repository / "datasets")}
        assert found - {""} <= goals, folder
        assert folder != "formats" or "" not in found, "formats read files and know nothing of a log"


def folders_of_datasets(file, room):
    """Folders of the datasets room that a file imports from; "" is the room itself."""
    depth = len(file.relative_to(room).parts) - 1
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= depth + 1:
            here = file.parent.relative_to(room).parts[: depth - node.level + 1]
            parts = (*here, *(node.module or "").split("."))
            yield parts[0] if (room / parts[0]).is_dir() else ""


def test_no_set_is_built_anew_for_each_element(repository):
    """As in ``[row for row in rows if row not in set(others)]``, which takes minutes for the scans of a large log."""
    wrong = []
    for room in ("datasets", "camera", "lidar", "superflow", "tools"):
        for path in sorted((repository / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for test in (test for each in getattr(node, "generators", ()) for test in each.ifs):
                    wrong += [
                        f"{path.relative_to(repository)}:{part.lineno}: {ast.unparse(part)}"
                        for part in ast.walk(test)
                        if isinstance(part, ast.Compare)
                        and isinstance(part.ops[0], ast.In | ast.NotIn)
                        and isinstance(built := part.comparators[0], ast.Call)
                        and ast.unparse(built.func) in ("set", "frozenset", "list", "tuple", "sorted")
                    ]
    assert not wrong, "name it before: datasets.selection.without, or a set of its own"
