"""`superflow find` over a whole made log: what it prints against the log's own tables, pictures, and how it ends."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from superflow.agents.find import scenes_of
from superflow.datasets.index import LogIndex
from superflow.tools.find import main


@pytest.fixture
def prepared(small_index) -> Path:
    """Two scenes of four key frames with boxes."""
    return small_index.folder


def near(prepared, metres):
    """Token of each key frame -> distances up to ``metres`` of its boxes from the vehicle, in the world."""
    index = LogIndex.open(prepared)
    found = {}
    for row in index.rows():
        frame, boxes = index.frame(int(row), cameras=()), index.boxes(int(row))
        offset = (boxes.centers - frame.ego_to_world[:3, 3]) @ frame.ego_to_world[:3, :3]
        distances = sorted(d for d in np.hypot(offset[:, 0], offset[:, 1]) if d <= metres)
        if distances:
            found[frame.token] = distances
    return found


def test_matches_are_those_of_the_tables(prepared, capsys):
    limit = 25.0
    assert (
        main(["--index", str(prepared), f"an object within {limit} m of me", "--json", "--min-points", "0"])
        == 0
    )
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    wanted = near(prepared, limit)
    assert 0 < len(wanted) == len(lines)
    assert {line["token"] for line in lines} == set(wanted)
    for line in lines:
        distances = sorted(math.hypot(*o["center"][:2]) for o in line["objects"])
        np.testing.assert_allclose(distances, wanted[line["token"]], atol=1e-6)
    assert "looking for: an object within 25 m of me" in shown.err
    assert f"{len(lines)} of 8 scans match" in shown.err


def test_a_match_is_a_line_and_a_picture(prepared, tmp_path, capsys):
    arguments = ["--index", str(prepared), "an object", "--min-points", "0", "--frames", "scene-0001"]
    assert main([*arguments, "--pictures", str(tmp_path), "--max-pictures", "1"]) == 0
    shown = capsys.readouterr()
    first = shown.out.splitlines()[0]
    assert first.startswith("scene-0001 0 ")
    assert " m " in first
    (picture,) = tmp_path.iterdir()
    assert str(picture) in shown.err
    image = cv2.imread(str(picture))[:, :800, ::-1]
    red = (np.abs(image.astype(int) - (255, 92, 92)).max(axis=2) < 12).sum()
    assert red > 20  # the outline of what was found


def test_a_long_search_tells_how_far_it_is(prepared):
    told = []
    index = LogIndex.open(prepared)
    for _ in scenes_of(index, index.rows(), progress=lambda *how_far: told.append(how_far)):
        pass
    assert told == [("looking at scans", done, 8) for done in range(9)]


def test_no_match_is_no_error(prepared, capsys):
    assert main(["--index", str(prepared), "at least 40 buses"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "0 of 8 scans match" in shown.err


@pytest.mark.parametrize(
    ("query", "said"), [("a dragon", "at character 3 stands 'dragon'"), ("how many cars", "is a question")]
)
def test_what_cannot_be_found_is_said(prepared, capsys, query, said):
    assert main(["--index", str(prepared), query]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--max-range", "nan"), ("--max-range", "0"), ("--min-points", "-1")])
def test_limits_that_are_none_are_refused(prepared, capsys, option):
    with pytest.raises(SystemExit):
        main(["--index", str(prepared), "a car", *option])
    assert f"argument {option[0]}: is '{option[1]}'; give a" in capsys.readouterr().err


def test_whoever_reads_one_line_sees_no_traceback(prepared):
    code = "import sys; from superflow.tools.find import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--index", str(prepared), "an object", "--min-points", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
    assert process.returncode == 141
