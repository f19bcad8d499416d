"""Parameter groups, and the optimizer wrapper for mixed precision."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from ..errors import InputError
from .loader import named
from .registry import OPTIM_WRAPPERS

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
    norms = set(_norm_parameters(model))
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


def _norm_parameters(model: nn.Module) -> Iterator[str]:
    for prefix, module in model.named_modules():
        # every norm layer of torch carries its name; sparse ones wrap or subclass these
        if "Norm" in type(module).__name__:
            for name, _ in module.named_parameters(recurse=False):
                yield f"{prefix}.{name}"


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """mmengine's, but bfloat16 where the device has it, for which gradients are not scaled.

    Args:
        dtype: ``bfloat16`` or ``float16``; None takes bfloat16 where the device computes in it, instead of emulating
            it (from Ampere on).
        optimizer, accumulative_counts, clip_grad: as in mmengine's ``OptimWrapper``.

    Raises:
        InputError: there is no CUDA device.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: str | None = None,
        accumulative_counts: int = 1,
        clip_grad: dict[str, Any] | None = None,
    ) -> None:
        if not torch.cuda.is_available():
            raise InputError(AMP_ON_CPU)
        if dtype not in (None, "bfloat16", "float16"):
            raise InputError(f"optim_wrapper.dtype is {dtype!r}; use 'bfloat16' or 'float16'")
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = dtype or ("bfloat16" if bfloat16 else "float16")
        further = {"accumulative_counts": accumulative_counts, "clip_grad": clip_grad}
        with warnings.catch_warnings():  # mmengine calls torch's scaler by its old name
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__({"enabled": dtype == "float16"}, dtype, optimizer=optimizer, **further)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: it is of the other precision: only float16 has a scaler.
        """
        # "scaler" is its name in checkpoints of earlier versions
        scaler = state_dict.pop("scaler", {}) or state_dict.pop("loss_scaler", {})
        if bool(scaler) != self.loss_scaler.is_enabled():
            before = "float16" if scaler else "bfloat16"
            now = str(self.cast_dtype).removeprefix("torch.")
            raise ValueError(
                f"optim_wrapper.dtype was {before} and is {now}; give optim_wrapper.dtype={before}"
            )
        super().load_state_dict({**state_dict, "loss_scaler": scaler})
