"""Objects as text before the question: any language model can be asked about a scene, without training.

A small model gets few words, and only what is surely there; `scene_text` tells all, for questions that have "cannot
tell" among their answers.
"""

from __future__ import annotations

from typing import Any

import torch

from ..query_answer import MIN_POINTS
from ..scene import SceneObject, SceneRecord
from ..scene_text import kind_text, where_text
from .language_model import LanguageModel

HEAD = "A LiDAR on a vehicle sees these objects, the nearest first: kind, state, distance, direction."


def tape_of(scene: SceneRecord, *, most: int = 40, max_range_m: float = 50.0) -> str:
    """One line an object, the nearest first; of the farthest, what is more than ``most`` is left out, and counted.

    Objects with few points, which the sensor cannot tell, are not there.
    """
    seen = scene.answerable(min_points=MIN_POINTS, max_range_m=max_range_m).objects
    near = sorted(seen, key=lambda thing: thing.range_m)
    lines = [HEAD, *map(_line, near[:most])]
    if len(near) > most:
        lines.append(f"and {len(near) - most} farther away")
    return "\n".join(lines if near else [HEAD, "none"])


def _line(thing: SceneObject) -> str:
    return f"{kind_text(thing)}, {thing.range_m:.0f} m, {where_text(thing)}"


@torch.no_grad()
def ask_tape(language: LanguageModel, scene: SceneRecord, question: str, *, max_new_tokens: int = 40) -> str:
    """What a language model answers, greedily, to a question about the objects of a scene."""
    tokenizer, model = language.tokenizer, language.model
    rows: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": f"{tape_of(scene)}\n\n{question}"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    written = model.generate(  # type: ignore[operator]
        input_ids=rows["input_ids"],
        attention_mask=rows["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
    )
    text: str = tokenizer.decode(written[0, rows["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()
