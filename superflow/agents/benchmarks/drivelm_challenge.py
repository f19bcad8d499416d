"""Questions of DriveLM's challenge from training files, so that models can be scored on scenes that are held out.

The choice of questions is the challenge's: which objects matter, their motion, what to notice first, one that is
answered with yes or no, three of planning, the behaviour. Wrong options are drawn at random there; here a seed draws
them, and they stand in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from .drivelm import DriveQuestion, KeyFrame

MOTIONS = ("Going ahead.", "Turn right.", "Turn left.", "Stopped.", "Back up.", "Reverse parking.")
_WAYS = (
    "going straight",
    *(f"{how}steering to the {side}" for how in ("", "slightly ") for side in ("left", "right")),
)
_SPEEDS = ("driving slowly", "driving with normal speed", "driving fast", "driving very fast")
BEHAVIOURS = (
    "The ego vehicle is going straight. The ego vehicle is not moving.",
    *(f"The ego vehicle is {way}. The ego vehicle is {speed}." for way in _WAYS for speed in _SPEEDS),
)
LETTERS, WRONG_OPTIONS = "ABCD", 3
_PLANNING = ("what actions could the ego vehicle take", "lead to a collision", "safe actions")


def challenge_frames(frames: Sequence[KeyFrame], *, seed: int) -> list[KeyFrame]:
    """The key frames with the challenge's questions and their tags, without objects; ``seed`` draws wrong options."""
    rng = np.random.default_rng(seed)
    return [
        replace(frame, questions=tuple(_questions(frame, rng)), objects=(), description=None)
        for frame in frames
    ]


def _questions(frame: KeyFrame, rng: np.random.Generator) -> Iterator[DriveQuestion]:
    of_part: dict[str, list[DriveQuestion]] = {}
    for question in frame.questions:
        if question.answer is not None:
            of_part.setdefault(question.part, []).append(question)
    looks = [(o.description or "").split(".")[0].lower() for o in frame.objects]
    names = [o.tag.text for o in frame.objects]
    perception, prediction, planning, behaviour = (
        of_part.get(part, []) for part in ("perception", "prediction", "planning", "behavior")
    )
    yield from _first(perception, 2, lambda q: all(look in _answer(q).lower() for look in looks))
    for question in _first(
        perception, 0, lambda q: "what is the moving status of object" in q.question.lower()
    ):
        yield from _with_options(question, MOTIONS, rng)
    yield from _first(prediction, 3, lambda q: all(name in _answer(q) for name in names))
    # the challenge looks for "no" anywhere, so that "not moving" and "normal speed" pass for it
    yield from _first(
        prediction, 0, lambda q: re.match(r"(?:yes|no)\b", _answer(q), re.IGNORECASE) is not None
    )
    wanted = [next((q for q in planning if words in q.question.lower()), None) for words in _PLANNING]
    yield from (replace(q, tags=(1,)) for q in planning if any(q is each for each in wanted))
    for question in behaviour:
        yield from _with_options(replace(question, tags=(0,)), BEHAVIOURS, rng)


def _first(
    questions: Sequence[DriveQuestion], tag: int, serves: Callable[[DriveQuestion], bool]
) -> Iterator[DriveQuestion]:
    """The first question that serves, with its tag, or none."""
    yield from (replace(question, tags=(tag,)) for question in [q for q in questions if serves(q)][:1])


def _with_options(
    question: DriveQuestion, known: Sequence[str], rng: np.random.Generator
) -> Iterator[DriveQuestion]:
    """The question with its answer among wrong options and its letter for answer; none for another answer."""
    if question.answer not in known:
        return
    wrong = [option for option in known if option != question.answer]
    options = [question.answer, *(wrong[i] for i in rng.choice(len(wrong), WRONG_OPTIONS, replace=False))]
    order = rng.permutation(len(options)).tolist()
    listed = " ".join(f"{letter}. {options[i]}" for letter, i in zip(LETTERS, order))
    yield replace(
        question,
        question=f"{question.question} Please select the correct answer from the following options: {listed}",
        answer=LETTERS[order.index(0)],
    )


def _answer(question: DriveQuestion) -> str:
    return question.answer or ""
