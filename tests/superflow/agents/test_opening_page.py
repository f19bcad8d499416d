"""The page that opens the room: it names every file there is and none else, and what it shows runs."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import superflow
import superflow.agents
from superflow.datasets.index import LogIndex

PAGE = superflow.agents.__doc__
ROOM = Path(superflow.agents.__file__).parent


def test_every_file_has_its_place():
    there = {path.name if path.is_file() else f"{path.name}/" for path in ROOM.iterdir()}
    there -= {"__init__.py", "__pycache__/"}
    named = set(re.findall(r"``([\w]+(?:\.py|/))``", PAGE))
    inside = {"bootcamp.py", "families/", "export.py"}
    assert all((ROOM / "bootcamps" / name).exists() for name in inside)
    assert named - inside - {"tools/"} == there


def test_what_it_shows_runs(small_index):
    pytest.importorskip("transformers", reason="needs the extra agents")
    rooms = {
        "bootcamps.registry": "families",
        "query_answer": "answer",
        "query_parse": "parse_query",
        "scene_log": "scene_of",
        "vlm": "build",
        "vlm.language": "load_language_model",
    }
    names = {name: getattr(import_module(f"superflow.agents.{room}"), name) for room, name in rooms.items()}
    names |= {"LogIndex": LogIndex, "superflow": superflow}
    code = "\n".join(line.strip() for line in PAGE.splitlines() if line.startswith("    "))
    assert code.count("\n") == 7
    exec(code.replace("work_dirs/quickstart/prepared", str(small_index.folder)), names)
    assert names["counted"] == sum(o.category == "car" for o in names["scene"].objects if ahead(o))
    assert names["score"] == float(names["case"]["gold"] == 2)
    assert "How many" in names["prompt"]
    assert names["model"].config.tower_config.channels == superflow.load("street-tiny").out_channels


def ahead(thing) -> bool:
    """Within 30 degrees of straight ahead."""
    x, y, _ = thing.center
    return x > 0 and abs(y) < x * 3**-0.5
