"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook

from ...errors import InputError, suggest
from ...files.writes import remove_leftovers
from ...hub.checkpoint import find_last, list_checkpoints, point_to, write_checkpoint
from ..registry import HOOKS
from .health import stop_if_broken

# metrics of which less is better, by a part of their name
_LESS = ("loss", "error")


# not mmengine's: a kill while that writes leaves half a file, and it deletes what was sound for what may not be
@HOOKS.register_module()
class CheckpointHook(Hook):
    """Writes ``iter_N.pth`` every ``interval`` iterations and at the end, and the best one after evaluations.

    The pointer file ``last_checkpoint`` changes after the new file is whole and before an old one is deleted, so
    a kill at any moment leaves a checkpoint to resume from. What is not finite is not written, and an old file is
    deleted only when the new one's weights have given a finite loss (or the run is at its end).

    Args:
        interval: iterations between checkpoints; the last iteration is always saved, also of a run that is stopped.
        max_keep_ckpts: how many of them stay.
        save_best: name of the metric whose best value keeps ``best_NAME.pth``; None keeps no best one.
        rule: ``greater`` or ``less``; None goes by the name (losses: less).
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        interval: int = 1000,
        max_keep_ckpts: int = 1,
        save_best: str | None = None,
        rule: str | None = None,
    ) -> None:
        if rule not in (None, "greater", "less"):
            raise ValueError(f"rule is {rule!r}; give 'greater', 'less' or None")
        self.interval, self.max_keep_ckpts, self.save_best = interval, max_keep_ckpts, save_best
        self.rule = rule or ("less" if any(part in (save_best or "") for part in _LESS) else "greater")
        self.best: dict[str, Any] = {}  # value and iteration of the best evaluation
        self.last: dict[str, Any] = {}
        self._due = False
        self._unproven = False  # whether the newest checkpoint's weights have yet to give a finite loss

    def before_run(self, runner: Any) -> None:
        """Refuse to wait for a figure that no evaluation gives."""
        metrics = [] if runner.val_loop is None else runner.val_loop.evaluator.metrics
        names = [metric.names() if hasattr(metric, "names") else None for metric in metrics]
        known = [name for each in names for name in each or ()]
        if self.save_best is not None and known and None not in names and self.save_best not in known:
            raise InputError(
                f"default_hooks.checkpoint.save_best: an evaluation gives no {self.save_best!r}"
                f"{suggest(self.save_best, known)}"
            )

    @master_only
    def before_train(self, runner: Any) -> None:
        """Clear what a killed writer left behind, and say what will never come."""
        remove_leftovers(runner.work_dir)
        if self.save_best is not None and runner.val_loop is None:
            runner.logger.warning(
                f"default_hooks.checkpoint.save_best={self.save_best}: there is no val_dataloader, so no best "
                "checkpoint will be kept"
            )

    def after_train_iter(self, runner: Any, **step: Any) -> None:
        """A finite loss shows that the newest checkpoint is sound: those that it replaces go."""
        if self._unproven and math.isfinite(runner.train_loop.numbers["loss"]):
            self.after_train(runner)

    @master_only
    def after_train(self, runner: Any) -> None:
        """No loss comes after the last checkpoint: those that it replaces go."""
        self._unproven = False
        newest = find_last(runner.work_dir)
        for old in list_checkpoints(runner.work_dir)[: -self.max_keep_ckpts]:
            if old != newest:
                old.unlink(missing_ok=True)

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any]) -> None:
        """Remember the value, and keep the weights if they are the best so far."""
        if self.save_best is None:
            return
        if (value := metrics.get(self.save_best)) is None:
            known = ", ".join(name for name, item in metrics.items() if isinstance(item, float))
            raise InputError(
                f"default_hooks.checkpoint.save_best: the evaluation gave no {self.save_best!r}; choose one of what it "
                f"gave ({known})"
            )
        self.last = {"name": self.save_best, "value": float(value), "iteration": runner.iter}
        sign = 1 if self.rule == "greater" else -1
        is_better = not self.best or sign * value > sign * self.best["value"]
        if not math.isnan(value) and runner.has_learned and is_better:
            self.best = dict(self.last)
            path = self._write(runner, f"best_{self.save_best.replace('/', '_')}.pth")
            runner.logger.info(f"best {self.save_best} so far: {value:.4g}, saved {path.name}")

    def after_step(self, runner: Any) -> None:
        """Save when due, once something was learned.

        With accumulated gradients only at a step of the optimizer, where nothing is pending.
        """
        last = runner.iter == runner.max_iters or runner.train_loop.stop_training
        self._due = self._due or last or runner.iter % self.interval == 0
        if self._due and runner.has_learned and (last or runner.optim_wrapper.should_update()):
            self._due, self._unproven = False, True
            path = self._write(runner, f"iter_{runner.iter}.pth")
            if runner.rank == 0:
                point_to(path)
            runner.logger.info(f"saved {path.name}")

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """The values so far belong to the checkpoint."""
        checkpoint["meta"].update(best=self.best, last=self.last)

    def after_resume(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from the values so far; a best one of another evaluation is none."""
        self.best, self.last = (checkpoint["meta"].get(name, {}) for name in ("best", "last"))
        changes = [str(change) for change in runner.changes if change.is_of_evaluation]
        if self.best and changes:
            runner.logger.warning(f"the best checkpoint is chosen anew: {'; '.join(changes)}")
            self.best = {}

    def _write(self, runner: Any, name: str) -> Path:
        """Write what is finite; every process looks, so that all of them stop, and the first one writes."""
        path, checkpoint = runner.work_path / name, runner.checkpoint()
        stop_if_broken(runner, checkpoint)
        if runner.rank == 0:
            write_checkpoint(path, checkpoint)
        return path
