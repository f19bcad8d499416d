"""The plans that compare methods: every arm is another config, builds, and has the terms that its name says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from small_batch import Fixed, make_clip

from superflow.benchmark.places import logs as places_logs
from superflow.benchmark.places.backbones import PlannedBackbone
from superflow.benchmark.places.logs import Features, features_folder, prepare_sources
from superflow.benchmark.places.plan import NO_SOURCE
from superflow.benchmark.places.plan_file import load_places_plan
from superflow.benchmark.plan_file import find_plan
from superflow.clips.batch import collate
from superflow.engine.config import load_config
from superflow.engine.registry import as_plain
from superflow.lidar.encoder import LidarEncoder
from superflow.method.pretrainer import Pretrainer

PLANS = ("ablations", "peers")
ARMS = [
    (name, arm)
    for name in PLANS
    for arm, entry in load_places_plan(find_plan(Path(name))).arms.items()
    if entry.kind == "pretrained"
]
ABLATED = "pretrain/superflowpp_small.py"


def plan_of(name):
    return load_places_plan(find_plan(Path(name)))


def config_of(name, arm, out, source="made"):
    plan = plan_of(name)
    return PlannedBackbone(plan, source, arm, 0, out).config()


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_every_arm_builds_and_learns(name, arm, tmp_path):
    """A step over a small batch, whose teacher has three scales as that of all arms has."""
    model = as_plain(config_of(name, arm, tmp_path).model)
    model.pop("type")
    torch.manual_seed(0)
    pretrainer = Pretrainer(LidarEncoder(**model.pop("student")), Fixed(), **model)
    losses = pretrainer.loss(collate([make_clip(0), make_clip(1)]))
    losses["loss"].backward()
    assert math.isfinite(float(losses["loss"].detach()))
    assert {entry["type"] for entry in model["objectives"]} <= set(losses)
    assert all(p.grad is not None for p in pretrainer.student.parameters())


@pytest.mark.parametrize("name", PLANS)
def test_no_two_arms_are_the_same(name, tmp_path):
    plan = plan_of(name)
    for source in (NO_SOURCE, *plan.sources):
        arms = [arm for where, arm in plan.backbones() if where == source]
        planned = [PlannedBackbone(plan, source, arm, 0, tmp_path) for arm in arms]
        configs = [each.config() for each in planned]
        if source == NO_SOURCE:
            made = [str(as_plain(config.model.student)) for config in configs]
        else:
            made = [each.config_hash(config) for each, config in zip(planned, configs)]
        assert len(set(made)) == len(arms)


def test_an_ablation_changes_what_it_says(tmp_path):
    whole = load_config(ABLATED)
    terms = {entry["type"]: dict(entry) for entry in as_plain(whole.model.objectives)}
    lacking = {
        "without dense-to-sparse": {"dense_to_sparse"},
        "without the temporal term (FCL)": {"temporal"},
        "without the cross-sensor term": {"cross_temporal"},
        "without an image teacher (FCL, dense-to-sparse)": {"spatial", "cross_temporal"},
        "spatial term alone": {"temporal", "cross_temporal", "dense_to_sparse"},
    }
    steps = set()
    for arm, entry in plan_of("ablations").arms.items():
        if entry.kind != "pretrained":
            continue
        config = config_of("ablations", arm, tmp_path)
        steps.add(config.train_cfg.max_iters)
        found = {entry["type"]: dict(entry) for entry in as_plain(config.model.objectives)}
        # what stays has the options of the config
        assert found == {name: terms[name] for name in terms if name not in lacking.get(arm, ())}, arm
        assert config.model.region.scope == ("camera" if arm == "without view consistency" else "clip")
    assert len(steps) == 1


def test_arms_may_read_other_features_which_are_prepared_for_them_alone(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("superflow.datasets.index.LogIndex.open", lambda folder: folder)
    monkeypatch.setattr(places_logs, "prepare_providers", lambda *given, **options: None)
    monkeypatch.setattr(
        places_logs,
        "prepare_features",
        lambda index, frames, **options: made.append(
            (options["folder"].name, options["teacher"], options["components"])
        ),
    )
    plan = plan_of("peers")
    usual, whole = (
        ("efficientnet_lite0", "efficientnet_lite0", 64),
        ("efficientnet_lite0_all", "efficientnet_lite0", None),
    )
    prepare_sources(plan, ["made"], tmp_path, jobs=1, arms=["SLidR", "after HilDA"])
    assert made == [usual, whole]
    made.clear()
    prepare_sources(plan, ["made"], tmp_path, jobs=1, arms=["SLidR", "random"])
    assert made == [usual]
    made.clear()
    prepare_sources(plan, ["made"], tmp_path, jobs=1, arms=["random"])
    assert made == []
    plan = plan_of("ablations")
    prepare_sources(plan, ["made"], tmp_path, jobs=1, arms=["teacher DINOv2-S (embedded)"])
    assert made == [("dinov2_small_embedded", "dinov2_small_embedded", 64)]
    config = config_of("ablations", "teacher DINOv2-S (embedded)", tmp_path)
    own = features_folder(plan, plan.sources["made"], tmp_path, features=Features("dinov2_small_embedded"))
    assert config.train_dataloader.dataset.views.features == str(own)


def test_controls_of_other_students_are_those_students(tmp_path):
    plan = plan_of("ablations")
    for size in ("half as wide", "twice as wide", "of depth 18, half as wide"):
        control = PlannedBackbone(plan, NO_SOURCE, f"random, {size}", 0, tmp_path).config()
        trained = config_of("ablations", f"student {size}", tmp_path)
        assert as_plain(control.model.student) == as_plain(trained.model.student)


def test_all_that_was_asked_for_stands_among_the_peers():
    configs = {Path(arm.config).stem for arm in plan_of("peers").arms.values()}
    asked = "ppkt slidr st_slidr after_seal scalr superflow superflow_no_views superflowpp"
    asked += " after_hilda after_dos after_utonia"
    assert {f"{name}_small" for name in asked.split()} <= configs
