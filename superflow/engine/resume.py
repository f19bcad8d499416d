"""What a run takes from the checkpoint that it goes on from, beside the weights."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Mapping
from typing import Any

from mmengine.optim import OptimWrapper

from ..errors import InputError
from ..hub.checkpoint import with_tuples
from ..method.distributed import gather_values
from .continuation import another_run, check_changes


def go_on(runner: Any, checkpoint: Mapping[str, Any], source: str) -> None:
    """Check that ``runner`` is the run of ``checkpoint``, and give it the optimizer's past and the rates of now.

    Args:
        runner: with its weights, and with its ``changes`` against that run.
        source: name of the checkpoint, for messages.

    Raises:
        InputError: another seed, data, model or optimizer, or an end that is behind it.
    """
    done, seed = checkpoint["meta"]["iter"], checkpoint["meta"]["seed"]
    if seed != runner.seed:
        raise InputError(
            f"{source}: was trained with seed {seed}, this run has {runner.seed}; "
            f"give --seed {seed}, or another --work-dir for a new run"
        )
    if told := check_changes(runner.changes, source):
        runner.logger.warning(told)
    if done > runner.max_iters:
        raise InputError(
            f"{source}: is at iteration {done}, and this run ends at {runner.max_iters}; give "
            f"train_cfg.max_iters={done} or more, or an earlier checkpoint by --resume"
        )
    if done == runner.max_iters:
        runner.logger.warning(
            f"{source}: all {done} iterations are done and nothing is left to train; give a larger "
            "train_cfg.max_iters to go on, or another --work-dir for a new run"
        )
    try:
        _restore(runner, checkpoint)
    except (KeyError, ValueError) as error:
        raise another_run(source, "optimizer and schedules", error) from error


def check_same_start(start: str, data: Mapping[str, Any]) -> None:
    """Compare what the processes of a run begin with; they may be on machines that do not see the same files.

    Args:
        start: what this one begins with, in words. data: record of each of its datasets by its stage.

    Raises:
        InputError: another one begins otherwise: at some step one would wait for ever, or items would be seen twice.
    """
    given = {"start": start} | {
        f"{stage}_dataloader.{key}": value for stage, record in data.items() for key, value in record.items()
    }
    (first_host, first), *others = gather_values((socket.gethostname(), given))
    for number, (host, own) in enumerate(others, start=1):
        for what in {**first, **own}:
            if own.get(what) != first.get(what):
                raise InputError(
                    f"process {number} on {host} has another {what} than process 0 on {first_host} "
                    f"({str(own.get(what))[:100]} instead of {str(first.get(what))[:100]}); give all machines the same "
                    "work folder and data, on a disk that all of them see or as equal copies"
                )


def _restore(runner: Any, checkpoint: Mapping[str, Any]) -> None:
    """The optimizer's past from the checkpoint; its rates from the schedules, gone through up to here."""
    schedulers = runner.param_schedulers or []
    by_evaluations = any(getattr(scheduler, "need_val_args", False) for scheduler in schedulers)
    # schedules may build on the value before: gone through one by one, the end is bit by bit that of a run
    for _ in range(0 if by_evaluations else checkpoint["meta"]["iter"]):
        for scheduler in schedulers:
            scheduler.step()
    load_moments(runner.optim_wrapper, checkpoint["optimizer"], keep_rates=not by_evaluations)
    if by_evaluations:  # what these did cannot be gone through again
        for change in runner.changes:
            if "param_scheduler" in change.key or change.key.endswith(".lr") or "auto_scale_lr" in change.key:
                raise ValueError(f"{change}, which a schedule by evaluations cannot follow")
        for scheduler, state in zip(schedulers, checkpoint["param_schedulers"], strict=True):
            scheduler.load_state_dict(state)


def load_moments(wrapper: OptimWrapper, state: Mapping[str, Any], *, keep_rates: bool) -> None:
    """Give an optimizer what a checkpoint knows of its past: moments, steps, the gradient scaler.

    Args:
        wrapper: with the groups of this run, and with the learning rates that are due.
        state: of a wrapper; lists stand where groups have tuples.
        keep_rates: leave what the optimizer takes as arguments (learning rates, weight decay, betas) as it is; else
            that comes from ``state``, too.

    Raises:
        KeyError, ValueError: ``state`` is of another optimizer, of other groups or of another precision.
    """
    taken = inspect.signature(type(wrapper.optimizer).__init__).parameters
    own = [
        {key: group[key] for key in group if key != "params" and key.removeprefix("initial_") in taken}
        for group in wrapper.param_groups
    ]
    wrapper.load_state_dict(with_tuples(state))
    for group, kept in zip(wrapper.param_groups, own, strict=True):
        group.update(kept if keep_rates else {})
