"""A family of questions: cases from scenes, the prompt of a case, and the score of an answer.

The three methods are those of InternBootcamp's first version (arXiv 2508.08636): a case is a JSON object that holds all
that its prompt and its verifier need, so either runs without the scene.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np

from ...errors import InputError, suggest
from ..query_answer import Scenery
from ..scene import SceneRecord
from .doubt import is_open
from .replies import CANNOT_TELL, MAX_LENGTH, Reply, Unreadable

Identity = dict[str, Any]  # family, scene: token of the scan, drive: that it is of, asked, gold
# given to every family: LiDAR points from which an object is surely there, range of what is asked about [m]
COMMON = {"min_points": (5,), "max_range_m": (50.0, 30.0)}
TRIES, CHOICES = 300, 4  # scenes tried for a case; questions of which the one with the rarest answer is taken
MAX_OUTPUT = 100_000  # characters
_ANSWER = re.compile(r"\[answer\](.*?)\[/answer\]", re.DOTALL | re.IGNORECASE)
_MARK = re.compile(r"\[/?answer\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth, 0 to 1, and why: right, wrong, no answer, several answers, unreadable."""

    value: float
    reason: str


class NoQuestion(InputError):
    """The scenes allow no question of a family at its difficulty."""


class Bootcamp(ABC):
    """Cases of one family.

    Args:
        scenes: to ask about. seed: of the draws. difficulty: of ``difficulty_grid``, the first value of each where it
            is not given; a name or value that is not there is an error.

    A family says ``reply``, ``grid`` and the three methods that are abstract here. ``asked`` is its question as JSON
    types; it has the difficulty under its names.
    """

    reply: ClassVar[Reply]
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def __init__(self, scenes: Sequence[SceneRecord], *, seed: int = 0, **difficulty: Any) -> None:
        known = {**COMMON, **self.grid}
        for name, value in difficulty.items():
            if name not in known:
                raise InputError(f"{self.name()} has no difficulty {name!r}{suggest(name, known)}")
            if value not in known[name]:
                raise InputError(f"{self.name()}: {name} cannot be {value!r}; use one of {known[name]}")
        if not scenes:
            raise InputError(f"{self.name()} needs scenes to ask about and got none; give some")
        self.scenes = scenes
        self.rng = np.random.default_rng(seed)
        self.difficulty = {name: difficulty.get(name, values[0]) for name, values in known.items()}
        self._given = Counter[str]()

    @classmethod
    def name(cls) -> str:
        """Of the family: its file's."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def difficulty_grid(cls) -> list[dict[str, Any]]:
        """Every combination of difficulties, each as options of this class."""
        known = {**COMMON, **cls.grid}
        return [dict(zip(known, values)) for values in product(*known.values())]

    @abstractmethod
    def ask(self, scenery: Scenery) -> dict[str, Any] | None:
        """A question on a scene, without the difficulty; None where the scene does not allow one."""

    @classmethod
    @abstractmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> Any:
        """The answer by what is known of a scene; None where the sensor cannot tell."""

    @classmethod
    @abstractmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        """The question as one sentence."""

    @classmethod
    def scenery(cls, scene: SceneRecord, asked: Mapping[str, Any]) -> Scenery:
        """A scene as a question sees it."""
        return Scenery(scene, asked["min_points"], asked["max_range_m"])

    @classmethod
    def answer(cls, scene: SceneRecord, asked: Mapping[str, Any]) -> str:
        """The answer on a scene as text: gold on labels, a solver's on predictions."""
        return cls.reply.text(cls.solve(cls.scenery(scene, asked), asked))

    def case_generator(self) -> Identity:
        """The next case; of some questions the one whose answer was the rarest so far, so that none prevails.

        Raises:
            NoQuestion: none of the scenes that were tried allows a question.
        """
        found: list[tuple[SceneRecord, dict[str, Any], Any]] = []
        for _ in range(TRIES):
            scene = self.scenes[int(self.rng.integers(len(self.scenes)))]
            asked = self.ask(self.scenery(scene, self.difficulty))
            if asked is not None:
                asked = {**self.difficulty, **asked}
                gold = self.solve(self.scenery(scene, asked), asked)
                if gold is not None or self._is_open(scene, asked):
                    found.append((scene, asked, gold))
            if len(found) == CHOICES:
                break
        if not found:
            raise NoQuestion(
                f"no scene of {TRIES} allows a question of {self.name()}; give scenes with more objects"
            )
        scene, asked, gold = min(found, key=lambda each: self._given[self.reply.bin_of(each[2])])
        self._given[self.reply.bin_of(gold)] += 1
        about = {"family": self.name(), "scene": scene.token, "drive": scene.scene}
        return {**about, "asked": asked, "gold": gold}

    @classmethod
    def _is_open(cls, scene: SceneRecord, asked: Mapping[str, Any]) -> bool:
        """Whether nobody can tell the answer of a question that ``solve`` has none for."""
        near = replace(scene, objects=cls.scenery(scene, asked).objects)
        return is_open(near, asked["min_points"], lambda case: cls.solve(cls.scenery(case, asked), asked))

    @classmethod
    def prompt_func(cls, identity: Mapping[str, Any]) -> str:
        """The text that asks a case."""
        asked = identity["asked"]
        return (
            f"{cls.sentence(asked)} Only objects up to {asked['max_range_m']:g} m from the vehicle count. "
            f'Answer with {cls.reply.instruction(asked)}, or with "{CANNOT_TELL}" where the sensor does not tell. '
            "Write the final answer once, as [answer]...[/answer]."
        )

    @classmethod
    def check(cls, output: str, identity: Mapping[str, Any]) -> Score:
        """The score of a model's output: of its one marked answer, or of all of it where it is short and marks none."""
        if len(output) > MAX_OUTPUT:
            return Score(0.0, "no answer")
        # before the pairs, which are slow to find where many marks are never closed
        marks = len(_MARK.findall(output))
        marked = _ANSWER.findall(output) if marks == 2 else []
        if marks != 2 * len(marked):
            return Score(0.0, "several answers")
        text = marked[0] if marked else output
        if not text.strip() or len(text) > MAX_LENGTH:
            return Score(0.0, "no answer")
        asked, gold = identity["asked"], identity["gold"]
        try:
            value = cls.reply.value(text, asked)
        except Unreadable:
            return Score(0.0, "unreadable")
        right = value is None and gold is None
        if value is not None and gold is not None:
            right = cls.reply.is_right(value, gold)
        return Score(1.0, "right") if right else Score(0.0, "wrong")

    @classmethod
    def verify_score(cls, model_output: str, identity: Mapping[str, Any], format_score: float = 0.0) -> float:
        """1 for a right answer, ``format_score`` for a wrong one that could be read, else 0; no other penalty."""
        score = cls.check(model_output, identity)
        return format_score if score.reason == "wrong" else score.value
