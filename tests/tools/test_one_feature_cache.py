"""The teacher's features are named once: what a run records is what it was trained on."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest

from superflow.camera.cache import FeatureCache
from superflow.tools.main import main

TRAIN = "train_dataloader.dataset"


def prepare(prepared, out, *options):
    asked = ["--index", str(prepared), "--out", str(out), *options]
    assert main(["prepare", "features", *asked]) == 0
    return out


@pytest.fixture(scope="module")
def caches(prepared_log, tmp_path_factory):
    """Folders of features by what differs from those of the prepared log (filter_bank, 32 x 64, 8 components)."""
    prepared, folder = prepared_log / "prepared", tmp_path_factory.mktemp("caches")
    usual = ["--teacher", "filter_bank", "--size", "32", "64", "--components", "8"]
    half = ["--frames", "scene-0003", "--fit-frames", "scene-0003"]
    made = {
        "components": prepare(prepared, folder / "four", *usual[:5], "--components", "4"),
        "size": prepare(prepared, folder / "wide", *usual[:2], "--size", "32", "96", *usual[5:]),
        "fit": prepare(prepared, folder / "other", *usual, *half),
        "teacher": folder / "renamed",
    }
    shutil.copytree(prepared / "features" / "filter_bank", made["teacher"])
    file = made["teacher"] / "features.json"
    record = json.loads(file.read_text())
    record["key"]["teacher"]["name"] = "another"
    file.write_text(json.dumps(record))
    return {**made, "usual": prepared / "features" / "filter_bank"}


def train(prepared_log, work, *further):
    options = [
        *("train_cfg.max_iters=1", "train_dataloader.batch_size=1", "model.student.backbone.width=0.25"),
        *(f"{TRAIN}.frames=scene-0001", f"{TRAIN}.views.size=(36,64)", *further),
    ]
    data = ["--data-root", str(prepared_log / "prepared"), "--cfg-options", *options]
    return main(["train", "pretrain/ppkt_small.py", "--work-dir", str(work), *data])


@pytest.mark.parametrize(("made", "components"), [("usual", 8), ("components", 4)])
def test_the_record_is_of_the_features_that_the_data_read(caches, prepared_log, tmp_path, made, components):
    assert train(prepared_log, tmp_path / "run", f"{TRAIN}.views.features={caches[made]}") == 0
    teacher = json.loads((tmp_path / "run" / "result.json").read_text())["superflow"]["teacher"]
    assert teacher["name"] == "filter_bank"
    assert teacher["cached"]["components"] == components


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("components", r"have other components (4 and 8); leave it out, the data say it"),
        ("size", r"have other size ([32, 96] and [32, 64]); leave it out"),
        ("fit", r"have other fit_images ("),
        ("teacher", r"have other teacher (another, "),
    ],
)
def test_a_second_name_must_mean_the_same(caches, prepared_log, tmp_path, capsys, made, message):
    named = [f"{TRAIN}.views.features={caches['usual']}", f"model.features={caches[made]}"]
    assert train(prepared_log, tmp_path / "run", *named) == 2
    said = capsys.readouterr().err
    assert f"model.features: {caches[made]} and {caches['usual']} of {TRAIN}.views.features {message}" in said
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize("path", ["the same", "by another way", "a copy"])
def test_a_second_name_of_the_same_features_is_welcome(caches, prepared_log, tmp_path, path):
    named = caches["usual"]
    if path == "by another way":
        named = named / ".." / named.name
    if path == "a copy":
        named = shutil.copytree(named, tmp_path / "copy")
    options = [f"{TRAIN}.views.features={caches['usual']}", f"model.features={named}"]
    assert train(prepared_log, tmp_path / "run", *options) == 0


def test_images_without_features_are_counted_before_the_first_step(prepared_log, tmp_path, capsys):
    """A log has grown, or a builder was stopped: the command of the message makes what lacks, and nothing else."""
    usual = ["--teacher", "filter_bank", "--size", "32", "64", "--components", "8"]
    cache = prepare(prepared_log / "prepared", tmp_path / "some", *usual, "--frames", "scene-0001[:2]")
    before = {path: path.read_bytes() for path in cache.rglob("*.safetensors")}
    asked = f"{TRAIN}.views.features={cache}"
    assert train(prepared_log, tmp_path / "run", asked) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{cache}: 4 of the 8 images of the chosen frames have no features (first: scene-0001-CAM_" in said
    assert not list((tmp_path / "run").glob("*.pth"))
    command = re.search("`superflow (.*)`", said)[1]
    assert main(shlex.split(command)) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert len(FeatureCache.open(cache)) == 8
    assert train(prepared_log, tmp_path / "run", asked) == 0


HELD_OUT = """
_base_ = ["{bases}/runtime.py", "{bases}/onecycle.py", "{bases}/small_pretrain.py"]
model = dict(
    student=dict(backbone=dict(width=0.25)), objectives=[dict(type="point_contrast")], pixels="hit"
)
shared = dict(
    type="PretrainDataset",
    index="{prepared}",
    times=dict(offsets=(0.0,)),
    clouds=dict(sweeps=0),
    region="world_cell",
)
size = (36, 64)
train_dataloader = dict(
    batch_size=1, dataset=dict(frames="scene-0001", views=dict(features="{train}", size=size), **shared)
)
val_dataloader = dict(
    batch_size=1, dataset=dict(frames="scene-0003[:2]", views=dict(features="{val}", size=size), **shared)
)
train_cfg = dict(max_iters=1)
"""


def test_a_held_out_set_reads_features_made_alike(caches, prepared_log, repository, tmp_path, capsys):
    """A folder of its own is fine where its images were seen and reduced in the same way."""
    prepared = prepared_log / "prepared"
    usual = ["--teacher", "filter_bank", "--size", "32", "64", "--components", "8"]
    fit = ["--fit-frames", "scene-0001"]
    train = prepare(prepared, tmp_path / "train", *usual, "--frames", "scene-0001", *fit)
    every = prepare(prepared, tmp_path / "every", *usual, *fit)
    config = tmp_path / "held_out.py"

    def run(val):
        given = {"bases": repository / "configs" / "_base_", "prepared": prepared, "train": train, "val": val}
        text = HELD_OUT
        for name, value in given.items():
            text = text.replace(f"{{{name}}}", str(value))
        config.write_text(text)
        return main(["train", str(config), "--work-dir", str(tmp_path / "run")])

    assert run(every) == 0
    assert "loss" in json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert run(caches["fit"]) == 2
    assert "val_dataloader.dataset.views.features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("teacher", "features", "message"),
    [
        ("None", "None", "features: is not set, and without model.teacher"),
        ('dict(name="filter_bank")', '"{train}"', "features: holds features that were computed before"),
    ],
)
def test_images_and_features_are_not_confused(
    caches, prepared_log, repository, tmp_path, capsys, teacher, features, message
):
    given = {"bases": repository / "configs" / "_base_", "prepared": prepared_log / "prepared"}
    text = HELD_OUT.replace('features="{train}"', f"features={features}").replace(
        "objectives=", f"teacher={teacher}, objectives="
    )
    for name, value in {**given, "train": caches["usual"], "val": caches["usual"]}.items():
        text = text.replace(f"{{{name}}}", str(value))
    (tmp_path / "confused.py").write_text(text)
    assert main(["train", str(tmp_path / "confused.py"), "--work-dir", str(tmp_path / "run")]) == 2
    assert f"{TRAIN}.views.{message}" in capsys.readouterr().err
