"""Parameter groups, mixed precision, and a schedule of learning rates that keeps the ratio between groups."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import OPTIMIZERS
from torch import nn

from ..errors import InputError
from .loader import named
from .registry import OPTIM_WRAPPERS, PARAM_SCHEDULERS

AMP_ON_CPU = "mixed precision needs a CUDA device: bf16 on a CPU is 20-40 times slower; leave out --amp"


def build_optim_wrapper(model: nn.Module, config: Mapping[str, Any]) -> OptimWrapper:
    """The wrapper that mmengine's ``optim_wrapper`` describes, over the trainable parameters of ``model``.

    ``paramwise_cfg`` is ``dict(custom_keys={"head": dict(lr_mult=10.0, decay_mult=1.0)}, norm_decay_mult=0.0,
    bias_decay_mult=0.0)``: the longest key that occurs in a parameter's name decides, then norms, then biases.
    Parameters of equal multipliers form one group, in the order of the model.

    Raises:
        InputError: nothing is trainable, a custom key fits no trainable parameter, or an option is refused.
    """
    options = copy.deepcopy(dict(config))
    optimizer, paramwise = dict(options.pop("optimizer")), options.pop("paramwise_cfg", None) or {}
    rates = {"lr": optimizer["lr"], "weight_decay": optimizer.get("weight_decay", 0.0)}
    with named("optim_wrapper"):
        optimizer["params"] = parameter_groups(model, paramwise=paramwise, **rates)
        built = OPTIMIZERS.build(optimizer)
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper", **options, "optimizer": built})


# mmengine's constructor makes a group of each parameter, which is slower, and logs a line for each of its options
def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float, paramwise: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer; see `build_optim_wrapper`."""
    custom = paramwise.get("custom_keys") or {}
    norms = {  # every norm layer of torch carries its name; sparse ones wrap or subclass these
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if "Norm" in type(module).__name__
        for name, _ in module.named_parameters(recurse=False)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = max((key for key in custom if key in name), key=lambda key: (len(key), key), default=None)
        used.add(key)
        kind = "norm" if name in norms else "bias" if name.endswith("bias") else "other"
        own = {"decay_mult": paramwise.get(f"{kind}_decay_mult", 1.0)} if key is None else custom[key]
        factors = own.get("lr_mult", 1.0), own.get("decay_mult", 1.0)
        groups.setdefault(factors, []).append(parameter)
    if unused := set(custom) - used:
        raise InputError(
            f"optim_wrapper.paramwise_cfg.custom_keys: no trainable parameter is called like {sorted(unused)[0]!r}; "
            f"the model's parts are {', '.join(dict.fromkeys(name for name, _ in model.named_children()))}"
        )
    if not groups:
        raise InputError("model: no parameter is trainable; unfreeze a part of it")
    return [
        {"params": parameters, "lr": lr * lr_mult, "weight_decay": weight_decay * decay_mult}
        for (lr_mult, decay_mult), parameters in groups.items()
    ]


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """mmengine's, but bfloat16 where the device has it, for which gradients are not scaled.

    Args:
        dtype: ``bfloat16`` or ``float16``; None takes bfloat16 where the device computes in it, instead of emulating
            it (from Ampere on).
        optimizer, options: as in mmengine's ``OptimWrapper``.

    Raises:
        InputError: there is no CUDA device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, dtype: str | None = None, **options: Any) -> None:
        if not torch.cuda.is_available():
            raise InputError(AMP_ON_CPU)
        if dtype not in (None, "bfloat16", "float16"):
            raise InputError(f"optim_wrapper.dtype is {dtype!r}; use 'bfloat16' or 'float16'")
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = dtype or ("bfloat16" if has_bfloat16 else "float16")
        with warnings.catch_warnings():  # mmengine calls torch's scaler by its old name
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__({"enabled": dtype == "float16"}, dtype, optimizer=optimizer, **options)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: it is of the other precision: only float16 has a scaler.
        """
        # "scaler" is its name in checkpoints of earlier versions
        scaler = state_dict.pop("scaler", {}) or state_dict.pop("loss_scaler", {})
        if bool(scaler) != self.loss_scaler.is_enabled():
            before, now = ("float16", "bfloat16") if scaler else ("bfloat16", "float16")
            raise ValueError(
                f"optim_wrapper.dtype was {before} and is {now}; give optim_wrapper.dtype={before}"
            )
        super().load_state_dict({**state_dict, "loss_scaler": scaler})


# torch's divides by zero where pct_start is one iteration (5 of them at 0.2) or the whole run, and raises past its end
@PARAM_SCHEDULERS.register_module()
class OneCycleLR(_ParamScheduler):
    """One warm-up and one decay over the run, by iteration; every group's peak is its own learning rate.

    mmengine's scheduler of this name writes one ``eta_max`` into all groups, which cancels ``lr_mult``; here
    ``eta_max`` is the peak of a group without multiplier.

    Args:
        optimizer: with the learning rates of ``optim_wrapper``.
        eta_max: peak; None takes the optimizer's ``lr``.
        total_steps: iterations; None takes those from ``begin`` to ``end``.
        pct_start: share of the run spent rising.
        anneal_strategy: ``cos`` or ``linear``.
        div_factor: peak / first value; final_div_factor: first / last value.
        begin, end: first iteration, and the one after the last; the runner gives ``train_cfg.max_iters`` as end.
        by_epoch: must be False, the schedule is by iteration.
    """

    def __init__(
        self,
        optimizer: Any,
        eta_max: float | None = None,
        total_steps: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        begin: int = 0,
        end: int | None = None,
        last_step: int = -1,
        by_epoch: bool = False,
    ) -> None:
        if by_epoch:
            raise ValueError("OneCycleLR goes by iteration: by_epoch must be False")
        steps = total_steps if total_steps is not None else 0 if end is None else end - begin
        if steps < 1:
            raise ValueError(f"OneCycleLR over {steps} iterations; give total_steps or an end after begin")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy is {anneal_strategy!r}; give 'cos' or 'linear'")
        scale = 1.0 if eta_max is None else eta_max / optimizer.defaults["lr"]
        self.peaks = [group["lr"] * scale for group in optimizer.param_groups]
        self.total_steps, self.pct_start, self.anneal_strategy = steps, pct_start, anneal_strategy
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        super().__init__(optimizer, "lr", begin=begin, end=begin + steps, last_step=last_step, by_epoch=False)

    def factor(self, step: int) -> float:
        """Learning rate / peak at iteration ``step``."""
        low, last = 1 / self.div_factor, 1 / self.div_factor / self.final_div_factor
        rise = self.pct_start * self.total_steps - 1
        if step <= rise:
            start, end, share = low, 1.0, step / max(rise, 1e-12)
        else:
            fall = max(self.total_steps - 1 - max(rise, 0), 1e-12)
            start, end, share = 1.0, last, min((step - max(rise, 0)) / fall, 1.0)
        weight = share if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2
        return start + (end - start) * weight

    def _get_value(self) -> list[float]:
        factor = self.factor(self.last_step)
        return [peak * factor for peak in self.peaks]
