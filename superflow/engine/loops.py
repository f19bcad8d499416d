"""The training loop by iteration, and one pass over an evaluation set."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.runner import BaseLoop
from torch import Tensor

from ..clips.sampler import seed_step
from ..errors import InputError
from ..method.distributed import copy_from_first, each_rank_alone, world_size
from ..together import has_free_core, one_ahead
from .loader import build_loader
from .registry import LOOPS
from .training_plan import training_plan

log = logging.getLogger(__name__)


def scalars(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The outputs of a step that are for the log (names without ``_``) as numbers, fetched from the device together."""
    shown = {name: value for name, value in outputs.items() if not name.startswith("_")}
    tensors = {name: value for name, value in shown.items() if isinstance(value, Tensor)}
    if tensors:
        fetched = torch.stack([value.detach().double().reshape(()) for value in tensors.values()])
        shown.update(zip(tensors, fetched.tolist()))
    return {name: float(value) for name, value in shown.items()}


# not mmengine's loop by iteration: that saves before it evaluates, draws all batches anew to resume, and seeds no step
@LOOPS.register_module()
class TrainLoop(BaseLoop):
    """``max_iters`` iterations: load, step, evaluate when due, then save when due.

    Saving comes after the evaluation, so a checkpoint knows the best value that it belongs to.

    Args:
        max_iters: length of the run; or ``max_epochs`` passes over the data, rounded up to whole iterations.
        val_interval: iterations between evaluations; or ``val_interval_epochs``, passes over the data. The last
            iteration is always evaluated. Neither: only the last.

    Attributes:
        iter: iterations done; during hooks of an iteration, those before it.
        numbers: `scalars` of the last step, and ``data_share``, the share of its time spent waiting for its batch.
    """

    max_epochs, epoch = 1, 0  # the run is one epoch to mmengine's hooks
    stop_training = False  # mmengine's EarlyStoppingHook sets it

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int | None = None,
        *,
        max_epochs: float | None = None,
        val_interval: int | None = None,
        val_interval_epochs: float | None = None,
    ) -> None:
        super().__init__(runner, build_loader(dataloader, seed=runner.seed, purpose="training"))
        self.sampler = self.dataloader.batch_sampler
        length = self._iterations("max_iters or max_epochs", max_iters, max_epochs)
        if length is None:
            raise InputError("train_cfg: has no length; give max_iters or max_epochs")
        between = self._iterations("val_interval or val_interval_epochs", val_interval, val_interval_epochs)
        self.iter, self.max_iters = 0, length
        self.val_interval = between or length
        self.numbers: dict[str, float] = {}

    def _iterations(self, names: str, iterations: int | None, epochs: float | None) -> int | None:
        """The given one of two; passes over the data as iterations of all processes, rounded up."""
        if epochs is None:
            return iterations
        if iterations is not None:
            raise InputError(f"train_cfg: give either {names}, and set the other to None")
        return math.ceil(epochs * self.sampler.items / (self.sampler.batch_size * self.sampler.world_size))

    def _batches(self) -> Iterator[Any]:
        """The batches of the run; on a CPU that has a core for it, each is made ready while the one before computes.

        Not where a dataset may draw from the random numbers of the whole process, which steps draw from as well.
        """
        model, loader = self.runner.engine_model, self.dataloader
        apart = loader.num_workers > 0 or getattr(loader.dataset, "draws_by_seed", False)
        alone = world_size() == 1 and model.data_preprocessor.device.type == "cpu"
        if not apart or not alone or not has_free_core():
            return iter(self.dataloader)
        return one_ahead(iter(self.dataloader), model.look_ahead)

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last one."""
        runner = self.runner
        self.sampler.start, self.sampler.stop = self.iter, self.max_iters
        for sentence in training_plan(runner).sentences():
            log.info(sentence)
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        batches = self._batches() if self.iter < self.max_iters else iter(())
        while self.iter < self.max_iters and not self.stop_training:
            began = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - began
            runner.model.train()
            seed_step(runner.seed, self.iter, runner.rank)
            runner.call_hook("before_train_iter", batch_idx=self.iter, data_batch=batch)
            outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            self.numbers = scalars(outputs)
            self.numbers["data_share"] = waited / max(time.perf_counter() - began, 1e-9)
            runner.call_hook("after_train_iter", batch_idx=self.iter, data_batch=batch, outputs=outputs)
            self.iter += 1
            due = self.iter % self.val_interval == 0 or self.iter == self.max_iters
            if due and runner.val_loop is not None:
                runner.val_loop.run()
            runner.call_hook("after_step")
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model


# not mmengine's loops: they know no statistics of several ranks and no ranks of unequally many batches
@LOOPS.register_module()
class ValLoop(BaseLoop):
    """Evaluation during training: one pass over its set; ``stage`` names its hooks, ``purpose`` its data."""

    stage, purpose = "val", "validation"

    def __init__(self, runner: Any, dataloader: Any, evaluator: Any) -> None:
        super().__init__(runner, build_loader(dataloader, seed=runner.seed, purpose=self.purpose))
        self.evaluator = runner.build_evaluator(evaluator)
        self.evaluator.dataset_meta = {"classes": getattr(self.dataloader.dataset, "class_names", None)}

    @torch.no_grad()
    def run(self) -> dict[str, Any]:
        """Metrics over the whole set, equal on all ranks."""
        runner, stage = self.runner, self.stage
        runner.call_hook(f"before_{stage}")
        runner.call_hook(f"before_{stage}_epoch")
        runner.model.eval()
        # running statistics are each rank's own until the next training step shares those of rank 0
        copy_from_first(runner.engine_model.buffers())
        step = getattr(runner.model, f"{stage}_step")
        for number, batch in enumerate(self.dataloader):
            runner.call_hook(f"before_{stage}_iter", batch_idx=number, data_batch=batch)
            # whatever a model draws here is the same at every evaluation
            seed_step(runner.seed, number, runner.rank)
            with each_rank_alone():  # ranks may have unequally many batches
                outputs = step(batch)
            self.evaluator.process(data_samples=outputs, data_batch=batch)
            runner.call_hook(f"after_{stage}_iter", batch_idx=number, data_batch=batch, outputs=outputs)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        runner.call_hook(f"after_{stage}_epoch", metrics=metrics)
        runner.call_hook(f"after_{stage}")
        return metrics


@LOOPS.register_module()
class TestLoop(ValLoop):
    """Evaluation of a finished model."""

    stage = purpose = "test"
    __test__ = False  # not a test case
