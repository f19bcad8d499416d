"""docs/method.md says what the code does: every knob, default and test that it names exists."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from superflow.clips.clouds import ClipClouds
from superflow.clips.dataset import PretrainDataset
from superflow.clips.times import ClipTimes
from superflow.clips.views import TeacherViews
from superflow.engine.config import load_config, shipped_configs
from superflow.engine.keys import check_option
from superflow.engine.optim import OneCycleLR
from superflow.hub.backbone import BackboneCard
from superflow.method.objectives import OBJECTIVES
from superflow.method.pooling import region_options
from superflow.method.pretrainer import Pretrainer

# Keys whose "default" the page leaves open: they must be given.
REQUIRED = {"model.objectives", "model.student"}


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "method.md").read_text(encoding="utf-8")


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [re.split(r"\s*\|\s*", line.strip()[1:-1].strip()) for line in lines[2:]]


def parameters(prefix: str) -> dict[str, inspect.Parameter]:
    """What a key may name: arguments of what the code builds there."""
    functions = {
        "model": [Pretrainer.__init__],
        "data": [PretrainDataset.__init__],
        "data.times": [ClipTimes.__init__],
        "data.clouds": [ClipClouds.__init__],
        "data.views": [TeacherViews.__init__],
        "model.region": [region_options],
        "term": [base.__init__ for made in OBJECTIVES.values() for base in made.__mro__],
    }
    found: dict[str, inspect.Parameter] = {}
    for function in functions[prefix]:
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY or name in ("student", "teacher", "offsets", "size"):
                found.setdefault(name, parameter)
    if prefix == "term":  # what the pretrainer says
        del found["sizes"]
    return found


def test_every_knob_exists_with_its_default(page):
    knobs = rows(page, "Knobs")
    assert len(knobs) > 30
    for knob, key, default, *_ in knobs:
        prefix, _, name = key.strip("`").rpartition(".")
        parameter = parameters(prefix)[name]
        if default:
            assert parameter.default == ast.literal_eval(default.strip("`")), f"{knob}: default of {key}"
        else:
            assert key.strip("`") in REQUIRED


def test_every_knob_can_be_set_on_the_command_line(page):
    config = load_config("pretrain/superflow.py")._cfg_dict
    config.model.objectives = [{"type": name} for name in OBJECTIVES]
    for _, key, *_ in rows(page, "Knobs"):
        prefix, _, name = key.strip("`").partition(".")
        owners = {"model": ["model"], "data": ["train_dataloader.dataset"]}.get(prefix) or [
            f"model.objectives.{place}"
            for place, made in enumerate(OBJECTIVES.values())
            if any(name in inspect.signature(base.__init__).parameters for base in made.__mro__)
        ]
        assert owners, key
        for owner in owners:
            check_option(config, f"{owner}.{name}")


@pytest.mark.parametrize(
    "prefix", ["model.region", "term", "data", "data.times", "data.clouds", "data.views", "model"]
)
def test_no_knob_is_left_out(page, prefix):
    named = {key.strip("`") for _, key, *_ in rows(page, "Knobs")}
    silent = {  # said elsewhere: sizes of a run, not of the method
        "data": {"frames", "limits", "times", "clouds", "views"},
        "data.clouds": {"max_points", "keep_frames", "limits", "raw_intensity"},
        "data.views": {"superpixels"},
        "model": {"features", "num_classes", "region"},
    }.get(prefix, set())
    assert {f"{prefix}.{name}" for name in set(parameters(prefix)) - silent} <= named


def test_the_published_config_has_the_switches_as_the_page_says_they_were_published(page):
    config = load_config("pretrain/superflow.py")
    checked = 0
    for _, key, default, published, *_ in rows(page, "Knobs"):
        prefix, _, name = key.strip("`").rpartition(".")
        switch = re.match(r"(True|False)\b", published)
        if switch and prefix.partition(".")[0] in ("term", "data"):
            checked += 1
            data = config.train_dataloader.dataset
            part = data.get(prefix.partition(".")[2], {}) if "." in prefix else data
            for entry in config.model.objectives if prefix == "term" else [part]:
                used = entry.get(name, ast.literal_eval(default.strip("`")))
                assert used == ast.literal_eval(switch[1]), key
    assert checked >= 8


def test_the_published_schedule_and_optimizer():
    config = load_config("pretrain/superflow.py")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.optim_wrapper.optimizer.lr)
    schedule = OneCycleLR(
        optimizer, end=1000, **{k: v for k, v in config.param_scheduler.items() if k != "type"}
    )
    rates = [schedule.peaks[0] * schedule.factor(step) for step in (0, 199, 999)]
    assert rates == pytest.approx([4e-4, 0.01, 4e-6])
    assert config.optim_wrapper.clip_grad is None


def test_every_objective_is_explained(page):
    for heading in ("Objectives", "Sources of the objectives"):
        assert {cells[0].strip("`") for cells in rows(page, heading)} == set(OBJECTIVES), heading


def test_every_pretraining_config_is_explained(page):
    named = {cells[0].strip("`"): cells for cells in rows(page, "What the configs do")}
    own = re.compile("pretrain/(?!on_)")  # those of each set are on the page of datasets: test_set_configs.py
    assert set(named) == set(filter(own.match, shipped_configs()))
    for name, (_, regions, terms, *_) in named.items():
        config = load_config(name)
        used = {objective["type"] for objective in config.model.get("objectives", [])}
        stated = {term for term in OBJECTIVES if term in re.split(r",? (?:and )?", terms)}
        if terms.startswith("all four"):
            stated |= {"spatial", "temporal", "cross_temporal", "dense_to_sparse"}
        if terms == "as published":
            stated |= {"spatial", "temporal", "dense_to_sparse"}
        assert used == stated, name
        size = re.match(r"([\d.]+) m cells", regions)
        if size:
            dataset = config.train_dataloader.dataset
            assert {part.cell_m for part in dataset.get("parts", [dataset])} == {float(size[1])}


def test_the_card_of_a_file_is_explained(page):
    named = {name for cells in rows(page, "The exported file") for name in re.findall(r"\w+", cells[0])}
    assert named == {field.name for field in fields(BackboneCard)}


def test_all_mistakes_are_there_and_their_guards_exist(page, repository):
    table = rows(page, "Mistakes that published code has made, and what guards against them")
    assert [int(cells[0]) for cells in table] == list(range(1, 52))
    files = (repository / "tests").rglob("test_*.py")
    defined = {
        name
        for path in files
        for name in re.findall(r"^ *def (test_mistake_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = {number: set(re.findall(r"`(test_mistake_\w+)`", guard)) for number, _, guard in table}
    assert set().union(*named.values()) - defined == set(), "the page names tests that do not exist"
    guarded = {int(name.split("_")[2]) for name in defined}
    assert guarded == {int(number) for number, tests in named.items() if tests}, (
        "guards that the page leaves out"
    )
    for number, tests in named.items():
        for test in tests:
            assert test.startswith(f"test_mistake_{int(number):02d}_")
