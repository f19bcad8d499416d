"""Whole runs of the toy: what is trained, measured and written."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from engine_toy import ToyDataset, ToyModel
from mmengine.hooks import Hook
from torch import nn

from superflow.benchmark.speed.dry_run import dry_run
from superflow.clips.batch import Batch, collate
from superflow.clips.sampler import drawn_item
from superflow.engine import DATASETS, HOOKS, MODELS, build_runner, load_config, read_checkpoint
from superflow.engine.evaluation import SegmentationMetric
from superflow.engine.hooks import DivergedError
from superflow.engine.model import EngineModel
from superflow.errors import InputError, MissingFileError

Train = Callable[..., Any]


@HOOKS.register_module()
class SpyHook:
    """Keeps every loss, and whether the parts of the model were training."""

    priority = "LOWEST"
    seen: ClassVar[list[dict[str, Any]]] = []

    @classmethod
    def after_train_iter(cls, runner: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        model = runner.plain_model
        modes = {name: child.training for name, child in model.named_children()}
        rates = [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups]
        cls.seen.append({"loss": outputs["loss"].item(), "modes": modes, "rates": rates})


SPY = {"custom_hooks": [{"type": "SpyHook"}], "train_cfg.val_interval": 100}


@pytest.fixture(autouse=True)
def forget() -> None:
    SpyHook.seen = []


def result(runner: Any, name: str = "result.json") -> dict[str, Any]:
    return json.loads((runner.work_path / name).read_text())


def test_mistake_05_two_runs_of_one_seed_have_equal_losses(train: Train) -> None:
    losses = {}
    for name, seed, workers in (("a", 7, 0), ("b", 7, 2), ("c", 8, 0)):
        SpyHook.seen = []
        options = {**SPY, "train_cfg.max_iters": 20, "train_dataloader.num_workers": workers}
        train(options, name=name, seed=seed)
        losses[name] = [step["loss"] for step in SpyHook.seen]
    assert len(losses["a"]) == 20
    assert losses["a"] == losses["b"]
    assert losses["a"] != losses["c"]


def test_mistake_01_the_ratio_of_the_groups_survives_a_run(train: Train) -> None:
    train(SPY)
    assert [rates[1] / rates[0] for rates in (step["rates"] for step in SpyHook.seen)] == [
        pytest.approx(10)
    ] * 12


def test_mistake_02_buffers_of_a_frozen_backbone_do_not_move(train: Train) -> None:
    torch.manual_seed(0)  # what the run begins with
    before = ToyModel(freeze=True).backbone.state_dict()
    runner = train(
        {**SPY, "model.freeze": True, "train_cfg.max_iters": 10, "custom_hooks": SPY["custom_hooks"]}
    )
    after = runner.plain_model.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(step["modes"]["backbone"] for step in SpyHook.seen)
    assert all(step["modes"]["head"] for step in SpyHook.seen)


@DATASETS.register_module()
class MissingDataset(ToyDataset):
    """A dataset whose files are gone."""

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        try:
            raise KeyError(key)
        except KeyError as error:
            raise MissingFileError("a.bin: there is no such file; copy it anew") from error


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_is_the_same_sentence_with_and_without_workers(train: Train, workers: int) -> None:
    options = {"train_dataloader.dataset.type": "MissingDataset", "train_dataloader.num_workers": workers}
    with pytest.raises(MissingFileError) as caught:
        train(options)
    assert str(caught.value) == "a.bin: there is no such file; copy it anew"


class Frozen(nn.Sequential):
    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


@MODELS.register_module()
class TaughtModel(nn.Module):
    """A model with a frozen teacher that has dropout and batch norm."""

    def __init__(self, sha256: str = "a") -> None:
        super().__init__()
        self.student, self.sha256 = ToyModel(), sha256
        self.teacher = Frozen(nn.BatchNorm1d(3), nn.Dropout()).requires_grad_(False)

    def loss(self, batch: Batch) -> dict[str, Any]:
        assert not self.teacher.training
        return self.student.loss(batch)

    def predict(self, batch: Batch) -> torch.Tensor:
        return self.student.predict(batch)

    def record(self) -> dict[str, Any]:
        return {"teacher": {"name": "net", "sha256": self.sha256}}


def test_mistake_03_a_frozen_teacher_stays_in_eval_and_out_of_checkpoints(train: Train) -> None:
    options = {
        "model": {"type": "TaughtModel", "_delete_": True},
        "optim_wrapper.paramwise_cfg": None,
        "custom_hooks": SPY["custom_hooks"],
        "train_cfg.max_iters": 3,
    }
    runner = train(options)
    assert [step["modes"] for step in SpyHook.seen] == [{"student": True, "teacher": False}] * 3
    saved = read_checkpoint(runner.work_path / "iter_3.pth")
    assert {name.partition(".")[0] for name in saved["state_dict"]} == {"student"}
    assert saved["superflow"]["teacher"] == {"name": "net", "sha256": "a"}


@MODELS.register_module()
class CachedModel(ToyModel):
    """A model whose teacher's features come with the batches, so that nothing of the teacher is in it."""

    def __init__(self, sha256: str = "a") -> None:
        super().__init__()
        self.sha256 = sha256

    record = TaughtModel.record


@pytest.mark.parametrize("kind", ["TaughtModel", "CachedModel"])
def test_a_run_goes_on_with_the_teacher_it_began_with(train: Train, kind: str) -> None:
    options: dict[str, Any] = {
        "model": {"type": kind, "_delete_": True},
        "optim_wrapper.paramwise_cfg": None,
        "train_cfg.max_iters": 3,
    }
    train(options)
    assert train(options, resume=True).loaded_iteration == 3
    options["model"]["sha256"] = "b"
    with pytest.raises(
        InputError, match=r"iter_3\.pth: was trained with the teacher net \(sha256 a\), this run has"
    ):
        train(options, resume=True)


@DATASETS.register_module()
class ScaledDataset(ToyDataset):
    """A dataset that says on which scale its intensity is."""

    def __init__(self, items: int, raw: bool) -> None:
        super().__init__(items)
        self.raw = raw

    def record(self) -> dict[str, Any]:
        return {**super().record(), "raw_intensity": self.raw}


@MODELS.register_module()
class BorrowedModel(ToyModel):
    """A model that took weights which were trained on intensity 0..255."""

    def record(self) -> dict[str, Any]:
        return {"pretrained": {"file": "street.safetensors", "raw_intensity": True}}


def test_weights_are_not_given_intensity_of_another_scale(train: Train) -> None:
    scaled: dict[str, Any] = {"type": "ScaledDataset", "items": 7, "raw": True, "_delete_": True}
    options = {
        "model": {"type": "BorrowedModel", "_delete_": True},
        "train_dataloader.dataset": scaled,
        "train_cfg.max_iters": 2,
    }
    train(options)
    changed = {**options, "train_dataloader.dataset": {**scaled, "raw": False}}
    with pytest.raises(
        InputError,
        match=r"^street\.safetensors: was trained on intensity 0\.\.255, but train_dataloader\.dataset gives "
        r"0\.\.1; set train_dataloader\.dataset\.raw_intensity=True$",
    ):
        train(changed, name="other")
    changed["model"] = {"type": "ToyModel", "_delete_": True}
    with pytest.raises(InputError, match=r"iter_2\.pth: was trained on intensity 0\.\.255, but train"):
        train(changed, resume=True)
    changed = {"val_dataloader.dataset": {**scaled, "raw": False}, "model": options["model"]}
    with pytest.raises(InputError, match=r"set val_dataloader\.dataset\.raw_intensity=True"):
        train(changed, name="val")


def test_mistake_04_last_and_best_are_reported_with_their_iterations(train: Train) -> None:
    runner = train({"optim_wrapper.optimizer.lr": 0.3, "custom_hooks": []})
    found = result(runner)
    assert (found["last"]["iteration"], found["best"]["name"], found["finished"]) == (12, "miou", True)
    assert found["last"]["value"] == pytest.approx(found["metrics"]["miou"])
    assert found["best"]["value"] >= found["last"]["value"]
    best = read_checkpoint(runner.work_path / "best_miou.pth")["meta"]
    assert (best["iter"], best["best"]) == (found["best"]["iteration"], found["best"])


@pytest.mark.parametrize(("name", "near"), [("mIoU", "miou"), ("iou/middel", "iou/middle"), ("loss", "")])
def test_a_best_figure_that_no_evaluation_gives_is_refused_before_the_first_step(
    train: Train, toy_config: Path, name: str, near: str
) -> None:
    with pytest.raises(InputError, match=rf"save_best: an evaluation gives no '{name}'; .* one is '{near}"):
        train({"default_hooks.checkpoint.save_best": name, "default_hooks.checkpoint.interval": 1})
    assert not list((toy_config.parent / "work").glob("*.pth"))


def test_a_metric_that_does_not_say_its_figures_is_asked_for_them_afterwards(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SegmentationMetric, "names", lambda self: None)
    with pytest.raises(InputError, match="the evaluation gave no 'mIoU'; choose one of what it gave"):
        train({"default_hooks.checkpoint.save_best": "mIoU"})


def test_an_evaluation_gives_no_figure_that_it_did_not_name(train: Train) -> None:
    runner = train()
    metric = runner.val_loop.evaluator.metrics[0]
    given = {name for name, value in runner.val_loop.run().items() if isinstance(value, float)}
    assert len(given) > 5
    assert given <= set(metric.names())


def test_mistake_32_one_process_needs_no_process_group(train: Train) -> None:
    assert not torch.distributed.is_initialized()
    assert train({"model.contrast": True}).iter == 12


def test_mistake_41_a_batch_gives_the_same_loss_twice() -> None:
    batch = collate([ToyDataset(3)[0, 1], ToyDataset(3)[1, 1]])
    model = EngineModel(ToyModel(dropout=0.0))
    points = batch.points.clone()
    losses = [model(*model.data_preprocessor(batch), mode="loss")["loss"].item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(batch.points, points)


def test_the_result_says_all_that_a_table_needs(train: Train) -> None:
    runner = train(seed=3)
    found = result(runner)
    assert (found["seed"], found["iteration"], found["world_size"]) == (3, 12, 1)
    assert found["data"]["train"] == {"dataset": "toy", "real": False, "hash": "00000000", "frames": 7}
    assert found["superflow"]["encoder"] == {"width": 8}
    assert set(found["metrics"]["segmentation"]["iou"]) == {"left", "middle", "right"}
    assert found["metrics"]["segmentation"]["ranges"]["0-10 m"]["points"] == 110
    assert found["config"].endswith("toy_run.py")
    assert found["seconds"] > 0
    assert found["peak_memory_mb"] > 10
    assert {"commit", "device", "train"} <= set(found)
    again = load_config(runner.work_path / "config.py")
    assert (again.train_cfg, again.model, again.work_dir) == (
        runner.cfg.train_cfg,
        runner.cfg.model,
        runner.work_dir,
    )
    assert sorted(path.name for path in runner.work_path.glob("*.pth")) == ["best_miou.pth", "iter_12.pth"]


@HOOKS.register_module()
class SecondHook(Hook):
    """Begins another training in the folder of the first one, once."""

    refused: ClassVar[list[str]] = []

    def before_train(self, runner: Any) -> None:
        if self.refused:
            return
        self.refused.append("nothing")
        config = runner.cfg.copy()
        config.model.width = 4
        with pytest.raises(InputError, match="another training is running here") as told:
            build_runner(config).train()
        self.refused[:] = [str(told.value)]


def test_two_trainings_do_not_share_a_folder(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would delete the checkpoints of the other, and go on from them."""
    monkeypatch.setattr("superflow.engine.runner.PATIENCE_S", 0.0)
    first = train({"custom_hooks": [{"type": "SecondHook"}]})
    told = "another training is running here; end it first, or give this one another --work-dir"
    assert SecondHook.refused == [f"{first.work_dir}: {told}"]
    assert load_config(first.work_path / "config.py").model.width == 8
    train({"custom_hooks": [{"type": "SecondHook"}]})  # the folder is free again


def test_miou_is_that_of_a_plain_count(train: Train) -> None:
    runner = train({"custom_hooks": []})
    model = runner.plain_model.eval()
    pairs = []
    for item in range(5):
        batch = ToyDataset(5)[item]
        pairs += zip(model.predict(batch).argmax(1).tolist(), batch.labels.tolist(), strict=True)
    iou = [100 * sum(p == c == t for p, t in pairs) / sum(c in (p, t) for p, t in pairs) for c in range(3)]
    assert result(runner)["metrics"]["miou"] == pytest.approx(sum(iou) / 3)


def test_a_checkpoint_is_plain_and_small(train: Train) -> None:
    saved = torch.load(train().work_path / "iter_12.pth", weights_only=True)

    def kinds(value: Any) -> set[type]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*(kinds(item) for item in inner))

    assert kinds(saved) <= {dict, list, int, float, str, bool, type(None), torch.Tensor}
    assert saved["meta"]["iter"] == 12
    assert saved["superflow"]["data"]["train"]["dataset"] == "toy"


def test_the_average_follows_its_definition(train: Train) -> None:
    weights = []

    @HOOKS.register_module(force=True)
    class WeightsHook(SpyHook):
        @classmethod
        def after_train_iter(cls, runner: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
            weights.append(runner.plain_model.head.weight.detach().clone())

    hooks = [{"type": "EMAHook", "momentum": 0.1, "begin_iter": 3}, {"type": "WeightsHook"}]
    runner = train({"custom_hooks": hooks})
    average = weights[1]  # a copy before iteration 3
    for weight in weights[2:]:
        average = 0.9 * average + 0.1 * weight
    saved = read_checkpoint(runner.work_path / "iter_12.pth")
    torch.testing.assert_close(saved["state_dict"]["head.weight"], average)
    assert torch.equal(saved["training_state_dict"]["head.weight"], weights[-1])
    assert torch.equal(runner.plain_model.head.weight, weights[-1])  # the evaluation put them back
    assert torch.equal(
        saved["state_dict"]["backbone.1.running_mean"], runner.plain_model.backbone[1].running_mean
    )


def test_a_loss_that_is_no_number_stops_the_run_with_a_report(train: Train, toy_config: Path) -> None:
    broken = drawn_item(0, 6, items=7)  # comes in the fourth batch
    options = {"train_dataloader.dataset.broken": broken, "default_hooks.checkpoint.interval": 1}
    with pytest.raises(DivergedError, match=r"loss nan .*health_report\.json says .* start with --resume"):
        train(options)
    work = toy_config.parent / "work"
    report = json.loads((work / "health_report.json").read_text())
    assert report["iteration"] == 3
    assert f"item {broken}" in report["tokens"]
    assert report["batch_not_finite"] == ["points"]
    assert math.isnan(report["values"]["loss"])
    newest = read_checkpoint(work / f"iter_{report['iteration']}.pth")  # the one before the broken step
    assert all(value.isfinite().all() for value in newest["state_dict"].values())


def test_health_figures_of_a_step(train: Train) -> None:
    hub = train({"default_hooks.health.interval": 5, "custom_hooks": []}).message_hub
    ranks = hub.get_scalar("train/effective_rank").data[0]
    assert len(ranks) == 3
    assert ((ranks > 1) & (ranks <= 8)).all()


def test_accumulated_gradients_are_never_cut_by_a_checkpoint(train: Train) -> None:
    names = []

    @HOOKS.register_module(force=True)
    class NamesHook:
        priority = "LOWEST"

        @staticmethod
        def after_step(runner: Any) -> None:
            names.extend(path.name for path in runner.work_path.glob("iter_*"))

    train({"optim_wrapper.accumulative_counts": 4, "custom_hooks": [{"type": "NamesHook"}]})
    assert sorted(set(names)) == ["iter_12.pth", "iter_4.pth", "iter_8.pth"]  # due at 3, 6, 9, 12


def test_a_run_that_is_stopped_early_keeps_its_last_weights(train: Train) -> None:
    stop = {"type": "EarlyStoppingHook", "monitor": "miou", "rule": "greater", "stopping_threshold": 0.0}
    runner = train({"custom_hooks": [stop], "default_hooks.checkpoint.interval": 3})
    assert runner.iter == 4
    saved = read_checkpoint(runner.work_path / "iter_4.pth")["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in runner.plain_model.state_dict().items())
    assert [path.name for path in runner.work_path.glob("iter_*.pth")] == ["iter_4.pth"]


def test_a_dry_run_shows_shapes_and_keeps_nothing(toy_config: Path) -> None:
    lines: list[str] = []
    dry_run(load_config(toy_config, work_dir=toy_config.parent / "never"), lines.append)
    shown = "\n".join(lines)
    assert "model: 83 parameters, 83 of them trained" in shown
    assert "batch.points: (46, 4) float32" in shown
    assert "learning rates: 0.0004 (4 tensors), 0.004 (2 tensors)" in shown
    assert "metrics: miou, accuracy" in shown
    assert "peak_memory_mb" in shown
    assert [line.split(":")[0] for line in lines if line.startswith("step ")] == [
        f"step {n}" for n in range(1, 6)
    ]
    assert "time: 12 iterations at" in shown
    assert "medians of 4" in shown
    assert "memory of this machine: " in shown
    assert not (toy_config.parent / "never").exists()


def test_weights_of_another_architecture_or_seed_stop_before_training(train: Train, toy_config: Path) -> None:
    work = train().work_path
    with pytest.raises(
        InputError, match=r"iter_12\.pth: does not fit this model: backbone\.0\.weight is \(8, 4\) in"
    ):
        train({"model.width": 4}, resume=True)
    with pytest.raises(
        InputError, match=r"was trained with seed 0, this run has 1; give --seed 0, or another"
    ):
        train(resume=True, seed=1)
    with pytest.raises(
        InputError, match=r"its optimizer and schedules are not those of this config .* by load_from"
    ):
        train({"optim_wrapper.paramwise_cfg": None}, resume=True)
    assert result(train(resume=True))["metrics"]["miou"] > 0  # a finished run stays finished
    shutil.rmtree(work)
    assert train(resume=True).iter == 12  # nothing to go on from: a new run


def test_load_from_takes_the_averaged_weights_and_begins_anew(train: Train) -> None:
    first = train()
    saved = read_checkpoint(first.work_path / "iter_12.pth")
    again = train(
        {
            "train_cfg.max_iters": 1,
            "optim_wrapper.optimizer.lr": 1e-12,
            "optim_wrapper.optimizer.weight_decay": 0,
        },
        name="again",
        load_from=first.work_path / "iter_12.pth",
    )
    assert again.iter == 1
    torch.testing.assert_close(again.plain_model.head.weight.detach(), saved["state_dict"]["head.weight"])
