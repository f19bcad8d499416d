"""Training little of a large language model: low-rank additions to its layers, through peft."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, get_peft_model

from ...errors import InputError
from .model import LidarVLM

_PROJECTIONS = "(q|k|v|o|gate|up|down)_proj"


def lora_config(model: LidarVLM, *, rank: int = 8, upper: int | None = None) -> LoraConfig:
    """For ``get_peft_model`` and for trl: additions to the language model; the connector learns whole.

    Args:
        rank: of the additions, which are scaled by 2. upper: only in the last so many layers; None for all.

    Raises:
        InputError: there are not so many layers.
    """
    count: int = model.config.text_config.num_hidden_layers
    if upper is not None and not 1 <= upper <= count:
        raise InputError(
            f"upper is {upper}; the language model has {count} layers, choose 1 or more of these"
        )
    layers = "|".join(map(str, range(count - (upper or count), count)))
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=rf"model\.language_model\.layers\.({layers})\..*{_PROJECTIONS}",
        modules_to_save=["connector"],
    )


def add_lora(model: LidarVLM, *, rank: int = 8, upper: int | None = None) -> Any:
    """The model with additions that learn, and nothing else but the connector; ``merge_and_unload`` puts them in.

    A backbone that learns does not go with it: peft would not keep it.
    """
    if model.config.tower_config.backbone != "frozen":
        raise InputError("with LoRA the backbone stays as it is; build the model with learns='frozen'")
    return get_peft_model(model, lora_config(model, rank=rank, upper=upper))
