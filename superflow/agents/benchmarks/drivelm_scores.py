"""Scores of DriveLM's challenge, but for the one that a GPT gives: accuracy, match of coordinates, language.

The challenge reads answers as strings, and asks a question about objects only where the answer to the frame's first
question found them, so a model that finds little is asked little. Here are both its figures and those without that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...errors import InputError
from .drivelm import TAGS, DriveQuestion, KeyFrame, tags_in
from .scores import Scores, percent
from .sentences import Pair, bleu, cider, rouge_l

NEAR = 16.0  # |x| + |y| [pixels] up to which coordinates are the same
_DECIMAL = re.compile(r"(?<!\d)\d+\.\d+")  # all that the challenge takes for a coordinate
_OPTIONS = re.compile(r"(?:^|\s)([A-D])\.\s")
_LEAD = re.compile(r"(?:the )?(?:correct )?(?:answer|option|choice)(?: is)?:?\s+(.*)", re.DOTALL)
_LETTER = re.compile(r"\(?([a-d])(?:[).:]+\s*|\s*$)(.*)", re.DOTALL)
SENTENCE_FIGURES = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "ROUGE_L", "CIDEr / 10")
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with gold and answer. asked: whether the challenge asks it after the answer to the frame's first."""

    question: DriveQuestion
    gold: str
    answer: str
    asked: bool


def answered(frames: Sequence[KeyFrame], answers: Mapping[str, str]) -> list[Answered]:
    """All questions of frames that were read as ``scored``, with golds and answers; ``answers`` by their names.

    Raises:
        InputError: a question has no gold.
        KeyError: one has no answer.
    """
    found = []
    for frame in frames:
        graph: list[Point] | None = None
        for name, question in frame.named():
            if question.answer is None:
                raise InputError(
                    f"the question {name} has no gold answer; read the file as one that is scored"
                )
            first = graph is None
            if graph is None:
                graph = _matched(answers[name], question.answer)
            asked = first or all(point in graph for point in _points(question.question))
            found.append(Answered(question, question.answer, answers[name], asked))
    return found


def scores(frames: Sequence[KeyFrame], answers: Mapping[str, str]) -> list[Scores]:
    """Figures in per cent; what is not computed, or has no question, is None.

    ``exact`` reads answers as the challenge does, ``read`` what they mean, both over all questions. ``gated`` is
    ``exact`` over the ``asked`` share of questions alone, which is the challenge's figure. ``frequent`` is what
    always the most frequent gold of its kind of question would give.

    Raises:
        InputError, KeyError: as ``answered``.
    """
    rows = answered(frames, answers)
    of_tag = {name: [row for row in rows if tag in row.question.tags] for tag, name in TAGS.items()}
    return [
        *_accuracy(of_tag["accuracy"]),
        _row("match", of_tag["match"], exact=_match, read=_match_of_tags),
        *_language(of_tag["language"]),
        Scores("GPT", len(of_tag["GPT"]), {}),
    ]


def meaning(text: str, question: str) -> str | None:
    """What an answer says: the letter of an option, yes or no, or for other questions the text without case and dot.

    None where it is no option or several, and where it says both yes and no.
    """
    plain = _plain(text)
    options = options_of(question)
    if options:
        return _letter(plain, options)
    said = set(re.findall(r"\b(?:yes|no)\b", plain))
    if re.match(r"(?:yes|no)\b", plain):
        return said.pop() if len(said) == 1 else None
    return plain or None


def options_of(question: str) -> dict[str, str]:
    """Letter -> text of the options of a question; none where it has none."""
    _, mark, listed = question.partition("options:")
    if not mark:
        return {}
    parts = _OPTIONS.split(listed)[1:]
    return {letter: _plain(text) for letter, text in zip(parts[::2], parts[1::2])}


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".")


def _letter(plain: str, options: Mapping[str, str]) -> str | None:
    lead = _LEAD.fullmatch(plain)
    if lead is not None:
        plain = lead[1]
    by_text = {text: letter for letter, text in options.items()}
    if plain in by_text:
        return by_text[plain]
    found = _LETTER.fullmatch(plain)
    if found is None:
        return None
    letter, rest = found[1].upper(), found[2].strip()
    return letter if letter in options and rest in ("", options[letter]) else None


def _accuracy(rows: list[Answered]) -> list[Scores]:
    found = []
    for name, kind in (("accuracy", None), ("accuracy, options", True), ("accuracy, others", False)):
        some = [row for row in rows if kind is None or bool(options_of(row.question.question)) == kind]
        row = _row(name, some, exact=_is_equal, read=_means_the_same)
        often = Counter(each.gold for each in some).most_common(1)
        frequent = 100.0 * often[0][1] / len(some) if some and kind is not None else None
        found.append(Scores(name, len(some), {**row.figures, "frequent": frequent}))
    return found


def _row(
    name: str, rows: list[Answered], exact: Callable[[Answered], float], read: Callable[[Answered], float]
) -> Scores:
    found = {
        "exact": percent([exact(row) for row in rows]),
        "read": percent([read(row) for row in rows]),
        "gated": percent([exact(row) for row in rows if row.asked]),
    }
    return Scores(name, len(rows), {**found, "asked": percent([float(row.asked) for row in rows])})


def _language(rows: list[Answered]) -> list[Scores]:
    every, gated = ([(r.answer, r.gold) for r in some] for some in (rows, [r for r in rows if r.asked]))
    exact, asked = _sentence_figures(every), _sentence_figures(gated)
    share = percent([float(row.asked) for row in rows])
    return [
        Scores(name, len(rows), {"exact": exact.get(name), "gated": asked.get(name), "asked": share})
        for name in (*SENTENCE_FIGURES, "language")
    ]


def _sentence_figures(pairs: Sequence[Pair]) -> dict[str, float]:
    """Figures in per cent; "language" weighs BLEU, ROUGE-L and CIDEr by a third each, as the challenge does."""
    if not pairs:
        return {}
    words, order, tenths = bleu(pairs), rouge_l(pairs), cider(pairs)
    found = [*words, order, tenths / 10, (sum(words) / len(words) + order + tenths / 10) / 3]
    return {name: 100.0 * value for name, value in zip((*SENTENCE_FIGURES, "language"), found, strict=True)}


def _is_equal(row: Answered) -> float:
    return float(row.answer == row.gold)


def _means_the_same(row: Answered) -> float:
    said, wanted = (meaning(text, row.question.question) for text in (row.answer, row.gold))
    return float(said is not None and said == wanted)


def _match(row: Answered) -> float:
    """F1 of coordinates as the challenge counts them."""
    return _f1(len(_matched(row.answer, row.gold)), len(_points(row.answer)), len(_points(row.gold)))


def _match_of_tags(row: Answered) -> float:
    """F1 of object tags, of one camera each and in the best pairing."""
    given, gold = ({(t.camera, t.x, t.y) for t in tags_in(text)} for text in (row.answer, row.gold))
    near = np.array(
        [[a[0] == b[0] and abs(a[1] - b[1]) + abs(a[2] - b[2]) < NEAR for b in gold] for a in given], bool
    ).reshape(len(given), len(gold))
    pairs = linear_sum_assignment(near, maximize=True)
    return _f1(int(near[pairs].sum()), len(given), len(gold))


def _f1(hits: int, given: int, gold: int) -> float:
    return 2.0 * hits / (given + gold) if hits else 0.0


def _points(text: str) -> list[Point]:
    """Pairs of the decimal numbers of a text, whatever they are of; a last one without a partner is left out."""
    numbers = [float(number) for number in _DECIMAL.findall(text)]
    return list(zip(numbers[::2], numbers[1::2]))


def _matched(answer: str, gold: str) -> list[Point]:
    """Coordinates of ``gold`` that ``answer`` has: each of its own takes the nearest that is left, if near."""
    left, found = _points(gold), []
    for x, y in _points(answer):
        nearest = min(left, key=lambda point: abs(point[0] - x) + abs(point[1] - y), default=None)
        if nearest is not None and abs(nearest[0] - x) + abs(nearest[1] - y) < NEAR:
            left.remove(nearest)
            found.append(nearest)
    return found
