"""A question on scans, as the inputs of a model."""

from __future__ import annotations

from typing import Any

QUESTION = "How many cars are ahead?"


def ask(processor: Any, *rows: Any, **options: Any) -> Any:
    """Inputs of a batch; each row is a list of scans that come before the question. options: of the processor."""
    question = {"type": "text", "text": QUESTION}
    chats = [
        [{"role": "user", "content": [*({"type": "lidar", "lidar": scan} for scan in row), question]}]
        for row in rows
    ]
    return processor.apply_chat_template(
        chats,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left", **options},
    )
