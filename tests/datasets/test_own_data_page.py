"""The page for people with their own log says what the reader does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from superflow.camera.projection import project
from superflow.datasets.card import load_card
from superflow.datasets.card_keys import LOG
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.merge import merge_sweeps
from superflow.datasets.sets.nuscenes import write_index
from superflow.datasets.sets.nuscenes.schema import TABLES


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "own_data.md").read_text(encoding="utf-8")


def block(page: str, kind: str) -> str:
    return re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)[1]


def test_the_fields_named_are_enough(page, small_log, tmp_path):
    """A log with only the fields of the page's table gives the same index content."""
    want = write_index(small_log.write(), tmp_path / "want")
    fields = {}
    for line in re.findall(r"^\| `(\w+)`.*\|$", page, re.MULTILINE):
        cells = re.search(rf"^\| `{line}`[^|]*\|(.*)\|$", page, re.MULTILINE)[1]
        fields[line] = set(re.findall(r"`(\w+)`", cells))
    assert {"scene", "sample", "sample_data", "category", "log"} <= set(fields)
    for name in list(small_log.tables):
        if name not in fields:
            del small_log.tables[name]
            (small_log.root / small_log.version / f"{name}.json").unlink()
            continue
        small_log.tables[name] = [
            {key: value for key, value in row.items() if key in fields[name]}
            for row in small_log.tables[name]
        ]
    assert write_index(small_log.write(), tmp_path / "index").hash == want.hash


def test_the_fields_named_are_those_that_are_read(page):
    """Neither a table nor a field of one is left out, and none is there that nobody reads."""
    table = page.split("| table | fields that are read |\n|---|---|\n")[1].split("\n\n")[0]
    named = dict(re.findall(r"^\| `(\w+)`[^|]*\|(.*)\|$", table, re.MULTILINE))
    fields = {name: re.findall(r"`(\w+)`", cell) for name, cell in named.items()}
    fields["sensor"] = [field for field in fields["sensor"] if field not in ("lidar", "camera")]  # values
    assert {name: sorted(row) for name, row in fields.items()} == {
        n: sorted(row) for n, row in TABLES.items()
    }


def test_every_key_of_the_dataset_json_is_explained(page):
    section = page.split("## `dataset.json`")[1].split("\n## ")[0]
    named = set(re.findall(r"[`\"](\w+)", section))
    assert set(LOG) <= named, "the page leaves out keys"


def test_the_dataset_json_is_taken(page, small_log, tmp_path):
    root = small_log.write()
    stated = json.loads(block(page, "json"))
    (root / "dataset.json").write_text(json.dumps(stated))
    index = write_index(root, tmp_path / "index")
    assert (index.card.name, index.card.licence) == (stated["name"], stated["licence"])
    assert index.rows("val").tolist() == index.rows("scene-0003").tolist()


def test_the_card_is_taken(page, tmp_path):
    text = block(page.split("## Classes of your own")[1], "yaml")
    (tmp_path / "my_card.yaml").write_text(text)
    card = load_card(tmp_path / "my_card.yaml")
    assert card.classes == ("vehicle", "ground")
    assert card.label_map[:7].tolist() == [255, 0, 0, 1, 1, 255, 255]
    assert yaml.safe_load(text)["name"] == card.name


def test_the_card_names_labels_that_come_without_categories(page, small_log, tmp_path):
    """Numbers 1 to 5 in the label files, no category.json, four columns in the axes of the program."""
    (tmp_path / "my_card.yaml").write_text(block(page.split("## Classes of your own")[1], "yaml"))
    for name in ("category", "instance", "sample_annotation"):
        del small_log.tables[name]
    raw = (np.arange(50) % 5 + 1).astype(np.uint8)
    for name, data in small_log.files.items():
        if name.startswith("lidarseg"):
            small_log.files[name] = raw.tobytes()
        elif name.endswith(".pcd.bin"):
            points = np.frombuffer(data, "<f4").reshape(-1, 5)[:, :4] / np.float32([1, 1, 1, 255])
            small_log.files[name] = points.tobytes()
    index = write_index(small_log.write(), tmp_path / "index", card=load_card(tmp_path / "my_card.yaml"))
    assert index.frame(0).labels.tolist() == [[0, 0, 1, 1, 255][i % 5] for i in range(50)]
    report = check_log(index, project=project)
    assert report.ok, report.problems
    assert report.categories == dict.fromkeys(["car", "truck", "road", "verge", "noise"], 80)


def test_the_python_lines_run(page, small_log, tmp_path, monkeypatch):
    write_index(small_log.write(), tmp_path / "prepared" / "my_log")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block(page, "python"), names)
    assert isinstance(names["index"], LogIndex)
    np.testing.assert_array_equal(names["dense"], merge_sweeps(names["clip"]))
    assert names["dense"].shape == (50, 6)
