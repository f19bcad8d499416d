"""A backbone of this package as the eyes of a language model, after InternVL 3.5 (arXiv 2508.18265).

The way of a scan, one file each:

    bev.py          features of points on a grid on the ground, cut into tiles; pixel shuffle
    tower.py        points -> planes of that grid, with a backbone that is frozen, partly frozen or open
    connector.py    planes -> tokens of the width of a language model: pixel shuffle, or Q-Former
    model.py        tokens take their places among the words; a Hugging Face model
    tokenizer.py    special tokens, chat form, a small tokenizer
    processor.py    messages with scans -> tensors, as many placeholders as tokens, in every row
    language.py     language models by name; a small one from scratch; language_model.py: what they all are
    pretrained.py   that of an InternVL 3.5 checkpoint, and SmolLM2
    build.py        all of them put together; config.py: what a model is made of, as it is saved
    vir.py          fewer tokens for tiles that tell little: second projector, router; vir_training.py: how both learn
    camera.py       a teacher's feature maps of images beside the scan
    object_tape.py  objects as text instead: no training
    ask.py          a small model trained on the spot on one log, and what it answers
    alignment.py    before questions: tokens learn what stands in their squares of the ground
    sft.py          training on questions: a short loop, trl's trainer; lora.py: little of a large model, through peft
    pointing.py     beside answers: tokens learn how much of what is asked for stands in their squares

It needs the extra `agents`. ``build`` makes a model and its processor, ``load_vlm`` reads them from a folder; both are
known to ``AutoModelForImageTextToText`` and ``AutoProcessor`` once this package is imported, without code of others.
"""

from ...errors import require

require("transformers", "agents")

from .build import build, load_vlm  # noqa: E402

__all__ = ["build", "load_vlm"]
