"""Plans, tables, and results that are not made twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from superflow.benchmark.one_log.arms import lookup_control, read_results, run_arm, run_arms
from superflow.benchmark.one_log.plan import Arm, Plan, load_plan
from superflow.benchmark.one_log.table import markdown, table
from superflow.datasets.index import LogIndex
from superflow.errors import InputError, MissingFileError
from superflow.files.writes import write_json
from superflow.lidar.encoder import LidarEncoder
from superflow.tools.main import main

RECORD = {
    "probe": {
        "scores": {
            "linear": {"miou": 20.0, "frequent_miou": 30.0, "accuracy": 70.0},
            "linear, new places": {"miou": 18.0},
            "knn": {"miou": 15.0},
        }
    },
    "votes": {
        "variants": {
            "offline": {"scores": {"miou": 21.5}, "control": {"miou": 21.0}},
            "causal": {"scores": {"miou": 21.25}},
        }
    },
    "cpu_seconds": {"train": 200.0},
}


def record(arm: str, seed: int, miou: float) -> dict:
    copy = json.loads(json.dumps(RECORD))
    copy["probe"]["scores"]["linear"]["miou"] = miou
    return {"arm": arm, "seed": seed, **copy}


@pytest.mark.parametrize("name", ["pandaset", "pandaset_viewpoint", "quickstart"])
def test_the_arms_of_shipped_plans_have_configs_that_take_their_options(name, tmp_path):
    from superflow.engine.config import load_config

    plan = load_plan(name)
    trained = [arm for arm in plan.arms if arm.config]
    assert trained
    for arm in trained:
        shared = plan.options.get("supervised" if arm.kind == "supervised" else "pretrained", {})
        config = load_config(arm.config, options={**shared, **arm.options}, work_dir=tmp_path)
        data, key = config.train_dataloader.dataset, "train_dataloader.dataset.viewpoint_m"
        if data.type == "PretrainDataset":
            data, key = data.get("clouds", {}), "train_dataloader.dataset.clouds.viewpoint_m"
        assert data.get("viewpoint_m", 0.0) == arm.options.get(key, 0.0)


def test_the_table_has_every_seed_and_their_mean():
    plan = Plan(arms=(Arm("raw coordinates", "raw"), Arm("random", "random", "x.py")))
    rows = table(plan, [record("random", 1, 12.0), record("random", 0, 10.0), record("other", 0, 99.0)])
    assert list(rows) == ["random"]
    assert rows["random"]["mIoU"] == [10.0, 12.0]
    assert rows["random"]["voted"] == [21.5, 21.5]
    text = markdown(rows)
    assert "| random | **11.0** (10.0 / 12.0) |" in text
    assert text.splitlines()[0].count("|") == text.splitlines()[2].count("|")


@pytest.fixture(scope="module")
def prepared(pandaset_root, tmp_path_factory):
    from superflow.datasets.sets.nuscenes import write_index

    return write_index(pandaset_root, tmp_path_factory.mktemp("prepared"), version="v1.0-mini").folder


def test_frames_without_labels_neither_train_nor_judge_a_probe(prepared, tmp_path, monkeypatch):
    bare = set(LogIndex.open(prepared).rows(["scene-9002[1:2]", "scene-9002[51:52]"]).tolist())
    labelled = LogIndex.has_labels
    monkeypatch.setattr(
        LogIndex, "has_labels", lambda self, row: int(row) not in bare and labelled(self, row)
    )
    plan = Plan(
        arms=(Arm("raw", "raw"),), train=["scene-9002[0:5]"], evaluate=["scene-9002[50:52]"], vote_frames=1
    )
    found = run_arm(plan, plan.arms[0], 0, prepared=prepared, out=tmp_path)
    assert found["probe"]["protocol"]["train_frames"] == 4
    assert found["probe"]["protocol"]["eval_frames"] == 1


def test_a_log_without_poses_is_probed_and_has_no_votes(prepared, tmp_path, monkeypatch, caplog):
    opened = LogIndex.open

    def without_poses(folder):
        index = opened(folder)
        index.has_poses = False
        return index

    monkeypatch.setattr(LogIndex, "open", without_poses)
    plan = Plan(arms=(Arm("raw", "raw"),), train=["scene-9002[0:3]"], evaluate=["scene-9002[50:52]"])
    found = run_arm(plan, plan.arms[0], 0, prepared=prepared, out=tmp_path)
    assert found["probe"]["scores"]["linear"]["miou"] > 0
    assert found["votes"] is None
    assert "without a pose of every scan there are no votes" in caplog.text
    assert table(plan, [found])["raw"]["voted"] == [None]


def test_the_look_up_control_stands_above_the_arms(prepared, tmp_path, monkeypatch):
    frames = {"train": ["scene-9002[0:3]"], "evaluate": ["scene-9002[50:51]"]}
    plan = Plan(arms=(Arm("random", "random", "x.py"),), new_places_m=0.5, **frames)
    control = lookup_control(plan, prepared=prepared, out=tmp_path)
    scores = control["probe"]["scores"]
    # labels carried by poses are nearly right where the log has been, and nothing where it has not
    assert scores["linear"]["miou"] > 2 * scores["linear, new places"]["miou"]
    monkeypatch.setattr("superflow.downstream.evaluation.lookup_scores", None)  # it is not made twice
    assert lookup_control(plan, prepared=prepared, out=tmp_path) == control
    with pytest.raises(InputError, match=r"was made with other train \(\['scene-9002\[0:3\]'\] instead of"):
        lookup_control(replace(plan, train=["scene-9002[0:4]"]), prepared=prepared, out=tmp_path)
    assert next(iter(table(plan, [record("random", 0, 10.0), control]))) == "label look-up, no network"
    assert lookup_control(replace(plan, new_places_m=None), prepared=tmp_path, out=tmp_path / "x") is None


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"evaluate": ["scene-0001[1:]"]}, "the plan: scan .* is in train and in evaluate"),
        ({"held_out": ["scene-0001"]}, "the plan: held_out must be a part of train that leaves scans"),
        ({"held_out": ["scene-0003"]}, "the plan: held_out must be a part of train that leaves scans"),
    ],
)
def test_frames_that_are_learned_from_and_judged_on_are_refused_before_the_work(
    prepared_scans, tmp_path, monkeypatch, frames, message
):
    def train(*given):
        raise AssertionError("it was trained")

    monkeypatch.setattr("superflow.benchmark.one_log.arms._train", train)
    arm = Arm("regression", "pretrained", "pretrain/regression_small.py")
    plan = Plan(arms=(arm,), train=["scene-0001"], evaluate=["scene-0003"])
    with pytest.raises(AssertionError, match="it was trained"):
        run_arm(plan, arm, 0, prepared=prepared_scans.folder, out=tmp_path)
    with pytest.raises(InputError, match=message):
        run_arm(replace(plan, **frames), arm, 0, prepared=prepared_scans.folder, out=tmp_path / "wrong")


def test_a_record_without_labels_leaves_its_cells_empty():
    plan = Plan(arms=(Arm("random", "random", "x.py"),))
    rows = table(
        plan, [{"arm": "random", "seed": 0, "probe": None, "votes": None, "cpu_seconds": {"train": 3.0}}]
    )
    assert rows["random"]["mIoU"] == [None]
    assert "3.0" in markdown(rows)


def test_a_finished_arm_is_not_run_again_and_not_taken_for_another(prepared, tmp_path):
    raw = Arm("raw", "raw")
    plan = Plan(arms=(raw,), train=["scene-9002[0:4]"], evaluate=["scene-9002[50:51]"], new_places_m=None)
    first = run_arm(plan, raw, 4, prepared=prepared, out=tmp_path)
    assert first["device"]
    assert first["peak_memory_mb"] > 0
    result = tmp_path / "raw" / "seed_4" / "benchmark.json"
    result.write_text(json.dumps({**first, "seed": 99}))
    assert run_arm(plan, raw, 4, prepared=prepared, out=tmp_path)["seed"] == 99
    with pytest.raises(
        InputError, match=r"was made with other vote_frames \(2 instead of 1\); choose another folder"
    ):
        run_arm(replace(plan, vote_frames=1), raw, 4, prepared=prepared, out=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": None}, "does not say of which arm and seed it is"),
        ({"seed": "0"}, "does not say of which arm and seed it is"),
        ({"probe": {"scores": {"linear": {"miou": "20"}}}}, "its mIoU is '20', no number"),
        ({"cpu_seconds": {"train": True}}, "its train CPU s is 'True', no number"),
    ],
)
def test_a_result_that_was_edited_is_named(prepared_scans, tmp_path, change, message):
    raw, log = Arm("raw", "raw"), prepared_scans.folder
    plan = Plan(arms=(raw,), train=["scene-0001"], evaluate=["scene-0003"], new_places_m=None)
    path = tmp_path / "raw" / "seed_0" / "benchmark.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**record("raw", 0, 10.0), **change}))
    for read in (
        lambda: run_arm(plan, raw, 0, prepared=log, out=tmp_path),
        lambda: list(read_results(plan, prepared=log, out=tmp_path)),
    ):
        with pytest.raises(InputError, match=f"^{path}: {message}; delete its folder"):
            read()


def test_a_table_has_no_seed_of_another_plan(prepared_scans, tmp_path, caplog):
    """A mean over it would be of nothing, and the picture, too."""
    raw, log = Arm("raw", "raw"), prepared_scans.folder
    plan = Plan(arms=(raw,), train=["scene-0001"], evaluate=["scene-0003"], new_places_m=None)
    run_arm(plan, raw, 0, prepared=log, out=tmp_path)
    run_arm(replace(plan, vote_frames=1), raw, 1, prepared=log, out=tmp_path)
    assert [r["seed"] for r in read_results(plan, prepared=log, out=tmp_path)] == [0]
    assert "seed_1/benchmark.json: is of another vote_frames, so it is left out of the table" in caplog.text
    other = replace(plan, arms=(Arm("other", "raw"),))
    assert list(read_results(other, prepared=log, out=tmp_path)) == []


def test_a_stopped_run_is_not_continued_with_another_config(prepared, tmp_path):
    arm = Arm("regression", "pretrained", "pretrain/regression_small.py")
    plan = Plan(arms=(arm,), train=["scene-9002[0:4]"], evaluate=["scene-9002[50:51]"])
    for _ in range(2):  # it stops at once, since nothing is prepared but the index
        with pytest.raises(InputError, match="neither a split nor a scene"):
            run_arm(plan, arm, 0, prepared=prepared, out=tmp_path)
    longer = replace(arm, options={"train_cfg.max_iters": 481})
    with pytest.raises(InputError, match="was made with other config"):
        run_arm(plan, longer, 0, prepared=prepared, out=tmp_path)


def test_a_config_is_the_same_wherever_its_folders_lie():
    """Short names stand in other words, too, and JSON writes some letters otherwise."""
    from superflow.benchmark.results import hash_of_config

    def hashed(folder: str, word: str = "dropout", index: str = "prepared") -> str:
        config = {"data": [{"path": f"{folder}/{index}/a"}], "start": folder, "word": word, "rate": 0.1}
        return hash_of_config(config, {f"{folder}/prepared": "PREPARED", folder: "OUT"})

    assert len({hashed(folder) for folder in ("/there/work_dirs/run", "out", "o", "jürgen/läufe")}) == 1
    assert hashed("out", word="drop") != hashed("out") != hashed("out", index="preparations")


@pytest.mark.parametrize("what", ["teacher features", "superpixels"])
def test_a_result_of_other_features_or_superpixels_is_told_from_one_of_these(
    prepared_scans, tmp_path, monkeypatch, caplog, what
):
    """They lie beside the index, under names that stay when others take their place."""
    log = tmp_path / "prepared"
    shutil.copytree(prepared_scans.folder, log)
    arm = Arm("slidr", "pretrained", "pretrain/slidr_small.py")
    plan = Plan(arms=(arm,), train=["scene-0001"], evaluate=["scene-0003"], new_places_m=None)

    def prepare(size: int) -> None:
        teacher = {"name": "efficientnet_lite0", "weights_sha256": "0"}
        key = {"teacher": teacher, "size": [size, 64], "components": 8, "fit_images_sha256": "0"}
        features = {"schema": 2, "key": key, "channels": 8, "grid": [2, 4], "reduction_sha256": "0"}
        regions = {"schema": 2, "provider": "slic", "options": {"segments": size}, "shared_ids": False}
        name, record = {
            "teacher features": ("features/efficientnet_lite0/features.json", {**features, "fit_tokens": []}),
            "superpixels": ("superpixels/slic/superpixels.json", regions),
        }[what]
        write_json(log / name, record)

    def train(config, index, evaluate):
        return LidarEncoder(**config.model.student), {}

    monkeypatch.setattr("superflow.benchmark.one_log.arms._train", None)
    with pytest.raises(TypeError):  # begun before it was prepared
        run_arm(plan, arm, 0, prepared=log, out=tmp_path / "out")
    monkeypatch.setattr("superflow.benchmark.one_log.arms._train", train)
    prepare(32)
    for _ in range(2):
        assert run_arm(plan, arm, 0, prepared=log, out=tmp_path / "out")["arm"] == "slidr"
    prepare(48)
    with pytest.raises(
        InputError, match=rf"was made with other {what} \(\w+ \w{{8}} instead of \w+ \w{{8}}\)"
    ):
        run_arm(plan, arm, 0, prepared=log, out=tmp_path / "out")
    assert list(read_results(plan, prepared=log, out=tmp_path / "out")) == []
    assert f"is of another {what}, so it is left out of the table" in caplog.text


def test_the_teacher_of_a_plan_is_taken_unless_another_one_is_given(prepared_scans, tmp_path, monkeypatch):
    plan = tmp_path / "plan.yaml"
    plan.write_text("arms: {raw: {kind: raw}}\nteacher: filters\n")
    taken = []
    monkeypatch.setattr(
        "superflow.benchmark.one_log.arms.run_arms",
        lambda tasks, jobs: iter(taken.append(tasks[0][0].teacher) or []),
    )
    monkeypatch.setattr("superflow.benchmark.chart.draw_chart", lambda *_, **__: None)
    words = ["benchmark", str(plan), "--prepared", str(prepared_scans.folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert main([*words, "--teacher", "dinov2_small"]) == 0
    assert taken == ["filters", "dinov2_small"]


def test_a_run_that_fails_is_named_when_the_others_are_done(prepared, tmp_path):
    good, bad = Arm("good", "raw"), Arm("bad", "pretrained", "none.py")
    plan = Plan(
        arms=(bad, good), train=["scene-9002[0:4]"], evaluate=["scene-9002[50:51]"], new_places_m=None
    )
    runs = run_arms([(plan, arm, 0, prepared, tmp_path) for arm in plan.arms], jobs=1)
    assert next(runs)["arm"] == "good"
    with pytest.raises(InputError, match=r"1 of 2 runs failed, the first one bad, seed 0: .*none"):
        next(runs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: a", "needs a mapping with the key arms"),
        ("arms: {a: {kind: raw}}\nseed: 3", "'seed' is unknown; the keys are arms"),
        ("arms: {a: {kind: raw, configs: x}}", "arms: 'a': 'configs' is unknown; the keys are kind, config"),
        ("arms: {a: {kind: rwa}}", "kind 'rwa' is unknown; use one of raw, random"),
        ("arms: {a: {kind: random}}", "a random arm needs a config"),
        (
            "arms: {a: {kind: raw}}\noptions: {pretrain: {train_cfg.max_iters: 1}}",
            "options of a kind of arms: there is no 'pretrain'; the nearest known one is 'pretrained'",
        ),
        (
            "arms: {a: {kind: raw}}\nsuperpixels: {slik: {}}",
            "superpixels: there is no 'slik'; the nearest known one is 'slic'",
        ),
    ],
)
def test_a_wrong_plan_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "plan.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_plan(path)


def test_an_unknown_arm_or_plan_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        load_plan(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="'best' is no arm of the plan; it has raw"):
        replace(Plan(arms=(Arm("raw", "raw"),))).arm("best")
