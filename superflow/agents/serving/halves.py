"""The two halves of a saved model: eyes that make features of points, and a voice that answers from features."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextStreamer

from ...errors import InputError
from ...files.access import read_json
from ..vlm import load_vlm, vir
from ..vlm.ask import REPORT, wording
from ..vlm.tokenizer import LIDAR, LIDAR_END, LIDAR_START
from .refusal import Refusal
from .wire import Features, Shape

COLD = 1e-5  # temperature: the likeliest word is drawn all the same, and logits over less of it would have no end
Turn = tuple[str, Sequence[str | None]]  # who says it; its parts: text, or None for a scan


def model_hash(folder: str | Path) -> str:
    """SHA-256 of a saved model's configuration and weights: halves of one hash belong together."""
    digest = hashlib.sha256()
    for path in sorted([Path(folder) / "config.json", *Path(folder).glob("*.safetensors")]):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class Eyes:
    """Tower and connector; the language model is dropped.

    Args:
        share: of tiles that keep their full tokens, of those that the model's router has; None: all do.

    Raises:
        InputError: the model has no router, or none set to this share; or it does not look at points alone.
    """

    def __init__(self, folder: str | Path, share: float | None = None) -> None:
        model, _ = load_vlm(folder)
        if model.model.lidar_tower.backbone is None or model.config.cameras:
            raise InputError(
                f"{folder}: this model has no backbone, or takes images beside points, and a request brings points "
                "alone; serve one that was built with backbone=... and without cameras"
            )
        self._from = None if share is None else vir.threshold_of(model, share)
        self.hash = model_hash(folder)
        self.grid = model.config.tower_config.grid
        self.merge: int | None = model.config.merge if model.config.connector == "pixel_shuffle" else None
        self.short_merge: int | None = model.config.short_merge
        model.model.language_model = None
        model.lm_head = None
        self._model = model

    @torch.no_grad()
    def look(self, points: Any, lidar_to_ego: Any = None, *, dtype: torch.dtype = torch.float32) -> Features:
        """Features of points (N, 4+) x, y, z [m], intensity [0, 1].

        Args:
            lidar_to_ego: (4, 4); None where the points are in the vehicle's frame.

        Raises:
            InputError: points that the backbone does not take.
        """
        frames = None if lidar_to_ego is None else torch.as_tensor(lidar_to_ego)[None]
        scan = torch.tensor(points, dtype=torch.float32)[None]
        if self._from is None:
            tokens = self._model.get_lidar_features(points=scan, lidar_to_ego=frames)
            return Features(tokens[0].to(dtype), self.hash)
        planes = self._model.model.get_lidar_planes(scan, frames)
        kept = vir.router_scores(self._model, planes) >= self._from
        tokens = self._model.get_lidar_features(pixel_values=planes, tiles_kept=kept)
        return Features(tokens.to(dtype), self.hash, tuple(kept[0].tolist()))


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said. finish: "stop", or "length" where it was cut. Counts are tokens."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: str


class Voice:
    """The language model; tower and connector are dropped."""

    def __init__(self, folder: str | Path) -> None:
        model, self._processor = load_vlm(folder)
        self.hash = model_hash(folder)
        self.shape: Shape = (_token_counts(model.config), model.config.text_config.hidden_size)
        self.longest: int = model.config.text_config.max_position_embeddings
        model.model.lidar_tower = None
        model.model.connector = None
        self._model = model
        tokenizer = self._processor.tokenizer
        self._special = sorted({str(t) for t in tokenizer.added_tokens_decoder.values() if t.special})
        # a small model that was trained on the spot knows its own wording alone
        self._of_ask = (Path(folder) / REPORT).is_file()
        if self._of_ask:
            read_json(Path(folder) / REPORT, "delete it")

    def prompt(self, turns: Sequence[Turn], tokens: Sequence[int], answer_tokens: int) -> Tensor:
        """(L,) int64 tokens of a chat, with places for the features of its scans.

        Args:
            tokens: of each scan.

        Raises:
            Refusal: 400; text holds a special token, or there is more of it than the model takes.
            InputError: a question that a model which ``superflow ask`` trained does not know, or more than one.
        """
        if self._of_ask and [sorted(part is None for part in parts) for _, parts in turns] != [[False, True]]:
            raise Refusal(
                400,
                "bad_request",
                "this small model was trained on one question about one scan; send one message with both and no other",
            )
        for _, parts in turns:
            self._refuse_special("".join(part or "" for part in parts))
        chat = [
            {"role": role, "content": [self._part(role, part) for part in parts]} for role, parts in turns
        ]
        tokenizer = self._processor.tokenizer
        text = tokenizer.apply_chat_template(
            chat, chat_template=self._processor.chat_template, tokenize=False, add_generation_prompt=True
        )
        first, *rest = text.split(LIDAR)  # text of a user holds no such token
        blocks = [LIDAR_START + LIDAR * count + LIDAR_END for count in tokens]
        text = first + "".join(block + part for block, part in zip(blocks, rest, strict=True))
        ids = tokenizer(text, return_tensors="pt")["input_ids"][0]
        if len(ids) + answer_tokens > self.longest:
            raise Refusal(
                400,
                "context_length_exceeded",
                f"the chat has {len(ids)} tokens and asks for {answer_tokens} more, and the model takes "
                f"{self.longest} in all; ask with less",
            )
        return ids

    def _refuse_special(self, said: str) -> None:
        """Of a whole message: the chat form writes its texts one after another, maybe those beside a scan, too."""
        for token in self._special:
            if token in said:
                raise Refusal(400, "bad_text", f"text holds the special token {token}; leave it out")

    def _part(self, role: str, part: str | None) -> dict[str, str]:
        if part is None:
            return {"type": "lidar"}
        return {"type": "text", "text": wording(part) if self._of_ask and role == "user" else part}

    @torch.no_grad()
    def say(
        self,
        ids: Tensor,
        scans: Sequence[Features],
        *,
        answer_tokens: int,
        heard: Callable[[str], None],
        enough: threading.Event,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Answer:
        """Answer a prompt; ``heard`` is called with each piece of the text as it is written.

        Args:
            scans: features in the order of their places. enough: ends the answer when it is set.
            temperature: up to ``COLD`` it is greedy. seed: of the drawing, from all words.
        """
        given: dict[str, Any] = {}
        if scans:
            given["lidar_embeds"] = torch.cat([scan.tokens.to(self._model.dtype) for scan in scans])
            given["lidar_lengths"] = torch.tensor([len(scan.tokens) for scan in scans])
            given["lidar_rows"] = torch.zeros(len(scans), dtype=torch.int64)
        drawn = temperature > COLD
        if drawn:
            # left out, only the likeliest 50 would be drawn from
            given |= {"temperature": temperature, "top_k": 0}
            torch.manual_seed(torch.seed() if seed is None else seed)
        written = self._model.generate(
            input_ids=ids[None],
            attention_mask=torch.ones_like(ids)[None],
            max_new_tokens=answer_tokens,
            do_sample=drawn,
            streamer=_Pieces(self._processor.tokenizer, heard),
            stopping_criteria=StoppingCriteriaList([_Enough(enough)]),
            **given,
        )[0, len(ids) :]
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        finish = "stop" if len(written) and int(written[-1]) in ends else "length"
        text = self._processor.tokenizer.decode(written, skip_special_tokens=True)
        return Answer(text, len(ids), len(written), finish)


def _token_counts(config: Any) -> int | range:
    """How many tokens a scan may have."""
    most: int = config.tokens_per_scan
    if not config.short_merge:
        return most
    full, short = config.tokens_per_tile
    tiles = config.tower_config.bev.tiles
    return range(most - tiles * (full - short), most + 1, full - short)


class _Pieces(TextStreamer):
    def __init__(self, tokenizer: Any, heard: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._heard = heard

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._heard(text)


class _Enough(StoppingCriteria):
    def __init__(self, enough: threading.Event) -> None:
        self._enough = enough

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self._enough.is_set(), device=input_ids.device)
