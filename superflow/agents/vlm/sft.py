"""Fine-tuning on questions with answers: a short loop of our own, and trl's trainer on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...progress import Progress, silent, track
from .halfway import Halfway
from .pointing import Pointer
from .processor import LidarProcessor

IGNORED = -100  # label of what is given, not learned


@dataclass(frozen=True, slots=True)
class Example:
    """A question on a scan and its answer. scan: a name that ``processor.scans`` knows; None to ask without one."""

    scan: str | None
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. warmup, then a cosine to zero; gradients are cut at ``clip``.

    For language models with many words: answers_only: logits only at places before words of answers, which alone the
    loss reads; bfloat16: products of matrices in that type, weights and losses stay float32.
    """

    steps: int = 300
    batch: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: float = 0.03
    clip: float = 1.0
    answers_only: bool = False
    bfloat16: bool = False

    def rate(self, step: int) -> float:
        """Factor of the learning rate in a step, counted from 0."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, self.steps - warm))))


def chat_of(example: Example, *, answered: bool = True) -> list[dict[str, Any]]:
    """The messages of an example."""
    scan = [] if example.scan is None else [{"type": "lidar", "lidar": example.scan}]
    content = [*scan, {"type": "text", "text": example.question}]
    chat = [{"role": "user", "content": content}]
    return chat + ([{"role": "assistant", "content": example.answer}] if answered else [])


def encode(processor: LidarProcessor, example: Example) -> tuple[Tensor, Tensor]:
    """(L,) ids of the whole chat, and labels: the answer with its end of turn, else ``IGNORED``."""
    row = processor.apply_chat_template(
        chat_of(example),
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
    )
    ids = row["input_ids"][0]
    return ids, torch.where(torch.as_tensor(row["assistant_masks"])[0].bool(), ids, IGNORED)


def collate(
    processor: LidarProcessor, examples: Sequence[Example], encoded: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """A batch of encoded examples, filled up on the right, with the tensors of their scans."""
    end = processor.tokenizer.pad_token_id
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([row for row, _ in encoded], batch_first=True, padding_value=end)
    labels = pad([row for _, row in encoded], batch_first=True, padding_value=IGNORED)
    lengths = torch.tensor([len(row) for row, _ in encoded])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    scans = processor.tensors([[] if e.scan is None else [e.scan] for e in examples])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, **scans}


def balanced_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Next-token loss in which a sample of N learned tokens weighs as the root of N (InternVL 3.5's square averaging).

    Args:
        logits: (B, L, V). labels: (B, L), ``IGNORED`` where nothing is learned.
    """
    return weighed_loss(logits[:, :-1], labels[:, 1:])


def weighed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The same, of logits (B, P, V) that stand each at the place before its label (B, P)."""
    losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    learned = labels != IGNORED
    weights = learned * learned.sum(1, keepdim=True).clamp(min=1).float().rsqrt()
    return (losses * weights).sum() / weights.sum().clamp(min=1e-9)


def train(
    model: Any,
    processor: LidarProcessor,
    examples: Sequence[Example],
    recipe: Recipe = Recipe(),
    *,
    generator: torch.Generator,
    pointing: Sequence[Tensor] | None = None,
    halfway: Halfway | None = None,
    progress: Progress = silent,
) -> list[float]:
    """Train what of the model may learn (``requires_grad``) on examples, in place; returns the loss of each step.

    Args:
        pointing: of each example, which all have a scan: what its tokens shall point at, see `pointing`; its loss is
            added to that of the answers, and not returned.
        generator: of the order; every example comes once before one comes again. progress: see ``superflow.progress``.
        halfway: where a stopped training goes on from; the end leaves its file to whoever made it.

    Raises:
        InputError: there is nothing to learn from, or nothing that may learn.
    """
    if not examples:
        raise InputError("there are no questions to train on; give some")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("no part of the model may learn; set requires_grad of one")
    encoded = [encode(processor, example) for example in examples]
    pointer = None
    if pointing is not None:
        pointer = Pointer(model.config.text_config.hidden_size, generator).to(parameters[0].device)
        parameters += pointer.parameters()
    step_on = Stepper(parameters, recipe)
    losses = halfway.resume(parameters, step_on.states) if halfway else []
    model.train()
    order = islice(batches(len(examples), recipe.batch, generator), len(losses), recipe.steps)
    for rows in track(order, "training on questions", progress, total=recipe.steps, ready=len(losses)):
        batch = collate(processor, [examples[i] for i in rows], [encoded[i] for i in rows])
        batch = {name: value.to(parameters[0].device) for name, value in batch.items()}
        targets = None if pointing is None else torch.stack([pointing[i] for i in rows])
        loss, whole = _losses(model, processor, batch, recipe, pointer, targets)
        step_on(whole)
        losses.append(float(loss.detach()))
        if halfway:
            halfway.keep(parameters, step_on.states, losses)
    model.eval()
    return losses


def _losses(
    model: Any,
    processor: LidarProcessor,
    batch: dict[str, Tensor],
    recipe: Recipe,
    pointer: Pointer | None,
    targets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The loss of the answers, and with that of pointing."""
    labels = batch.pop("labels")
    options: dict[str, Any] = {"use_cache": False, "output_hidden_states": pointer is not None}
    if recipe.answers_only:
        before = (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]
        options["logits_to_keep"] = before
        labels = labels[:, before + 1]
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=recipe.bfloat16):
        outputs = model(**batch, **options)
    loss = (
        weighed_loss(outputs.logits, labels) if recipe.answers_only else balanced_loss(outputs.logits, labels)
    )
    if pointer is None or targets is None:
        return loss, loss
    at = batch["input_ids"] == processor.lidar_token_id
    return loss, loss + pointer(outputs.hidden_states[-1], at, targets)


class Stepper:
    """What brings ``parameters`` one step down a loss, by AdamW at the rates of the recipe.

    Attributes:
        states: what a step changes beside the parameters; each has ``state_dict`` and ``load_state_dict``.
    """

    def __init__(self, parameters: Sequence[Tensor], recipe: Recipe) -> None:
        self.parameters, self.clip = parameters, recipe.clip
        self.optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, recipe.rate)
        self.states = (self.optimizer, self.schedule)

    def __call__(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.schedule.step()


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Batches without end; each order goes through all before the next begins."""
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            waiting += torch.randperm(count, generator=generator).tolist()
        yield waiting[:size]
        waiting = waiting[size:]


@torch.no_grad()
def answers(
    model: Any,
    processor: LidarProcessor,
    examples: Sequence[Example],
    *,
    batch: int = 32,
    max_new_tokens: int = 24,
) -> list[str]:
    """What the model answers, greedily, without special tokens."""
    device, said = next(model.parameters()).device, []
    for start in range(0, len(examples), batch):
        chats = [chat_of(example, answered=False) for example in examples[start : start + batch]]
        rows = processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        ).to(device)
        written = model.generate(**rows, max_new_tokens=max_new_tokens, do_sample=False)
        said += processor.batch_decode(written[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in said]


def trl_trainer(
    model: Any, processor: LidarProcessor, examples: Sequence[Example], folder: str | Path, **options: Any
) -> Any:
    """trl's ``SFTTrainer`` on the same examples; ``.train()`` trains, ``.model`` is the model.

    Args:
        folder: for its checkpoints. options: of ``SFTConfig``, and ``peft_config``.

    Raises:
        InputError: an example has no scan, which trl's collator cannot take beside others.
    """
    from trl import SFTConfig, SFTTrainer

    from datasets import Dataset

    if any(example.scan is None for example in examples):
        raise InputError("trl takes examples with a scan each; train those without one with sft.train")
    rows = [
        {
            "prompt": [{"role": "user", "content": example.question}],
            "completion": [{"role": "assistant", "content": example.answer}],
            "images": [example.scan],
        }
        for example in examples
    ]
    lora = options.pop("peft_config", None)
    given: dict[str, Any] = {
        "report_to": [],
        "max_length": None,
        "gradient_checkpointing": False,
        "bf16": False,
    }
    return SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=str(folder), **(given | options)),
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
        peft_config=lora,
    )
