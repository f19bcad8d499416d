"""A run that goes on from a checkpoint: which differences it refuses, which it tells, and its learning rates after."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from engine_toy import ToyDataset

from superflow.engine import DATASETS, HOOKS, read_checkpoint
from superflow.engine.continuation import (
    CHANGES,
    REFUSED,
    TOLD,
    check_changes,
    effect_of,
    find_changes,
    read_settings,
)
from superflow.engine.keys import top_places
from superflow.engine.optim import AmpOptimWrapper
from superflow.engine.resume import load_moments
from superflow.errors import InputError
from superflow.hub.checkpoint import write_checkpoint
from superflow.tools.train import main as train_main

Train = Callable[..., Any]


@HOOKS.register_module()
class RatesHook:
    """Keeps every learning rate and weight decay of a run, by iteration."""

    priority = "LOWEST"
    seen: ClassVar[dict[int, list[float]]] = {}

    @classmethod
    def before_train_iter(cls, runner: Any, batch_idx: int, data_batch: Any) -> None:
        groups = runner.optim_wrapper.optimizer.param_groups
        cls.seen[batch_idx] = [group[name] for group in groups for name in ("lr", "weight_decay")]


@DATASETS.register_module()
class FramesDataset(ToyDataset):
    """A dataset that records its frames, as those of logs do."""

    def __init__(self, items: int, frames: str = "train", index: str = "there", content: str = "a") -> None:
        super().__init__(items)
        self.frames, self.content = frames, content

    def record(self) -> dict[str, Any]:
        tokens = self.frames.removesuffix(" again")
        return {**super().record(), "hash": self.content, "tokens_hash": tokens}


QUICK = {"custom_hooks": [{"type": "RatesHook"}], "train_cfg.val_interval": None}
FRAMES = {"type": "FramesDataset", "items": 7, "_delete_": True}


@pytest.fixture
def rates(train: Train) -> Callable[..., dict[int, list[float]]]:
    """Learning rates by iteration of a run with these options."""

    def run(options: dict[str, Any], **further: Any) -> dict[int, list[float]]:
        RatesHook.seen = {}
        train({**QUICK, **options}, **further)
        return RatesHook.seen

    return run


SCHEDULES: dict[str, Any] = {
    "one cycle": {"type": "OneCycleLR"},
    "one cycle, linear": [{"type": "OneCycleLR", "anneal_strategy": "linear", "pct_start": 0.5}],
    "warm-up and cosine": [
        {"type": "LinearLR", "start_factor": 0.1, "end": 4},
        {"type": "CosineAnnealingLR", "begin": 4, "eta_min": 1e-5},
    ],
    "cosine": {"type": "CosineAnnealingLR"},
    "poly": {"type": "PolyLR", "power": 0.9},
    "steps": {"type": "MultiStepLR", "milestones": [4, 9]},
    "exponential": {"type": "ExponentialLR", "gamma": 0.9},
    "momentum": [{"type": "OneCycleLR"}, {"type": "LinearMomentum", "start_factor": 0.5, "end": 8}],
    "none": None,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("first", "then"), [(6, 12), (6, 7), (5, 12)])
def test_an_extended_run_has_the_rates_of_a_straight_one(
    rates: Callable[..., Any], schedule: str, first: int, then: int
) -> None:
    options = {"param_scheduler": SCHEDULES[schedule]}
    straight = rates({**options, "train_cfg.max_iters": then}, name="straight")
    rates({**options, "train_cfg.max_iters": first})
    extended = rates({**options, "train_cfg.max_iters": then}, resume=True)
    assert list(extended) == list(range(first, then))
    assert extended == {iteration: straight[iteration] for iteration in extended}  # equal to the last bit


def test_the_rates_of_a_killed_run_are_those_of_an_unbroken_one(
    rates: Callable[..., Any], train: Train
) -> None:
    for schedule in SCHEDULES.values():
        options = {"param_scheduler": schedule, "default_hooks.checkpoint.max_keep_ckpts": 9}
        whole = rates(options, name="whole")
        folder = train({**QUICK, **options}, name="whole").work_path
        again = rates(options, name="again", resume=folder / "iter_6.pth")
        assert again == {iteration: whole[iteration] for iteration in range(6, 12)}
        shutil.rmtree(folder)


def test_a_lower_rate_counts_from_where_the_run_goes_on(rates: Callable[..., Any]) -> None:
    lower = {"optim_wrapper.optimizer.lr": 0.001}
    straight = rates(lower, name="straight")
    rates({"train_cfg.max_iters": 6})
    resumed = rates(lower, resume=True)
    assert resumed == {iteration: straight[iteration] for iteration in range(6, 12)}


EMA = [{"type": "EMAHook", "momentum": 0.1}]
CHANGED = [  # options of the first run, those of the second, words of the refusal or of what is told
    (
        {},
        {"optim_wrapper.optimizer.type": "SGD"},
        REFUSED,
        r"optim_wrapper\.optimizer\.type was 'AdamW' and is 'SGD'",
    ),
    (
        {},
        {"optim_wrapper.optimizer.weight_decay": 0.5},
        REFUSED,
        r"optimizer\.weight_decay was 0\.01 and is 0\.5",
    ),
    (
        {},
        {"optim_wrapper.optimizer.betas": (0.5, 0.9)},
        REFUSED,
        r"optimizer\.betas was \(0\.9, 0\.999\) and is \(0\.5",
    ),
    ({}, {"optim_wrapper.accumulative_counts": 2}, REFUSED, r"accumulative_counts was 1 and is 2"),
    (
        {},
        {"optim_wrapper.paramwise_cfg": None},
        REFUSED,
        r"optimizer and schedules .*paramwise_cfg is no longer there",
    ),
    (
        {},
        {"optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult": 2.0},
        REFUSED,
        r"custom_keys\.head\.lr_mult was 10\.0 and is 2\.0",
    ),
    (
        {},
        {"param_scheduler": {"type": "PolyLR", "_delete_": True}},
        REFUSED,
        r"param_scheduler\.OneCycleLR is no longer there; param_scheduler\.PolyLR was not there",
    ),
    (
        {},
        {"default_hooks.param_scheduler": None},
        REFUSED,
        r"default_hooks\.param_scheduler is no longer there",
    ),
    (
        {},
        {"train_dataloader.batch_size": 4},
        REFUSED,
        r"its data are not .*\(train_dataloader\.batch_size was 2 and is 4\)",
    ),
    (
        {},
        {"train_dataloader.dataset.items": 9},
        REFUSED,
        r"dataset\.items was 7 and is 9; data\.train\.frames was 7",
    ),
    (
        {},
        {"model.dropout": 0.2},
        REFUSED,
        r"its model and objectives are not .*\(model\.dropout was 0\.1 and is 0\.2\)",
    ),
    (
        {},
        {"model.freeze": True, "optim_wrapper.paramwise_cfg": None},
        REFUSED,
        r"model\.freeze was False and is True",
    ),
    (
        {"train_dataloader.dataset": FRAMES},
        {"train_dataloader.dataset": {**FRAMES, "frames": "half"}},
        REFUSED,
        r"dataset\.frames was 'train' and is 'half'; data\.train\.tokens_hash was 'train' and is 'half'",
    ),
    (
        {"train_dataloader.dataset": FRAMES},
        {"train_dataloader.dataset": {**FRAMES, "content": "b"}},
        REFUSED,
        r"data\.train\.hash was 'a' and is 'b'",
    ),
    (
        {},
        {"train_cfg.max_iters": 9},
        TOLD,
        r"not as one that was never stopped: train_cfg\.max_iters was 6 and is 9;",
    ),
    ({}, {"optim_wrapper.optimizer.lr": 0.001}, TOLD, r"optimizer\.lr was 0\.01 and is 0\.001"),
    ({}, {"optim_wrapper.clip_grad.max_norm": 1.0}, TOLD, r"clip_grad\.max_norm was 5\.0 and is 1\.0"),
    ({}, {"optim_wrapper.clip_grad": None}, TOLD, r"clip_grad is no longer there"),
    (
        {},
        {"param_scheduler.pct_start": 0.1},
        TOLD,
        r"param_scheduler\.OneCycleLR\.pct_start was 0\.3 and is 0\.1",
    ),
    ({}, {"custom_hooks": []}, TOLD, r"custom_hooks\.EMAHook is no longer there"),
    ({"custom_hooks": []}, {"custom_hooks": EMA}, TOLD, r"custom_hooks\.EMAHook was not there"),
    ({}, {"custom_hooks.0.momentum": 0.2}, TOLD, r"custom_hooks\.EMAHook\.momentum was 0\.1 and is 0\.2"),
    ({}, {"train_dataloader.num_workers": 1}, None, ""),
    ({}, {"train_dataloader.pin_memory": False}, None, ""),
    (
        {},
        {"model.dropout": 0.1, "optim_wrapper.optimizer.eps": 1e-8, "optim_wrapper.accumulative_counts": 1},
        None,
        "",
    ),
    ({}, {"param_scheduler": [{"type": "OneCycleLR"}]}, None, ""),
    ({}, {"optim_wrapper.type": "OptimWrapper", "train_cfg.type": "TrainLoop"}, None, ""),
    ({}, {"default_hooks.param_scheduler": {"type": "ParamSchedulerHook"}}, None, ""),
    ({}, {"default_hooks.logger.interval": 1, "log_level": "DEBUG", "visualizer.name": "other"}, None, ""),
    ({}, {"default_hooks.checkpoint.interval": 1, "default_hooks.checkpoint.max_keep_ckpts": 3}, None, ""),
    ({}, {"train_cfg.val_interval": 2, "val_dataloader.batch_size": 1}, None, ""),
    (
        {"train_dataloader.dataset": FRAMES},
        {"train_dataloader.dataset": {**FRAMES, "frames": "train again", "index": "moved"}},
        None,
        "",
    ),
]


@pytest.mark.parametrize(("before", "now", "effect", "words"), CHANGED, ids=lambda value: str(value)[:40])
def test_a_run_goes_on_only_as_the_one_that_it_was(
    train: Train,
    toy_config: Path,
    before: dict[str, Any],
    now: dict[str, Any],
    effect: str | None,
    words: str,
) -> None:
    short = {"train_cfg.max_iters": 6, "train_cfg.val_interval": 6}
    folder = train({**short, **before}).work_path
    shutil.rmtree(next(folder.glob("*/*.log")).parent)
    options = {**short, **before, "train_cfg.max_iters": 6, **now}
    if effect == REFUSED:
        with pytest.raises(InputError, match=words) as caught:
            train(options, resume=True)
        assert str(caught.value).startswith(f"{folder / 'iter_6.pth'}: its ")
        assert str(caught.value).count("\n") == 0
        return
    resumed = train(options, resume=True)
    logged = next(folder.glob("*/*.log")).read_text()
    assert resumed.loaded_iteration == 6
    assert ("the run goes on, but not as one" in logged) == (effect == TOLD)
    if words:
        assert re.search(words, logged)


def test_a_finished_run_says_that_nothing_is_left(
    toy_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(toy_config), "--work-dir", str(toy_config.parent / "work")]
    assert train_main([*command, "--cfg-options", "train_cfg.max_iters=6"]) == 0
    result = (toy_config.parent / "work" / "result.json").read_text()
    capsys.readouterr()
    assert train_main([*command, "--resume", "--cfg-options", "train_cfg.max_iters=6"]) == 0
    shown = "".join(capsys.readouterr())
    assert "iter_6.pth: all 6 iterations are done and nothing is left to train; give a larger" in shown
    again = json.loads((toy_config.parent / "work" / "result.json").read_text())
    assert (again["iteration"], again["finished"]) == (6, True)
    assert again["metrics"] == json.loads(result)["metrics"]


@pytest.mark.parametrize(
    "length", [{"train_cfg.max_iters": 5}, {"train_cfg.max_iters": None, "train_cfg.max_epochs": 1}]
)
def test_an_end_that_is_behind_is_refused(train: Train, length: dict[str, Any]) -> None:
    train({"train_cfg.max_iters": 6, **QUICK})
    with pytest.raises(
        InputError, match=r"iter_6\.pth: is at iteration 6, and this run ends at [54]; give train_cfg"
    ):
        train({**QUICK, **length}, resume=True)


def test_a_schedule_by_epochs_is_refused(train: Train) -> None:
    schedule = {"type": "CosineAnnealingLR", "T_max": 3, "by_epoch": True}  # it would never move
    with pytest.raises(
        InputError, match=r"param_scheduler: .* \(by_epoch must be False: a run is counted in"
    ):
        train({"param_scheduler": [schedule]})


PLATEAU = {"type": "ReduceOnPlateauLR", "monitor": "miou", "rule": "greater", "by_epoch": True, "patience": 0}


def test_a_schedule_by_evaluations_goes_on_where_it_was(rates: Callable[..., Any], train: Train) -> None:
    options = {
        "param_scheduler": [PLATEAU],
        "train_cfg.val_interval": 1,
        "default_hooks.checkpoint.max_keep_ckpts": 9,
    }
    whole = rates(options, name="whole")
    assert len({tuple(values) for values in whole.values()}) > 1
    folder = train({**QUICK, **options}, name="whole").work_path
    assert rates(options, name="again", resume=folder / "iter_6.pth") == {
        step: whole[step] for step in range(6, 12)
    }
    with pytest.raises(
        InputError, match=r"optimizer\.lr was 0\.01 and is 0\.1, which a schedule by evaluations cannot"
    ):
        train(
            {**QUICK, **options, "optim_wrapper.optimizer.lr": 0.1}, name="more", resume=folder / "iter_6.pth"
        )


@pytest.mark.parametrize(
    "change",
    [
        {"val_dataloader.dataset.items": 4},
        {"default_hooks.checkpoint.save_best": "accuracy"},
        {"default_hooks.checkpoint.rule": "less"},
    ],
)
def test_the_best_of_another_evaluation_is_no_best(train: Train, change: dict[str, Any]) -> None:
    first = train({"train_cfg.max_iters": 6, "train_cfg.val_interval": 6})
    saved, path = read_checkpoint(first.work_path / "iter_6.pth"), first.work_path.parent / "kept.pth"
    saved["meta"]["best"] = {"name": "miou", "value": 1000.0, "iteration": 3}  # what nothing beats
    write_checkpoint(path, saved)
    same = train(name="same", resume=path)
    assert read_checkpoint(same.work_path / "iter_12.pth")["meta"]["best"]["value"] == 1000
    resumed = train(change, name="other", resume=path)
    best = read_checkpoint(resumed.work_path / "iter_12.pth")["meta"]["best"]
    assert best["value"] <= 100
    assert "the best checkpoint is chosen anew: " in next(resumed.work_path.glob("*/*.log")).read_text()


def changes(before: str, now: str, **further: Any) -> list[Any]:
    options = {"record": {}, "processes": 1, **further}
    saved = {"meta": {"config": before, "world_size": 1}, "superflow": {}}
    return find_changes(saved, config=now, **options)


@pytest.mark.parametrize(
    ("batch_size", "processes", "effect"),
    [(4, 1, None), (2, 2, TOLD), (1, 4, TOLD), (4, 2, REFUSED), (8, 1, REFUSED), (2, 1, REFUSED)],
)
def test_items_of_a_step_are_counted_over_all_processes(
    batch_size: int, processes: int, effect: str | None
) -> None:
    now = f"train_dataloader = {{'batch_size': {batch_size}}}\n"
    found = changes("train_dataloader = {'batch_size': 4}\n", now, processes=processes)
    assert [change.effect for change in found] == ([effect] if effect else [])
    assert all(change.key.startswith("train_dataloader.batch_size") for change in found)


DATA = "{'type': 'PretrainDataset', 'index': '%s', 'superpixels': '%s/slic', 'views': {'size': (112, 208)}}"


def test_data_may_move() -> None:
    def text(root: str, superpixels: str) -> str:
        return f"data_root = {root!r}\ntrain_dataloader = {{'dataset': {DATA % (root, superpixels)}}}\n"

    before = text("/a/log", "/a/log/superpixels")
    assert changes(before, text("/b/log", "/b/log/superpixels"), record={"data": {}}) == []
    (moved,) = changes(before, text("/b/log", "/c"))
    assert (moved.effect, moved.key) == (TOLD, "train_dataloader.dataset.superpixels")
    (other,) = changes(before, text("/b/log", "/b/log/superpixels").replace("slic", "clusters"))
    assert other.effect == REFUSED


def test_keys_of_an_earlier_version_are_compared_where_they_are_now() -> None:
    text = "train_dataloader = {'dataset': {'type': 'PretrainDataset', %s}}\n"
    before = (
        text
        % "'offsets': (-1, 0), 'offset_unit': 'frames', 'sweeps': 1, 'view_size': (8, 9), 'keep_frames': 2"
    )
    now = text % "'times': {'offsets': (-1, 0)}, 'clouds': {'sweeps': 1}, 'views': {'size': (8, 9)}"
    assert changes(before, now) == []
    (other,) = changes(before, now.replace("'sweeps': 1", "'sweeps': 2"))
    assert (other.key, other.effect) == ("train_dataloader.dataset.clouds.sweeps", REFUSED)
    labels = "val_dataloader = {'dataset': {'type': 'SegmentDataset', '%s': 'val'}}\n"
    assert changes(labels % "selection", labels % "frames") == []


def test_objectives_are_named() -> None:
    model = "model = {'type': 'Pretrainer', 'objectives': [{'type': 'spatial', 'temperature': 0.1}%s]}\n"
    (change,) = changes(model % "", model.replace("0.1", "0.2") % "")
    assert str(change) == "model.objectives.spatial.temperature was 0.1 and is 0.2"
    (change,) = changes(model % "", model % ", {'type': 'temporal'}")
    assert str(change) == "model.objectives.temporal was not there"
    with pytest.raises(
        InputError, match=r"^x\.pth: its model and objectives are not those of this config \(model\.obj"
    ):
        check_changes([change], "x.pth")


def test_the_cache_of_features_is_known_by_what_made_it() -> None:
    def teacher(**key: Any) -> dict[str, Any]:
        cached = {"size": [448, 832], "components": 64, "fit_images_sha256": "f", **key}
        return {"teacher": {"name": "net", "version": "1", "cached": cached}}

    saved = {"meta": {"config": "", "world_size": 1}, "superflow": teacher()}
    assert find_changes(saved, config="", record=teacher(), processes=1) == []
    # a version that knew them by their tokens cannot tell whether the reduction is the same
    earlier = json.loads(json.dumps(saved).replace("fit_images_sha256", "fit_sha256"))
    found = find_changes(earlier, config="", record=teacher(), processes=1)
    assert {change.effect for change in found} == {REFUSED}
    for key, value in {"size": [224, 448], "components": None, "fit_images_sha256": "g"}.items():
        (change,) = find_changes(saved, config="", record=teacher(**{key: value}), processes=1)
        assert (change.key, change.effect) == (f"record.teacher.cached.{key}", REFUSED)


def test_what_is_no_plain_value_is_compared_as_text() -> None:
    text = "model = {'type': <class 'a.B'>}\nresume = True\n"
    assert read_settings(text) == {"model": "{'type': <class 'a.B'>}", "resume": True}


def test_every_difference_has_an_effect_and_every_key_of_the_table_a_place() -> None:
    places = {*top_places(), "data", "record"}
    assert {key.partition(".")[0] for key in CHANGES} <= places
    assert effect_of("model.student.backbone.depth") == REFUSED
    assert effect_of("data.train.tokens_hash") == REFUSED
    assert effect_of("something.new") == REFUSED


@pytest.mark.parametrize(("before", "now"), [("float16", "bfloat16"), ("bfloat16", "float16")])
def test_the_other_precision_is_refused(monkeypatch: pytest.MonkeyPatch, before: str, now: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)

    def wrapper(dtype: str) -> AmpOptimWrapper:
        made = AmpOptimWrapper(torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.1), dtype=dtype)
        monkeypatch.setattr(
            made.loss_scaler, "state_dict", lambda: {"scale": 2.0} if dtype == "float16" else {}
        )
        return made

    with pytest.raises(
        ValueError, match=f"dtype was {before} and is {now}; give optim_wrapper.dtype={before}"
    ):
        load_moments(wrapper(now), wrapper(before).state_dict(), keep_rates=True)


def test_resume_from_the_command_line_says_what_is_another(
    toy_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(toy_config), "--work-dir", str(toy_config.parent / "work")]
    assert train_main([*command, "--cfg-options", "train_cfg.max_iters=3"]) == 0
    capsys.readouterr()
    for option, words in {
        "optim_wrapper.optimizer.type=SGD": "its optimizer and schedules are not those of this config",
        "train_dataloader.batch_size=4": "its data are not those of this config",
        "train_dataloader.dataset.items=3": "its data are not those of this config",
    }.items():
        assert train_main([*command, "--resume", "--cfg-options", option]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert train_main([*command, "--resume"]) == 0
