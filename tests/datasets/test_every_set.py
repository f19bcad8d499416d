"""The contract of a dataset, over the whole table of them: no test here names one."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from superflow.datasets.card import load_card
from superflow.datasets.catalogue import facts_of
from superflow.datasets.sets import DATASETS, prepare
from superflow.errors import MissingFileError
from superflow.tools import main as tools

every_set = pytest.mark.parametrize("name", DATASETS)


@every_set
def test_a_set_is_one_module_and_one_card(name):
    module = import_module(DATASETS[name])
    assert hasattr(module, "scans") != hasattr(module, "open_log")
    if hasattr(module, "scans"):
        assert list(signature(module.scans).parameters)[-3:] == ["root", "card", "report"]
    assert set(getattr(module, "SOURCES", {})) <= {"times", "poses", "calibration"}
    facts = facts_of(name)
    unknown = () if getattr(module, "OWN", False) else (facts.disk_gb, facts.unverified)
    for said in (facts.licence, facts.source, facts.ask, facts.tree, *unknown):
        assert said, "what a user must know before a download"
    assert facts.classes == len(load_card(name).classes)
    for label_set in facts.label_sets:
        card = load_card(name, label_set=label_set)
        assert set(card.class_of) <= set(card.categories.values())
        assert set(card.class_of.values()) == set(range(len(card.classes)))


@every_set
@pytest.mark.parametrize("other", ["nothing", "unlike"])
def test_a_wrong_tree_is_shown_beside_the_expected_one(name, other, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    if other == "unlike":
        (root / "pictures").mkdir()
        (root / "pictures/cat\x1b[31m.jpg").write_bytes(b"")
        (root / "notes.txt").write_text("")
    with pytest.raises(MissingFileError) as told:
        prepare(name, root, tmp_path / "out")
    said = str(told.value)
    first = facts_of(name).tree.splitlines()[0]
    assert f"expected:\n  {first}\n" in said
    want = ["  nothing"] if other == "nothing" else ["  notes.txt", r"  pictures/: cat\x1b[31m.jpg"]
    assert said.endswith(f"found in {root}:\n" + "\n".join(want))
    assert not (tmp_path / "out").exists()
    assert tools.main(["prepare", name, "--root", str(root), "--out", str(tmp_path / "out")]) == 2


def test_every_set_and_no_other_is_listed(capsys):
    assert tools.main(["prepare", "--list"]) == 0
    said = capsys.readouterr().out
    heads = [line.split(":")[0] for line in said.splitlines() if line and not line.startswith(" ")]
    assert heads == list(DATASETS)
    for name in DATASETS:
        facts = facts_of(name)
        cameras = ("those of your log",) if facts.cameras is None else facts.cameras
        assert all(part in said for part in (facts.licence, facts.ask, *cameras, *facts.unverified))
        assert ("disk space unknown" if facts.disk_gb is None else f"{facts.disk_gb:g} GB") in said


def test_every_set_stands_in_the_table_of_the_page(repository: Path):
    page = (repository / "docs/datasets.md").read_text(encoding="utf-8")
    missing = [name for name in DATASETS if f"| `{name}` |" not in page]
    assert not missing
