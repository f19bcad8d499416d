"""Either server is killed while it is asked: every request ends with an answer or an error, and both come back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra agents")
from superflow.tools import serve_check

REPOSITORY = Path(__file__).resolve().parents[4]


def test_killed_servers_lose_nothing_silently(folder, small_index, tmp_path, monkeypatch, capsys):
    """The whole check, short: one kill of each server while four clients ask."""
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", paths)  # of the servers
    given = [
        "--model",
        str(folder),
        "--index",
        str(small_index.folder),
        "--json",
        str(tmp_path / "check.json"),
    ]
    few = [
        "--clients",
        "2",
        "--requests",
        "4",
        "--kills",
        "2",
        "--questions",
        "3",
        "--features",
        "float32",
        "--patience",
        "900",
    ]
    assert serve_check.main([*given, *few]) == 0
    printed = capsys.readouterr()
    for of in ("perception", "language"):
        assert f"killed the {of} server" in printed.err
    figures = json.loads((tmp_path / "check.json").read_text())
    assert figures["faults"] == []
    assert figures["levels"][0]["answered"] == 4
    assert [each["killed"] for each in figures["kills"]] == ["", "perception", "language"]
    assert all(each["answered"] >= 2 for each in figures["kills"])
    assert "broken off" not in figures["kills"][1]  # the one that is asked was there all the time
    known = {"killed", "answered", "502", "503", "broken off"}
    assert all(set(each) <= known for each in figures["kills"])
    assert figures["bfloat16"]["questions"] == 3


def test_what_it_does_not_take(capsys):
    assert serve_check.main(["--run", "nowhere"]) == 2
    assert "holds no model; train one with superflow ask" in capsys.readouterr().err
