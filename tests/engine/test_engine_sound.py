"""A step that goes bad leaves something sound to go on from, and the message says what."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_toy import ToyModel

from superflow.clips.batch import Batch
from superflow.engine import MODELS, read_checkpoint
from superflow.engine.hooks import DivergedError
from superflow.errors import InputError
from superflow.hub.checkpoint import find_last, list_checkpoints, not_finite, write_checkpoint

Train = Callable[..., Any]
NO_CLIP = {"optim_wrapper.clip_grad": None}


@MODELS.register_module()
class BadStepModel(ToyModel):
    """The toy, whose gradient goes bad in one training step; the loss of that step is as finite as any other."""

    healed = False

    def __init__(self, step: int, kind: str, width: int = 8) -> None:
        super().__init__(width)
        self.step, self.kind, self.steps = step, kind, 0

    def loss(self, batch: Batch) -> dict[str, Any]:
        losses = super().loss(batch)
        if self.training:
            self.steps += 1
            if self.steps == self.step and not self.healed:
                still = (self.head.weight - self.head.weight.detach()).sum()  # 0, with a gradient of ones
                bad = {"nan": torch.sqrt(still * 0), "inf": torch.sqrt(still), "huge": still * 1e38}
                losses["loss"] = losses["loss"] + bad[self.kind]
        return losses


def options(kind: str, step: int, **further: Any) -> dict[str, Any]:
    sgd = {"type": "SGD", "lr": 1.0, "_delete_": True}  # Adam would divide what is huge by itself
    return {
        "model": {"type": "BadStepModel", "step": step, "kind": kind, "_delete_": True},
        **NO_CLIP,
        **({"optim_wrapper.optimizer": sgd} if kind == "huge" else {}),
        "train_cfg.val_interval": None,
        "default_hooks.checkpoint.save_best": None,
        **further,
    }


def all_finite(path: Path) -> bool:
    saved = read_checkpoint(path)
    return not not_finite(saved, list(saved["state_dict"]))


@pytest.mark.parametrize(("average", "interval"), [(True, 1), (True, 3), (False, 3)])
@pytest.mark.parametrize("step", [6, 7])  # a step that is saved when 3 are done, and the one after it
@pytest.mark.parametrize("kind", ["nan", "inf", "huge"])
def test_a_bad_step_leaves_a_sound_checkpoint_which_the_message_names(
    train: Train,
    toy_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    step: int,
    interval: int,
    average: bool,
) -> None:
    work = toy_config.parent / "work"
    further = {} if average else {"custom_hooks": []}
    with pytest.raises(DivergedError) as caught:
        train(options(kind, step, **{"default_hooks.checkpoint.interval": interval}, **further))
    named = re.search(
        r"looked like\. (iter_\d+\.pth) is whole, and its loss was finite: lower", str(caught.value)
    )
    sound = (step - 1) // interval * interval  # the newest one before the weights went bad
    assert named is not None, str(caught.value)
    assert named[1] == f"iter_{sound}.pth"
    assert find_last(work) == work / named[1]  # what --resume takes
    assert all(map(all_finite, list_checkpoints(work)))
    report = json.loads((work / "health_report.json").read_text())
    assert report["iteration"] == step
    assert "weights_not_finite" in report

    monkeypatch.setattr(BadStepModel, "healed", True)
    clip = {"optim_wrapper.clip_grad": {"max_norm": 5.0}}  # the remedy that the message names
    resumed = train({**options(kind, step), **clip, **further}, resume=True)
    assert (resumed.loaded_iteration, resumed.iter) == (sound, 12)
    assert [path.name for path in list_checkpoints(work)] == ["iter_12.pth"]


def test_without_a_sound_checkpoint_the_message_says_so(train: Train, toy_config: Path) -> None:
    with pytest.raises(DivergedError, match=r"No checkpoint is from before it: lower .* and start anew$"):
        train(options("nan", 1, **{"default_hooks.checkpoint.interval": 1}))
    assert list_checkpoints(toy_config.parent / "work") == []


@pytest.mark.parametrize("evaluates", [True, False])
def test_weights_that_break_in_the_last_step_are_not_the_result(
    train: Train, toy_config: Path, evaluates: bool
) -> None:
    without = {} if evaluates else dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator"))
    with pytest.raises(DivergedError, match=r"iteration 12: .*head.* is not finite; .* iter_9\.pth is whole"):
        train(options("nan", 12, **without))
    assert [path.name for path in list_checkpoints(toy_config.parent / "work")] == ["iter_9.pth"]


@pytest.mark.parametrize("health", [{}, {"default_hooks.health": None}])
def test_the_best_checkpoint_is_finite_too(
    train: Train, toy_config: Path, monkeypatch: pytest.MonkeyPatch, health: dict[str, Any]
) -> None:
    monkeypatch.setattr(
        BadStepModel, "predict", lambda model, batch: torch.full((len(batch.points), 3), 1 / 3)
    )
    best = {"default_hooks.checkpoint.save_best": "miou", "train_cfg.val_interval": 4}
    with pytest.raises(
        DivergedError, match=r"iteration 4: state_dict\.[\w.]+ (\(and \d+ more\) )?is not finite; "
    ):
        train(options("nan", 4, **best, **health, custom_hooks=[]))
    assert not list((toy_config.parent / "work").glob("best_*"))


def test_the_predecessor_stays_until_the_next_finite_loss(train: Train, toy_config: Path) -> None:
    from superflow.engine import HOOKS

    seen: dict[int, list[str]] = {}

    @HOOKS.register_module(force=True)
    class FilesHook:
        priority = "LOWEST"

        @staticmethod
        def before_train_iter(runner: Any, batch_idx: int, data_batch: Any) -> None:
            seen[batch_idx] = [path.name for path in list_checkpoints(runner.work_dir)]

        @staticmethod
        def after_train_iter(runner: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
            seen[batch_idx + 100] = [path.name for path in list_checkpoints(runner.work_dir)]

    train({"custom_hooks": [{"type": "FilesHook"}]})
    assert seen[6] == ["iter_3.pth", "iter_6.pth"]
    assert seen[106] == ["iter_6.pth"]


@pytest.mark.parametrize("part", ["state_dict", "training_state_dict", "optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nothing_goes_on_from_a_file_that_is_not_finite(train: Train, part: str, value: float) -> None:
    path = train().work_path / "iter_12.pth"
    saved = read_checkpoint(path)
    spoiled = saved[part]["state"][0]["exp_avg"] if part == "optimizer" else saved[part]["head.weight"]
    spoiled[0] = value
    write_checkpoint(path, saved)
    with pytest.raises(
        InputError, match=rf"iter_12\.pth: {part}\.[\w.]+ is not finite, so nothing can go on"
    ):
        train({"train_cfg.max_iters": 20}, resume=True)
    shutil.rmtree(path.parent)


def test_a_buffer_may_hold_an_infinite_number_and_no_nan() -> None:
    saved = {"state_dict": {"mask": torch.tensor([0.0, -float("inf")]), "weight": torch.ones(2)}}
    assert not_finite(saved, ["weight"]) == []
    assert not_finite(saved, ["weight", "mask"]) == ["state_dict.mask"]
    saved["state_dict"]["mask"][0] = float("nan")
    assert not_finite(saved, ["weight"]) == ["state_dict.mask"]
