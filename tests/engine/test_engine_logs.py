"""What a run says of itself while it goes on: lines of the log, figures over time, and when it ends."""

from __future__ import annotations

import json
import logging
import logging.config
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from superflow import protocol
from superflow.benchmark.speed.dry_run import dry_run
from superflow.engine import load_config
from superflow.engine.hooks import LoggerHook

Train = Callable[..., Any]


def test_mistake_06_the_log_says_that_schedules_go_by_iteration(
    train: Train,
) -> None:
    runner = train({"train_cfg.max_iters": None, "train_cfg.max_epochs": 2.5})
    assert runner.max_iters == 9  # 2.5 * 7 items in batches of 2
    logged = next(runner.work_path.glob("*/*.log")).read_text()
    assert "9 iterations of 2 items out of 7: 2.57 epochs; schedules go by iteration" in logged


def test_mistake_07_no_cache_is_emptied_and_the_share_of_loading_is_logged(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("empty_cache in a run"))
    runner = train()
    shares = runner.message_hub.get_scalar("train/data_share").data[0]
    assert len(shares) == 12
    assert ((shares >= 0) & (shares <= 1)).all()
    assert "data_share: " in next(runner.work_path.glob("*/*.log")).read_text()


def test_what_stands_in_the_folder_of_a_new_run_is_said(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    before = train({"train_cfg.max_iters": 3})
    assert "of an earlier training" not in capsys.readouterr().out
    train({"train_cfg.max_iters": 3}, resume=True)
    assert "of an earlier training" not in capsys.readouterr().out
    train({"train_cfg.max_iters": 2, "val_dataloader": None})
    said = capsys.readouterr().out
    told = f"{before.work_path}: holds checkpoints of an earlier training, up to iter_3.pth; this one begins anew"
    assert said.count("of an earlier training") == said.count(told) == 1
    assert "save_best=miou: there is no val_dataloader, so no best checkpoint will be kept" in said


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_the_peak_of_cuda_memory_outlives_the_lines_of_the_log(
    monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """mmengine starts torch's count anew with every line that it writes."""
    count = [500 * 2**20]

    def line(*given: Any) -> tuple[dict[str, Any], str]:
        count[0] = 10 * 2**20
        return {}, ""

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: count[0])
    monkeypatch.setattr(protocol, "_cuda_peak", 0)
    nothing = SimpleNamespace(info=lambda text: None, add_scalars=lambda *given, **options: None)
    runner = SimpleNamespace(
        log_processor=SimpleNamespace(get_log_after_iter=line),
        logger=nothing,
        visualizer=nothing,
        iter=0,
        train_dataloader=range(9),
    )
    hook = LoggerHook(interval=1)
    hook.json_log_path = ""
    getattr(hook, f"after_{stage}_iter")(runner, 0)
    assert count[0] < 500 * 2**20
    assert protocol.peak_memory()["peak_cuda_memory_mb"] == 500


def test_tensorboard_and_json_logs_are_written(train: Train) -> None:
    backends = [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}]
    runner = train({"visualizer.vis_backends": backends})
    assert list(runner.work_path.glob("*/vis_data/events.out.tfevents*"))
    lines = [
        json.loads(line)
        for line in next(runner.work_path.glob("*/vis_data/scalars.json")).read_text().splitlines()
    ]
    assert {"loss", "lr", "data_share"} <= set(lines[0])
    assert [line["step"] for line in lines if "miou" in line] == [4, 8, 12]


def test_a_slow_run_is_never_silent_for_long(train: Train) -> None:
    quiet = {"default_hooks.logger.interval": 100, "custom_hooks": [], "train_cfg.val_interval": None}
    for seconds, lines in ((30.0, 2), (1e-9, 12)):
        runner = train({**quiet, "default_hooks.logger.seconds": seconds}, name=f"log_{lines}")
        logged = next(runner.work_path.glob("*/*.log")).read_text()
        assert logged.count("Iter(train)") == lines
        assert "Iter(train) [ 1/12]" in logged
        assert "eta: 0:00:" in logged


def test_the_package_logs_into_the_file_of_the_run(train: Train) -> None:
    runner = train({"train_cfg.max_iters": 1})
    assert "superflow.engine.loops - INFO" in next(runner.work_path.glob("*/*.log")).read_text()


def test_the_history_of_the_figures_does_not_grow_with_the_run(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("superflow.engine.hooks.result._KEPT", 5)
    kept = train().message_hub.log_scalars
    assert len(kept["train/loss"].data[0]) == len(kept["train/time"].data[0]) == 5
    assert kept["train/loss"].current() == kept["train/loss"].data[0][-1] > 0


def test_a_run_that_ended_writes_down_no_more(train: Train) -> None:
    """What the process says later is none of its business; its folder may be gone."""
    folder = next(train().work_path.glob("*/*.log")).parent
    # as servers do: closes all files
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    shutil.rmtree(folder)
    logging.getLogger("superflow.anything").warning("after")
    assert not folder.exists()


def test_a_dry_run_silences_nothing_later(toy_config: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is quiet itself, and its log lies in a folder that is gone when it ends."""
    dry_run(load_config(toy_config, work_dir=toy_config.parent / "never"), lambda line: None)
    with caplog.at_level("INFO"):
        logging.getLogger("superflow.anything").info("after")
    assert "after" in caplog.text
