"""What features that travel as bfloat16 change: questions whose answer differs from the one with float32."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from ...progress import Progress, silent, track
from ..query_text import DIRECTION_WORDS, plural_of
from ..words import CATEGORIES
from .halves import Eyes, Voice
from .scenes import Scenes
from .visitor import Question
from .wire import DTYPES, Features

ANSWER_TOKENS = 16
FORMS = tuple(
    form.format(thing, things)
    for thing, things in ((name, plural_of(name)) for name in CATEGORIES)
    for form in (
        "is there a {0}?",
        "how many {1} are there?",
        *(f"is there a {{0}} {where} me?" for where in DIRECTION_WORDS.values()),
        *(f"how many {{1}} are {where} me?" for where in DIRECTION_WORDS.values()),
    )
)


@dataclass(frozen=True, slots=True)
class Flips:
    """Of so many questions, how many answers and how many of their first tokens differ."""

    questions: int
    answers: int
    first_tokens: int


class OneProcess:
    """Both halves of a model over a log: what two servers must answer.

    Args:
        folder: of the model. scenes: of the log.
    """

    def __init__(self, folder: str | Path, scenes: Scenes) -> None:
        self._eyes, self._voice, self._scenes = Eyes(folder), Voice(folder), scenes
        self._seen: dict[str, Features] = {}

    def answer(self, token: str, text: str, dtype: str, answer_tokens: int = ANSWER_TOKENS) -> str:
        """The answer to a question about a scan whose features are of a type of ``wire.DTYPES``."""
        if token not in self._seen:
            self._seen[token] = self._eyes.look(*self._scenes.points(token))
        seen = Features(self._seen[token].tokens.to(DTYPES[dtype]), self._eyes.hash)
        ids = self._voice.prompt([("user", [None, text])], [len(seen.tokens)], answer_tokens)
        never = threading.Event()
        said = self._voice.say(
            ids, [seen], answer_tokens=answer_tokens, heard=lambda piece: None, enough=never
        )
        return said.text

    def drawn(self, count: int, seed: int) -> list[tuple[str, str]]:
        """Tokens of scans and questions about them, no pair twice, or all there are."""
        pairs = list(product([each["token"] for each in self._scenes.listed()], FORMS))
        chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
        return [pairs[i] for i in chosen]

    def questions(self, count: int, seed: int, dtype: str) -> list[Question]:
        """Questions with the answers that servers must give."""
        return [
            Question(token, text, self.answer(token, text, dtype)) for token, text in self.drawn(count, seed)
        ]

    def flips(self, count: int, seed: int, progress: Progress = silent) -> Flips:
        """How often bfloat16 changes what is said."""
        asked = self.drawn(count, seed)
        answers = first = 0
        for token, text in track(asked, "bfloat16 against float32", progress):
            if len({self.answer(token, text, dtype) for dtype in DTYPES}) > 1:
                answers += 1
                first += len({self.answer(token, text, dtype, 1) for dtype in DTYPES}) > 1
        return Flips(len(asked), answers, first)


def one_process(folder: str | Path, index: str | Path) -> OneProcess:
    """Of a saved model and a prepared log."""
    from ...datasets.index import LogIndex

    torch.set_num_threads(1)
    return OneProcess(folder, Scenes(LogIndex.open(index)))
