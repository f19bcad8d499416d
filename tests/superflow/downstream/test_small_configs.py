"""When the small downstream configs evaluate: a best figure beside the last one needs more than one evaluation."""

from __future__ import annotations

import pytest

from superflow.engine import load_config


@pytest.mark.parametrize(
    ("name", "evaluations"), [("linear_probe_small", 4), ("finetune_small", 4), ("supervised_small", 1)]
)
def test_small_runs_evaluate_as_often_as_they_say(name, evaluations):
    config = load_config(f"downstream/{name}.py")
    interval = config.train_cfg.get("val_interval") or config.train_cfg.max_iters
    assert config.val_dataloader.dataset.frames == "val"
    assert config.val_evaluator.type == "SegmentationMetric"
    assert config.train_cfg.max_iters / interval == evaluations
    assert (config.default_hooks.checkpoint.get("save_best") == "miou") == (evaluations > 1)
