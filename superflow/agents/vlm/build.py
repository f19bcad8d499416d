"""A model and its processor out of a backbone and a language model; and both from a folder."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from ...errors import InputError, MissingFileError, first_line
from ...files.access import read_json
from ...hub.backbone import Backbone
from .bev import BevGrid
from .config import LidarTowerConfig, LidarVLMConfig
from .language_model import LanguageModel
from .model import LidarVLM
from .processor import LidarProcessor
from .tokenizer import LIDAR, add_lidar_tokens, chat_template


def build(
    language: LanguageModel,
    *,
    backbone: Backbone | None = None,
    channels: int | None = None,
    grid: BevGrid = BevGrid(),  # noqa: B008 - frozen
    learns: str = "frozen",
    question_first: bool = False,
    **options: Any,
) -> tuple[LidarVLM, LidarProcessor]:
    """A model that sees with ``backbone`` and speaks with ``language``, which it takes over; and its processor.

    Args:
        backbone: of ``superflow.load``, copied; without one, ``channels`` says how wide the grids will be.
        learns: of the backbone, see ``config.TRAINED``. question_first: see ``tokenizer.chat_template``.
        options: of ``LidarVLMConfig``.

    Raises:
        InputError: options that do not fit.
    """
    tokenizer = language.tokenizer
    add_lidar_tokens(tokenizer)
    _make_room(language.model, len(tokenizer))
    table, head = language.model.get_input_embeddings(), language.model.get_output_embeddings()
    tied = head.weight is table.weight
    text = copy.deepcopy(language.model.config)
    text.tie_word_embeddings = tied  # some checkpoints say that they are, and bring a head of their own
    config = LidarVLMConfig(
        tower_config=_tower(backbone, channels, grid, learns),
        text_config=text,
        lidar_token_id=tokenizer.convert_tokens_to_ids(LIDAR),
        tie_word_embeddings=tied,
        **options,
    )
    model = LidarVLM(config)
    _take_over(model, language, backbone, head=None if tied else head)
    end = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, do_sample=False)
    processor = LidarProcessor(
        tokenizer,
        config.tokens_per_scan,
        chat_template=chat_template(question_first=question_first),
        tokens_per_tile=config.tokens_per_tile if config.short_merge else None,
        camera_tokens=config.camera_tokens,
    )
    return model.eval(), processor


def _tower(backbone: Backbone | None, channels: int | None, grid: BevGrid, learns: str) -> LidarTowerConfig:
    return LidarTowerConfig(
        channels=backbone.out_channels if backbone is not None else channels or 48,
        grid=grid.config(),
        card=None if backbone is None else {**asdict(backbone.card), "encoder": backbone.encoder.config()},
        backbone=learns,
    )


def _take_over(
    model: LidarVLM, language: LanguageModel, backbone: Backbone | None, *, head: nn.Module | None
) -> None:
    """Put the weights of a language model, its own ``head`` if it has one, and of a backbone into the model."""
    nn.Module.to(model, language.model.dtype)
    model.model.lidar_tower.float()
    model.model.language_model.load_state_dict(language.model.base_model.state_dict())
    if head is not None:
        model.lm_head.load_state_dict(head.state_dict())
    if backbone is not None:
        assert model.model.lidar_tower.backbone is not None
        model.model.lidar_tower.backbone.encoder.load_state_dict(backbone.encoder.state_dict())


def load_vlm(folder: str | Path) -> tuple[LidarVLM, LidarProcessor]:
    """The model and the processor that ``save_pretrained`` of both wrote into one folder.

    Raises:
        MissingFileError: there is none. InputError: its weights do not fit its config; a file is missing or damaged.
    """
    config = Path(folder) / "config.json"
    if not config.is_file():
        raise MissingFileError(f"{folder}: there is no config.json; give the folder of a saved LidarVLM")
    again = "save model and processor into it again with save_pretrained, or train anew"
    # of another model's config transformers would take the defaults, which are those of a model of many gigabytes
    if (kind := read_json(config, again).get("model_type")) != LidarVLMConfig.model_type:
        raise InputError(f"{folder}: holds a model of the type {kind!r:.40}, and no LidarVLM; {again}")
    try:
        model = LidarVLM.from_pretrained(str(folder))
        processor = LidarProcessor.from_pretrained(str(folder))
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # of each kind of file another library says what is wrong, by errors of its own
        raise InputError(
            f"{folder}: a file of the saved model is missing or damaged ({first_line(error)}); {again}"
        ) from error
    if processor.chat_template is None:
        raise InputError(f"{folder}: there is no chat_template.jinja; {again}")
    return model, processor


def _make_room(model: Any, size: int) -> None:
    """Rows for new tokens in the embeddings, each the mean of those that were there: known words keep theirs."""
    before = model.get_input_embeddings().num_embeddings
    if size <= before:
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            module.weight[before:] = module.weight[:before].mean(0)


def register() -> None:
    """Make the model known to ``AutoConfig``, ``AutoModelForImageTextToText`` and ``AutoProcessor``."""
    AutoConfig.register(LidarTowerConfig.model_type, LidarTowerConfig, exist_ok=True)
    AutoConfig.register(LidarVLMConfig.model_type, LidarVLMConfig, exist_ok=True)
    AutoModelForImageTextToText.register(LidarVLMConfig, LidarVLM, exist_ok=True)
    AutoProcessor.register(LidarVLMConfig, LidarProcessor, exist_ok=True)


register()
