"""Steps that are made ready ahead, in a thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import current_thread
from typing import Any

import torch
from engine_toy import ToyDataset

from superflow.clips.batch import Batch
from superflow.engine import loops
from superflow.engine.model import EngineModel

Train = Callable[..., Any]


def test_batches_made_ready_ahead_train_to_the_same_bits(train: Train, monkeypatch) -> None:
    makers: list[str] = []
    real = EngineModel.look_ahead

    def look_ahead(model: EngineModel, batch: Batch) -> Batch:
        makers.append(current_thread().name)
        return real(model, batch)

    monkeypatch.setattr(EngineModel, "look_ahead", look_ahead)
    weights = []
    for free in (False, True):
        monkeypatch.setattr(loops, "has_free_core", lambda free=free: free)
        runner = train({"train_cfg.val_interval": 100}, name=f"free_{free}")
        assert len(makers) == (runner.train_loop.max_iters if free else 0)
        weights.append(runner.plain_model.state_dict().values())
    assert all(name.startswith("beside") for name in makers)
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    count = len(makers)
    # as one that draws from the process's random numbers
    monkeypatch.setattr(ToyDataset, "draws_by_seed", False)
    train({"train_cfg.val_interval": 100}, name="undeclared")
    assert len(makers) == count
