"""A run is as long as its config says on any number of GPUs, and says so before its first step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from superflow.benchmark.speed.dry_run import dry_run
from superflow.engine import build_runner, load_config, read_checkpoint
from superflow.engine.config import shipped_configs
from superflow.engine.training_plan import TrainingPlan, training_plan
from superflow.errors import InputError

Train = Callable[..., Any]
RANKS = (1, 4, 8)
EPOCHS = {"train_cfg.max_epochs": 3}
GPU = sorted(name for name in shipped_configs() if "_small" not in name)
ITEMS = 24_120

# What the small configs did before lengths went by epoch: iterations, batch, peak learning rates.
SMALL = {
    "pretrain/superflowpp_small.py": (220, 1, [0.005]),
    "pretrain/superflow_small.py": (100, 2, [0.005]),
    "pretrain/slidr_small.py": (220, 2, [0.005]),
    "pretrain/ppkt_small.py": (450, 2, [0.005]),
    "pretrain/regression_small.py": (1250, 2, [0.005]),
    "pretrain/scalr_small.py": (1250, 2, [0.005]),
    "pretrain/st_slidr_small.py": (220, 2, [0.005]),
    "pretrain/after_hilda_small.py": (1250, 2, [0.005]),
    "pretrain/after_dos_small.py": (1250, 2, [0.005]),
    "pretrain/after_utonia_small.py": (1250, 2, [0.005]),
    "pretrain/after_seal_small.py": (220, 2, [0.005]),
    "pretrain/superflow_no_views_small.py": (100, 2, [0.005]),
    "pretrain/points_and_regions_small.py": (220, 1, [0.005]),
    "pretrain/superflowpp_memory_small.py": (220, 1, [0.005]),
    "pretrain/made_labels_small.py": (900, 4, [0.005]),
    "pretrain/superflowpp_labels_small.py": (220, 1, [0.005]),
    "pretrain/best_small.py": (3000, 2, [0.005]),
    "pretrain/go_on_small.py": (450, 2, [0.001]),
    # that of SuperFlow++ on other data
    **{name: (220, 1, [0.005]) for name in shipped_configs() if name.startswith("pretrain/on_")},
    "downstream/finetune_small.py": (300, 1, [0.001, 0.01]),
    "downstream/linear_probe_small.py": (500, 1, [0.005]),
    "downstream/supervised_small.py": (300, 1, [0.005]),
}


def built(config: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, ranks: int = 1) -> Any:
    """A runner as it is before its first step, with the loader that the first of ``ranks`` processes would have."""
    monkeypatch.setattr("superflow.engine.loader.world_size", lambda: ranks)
    config = config.copy()
    config.work_dir, config.val_dataloader, config.val_cfg, config.val_evaluator = (
        str(folder),
        None,
        None,
        None,
    )
    config.test_dataloader, config.test_cfg, config.test_evaluator = None, None, None
    runner = build_runner(config)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return runner


def with_toy(name: str, toy_config: Path, items: int = ITEMS) -> Any:
    """The shipped config ``name`` with the toy's model and data: length, batch and learning rates are its own."""
    shipped, toy = load_config(name), load_config(toy_config)
    for part in ("train_cfg", "auto_scale_lr", "optim_wrapper", "param_scheduler"):
        toy[part] = shipped.get(part)
    toy.train_dataloader.batch_size = shipped.train_dataloader.batch_size
    toy.train_dataloader.dataset["items"] = items
    toy.custom_hooks = []
    return toy


@pytest.mark.parametrize("name", GPU)
def test_a_gpu_config_means_the_same_on_any_number_of_gpus(
    name: str, toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(name)
    assert config.train_cfg.get("max_iters") is None
    plans, first, evaluations = {}, {}, {}
    for ranks in RANKS:
        runner = built(with_toy(name, toy_config), tmp_path / str(ranks), monkeypatch, ranks)
        plans[ranks] = training_plan(runner)
        first[ranks] = [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups]
        evaluations[ranks] = runner.max_iters / runner.train_loop.val_interval
    given = config.optim_wrapper.optimizer.lr
    custom = (config.optim_wrapper.get("paramwise_cfg") or {}).get("custom_keys") or {}
    groups = [1.0, *(group.lr_mult for group in custom.values())]
    for ranks, plan in plans.items():
        assert (plan.ranks, plan.batch_size, plan.items) == (ranks, 4, ITEMS)
        assert plan.epochs == pytest.approx(config.train_cfg.max_epochs, abs=4 * ranks / ITEMS)
        share = 4 * ranks / config.auto_scale_lr.base_batch_size
        assert plan.learning_rates == pytest.approx([given * factor * share for factor in groups])
        # where the cycle begins
        assert first[ranks] == pytest.approx([rate / 25 for rate in plan.learning_rates])
    wanted = 1 if "pretrain" in name else 10
    assert list(evaluations.values()) == pytest.approx([wanted] * len(RANKS), rel=1e-3)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_published_run_of_superflow(
    ranks: int, toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = built(with_toy("pretrain/superflow.py", toy_config), tmp_path, monkeypatch, ranks)
    plan = training_plan(runner)
    assert plan.iterations == {1: 301_500, 4: 75_375, 8: 37_688}[ranks]
    assert plan.learning_rates == pytest.approx([{1: 0.00125, 4: 0.005, 8: 0.01}[ranks]])


@pytest.mark.parametrize("name", sorted(name for name in shipped_configs() if "_small" in name))
def test_the_small_configs_keep_their_steps_and_rates(
    name: str, toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = built(with_toy(name, toy_config, items=40), tmp_path, monkeypatch)
    plan = training_plan(runner)
    assert (plan.iterations, plan.batch_size, list(plan.learning_rates)) == SMALL[name]
    assert plan.base_batch_size is None


def test_the_plan_is_said_and_kept(train: Train) -> None:
    scale = {"auto_scale_lr": {"enable": True, "base_batch_size": 16}}
    runner = train({**EPOCHS, **scale, "optim_wrapper.accumulative_counts": 3})
    assert runner.max_iters == 11  # 3 * 7 items in batches of 2
    logged = next(runner.work_path.glob("*/*.log")).read_text()
    assert "11 iterations of 2 items out of 7: 3.14 epochs; schedules go by iteration" in logged
    assert (
        "3.5 iterations an epoch, 4 optimizer steps on batches of 6 (1 process x 2 x 3 iterations); peak learning "
        "rates: 0.00375, 0.0375 (0.375 of the config's, which are for batches of 16)"
    ) in logged
    assert logged.index("optimizer steps on") < logged.index("Iter(train)")
    wanted = {
        **{"items": 7, "ranks": 1, "batch_size": 2, "accumulate": 3, "iterations": 11, "epochs": 3.1429},
        "learning_rates": [pytest.approx(0.00375), pytest.approx(0.0375)],
        "base_batch_size": 16,
    }
    assert json.loads((runner.work_path / "result.json").read_text())["plan"] == wanted
    assert read_checkpoint(runner.work_path / "iter_11.pth")["meta"]["plan"] == wanted


def test_a_dry_run_says_the_plan(toy_config: Path) -> None:
    options = {**EPOCHS, "auto_scale_lr": {"enable": True, "base_batch_size": 4}}
    said: list[str] = []
    dry_run(load_config(toy_config, options=options), said.append)
    assert "the run: 11 iterations of 2 items out of 7: 3.14 epochs; schedules go by iteration" in said
    assert any(
        "peak learning rates: 0.005, 0.05 (0.5 of the config's, which are for" in line for line in said
    )


def test_a_resumed_run_goes_on_with_the_scaled_rates(train: Train) -> None:
    options = {**EPOCHS, "auto_scale_lr": {"enable": True, "base_batch_size": 4}}
    options["default_hooks.checkpoint.max_keep_ckpts"] = 9
    whole = train(options, name="whole")
    again = train(options, name="again", resume=whole.work_path / "iter_6.pth")
    states = [read_checkpoint(runner.work_path / "iter_11.pth") for runner in (whole, again)]
    assert states[0]["meta"]["plan"] == states[1]["meta"]["plan"]
    for name, value in states[0]["state_dict"].items():
        assert value.equal(states[1]["state_dict"][name])


@pytest.mark.parametrize(
    ("ranks", "batch_size", "accumulate", "words"),
    [
        (1, 4, 1, "on batches of 4 (1 process x 4); peak learning rates: 0.01"),
        (8, 4, 1, "on batches of 32 (8 processes x 4); peak"),
        (2, 3, 5, "24 optimizer steps on batches of 30 (2 processes x 3 x 5 iterations)"),
    ],
)
def test_the_words_of_a_plan(ranks: int, batch_size: int, accumulate: int, words: str) -> None:
    plan = TrainingPlan(600, ranks, batch_size, accumulate, 120, (0.01,))
    assert words in plan.sentences()[1]
    assert plan.epochs == 120 * ranks * batch_size / 600


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"train_cfg.max_iters": 5}, {"max_iters": 5, "val_interval_epochs": 2}),
        ({"train_cfg.max_epochs": 1.5}, {"max_epochs": 1.5, "val_interval_epochs": 2}),
        ({"train_cfg.val_interval": 7}, {"max_epochs": 20, "val_interval": 7}),
        ({"train_cfg.max_iters": 5, "train_cfg.val_interval": 2}, {"max_iters": 5, "val_interval": 2}),
        (
            {"train_cfg.max_epochs": None, "train_cfg.max_iters": 3},
            {"max_iters": 3, "val_interval_epochs": 2},
        ),
    ],
)
def test_an_option_takes_the_place_of_its_alternative(asked: dict[str, Any], left: dict[str, Any]) -> None:
    config = load_config("downstream/finetune.py", options=asked)
    assert {key: value for key, value in config.train_cfg.items() if value is not None} == left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"auto_scale_lr": {"enable": True}},
            r"auto_scale_lr\.base_batch_size: is None; give the number of items",
        ),
        ({"auto_scale_lr": {"enable": True, "base_batch_size": 0}}, r"base_batch_size: is 0; give"),
        ({"auto_scale_lr": {"enable": True, "base_batch_size": "32"}}, r"base_batch_size: is '32'; give"),
        ({"auto_scale_lr": {"enabled": True}}, r"auto_scale_lr\.enabled: nothing reads this key.*'enable'"),
        ({"train_cfg.max_iters": 0}, r"^train_cfg\.max_iters: is 0; give a whole number from 1 on$"),
        ({"train_cfg.max_epochs": 0}, r"^train_cfg\.max_epochs: is 0; give a number above 0$"),
        ({"train_cfg.max_epochs": -2.0}, r"^train_cfg\.max_epochs: is -2\.0; give a number above 0$"),
        ({"train_cfg.max_iters": None}, r"^train_cfg: has no length; give max_iters or max_epochs$"),
        ({"default_hooks.first_batches.batches": 0}, r"batches: is 0; give a whole number from 1 on"),
        ({"default_hooks.checkpoint.interval": 0}, r"checkpoint\.interval: is 0; give a whole number from 1"),
        (
            {"default_hooks.checkpoint.rule": "more"},
            r"hook CheckpointHook: .*\(rule is 'more'; give 'greater'",
        ),
        (
            {"param_scheduler.pct_start": 1.5},
            r"param_scheduler\.pct_start: is 1\.5; give a number from 0 to 1",
        ),
        (
            {"param_scheduler.anneal_strategy": "sine"},
            r"param_scheduler: .*\(anneal_strategy is 'sine'; give",
        ),
        (
            {"train_cfg.val_interval_epochs": 1, "train_cfg.val_interval": 2},
            r"give either val_interval or val_interval_epochs",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(train: Train, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(options)
