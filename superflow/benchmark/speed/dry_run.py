"""A few batches through everything, with shapes, and what the run would cost, before a long one is started."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...clips.sampler import seed_step
from ...engine.loops import scalars
from ...engine.runner import EngineRunner, build_runner, logging_kept
from ...engine.training_plan import training_plan
from ...progress import duration
from ...protocol import device_name, peak_memory
from .run_cost import free_bytes, run_cost, size, synchronize

TIMED = 4  # steps after the first


def dry_run(config: Any, show: Callable[[str], None]) -> None:
    """A few training steps and an evaluation of one batch; nothing of it is kept.

    From them come hours, memory and disk of the run on this machine.

    Args:
        config: of `config.load_config`; its work folder is not touched.
        show: receives the lines.

    Raises:
        InputError: the config, its data or its checkpoint cannot be used.
    """
    config = config.copy()
    with tempfile.TemporaryDirectory(prefix="superflow-dry-run-") as folder, logging_kept():
        free = free_bytes(config.work_dir)
        config.work_dir, config.log_level = folder, "WARNING"
        config.visualizer = {"type": "Visualizer", "vis_backends": []}
        runner = build_runner(config)
        for line in _lines(runner, free):
            show(line)


def _lines(runner: EngineRunner, free: int) -> Iterator[str]:
    model = runner.plain_model
    yield f"device: {device_name()}, {runner.world_size} process(es)"
    for name, child in model.named_children():
        if not child.state_dict():  # a place for what this config does not have, such as heads
            continue
        yield f"model.{name}: {_parameters(child)}"
    yield f"model: {_parameters(model)}"
    if runner._train_loop is not None:
        yield from _train(runner, free)
    if runner._val_loop is not None:
        yield from _evaluate(runner)
    for name, value in peak_memory().items():
        yield f"{name}: {value:,.0f}"
    yield f"memory of this machine: {size(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))}"


def _train(runner: EngineRunner, free: int) -> Iterator[str]:
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    runner.load_or_resume()
    loop = runner.train_loop
    record = runner.data_records()["train"]
    said = {name: value for name, value in record.items() if name not in ("recordings", "classes")}
    yield f"data: {loop.sampler.items} items, {said}"
    loop.sampler.start, loop.sampler.stop = (
        loop.iter,
        max(loop.iter + 1, min(loop.iter + 1 + TIMED, loop.max_iters)),
    )
    waits, steps = list[float](), list[float]()
    yield from _steps(runner, waits, steps)
    groups = runner.optim_wrapper.optimizer.param_groups
    yield "learning rates: " + ", ".join(
        f"{group['lr']:.3g} ({len(group['params'])} tensors)" for group in groups
    )
    yield from (f"the run: {sentence}" for sentence in training_plan(runner).sentences())
    # the first step also warms up, and its batch waited for the loader to start
    first = 1 if len(steps) > 1 else 0
    yield from run_cost(runner, waits[first:], steps[first:]).sentences(free)


def _steps(runner: EngineRunner, waits: list[float], steps: list[float]) -> Iterator[str]:
    """As many steps as the sampler gives; the seconds of each, and those of waiting for it, go into the lists."""
    loop = runner.train_loop
    runner.model.train()
    began = time.perf_counter()
    for number, batch in enumerate(loop.dataloader):
        wait = time.perf_counter() - began
        if not number:
            yield f"first batch after {wait:.2f} s, loader start included"
            yield from _shapes(batch)
        seed_step(runner.seed, loop.iter + number, runner.rank)
        began = time.perf_counter()
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        numbers = scalars(outputs)
        synchronize()
        took = time.perf_counter() - began
        yield f"step {number + 1}: {took:.3f} s, " + ", ".join(
            f"{name} {value:.4g}" for name, value in numbers.items()
        )
        waits.append(wait)
        steps.append(took)
        began = time.perf_counter()
    yield from (
        f"caution: {name} is 0 in this batch: {meaning}"
        for name, meaning in getattr(runner.plain_model, "needs", {}).items()
        if not numbers[name]
    )
    yield from (f"output {name}: {_shape(value)}" for name, value in outputs.items() if name.startswith("_"))


@torch.no_grad()
def _evaluate(runner: EngineRunner) -> Iterator[str]:
    loop = runner.build_val_loop(runner._val_loop)
    batch = next(iter(loop.dataloader))
    runner.model.eval()
    began = time.perf_counter()
    outputs = runner.model.val_step(batch)
    loop.evaluator.process(data_samples=outputs, data_batch=batch)
    metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
    took = time.perf_counter() - began
    whole = duration(took * len(loop.dataloader))
    yield f"evaluation of {len(loop.dataloader)} batches, the first in {took:.3f} s: {whole} without loading"
    yield "metrics: " + ", ".join(name for name in metrics)


def _shapes(batch: Any) -> Iterator[str]:
    for entry in fields(batch) if is_dataclass(batch) else ():
        value = getattr(batch, entry.name)
        if isinstance(value, Tensor):
            yield f"batch.{entry.name}: {_shape(value)}"


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    megabytes = value.numel() * value.element_size() / 2**20
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}, {megabytes:.2f} MB"


def _parameters(module: nn.Module) -> str:
    total = sum(parameter.numel() for parameter in module.parameters())
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return f"{total:,} parameters, {trained:,} of them trained"
