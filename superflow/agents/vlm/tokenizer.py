"""Words of a prompt: a small tokenizer for models from scratch, and the special tokens and chat form of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

LIDAR, LIDAR_START, LIDAR_END = "<LIDAR_CONTEXT>", "<lidar>", "</lidar>"
SPECIAL = (LIDAR, LIDAR_START, LIDAR_END)
_PAD, _TURN, _TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# ChatML as InternVL's checkpoints write it, no system text of its own; an image is a scan: trainers know no other name.
# What the assistant says is marked, so that a trainer can keep its loss to it.
_CHAT_TEMPLATE = """\
{%- macro said(message) -%}
{%- if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- set waiting = namespace(scans='') -%}
{%- for part in message['content'] -%}
{%- if part['type'] in ('image', 'lidar') -%}
{%- if QUESTION_FIRST -%}
{%- set waiting.scans = waiting.scans ~ '<LIDAR_CONTEXT>\\n' -%}
{%- else -%}
{{ '<LIDAR_CONTEXT>\\n' }}
{%- endif -%}
{%- elif part['type'] == 'text' -%}
{{ part['text'] }}
{%- else -%}
{{ raise_exception("a part of a message is " ~ part['type'] ~ "; there are text and lidar") }}
{%- endif -%}
{%- endfor -%}
{%- if waiting.scans -%}
{{ '\\n' + waiting.scans }}
{%- endif -%}
{%- endif -%}
{{ '<|im_end|>' }}
{%- endmacro -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ said(message) }}{%- endgeneration -%}
{%- else -%}
{{ said(message) }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""


def chat_template(*, question_first: bool = False) -> str:
    """The form of a chat, as a Jinja template.

    Args:
        question_first: a message's scans are written behind its text, wherever they stand in it, so that each of their
            tokens knows what is asked; else in their places.
    """
    return _CHAT_TEMPLATE.replace("QUESTION_FIRST", str(question_first).lower())


def small_tokenizer(texts: Iterable[str], *, size: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that writes these texts in few tokens, and any other text in more.

    Args:
        size: at most so many tokens; 256 are the bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[_PAD, _TURN, _TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)  # sorted: the same tokens, whatever the order
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_TURN_END,
        extra_special_tokens=[_TURN],
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def add_lidar_tokens(tokenizer: Any) -> None:
    """Give a tokenizer the special tokens of scans; those that it has stay as they are."""
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
