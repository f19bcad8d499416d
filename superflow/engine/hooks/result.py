"""One JSON file a run, with everything that a table of results needs of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook

from ...downstream.fractions import write_tokens
from ...files.writes import write_atomically
from ...protocol import commit, device_name, peak_memory
from ..registry import HOOKS
from ..training_plan import training_plan
from .checkpoint import CheckpointHook


@HOOKS.register_module()
class ResultHook(Hook):
    """Writes ``result.json`` after every evaluation and at the end, ``test_result.json`` after a test.

    Beside them ``STAGE_frames.txt`` lists the labelled frames of each stage.
    """

    priority = "LOWEST"  # the checkpoint hook knows the best value by then

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.train: dict[str, float] = {}
        self._listed: set[str] = set()  # stages whose frames are written

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """A run that is resumed after its end still knows its figures."""
        checkpoint["meta"].update(metrics=_json(self.metrics), train=last_values(runner) or self.train)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from the figures so far."""
        if runner.is_resuming:
            meta = checkpoint["meta"]
            self.metrics, self.train = meta.get("metrics", {}), meta.get("train", {})

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Write what is known so far."""
        self.metrics = dict(metrics or {})
        self._write(runner, "result.json")

    def after_train(self, runner: Any) -> None:
        """Write the final state."""
        self._write(runner, "result.json", finished=runner.iter >= runner.max_iters)

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Write the figures of a test."""
        self.metrics = dict(metrics or {})
        self._write(runner, "test_result.json", checkpoint=str(runner.loaded_from or ""))

    @master_only
    def _write(self, runner: Any, name: str, **extra: Any) -> None:
        keeper = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        trains = name == "result.json"
        self._write_frames(runner)
        result = {
            **extra,
            "iteration": runner.iter if trains else runner.loaded_iteration,
            "last": keeper.last if keeper and trains else {},
            "best": keeper.best if keeper and trains else {},
            "metrics": self.metrics,
            "train": (last_values(runner) or self.train) if trains else {},
            "plan": training_plan(runner).record() if trains else {},
            "seed": runner.seed,
            "commit": commit(),
            "config": str(runner.cfg.filename or ""),
            "superflow": runner.engine_model.record(),
            "data": runner.data_records(),
            "leakage": runner.leakage,
            "device": device_name(),
            "world_size": runner.world_size,
            "seconds": round(runner.seconds, 1),
            **peak_memory(),
        }
        with write_atomically(Path(runner.work_dir) / name, "w") as file:
            json.dump(_json(result), file, indent=1)

    def _write_frames(self, runner: Any) -> None:
        """STAGE_frames.txt, once a run: the labelled frames of each stage, whose hash the record of its data has."""
        for stage, dataset in runner.datasets().items():
            if stage in self._listed or not hasattr(dataset, "frame_tokens"):
                continue
            self._listed.add(stage)
            record = dataset.record()
            note = f"{record['frames']} frames of {record['dataset']}, tokens_hash {record['tokens_hash']}"
            write_tokens(Path(runner.work_dir) / f"{stage}_frames.txt", dataset.frame_tokens, note=note)


def last_values(runner: Any) -> dict[str, float]:
    """Mean of each training figure over the last 10 iterations."""
    scalars = runner.message_hub.log_scalars
    return {
        name.removeprefix("train/"): float(buffer.mean(10))
        for name, buffer in scalars.items()
        if name.startswith("train/")
    }


def _json(value: Any) -> Any:
    """``value`` as JSON knows it; nan and inf, which it does not, as None."""
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return _json(value.item()) if getattr(value, "numel", lambda: 0)() == 1 else str(value)
