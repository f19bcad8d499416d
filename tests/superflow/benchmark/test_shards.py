"""Pieces of a benchmark in processes and on a cluster: each ends by itself."""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from superflow.benchmark import shards
from superflow.benchmark.places.plan_file import load_places_plan
from superflow.benchmark.places.run import places_rows, prepare_places
from superflow.benchmark.plan_file import find_plan
from superflow.benchmark.shards import run_shards
from superflow.camera.cache import FeatureCache
from superflow.camera.superpixels.store import read_superpixels
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError
from superflow.hub.backbone import BackboneCard, save_backbone
from superflow.together import usable_cores
from superflow.tools.benchmark import main

GOOD, WRONG = partial(math.sqrt, 4.0), partial(math.sqrt, -1.0)
KILLED = partial(os._exit, 9)  # as if the system had ended it
DRIVE = {"scenes": 2, "val_scenes": 1, "seconds": 1.0, "lidar_hz": 2, "image_size": [64, 112]}
PLACES = {
    "logs": {"made": {"drive": DRIVE}},
    "sources": {"made": {"log": "made", "frames": "train", "superpixels": {"slic": {}}}},
    "arms": {"SuperFlow++": {"kind": "pretrained", "config": "pretrain/superflowpp_small.py"}},
    "evaluations": {"made": {"log": "made", "train": "train", "evaluate": "val"}},
    "measures": {"probe": {}},
}


def outcome(pairs) -> dict:
    return {item: found for item, found in pairs}


def check(found: dict) -> None:
    assert found[GOOD] == 2.0
    assert isinstance(found[WRONG], ValueError)
    assert isinstance(found[KILLED], BaseException)
    assert len(found) == 3


def test_neither_an_error_nor_a_killed_process_takes_others_with_it():
    found = outcome(run_shards(operator.call, [KILLED, WRONG, GOOD], jobs=2))
    check(found)
    assert "its process was killed" in str(found[KILLED])


def test_pieces_that_wait_do_not_begin_once_the_caller_has_stopped(tmp_path):
    paths = [tmp_path / str(number) for number in range(5)]
    pieces = run_shards(operator.call, [partial(path.touch) for path in paths], jobs=1)
    next(pieces)
    pieces.close()  # as Ctrl-C does
    assert [path.exists() for path in paths] in ([True] + [False] * 4, [True, True] + [False] * 3)


def test_a_result_that_is_false_is_one():
    assert outcome(run_shards(operator.call, [float], jobs=1)) == {float: 0.0}


@pytest.mark.parametrize(("at_work", "cores"), [(1, 4), (2, 4), (3, 2), (8, 1), (9, 1), (0, 4)])
def test_a_process_may_use_the_cores_that_the_others_leave(monkeypatch, at_work, cores):
    monkeypatch.setattr(shards, "usable_cores", lambda: 8)
    assert shards.own_cores() == 1  # no process of these
    monkeypatch.setattr(shards, "_running", SimpleNamespace(value=at_work))
    assert shards.own_cores() == cores


def test_a_process_alone_knows_that_it_is():
    assert outcome(run_shards(operator.call, [shards.own_cores], jobs=1)) == {
        shards.own_cores: min(usable_cores(), 4)
    }


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--ray local: ray is not installed .*superflow-lidar\[ray\]"):
        next(run_shards(operator.call, [GOOD], jobs=1, ray="local"))


def test_an_address_without_a_cluster_is_one_sentence():  # before one is started, which it would find
    pytest.importorskip("ray", reason="a cluster needs ray, which the extra test-agents brings")
    with pytest.raises(
        InputError, match=r"--ray auto: no cluster answers there .* start one with `ray start"
    ):
        next(run_shards(operator.call, [GOOD], jobs=1, ray="auto"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster of two workers on this machine."""
    pytest.importorskip("ray", reason="a cluster needs ray, which the extra test-agents brings")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            started.add_node(num_cpus=1)
        yield started.address
    finally:
        started.shutdown()


def test_a_cluster_of_two_workers_does_the_same(cluster):
    check(outcome(run_shards(operator.call, [KILLED, WRONG, GOOD], jobs=1, ray=cluster)))


def written(folder: Path, plan: dict) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def test_a_cluster_prepares_what_pretraining_reads(cluster, tmp_path):
    """A log is made and indexed by a worker; then its images' features and superpixels are."""
    plan = load_places_plan(written(tmp_path, PLACES))
    prepare_places(plan, ["made"], ["made"], tmp_path, jobs=1, ray=cluster)
    index = LogIndex.open(tmp_path / "prepared/made")
    assert write_index(tmp_path / "drives/made", tmp_path / "here").hash == index.hash
    tokens = index.camera_tokens(index.rows("train"))
    assert len(tokens) == 2 * 6
    assert len(FeatureCache.open(index.folder / "features/efficientnet_lite0")) == len(tokens)
    folder = index.folder / "superpixels/slic"
    assert all(read_superpixels(folder, token, (64, 112)).max() > 0 for token in tokens)


def test_a_cluster_measures_what_this_machine_does(
    cluster, prepared_scans, make_encoder, tmp_path, monkeypatch
):
    """The rows of one set, but for what says how they came about."""
    weights = tmp_path / "mine.safetensors"
    save_backbone(make_encoder(), weights, BackboneCard("mine"))
    plan = yaml.safe_load(find_plan(Path("datasets")).read_text())
    plan["measures"]["probe"]["options"] = {"max_points": 300, "iterations": 5, "knn_points": 20}
    call = [str(written(tmp_path, plan)), "--log", f"one={prepared_scans.folder}", "--weights", str(weights)]
    call += ["--protocols", "lp,knn"]
    assert main([*call, "--ray", cluster, "--out", str(tmp_path / "there")]) == 0
    monkeypatch.setattr(shards, "_in_own_process", lambda work, item, running: work(item))
    assert main([*call, "--jobs", "1", "--out", str(tmp_path / "here")]) == 0
    here, there = (places_rows(tmp_path / name).read() for name in ("here", "there"))
    assert len(here) == len(there) == 2
    for ours, theirs in zip(here, there):
        differing = {name for name in ours if ours[name] != theirs[name]}
        assert differing <= {"mIoU", "best mIoU", "command", "CPU seconds of the measure", "seconds"}
        assert float(theirs["mIoU"]) == pytest.approx(float(ours["mIoU"]), abs=0.2)
